package account

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/server/route"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// Of push services that fail (XEP-0357 7.1).
const (
	pushPatience = time.Minute // for an answer
	pushPause    = time.Minute // after the first failure, twice as long after each more
	pushPauseMax = 6 * time.Hour
	pushFailures = 10 // in a row, after which it is switched off: about a day and a half
)

// pushRequest is a request to a push service that has no answer yet.
type pushRequest struct {
	id   string
	at   time.Time
	told []heldPush
}

// request publishes a notification of messages. That they no longer wait is on disk
// before the push service hears of them: whatever happens, none is told twice.
func (s *State) request(p *pushTarget, told, dropped []heldPush, why route.PushDecision, fx *effects) {
	r := &pushRequest{id: s.cfg.newID(), at: fx.now, told: told}
	p.asked = r
	p.count += len(told)
	last := &told[len(told)-1]
	service := xep.PushService{JID: p.Service, Node: p.Node, Options: p.Options}
	summary := xep.PushSummary{Count: p.count, Sender: last.sender, Body: last.body}
	// From the server, not the account: the service needn't learn whose device it is.
	st := stanza.Build(stanza.IQ, stanza.TypeSet, r.id, s.jid.DomainJID(), p.Service, xep.PushPublish(service, summary))
	now := fx.now
	s.forgetHeld(p, slices.Concat(told, dropped), fx, func(fx *effects) {
		fx.call(func() {
			for i := range told {
				s.notePush(p, &told[i], why, now)
			}
			s.cfg.stats.Pushes.Add(1)
			s.cfg.Log.Debug("device notified", "account", s.jid, "device", p.Resource, "service", p.Service, "messages", len(told), "rule", why.Rule.String())
			s.cfg.hub.askService(s.jid, st, now)
		})
	}, func(_ *effects, err error) {
		// The next tick tries again.
		p.asked, p.count = nil, p.count-len(told)
		p.held = append(told, p.held...)
	})
}

// pushAnswered is the answer of a push service; err is nil for a result.
type pushAnswered struct {
	id  string
	err *stanza.Error
}

func (ev *pushAnswered) apply(s *State, fx *effects) {
	for _, p := range s.pushes {
		if p.asked != nil && p.asked.id == ev.id {
			s.pushDone(p, ev.err, true, fx)
			s.pushTo(p, fx)
		}
	}
}

// pushDone deals with the outcome of a request. Where the service has answered that
// it failed, what it was told of waits on; where it hasn't, nobody knows whether
// the device was woken, and it isn't done twice.
func (s *State) pushDone(p *pushTarget, e *stanza.Error, answered bool, fx *effects) {
	told := p.asked.told
	p.asked = nil
	before := p.PushState
	var ops []store.Op
	switch {
	case e == nil:
		p.PushState = store.PushState{}
	case !passes(e) || p.Failures+1 >= pushFailures:
		p.PushState = store.PushState{Failures: p.Failures + 1, Condition: string(e.Condition), Off: true}
		s.cfg.Log.Info("push service switched off", "account", s.jid, "device", p.Resource, "service", p.Service, "error", e)
	default:
		pause := min(pushPause<<p.Failures, pushPauseMax)
		p.PushState = store.PushState{Failures: p.Failures + 1, Condition: string(e.Condition), Retry: fx.now.Add(pause)}
	}
	if e != nil {
		s.cfg.stats.PushErrors.Add(1)
		if answered {
			p.count -= len(told)
			for i := range told {
				if told[i].kept = told[i].id != 0; told[i].kept && !p.Off {
					ops = append(ops, store.PushHold{PushKey: s.pushKey(p), ID: told[i].id})
				}
			}
			p.held = append(told, p.held...)
			p.held = p.held[max(0, len(p.held)-store.MaxPushHeld):]
		}
	}
	if before != p.PushState {
		ops = append(ops, store.PushFailed{PushKey: s.pushKey(p), State: p.PushState})
	}
	if len(ops) > 0 {
		fx.commit(ops) // a state that isn't kept is found out again
	}
}

// passes reports whether it is worth trying again after an error: the service can't
// be reached, or says so itself.
func passes(e *stanza.Error) bool {
	switch e.Condition {
	case stanza.RemoteServerNotFound, stanza.RemoteServerTimeout, stanza.ServiceUnavailable, stanza.RecipientUnavailable,
		stanza.InternalServerError, stanza.ResourceConstraint, stanza.UndefinedCondition:
		return true
	}
	return e.Type == stanza.Wait
}

// pushTick passes time for push services.
func (s *State) pushTick(fx *effects) {
	for _, p := range s.pushes {
		if p.asked != nil && fx.now.Sub(p.asked.at) >= pushPatience {
			s.cfg.hub.services.forget(p.asked.id)
			s.pushDone(p, stanza.NewError(stanza.RemoteServerTimeout, "the push service didn't answer"), false, fx)
		}
	}
	s.pushAll(fx)
}

// services are the requests of all accounts to push services, by id.
type services struct {
	mu    sync.Mutex
	asked map[string]asked
}

type asked struct {
	account jid.JID
	service jid.JID
	at      time.Time
}

// expect notes a request. An account has one for each service at most, and forgets
// it when it is answered or too old; what an account left that is no more goes here.
func (q *services) expect(id string, a asked) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.asked == nil {
		q.asked = map[string]asked{}
	}
	if len(q.asked)%1024 == 1023 {
		maps.DeleteFunc(q.asked, func(_ string, old asked) bool { return a.at.Sub(old.at) > 2*pushPatience })
	}
	q.asked[id] = a
}

// take returns the account that asked, if it was this service that was asked.
func (q *services) take(id string, from jid.JID) (account jid.JID, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	a, ok := q.asked[id]
	if !ok || a.service != from {
		return jid.JID{}, false
	}
	delete(q.asked, id)
	return a.account, true
}

func (q *services) forget(id string) {
	q.mu.Lock()
	delete(q.asked, id)
	q.mu.Unlock()
}

// askService sends a request to a push service; the answer comes as pushAnswered.
func (h *Hub) askService(account jid.JID, st *stanza.Stanza, now time.Time) {
	h.services.expect(st.ID, asked{account, st.To, now})
	e := stanza.NewError(stanza.RemoteServerNotFound, "")
	if b := h.cfg.border(st.To.Domain()); b != nil {
		e = b.Send(st)
	}
	if e != nil {
		h.services.forget(st.ID)
		h.post(account, &pushAnswered{st.ID, e})
	}
}

// serviceAnswers takes what comes back to the server for a request of its own.
func (h *Hub) serviceAnswers(st *stanza.Stanza) {
	account, ok := h.services.take(st.ID, st.From)
	if !ok {
		return
	}
	ev := &pushAnswered{id: st.ID}
	if st.Type == stanza.TypeError {
		if ev.err = st.ParseError(); ev.err == nil {
			ev.err = stanza.NewError(stanza.UndefinedCondition, "")
		}
	}
	h.post(account, ev)
}

// pushOps are the operations of an update of push services.
func (s *State) pushOps(ops []store.Op, u *feature.Update, now time.Time) ([]store.Op, error) {
	if on := u.PushOn; on != nil {
		if d := on.Service.JID.Domain(); s.cfg.local(d) {
			return nil, stanza.NewError(stanza.ItemNotFound, "this server is no push service")
		}
		x := s.session(on.Session.Resource())
		if x == nil {
			return nil, stanza.NewError(stanza.UnexpectedRequest, "the session has ended")
		}
		ops = append(ops, store.PushEnable{Account: s.id, Target: store.PushTarget{Service: on.Service.JID, Node: on.Service.Node, Options: on.Service.Options,
			Client: x.client, Resource: x.jid.Resource(), At: now}})
	}
	if off := u.PushOff; off != nil {
		ops = append(ops, store.PushDisable{PushKey: store.PushKey{Account: s.id, Service: off.Service, Node: off.Node}, All: off.All})
	}
	return ops, nil
}

// fillPush takes what the store has of push services; what waits in memory stays.
func (s *State) fillPush(ev *accountLoaded, now time.Time) {
	before := s.pushes
	s.pushes, s.muted = nil, ev.muted
	for _, d := range ev.data.Push {
		p := &pushTarget{PushTarget: d}
		i := slices.IndexFunc(before, func(p *pushTarget) bool { return p.Service == d.Service && p.Node == d.Node })
		if i >= 0 {
			p.held, p.asked = before[i].held, before[i].asked
			p.count, p.upTo = before[i].count, before[i].upTo
			if b := before[i]; !p.At.Equal(b.At) || p.Client != b.Client || p.Resource != b.Resource { // named again, maybe by another device
				p.count, p.upTo = 0, s.order
			}
		} else {
			p.upTo = s.order // what was before is of before the device asked for it
			for _, id := range d.Held {
				h := heldPush{id: id, kept: true, since: now}
				if st := parseOwn(ev.held[id]); st != nil { // else it was deleted meanwhile
					h = s.heldOf(st, now)
					h.id, h.kept = id, true
					h.facts = route.PushFacts{Message: route.Inspect(st), Intent: route.Conversation, Found: true}
				}
				p.held = append(p.held, h)
			}
		}
		p.PushTarget.Held = nil
		s.pushes = append(s.pushes, p)
	}
	for _, p := range before {
		if p.asked != nil && !slices.ContainsFunc(s.pushes, func(q *pushTarget) bool { return q.asked == p.asked }) {
			s.cfg.hub.services.forget(p.asked.id)
		}
	}
}

// dropPushes forgets push services with all that waits for them.
func (s *State) dropPushes(which func(*pushTarget) bool) {
	s.pushes = slices.DeleteFunc(s.pushes, func(p *pushTarget) bool {
		if !which(p) {
			return false
		}
		if p.asked != nil {
			s.cfg.hub.services.forget(p.asked.id)
		}
		return true
	})
}

// readPush reads what an account with push services needs besides: the messages that
// wait, and of which conversations the person wants no notifications.
func (h *Hub) readPush(ctx context.Context, ev *accountLoaded) error {
	var ids []store.ArchiveID
	for _, p := range ev.data.Push {
		ids = append(ids, p.Held...)
	}
	if len(ids) > 0 {
		slices.Sort(ids)
		ids = slices.Compact(ids)
		ev.held = map[store.ArchiveID][]byte{}
		_, err := h.cfg.Store.Archive(ctx, store.ArchiveQuery{Account: ev.data.ID, IDs: ids, Max: len(ids)}, func(m store.ArchivedMessage) error {
			ev.held[m.ID] = slices.Clone(m.Stanza)
			return nil
		})
		if err != nil {
			return err
		}
	}
	_, items, err := h.cfg.Store.EventItems(ctx, ev.data.ID, xep.NodeBookmarks, nil, maxBookmarks)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	for _, it := range items {
		j, bad := jid.Parse(it.ID)
		el, unread := xmltree.Parse(it.Payload, "", xmltree.Limits{MaxBytes: len(it.Payload) + 1})
		if bad != nil || unread != nil {
			continue
		}
		if when := xep.ParseNotify(el, "client", "phone"); when > xep.NotifyAlways {
			if ev.muted == nil {
				ev.muted = map[jid.JID]xep.NotifyWhen{}
			}
			ev.muted[j.Bare()] = when
		}
	}
	return err
}

// maxBookmarks is how many bookmarks are looked at for what is in them of notifications.
const maxBookmarks = 1000
