package store

import (
	"context"
	"fmt"
	"time"

	"carillon.im/jid"
	"carillon.im/server/store/sqlite"
)

// Bounds of what is kept for push notifications.
const (
	MaxPush     = 32   // services per account, each with its node
	MaxPushHeld = 64   // messages per service; the oldest go
	MaxPushText = 8192 // bytes of node and options
)

// PushTarget is a push service that one of an account's devices has named (XEP-0357 5).
type PushTarget struct {
	Service  jid.JID
	Node     string
	Options  string // the form of publish options, opaque here
	Client   string // the device: the id of its user-agent, "" if it has none
	Resource string // and the resource from which it named the service last
	At       time.Time
	PushState
	Held []ArchiveID // messages of which it has yet to be notified, ascending
}

// PushState is how a push service does.
type PushState struct {
	Failures  int       // in a row
	Retry     time.Time // not before; zero: at any time
	Condition string    // of the last failure, "" for none
	Off       bool      // nothing is sent to it until it is named again
}

// PushKey names a PushTarget.
type PushKey struct {
	Account AccountID
	Service jid.JID
	Node    string
}

// PushEnable keeps a push service, or what is new of it; its state is then as if nothing had failed. Beyond MaxPush those that were named longest
// ago go. State and Held of the target are ignored. ErrNotFound if there is no such account, ErrInvalid beyond MaxPushText.
type PushEnable struct {
	Account AccountID
	Target  PushTarget
}

// PushDisable forgets a push service, with what is held back for it; All: with all its nodes.
type PushDisable struct {
	PushKey
	All bool
}

// PushFailed notes how a push service does, if it is known.
type PushFailed struct {
	PushKey
	State PushState
}

// PushHold notes that a device has yet to be notified of a message. For a service that isn't known (any more) nothing happens: the message of
// whose unit it is a part is worth more. Beyond MaxPushHeld the oldest go.
type PushHold struct {
	PushKey
	ID ArchiveID
}

// PushRelease ends what PushHold began, for so many messages.
type PushRelease struct {
	PushKey
	IDs []ArchiveID
}

func (o PushEnable) exec(t *tx) error {
	p := &o.Target
	if n := len(p.Node) + len(p.Options); n > MaxPushText {
		return fmt.Errorf("push service with %d bytes: %w", n, ErrInvalid)
	}
	if err := t.run(qPushPut, o.Account, p.Service.String(), p.Node, p.Options, p.Client, p.Resource, p.At.UnixMicro()); err != nil {
		return err
	}
	return t.run(qPushCut, o.Account, MaxPush)
}

func (o PushDisable) exec(t *tx) error {
	if o.All {
		return t.run(qPushDelAll, o.Account, o.Service.String())
	}
	return t.run(qPushDel, o.Account, o.Service.String(), o.Node)
}

func (o PushFailed) exec(t *tx) error {
	retry := int64(0)
	if !o.State.Retry.IsZero() {
		retry = o.State.Retry.UnixMicro()
	}
	return t.run(qPushState, o.Account, o.Service.String(), o.Node, o.State.Failures, retry, clip(o.State.Condition), o.State.Off)
}

func (o PushHold) exec(t *tx) error {
	if err := t.run(qPushHold, o.Account, o.Service.String(), o.Node, o.ID); err != nil {
		return err
	}
	return t.run(qPushHeldCut, o.Account, o.Service.String(), o.Node, MaxPushHeld)
}

func (o PushRelease) exec(t *tx) error {
	for _, id := range o.IDs {
		if err := t.run(qPushRelease, o.Account, o.Service.String(), o.Node, id); err != nil {
			return err
		}
	}
	return nil
}

func (o PushEnable) size() int {
	return opOverhead + len(o.Target.Node) + len(o.Target.Options) + len(o.Target.Client) + len(o.Target.Resource)
}
func (o PushDisable) size() int { return opOverhead + len(o.Node) }
func (o PushFailed) size() int  { return opOverhead + len(o.Node) + len(o.State.Condition) }
func (o PushHold) size() int    { return opOverhead + len(o.Node) }
func (o PushRelease) size() int { return opOverhead + len(o.Node) + 8*len(o.IDs) }

// PushTargets returns the push services of an account, those named last first.
func (s *Store) PushTargets(ctx context.Context, id AccountID) (list []PushTarget, err error) {
	err = s.read(ctx, func(c *conn) error {
		return s.snapshot(c, func() error {
			list, err = pushTargets(c, id)
			return err
		})
	})
	return list, err
}

func pushTargets(c *conn, id AccountID) (list []PushTarget, err error) {
	err = c.each(qPushAll, func(r *sqlite.Stmt) error {
		p := PushTarget{Node: r.ColText(1), Options: r.ColText(2), Client: r.ColText(3), Resource: r.ColText(4), At: stamp(r.ColInt(5)),
			PushState: PushState{Failures: int(r.ColInt(6)), Retry: stamp(r.ColInt(7)), Condition: r.ColText(8), Off: r.ColInt(9) != 0}}
		p.Service, err = parseJID(r.ColText(0))
		list = append(list, p)
		return err
	}, id)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	err = c.each(qPushHeldAll, func(r *sqlite.Stmt) error {
		service, node := r.ColText(0), r.ColText(1)
		for i := range list {
			if p := &list[i]; p.Node == node && p.Service.String() == service {
				p.Held = append(p.Held, ArchiveID(r.ColInt(2)))
			}
		}
		return nil
	}, id)
	return list, err
}

// PushHeldAccounts returns up to limit accounts above after, by id, whose devices have yet to be notified of something: whoever starts the server
// loads them.
func (s *Store) PushHeldAccounts(ctx context.Context, after AccountID, limit int) ([]AccountInfo, error) {
	var list []AccountInfo
	err := s.read(ctx, func(c *conn) error {
		return c.each(qPushHeldAccounts, func(r *sqlite.Stmt) error {
			a, err := readAccount(r)
			list = append(list, a)
			return err
		}, after, max(limit, 0))
	})
	return list, err
}
