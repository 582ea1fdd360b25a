package account

import (
	"context"

	"carillon.im/stanza"
)

// Answer counts a stanza that the connection has answered itself, such as one
// that was malformed, and sends the reply, nil for none. Only the connection's
// reader may call it; the error is the context's.
func (x *Session) Answer(ctx context.Context, _ *stanza.Stanza, _ int, reply *stanza.Stanza) error {
	number, err := x.count(ctx)
	if err != nil {
		return err
	}
	if reply != nil {
		x.deliver(reply.AppendTo(nil), tag{})
	}
	x.handled(number)
	return nil
}
