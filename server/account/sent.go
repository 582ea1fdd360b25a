package account

import (
	"hash/maphash"
	"time"

	"carillon.im/server/route"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// sentLog remembers the last messages that an account's sessions sent: errors
// that answer them are routed as they were (R-FEED-2, XEP-0280 6.1), and one
// that a client sends again, because it never learned that the first was
// taken, is known (R-DUP-1).
type sentLog struct {
	list []sentMessage
	next int // the oldest, once the list is full
}

// maxSent is how many messages are remembered. It is more than a session may
// have in flight, so all that a client can't know to be taken is there.
const maxSent = 256

// againFor is how long a message that comes once more is taken for the same.
const againFor = time.Hour

type sentMessage struct {
	key      uint64 // of the id and whom it was sent to
	content  uint64 // of all that makes it the same message; 0: it isn't archived, or the client doesn't count
	at       int64  // seconds since 1970
	session  uint32 // serial number of the session that sent it; 0: before the server was started
	one      bool   // it was exclusive
	copied   bool   // XEP-0280 finds it eligible
	complete bool   // the client closed that session's stream: it knows what was taken
}

func (l *sentLog) add(m sentMessage) {
	if len(l.list) < maxSent {
		l.list = append(l.list, m)
		return
	}
	l.list[l.next] = m
	l.next = (l.next + 1) % maxSent
}

// find is the newest message with the key that fits.
func (l *sentLog) find(key uint64, fits func(*sentMessage) bool) *sentMessage {
	for n := len(l.list); n > 0; n-- {
		if m := &l.list[(l.next+n-1)%len(l.list)]; m.key == key && fits(m) {
			return m
		}
	}
	return nil
}

// closed notes that a session's client ended its stream.
func (l *sentLog) closed(session uint32) {
	for i := range l.list {
		if l.list[i].session == session {
			l.list[i].complete = true
		}
	}
}

// messageKey is the key of a message with an id that is exchanged with peer.
func (s *State) messageKey(id, peer string) uint64 {
	var h maphash.Hash
	h.SetSeed(s.cfg.hub.seed)
	h.WriteString(id)
	h.WriteByte(0)
	h.WriteString(peer)
	return h.Sum64()
}

// contentOf tells messages apart that bear the same id. What the server adds to
// an archived one doesn't count, nor does the note that it was delayed, which
// some clients add to what they send again (XEP-0203 4).
func (s *State) contentOf(st *stanza.Stanza) uint64 {
	var h maphash.Hash
	h.SetSeed(s.cfg.hub.seed)
	h.WriteString(st.Type)
	h.WriteByte(0)
	h.WriteString(st.To.String())
	h.WriteByte(0)
	h.WriteString(st.InnerWithout(func(el xmltree.Element) bool {
		return xep.IsStanzaIDBy(el, s.jid) || el.Is(xep.NSDelay, "delay")
	}))
	return h.Sum64() | 1 // not 0
}

// noteSent remembers a message of one of the account's sessions.
func (s *State) noteSent(st *stanza.Stanza, x *session, d *route.Decision, now time.Time) {
	if st.ID == "" || st.Type == stanza.TypeError {
		return
	}
	m := sentMessage{key: s.messageKey(st.ID, st.To.Bare().String()), at: now.Unix(), session: x.serial,
		one: d.Intent == route.Exclusive, copied: s.facts.Message.Copied()}
	if d.Archive && x.counts() {
		m.content = s.contentOf(st)
	}
	s.sent.add(m)
}

// notSent forgets that a message was kept, which wasn't: it may come again.
func (s *State) notSent(st *stanza.Stanza, x *session) {
	if st.ID == "" || len(s.sent.list) == 0 {
		return
	}
	content := s.contentOf(st)
	if m := s.sent.find(s.messageKey(st.ID, st.To.Bare().String()), func(m *sentMessage) bool { return m.session == x.serial && m.content == content }); m != nil {
		m.content = 0
	}
}

// sentBefore reports whether a message is one that the account sent already:
// the same id, the same content, by a session that lost its connection or that
// was there before the server's start, while this one is of a client that
// counts what the server takes (XEP-0198).
func (s *State) sentBefore(st *stanza.Stanza, x *session, now time.Time) bool {
	if st.ID == "" || len(s.sent.list) == 0 || !x.counts() {
		return false
	}
	content := uint64(0)
	return s.sent.find(s.messageKey(st.ID, st.To.Bare().String()), func(m *sentMessage) bool {
		if m.content == 0 || m.complete || m.session == x.serial || now.Unix()-m.at > int64(againFor/time.Second) {
			return false
		}
		for _, y := range s.sessions {
			if y.serial == m.session && y.detachedAt.IsZero() {
				return false // it is there still, and another device
			}
		}
		if content == 0 {
			content = s.contentOf(st)
		}
		return m.content == content
	}) != nil
}

// answersSent tells what an error from elsewhere answers.
func (s *State) answersSent(st *stanza.Stanza, f *route.Facts) {
	if f.Message.Type != route.Error || st.ID == "" || len(s.sent.list) == 0 {
		return
	}
	m := s.sent.find(s.messageKey(st.ID, st.From.Bare().String()), func(*sentMessage) bool { return true })
	if m != nil {
		f.AnswersOne, f.AnswersCopied = m.one, m.copied
	}
}

// refill reads the log of what was sent shortly before the server was started:
// clients that lost their connections then send again what they can't know to
// be archived.
func (s *State) refill(archived [][]byte) {
	for _, b := range archived {
		st := parseOwn(b)
		if st == nil || st.From.Bare() != s.jid || st.ID == "" {
			continue
		}
		m := route.Inspect(st)
		s.sent.add(sentMessage{key: s.messageKey(st.ID, st.To.Bare().String()), content: s.contentOf(st),
			at: s.cfg.hub.started.Unix(), copied: m.Copied()})
	}
}

// counts reports whether the session's client counts what the server takes.
func (x *session) counts() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.out.Enabled()
}

// origin is where the border sees the session's messages come from. The loop's.
func (x *session) origin() route.Origin {
	if x.profile == route.V2 {
		return route.FromV2Session
	}
	return route.FromSession
}
