package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"carillon.im/client/convo"
	"carillon.im/jid"
	"carillon.im/server/store"
	"carillon.im/stanza"
)

// world is all that there is in a run.
type world struct {
	seed    uint64
	opt     Options
	wait    func()
	began   time.Time
	plan    *rand.Rand // who there is and what they do
	dice    *rand.Rand // what happens next
	servers [2]*server
	users   []*user
	devices []*device
	conns   []*conn
	ops     []op
	result  *Result
	resting bool // nothing goes wrong any more
	ticked  time.Time
	list    []action

	sent    map[string]*sentMessage // by message id
	order   []*sentMessage
	unread  map[string]bool // ids of messages that left for a device that doesn't acknowledge
	spoiled bool            // the flaw has happened
}

// sentMessage is what is known of a text that a person sent.
type sentMessage struct {
	id    string
	from  *device
	to    jid.JID // bare
	at    time.Time
	shown bool // as sent, or as in the archive
}

func (w *world) log(who, what, detail string) {
	w.result.Log = append(w.result.Log, Line{time.Since(w.began), who, what, detail})
}

func (w *world) problem(property int, format string, args ...any) {
	if len(w.result.Problems) < 20 {
		w.result.Problems = append(w.result.Problems, Problem{property, fmt.Sprintf(format, args...)})
	}
}

func (w *world) serverOf(domain string) *server {
	for _, s := range w.servers {
		if s.domain == domain {
			return s
		}
	}
	return nil
}

func (w *world) userOf(j jid.JID) *user {
	for _, u := range w.users {
		if u.jid == j.Bare() {
			return u
		}
	}
	return nil
}

// build makes the servers, the users and their devices.
func (w *world) build() error {
	var err error
	if w.servers[0], err = w.newServer("new.example", true); err != nil {
		return err
	}
	if w.servers[1], err = w.newServer("old.example", false); err != nil {
		return err
	}
	names := []string{"ann", "bea", "cid", "dot", "eve"}
	atNew := 2 + w.plan.IntN(2)
	for i := range atNew + 1 + w.plan.IntN(2) {
		s := w.servers[0]
		if i >= atNew {
			s = w.servers[1]
		}
		if err := w.newUser(names[i], s); err != nil {
			return err
		}
	}
	if err := w.befriend(); err != nil {
		return err
	}
	for _, s := range w.servers {
		s.begin()
	}
	return nil
}

func (w *world) newUser(name string, s *server) error {
	u := &user{name: name, server: s, jid: jid.MustParse(name + "@" + s.domain)}
	id, err := s.store.CreateAccount(context.Background(), u.jid, nil)
	if err != nil {
		return err
	}
	s.ids[u.jid] = id
	w.users = append(w.users, u)
	classic := !s.modern || w.plan.IntN(4) == 0
	for n := range 1 + w.plan.IntN(4) {
		d := &device{w: w, user: u, name: name + "/" + string(rune('a'+n)), wanted: true, queries: map[string]convo.Query{}, shows: map[jid.JID][]convo.Entry{}, store: convo.NewMemory()}
		d.full = jid.MustParse(u.jid.String() + "/" + string(rune('a'+n)))
		d.profile = convo.Profile(w.plan.IntN(4))
		if classic {
			d.profile %= 2
		}
		d.sm = d.profile == convo.V2 || w.plan.IntN(8) > 0
		d.cfg = convo.Config{Account: u.jid, NewID: d.newID, Silent: w.plan.IntN(4) > 0, Limits: convo.Limits{Page: 3 + w.plan.IntN(20)}}
		d.boot()
		u.devices = append(u.devices, d)
		w.devices = append(w.devices, d)
	}
	return nil
}

// befriend lets most of them see each other's presence.
func (w *world) befriend() error {
	puts := map[*server][]store.Op{}
	for i, a := range w.users {
		for _, b := range w.users[:i] {
			if w.plan.IntN(8) == 0 {
				continue
			}
			for _, pair := range [][2]*user{{a, b}, {b, a}} {
				s := pair[0].server
				item := store.RosterItem{JID: pair[1].jid, Subscription: "both"}
				puts[s] = append(puts[s], store.RosterPut{Account: s.ids[pair[0].jid], Item: item, Version: 1})
				for _, d := range pair[0].devices {
					d.event(convo.Contact{JID: pair[1].jid, Trusted: true})
				}
			}
		}
	}
	for _, s := range w.servers {
		if err := s.store.Commit(context.Background(), puts[s]...); err != nil {
			return err
		}
	}
	return nil
}

// close ends the servers.
func (w *world) close() {
	for _, c := range w.conns {
		c.lose()
	}
	over, cancel := context.WithCancel(context.Background())
	cancel()
	for _, s := range w.servers {
		s.gate.set(true, false)
		if s.up {
			s.hub.Close(over)
		}
		if n := s.hub.Stats().Panics.Load(); n > 0 {
			w.problem(0, "%s recovered %d panics", s.domain, n)
		}
		if err := s.store.Close(); err != nil {
			w.problem(0, "%s: %v", s.domain, err)
		}
	}
}

// addressed notes what an engine sends, and to whom (property 3: XEP-0296).
func (w *world) addressed(d *device, f convo.Send) {
	st := f.Stanza
	if f.Entry == 0 || st.Kind != stanza.Message {
		return
	}
	peer := st.To.Bare()
	want := peer
	if lock, ok := d.locks[peer]; ok && d.profile < convo.NG && st.Type == stanza.TypeChat {
		want = lock
	}
	if st.To != want {
		w.problem(3, "%s sends %s to %s, where XEP-0296 says %s", d.name, st.ID, st.To, want)
	}
	if w.sent[st.ID] == nil && kindOf(st) == convo.Text {
		m := &sentMessage{id: st.ID, from: d, to: peer, at: time.Now()}
		w.sent[st.ID], w.order = m, append(w.order, m)
		w.result.Counts.Messages++
	}
}

// shown notes that a device shows an own message as sent.
func (w *world) shown(d *device, peer jid.JID, en convo.Entry) {
	m := w.sent[en.MessageID]
	if m != nil && m.from == d && (en.Delivery == convo.Sent || en.Delivery == convo.Archived) {
		if !m.shown {
			w.log(d.name, "shows sent", en.MessageID)
		}
		m.shown = true
	}
}

// noteUnread notes a message that is written to a device that never acknowledges.
func (w *world) noteUnread(data string) {
	for id := range w.sent {
		if strings.Contains(data, "'"+id+"'") {
			w.unread[id] = true
		}
	}
}
