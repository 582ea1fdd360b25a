package account

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"carillon.im/client"
	"carillon.im/client/convo"
	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// now is the time of an event.
func (a *Account) now() time.Time {
	if a.cfg.Client.Clock != nil {
		return a.cfg.Client.Clock.Now()
	}
	return time.Now()
}

// own is the owner's life.
func (a *Account) own() {
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	a.contacts(a.client.Roster())
	for a.ctx.Err() == nil {
		events := a.events
		if a.full() {
			events = nil
		}
		select {
		case ev := <-events:
			a.take(ev)
			select {
			case a.handled <- struct{}{}:
			case <-a.ctx.Done():
			}
		case f := <-a.calls:
			f()
		case <-a.taken:
		case <-ticker.C:
			a.apply(convo.Tick{})
		case <-a.ctx.Done():
		}
	}
}

// pump brings the connection's events to the owner. Asking for the next one says that the one before is handled, so it waits until it is.
func (a *Account) pump() {
	for {
		ev, err := a.client.Next(a.ctx)
		if err != nil {
			return // the owner knows by a final Disconnected
		}
		if on, ok := ev.(*client.Connected); ok {
			a.learn(on)
		}
		select {
		case a.events <- ev:
		case <-a.ctx.Done():
			return
		}
		select {
		case <-a.handled:
		case <-a.ctx.Done():
			return
		}
	}
}

// learn asks, once, what the server can do. No event is taken meanwhile, for what they mean depends on it.
func (a *Account) learn(on *client.Connected) {
	if a.facts != nil {
		return
	}
	guess := convo.Facts{Archive: on.CatchUp || on.Archive != nil, Mine: on.Profile <= client.ProfileIMNG}
	if a.cfg.Live {
		guess.Archive = false
		a.facts = &guess
		return
	}
	ctx, cancel := context.WithTimeout(a.ctx, factsWait)
	defer cancel()
	account, err := a.discover(ctx, a.cfg.Client.Account)
	if err != nil {
		a.facts = &guess
		return
	}
	domain, err := a.discover(ctx, a.cfg.Client.Account.DomainJID())
	if err != nil {
		a.facts = &guess
		return
	}
	has := func(feature string) bool {
		return slices.Contains(account.Features, feature) || slices.Contains(domain.Features, feature)
	}
	a.facts = &convo.Facts{Archive: has(xep.NSMAM), Mine: has(xep.NSMine) || has(xep.NSMineOCR),
		Displayed: has(xep.NSPubOptions) && slices.ContainsFunc(account.Identities, func(i xep.Identity) bool { return i.Category == "pubsub" && i.Type == "pep" })}
}

// discover asks somebody what it can do (XEP-0030 3).
func (a *Account) discover(ctx context.Context, to jid.JID) (xep.DiscoInfo, error) {
	answer, err := a.client.IQ(ctx, stanza.Build(stanza.IQ, stanza.TypeGet, "", jid.JID{}, to, "<query xmlns='"+xep.NSDiscoInfo+"'/>"))
	if err != nil {
		return xep.DiscoInfo{}, err
	}
	return xep.ParseDiscoInfo(answer.Child(xep.NSDiscoInfo, "query"))
}

// take does what an event of the connection means.
func (a *Account) take(ev client.Event) {
	switch ev := ev.(type) {
	case *client.Connected:
		a.apply(convo.Connected{JID: ev.JID, Profile: profile(ev.Profile), Resumed: ev.Resumed, Facts: *a.facts, Catchup: ev.CatchUp})
		a.setStatus(func(s *Status) {
			*s = Status{Online: true, CatchingUp: a.engine.CatchingUp(), JID: ev.JID, Profile: ev.Profile, Resumed: ev.Resumed}
		})
	case *client.Disconnected:
		a.apply(convo.Disconnected{})
		a.setStatus(func(s *Status) {
			s.Online, s.Err, s.Final, s.Retry = false, ev.Err, ev.Final, time.Time{}
			if !ev.Final {
				s.Retry = a.now().Add(ev.Retry)
			}
		})
	case *client.Received:
		a.apply(convo.Received{Stanza: ev.Stanza})
	case *client.Carbon:
		a.apply(convo.Received{Stanza: ev.Stanza})
	case *client.Archived:
		a.apply(convo.Received{Stanza: ev.Stanza})
	case *client.Synced:
		me := a.cfg.Client.Account
		from := me
		if !ev.Room.IsZero() {
			from = ev.Room
		}
		a.apply(convo.Received{Stanza: stanza.Build(stanza.Message, stanza.TypeNormal, "", from, me, string(xep.AppendSynced(nil, ev.Synced)))})
	case *client.RosterChanged:
		if ev.Item != nil {
			a.contacts([]xep.RosterItem{*ev.Item})
		} else {
			a.contacts(a.client.Roster())
		}
	}
	catching := a.engine.CatchingUp()
	if a.Status().CatchingUp != catching {
		a.setStatus(func(s *Status) { s.CatchingUp = catching })
	}
}

// profile is a session's, as the engine calls it.
func profile(p client.Profile) convo.Profile {
	switch p {
	case client.ProfileBest:
		return convo.V2
	case client.ProfileIMNG:
		return convo.NG
	case client.ProfileCarbons:
		return convo.Carbons
	}
	return convo.Classic
}

// contacts tells the engine what the roster says.
func (a *Account) contacts(items []xep.RosterItem) {
	for _, it := range items {
		a.apply(convo.Contact{JID: it.JID, Name: it.Name, Trusted: it.Subscription == "from" || it.Subscription == "both"})
	}
}

// apply gives the engine an event and does what it wants, in its order.
func (a *Account) apply(ev convo.Event) {
	for todo := []convo.Event{ev}; len(todo) > 0; todo = todo[1:] {
		for _, effect := range a.engine.Apply(a.now(), todo[0]) {
			more, err := a.do(effect)
			if err != nil {
				// What isn't written must not be said to be there: better no account than one that forgets.
				a.cancel(err)
				return
			}
			if more != nil {
				todo = append(todo, more)
			}
		}
	}
	a.note()
}

// do does one effect. What it gives is to be applied next.
func (a *Account) do(effect convo.Effect) (convo.Event, error) {
	switch ef := effect.(type) {
	case convo.Persist:
		if err := a.store.Write(ef.Writes); err != nil {
			return nil, fmt.Errorf("account: history can't be written: %w", err)
		}
	case convo.LoadHistory:
		entries, more, err := a.store.History(ef.Conversation, ef.Before, ef.Max)
		if err != nil {
			return nil, fmt.Errorf("account: history can't be read: %w", err)
		}
		return convo.HistoryLoaded{Conversation: ef.Conversation, Entries: entries, More: more}, nil
	case convo.Send:
		a.send(ef)
	case convo.Query:
		a.wg.Go(func() { a.query(ef) })
	case convo.RefreshPresence:
		presence := a.cfg.Client.Presence
		if presence == nil {
			presence = stanza.Build(stanza.Presence, stanza.TypeAvailable, "", jid.JID{}, jid.JID{}, "")
		}
		_ = a.client.SetPresence(presence) // one that was good for Config is good now
	case convo.Changed:
		a.changed(ef)
	}
	return nil, nil
}

// note remembers where the next session catches up from.
func (a *Account) note() {
	if cursor := a.engine.Cursor(); a.cursor.Load() == nil || *a.cursor.Load() != cursor {
		a.cursor.Store(&cursor)
	}
}

// send puts a stanza into the outbox, for the client may make its sender wait.
func (a *Account) send(s convo.Send) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.outbox) >= maxOutbox && s.Entry == 0 {
		return
	}
	a.outbox = append(a.outbox, s)
	wake(a.mail)
}

// post takes stanzas from the outbox to the client, in their order.
func (a *Account) post() {
	receipts := make(chan *client.Receipt, maxOutbox)
	a.wg.Go(func() { a.acknowledged(receipts) })
	for {
		a.mu.Lock()
		batch := a.outbox
		a.outbox = nil
		a.mu.Unlock()
		for _, s := range batch {
			if s.Stanza.Kind == stanza.IQ {
				a.wg.Go(func() { _, _ = a.client.IQ(a.ctx, s.Stanza) }) // a position displayed: a later one takes its place
				continue
			}
			receipt, err := a.client.Send(a.ctx, s.Stanza)
			if err != nil {
				return // it is over
			}
			if s.Entry != 0 {
				select {
				case receipts <- receipt:
				case <-a.ctx.Done():
					return
				}
			}
		}
		select {
		case <-a.mail:
		case <-a.ctx.Done():
			return
		}
	}
}

// acknowledged waits for what becomes of messages, the oldest first: that is the order of acknowledgements.
func (a *Account) acknowledged(receipts <-chan *client.Receipt) {
	for {
		select {
		case r := <-receipts:
			if d, _ := r.Wait(a.ctx); d == client.Acknowledged || d == client.Written {
				_ = a.Do(a.ctx, convo.Acked{ID: r.ID()})
			}
		case <-a.ctx.Done():
			return
		}
	}
}

// query asks an archive for one page and gives the engine the results.
func (a *Account) query(q convo.Query) {
	ctx, cancel := context.WithTimeout(a.ctx, askWait)
	defer cancel()
	ask := client.ArchiveQuery{With: q.With, After: q.After, Before: q.Before, Newest: q.Last, PageSize: q.Max}
	if q.By != a.cfg.Client.Account {
		ask.Archive = q.By
	}
	var page []client.ArchivedMessage
	done := convo.QueryDone{Query: q.ID, Complete: true}
	for m, err := range a.client.Archive(ctx, ask) {
		if err != nil {
			stanzaError, ok := errors.AsType[*stanza.Error](err)
			_ = a.Do(a.ctx, convo.QueryDone{Query: q.ID, Failed: true, Unknown: ok && stanzaError.Condition == stanza.ItemNotFound})
			return
		}
		if page = append(page, m); len(page) == q.Max {
			done.Complete = false // there may be more: the next page says
			break
		}
	}
	if q.Last {
		slices.Reverse(page)
	}
	_ = a.call(a.ctx, func() {
		for _, m := range page {
			a.apply(convo.Received{Stanza: result(q, a.cfg.Client.Account, m)})
		}
		if len(page) > 0 {
			done.First, done.Last = page[0].ID, page[len(page)-1].ID
		}
		a.apply(done)
		catching := a.engine.CatchingUp()
		a.setStatus(func(s *Status) { s.CatchingUp = catching })
	})
}

// result is a message of an archive, wrapped as the archive sends it: the engine judges wrappers itself.
func result(q convo.Query, me jid.JID, m client.ArchivedMessage) *stanza.Stanza {
	payload := append([]byte(nil), "<result xmlns='"+xep.NSMAM+"' queryid='"...)
	payload = xmltree.AppendAttrValue(payload, q.ID)
	payload = append(payload, "' id='"...)
	payload = xmltree.AppendAttrValue(payload, m.ID)
	payload = append(payload, "'><forwarded xmlns='"+xep.NSForward+"'><delay xmlns='"+xep.NSDelay+"' stamp='"...)
	payload = xep.AppendDateTime(payload, m.Stamp)
	payload = xep.AppendStanza(append(payload, "'/>"...), m.Message.AppendTo(nil))
	payload = append(payload, "</forwarded></result>"...)
	return stanza.Build(stanza.Message, stanza.TypeNormal, "", q.By, me, string(payload))
}
