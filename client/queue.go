package client

import (
	"context"
	"errors"
	"iter"
)

// Next returns the next event, and says by being called that the one before is
// handled. When the client is over and nothing is left, it returns why: ErrClosed
// after Close. If ctx ends before, it returns its error.
func (c *Client) Next(ctx context.Context) (Event, error) {
	c.Handled()
	for {
		ev, err := c.take()
		if ev != nil || err != nil {
			return ev, err
		}
		select {
		case <-c.arrived:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Waiting returns at most so many events that have come behind the one that Next
// returned last, without waiting for any; all of them count as handled at the next
// call of Next or Handled. It stops before a Connected, which may change what the
// events behind it mean. It is for programs that keep what several say in one step.
func (c *Client) Waiting(most int) (list []Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(list) < most && len(c.events) > 0 {
		if _, ok := c.events[0].event.(*Connected); ok {
			break
		}
		list = append(list, c.shift())
	}
	return list
}

// Events yields what Next returns until ctx ends or the client is over; ErrClosed
// and ctx's error end it without being yielded.
func (c *Client) Events(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for {
			ev, err := c.Next(ctx)
			if err != nil {
				if !errors.Is(err, ErrClosed) && ctx.Err() == nil {
					yield(nil, err)
				}
				return
			}
			if !yield(ev, nil) {
				return
			}
		}
	}
}

// Handled says that the events that Next and Waiting returned last are handled,
// for who won't call Next again or not soon.
func (c *Client) Handled() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settleTaken()
}

// counted is a stanza of the server's that has a number.
type counted struct {
	epoch  int
	number uint64
}

// settleTaken notes that what the program has in hand is done with. c.mu is held.
func (c *Client) settleTaken() {
	for _, n := range c.taken {
		c.settle(n.epoch, n.number)
	}
	c.taken = c.taken[:0]
}

// take removes the first event.
func (c *Client) take() (Event, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.events) == 0 {
		return nil, c.final
	}
	return c.shift(), nil
}

// shift removes the first event, of one or more. c.mu is held.
func (c *Client) shift() Event {
	q := c.events[0]
	c.events[0] = queued{}
	c.events = c.events[1:]
	if len(c.events) == 0 {
		c.events = nil
	}
	c.held -= q.size
	if q.number > 0 {
		c.taken = append(c.taken, counted{q.epoch, q.number})
	}
	c.stalled = false
	signal(c.room)
	if c.cfg.Deliveries {
		c.wakeSenders()
	}
	return q.event
}

// push queues an event, and waits while the queue is full. At the end of the
// client it doesn't wait: what finds no room then is dropped, and without an
// acknowledgement.
func (c *Client) push(q queued) {
	for !c.tryPush(q) {
		select {
		case <-c.room:
		case <-c.quit:
			return
		case <-c.ctx.Done():
			return
		}
	}
}

func (c *Client) tryPush(q queued) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	most := c.cfg.MaxEvents
	if q.size == 0 {
		most *= 2 // what isn't a stanza says what became of the stanzas: there is room kept for it
	}
	if len(c.events) >= most || q.size > 0 && c.held+q.size > c.cfg.MaxEventBytes && len(c.events) > 0 {
		c.stalled = true
		return false
	}
	c.pushNow(q)
	return true
}

// pushNow queues an event. c.mu is held.
func (c *Client) pushNow(q queued) {
	c.events = append(c.events, q)
	c.held += q.size
	signal(c.arrived)
}

// settle notes that a stanza of the server is done with. c.mu is held.
func (c *Client) settle(epoch int, number uint64) {
	if number == 0 || epoch != c.epoch {
		return
	}
	c.in.Done(number)
	// The server may hold things back until it knows: it is told at the end of
	// what it sent, and every so often before.
	if c.owed && (c.in.Pending() == 0 || c.in.H()-c.told >= ackEvery) {
		c.ack()
	}
}

// ackEvery is after how many handled stanzas a server that has asked hears of
// them, if there are more to come.
const ackEvery = 32
