package account

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/server/store"
	"carillon.im/stanza"
)

// listenersOutside is alice with contacts at x.example, and those of their resources
// that features hear of.
type listenersOutside struct {
	*outside
	mu     sync.Mutex
	latest map[string]feature.Listener
}

func newListenersOutside(t *testing.T, contacts ...string) (*world, *listenersOutside) {
	l := &listenersOutside{latest: map[string]feature.Listener{}}
	w, o := newBorder(t, "alice", func(c *Config) {
		c.outsideObservers = append(c.outsideObservers, func(s feature.Listener, _ *stanza.Stanza) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.latest[s.JID().String()] = s
		})
	})
	l.outside = o
	for i, c := range contacts {
		err := w.store.Commit(t.Context(), store.RosterPut{Account: w.id("alice"), Version: int64(i + 1),
			Item: store.RosterItem{JID: jid.MustParse(c + "@x.example"), Subscription: "both"}})
		if err != nil {
			t.Fatal(err)
		}
	}
	return w, l
}

// comes is presence of a resource that wants to hear of the node n.
func (l *listenersOutside) comes(full, ver string) feature.Listener {
	l.w.t.Helper()
	l.enter("<presence from='" + full + "' to='alice@h.example'><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='n' ver='" + ver + "'/></presence>")
	l.mu.Lock()
	s := l.latest[full]
	delete(l.latest, full)
	l.mu.Unlock()
	if s != nil {
		if _, err := s.SetEvents(l.w.t.Context(), []string{"n"}); err != nil {
			l.w.t.Fatal(err)
		}
		s.EventsTold(l.w.t.Context())
	}
	return s
}

func (l *listenersOutside) publish() []string {
	l.w.t.Helper()
	c := feature.EventChange{Node: "n", Config: []byte("c"), MaxNodes: 1, MaxBytes: 1 << 20, Notices: []feature.EventNotice{{Node: "n", Payload: "<event/>", To: feature.Audience{All: true}}}}
	account := l.w.hub.Account(jid.MustParse("alice@h.example"))
	err := account.Update(l.w.t.Context(), feature.Update{Events: []feature.EventChange{c}})
	if errors.Is(err, store.ErrChanged) {
		c.Was = c.Config
		err = account.Update(l.w.t.Context(), feature.Update{Events: []feature.EventChange{c}})
	}
	if err != nil {
		l.w.t.Fatal(err)
	}
	l.w.settle()
	var to []string
	for _, st := range l.take() {
		if _, rest, ok := strings.Cut(st, "<message from='alice@h.example' to='"); ok {
			who, _, _ := strings.Cut(rest, "'")
			to = append(to, who)
		}
	}
	slices.Sort(to)
	return to
}

func (l *listenersOutside) hear(when string, who ...string) {
	l.w.t.Helper()
	if got := l.publish(); !slices.Equal(got, who) {
		l.w.t.Errorf("%s: %q heard, not %q", when, got, who)
	}
}

// TestOutsiders: which resources of contacts elsewhere hear of events.
func TestOutsiders(t *testing.T) {
	_, l := newListenersOutside(t, "bob", "eve")
	const bob, desk, eve = "bob@x.example/phone", "bob@x.example/desk", "eve@x.example/r"
	if l.comes("stranger@x.example/r", "1") != nil || l.comes("bob@x.example", "1") != nil || l.comes(bob, strings.Repeat("x", maxVer+1)) != nil {
		t.Error("presence that is nobody's was noticed")
	}
	l.hear("nobody is there")
	first := l.comes(bob, "1")
	l.comes(desk, "1")
	l.comes(eve, "1")
	l.hear("they came", desk, bob, eve)
	if l.comes(bob, "1") != nil {
		t.Error("the same capabilities were news")
	}
	second := l.comes(bob, "2")
	if added, err := first.SetEvents(t.Context(), []string{"other"}); err != nil || added != nil {
		t.Errorf("capabilities that it names no more ask for %v: %v", added, err)
	}
	if heard, err := first.TellLast(t.Context(), "n", stanza.Build(stanza.Message, stanza.TypeHeadline, "", jid.MustParse("alice@h.example"), first.JID(), "")); err != nil || heard != feature.HeardItem {
		t.Errorf("it was told as what it was: %v %v", heard, err)
	}
	l.hear("others", desk, bob, eve)
	l.enter("<presence from='" + desk + "' to='alice@h.example' type='unavailable'/>")
	l.hear("the desk is gone", bob, eve)
	l.enter("<presence from='" + bob + "' to='alice@h.example'/>")
	l.hear("it names none", eve)
	l.comes(bob, "2")
	l.comes(desk, "2")
	l.enter("<message type='error' from='" + bob + "' to='alice@h.example'><error type='cancel'><remote-server-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>")
	l.hear("an event came back", desk, eve)
	l.enter("<presence from='eve@x.example' to='alice@h.example' type='error'><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></presence>")
	l.hear("eve is no more", desk)
	l.w.hub.Reach([]string{"x.example"}, nil)
	l.w.settle()
	l.hear("the server is gone")
	l.comes(bob, "3")
	l.enter("<presence from='bob@x.example' to='alice@h.example' type='unsubscribe'/>")
	l.hear("who doesn't want to see her any more")
	if heard, err := second.TellLast(t.Context(), "n", stanza.Build(stanza.Message, stanza.TypeHeadline, "", jid.MustParse("alice@h.example"), second.JID(), "")); err != nil || heard != feature.HeardItem || len(l.take()) != 0 {
		t.Errorf("he was told a newest item: %v %v", heard, err)
	}
}

// TestOutsidersBounded: a contact with very many resources, and an account with very
// many contacts.
func TestOutsidersBounded(t *testing.T) {
	var contacts []string
	for i := range maxOutsiders/maxResources + 2 {
		contacts = append(contacts, fmt.Sprint("c", i))
	}
	w, l := newListenersOutside(t, contacts...)
	for _, c := range contacts {
		for i := range maxResources + 1 {
			l.enter(fmt.Sprintf("<presence from='%s@x.example/%d' to='alice@h.example'><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='n' ver='1'/></presence>", c, i))
		}
	}
	check := func(most, n int) {
		t.Helper()
		w.state("alice", func(s *State) {
			all := 0
			for _, list := range s.outside {
				all += len(list)
				most = max(most, len(list))
			}
			if all != n || s.outsiders != n || most > maxResources {
				t.Errorf("%d resources are known, counted %d, up to %d of one; not %d", all, s.outsiders, most, n)
			}
		})
	}
	check(0, maxOutsiders)
	w.hub.Reach([]string{"x.example"}, nil)
	w.settle()
	check(0, 0)
}

// TestAskOutside: only who was asked can answer, and nothing is left of a question.
func TestAskOutside(t *testing.T) {
	w, l := newListenersOutside(t, "bob")
	bob := l.comes("bob@x.example/r", "1")
	l.take()
	type answer struct {
		st  *stanza.Stanza
		err error
	}
	ask := func(ctx context.Context) (id string, got <-chan answer) {
		ch := make(chan answer, 1)
		go func() {
			st, err := bob.Ask(ctx, "<q xmlns='urn:q'/>")
			ch <- answer{st, err}
		}()
		waitFor(t, func() bool {
			for _, st := range l.take() {
				if _, rest, ok := strings.Cut(st, "<iq from='alice@h.example' to='bob@x.example/r' id='"); ok {
					id, _, _ = strings.Cut(rest, "'")
				}
			}
			return id != ""
		})
		return id, ch
	}
	ctx, cancel := context.WithCancel(t.Context())
	id, got := ask(ctx)
	l.enter("<iq type='result' from='bob@x.example/other' to='alice@h.example' id='" + id + "'><forged xmlns='urn:q'/></iq>")
	l.enter("<iq type='result' from='bob@x.example/r' to='alice@h.example' id='other'/>")
	l.enter("<iq type='result' from='bob@x.example/r' to='alice@h.example' id='" + id + "'><a xmlns='urn:q'/></iq>")
	if a := <-got; a.err != nil || a.st.Payload().Local() != "a" {
		t.Errorf("answered %v %v", a.st, a.err)
	}
	id, got = ask(ctx)
	l.enter("<iq type='error' from='bob@x.example/r' to='alice@h.example' id='" + id + "'><error type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>")
	var e *stanza.Error
	if a := <-got; !errors.As(a.err, &e) || e.Condition != stanza.ItemNotFound {
		t.Errorf("answered with %v", a.err)
	}
	_, got = ask(ctx)
	cancel()
	if a := <-got; !errors.Is(a.err, context.Canceled) {
		t.Errorf("ended with %v", a.err)
	}
	l.set(func() { l.gone = true })
	if _, err := bob.Ask(t.Context(), ""); !errors.As(err, &e) || e.Condition != stanza.RemoteServerNotFound {
		t.Errorf("without a way there: %v", err)
	}
	if n := len(w.hub.questions.open); n != 0 {
		t.Errorf("%d questions are left", n)
	}
}
