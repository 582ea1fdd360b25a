package interop

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// browser is Debian's Chromium without a window, with one page, driven by the DevTools protocol over two pipes. Its
// methods fail the test that owns it; only that test's goroutine may call them.
type browser struct {
	t       *testing.T
	in      *os.File
	session string // the page's
	log     string // file with what the browser says

	mu      sync.Mutex
	number  int
	answers map[int]chan devtools
	said    []string // what pages wrote to their console
}

// devtools is an answer or an event of the protocol.
type devtools struct {
	ID     int             `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// openBrowser starts Chromium with an empty profile. It trusts the server's authority, as a person's would who has
// added it, and finds the domain, which is in no DNS, on the server's HTTPS port.
func openBrowser(t *testing.T, s *server) *browser {
	t.Helper()
	need(t, "chromium", "chromium: apt-get install chromium")
	need(t, "certutil", "certutil, by which Chromium is told of the authority: apt-get install libnss3-tools")
	// Not t.TempDir: Chromium's children may still write there when it is removed.
	home, err := os.MkdirTemp("", "interop-web-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	trust(t, home, s.ca)
	theirs, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, ours, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(home, "chromium.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions", "--window-size=1280,900",
		"--lang=en", "--user-data-dir="+filepath.Join(home, "profile"), "--remote-debugging-pipe",
		fmt.Sprintf("--host-resolver-rules=MAP %s:443 %s,MAP %s 127.0.0.1", domain, s.https, domain), "about:blank")
	cmd.Env = append(os.Environ(), "HOME="+home, "LANG=C.UTF-8")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{theirs, ours} // 3 and 4
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, f := range []*os.File{theirs, ours, log} {
		f.Close()
	}
	b := &browser{t: t, in: in, log: log.Name(), answers: map[int]chan devtools{}}
	done := make(chan struct{})
	go func() {
		b.read(out)
		out.Close()
		cmd.Wait()
		close(done)
	}()
	t.Cleanup(func() {
		if t.Failed() && b.session != "" {
			b.screen("failed")
			t.Logf("the page's console:\n%s\nend of Chromium's log:\n%s", b.console(), tail(b.log, 2<<10))
		}
		b.send("", "Browser.close", nil, nil)
		in.Close()
		awaitEnd(cmd.Process, done)
	})
	b.attach()
	return b
}

// trust adds an authority to the certificates that Chromium and other programs of NSS trust below a home folder.
func trust(t *testing.T, home string, ca *authority) {
	t.Helper()
	db := filepath.Join(home, ".pki", "nssdb")
	if err := os.MkdirAll(db, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"-N", "--empty-password"},
		{"-A", "-n", "carillon test authority", "-t", "C,,", "-i", ca.file},
	} {
		if _, err := output(exec.Command("certutil", append([]string{"-d", "sql:" + db}, args...)...)); err != nil {
			t.Fatal(err)
		}
	}
}

// attach takes hold of the page.
func (b *browser) attach() {
	b.t.Helper()
	var target struct {
		TargetID string `json:"targetId"`
	}
	b.must("", "Target.createTarget", args{"url": "about:blank"}, &target)
	var session struct {
		SessionID string `json:"sessionId"`
	}
	b.must("", "Target.attachToTarget", args{"targetId": target.TargetID, "flatten": true}, &session)
	b.session = session.SessionID
	b.must(b.session, "Page.enable", nil, nil)
	b.must(b.session, "Runtime.enable", nil, nil)
}

// read takes what Chromium writes until it ends.
func (b *browser) read(out io.Reader) {
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadBytes(0)
		if err != nil {
			break
		}
		var m devtools
		if json.Unmarshal(bytes.TrimSuffix(line, []byte{0}), &m) != nil {
			continue
		}
		b.mu.Lock()
		if reply := b.answers[m.ID]; reply != nil {
			delete(b.answers, m.ID)
			reply <- m
		} else if m.Method == "Runtime.consoleAPICalled" || m.Method == "Runtime.exceptionThrown" {
			b.said = append(b.said, string(m.Params[:min(len(m.Params), 1<<10)]))
		}
		b.mu.Unlock()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, reply := range b.answers {
		close(reply)
		delete(b.answers, id)
	}
}

// send is one command of the protocol, for the browser or for a page's session.
func (b *browser) send(session, method string, params args, result any) error {
	reply := make(chan devtools, 1)
	b.mu.Lock()
	b.number++
	number := b.number
	b.answers[number] = reply
	b.mu.Unlock()
	m := map[string]any{"id": number, "method": method, "params": params}
	if params == nil {
		m["params"] = args{}
	}
	if session != "" {
		m["sessionId"] = session
	}
	line, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if _, err := b.in.Write(append(line, 0)); err != nil {
		return err
	}
	select {
	case got, ok := <-reply:
		switch {
		case !ok:
			return errors.New("chromium has ended")
		case got.Error != nil:
			return errors.New(got.Error.Message)
		case result == nil:
			return nil
		}
		return json.Unmarshal(got.Result, result)
	case <-time.After(patience):
		return fmt.Errorf("no answer in %v", patience)
	}
}

func (b *browser) must(session, method string, params args, result any) {
	b.t.Helper()
	if err := b.send(session, method, params, result); err != nil {
		b.t.Fatalf("chromium: %s: %v", method, err)
	}
}

// open goes to an address.
func (b *browser) open(url string) {
	b.t.Helper()
	var got struct {
		ErrorText string `json:"errorText"`
	}
	b.must(b.session, "Page.navigate", args{"url": url}, &got)
	if got.ErrorText != "" {
		b.t.Fatalf("chromium: %s: %s", url, got.ErrorText)
	}
}

// eval evaluates an expression in the page; what it throws is an error.
func (b *browser) eval(expression string, value any) error {
	var got struct {
		Result struct {
			Value json.RawMessage `json:"value"`
		} `json:"result"`
		Exception *struct {
			Exception struct {
				Description string `json:"description"`
			} `json:"exception"`
		} `json:"exceptionDetails"`
	}
	err := b.send(b.session, "Runtime.evaluate", args{"expression": expression, "awaitPromise": true, "returnByValue": true}, &got)
	switch {
	case err != nil:
		return err
	case got.Exception != nil:
		return errors.New(got.Exception.Exception.Description)
	case value == nil || got.Result.Value == nil:
		return nil
	}
	return json.Unmarshal(got.Result.Value, value)
}

// until waits until an expression in the page is true.
func (b *browser) until(what, expression string) {
	b.t.Helper()
	var last error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		var yes bool
		if last = b.eval("Boolean("+expression+")", &yes); last == nil && yes {
			return
		}
	}
	b.t.Fatalf("chromium: no %s (%v)", what, last)
}

// shows waits until one of the elements that match a selector has a text.
func (b *browser) shows(selector, text string) {
	b.t.Helper()
	b.until(fmt.Sprintf("%q in %s", text, selector), fmt.Sprintf("[...document.querySelectorAll(%s)].some(e => e.textContent.includes(%s))", quoted(selector), quoted(text)))
}

// fill puts text into a field as if it were typed.
func (b *browser) fill(selector, text string) {
	b.t.Helper()
	b.until(selector, fmt.Sprintf("(e => e && (e.focus(), document.activeElement === e))(document.querySelector(%s))", quoted(selector)))
	b.must(b.session, "Input.insertText", args{"text": text}, nil)
}

// press types the Enter key.
func (b *browser) press() {
	b.t.Helper()
	for _, kind := range []string{"keyDown", "keyUp"} {
		b.must(b.session, "Input.dispatchKeyEvent", args{"type": kind, "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": map[string]string{"keyDown": "\r"}[kind]}, nil)
	}
}

// click clicks with the mouse on an element as soon as that can be seen and stands still.
func (b *browser) click(selector string) {
	b.t.Helper()
	place := fmt.Sprintf(`(e => {
		if (!e) return [];
		e.scrollIntoView({block: "nearest"});
		const r = e.getBoundingClientRect(), x = r.x + r.width / 2, y = r.y + r.height / 2;
		return e.contains(document.elementFromPoint(x, y)) ? [x, y] : [];
	})(document.querySelector(%s))`, quoted(selector))
	var at, before []float64
	for deadline := time.Now().Add(patience); len(at) == 0 || !slices.Equal(at, before); time.Sleep(100 * time.Millisecond) {
		if before = at; time.Now().After(deadline) {
			b.t.Fatalf("chromium: no %s to click on", selector)
		}
		if at = nil; b.eval(place, &at) != nil {
			at = nil
		}
	}
	for _, kind := range []string{"mousePressed", "mouseReleased"} {
		b.must(b.session, "Input.dispatchMouseEvent", args{"type": kind, "x": at[0], "y": at[1], "button": "left", "clickCount": 1}, nil)
	}
}

// attachFile gives a file to an input of the page, as its dialogue would.
func (b *browser) attachFile(selector, file string) {
	b.t.Helper()
	b.until(selector, fmt.Sprintf("document.querySelector(%s)", quoted(selector)))
	var got struct {
		Result struct {
			ObjectID string `json:"objectId"`
		} `json:"result"`
	}
	b.must(b.session, "Runtime.evaluate", args{"expression": fmt.Sprintf("document.querySelector(%s)", quoted(selector))}, &got)
	b.must(b.session, "DOM.setFileInputFiles", args{"files": []string{file}, "objectId": got.Result.ObjectID}, nil)
}

// screen keeps a picture of the page.
func (b *browser) screen(name string) {
	b.t.Helper()
	var got struct {
		Data string `json:"data"`
	}
	b.must(b.session, "Page.captureScreenshot", nil, &got)
	png, err := base64.StdEncoding.DecodeString(got.Data)
	if err != nil {
		b.t.Fatal(err)
	}
	keep(b.t, name+".png", png)
}

func (b *browser) console() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.said[max(0, len(b.said)-30):], "\n")
}

// quoted is a string of JavaScript.
func quoted(s string) string {
	text, _ := json.Marshal(s) // a string always can
	return string(text)
}
