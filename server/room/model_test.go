package room

import (
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"carillon.im/jid"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
)

// model is a room as XEP-0045 describes it in its tables, and nothing else: no
// store, no forms, no order of presence.
type model struct {
	moderated, membersOnly bool
	affiliations           map[string]string   // by user
	nicks                  map[string]*guest   // by nick
	voices                 map[string]string   // what moderators said of users' voice
	sessions               map[string]string   // nick by session
	heard                  map[string][]string // by session
	said                   []string            // to all, in order
}

type guest struct{ user, role string }

// rank orders affiliations and roles.
var rank = map[string]int{"outcast": -1, "none": 0, "member": 1, "admin": 2, "owner": 3, "visitor": 1, "participant": 2, "moderator": 3}

func (m *model) affiliation(user string) string {
	if a, ok := m.affiliations[user]; ok {
		return a
	}
	return "none"
}

// first is Table 4.
func (m *model) first(a string) string {
	switch {
	case a == "owner" || a == "admin":
		return "moderator"
	case a == "none" && m.moderated:
		return "visitor"
	}
	return "participant"
}

func (m *model) join(session, user, nick string) {
	old, here := m.sessions[session]
	g := m.nicks[nick]
	switch {
	case here && old == nick, g != nil && g.user != user:
		return
	case here && g == nil:
		m.nicks[nick] = m.nicks[old]
		delete(m.nicks, old)
		for s, n := range m.sessions {
			if n == old {
				m.sessions[s] = nick
			}
		}
	case here, m.affiliation(user) == "outcast", m.membersOnly && rank[m.affiliation(user)] < 1:
	default:
		if g == nil {
			m.nicks[nick] = &guest{user, m.first(m.affiliation(user))}
			if r, said := m.voices[user]; said {
				m.nicks[nick].role = r
			}
		}
		m.sessions[session] = nick
	}
}

func (m *model) leave(session string) {
	nick, here := m.sessions[session]
	if !here {
		return
	}
	delete(m.sessions, session)
	for _, n := range m.sessions {
		if n == nick {
			return
		}
	}
	delete(m.nicks, nick)
}

func (m *model) out(nick string) {
	delete(m.nicks, nick)
	maps.DeleteFunc(m.sessions, func(_, n string) bool { return n == nick })
}

func (m *model) say(session, text string) {
	if nick, here := m.sessions[session]; here && m.nicks[nick].role != "visitor" {
		m.said = append(m.said, text)
		for s := range m.sessions {
			m.heard[s] = append(m.heard[s], text)
		}
	}
}

func (m *model) setRole(session, user, nick, want string) {
	mine := m.affiliation(user)
	role := ""
	if n, here := m.sessions[session]; here {
		role = m.nicks[n].role
	} else if rank[mine] >= 2 {
		role = "moderator"
	}
	g := m.nicks[nick]
	if g == nil || role != "moderator" {
		return
	}
	theirs := m.affiliation(g.user)
	senior := rank[mine] >= 2
	switch {
	case rank[theirs] > rank[mine]:
	case want == "moderator" && !senior:
	case want != "moderator" && g.role == "moderator" && !senior:
	case rank[theirs] >= 2 && (want == "visitor" || want == "participant"):
	case want == "none":
		m.out(nick)
	default:
		if g.role = want; want == "moderator" || want == m.first(theirs) {
			delete(m.voices, g.user)
		} else {
			m.voices[g.user] = want
		}
	}
}

func (m *model) setAffiliation(user, target, want string) {
	mine, was := m.affiliation(user), m.affiliation(target)
	owners := 0
	for u, a := range m.affiliations {
		if a == "owner" && u != target {
			owners++
		}
	}
	if want == "owner" {
		owners++
	}
	self := user == target
	switch {
	case rank[mine] < 2, owners == 0, self && want == "outcast":
		return
	case mine != "owner" && !(self && rank[want] < rank[was]) && (rank[want] >= 2 || rank[was] >= 2):
		return
	}
	if m.affiliations[target] = want; want == "none" {
		delete(m.affiliations, target)
	}
	delete(m.voices, target)
	if was == want {
		return
	}
	for nick, g := range m.nicks {
		switch {
		case g.user != target:
		case want == "outcast", m.membersOnly && rank[want] < 1:
			m.out(nick)
		case g.role == "moderator" && rank[was] < 2 && rank[want] < 2:
		default:
			g.role = m.first(want)
		}
	}
}

func (m *model) configure(user string, moderated, membersOnly bool) {
	if m.affiliation(user) != "owner" {
		return
	}
	changed := m.moderated != moderated
	if m.moderated, m.membersOnly = moderated, membersOnly; changed {
		clear(m.voices)
	}
	for nick, g := range m.nicks {
		switch a := m.affiliation(g.user); {
		case membersOnly && rank[a] < 1:
			m.out(nick)
		case changed && a == "none" && g.role != "moderator":
			g.role = m.first(a)
		}
	}
}

// client is what one session makes of what it is sent, as a client does.
type client struct {
	nick  string
	room  map[string]string // affiliation and role by nick; nil: it isn't there
	heard []string
}

func (c *client) read(list []*stanza.Stanza) {
	for _, st := range list {
		x := st.Child(xep.NSMUCUser, "x")
		item := x.Child(xep.NSMUCUser, "item")
		code := func(n string) bool {
			for el := range x.Children() {
				if el.Local() == "status" && el.Attr("code") == n {
					return true
				}
			}
			return false
		}
		nick := st.From.Resource()
		switch {
		case st.Type == stanza.TypeError:
		case st.Kind == stanza.Message && !st.Child(stanza.NSClient, "body").IsZero():
			c.heard = append(c.heard, st.Child(stanza.NSClient, "body").Text())
		case st.Kind != stanza.Presence:
		case st.Type == stanza.TypeUnavailable:
			delete(c.room, nick)
			if code("110") {
				if c.nick = item.Attr("nick"); !code("303") {
					c.room = nil
				}
			}
		default:
			if c.room == nil {
				c.room = map[string]string{}
			}
			c.room[nick] = item.Attr("affiliation") + " " + item.Attr("role")
			if code("110") {
				c.nick = nick
			}
		}
	}
}

var modelRooms atomic.Uint64

// TestModel: random histories leave the room, as each of its clients sees it, in the
// state of the model, and each client has heard the same messages. Run it with
// -rapid.checks=10000 for what issue 7 asks.
func TestModel(t *testing.T) {
	w := newWorld(t, nil)
	sessions := []string{"a@example/1", "a@example/2", "b@example/1", "c@example/1", "d@example/1"}
	nicks := []string{"Ada", "Bob", "Cleo", "Dan", "Eve"}
	affiliations := []string{"outcast", "none", "member", "admin", "owner"}
	roles := []string{"none", "visitor", "participant", "moderator"}
	rapid.Check(t, func(rt *rapid.T) {
		name := fmt.Sprintf("r%d", modelRooms.Add(1))
		m := &model{affiliations: map[string]string{"a@example": "owner"}, nicks: map[string]*guest{}, voices: map[string]string{}, sessions: map[string]string{}, heard: map[string][]string{}}
		clients := map[string]*client{}
		for _, s := range sessions {
			clients[s] = &client{}
		}
		w.join(sessions[0], name, nicks[0])
		w.open(sessions[0], name, "persistentroom", "1")
		m.join(sessions[0], "a@example", nicks[0])
		for i := range rapid.IntRange(1, 30).Draw(rt, "steps") {
			session := rapid.SampledFrom(sessions).Draw(rt, "session")
			user := jid.MustParse(session).Bare().String()
			to := name + "@rooms.example"
			nick := rapid.SampledFrom(nicks).Draw(rt, "nick")
			admin := func(item string) {
				w.send(session, fmt.Sprintf("<iq type='set' id='i' to='%s'><query xmlns='%s'>%s</query></iq>", to, xep.NSMUCAdmin, item))
			}
			switch rapid.SampledFrom([]string{"join", "join", "join", "leave", "say", "say", "role", "role", "affiliation", "affiliation", "configure"}).Draw(rt, "action") {
			case "join":
				w.join(session, name, nick)
				m.join(session, user, nick)
			case "leave":
				w.send(session, "<presence type='unavailable' to='"+to+"/x'/>")
				m.leave(session)
			case "say":
				text := fmt.Sprint(i)
				w.send(session, "<message type='groupchat' to='"+to+"'><body>"+text+"</body></message>")
				m.say(session, text)
			case "role":
				want := rapid.SampledFrom(roles).Draw(rt, "role")
				admin(fmt.Sprintf("<item nick='%s' role='%s'/>", nick, want))
				m.setRole(session, user, nick, want)
			case "affiliation":
				want := rapid.SampledFrom(affiliations).Draw(rt, "affiliation")
				target := jid.MustParse(rapid.SampledFrom(sessions).Draw(rt, "target")).Bare().String()
				admin(fmt.Sprintf("<item jid='%s' affiliation='%s'/>", target, want))
				m.setAffiliation(user, target, want)
			case "configure":
				moderated, members := rapid.Bool().Draw(rt, "moderated"), rapid.Bool().Draw(rt, "members")
				w.open(session, name, "moderatedroom", boolText(moderated), "membersonly", boolText(members))
				m.configure(user, moderated, members)
			}
			for _, s := range sessions {
				clients[s].read(w.take(s))
				m.check(rt, s, clients[s])
			}
		}
		if got := w.archive(name); !slices.Equal(got, m.said) {
			rt.Fatalf("the archive has %v, the model %v", got, m.said)
		}
	})
}

// archive is the bodies in a room's archive.
func (w *world) archive(name string) (bodies []string) {
	row, err := w.hub.cfg.Store.LoadRoom(w.t.Context(), jid.MustParse(name+"@rooms.example"))
	if err != nil {
		w.t.Fatal(err)
	}
	_, err = w.hub.cfg.Store.Archive(w.t.Context(), store.ArchiveQuery{Account: row.ID, Max: 1000}, func(m store.ArchivedMessage) error {
		bodies = append(bodies, parseOwn(m.Stanza).Child(stanza.NSClient, "body").Text())
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return bodies
}

func (m *model) check(t *rapid.T, session string, c *client) {
	nick, here := m.sessions[session]
	if here != (c.room != nil) || here && c.nick != nick {
		t.Fatalf("%s takes itself for %q in %v; the model: %q, %v", session, c.nick, c.room, nick, here)
	}
	if here {
		want := map[string]string{}
		for n, g := range m.nicks {
			want[n] = m.affiliation(g.user) + " " + g.role
		}
		if !maps.Equal(c.room, want) {
			t.Fatalf("%s sees %v, the model has %v", session, c.room, want)
		}
	}
	if !slices.Equal(c.heard, m.heard[session]) {
		t.Fatalf("%s heard %v, in the model %v", session, c.heard, m.heard[session])
	}
}
