package account

import (
	"context"

	"carillon.im/jid"
	"carillon.im/server/store"
	"carillon.im/stanza"
)

// EndClient takes an installation's access to an account away, as far as it doesn't
// know the password (XEP-0494 3.2): its tokens, its sessions, connected or waiting to
// be resumed, and its cursor. All of it is over when EndClient returns nil; where it
// fails nothing has changed. One that is not known is no error. The error is
// item-not-found for an account that doesn't exist, the context's or the store's.
func (h *Hub) EndClient(ctx context.Context, bare jid.JID, client string) error {
	done := make(chan error, 1)
	_, err := ask(ctx, h, bare.Bare(), func(s *State, fx *effects) struct{} {
		if s.unknown() {
			done <- stanza.NewError(stanza.ItemNotFound, "")
		} else {
			s.endClient(client, done, fx)
		}
		return struct{}{}
	})
	if err != nil {
		return err
	}
	return h.await(ctx, done)
}

// endClient first has the store forget the client, so that who is thrown out can't
// come back. Who logs in meanwhile is there to be ended with the others, or finds
// that it isn't known any more when it is noted.
func (s *State) endClient(client string, done chan<- error, fx *effects) {
	e := s.hold(fx.now, func(fx *effects) { fx.post(s.jid, &clientForgotten{client, done}) })
	e.failed = func(fx *effects, err error) { fx.call(func() { done <- err }) }
	fx.commit([]store.Op{store.ClientForget{Account: s.id, ID: client}}, e)
}

// clientForgotten: a client's access is gone from the store.
type clientForgotten struct {
	client string
	done   chan<- error // buffered
}

func (ev *clientForgotten) apply(s *State, fx *effects) {
	for i := 0; i < len(s.sessions); {
		if x := s.sessions[i]; x.client == ev.client {
			s.end(x, stanza.NewStreamError(stanza.StreamNotAuthorized, "the client's access was revoked"), fx)
		} else {
			i++
		}
	}
	delete(s.cursors, ev.client) // behind end, which notes it
	s.dropPushes(func(p *pushTarget) bool { return p.Client == ev.client })
	fx.call(func() { ev.done <- nil })
}
