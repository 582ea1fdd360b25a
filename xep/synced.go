package xep

import (
	"strconv"
	"strings"

	"carillon.im/jid"
	"carillon.im/stanza"
)

// SyncQueryID is the 'queryid' of the archived messages that a session request
// asked for.
const SyncQueryID = "session"

// Synced ends what a session request asked to catch up with (docs/ext, S-1): what
// comes behind it is live.
type Synced struct {
	Room  jid.JID // of which room's archive; zero: of the account's
	First string  // archive ids of what was sent; "" if nothing was
	Last  string
	Count int
	// Complete says that nothing is missing between where the client stopped and
	// First. If not, older messages are to be had from the archive, before First.
	Complete bool
}

// AppendSynced appends the payload of the message that ends the catch-up.
func AppendSynced(dst []byte, s Synced) []byte {
	dst = append(dst, "<synced xmlns='"+NSXMPP2+"'"...)
	if !s.Room.IsZero() {
		dst = appendAttr(dst, "room", s.Room.String())
	}
	dst = appendAttr(dst, "complete", strconv.FormatBool(s.Complete))
	dst = appendAttr(dst, "first", s.First)
	dst = appendAttr(dst, "last", s.Last)
	return append(appendAttr(dst, "count", strconv.Itoa(s.Count)), "/>"...)
}

// ParseSynced finds what AppendSynced wrote in a message. The caller checks that
// the message is from its own account, or from the room.
func ParseSynced(st *stanza.Stanza) (s Synced, ok bool) {
	el := st.Child(NSXMPP2, "synced")
	if el.IsZero() {
		return s, false
	}
	s.Complete = el.Attr("complete") == "true"
	s.First, s.Last = strings.Clone(el.Attr("first")), strings.Clone(el.Attr("last"))
	count, err := strconv.Atoi(el.Attr("count"))
	if err != nil || count < 0 {
		return Synced{}, false
	}
	s.Count = count
	if room, is := el.LookupAttr("", "room"); is {
		if s.Room, err = jid.Parse(room); err != nil {
			return Synced{}, false
		}
	}
	return s, true
}
