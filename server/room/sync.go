package room

import (
	"carillon.im/jid"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
)

// Who enters with <join/> of XMPP 2.0 may be told what he missed, from the archive
// (session.md). Until he has it he hears nothing that is archived, for it is read too:
// that he has caught up, and from when on he hears what is said, is one moment in
// the room's order, so there is neither a gap nor an overlap (S-1), and nothing is
// kept in memory meanwhile (S-3).
type catchUp struct {
	want  *xep.Sync
	real  bool // he may see real addresses
	begun bool // q knows where to begin
	q     store.ArchiveQuery
	done  xep.Synced
}

// Bounds of a catch-up.
const (
	syncMessages = 500 // without a wish, the newest
	syncBatch    = 64
	syncBytes    = 64 << 10 // and a message, of one batch
	syncSeek     = 4096     // messages passed over at once where a limit is far back
)

// beginSync has a session that has just entered told what it missed.
func (s *State) beginSync(v *visit, want *xep.Sync, fx *effects) {
	c := &catchUp{want: want, real: s.seesReal(v.who), done: xep.Synced{Room: s.jid, Complete: true}}
	c.q = store.ArchiveQuery{Account: s.id, Start: want.Start, UpTo: s.lastID}
	if want.Last > 0 {
		c.q.Start = fx.now.Add(-want.Last)
	}
	if id, ok := store.ParseArchiveID(want.After); want.After != "" && (!ok || id > s.lastID) {
		c.done.Complete = false
	} else {
		c.q.AfterID = id
	}
	if !s.opt.Archive {
		// What the room remembers it has been told; nobody knows what else there was.
		c.done.Complete = false
		s.endSync(v, c, fx)
		return
	}
	v.behind = c
	s.readOn(v, fx)
}

// readOn has the next messages read and sent to the session.
func (s *State) readOn(v *visit, fx *effects) {
	if v.behind.q.AfterID >= s.lastID {
		s.endSync(v, v.behind, fx)
		return
	}
	v.behind.q.UpTo = s.lastID
	room, to, of, c := s.jid, v.jid, v.behind, *v.behind
	fx.task(func(h *Hub) {
		h.running.Go(func() {
			err := h.syncBatch(room, to, &c)
			h.post(room, &caughtUp{v, of, c, err})
		})
	})
}

// caughtUp is that a session was sent some of what it missed.
type caughtUp struct {
	visit *visit
	was   *catchUp // as it was before
	is    catchUp
	err   error
}

func (ev *caughtUp) apply(s *State, fx *effects) {
	v := ev.visit
	switch {
	case s.visits[v.jid] != v || v.behind != ev.was:
		return // it has left, or has asked for something else
	case ev.err != nil:
		// What is said from now on must not hide what is missing: it enters anew.
		s.dropped(v, fx)
		return
	}
	v.behind = &ev.is
	s.readOn(v, fx)
}

// endSync is the moment from which on the session hears what is said.
func (s *State) endSync(v *visit, c *catchUp, fx *effects) {
	v.behind = nil
	fx.to(build(stanza.Message, "", "", s.jid, xep.AppendSynced(nil, c.done)), v.jid)
}

// hearing is the real addresses of the sessions that hear what is archived.
func (s *State) hearing() []jid.JID {
	list := make([]jid.JID, 0, len(s.visits))
	for _, o := range s.occupants {
		for _, v := range o.visits {
			if v.behind == nil {
				list = append(list, v.jid)
			}
		}
	}
	return list
}

// syncBatch reads some of what a session missed, and returns when it has it, or near
// enough.
func (h *Hub) syncBatch(room, to jid.JID, c *catchUp) error {
	select {
	case h.reads <- struct{}{}:
	case <-h.ctx.Done():
		return h.ctx.Err()
	}
	list, err := h.readBatch(room, to, c)
	<-h.reads
	if err != nil {
		if h.ctx.Err() == nil {
			h.cfg.Log.Error("a room's archive can't be read for a session: it is out", "room", room, "error", err)
		}
		return err
	}
	if h.cfg.Home(to) {
		return h.cfg.Stream(h.ctx, to, list)
	}
	stanzas := make([]*stanza.Stanza, 0, len(list))
	for _, b := range list {
		if st := parseOwn(b); st != nil {
			stanzas = append(stanzas, st)
		}
	}
	h.deliver(stanzas)
	return nil
}

func (h *Hub) readBatch(room, to jid.JID, c *catchUp) (list [][]byte, err error) {
	if !c.begun {
		if err := h.limitSync(to, c); err != nil {
			return nil, err
		}
		c.begun = true
	}
	c.q.Max, c.q.Bytes = syncBatch, syncBytes
	head := xep.NewMAMResult(room, to, xep.SyncQueryID)
	more, err := h.cfg.Store.Archive(h.ctx, c.q, func(m store.ArchivedMessage) error {
		data := m.Stanza
		if !c.real {
			data = withoutReal(data)
		}
		list = append(list, head.Append(make([]byte, 0, len(data)+256), m.ID.Append(nil), m.ID.Time(), data))
		if c.done.Last = m.ID.String(); c.done.First == "" {
			c.done.First = c.done.Last
		}
		c.done.Count++
		c.q.AfterID = m.ID
		return nil
	})
	if !more {
		c.q.AfterID = max(c.q.AfterID, c.q.UpTo)
	}
	return list, err
}

// limitSync finds where a catch-up begins. Who isn't of this server can't be waited
// for, and gets no more than a page.
func (h *Hub) limitSync(to jid.JID, c *catchUp) error {
	most := c.want.Max
	if c.want.After != "" && c.done.Complete {
		known, err := h.cfg.Store.ArchiveHas(h.ctx, c.q.Account, c.q.AfterID)
		if err != nil {
			return err
		}
		if !known {
			c.q.AfterID, c.done.Complete = 0, false
		}
	}
	if most == 0 && c.q.AfterID == 0 && c.q.Start.IsZero() {
		most = syncMessages
	}
	if !h.cfg.Home(to) && (most == 0 || most > h.cfg.Limits.Page) {
		most = h.cfg.Limits.Page
	}
	if most == 0 {
		return nil
	}
	back := c.q
	for left := most; left > 0; left -= back.Max {
		back.Max = min(left, syncSeek)
		first, more, err := h.cfg.Store.ArchiveNewest(h.ctx, back)
		if err != nil || !more {
			return err
		}
		back.UpTo = first - 1
	}
	c.q.AfterID, c.done.Complete = max(c.q.AfterID, back.UpTo), false
	return nil
}

// joinHistory is the history that somebody gets who enters.
func (s *State) joinHistory(x xep.MUCJoin, join *xep.RoomJoin) xep.MUCHistory {
	if join == nil || join.Sync != nil && !s.opt.Archive {
		return x.History
	}
	return xep.MUCHistory{MaxStanzas: 0, MaxChars: -1, Seconds: -1}
}
