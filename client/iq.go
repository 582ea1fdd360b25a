package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
)

// callKey says whose answer is awaited. A peer's id alone would let others
// answer in its place.
type callKey struct {
	peer jid.JID
	id   string
}

// call is an IQ without an answer. Its function is called once, with the answer
// or the error, by the reader or under c.mu: it must not wait.
type call struct {
	done func(*stanza.Stanza, error)
}

func (c *call) fail(err error) { c.done(nil, err) }

type answer struct {
	st  *stanza.Stanza
	err error
}

// IQ sends a request, type get or set, and returns its result. An error that
// came as the answer is a *stanza.Error; ErrSessionLost says that it isn't known
// whether the request was carried out. Without a deadline in ctx,
// Config.RequestTimeout is one. The stanza is not changed; without an id it gets
// one. At most Config.MaxRequests wait for their answers, further ones for their
// turn.
func (c *Client) IQ(ctx context.Context, st *stanza.Stanza) (*stanza.Stanza, error) {
	if st.Kind != stanza.IQ || st.Type != stanza.TypeGet && st.Type != stanza.TypeSet {
		return nil, errors.New("client: not a request")
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.cfg.RequestTimeout)
		defer cancel()
	}
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-c.done:
		return nil, c.why()
	case <-ctx.Done():
		return nil, c.late(ctx)
	}
	got := make(chan answer, 1)
	key, tag, out, err := c.register(st, func(st *stanza.Stanza, err error) { got <- answer{st, err} })
	if err != nil {
		return nil, err
	}
	if err := c.enqueue(ctx, out, tag); err != nil {
		c.forget(key, tag.call)
		return nil, err
	}
	select {
	case a := <-got:
		return a.st, a.err
	case <-ctx.Done():
		c.forget(key, tag.call)
		return nil, c.late(ctx)
	}
}

// register expects the answer to a request.
func (c *Client) register(st *stanza.Stanza, done func(*stanza.Stanza, error)) (callKey, outgoing, *stanza.Stanza, error) {
	out := *st
	out.From = jid.JID{}
	if out.ID == "" {
		var err error
		if out.ID, err = c.newID(); err != nil {
			return callKey{}, outgoing{}, nil, err
		}
	}
	key := callKey{c.peer(out.To), out.ID}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.final != nil {
		return key, outgoing{}, nil, c.final
	}
	if c.calls[key] != nil {
		return key, outgoing{}, nil, fmt.Errorf("client: the id %q is in use", out.ID)
	}
	tag := outgoing{kind: stanza.IQ, call: &call{done}}
	c.calls[key] = tag.call
	return key, tag, &out, nil
}

func (c *Client) forget(key callKey, old *call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls[key] == old {
		delete(c.calls, key)
	}
}

// peer is whose answer a request to an address gets: a request to nobody is
// answered for the own account (RFC 6120 8.1.2.1).
func (c *Client) peer(to jid.JID) jid.JID {
	if to.IsZero() {
		return c.cfg.Account
	}
	return to
}

// forAccount reports whether an answer from an address is the own account's, where
// self is this session's address: they come from its bare address, from nobody, or, of
// older servers, from the session's own, which nobody else can use. What comes from
// the address of another device is that device's.
func (c *Client) forAccount(from, self jid.JID) bool {
	return from.IsZero() || from == c.cfg.Account || from == self
}

func (c *Client) why() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.final
}

// late is the error of a request whose time is over.
func (c *Client) late(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stalled {
		return fmt.Errorf("%w: %w", ErrStalled, ctx.Err())
	}
	return ctx.Err()
}

// answered hands an answer to who waits for it; one that nobody asked for, or
// that comes from somebody else, is dropped.
func (c *Client) answered(st *stanza.Stanza) {
	c.mu.Lock()
	key := callKey{st.From, st.ID}
	if c.calls[key] == nil && c.session != nil && c.forAccount(st.From, c.session.full) {
		key.peer = c.cfg.Account
	}
	call := c.calls[key]
	delete(c.calls, key)
	c.mu.Unlock()
	switch {
	case call == nil:
	case st.Type == stanza.TypeResult:
		call.done(st, nil)
	default:
		e := st.ParseError()
		if e == nil {
			e = stanza.NewError(stanza.UndefinedCondition, "the answer is an error without a condition")
		}
		call.fail(e)
	}
}

// ask is IQ with a payload, canonical in the context jabber:client.
func (c *Client) ask(ctx context.Context, typ string, to jid.JID, payload string) (*stanza.Stanza, error) {
	return c.IQ(ctx, stanza.Build(stanza.IQ, typ, "", jid.JID{}, to, payload))
}

// Ping asks somebody, the zero JID for the own server, for a sign of life
// (XEP-0199) and returns how long it took. An error as an answer is one too.
func (c *Client) Ping(ctx context.Context, to jid.JID) (time.Duration, error) {
	if to.IsZero() {
		to = c.cfg.Account.DomainJID()
	}
	begun := c.cfg.Clock.Now()
	_, err := c.ask(ctx, stanza.TypeGet, to, xep.Ping)
	if e := (*stanza.Error)(nil); errors.As(err, &e) && (e.Condition == stanza.ServiceUnavailable || e.Condition == stanza.FeatureNotImplemented) && to == c.cfg.Account.DomainJID() {
		err = nil
	}
	return c.cfg.Clock.Now().Sub(begun), err
}
