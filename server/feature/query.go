package feature

import (
	"context"
	"errors"

	"carillon.im/stanza"
)

// AskerSees reports whether the asker may learn of the owner's presence: it is
// the owner itself, or has a subscription and isn't blocked. It is false for
// an owner that doesn't exist, so that a handler which answers by it doesn't
// tell who does.
func (q *Query) AskerSees(ctx context.Context) (bool, error) {
	r, err := q.Owner.Relation(ctx, q.IQ.From)
	var e *stanza.Error
	if errors.As(err, &e) && e.Condition == stanza.ItemNotFound {
		return false, nil
	}
	return err == nil && (r.Own || r.Sees && !r.Blocked), err
}
