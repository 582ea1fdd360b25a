package convo

import (
	"slices"
	"strings"
	"time"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// maxRequests bounds those of each kind that wait for the person; at the bound
// new ones are dropped. maxDeclines bounds who won't come; the oldest go. maxReason
// bounds what is kept of a reason, in bytes.
const (
	maxRequests = 64
	maxDeclines = 16
	maxReason   = 1023
)

// Request is something that somebody asks of the person: to see the account's
// presence (RFC 6121 3.1.3), or to come into a room (XEP-0249, XEP-0045 7.8).
type Request struct {
	From     jid.JID   // who asks: bare, or an occupant
	Room     jid.JID   // bare; zero where From asks for the presence
	Reason   string    // in the words of who asks
	Mediated bool      // the room has passed it on, and takes a refusal
	Password string    `json:"-"` // of the room; in no store
	At       time.Time // when it was asked
}

// Decline is what a room says of somebody who was invited through it: he won't come
// (XEP-0045 7.8.2).
type Decline struct {
	From    jid.JID // who won't: his address, or an occupant's; the room's where it doesn't say
	Room    jid.JID // bare
	Reason  string  // in his words
	At      time.Time
	archive ArchiveID
}

// Declines are those of late, the oldest first; they are not kept over restarts. Who
// has invited is not known here, only in which rooms the account is: others there can
// say that they won't come though nobody has asked them.
func (e *Engine) Declines() []Decline { return slices.Clone(e.declines) }

// Requests are those that wait for an answer, the oldest first. Invitations are
// kept over restarts; who wants to see the account's presence is told again by
// the server.
func (e *Engine) Requests() []Request { return slices.Clone(e.account.Requests) }

// Answered is an event of the person's: a request has got an answer, which the
// engine sends where a room waits for a refusal. From is who asked, Room the
// zero address for presence.
type Answered struct {
	From, Room jid.JID
	Yes        bool
}

// Entering says that the account is about to enter a room: who is in it will
// come before Room says that it has.
type Entering struct{ JID jid.JID }

// Requested is an effect: Requests or Declines are others now.
type Requested struct{}

func (Answered) event()   {}
func (Entering) event()   {}
func (Requested) effect() {}

// answered forgets a request that the person has answered.
func (e *Engine) answered(ev Answered) {
	for _, r := range e.account.Requests {
		if r.From != ev.From || r.Room != ev.Room {
			continue
		}
		if r.Mediated && !ev.Yes && e.online {
			w := xmltree.NewWriter(nil, stanza.NSClient) // XEP-0045 7.8.2
			w.Start(xep.NSMUCUser, "x").Start(xep.NSMUCUser, "decline").Attr("to", r.From.String()).End().End()
			e.do(Send{Stanza: stanza.Build(stanza.Message, stanza.TypeNormal, e.cfg.NewID(), jid.JID{}, r.Room, w.String())})
		}
	}
	e.forget(func(r Request) bool { return r.From == ev.From && r.Room == ev.Room })
}

// forget drops requests.
func (e *Engine) forget(which func(Request) bool) {
	have := len(e.account.Requests)
	e.account.Requests = slices.DeleteFunc(slices.Clone(e.account.Requests), which)
	if len(e.account.Requests) != have {
		e.asked()
	}
}

// asked says that the requests are others: to the store, and to who shows them.
func (e *Engine) asked() {
	e.record = true
	e.do(Requested{})
}

// wants takes a request to see the account's presence (RFC 6121 3.1.3).
func (e *Engine) wants(st *stanza.Stanza) {
	from := st.From.Bare()
	if st.Type != stanza.TypeSubscribe || from == e.cfg.Account || from.IsZero() || e.contacts[from].Trusted {
		return
	}
	e.request(Request{From: detach(from), Reason: clip(st.Child(stanza.NSClient, "status").Text(), maxReason), At: e.now})
}

// request keeps a request, in the place of the same one before.
func (e *Engine) request(r Request) {
	same := 0
	for i, have := range e.account.Requests {
		if have.From == r.From && have.Room == r.Room {
			r.At = have.At // it is no newer
			e.account.Requests = slices.Clone(e.account.Requests)
			e.account.Requests[i] = r
			e.asked()
			return
		}
		if have.Room.IsZero() == r.Room.IsZero() {
			same++
		}
	}
	if same < maxRequests {
		e.account.Requests = append(slices.Clip(e.account.Requests), r)
		e.asked()
	}
}

// invitation takes an invitation into a room, or that somebody declines one, which
// is no message of a conversation, and reports whether a message was one. What the
// archive says of older times was answered then: it counts where it was missed.
func (e *Engine) invitation(m message) bool {
	if m.st.Type == stanza.TypeGroupchat {
		return false
	}
	x := m.st.Child(xep.NSMUCUser, "x")
	if m.own {
		if !x.Child(xep.NSMUCUser, "decline").IsZero() { // on another device
			e.forget(func(r Request) bool { return r.Room == m.st.To.Bare() && r.Mediated })
		}
		return false
	}
	decline := x.Child(xep.NSMUCUser, "decline")
	r, invites := readInvitation(m.st, x)
	if !invites && (decline.IsZero() || !isRoom(m.st.From)) {
		return false
	}
	if m.way != archive {
		m.archive = e.archiveOf(m.st, e.cfg.Account, false)
	}
	e.moveCursor(m)
	missed := m.way != archive || m.query == nil && e.Cursor() != "" || m.query != nil && !m.query.back && m.query.After != ""
	switch {
	case !missed:
	case !invites:
		e.declined(m, decline)
	case e.rooms[r.Room] == nil:
		r.At = m.at
		e.request(r)
	}
	return true
}

// declined notes that somebody won't come into a room in which the account is.
func (e *Engine) declined(m message, decline xmltree.Element) {
	if e.rooms[m.st.From] == nil || m.archive.ID != "" && slices.ContainsFunc(e.declines, func(d Decline) bool { return d.archive == m.archive }) {
		return
	}
	if len(e.declines) >= maxDeclines {
		e.declines = slices.Delete(e.declines, 0, 1)
	}
	room := detach(m.st.From)
	e.declines = append(e.declines, Decline{From: whoOr(room, decline), Room: room, Reason: reasonOf(decline.Child(xep.NSMUCUser, "reason").Text()), At: m.at, archive: m.archive})
	e.do(Requested{})
}

// isRoom reports whether an address can be a room's.
func isRoom(j jid.JID) bool { return j.IsBare() && j.Local() != "" }

// whoOr is who invites or declines, the room where it doesn't say.
func whoOr(room jid.JID, el xmltree.Element) jid.JID {
	from, err := jid.Parse(el.Attr("from"))
	if err != nil {
		return room
	}
	return detach(from)
}

// readInvitation reads one that the room has passed on (XEP-0045 7.8.2), or that
// came straight from who invites (XEP-0249 2).
func readInvitation(st *stanza.Stanza, x xmltree.Element) (Request, bool) {
	direct := st.Child(xep.NSConference, "x")
	if invite := x.Child(xep.NSMUCUser, "invite"); !invite.IsZero() && isRoom(st.From) {
		room := detach(st.From)
		return Request{From: whoOr(room, invite), Room: room, Mediated: true, Reason: reasonOf(invite.Child(xep.NSMUCUser, "reason").Text()),
			Password: clip(x.Child(xep.NSMUCUser, "password").Text(), maxReason)}, true
	}
	room, err := jid.Parse(direct.Attr("jid"))
	if direct.IsZero() || err != nil || !isRoom(room) || st.From.IsZero() {
		return Request{}, false
	}
	return Request{From: detach(st.From.Bare()), Room: detach(room), Reason: reasonOf(direct.Attr("reason")), Password: clip(direct.Attr("password"), maxReason)}, true
}

// reasonOf is what is kept of a reason: its beginning, if it is long.
func reasonOf(s string) string {
	if len(s) > maxReason {
		s = strings.ToValidUTF8(s[:maxReason], "")
	}
	return strings.Clone(s)
}

// Invite is an invitation into a room that the room passes on, so that it may
// let a newcomer in where only members are (XEP-0045 7.8.2, 9.3).
func Invite(id string, room, whom jid.JID, reason string) *stanza.Stanza {
	w := xmltree.NewWriter(nil, stanza.NSClient)
	w.Start(xep.NSMUCUser, "x").Start(xep.NSMUCUser, "invite").Attr("to", whom.Bare().String())
	if reason != "" {
		w.Start(xep.NSMUCUser, "reason").Text(reason).End()
	}
	w.End().End()
	return stanza.Build(stanza.Message, stanza.TypeNormal, id, jid.JID{}, room.Bare(), w.String())
}
