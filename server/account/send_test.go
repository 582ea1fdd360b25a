package account

import (
	"context"
	"errors"
	"strings"
	"testing"

	"carillon.im/stanza"
)

// TestSendWaits: a long answer waits for its reader, in bounded memory, and
// ends with the session.
func TestSendWaits(t *testing.T) {
	w := newWorld(t, "alice", func(c *Config) { c.Limits.OutboxBytes = 4096 })
	a := w.bind("alice/a")
	item := []byte("<message>" + strings.Repeat("x", 491) + "</message>")
	all := make([][]byte, 50)
	for i := range all {
		all[i] = item
	}
	done := make(chan error, 1)
	go func() { done <- a.SendAll(context.Background(), all) }()
	n := 0
	for n < 50 {
		got := len(a.take())
		if got > 8 {
			t.Errorf("%d at once", got)
		}
		n += got
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	go func() { done <- a.SendAll(context.Background(), all) }()
	waitFor(t, func() bool { a.Session.session.mu.Lock(); defer a.Session.session.mu.Unlock(); return a.room != nil })
	a.Close(a)
	if err := <-done; !errors.Is(err, ErrEnded) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	b := w.bind("alice/b")
	go func() { done <- b.SendAll(ctx, all) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestResumeInterruptsSend: a handler that waits for a reader that is gone
// doesn't hold up the session's resumption, which waits for the handler.
func TestResumeInterruptsSend(t *testing.T) {
	w := newWorld(t, "alice", func(c *Config) { c.Limits.OutboxBytes = 4096 })
	a := w.bind("alice/a sm")
	number, err := a.count(context.Background()) // of the request that it answers
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		err := a.SendAll(context.Background(), [][]byte{make([]byte, 3000), make([]byte, 3000)})
		a.handled(number)
		done <- err
	}()
	waitFor(t, func() bool {
		a.Session.session.mu.Lock()
		defer a.Session.session.mu.Unlock()
		return a.room != nil
	})
	a.detach()
	if _, res, err := w.resume(a, 0); err != nil || res.H != 1 {
		t.Fatal(res, err)
	}
	if err := <-done; !errors.Is(err, ErrEnded) {
		t.Error(err)
	}
}

func TestAsk(t *testing.T) {
	w := newWorld(t, "alice bob")
	a := w.bind("alice/a")
	type answer struct {
		st  *stanza.Stanza
		err error
	}
	ask := func() (id string, answers chan answer) {
		answers = make(chan answer, 1)
		go func() {
			st, err := a.Ask(context.Background(), "<q xmlns='u'/>")
			answers <- answer{st, err}
		}()
		waitFor(t, func() bool {
			for _, e := range a.take() {
				_, rest, _ := strings.Cut(e, " id='")
				id, _, _ = strings.Cut(rest, "'")
			}
			return id != ""
		})
		return id, answers
	}
	id, got := ask()
	a.send("<iq type='result' id='" + id + "'/>")                    // not from whom it was asked
	a.send("<iq type='result' id='" + id + "' to='bob@h.example'/>") // neither
	a.send("<iq type='result' id='" + id + "' to='h.example'><r xmlns='u'/></iq>")
	if g := <-got; g.err != nil || g.st.Payload().Local() != "r" {
		t.Error(g)
	}
	id, got = ask()
	a.send("<iq type='error' id='" + id + "' to='h.example'><error type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>")
	var e *stanza.Error
	if g := <-got; !errors.As(g.err, &e) || e.Condition != stanza.ItemNotFound {
		t.Error(g)
	}
	for range maxQuestions {
		_, got = ask()
	}
	if _, err := a.Ask(context.Background(), "<q xmlns='u'/>"); !errors.As(err, &e) || e.Condition != stanza.ResourceConstraint {
		t.Error(err)
	}
	a.Close(a)
	if g := <-got; !errors.Is(g.err, ErrEnded) {
		t.Error(g)
	}
}
