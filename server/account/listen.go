package account

import (
	"context"
	"slices"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/stanza"
)

// listening is what a listener (feature.Listener) wants to hear of, and what it has
// heard while the newest items of it are looked up. Only the loop touches it.
//
// From the moment in which it says what it wants it is told of all that is told. So
// what is read after that is either heard later or was told before; and where it is
// both, because the commit was under way, heard says that it need not be sent.
type listening struct {
	events []string
	heard  map[heardOf]bool // whether an item was the last of the node that it heard; nil: nothing is looked up
}

type heardOf struct {
	owner jid.JID
	node  string
}

// maxHeard bounds heard. A listener that hears of more nodes while it is told the
// newest items of others may hear of one twice.
const maxHeard = 1000

func (l *listening) wants(node string) bool { return slices.Contains(l.events, node) }

// want is feature.Listener.SetEvents.
func (l *listening) want(nodes []string) (added []string) {
	for _, n := range nodes {
		if !l.wants(n) {
			added = append(added, n)
		}
	}
	l.events, l.heard = nodes, nil
	if len(added) > 0 {
		l.heard = map[heardOf]bool{}
	}
	return added
}

// hear notes that the listener is told of an event.
func (l *listening) hear(ev *told) {
	if l.heard == nil {
		return
	}
	l.note(heardOf{ev.stanza.From, ev.node}, ev.item)
}

func (l *listening) note(of heardOf, item bool) {
	if _, known := l.heard[of]; known || len(l.heard) < maxHeard {
		l.heard[of] = item
	}
}

// hasHeard finds whether a node's newest item has still to be told, which is done
// then.
func (l *listening) hasHeard(owner jid.JID, node string) feature.Heard {
	if l.heard == nil {
		return feature.HeardNothing
	}
	of := heardOf{owner, node}
	item, heard := l.heard[of]
	switch {
	case !heard:
		l.note(of, true)
		return feature.HeardNothing
	case item:
		return feature.HeardItem
	}
	delete(l.heard, of) // it is looked up again
	return feature.HeardChange
}

// SetEvents says of which nodes the session wants to hear.
func (x *session) SetEvents(ctx context.Context, nodes []string) (added []string, err error) {
	return ask(ctx, x.hub, x.jid.Bare(), func(s *State, _ *effects) []string {
		if s.index(x) < 0 || !x.available {
			return nil
		}
		return x.want(nodes)
	})
}

// Publishers are the session's account and those whose presence it sees, the own one
// last.
func (x *session) Publishers(ctx context.Context) ([]jid.JID, error) {
	return ask(ctx, x.hub, x.jid.Bare(), func(s *State, _ *effects) (list []jid.JID) {
		for j, c := range s.roster {
			if c.To && s.cfg.local(j.Domain()) && j.Local() != "" && !s.blocks(j) {
				list = append(list, j)
			}
		}
		return append(list, s.jid)
	})
}

// TellLast sends the session a newest item that it hasn't heard of.
func (x *session) TellLast(ctx context.Context, node string, headline *stanza.Stanza) (feature.Heard, error) {
	if err := x.roomForMore(ctx); err != nil {
		return 0, err
	}
	return inTurn(ctx, &accountRef{x.hub, x.jid.Bare()}, (*State).laterKept, func(*State) feature.Heard {
		if !x.wantsEvent(node) {
			return feature.HeardItem // it doesn't want to
		}
		heard := x.hasHeard(headline.From, node)
		if heard == feature.HeardNothing {
			x.deliver(headline.AppendTo(nil), tag{})
		}
		return heard
	})
}

// EventsTold ends what SetEvents began.
func (x *session) EventsTold(ctx context.Context) error {
	_, err := ask(ctx, x.hub, x.jid.Bare(), func(*State, *effects) struct{} {
		x.heard = nil
		return struct{}{}
	})
	return err
}
