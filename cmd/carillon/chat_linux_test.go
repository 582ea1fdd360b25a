package main

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

var updateScreens = flag.Bool("update", false, "write the screens of the terminal tests anew")

// asMain is the environment variable that makes the test binary the program.
const asMain = "CARILLON_TEST_MAIN"

// screenPatience bounds waiting for something on a screen.
const screenPatience = 20 * time.Second

// tty is the program in a pseudo terminal of tmux, 80×24.
type tty struct {
	t    *testing.T
	dir  string
	args []string
}

// openTTY starts the program with arguments.
func openTTY(t *testing.T, home string, args ...string) *tty {
	t.Helper()
	return openPiped(t, home, "", args...)
}

// openPiped is openTTY with something on standard input in place of the keys.
func openPiped(t *testing.T, home, input string, args ...string) *tty {
	t.Helper()
	if _, err := exec.LookPath("tmux"); err != nil {
		t.Skip("no tmux: apt-get install tmux")
	}
	dir, err := os.MkdirTemp("", "tty") // t.TempDir's names are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	x := &tty{t: t, dir: dir, args: args}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := "exec " + shellQuote(self)
	if input != "" {
		command = "printf %s " + shellQuote(input) + " | " + shellQuote(self)
	}
	for _, a := range args {
		command += " " + shellQuote(a)
	}
	cmd := exec.Command("tmux", "-S", filepath.Join(dir, "s"), "-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", command)
	cmd.Env = []string{asMain + "=1", "HOME=" + home, "TMPDIR=" + home, "PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8", "TERM=xterm-256color", "TZ=UTC"}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("tmux: %v, %s", err, out)
	}
	t.Cleanup(x.close)
	return x
}

func (x *tty) close() {
	if x.t.Failed() {
		x.t.Logf("screen of carillon %s:\n%s", strings.Join(x.args[:2], " "), x.screen())
	}
	_, _ = x.tmux("kill-server")
	os.RemoveAll(x.dir)
}

func (x *tty) tmux(args ...string) (string, error) {
	out, err := exec.Command("tmux", append([]string{"-S", filepath.Join(x.dir, "s"), "-f", "/dev/null"}, args...)...).CombinedOutput()
	return string(out), err
}

// types types text; keys presses keys by tmux's names.
func (x *tty) types(text string) {
	x.t.Helper()
	if out, err := x.tmux("send-keys", "-l", text); err != nil {
		x.t.Fatal(out)
	}
}

func (x *tty) keys(names ...string) {
	x.t.Helper()
	if out, err := x.tmux(append([]string{"send-keys"}, names...)...); err != nil {
		x.t.Fatal(out)
	}
}

func (x *tty) screen() string {
	out, _ := x.tmux("capture-pane", "-p")
	var b strings.Builder
	for l := range strings.Lines(out) {
		b.WriteString(strings.TrimRight(l, " \n") + "\n")
	}
	// What differs from run to run.
	text := regexp.MustCompile(`\b\d\d:\d\d\b`).ReplaceAllString(b.String(), "00:00")
	text = regexp.MustCompile(`next try [0-9:]+`).ReplaceAllString(text, "next try 00:00:00")
	text = regexp.MustCompile(`127\.0\.0\.1:\d+`).ReplaceAllString(text, "127.0.0.1:00000")
	return regexp.MustCompile(`(?m)│ +[A-Z][a-z]+day \d+ [A-Z][a-z]+$`).ReplaceAllString(text, "│                        today")
}

// until waits until the screen is as wanted.
func (x *tty) until(what string, ok func(string) bool) {
	x.t.Helper()
	for deadline := time.Now().Add(screenPatience); !ok(x.screen()); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			x.t.Fatalf("no %s on the screen:\n%s", what, x.screen())
		}
	}
}

func (x *tty) has(texts ...string) {
	x.t.Helper()
	for _, text := range texts {
		x.until(strconv.Quote(text), func(s string) bool { return strings.Contains(s, text) })
	}
}

// shows waits until the screen is the golden one.
func (x *tty) shows(name string) {
	x.t.Helper()
	file := filepath.Join("testdata", name+".txt")
	if *updateScreens {
		last, since := x.screen(), time.Now()
		for time.Since(since) < 2*time.Second {
			if now := x.screen(); now != last {
				last, since = now, time.Now()
			}
		}
		if err := os.WriteFile(file, []byte(last), 0o600); err != nil {
			x.t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		x.t.Fatal(err)
	}
	x.until(file+", which is\n"+string(want), func(s string) bool { return s == string(want) })
}

// kill ends the program as a crash does.
func (x *tty) kill() {
	x.t.Helper()
	out, err := x.tmux("display-message", "-p", "#{pane_pid}")
	if err != nil {
		x.t.Fatal(out)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(out))
	if err != nil {
		x.t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		x.t.Fatal(err)
	}
	for range 500 { // the session ends with its only program
		if _, err := x.tmux("has-session"); err != nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	x.t.Fatal("the program lives on")
}

// open starts "chat" in a terminal and waits until it is connected; password says that it asks for one.
func (w *clientWorld) open(t *testing.T, home, who, with, device string, password bool) *tty {
	t.Helper()
	x := openTTY(t, home, append([]string{"chat", who + "@localhost", with + "@localhost", "--device", device}, w.flags...)...)
	if password {
		x.has("Password for " + who + "@localhost:")
		x.types("secret")
		x.keys("Enter")
		x.has("● connected")
	}
	return x
}

// TestTerminals drives two devices of one account and a contact through a conversation, as persons at three terminals do.
func TestTerminals(t *testing.T) {
	if testing.Short() {
		t.Skip("three terminals")
	}
	w := newClientWorld(t, "romeo", "juliet")
	home := t.TempDir()
	desk, phone, juliet := w.open(t, home, "romeo", "juliet", "desk", true), w.open(t, home, "romeo", "juliet", "phone", true), w.open(t, home, "juliet", "romeo", "balcony", true)

	desk.types("Wherefore art thou?")
	desk.keys("Enter")
	phone.has("Wherefore art thou?", "from desk")
	juliet.has("romeo   Wherefore art thou?")
	juliet.types("Here, as every evening.")
	juliet.keys("Enter")
	desk.has("juliet  Here, as every evening.")
	desk.keys("C-n")
	desk.has("new thread")
	desk.types("Lunch tomorrow?")
	desk.keys("Enter")
	juliet.has("2│ ", "Lunch tomorrow?")
	juliet.keys("Up")
	juliet.has("r reply")
	juliet.types("r")
	juliet.has("reply to romeo: Lunch tomorrow?")
	juliet.types("At one. Who comes along?")
	juliet.keys("Enter")
	phone.has("At one. Who comes along?", "↳ you: Lunch tomorrow?")
	phone.keys("Up")
	phone.has("t take it")
	phone.types("t")
	phone.has("taken here")
	phone.keys("Escape")
	desk.has("taken on phone")
	desk.shows("terminal-1-desk")
	phone.shows("terminal-2-phone")

	phone.kill()
	juliet.types("Are you still there?")
	juliet.keys("Enter")
	desk.has("Are you still there?")
	phone = w.open(t, home, "romeo", "juliet", "phone", false) // with the token, and its own history
	phone.has("● connected", "Are you still there?")
	phone.types("b")
	phone.keys("BSpace", "Up")
	phone.has("b branch off")
	phone.types("b")
	phone.has("branch off from juliet: Are you still there?")
	phone.types("I was gone for a moment.")
	phone.keys("Enter")
	juliet.has("I was gone for a moment.")
	desk.has("from phone")
	phone.shows("terminal-3-phone-again")

	// The password can come from a pipe, and the keys from the terminal all the same.
	piped := openPiped(t, home, "secret", append([]string{"chat", "juliet@localhost", "romeo@localhost", "--device", "garden", "--password-stdin"}, w.flags...)...)
	piped.has("● connected", "I was gone for a moment.")
	piped.types("From the garden.")
	piped.keys("Enter")
	desk.has("From the garden.")

	// The same device twice is refused, with what to do.
	twice := openTTY(t, home, append([]string{"chat", "romeo@localhost", "--device", "phone"}, w.flags...)...)
	twice.until("its end", func(string) bool { _, err := twice.tmux("has-session"); return err != nil })

	juliet.keys("C-c")
	juliet.until("end of the program", func(string) bool { _, err := juliet.tmux("has-session"); return err != nil })
}

// TestTerminalOffline: without a server there is the history, and what is written stays, through a crash, until there is one again. Then a room.
func TestTerminalOffline(t *testing.T) {
	if testing.Short() {
		t.Skip("two terminals")
	}
	w := newClientWorld(t, "romeo", "juliet")
	home := t.TempDir()
	desk, juliet := w.open(t, home, "romeo", "juliet", "desk", true), w.open(t, home, "juliet", "romeo", "balcony", true)
	desk.types("Wherefore art thou?")
	desk.keys("Enter")
	juliet.has("Wherefore art thou?")
	juliet.types("Here.")
	juliet.keys("Enter")
	desk.has("juliet  Here.")
	juliet.has("seen")
	w.stop()
	desk.has("offline")
	desk.types("Is anybody there?")
	desk.keys("Enter")
	desk.has("sending…")
	desk.kill()
	desk = w.open(t, home, "romeo", "juliet", "desk", false)
	desk.has("Is anybody there?", "sending…")
	desk.shows("terminal-4-offline")

	startServer(t, w.data, "--c2s", w.addrs["c2s"])
	desk.keys("C-r")
	juliet.keys("C-r")
	desk.has("● connected")
	juliet.has("Is anybody there?")
	desk.until("its marker", regexp.MustCompile(`Is anybody there\? +seen`).MatchString)

	for _, x := range []*tty{desk, juliet} {
		x.keys("C-o")
		x.has("write to whom?")
		x.types("hall@rooms.localhost")
		x.keys("Enter")
		x.has("hall · hall@rooms.localhost")
		x.types("I am " + x.args[1])
		x.keys("Enter")
		x.until("its message in the room", regexp.MustCompile(`you +I am `+x.args[1]+` +sent`).MatchString)
	}
	juliet.has("romeo        I am romeo@localhost")
	juliet.shows("terminal-5-room")
}

// TestDemo: within ten seconds two devices show what the contact says, and what one writes is on the other.
func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("a server and three clients")
	}
	begun, home := time.Now(), t.TempDir()
	x := openTTY(t, home, "chat", "--demo")
	x.until("two devices in step", func(s string) bool { return strings.Count(s, "O Romeo, Romeo!") >= 2 })
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	x.types("Call me but love")
	x.keys("Enter")
	x.until("the message on both", func(s string) bool { return strings.Count(s, "Call me but love") >= 2 })
	x.keys("C-w")
	x.has("^W: go to this device")

	// One device ends the other.
	x.keys("F2")
	x.has("desk, carillon")
	if !strings.Contains(x.screen(), "▸ desk") {
		x.keys("Down")
	}
	x.has("▸ desk")
	x.types("d")
	x.has("end its access?")
	x.types("y")
	x.has("✕", "has no access")
	x.keys("C-c")
	x.until("end of the program", func(string) bool { _, err := x.tmux("has-session"); return err != nil })
	leavesNothing(t, home)

	// So does a closed window.
	x = openTTY(t, home, "chat", "--demo")
	x.has("O Romeo, Romeo!")
	if out, err := x.tmux("kill-session"); err != nil {
		t.Fatal(out)
	}
	leavesNothing(t, home)
}

// leavesNothing waits until no demonstration has a folder below dir.
func leavesNothing(t *testing.T, dir string) {
	t.Helper()
	for deadline := time.Now().Add(screenPatience); ; time.Sleep(20 * time.Millisecond) {
		left, err := filepath.Glob(filepath.Join(dir, "carillon-demo-*"))
		if err == nil && len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%q is left, %v", left, err)
		}
	}
}
