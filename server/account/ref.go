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
	var id store.AccountID
	var unknown bool
	err := a.hub.do(ctx, a.bare, func(s *State, _ *effects) { id, unknown = s.id, s.unknown() })
	if err == nil && unknown {
		err = stanza.NewError(stanza.ItemNotFound, "")
	}
	return int64(id), err
}

// Relation tells what another entity is to the account; somebody unknown to
// an account that doesn't exist.
func (a *accountRef) Relation(ctx context.Context, other jid.JID) (r feature.Relation, err error) {
	err = a.hub.do(ctx, a.bare, func(s *State, _ *effects) {
		r.Own = other.Bare() == s.jid
		r.Blocked = s.blocks(other)
		if c := s.roster[other.Bare()]; c != nil {
			r.Sees, r.Sends = c.From, c.To
		}
		r.Sees = r.Sees || r.Own
		r.Sends = r.Sends || r.Own
	})
	return r, err
}

// Snapshot is the account's state.
func (a *accountRef) Snapshot(ctx context.Context) (snap feature.Snapshot, err error) {
	err = a.hub.do(ctx, a.bare, func(s *State, _ *effects) {
		for j := range s.blocked {
			snap.Blocked = append(snap.Blocked, j)
		}
		snap.Archive = s.archive.prefs
		for _, x := range s.sessions {
			snap.Sessions = append(snap.Sessions, x.info())
		}
		if !slices.ContainsFunc(s.sessions, func(x *Session) bool { return x.available }) {
			snap.LastUnavailable, snap.LastStatus = s.lastSeen, s.lastStatus
		}
	})
	slices.SortFunc(snap.Blocked, func(a, b jid.JID) int { return strings.Compare(a.String(), b.String()) })
	return snap, err
}

// Settled waits until everything up to now is committed.
func (a *accountRef) Settled(ctx context.Context) (int64, error) {
	type answer struct {
		upTo store.ArchiveID
	}
	ch := make(chan answer, 1)
	err := a.hub.do(ctx, a.bare, func(s *State, fx *effects) {
		upTo := s.lastID
		s.later(fx, func(fx *effects) { fx.call(func() { ch <- answer{upTo} }) })
	})
	if err != nil {
		return 0, err
	}
	select {
	case got := <-ch:
		return int64(got.upTo), nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// Update commits a change, applies it and tells whom it concerns.
func (a *accountRef) Update(ctx context.Context, u feature.Update) error {
	result := make(chan error, 1)
	err := a.hub.do(ctx, a.bare, func(s *State, fx *effects) {
		if s.unknown() {
			result <- stanza.NewError(stanza.ItemNotFound, "")
			return
		}
		s.update(u, fx, result)
	})
	if err != nil {
		return err
	}
	select {
	case err = <-result:
		return err
	case <-ctx.Done():
		return ctx.Err()
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
	ops := s.updateOps(&u)
	// Presence to those who are blocked now goes out before the block holds.
	watchers := s.watchersAmong(u.Block)
	unblocked := slices.DeleteFunc(slices.Clone(u.Unblock), func(j jid.JID) bool { _, was := s.blocked[j]; return !was })
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
		s.tellBlocked(watchers, s.watchersAmong(unblocked), fx)
		if u.AvatarHash != nil {
			s.rebroadcast(fx)
		}
		s.push(u.Push, fx)
		fx.call(func() { result <- nil })
	})
	e.failed = func(fx *effects, err error) {
		s.reload(fx)
		fx.call(func() { result <- err })
	}
	fx.commit(ops, e)
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
		ops = append(ops, store.KVPut{Account: s.id, Space: "mam", Key: "prefs", Value: encodePrefs(*u.Archive)})
	}
	if u.AvatarHash != nil {
		ops = append(ops, store.KVPut{Account: s.id, Space: "vcard", Key: "photo-hash", Value: []byte(*u.AvatarHash)})
	}
	for _, kv := range u.Put {
		if kv.Value == nil {
			ops = append(ops, store.KVDelete{Account: s.id, Space: kv.Space, Key: kv.Key})
		} else {
			ops = append(ops, store.KVPut{Account: s.id, Space: kv.Space, Key: kv.Key, Value: kv.Value})
		}
	}
	return ops
}

// watchersAmong is the contacts that see the account's presence and that
// entries of a block list match, as things stand.
func (s *State) watchersAmong(list []jid.JID) []jid.JID {
	if len(list) == 0 {
		return nil
	}
	match := State{jid: s.jid, blocked: make(map[jid.JID]struct{}, len(list))}
	for _, j := range list {
		match.blocked[j] = struct{}{}
	}
	var out []jid.JID
	for j, c := range s.roster {
		if c.From && match.blocks(j) {
			out = append(out, j)
		}
	}
	return out
}

// tellBlocked: who is blocked sees the user go, who is unblocked sees him come
// (XEP-0191 3.3, 3.4).
func (s *State) tellBlocked(blocked, unblocked []jid.JID, fx *effects) {
	for _, j := range blocked {
		s.showOrHide(subscriptionChange{HidePresence: true}, j, fx)
	}
	for _, j := range unblocked {
		if !s.blocks(j) {
			s.showOrHide(subscriptionChange{ShowPresence: true}, j, fx)
			if c := s.roster[j]; c != nil && c.To {
				s.probe(j, fx)
			}
		}
	}
}

// rebroadcast sends every session's presence again, with the account's new
// avatar (XEP-0153 3.1).
func (s *State) rebroadcast(fx *effects) {
	for _, x := range s.sessions {
		if !x.available {
			continue
		}
		st := stanza.Build(stanza.Presence, "", x.presence.id, x.jid, jid.JID{}, x.presence.inner)
		st.Lang = x.presence.lang
		x.presence = presenceOf(st, s.withAvatar(st))
		s.sendToWatchers(x.presence, x.jid, fx)
	}
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
func (x *Session) SetProfile(ctx context.Context, p route.Profile) error {
	var refused *stanza.Error
	err := x.hub.do(ctx, x.jid.Bare(), func(*State, *effects) {
		if p == route.Carbons && x.profile > route.Carbons || p > route.Carbons && x.profile == route.Carbons {
			refused = stanza.NewError(stanza.Conflict, "the session takes messages another way already")
			return
		}
		x.profile = p
	})
	if err == nil && refused != nil {
		return refused
	}
	return err
}

// SetInterest asks for an Update's pushes.
func (x *Session) SetInterest(ctx context.Context, space string) error {
	return x.hub.do(ctx, x.jid.Bare(), func(*State, *effects) { x.setInterest(space) })
}

// encodePrefs and decodePrefs are the stored form of archive preferences: a
// word a line, the default first, then + or - and an address.
func encodePrefs(p feature.ArchivePrefs) []byte {
	b := []byte(p.Default)
	for _, j := range p.Always {
		b = append(append(b, "\n+"...), j.String()...)
	}
	for _, j := range p.Never {
		b = append(append(b, "\n-"...), j.String()...)
	}
	return b
}

func decodePrefs(b []byte, byDefault string) feature.ArchivePrefs {
	p := feature.ArchivePrefs{Default: byDefault}
	lines := strings.Split(string(b), "\n")
	if lines[0] != "" {
		p.Default = lines[0]
	}
	for _, l := range lines[1:] {
		if len(l) < 2 {
			continue
		}
		j, err := jid.Parse(l[1:])
		switch {
		case err != nil: // rules for addresses became stricter since
		case l[0] == '+':
			p.Always = append(p.Always, j)
		default:
			p.Never = append(p.Never, j)
		}
	}
	return p
}
