package account

import (
	"context"
	"slices"
	"strings"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/server/route"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
)

// accountRef is an account as features see it.
type accountRef struct {
	hub  *Hub
	bare jid.JID
}

// Account is an account of this server, which need not exist.
func (h *Hub) Account(bare jid.JID) feature.AccountRef { return &accountRef{h, bare.Bare()} }

// JID is the account's bare JID.
func (a *accountRef) JID() jid.JID { return a.bare }

// StoreID is the account's key in the store.
func (a *accountRef) StoreID(ctx context.Context) (int64, error) {
	id, err := ask(ctx, a.hub, a.bare, func(s *State, _ *effects) store.AccountID {
		if s.unknown() {
			return 0
		}
		return s.id
	})
	if err == nil && id == 0 {
		err = stanza.NewError(stanza.ItemNotFound, "")
	}
	return int64(id), err
}

// Relation tells what another entity is to the account; somebody unknown to
// an account that doesn't exist.
func (a *accountRef) Relation(ctx context.Context, other jid.JID) (feature.Relation, error) {
	return ask(ctx, a.hub, a.bare, func(s *State, _ *effects) feature.Relation { return s.relation(other) })
}

// Shown is Relation in the account's order.
func (a *accountRef) Shown(ctx context.Context, other jid.JID) (feature.Relation, error) {
	return inTurn(ctx, a, (*State).later, func(s *State) feature.Relation { return s.relation(other) })
}

func (s *State) relation(other jid.JID) (r feature.Relation) {
	r.Own = other.Bare() == s.jid
	r.Blocked = s.blocks(other)
	if c := s.roster[other.Bare()]; c != nil {
		r.Sees, r.Sends, r.Groups = c.From, c.To, slices.Clone(c.groups)
	}
	r.Sees = r.Sees || r.Own
	r.Sends = r.Sends || r.Own
	return r
}

// inTurn is what f finds when it is its turn in the account's order, which later, a
// method of State, finds.
func inTurn[T any](ctx context.Context, a *accountRef, later func(*State, *effects, func(*effects)), f func(*State) T) (T, error) {
	var none T
	found := make(chan T, 1)
	_, err := ask(ctx, a.hub, a.bare, func(s *State, fx *effects) struct{} {
		later(s, fx, func(fx *effects) { fx.call(func() { found <- f(s) }) })
		return struct{}{}
	})
	if err != nil {
		return none, err
	}
	select {
	case t := <-found:
		return t, nil
	case <-ctx.Done():
		return none, ctx.Err()
	case <-a.hub.stopped:
		return none, errStopped
	}
}

// Snapshot is the account's state.
func (a *accountRef) Snapshot(ctx context.Context) (feature.Snapshot, error) {
	return ask(ctx, a.hub, a.bare, func(s *State, _ *effects) (snap feature.Snapshot) {
		for j := range s.blocked {
			snap.Blocked = append(snap.Blocked, j)
		}
		slices.SortFunc(snap.Blocked, compareJIDs)
		snap.Archive = s.archive.prefs
		for _, x := range s.sessions {
			snap.Sessions = append(snap.Sessions, x.info())
		}
		if !slices.ContainsFunc(s.sessions, func(x *session) bool { return x.available }) {
			snap.LastUnavailable, snap.LastStatus = s.lastSeen, s.lastStatus
		}
		return snap
	})
}

func compareJIDs(a, b jid.JID) int { return strings.Compare(a.String(), b.String()) }

// Settled waits until everything up to now is committed.
func (a *accountRef) Settled(ctx context.Context) (int64, error) {
	done := make(chan struct{})
	upTo, err := ask(ctx, a.hub, a.bare, func(s *State, fx *effects) store.ArchiveID {
		s.later(fx, func(fx *effects) { fx.call(func() { close(done) }) })
		return s.lastID
	})
	if err != nil {
		return 0, err
	}
	select {
	case <-done:
		return int64(upTo), nil
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-a.hub.stopped:
		return 0, errStopped
	}
}

// Update commits a change, applies it and tells whom it concerns.
func (a *accountRef) Update(ctx context.Context, u feature.Update) error {
	result := make(chan error, 1)
	_, err := ask(ctx, a.hub, a.bare, func(s *State, fx *effects) struct{} {
		if s.unknown() {
			result <- stanza.NewError(stanza.ItemNotFound, "")
		} else {
			s.update(u, fx, result)
		}
		return struct{}{}
	})
	if err != nil {
		return err
	}
	select {
	case err = <-result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-a.hub.stopped:
		return errStopped
	}
}

// update is Update on the loop; the outcome goes to result, which is buffered.
func (s *State) update(u feature.Update, fx *effects, result chan<- error) {
	if u.UnblockAll {
		u.Unblock = nil
		for j := range s.blocked {
			u.Unblock = append(u.Unblock, j)
		}
	}
	if len(s.blocked)+len(u.Block) > s.cfg.Limits.BlockItems {
		result <- stanza.NewError(stanza.ResourceConstraint, "the block list is full")
		return
	}
	ops, err := s.pushOps(s.updateOps(&u), &u, fx.now)
	if err != nil {
		result <- err
		return
	}
	block := slices.DeleteFunc(slices.Clone(u.Block), func(j jid.JID) bool { _, is := s.blocked[j]; return is })
	unblock := slices.DeleteFunc(slices.Clone(u.Unblock), func(j jid.JID) bool { _, is := s.blocked[j]; return !is })
	was := s.watchers(len(block)+len(unblock) > 0)
	for _, j := range u.Block {
		s.blocked[j] = struct{}{}
	}
	for _, j := range u.Unblock {
		delete(s.blocked, j)
	}
	if u.Archive != nil {
		s.archive = newArchivePrefs(*u.Archive)
	}
	if u.AvatarHash != nil {
		s.avatarKnown, s.avatarHash = true, *u.AvatarHash
	}
	e := s.hold(fx.now, func(fx *effects) {
		s.hideFrom(block, fx)
		s.showTo(unblock, fx)
		if u.AvatarHash != nil {
			s.rebroadcast(fx)
		}
		s.push(u.Push, fx)
		s.tellEvents(u.Events, fx)
		fx.call(func() { result <- nil })
	})
	// What follows from it is read anew: it is seldom changed.
	e.recounts = u.PushOn != nil || u.PushOff != nil || len(s.pushes) > 0 && slices.ContainsFunc(u.Events, func(c feature.EventChange) bool { return c.Node == xep.NodeBookmarks })
	s.seenEvents(u.Events, fx)
	ahead := len(block)+len(unblock) > 0 || u.Archive != nil || u.AvatarHash != nil // memory of the disk
	e.failed = func(fx *effects, err error) {
		if ahead {
			s.distrust(err)
		}
		fx.call(func() { result <- err })
	}
	s.commit(fx, ops, e, nil)
	for j, saw := range was {
		if saw != s.watched(j) {
			s.doubt(j, e)
		}
	}
}

// watchers tells of each contact with a subscription whether it may see the
// account's presence; of none unless they are asked for.
func (s *State) watchers(wanted bool) map[jid.JID]bool {
	if !wanted {
		return nil
	}
	was := map[jid.JID]bool{}
	for j, c := range s.roster {
		if c.From {
			was[j] = s.watched(j)
		}
	}
	return was
}

func (s *State) updateOps(u *feature.Update) []store.Op {
	var ops []store.Op
	if u.UnblockAll {
		ops = append(ops, store.BlockClear{Account: s.id})
	} else {
		for _, j := range u.Unblock {
			ops = append(ops, store.BlockDelete{Account: s.id, JID: j})
		}
	}
	for _, j := range u.Block {
		ops = append(ops, store.BlockPut{Account: s.id, JID: j})
	}
	if u.Archive != nil {
		ops = append(ops, store.KVPut{Account: s.id, Space: "mam", Key: "prefs", Value: u.Archive.Encode()})
	}
	if u.AvatarHash != nil {
		ops = append(ops, store.KVPut{Account: s.id, Space: "vcard", Key: "photo-hash", Value: []byte(*u.AvatarHash)})
	}
	ops = s.eventOps(ops, u.Events)
	for _, kv := range u.Put {
		if kv.Value == nil {
			ops = append(ops, store.KVDelete{Account: s.id, Space: kv.Space, Key: kv.Key})
		} else {
			ops = append(ops, store.KVPut{Account: s.id, Space: kv.Space, Key: kv.Key, Value: kv.Value})
		}
	}
	return ops
}

// blockList is a part of a block list, to ask whom it matches.
func (s *State) blockList(list []jid.JID) *State {
	part := &State{jid: s.jid, blocked: make(map[jid.JID]struct{}, len(list))}
	for _, j := range list {
		part.blocked[j] = struct{}{}
	}
	return part
}

// hideFrom: who is blocked now, and could see the user, sees him go (XEP-0191
// 3.3).
func (s *State) hideFrom(list []jid.JID, fx *effects) {
	if len(list) == 0 {
		return
	}
	part := s.blockList(list)
	for j, c := range s.roster {
		if c.From && part.blocks(j) {
			s.showOrHide(subscriptionChange{HidePresence: true}, j, fx)
		}
	}
	for _, x := range s.sessions {
		for j := range x.directed {
			if part.blocks(j) {
				delete(x.directed, j)
				s.postPresence(presence{typ: stanza.TypeUnavailable}, x.jid, j, fx)
			}
		}
	}
}

// showTo: who is no longer blocked sees the user come, and is asked for his
// presence (XEP-0191 3.4).
func (s *State) showTo(list []jid.JID, fx *effects) {
	if len(list) == 0 {
		return
	}
	part := s.blockList(list)
	online := slices.ContainsFunc(s.sessions, func(x *session) bool { return x.available })
	for j, c := range s.roster {
		if !part.blocks(j) || s.blocks(j) {
			continue
		}
		s.showOrHide(subscriptionChange{ShowPresence: c.From}, j, fx)
		if c.To && online {
			s.probe(j, fx)
		}
	}
}

// rebroadcast sends every session's presence again, with the account's new
// avatar (XEP-0153 3.1).
func (s *State) rebroadcast(fx *effects) {
	for _, x := range s.sessions {
		if x.available {
			s.refreshPresence(x)
			s.sendToWatchers(x.presence, x.jid, fx)
		}
	}
}

// refreshPresence puts the account's avatar, as it is now, into a session's
// presence.
func (s *State) refreshPresence(x *session) {
	if !x.available {
		return
	}
	st := stanza.Build(stanza.Presence, "", x.presence.id, x.jid, jid.JID{}, x.presence.inner)
	st.Lang = x.presence.lang
	x.presence = presenceOf(st, s.withAvatar(st))
}

// push sends an IQ set to the sessions with an interest.
func (s *State) push(p feature.Push, fx *effects) {
	if p.Interest == "" {
		return
	}
	for _, x := range s.sessions {
		if x.interested(p.Interest) {
			fx.deliver(x, stanza.Build(stanza.IQ, stanza.TypeSet, s.cfg.newID(), jid.JID{}, x.jid, p.Payload).AppendTo(nil), tag{})
		}
	}
}

// SetProfile changes how the session gets messages (R-SESS-1).
func (x *session) SetProfile(ctx context.Context, p route.Profile) error {
	refused, err := ask(ctx, x.hub, x.jid.Bare(), func(s *State, _ *effects) *stanza.Error {
		if p == route.Carbons && x.profile > route.Carbons || p > route.Carbons && x.profile == route.Carbons {
			return stanza.NewError(stanza.Conflict, "the session takes messages another way already")
		}
		if p == route.NG && x.profile == route.V2 {
			return nil // it gets all that IM-NG would give it
		}
		x.profile = p
		if s.index(x) >= 0 {
			s.noteReachable(x)
		}
		return nil
	})
	if err == nil && refused != nil {
		return refused
	}
	return err
}

// SetInterest asks for an Update's pushes.
func (x *session) SetInterest(ctx context.Context, space string) error {
	_, err := ask(ctx, x.hub, x.jid.Bare(), func(*State, *effects) struct{} {
		x.setInterest(space)
		return struct{}{}
	})
	return err
}
