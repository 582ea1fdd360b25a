package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// ArchivedMessage is a message as an archive keeps it (XEP-0313 4.2).
type ArchivedMessage struct {
	Archive jid.JID // whose: bare
	ID      string  // in it
	Stamp   time.Time
	Message *stanza.Stanza
	Stanza  *stanza.Stanza // the result as it came, the message in it
}

// ArchiveQuery says what Archive returns. The zero value is all that there is of
// the own account, oldest first.
type ArchiveQuery struct {
	Archive    jid.JID // zero: the own account's
	With       jid.JID // zero: everybody
	Start, End time.Time
	After      string // archive ids, exclusive
	Before     string
	Thread     string // docs/ext, mam-thread
	Newest     bool   // newest first
	PageSize   int    // messages that are asked for at once; default 50, at most 250
}

// Bounds of a page.
const (
	defaultPage  = 50
	maxPage      = 250
	maxPageBytes = 32 << 20
)

// ErrArchive is an archive's answer that can't be one: more than was asked for,
// or the same again.
var ErrArchive = errors.New("client: the archive doesn't answer what it is asked")

// Archive yields the messages of an archive, page by page, each fetched when the
// one before is used up. An error ends it; *stanza.Error is the archive's own,
// item-not-found for After and Before that it doesn't know. Messages that come
// meanwhile are events as ever.
func (c *Client) Archive(ctx context.Context, q ArchiveQuery) iter.Seq2[ArchivedMessage, error] {
	return func(yield func(ArchivedMessage, error) bool) {
		ask := xep.MAMQuery{With: q.With, Start: q.Start, End: q.End, Thread: q.Thread,
			Page: xep.RSM{Max: q.PageSize, After: q.After, Before: q.Before, Last: q.Newest}}
		if ask.Page.Max <= 0 {
			ask.Page.Max = defaultPage
		}
		ask.Page.Max = min(ask.Page.Max, maxPage)
		for {
			messages, fin, err := c.ArchivePage(ctx, q.Archive, ask)
			if err != nil {
				yield(ArchivedMessage{}, err)
				return
			}
			if q.Newest {
				slices.Reverse(messages)
			}
			for _, m := range messages {
				if !yield(m, nil) {
					return
				}
			}
			cursor, edge := &ask.Page.After, fin.Last
			if q.Newest {
				cursor, edge = &ask.Page.Before, fin.First
			}
			switch {
			case fin.Complete || edge == "":
				return
			case edge == *cursor:
				yield(ArchivedMessage{}, ErrArchive) // it would go on for ever
				return
			}
			*cursor = edge
		}
	}
}

// page collects the results of one query, under Client.mu.
type page struct {
	max      int
	messages []ArchivedMessage
	bytes    int
	over     bool // more came than was asked for
}

func (p *page) add(archive jid.JID, st *stanza.Stanza, el xmltree.Element) {
	if p.bytes += len(el.Raw()); p.over || len(p.messages) >= p.max || p.bytes > maxPageBytes {
		p.over = true
		return
	}
	m, ok := parseArchived(archive, st, el)
	if ok && !slices.ContainsFunc(p.messages, func(old ArchivedMessage) bool { return old.ID == m.ID }) { // a resumed session may bring it again
		p.messages = append(p.messages, m)
	}
}

// parseArchived reads a <result/>.
func parseArchived(archive jid.JID, st *stanza.Stanza, el xmltree.Element) (ArchivedMessage, bool) {
	inner, stamp, ok := xep.ParseForwarded(el.Child(xep.NSForward, "forwarded"))
	id := el.Attr("id")
	return ArchivedMessage{Archive: archive, ID: strings.Clone(id), Stamp: stamp, Message: inner, Stanza: st}, ok && id != ""
}

// ArchivePage asks an archive, the zero JID for the own account's, one question
// and returns the messages in the order in which they came, which is the
// archive's, at most 250. Without an ID, which is best not to be guessed, the
// question gets one.
func (c *Client) ArchivePage(ctx context.Context, archive jid.JID, ask xep.MAMQuery) ([]ArchivedMessage, xep.MAMFin, error) {
	var err error
	if ask.ID == "" {
		if ask.ID, err = c.newID(); err != nil {
			return nil, xep.MAMFin{}, err
		}
	}
	p := &page{max: maxPage}
	if ask.Page.Max >= 0 {
		p.max = min(ask.Page.Max, maxPage)
	}
	key := callKey{c.peer(archive), ask.ID}
	c.mu.Lock()
	used := c.queries[key] != nil || ask.ID == xep.SyncQueryID
	if !used {
		c.queries[key] = p
	}
	c.mu.Unlock()
	if used {
		return nil, xep.MAMFin{}, fmt.Errorf("client: the query id %q is in use", ask.ID)
	}
	defer func() {
		c.mu.Lock()
		delete(c.queries, key)
		c.mu.Unlock()
	}()
	st, err := c.ask(ctx, stanza.TypeSet, archive, string(xep.AppendMAMQuery(nil, ask)))
	if err != nil {
		return nil, xep.MAMFin{}, err
	}
	fin, ok := xep.ParseMAMFin(st.Child(xep.NSMAM, "fin"))
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.queries, key) // so that p is ours
	if !ok || p.over {
		return nil, xep.MAMFin{}, ErrArchive
	}
	return p.messages, fin, nil
}
