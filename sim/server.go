package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"carillon.im/jid"
	"carillon.im/server/account"
	"carillon.im/server/feature"
	"carillon.im/server/features/carbons"
	"carillon.im/server/features/imng"
	"carillon.im/server/features/mam"
	"carillon.im/server/store"
	"carillon.im/server/trail"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// resumeWindow is how long a lost connection's session stays: short, so that
// being away for longer is nothing special.
const resumeWindow = 40 * time.Second

// server is one domain: its accounts on a store that outlives them.
type server struct {
	w      *world
	domain string
	modern bool // it speaks 2.0
	store  *store.Store
	gate   *gate
	set    *feature.Set
	hub    *account.Hub
	ids    map[jid.JID]store.AccountID
	starts uint64
	up     bool
	closed chan struct{} // of the orderly stop that is under way
	hurry  func()        // which then waits for nothing any more
	killed time.Time     // the last time

	mu  sync.Mutex
	out []crossing // on the way over the border
	in  *entering  // what is being taken
}

// crossing is a stanza that leaves; id is the outbox's, 0 for one that isn't there.
type crossing struct {
	data string
	id   uint64
}

// entering is a stanza at the other side, until that has it on disk.
type entering struct {
	crossing
	start uint64 // the sender's
	done  chan error
}

// gate holds up what the store does until it is its turn. Each transaction is
// one unit, so its content doesn't depend on who was quicker.
type gate struct {
	mu      sync.Mutex
	open    bool
	dead    bool
	writer  chan error
	readers []chan error
}

var errKilled = errors.New("sim: killed")

func (g *gate) fault(point string) error {
	if point != "begin" && point != "read" {
		return nil
	}
	g.mu.Lock()
	if g.dead || g.open {
		defer g.mu.Unlock()
		if g.dead {
			return errKilled
		}
		return nil
	}
	ch := make(chan error, 1)
	if point == "begin" {
		g.writer = ch
	} else {
		g.readers = append(g.readers, ch)
	}
	g.mu.Unlock()
	return <-ch
}

func (g *gate) writes() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.writer != nil
}

func (g *gate) reads() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.readers) > 0
}

func (g *gate) isDead() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.dead
}

// commit lets one transaction happen.
func (g *gate) commit(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.writer != nil {
		g.writer <- err
		g.writer = nil
	}
}

// read lets all reads happen that wait: they don't disturb each other.
func (g *gate) read(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, ch := range g.readers {
		ch <- err
	}
	g.readers = nil
}

func (g *gate) set(open, dead bool) {
	g.mu.Lock()
	g.open, g.dead = open, dead
	g.mu.Unlock()
	switch {
	case dead:
		g.commit(errKilled)
		g.read(errKilled)
	case open:
		g.commit(nil)
		g.read(nil)
	}
}

func (w *world) newServer(domain string, modern bool) (*server, error) {
	memory := &w.opt.Databases[0]
	if !modern {
		memory = &w.opt.Databases[1]
	}
	if err := memory.Empty(); err != nil {
		return nil, err
	}
	s := &server{w: w, domain: domain, modern: modern, gate: &gate{open: true}, ids: map[jid.JID]store.AccountID{}}
	var err error
	if s.store, err = store.Open(context.Background(), store.Options{Memory: memory, CommitMax: 1, CommitDelay: -1, Fault: s.gate.fault}); err != nil {
		return nil, err
	}
	s.set, err = feature.NewSet(carbons.New(), imng.New(), mam.New(s.store, mam.Options{Page: 50, MaxPage: 100}))
	return s, err
}

// entropy is the randomness that a server gets.
type entropy struct {
	mu sync.Mutex
	r  *rand.ChaCha8
}

func (e *entropy) Read(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.r.Read(p)
}

var _ io.Reader = (*entropy)(nil)

// begin starts the accounts over what the store has.
func (s *server) begin() {
	s.starts++
	var key [32]byte
	copy(key[:], fmt.Sprintf("%s %d %d", s.domain, s.starts, s.w.seed))
	s.gate.set(true, false)
	s.w.phase(0, tickPhase+s.shift())
	s.hub = account.New(account.Config{
		Domains: []string{s.domain}, Store: s.store, Features: s.set, Log: slog.New(slog.DiscardHandler), Now: time.Now, Tick: time.Second,
		Rand: &entropy{r: rand.NewChaCha8(key)}, Loops: 1, ArchiveDefault: "always", RefuseStrangers: true, Start: s.starts, Repeatable: true,
		Limits: account.Limits{OutboxBytes: 1 << 20, SessionsPerAccount: 10, OfflineMessages: 1000, RosterItems: 100, BlockItems: 10, Directed: 10,
			ResumeWindow: resumeWindow, IdleAccounts: 100},
		Borders: func(domain string) account.Border {
			if s.w.serverOf(domain) == nil {
				return nil
			}
			return border{s}
		},
	})
	s.w.wait()
	// All accounts are read now, one after the other, so that later none waits for
	// another in an order that nobody chose.
	for _, u := range s.w.users {
		if u.server == s {
			s.hub.Sessions(context.Background(), u.jid)
		}
	}
	// What was in the outbox leaves again (server.replay), once all is written that a
	// stop in good order waits for.
	if err := s.store.Commit(context.Background()); err != nil {
		s.w.problem(0, "%s: %v", s.domain, err)
	}
	kept, err := s.store.Outbox(context.Background(), 0, 1<<16)
	if err != nil {
		s.w.problem(0, "%s's outbox: %v", s.domain, err)
	}
	s.mu.Lock()
	for _, m := range kept {
		s.out = append(s.out, crossing{string(m.Stanza), uint64(m.ID)})
	}
	s.mu.Unlock()
	s.w.wait()
	s.gate.set(false, false)
	s.up = true
}

// stop begins an orderly stop; it is over when closed is.
func (s *server) stop() {
	s.w.result.Counts.Stops++
	s.w.log(s.domain, "stops", "")
	closed := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	s.closed, s.hurry = closed, cancel
	hub := s.hub
	s.w.phase(0, stopPhase+s.shift())
	go func() {
		hub.Close(ctx)
		cancel()
		close(closed)
	}()
}

// kill ends the server at once: nothing reaches the disk any more, nor anybody.
// What was written and not told to anybody stays.
func (s *server) kill() {
	s.w.result.Counts.Kills++
	s.w.log(s.domain, "killed", "")
	s.up, s.killed = false, time.Now()
	s.gate.set(false, true)
	for _, c := range s.w.conns {
		if c.server == s {
			c.breakOff()
		}
	}
	over, cancel := context.WithCancel(context.Background())
	cancel()
	if s.closed != nil {
		s.hurry()
		<-s.closed
		s.closed = nil
	} else {
		s.hub.Close(over)
	}
	s.w.wait()
	s.forget()
}

// forget drops what waited at the border: it was in the process's memory.
func (s *server) forget() {
	s.mu.Lock()
	s.out = nil
	s.mu.Unlock()
}

// border is the way to the other domain, as s2s is: a queue that outlasts the other
// side's absence, and messages in the outbox until the other side has them on disk.
type border struct{ s *server }

// Send implements account.Border.
func (b border) Send(st *stanza.Stanza) *stanza.Error {
	b.SendKept(st, 0, 0)
	return nil
}

// Refuses implements account.Durable.
func (b border) Refuses(*stanza.Stanza) *stanza.Error { return nil }

// SendKept implements account.Durable.
func (b border) SendKept(st *stanza.Stanza, id uint64, _ trail.Ref) {
	b.s.mu.Lock()
	defer b.s.mu.Unlock()
	b.s.out = append(b.s.out, crossing{string(st.AppendTo(nil)), id})
}

// Own implements account.Border.
func (b border) Own() bool { return false }

// crosses reports whether something waits at the border that can go on.
func (s *server) crosses() bool {
	o := s.other()
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.out) > 0 && s.up && o.up && o.closed == nil && o.in == nil
}

// shift keeps the two servers' timers apart.
func (s *server) shift() time.Duration {
	if s.w.servers[0] == s {
		return 0
	}
	return 100 * time.Microsecond
}

func (s *server) other() *server {
	if s.w.servers[0] == s {
		return s.w.servers[1]
	}
	return s.w.servers[0]
}

// cross takes the first stanza over. A domain of 1.0 neither knows nor sets the
// tag of 2.0.
func (s *server) cross() {
	s.mu.Lock()
	c := s.out[0]
	s.out = s.out[1:]
	s.mu.Unlock()
	st := s.w.parse(c.data)
	if st.Kind == stanza.Message {
		tagged := func(el xmltree.Element) bool { return el.Is(xep.NSXMPP2, "xmpp-2") }
		st = s.w.parse(string(st.AppendWith(nil, st.InnerWithout(tagged))))
	}
	o := s.other()
	s.w.log(o.domain, "enters", c.data)
	o.in = &entering{c, s.starts, make(chan error, 1)}
	done, hub := o.in.done, o.hub
	go func() {
		err := hub.Receive(context.Background(), st)
		if err == nil && c.id != 0 {
			err = o.store.Commit(context.Background()) // all before it is on disk
		}
		done <- err
	}()
}

// passed takes the other side's acknowledgement: the message leaves the outbox. What
// wasn't acknowledged is sent again. A sender that was started since knows nothing of
// it, and sends what is in its outbox.
func (s *server) passed() {
	if s.in == nil {
		return
	}
	select {
	case err := <-s.in.done:
		in, from := s.in, s.other()
		s.in = nil
		switch {
		case from.gate.isDead() || from.starts != in.start:
		case err != nil && !from.up: // it is in the outbox, or not worth it
		case err != nil:
			from.mu.Lock()
			from.out = append([]crossing{in.crossing}, from.out...)
			from.mu.Unlock()
		case in.id != 0: // a stop in good order waits for this
			from.store.Submit(store.Unit{Ops: []store.Op{store.OutboxDelete{IDs: []store.OutboxID{store.OutboxID(in.id)}}}})
		}
	default:
	}
}

// look reports whether an orderly stop has just ended.
func (s *server) look() bool {
	if s.closed == nil {
		return false
	}
	select {
	case <-s.closed:
		s.closed, s.up = nil, false
		s.forget()
		s.w.log(s.domain, "stopped", "")
		for _, c := range s.w.conns {
			if c.server == s {
				c.breakOff()
			}
		}
		return true
	default:
		return false
	}
}
