package xep

import (
	"strconv"
	"strings"
	"time"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// Bounds of a session request.
const (
	MaxSessionParts = 128     // further ones are refused, each by itself, up to twice as many, and then ignored
	MaxSyncMessages = 1 << 20 // of 'max'
	MaxSyncLast     = 10 * 366 * 24 * time.Hour
	maxArchiveID    = 256 // bytes
	maxRosterVer    = 256
	maxRoomText     = 256
	maxRoomPassword = 256
)

// SessionPart says what one part of a session request is for: the name of its
// element.
type SessionPart string

// The parts of a session request.
const (
	SessionSync     SessionPart = "sync"     // catch up with the archive
	SessionRoster   SessionPart = "roster"   // the roster as XEP-0237 would push it
	SessionPresence SessionPart = "presence" // initial presence
	SessionJoin     SessionPart = "join"     // enter a room
	SessionAutojoin SessionPart = "autojoin" // enter the rooms whose bookmarks say so (XEP-0402)
)

// SessionRequest is what a device asks for to be up to date (XMPP 2.0; S-1): in
// the client's order, for the answer names every part in it. Parts that are
// malformed carry an error and fail alone (S-4).
type SessionRequest struct {
	Parts []SessionAsk
}

// SessionAsk is one part of a request. Which fields count is said by Part; none
// but Part and Room does if Err is set.
type SessionAsk struct {
	Part     SessionPart
	Sync     *Sync          // SessionSync; SessionJoin and SessionAutojoin: nil if nothing is to be caught up with
	Ver      string         // SessionRoster: the version that the client has, "" for none
	Presence *stanza.Stanza // SessionPresence, without 'from'
	Room     jid.JID        // SessionJoin: bare
	Nick     string         // SessionJoin, prepared
	Password string         // SessionJoin: the room's, "" for none
	RoomText string         // SessionJoin: 'room' as it came, at most 256 bytes of it, for the answer
	Err      *stanza.Error
}

// Sync says from where to catch up. If neither After, Start nor Last is set, from
// where the device stopped by the server's cursor (S-10).
type Sync struct {
	After string        // an archive id, exclusive
	Start time.Time     // inclusive
	Last  time.Duration // so far back
	Max   int           // newest messages at most; 0 is no wish
}

// First returns the first valid part of the kind, nil for none.
func (r *SessionRequest) First(part SessionPart) *SessionAsk {
	for i := range r.Parts {
		if r.Parts[i].Part == part && r.Parts[i].Err == nil {
			return &r.Parts[i]
		}
	}
	return nil
}

// ParseSessionRequest reads <session/>. Elements that it doesn't know are ignored.
func ParseSessionRequest(el xmltree.Element) *SessionRequest {
	r := &SessionRequest{}
	for c := range el.Children() {
		ask := SessionAsk{Part: SessionPart(strings.Clone(c.Local()))}
		switch {
		case c.Is(NSXMPP2, "sync"):
			ask.Sync, ask.Err = ParseSync(c)
		case c.Is(NSXMPP2, "roster"):
			if ask.Ver = strings.Clone(c.Attr("ver")); len(ask.Ver) > maxRosterVer {
				ask.Ver, ask.Err = "", badRequest("the version is too long")
			}
		case c.Is(stanza.NSClient, "presence"):
			ask.Presence, ask.Err = parseInitialPresence(c)
		case c.Is(NSXMPP2, "join"):
			parseJoin(c, &ask)
		case c.Is(NSXMPP2, "autojoin"):
			if sync := c.Child(NSXMPP2, "sync"); !sync.IsZero() {
				ask.Sync, ask.Err = ParseSync(sync)
			}
		default:
			continue
		}
		if ask.Err == nil && ask.Part != SessionJoin && r.First(ask.Part) != nil {
			ask.Err = badRequest("asked for twice")
		}
		if ask.Err == nil && ask.Part == SessionJoin && r.joins(ask.Room) {
			ask.Err = badRequest("the same room twice")
		}
		if len(r.Parts) >= MaxSessionParts {
			if len(r.Parts) >= 2*MaxSessionParts {
				break
			}
			ask.Err = stanza.NewError(stanza.PolicyViolation, "too much in one request")
		}
		r.Parts = append(r.Parts, ask)
	}
	return r
}

func (r *SessionRequest) joins(room jid.JID) bool {
	for i := range r.Parts {
		if r.Parts[i].Part == SessionJoin && r.Parts[i].Room == room {
			return true
		}
	}
	return false
}

// ParseSync reads <sync/>.
func ParseSync(el xmltree.Element) (*Sync, *stanza.Error) {
	s := &Sync{After: strings.Clone(el.Attr("after"))}
	given := 0
	for _, name := range []string{"after", "start", "last"} {
		if _, ok := el.LookupAttr("", name); ok {
			given++
		}
	}
	if given > 1 {
		return nil, badRequest("more than one of after, start and last")
	}
	if after, ok := el.LookupAttr("", "after"); ok && (after == "" || len(after) > maxArchiveID) {
		return nil, badRequest("after is not an archive id")
	}
	var err error
	if v, ok := el.LookupAttr("", "start"); ok {
		if s.Start, err = ParseDateTime(v); err != nil {
			return nil, badRequest("start is not a DateTime")
		}
	}
	if v, ok := el.LookupAttr("", "last"); ok {
		if s.Last, ok = parseDuration(v); !ok {
			return nil, badRequest("last is not a duration of days, hours, minutes and seconds")
		}
	}
	if v, ok := el.LookupAttr("", "max"); ok {
		n, err := strconv.ParseUint(strings.TrimSpace(v), 10, 31)
		if err != nil || n == 0 {
			return nil, badRequest("max is not a positive number")
		}
		s.Max = int(min(n, MaxSyncMessages))
	}
	return s, nil
}

// parseDuration reads those of xs:duration that have a fixed length: PnDTnHnMnS,
// whole numbers only.
func parseDuration(v string) (time.Duration, bool) {
	rest, ok := strings.CutPrefix(v, "P")
	if !ok || len(v) > 40 {
		return 0, false
	}
	days, clock, timed := strings.Cut(rest, "T")
	units := []struct {
		name byte
		unit time.Duration
	}{{'H', time.Hour}, {'M', time.Minute}, {'S', time.Second}}
	total, any := time.Duration(0), false
	take := func(s string, name byte, unit time.Duration) (string, bool) {
		i := strings.IndexByte(s, name)
		if i < 0 {
			return s, true
		}
		n, err := strconv.ParseUint(s[:i], 10, 31)
		if err != nil || time.Duration(n) > MaxSyncLast/unit {
			return s, false
		}
		total, any = total+time.Duration(n)*unit, true
		return s[i+1:], true
	}
	if days, ok = take(days, 'D', 24*time.Hour); !ok || days != "" || timed && clock == "" {
		return 0, false
	}
	for _, u := range units {
		if clock, ok = take(clock, u.name, u.unit); !ok {
			return 0, false
		}
	}
	return total, any && clock == "" && total > 0 && total <= MaxSyncLast
}

func appendDuration(dst []byte, d time.Duration) []byte {
	return append(strconv.AppendInt(append(dst, "PT"...), int64(d/time.Second), 10), 'S')
}

// parseInitialPresence reads the presence that a session begins with: available,
// and to nobody in particular (RFC 6121 4.2).
func parseInitialPresence(el xmltree.Element) (*stanza.Stanza, *stanza.Error) {
	st, err := stanza.Parse(el)
	if err != nil {
		e, _ := stanza.AsError(err)
		return nil, e
	}
	if st.Type != "" || !st.To.IsZero() {
		return nil, badRequest("not an initial presence")
	}
	st.From = jid.JID{}
	// Parsed again by itself: it may be kept for as long as the session lives, and
	// must not keep the whole request.
	if st, err = stanza.ParseBytes(st.AppendTo(nil), xmltree.Limits{}); err != nil {
		e, _ := stanza.AsError(err)
		return nil, e
	}
	return st, nil
}

func parseJoin(el xmltree.Element, ask *SessionAsk) {
	room := strings.Clone(el.Attr("room"))
	ask.RoomText = strings.ToValidUTF8(room[:min(len(room), maxRoomText)], "")
	bare, err := jid.Parse(room)
	if err != nil || !bare.IsBare() || bare.Local() == "" {
		ask.Err = stanza.NewError(stanza.JIDMalformed, "room is not a room's address")
		return
	}
	full, err := bare.WithResource(el.Attr("nick"))
	if err != nil || full.Resource() == "" {
		ask.Err = stanza.NewError(stanza.JIDMalformed, "nick is not a nickname")
		return
	}
	ask.Room, ask.Nick = bare, strings.Clone(full.Resource())
	if ask.Password = el.Child(NSXMPP2, "password").Text(); len(ask.Password) > maxRoomPassword {
		ask.Password, ask.Err = "", badRequest("the password is too long")
		return
	}
	if sync := el.Child(NSXMPP2, "sync"); !sync.IsZero() {
		ask.Sync, ask.Err = ParseSync(sync)
	}
}

// AppendSessionRequest appends <session/>; parts with an error are left out.
func AppendSessionRequest(dst []byte, r *SessionRequest) []byte {
	dst = append(dst, "<session xmlns='"+NSXMPP2+"'>"...)
	content := len(dst)
	for i := range r.Parts {
		switch ask := &r.Parts[i]; {
		case ask.Err != nil:
		case ask.Part == SessionSync:
			dst = AppendSync(dst, ask.Sync)
		case ask.Part == SessionRoster:
			dst = append(appendOptAttr(append(dst, "<roster"...), "ver", ask.Ver), "/>"...)
		case ask.Part == SessionPresence:
			dst = AppendStanza(dst, ask.Presence.AppendTo(nil))
		case ask.Part == SessionJoin:
			dst = appendAttr(append(dst, "<join"...), "room", ask.Room.String())
			dst = append(appendAttr(dst, "nick", ask.Nick), '>')
			inner := len(dst)
			if ask.Password != "" {
				dst = appendElement(dst, "", "password", ask.Password)
			}
			if ask.Sync != nil {
				dst = AppendSync(dst, ask.Sync)
			}
			dst = appendEnd(dst, inner, "join")
		case ask.Part == SessionAutojoin:
			dst = append(dst, "<autojoin>"...)
			inner := len(dst)
			if ask.Sync != nil {
				dst = AppendSync(dst, ask.Sync)
			}
			dst = appendEnd(dst, inner, "autojoin")
		}
	}
	return appendEnd(dst, content, "session")
}

// AppendSync appends <sync/>, inside an element of the same namespace.
func AppendSync(dst []byte, s *Sync) []byte {
	dst = appendOptAttr(append(dst, "<sync"...), "after", s.After)
	if !s.Start.IsZero() {
		dst = append(AppendDateTime(append(dst, " start='"...), s.Start), '\'')
	}
	if s.Last > 0 {
		dst = append(appendDuration(append(dst, " last='"...), s.Last), '\'')
	}
	if s.Max > 0 {
		dst = appendAttr(dst, "max", strconv.Itoa(s.Max))
	}
	return append(dst, "/>"...)
}

// RoomJoin is what presence to a room holds beside XEP-0045's <x/> from a client, or
// for it from its server, that is told what it missed: Sync says from where, nil that
// nothing is wanted. A room that isn't there isn't made by it.
type RoomJoin struct{ Sync *Sync }

// ParseRoomJoin reads <join/> in presence, nil if there is none.
func ParseRoomJoin(st *stanza.Stanza) (*RoomJoin, *stanza.Error) {
	el := st.Child(NSXMPP2, "join")
	if el.IsZero() {
		return nil, nil
	}
	sync := el.Child(NSXMPP2, "sync")
	if sync.IsZero() {
		return &RoomJoin{}, nil
	}
	s, err := ParseSync(sync)
	if err != nil {
		return nil, err
	}
	return &RoomJoin{s}, nil
}

// AppendRoomJoin appends what enters a room: <x/> of XEP-0045, with the history that
// a room gives which knows that alone, and <join/>.
func AppendRoomJoin(dst []byte, password string, j RoomJoin) []byte {
	dst = append(dst, "<x xmlns='"+NSMUC+"'>"...)
	content := len(dst)
	if password != "" {
		dst = appendElement(dst, "", "password", password)
	}
	switch s := j.Sync; {
	case s == nil:
		dst = append(dst, "<history maxstanzas='0'/>"...)
	case !s.Start.IsZero():
		dst = append(AppendDateTime(append(dst, "<history since='"...), s.Start), "'/>"...)
	case s.Last > 0:
		dst = append(appendAttr(append(dst, "<history"...), "seconds", strconv.FormatInt(int64(s.Last/time.Second), 10)), "/>"...)
	}
	dst = append(appendEnd(dst, content, "x"), "<join xmlns='"+NSXMPP2+"'>"...)
	inner := len(dst)
	if j.Sync != nil {
		dst = AppendSync(dst, j.Sync)
	}
	return appendEnd(dst, inner, "join")
}

// SessionResult is what became of one part of a request.
type SessionResult struct {
	Part SessionPart
	Room string        // SessionJoin: 'room' as the client wrote it
	Err  *stanza.Error // nil: accepted
	// Rooms is SessionAutojoin's: which rooms are being entered, with what nicks.
	Rooms []jid.JID
}

// AppendSessionResult appends the <session/> inside <bound/>: every part of the
// request by its name, with a stanza's error in it if it was refused.
func AppendSessionResult(dst []byte, results []SessionResult) []byte {
	dst = append(dst, "<session xmlns='"+NSXMPP2+"'>"...)
	content := len(dst)
	for _, r := range results {
		dst = append(append(dst, '<'), r.Part...)
		dst = append(appendOptAttr(dst, "room", r.Room), '>')
		inner := len(dst)
		if r.Err != nil {
			dst = AppendStanza(dst, r.Err.AppendTo(nil))
		}
		for _, j := range r.Rooms {
			dst = appendAttr(append(dst, "<join"...), "room", j.Bare().String())
			dst = append(appendAttr(dst, "nick", j.Resource()), "/>"...)
		}
		dst = appendEnd(dst, inner, string(r.Part))
	}
	return appendEnd(dst, content, "session")
}

// ParseSessionResult reads the <session/> inside <bound/>.
func ParseSessionResult(el xmltree.Element) []SessionResult {
	var list []SessionResult
	for c := range el.Children() {
		if c.Space() != NSXMPP2 || len(list) >= 2*MaxSessionParts {
			continue
		}
		r := SessionResult{Part: SessionPart(strings.Clone(c.Local())), Room: strings.Clone(c.Attr("room"))}
		for e := range c.Children() {
			switch {
			case e.Is(stanza.NSClient, "error"):
				r.Err = stanza.NewError(errorCondition(e), "")
			case e.Is(NSXMPP2, "join") && len(r.Rooms) < MaxSessionParts:
				bare, err := jid.Parse(strings.Clone(e.Attr("room")))
				if err != nil {
					continue
				}
				if full, err := bare.WithResource(e.Attr("nick")); err == nil {
					r.Rooms = append(r.Rooms, full)
				}
			}
		}
		list = append(list, r)
	}
	return list
}
