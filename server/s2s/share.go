package s2s

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"carillon.im/server/s2s/lookup"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// A stream may carry further pairs of domains beside that of its way (XEP-0220 2.6,
// RFC 7712 4.4): its guests. Server.ways has the way for their pairs too, so that what
// is sent for them stands in its queue, in the order in which it is written, and one
// count says what has come. A pair becomes a guest when the other end has let it on the
// stream by dialback, and asks anew with each stream: before one that broke is resumed,
// too. Whose pair isn't let on gets a way of its own, with what waits for it.
//
// Two ways are locked at once only with Server.mu held.

// sharing is which pairs beside the first the other end of a stream takes.
type sharing int

const (
	alone      sharing = iota
	sameDomain         // others of our domains to the same one (XEP-0220 2.6.1)
	anyDomain          // to other domains at the same place, too (2.6.2)
)

var (
	errRefused = errors.New("the other server takes no further domains over this stream")
	errEnds    = errors.New("the stream has ended")
)

// allWays are the ways, each once. mu is held.
func (s *Server) allWays() []*way {
	list := make([]*way, 0, len(s.ways))
	for p, w := range s.ways {
		if p == w.pair {
			list = append(list, w)
		}
	}
	return list
}

// dismiss forgets a way and its guests. mu is held.
func (s *Server) dismiss(w *way) {
	delete(s.ways, w.pair)
	for p := range w.guests {
		delete(s.ways, p)
	}
}

// sociable reports whether the way may be looked for a stream of another one. What came
// over a stream of its own is known there alone.
func (w *way) sociable() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.solo && w.session == nil && w.past == nil && w.queue.sent == 0 && len(w.guests) == 0
}

// queueUp waits, once and not for long, for another way that is getting a stream to the
// same domain. The function that it returns is to be called when this one has its own, or
// none, and may be called again.
func (s *Server) queueUp(w *way) (up func()) {
	sociable := w.sociable()
	s.mu.Lock()
	before := s.dialing[w.pair.remote]
	if before == nil {
		ahead := make(chan struct{})
		s.dialing[w.pair.remote] = ahead
		s.mu.Unlock()
		return sync.OnceFunc(func() {
			s.mu.Lock()
			delete(s.dialing, w.pair.remote)
			s.mu.Unlock()
			close(ahead)
		})
	}
	s.mu.Unlock()
	if sociable {
		timer := time.NewTimer(s.cfg.Limits.Ask)
		defer timer.Stop()
		select {
		case <-before:
		case <-timer.C:
		case <-s.ctx.Done():
		}
	}
	return func() {}
}

// board looks for a stream that takes the way's pair, and gives it what waits; then
// the way is no more. False: it needs a stream of its own.
func (s *Server) board(w *way) bool {
	if !w.sociable() {
		return false
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.Limits.Ask)
	defer cancel()
	h, c, err := s.host(ctx, w.pair)
	if h == nil {
		return false
	}
	if err == nil {
		err = c.ask(ctx, w.pair)
	}
	if err == nil && s.join(w, h, c) {
		c.log(slog.LevelInfo, "stream to another server is shared", slog.String("beside", w.pair.local+" to "+w.pair.remote))
		s.reached(w.pair.remote)
		return true
	}
	c.log(slog.LevelInfo, "stream to another server isn't shared", slog.String("beside", w.pair.local+" to "+w.pair.remote), slog.Any("error", err))
	w.mu.Lock()
	w.solo = true
	w.mu.Unlock()
	return false
}

// host finds a way whose stream leads to a pair's other domain. The error says why it
// isn't to be asked.
func (s *Server) host(ctx context.Context, p pair) (*way, *conn, error) {
	if h, c := s.lookFor(p, p.remote); h != nil {
		return h, c, nil
	}
	s.mu.Lock()
	none := len(s.hosts) == 0
	s.mu.Unlock()
	if none {
		return nil, nil, nil
	}
	targets, err := s.cfg.Resolver.Targets(ctx, p.remote)
	if err != nil {
		return nil, nil, nil // connect will say so
	}
	for _, t := range targets {
		if h, c := s.hostAt(ctx, p, t); h != nil {
			return h, c, c.stands(ctx, p.remote, t)
		}
	}
	return nil, nil, nil
}

// hostAt finds a way whose stream was made to a target.
func (s *Server) hostAt(ctx context.Context, p pair, t lookup.Target) (*way, *conn) {
	addrs, err := s.cfg.Resolver.Addresses(ctx, t.Host)
	if err != nil {
		return nil, nil
	}
	for _, a := range addrs {
		if h, c := s.lookFor(p, netip.AddrPortFrom(a, t.Port).String()); h != nil {
			return h, c
		}
	}
	return nil, nil
}

// lookFor is the way that stands under a key, with its stream, if the pair may be
// asked for there.
func (s *Server) lookFor(p pair, key string) (*way, *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.hosts[key]
	if h == nil {
		return nil, nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.link
	if c == nil || h.stopped || h.pair == p || len(h.guests)+1 >= s.cfg.Limits.Pairs || c.ended() {
		return nil, nil
	}
	return h, c
}

// stands tells whether the server at the other end may stand for one more domain, whose
// target this is: it proves as much as the policy for that wants (RFC 7712 4.4.2).
func (c *conn) stands(ctx context.Context, remote string, t lookup.Target) error {
	policy := c.srv.policy(remote)
	proof, err := c.proves(ctx, remote, t)
	if policy.accepts(proof) {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("the policy for %s is %q", remote, policy)
	}
	return err
}

// ask asks the other end to take a further pair, and waits for its answer (XEP-0220
// 2.6). The way back of what a peer has proved on its own stream needs none (XEP-0288
// 2.2).
func (c *conn) ask(ctx context.Context, p pair) error {
	if !c.outgoing && c.may(p) {
		return nil
	}
	answer, err := c.askFor(p)
	if err != nil {
		return err
	}
	select {
	case err := <-answer:
		return err
	case <-c.done:
		return errEnds
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// askFor sends the question.
func (c *conn) askFor(p pair) (<-chan error, error) {
	answer := make(chan error, 1)
	c.mu.Lock()
	_, asked := c.asks[p]
	if asked || c.ending != nil || len(c.asks) >= c.srv.cfg.Limits.Pairs {
		c.mu.Unlock()
		return nil, errRefused
	}
	if c.asks == nil {
		c.asks = map[pair]chan error{}
	}
	c.asks[p] = answer
	c.mu.Unlock()
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.finished {
		return nil, errEnds
	}
	return answer, c.writeLocked(c.dialbackRequest(p))
}

// dialbackRequest is our proof of a pair's domain (XEP-0220 2.1.1).
func (c *conn) dialbackRequest(p pair) []byte {
	b := append([]byte("<db:result"), fromTo(p.local, p.remote)...)
	return append(b, ">"+c.srv.dialbackKey(p.local, p.remote, c.id)+"</db:result>"...)
}

// answer takes what the other end says to a pair that it was asked for; false if it
// wasn't, or has answered before.
func (c *conn) answer(p pair, el xmltree.Element) bool {
	c.mu.Lock()
	answer := c.asks[p]
	if answer == nil {
		c.mu.Unlock()
		return false
	}
	c.asks[p] = nil
	valid, both := el.Attr("type") == "valid", c.bidi
	c.mu.Unlock()
	if !valid {
		answer <- errRefused
		return true
	}
	c.let(p)
	if both {
		c.allow(p, "dialback") // XEP-0288 2.2: the way back, from the domain that it stands for
	}
	answer <- nil
	return true
}

// let notes that we may send for a pair.
func (c *conn) let(p pair) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sends == nil {
		c.sends = map[pair]bool{}
	}
	c.sends[p] = true
}

// askForGuests asks, on a stream that isn't used yet, for the pairs that wait to go on
// with its way, all at once.
func (c *conn) askForGuests(ctx context.Context, w *way) error {
	w.mu.Lock()
	var wanted []pair
	for p, l := range w.guests {
		if l.bytes > 0 && (p.remote == c.remote && c.shares >= sameDomain || c.shares >= anyDomain) {
			wanted = append(wanted, p)
		}
	}
	w.mu.Unlock()
	open := 0
	for _, p := range wanted {
		if p.remote != c.remote && !c.leadsTo(ctx, p.remote) {
			continue
		}
		if _, err := c.askFor(p); err != nil {
			return err
		}
		open++
	}
	for ; open > 0; open-- {
		el, err := c.reply()
		if err != nil {
			return err
		}
		from, e1 := domainOf(el.Attr("from"))
		to, e2 := domainOf(el.Attr("to"))
		if !el.Is(nsDialback, "result") || e1 != nil || e2 != nil || el.Attr("type") == "" || !c.answer(pair{to, from}, el) {
			return stanza.NewStreamError(stanza.StreamPolicyViolation, "a dialback is in progress")
		}
	}
	return nil
}

// leadsTo tells whether a domain is served where the stream goes, by a server that may
// stand for it.
func (c *conn) leadsTo(ctx context.Context, remote string) bool {
	targets, err := c.srv.cfg.Resolver.Targets(ctx, remote)
	if err != nil {
		return false
	}
	for _, t := range targets {
		addrs, err := c.srv.cfg.Resolver.Addresses(ctx, t.Host)
		if err != nil {
			continue
		}
		for _, a := range addrs {
			if netip.AddrPortFrom(a, t.Port).String() == c.raw.RemoteAddr().String() {
				return c.stands(ctx, remote, t) == nil
			}
		}
	}
	return false
}

// join makes a way's pair a guest of another way, on whose stream it was let.
func (s *Server) join(w, h *way, c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.ways[w.pair] != w || w.link != nil || w.stopped || len(w.guests) > 0 || h.link != c || h.stopped || h.guests[w.pair] != nil || c.ended() {
		return false
	}
	l := &load{pair: w.pair}
	for _, i := range w.queue.list {
		i.load = l
		h.queue.push(i)
	}
	w.queue, w.own.bytes = queue{}, 0
	w.connecting, w.stopped = false, true
	w.calm()
	if h.guests == nil {
		h.guests = map[pair]*load{}
	}
	h.guests[w.pair], s.ways[w.pair] = l, h
	c.offer(h, w.pair.remote)
	c.let(w.pair)
	h.used = time.Now()
	if long := h.tooLong(c); len(long) > 0 {
		s.running.Go(func() { s.giveBack(long, c.tooLong()) })
	}
	c.wakeUp()
	return true
}

// offer notes that a stream leads to a domain or address, unless another one does.
// Server.mu is held.
func (c *conn) offer(w *way, key string) {
	if c.srv.hosts[key] == nil {
		c.srv.hosts[key] = w
		c.keys = append(c.keys, key)
	}
}

// openTo notes that the peer has proved one more domain on a stream that it lends.
func (c *conn) openTo(remote string) {
	c.srv.mu.Lock()
	defer c.srv.mu.Unlock()
	c.mu.Lock()
	w := c.carries
	c.mu.Unlock()
	if w != nil && !c.outgoing {
		c.offer(w, remote)
	}
}

// seat takes the guests along that a new stream takes; the others get ways of their
// own. Server.mu and mu are held.
func (w *way) seat(c *conn) {
	if !c.outgoing || c.shares >= sameDomain { // who lends a stream (XEP-0288) must understand it
		c.offer(w, c.remote)
	}
	if c.outgoing && c.shares >= anyDomain {
		c.offer(w, c.raw.RemoteAddr().String())
	}
	c.mu.Lock()
	var let []string
	for p := range c.pairs {
		if !c.outgoing {
			let = append(let, p.remote)
		}
	}
	c.mu.Unlock()
	for _, remote := range let {
		c.offer(w, remote)
	}
	for p, l := range w.guests {
		c.mu.Lock()
		_, asked := c.asks[p]
		_, proved := c.pairs[p]
		stays := c.sends[p] || proved && !c.outgoing
		c.mu.Unlock()
		if !stays {
			w.part(l, asked)
		}
	}
}

// part gives a guest a way of its own, with what waits for it; solo if it was refused.
// Server.mu and mu are held.
func (w *way) part(l *load, solo bool) {
	list := w.queue.giveUp(func(i *item, _ bool) bool { return i.load == l })
	delete(w.guests, l.pair)
	delete(w.srv.ways, l.pair)
	if len(list) == 0 {
		return
	}
	own := w.srv.newWay(l.pair)
	own.mu.Lock()
	defer own.mu.Unlock()
	own.solo, own.stopped = solo, w.stopped
	for _, i := range list {
		i.load = &own.own
		own.queue.push(i)
	}
	w.srv.ways[l.pair] = own
	own.start()
}

// partAll gives guests ways of their own where no stream could be had, unless a broken
// one may still tell what has come of theirs; never: there won't be any.
func (w *way) partAll(never bool) {
	w.srv.mu.Lock()
	defer w.srv.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.link != nil || w.session != nil && !never {
		return
	}
	for _, l := range w.guests {
		w.part(l, false)
	}
}

// disband forgets where a stream that is over led to, and the guests for which nothing
// waits.
func (s *Server) disband(c *conn, w *way) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range c.keys {
		if s.hosts[key] == w {
			delete(s.hosts, key)
		}
	}
	c.keys = nil
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.link != nil {
		return
	}
	for _, l := range w.guests {
		if l.bytes == 0 {
			w.part(l, false)
		}
	}
}
