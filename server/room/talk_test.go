package room

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"carillon.im/jid"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// gate is a store whose transactions wait or fail when told to.
type gate struct {
	begun chan struct{} // a transaction waits
	open  chan struct{}
	shut  atomic.Bool
	fail  atomic.Bool
}

func (g *gate) fault(point string) error {
	switch {
	case point == "begin" && g.shut.Load():
		g.begun <- struct{}{}
		<-g.open
	case point == "commit" && g.fail.Load():
		return errors.New("the disk is full")
	}
	return nil
}

// talking is a room with two others, on a store with a gate.
func talking(t *testing.T) (*world, *gate, *store.Store) {
	t.Helper()
	g := &gate{begun: make(chan struct{}), open: make(chan struct{})}
	s, err := store.Open(t.Context(), store.Options{Path: ":memory:", CommitDelay: -1, Fault: g.fault, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	w := newWorld(t, func(c *Config) { c.Store = s })
	for i, who := range []string{"o@example/0", "a@example/0", "b@example/0"} {
		w.join(who, "hall", fmt.Sprint("n", i))
		if i == 0 {
			w.open(who, "hall", "persistentroom", "1", "changesubject", "1")
		}
	}
	w.forgetAll()
	return w, g, s
}

// post sends without waiting.
func (w *world) post(taken *sync.WaitGroup, from, xml string) {
	w.t.Helper()
	el, err := xmltree.Parse([]byte(xml), stanza.NSClient, xmltree.Limits{})
	if err != nil {
		w.t.Fatal(err)
	}
	st, err := stanza.Parse(el)
	if err != nil {
		w.t.Fatal(err)
	}
	st.From = jid.MustParse(from)
	taken.Add(1)
	if e := w.hub.Keep(st, taken.Done); e != nil {
		w.t.Fatal(e)
	}
}

// reached returns when what was posted has reached the room.
func (w *world) reached() {
	done := make(chan struct{})
	w.hub.loop(jid.MustParse(hall)).tell(func(*loop) bool { close(done); return false })
	<-done
}

// heard is what somebody was sent, in short.
func (w *world) heard(who string) (list []string) {
	for _, st := range w.take(who) {
		switch {
		case st.Type == stanza.TypeError:
			list = append(list, "error "+string(st.ParseError().Condition))
		case st.Kind == stanza.Presence:
			list = append(list, st.From.Resource()+" "+st.Type)
		case !st.Child(stanza.NSClient, "subject").IsZero():
			list = append(list, "subject "+st.Child(stanza.NSClient, "subject").Text())
		case !st.Child("http://jabber.org/protocol/chatstates", "composing").IsZero():
			list = append(list, "composing")
		default:
			list = append(list, st.Child(stanza.NSClient, "body").Text())
		}
	}
	return list
}

// TestTalkTogether: messages that come while others wait for the disk go there with
// the next transaction, all of them; who has heard one has heard those before it, in the
// archive's order, and nothing is said before it is on disk. What changes the room
// waits for them, and they for it.
func TestTalkTogether(t *testing.T) {
	w, g, s := talking(t)
	said := func(text string) string {
		return "<message type='groupchat' to='" + hall + "'><body>" + text + "</body></message>"
	}
	before := s.Stats().Commits
	g.shut.Store(true)
	var taken sync.WaitGroup
	w.post(&taken, "a@example/0", said("1"))
	<-g.begun // it waits for the disk
	for i, xml := range []string{
		said("2"),
		"<message type='groupchat' to='" + hall + "'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>", // not for the archive
		said("3"), said("4"),
		"<message type='groupchat' to='" + hall + "'><subject>new</subject></message>",
		said("5"), said("6"),
	} {
		w.post(&taken, []string{"a@example/0", "b@example/0"}[i%2], xml)
	}
	w.post(&taken, "b@example/0", "<presence type='unavailable' to='"+hall+"/n2'/>")
	w.post(&taken, "a@example/0", said("7"))
	w.post(&taken, "b@example/0", said("he is out"))
	w.reached()
	if got := w.heard("o@example/0"); len(got) > 0 {
		t.Errorf("told before it is on disk: %v", got)
	}
	g.shut.Store(false)
	g.open <- struct{}{}
	taken.Wait()
	want := []string{"1", "2", "composing", "3", "4", "subject new", "5", "6", "n2 unavailable", "7"}
	if got := w.heard("o@example/0"); !slices.Equal(got, want) {
		t.Errorf("heard %q, want %q", got, want)
	}
	if got := w.heard("b@example/0"); !slices.Equal(got, append(slices.Clone(want[:9]), "error not-acceptable")) {
		t.Errorf("who left has heard %q", got)
	}
	if got := w.archive("hall"); !slices.Equal(got, []string{"1", "2", "3", "4", "", "5", "6", "7"}) {
		t.Errorf("the archive has %q", got)
	}
	// 1 alone, then 2 to 4, the subject, 5 and 6, and 7.
	if n := s.Stats().Commits - before; n > 5 {
		t.Errorf("%d transactions", n)
	}
}

// TestTalkFails: of messages that a failing transaction would have kept nobody hears,
// each sender is told, and the room goes on.
func TestTalkFails(t *testing.T) {
	w, g, _ := talking(t)
	var taken sync.WaitGroup
	g.shut.Store(true)
	said := func(i int) string {
		return fmt.Sprintf("<message type='groupchat' id='m%d' to='%s'><body>%d</body></message>", i, hall, i)
	}
	w.post(&taken, "a@example/0", said(0))
	<-g.begun
	g.fail.Store(true)
	for i := range 20 {
		w.post(&taken, "b@example/0", said(1+i))
	}
	w.reached()
	g.shut.Store(false)
	g.open <- struct{}{}
	taken.Wait()
	g.fail.Store(false)
	if got := w.heard("o@example/0"); len(got) > 0 {
		t.Errorf("told what isn't on disk: %v", got)
	}
	if a, b := w.heard("a@example/0"), w.heard("b@example/0"); len(a) != 1 || len(b) != 20 || slices.Contains(b, "20") {
		t.Errorf("the senders hear %q and %q", a, b)
	}
	w.send("a@example/0", said(99))
	if got := w.heard("o@example/0"); !slices.Equal(got, []string{"99"}) {
		t.Errorf("afterwards: %q", got)
	}
	if got := w.archive("hall"); !slices.Equal(got, []string{"99"}) {
		t.Errorf("the archive has %q", got)
	}
}

// TestTalkIsBounded: no more messages wait for the disk together than maxTalk; the
// others wait for the room.
func TestTalkIsBounded(t *testing.T) {
	w, _, _ := talking(t)
	s := newState(&w.hub.cfg, jid.MustParse(hall))
	s.load, s.opt = ready, defaultOptions(0)
	o := &occupant{nick: "n", jid: jid.MustParse(hall + "/n"), user: jid.MustParse("o@example"), role: moderator}
	v := &visit{jid: jid.MustParse("o@example/0"), who: o}
	s.visits[v.jid] = v
	fx := effects{}
	for i := range maxTalk + 10 {
		st := stanza.Build(stanza.Message, stanza.TypeGroupchat, fmt.Sprint(i), v.jid, s.jid, "<body xmlns='"+stanza.NSClient+"'>x</body>")
		(&arrive{stanza: st}).apply(s, &fx)
	}
	if len(s.busy) != maxTalk || len(s.wait) != 10 {
		t.Errorf("%d are on their way to the disk, %d wait", len(s.busy), len(s.wait))
	}
	if st := stanza.Build(stanza.Message, stanza.TypeGroupchat, "", v.jid, s.jid, "<retract xmlns='"+xep.NSRetract+"' id='1'/>"); isTalk(st) {
		t.Error("a retraction is judged by what is on disk")
	}
}
