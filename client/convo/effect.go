package convo

import (
	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// Effect is something to do: one of the types of this file. Effects are done
// in their order.
type Effect interface{ effect() }

type (
	// Send is a stanza to send in this session. A message of the person's has
	// its entry's id; the others have none.
	Send struct {
		Stanza *stanza.Stanza
		Entry  EntryID
	}
	// Query asks an archive (XEP-0313). Its results are Received, its end is
	// QueryDone; one that can't be sent is QueryDone with Failed.
	Query struct {
		ID     string  // queryid, and what QueryDone repeats
		By     jid.JID // whose archive: the account's, or a room's
		With   jid.JID // zero: everybody
		After  string  // what is behind this archive id
		Before string  // what is before it; newest page first
		Last   bool    // the newest page, before Before or of all
		Max    int     // results in a page
	}
	// LoadHistory asks the store for entries before a position: HistoryLoaded.
	LoadHistory struct {
		Conversation jid.JID
		Before       int64 // Entry.Pos
		Max          int
	}
	// Persist are changes for the store, to be written in one transaction before
	// the effects behind it are done.
	Persist struct{ Writes []Write }
	// Changed says what of the view is another now. Entries are in no order;
	// All means that others may have changed too.
	Changed struct {
		Conversation jid.JID
		Version      uint64 // View.Version from now on
		Entries      []EntryID
		All          bool
	}
	// RefreshPresence asks for the session's presence to be sent again: after
	// overall inactivity contacts unlock by it (LOCK-17).
	RefreshPresence struct{}
	// Refused says that a message of the person's isn't taken: as many as may be
	// wait in the conversation to be sent.
	Refused struct{ Conversation jid.JID }
)

func (Send) effect()            {}
func (Query) effect()           {}
func (LoadHistory) effect()     {}
func (Persist) effect()         {}
func (Changed) effect()         {}
func (RefreshPresence) effect() {}
func (Refused) effect()         {}

// IQ is the query as a stanza with an id of the caller's (XEP-0313 4.1).
func (q Query) IQ(id string) *stanza.Stanza {
	payload := xep.AppendMAMQuery(nil, xep.MAMQuery{ID: q.ID, With: q.With,
		Page: xep.RSM{Max: q.Max, After: q.After, Before: q.Before, Last: q.Last || q.Before != ""}})
	return stanza.Build(stanza.IQ, stanza.TypeSet, id, jid.JID{}, q.By, string(payload))
}

func field(w *xmltree.Writer, name, value string) {
	w.Start(xep.NSForm, "field").Attr("var", name)
	if name == "FORM_TYPE" {
		w.Attr("type", "hidden")
	}
	w.Start(xep.NSForm, "value").Text(value).End().End()
}

// Done reads the answer to the query's IQ.
func (q Query) Done(answer *stanza.Stanza) QueryDone {
	d := QueryDone{Query: q.ID}
	fin, ok := xep.ParseMAMFin(answer.Child(xep.NSMAM, "fin"))
	if answer.Type != stanza.TypeResult || !ok {
		d.Failed = true
		e := answer.ParseError()
		d.Unknown = e != nil && e.Condition == stanza.ItemNotFound
		return d
	}
	d.Complete, d.First, d.Last = fin.Complete, clip(fin.First, maxID), clip(fin.Last, maxID)
	return d
}
