package crash

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/xmltree"
)

// TestFullDisk lets the file system fill up under load: senders are told
// before anything is acknowledged, other traffic goes on, and the server
// recovers by itself once there is room.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=20m"); err != nil {
		t.Skipf("needs to be root and allowed to mount a file system of limited size: %v", err)
	}
	defer syscall.Unmount(dir, syscall.MNT_DETACH)
	ballast := filepath.Join(dir, "ballast")
	// The room that comes back must hold what the write-ahead log holds: that has to go into the database before the
	// log begins anew.
	if err := os.WriteFile(ballast, make([]byte, 12<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	p := newProcess(t, filepath.Join(dir, "data"))
	for _, name := range []string{"sender", "recipient", "other"} {
		p.addUser(name)
	}
	p.start()
	defer p.kill()

	l := &verdicts{stanzas: map[string]string{}}
	sender, err := p.login("sender", "pen", l.see)
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Cut()
	sender.OnAcked(l.acknowledge)
	if err := sender.EnableSM(false); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	send := func(count int) {
		t.Helper()
		for range count {
			id := l.next()
			st := "<message to='recipient@localhost' type='chat' id='" + id + "'><body>" + strings.Repeat("x", 4<<10) + "</body></message>"
			if err := sender.Send(st); err != nil {
				t.Fatalf("sending: %v\n%s", err, &p.log)
			}
		}
		if err := sender.Settle(ctx); err != nil {
			t.Fatalf("%v\n%s", err, &p.log)
		}
	}
	for n := 0; l.failures() == 0; n += 50 {
		if n > 20000 {
			t.Fatal("the disk didn't fill up")
		}
		send(50)
	}
	send(100) // and it stays full
	filled := l.failures()

	// Traffic that needs no disk goes on.
	other, err := p.login("other", "o", nil)
	if err != nil {
		t.Fatalf("nobody can log in while the disk is full: %v", err)
	}
	defer other.Cut()
	for _, st := range []string{
		"<presence/>",
		"<message to='other@localhost/o' type='chat' id='live'><body>x</body><no-store xmlns='urn:xmpp:hints'/></message>",
		"<iq type='get' id='ping'><ping xmlns='urn:xmpp:ping'/></iq>",
	} {
		if err := other.Send(st); err != nil {
			t.Fatal(err)
		}
	}
	for waiting := map[string]bool{"live": true, "ping": true}; len(waiting) > 0; {
		ev, err := other.Next(ctx)
		if err != nil {
			t.Fatalf("while the disk is full: %v", err)
		}
		if ev.Stanza != nil && ev.Stanza.Type != stanza.TypeError {
			delete(waiting, ev.Stanza.ID)
		}
	}

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	recovered := l.recovery()
	for deadline := time.Now().Add(20 * time.Second); ; {
		send(1)
		if l.recovery() > recovered {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no message is stored although there is room again\n%s", &p.log)
		}
		time.Sleep(50 * time.Millisecond)
	}
	send(100)
	l.check(t, p, filled)
}

// verdicts is what became of each message.
type verdicts struct {
	mu      sync.Mutex
	order   []string          // not acknowledged yet
	stanzas map[string]string // by id: "acknowledged", an error's condition, or both: "condition, acknowledged"
	count   int
	late    []string // errors that came behind the acknowledgement
	stored  int
}

func (l *verdicts) next() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count++
	id := fmt.Sprintf("m%06d", l.count)
	l.order = append(l.order, id)
	return id
}

// see and acknowledge are called by the connection's reader, in order.
func (l *verdicts) see(ev *stream.Event) {
	if ev.Stanza == nil || ev.Stanza.Kind != stanza.Message || ev.Stanza.Type != stanza.TypeError {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	id := ev.Stanza.ID
	if l.stanzas[id] != "" {
		l.late = append(l.late, id)
	}
	condition := "malformed error"
	if e := ev.Stanza.ParseError(); e != nil {
		condition = string(e.Condition)
	}
	l.stanzas[id] = condition
}

func (l *verdicts) acknowledge(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range l.order[:n] {
		if l.stanzas[id] == "" {
			l.stanzas[id] = "acknowledged"
			l.stored++
		}
	}
	l.order = l.order[n:]
}

func (l *verdicts) failures() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.stanzas) - l.stored
}

func (l *verdicts) recovery() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stored
}

func (l *verdicts) check(t *testing.T, p *process, filled int) {
	archives := map[string]map[string]int{}
	for _, name := range []string{"sender", "recipient"} {
		archives[name] = map[string]int{}
		if _, err := p.archive(name, "", func(_ string, m xmltree.Element) { archives[name][m.Attr("id")]++ }); err != nil {
			t.Fatal(errors.Join(err, errors.New(p.log.String())))
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	missing := 0
	for id, verdict := range l.stanzas {
		in, out := archives["recipient"][id], archives["sender"][id]
		switch {
		case verdict == "acknowledged" && (in != 1 || out != 1):
			missing++
			t.Errorf("%s: acknowledged, %d times in the sender's archive, %d times in the recipient's", id, out, in)
		case verdict == "acknowledged":
		case verdict != string(stanza.ResourceConstraint) && verdict != string(stanza.InternalServerError):
			t.Errorf("%s: refused with %s", id, verdict)
		case in+out > 0:
			t.Errorf("%s: refused, and %d times in the sender's archive, %d times in the recipient's", id, out, in)
		}
	}
	if len(l.late) > 0 {
		t.Errorf("%d errors came behind the acknowledgement: %v", len(l.late), l.late[:min(5, len(l.late))])
	}
	t.Logf("stored %d, refused while the disk was full %d, acknowledged and missing: %d", l.stored, filled, missing)
}
