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
		case batch := <-events:
			a.take(batch)
			select {
			case a.handled <- struct{}{}:
			case <-a.ctx.Done():
			}
		case f := <-a.calls:
			f()
		case <-a.taken:
		case <-ticker.C:
			a.apply(convo.Tick{})
			a.reenter()
		case <-a.ctx.Done():
		}
	}
}

// pump brings the connection's events to the owner, all that are there in one batch. Asking for the next says that those before are handled, so it waits
// until they are.
func (a *Account) pump() {
	defer close(a.dry)
	atOnce, stop := context.WithCancel(a.ctx)
	stop()
	for {
		waiting := a.drained()
		ev, err := a.client.Next(atOnce)
		if err == context.Canceled { // none is there: all that came is handled
			for _, done := range waiting {
				close(done)
			}
			ctx, idle := a.idle()
			if !idle {
				continue
			}
			if ev, err = a.client.Next(ctx); err != nil && ctx.Err() != nil && a.ctx.Err() == nil {
				continue // for somebody who waits in Settle
			}
		} else {
			a.mu.Lock()
			a.waiting = append(a.waiting, waiting...)
			a.mu.Unlock()
		}
		if err != nil {
			return // the owner knows by a final Disconnected
		}
		if on, ok := ev.(*client.Connected); ok {
			a.learn(on)
		}
		select {
		case a.events <- append([]client.Event{ev}, a.client.Waiting(min(maxBatch, a.cfg.MaxChanges)-1)...):
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

// drained takes those who wait until all events are handled.
func (a *Account) drained() []chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	waiting := a.waiting
	a.waiting = nil
	return waiting
}

// idle gives a context for waiting for the next event, which Settle ends. Where somebody waits in it already, it isn't idle.
func (a *Account) idle() (context.Context, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.waiting) > 0 {
		return nil, false
	}
	if a.interrupt != nil {
		a.interrupt() // the last one is of no use any more
	}
	ctx, cancel := context.WithCancel(a.ctx)
	a.interrupt = cancel
	return ctx, true
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

// take does what events of the connection mean, in their order. What follows one another in a conversation, such as a catch-up, is one step of the engine
// and one transaction of the store.
func (a *Account) take(batch []client.Event) {
	var step []convo.Event
	for _, ev := range batch {
		if r, ok := ev.(*client.Received); ok && r.Stanza.Kind == stanza.Presence && a.rooms[r.Stanza.From.Bare()] != nil {
			a.apply(step...) // what it means for the room comes after what was said before
			step = nil
			a.heardRoom(r.Stanza)
		}
		if r, ok := ev.(*client.Received); ok {
			a.uninvited(r.Stanza)
			a.reconfigured(r.Stanza)
		}
		if said := heard(ev); said != nil {
			step = append(step, said)
			continue
		}
		a.apply(step...)
		step = nil
		a.happened(ev)
	}
	a.apply(step...)
	a.caughtUp()
}

// heard is what the engine is to hear of an event of the connection, nil for one of the connection itself.
func heard(ev client.Event) convo.Event {
	switch ev := ev.(type) {
	case *client.Received:
		return convo.Received{Stanza: ev.Stanza}
	case *client.Carbon:
		return convo.Received{Stanza: ev.Stanza}
	case *client.Archived:
		return convo.Received{Stanza: ev.Stanza}
	case *client.Synced:
		return convo.Received{Stanza: ev.Stanza}
	case *client.Delivered:
		if ev.State != client.Lost { // what was lost is the engine's to send again, when it knows what the archive has
			return convo.Acked{ID: ev.ID}
		}
	}
	return nil
}

// happened does what an event of the connection itself means.
func (a *Account) happened(ev client.Event) {
	switch ev := ev.(type) {
	case *client.Connected:
		a.apply(convo.Connected{JID: ev.JID, Profile: profile(ev.Profile), Resumed: ev.Resumed, Facts: *a.facts, Catchup: ev.CatchUp})
		for j, r := range a.rooms {
			if !ev.Resumed || !r.in {
				a.apply(convo.Entering{JID: j})
			}
		}
		a.rejoin(ev)
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
	case *client.RosterChanged:
		if ev.Item != nil {
			a.contacts([]xep.RosterItem{*ev.Item})
		} else {
			a.contacts(a.client.Roster())
		}
		wake(a.signal)
	case *client.BlockListChanged:
		wake(a.signal)
	}
}

// caughtUp tells the program whether something that was missed is still coming.
func (a *Account) caughtUp() {
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
	step := make([]convo.Event, 0, len(items))
	for _, it := range items {
		step = append(step, convo.Contact{JID: it.JID, Name: it.Name, Trusted: it.Subscription == "from" || it.Subscription == "both"})
	}
	a.apply(step...)
}

// apply gives the engine events, which are one step, and does what it wants, in its order: what is to be kept is written before anything of it is sent or
// told to the program.
func (a *Account) apply(step ...convo.Event) {
	for todo := [][]convo.Event{step}; len(todo) > 0 && a.ctx.Err() == nil; todo = todo[1:] {
		if len(todo[0]) == 0 {
			continue
		}
		for _, effect := range a.engine.Apply(a.now(), todo[0]...) {
			more, err := a.do(effect)
			if err != nil {
				// What isn't written must not be said to be there: better no account than one that forgets.
				a.cancel(err)
				return
			}
			if more != nil {
				todo = append(todo, []convo.Event{more})
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
	case convo.Refused:
		a.refused = true
	case convo.Requested:
		wake(a.signal)
	case convo.Changed:
		if a.rooms[ef.Conversation] != nil {
			a.noteRoom(ef.Conversation)
		}
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
			if _, err := a.client.Send(a.ctx, s.Stanza); err != nil {
				return // it is over
			}
		}
		select {
		case <-a.mail:
		case <-a.ctx.Done():
			return
		}
	}
}

// query asks an archive for one page and gives the engine the results.
func (a *Account) query(q convo.Query) {
	ctx, cancel := context.WithTimeout(a.ctx, askWait)
	defer cancel()
	archive := q.By
	if archive == a.cfg.Client.Account {
		archive = jid.JID{}
	}
	ask := xep.MAMQuery{ID: q.ID, With: q.With, Page: xep.RSM{Max: q.Max, After: q.After, Before: q.Before, Last: q.Last}}
	page, fin, err := a.client.ArchivePage(ctx, archive, ask)
	done := convo.QueryDone{Query: q.ID, First: fin.First, Last: fin.Last, Complete: fin.Complete}
	if err != nil {
		refused, ok := errors.AsType[*stanza.Error](err)
		done = convo.QueryDone{Query: q.ID, Failed: true, Unknown: ok && refused.Condition == stanza.ItemNotFound}
	}
	step := make([]convo.Event, 0, len(page)+1)
	for _, m := range page {
		step = append(step, convo.Received{Stanza: m.Stanza})
	}
	step = append(step, done)
	_ = a.call(a.ctx, func() {
		a.apply(step...)
		a.caughtUp()
	})
}
