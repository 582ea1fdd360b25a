// Package caps learns what clients can (XEP-0115): when a session's presence
// names capabilities that aren't known, the session is asked for them once,
// and what it says is believed if it has the hash that was named.
//
// The model: verified information is kept by its hash, for all sessions alike,
// in a bounded cache. One question at a time is open to a session, and what its
// presence names meanwhile is asked for behind it, the last alone. So many are
// open to all; the others wait in line, and whoever's hash is known by the time of
// their turn isn't asked: after a start, when all come back at once, a few questions
// answer for thousands. Clients of other servers, of which there are
// more, have questions of their own (outside.go), one for each hash. A session that named a hash and told
// something else, or nothing, isn't asked for that hash again, while another
// session that names it is.
package caps

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/stanza"
	"carillon.im/xep"
)

// Options bound the cache; zero fields stand for the defaults.
type Options struct {
	Entries int           // default 1000
	Open    int           // questions open at a time, default 64
	Timeout time.Duration // of a question, default 30 s
	// Notify, if set, is called with the nodes of personal events that a session
	// wants to hear of (XEP-0163 4.3), at each of its presences that names
	// capabilities which are known or none, and once they become known. The slice
	// is shared and must not change. It must not block.
	Notify func(l feature.Listener, nodes []string)
}

// maxInfo bounds one entry of the cache, in bytes of its strings.
const maxInfo = 32 << 10

// maxNotify is of how many nodes of personal events a session may want to hear:
// each costs a look-up per contact when it comes.
const maxNotify = 64

// maxLate is how many sessions wait for their question; what others name goes
// unnoticed until their next presence.
const maxLate = 20_000

// Cache is what is known of clients' capabilities. Its methods may be called
// concurrently.
type Cache struct {
	opt  Options
	ctx  context.Context // of all questions; ended by Close
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu      sync.Mutex
	known   *lru[string, verified] // by ver
	refused *lru[attempt, struct{}]
	open    map[jid.JID]last // sessions with an open question, and the hash that they named last
	late    map[jid.JID]late // sessions that wait for a question
	line    []jid.JID        // the same in the order of their coming
	outside outside          // questions to clients of other servers
	closed  bool
}

// verified is information that has the hash by which it is known.
type verified struct {
	info   xep.DiscoInfo
	notify []string
}

// last is what a session named last while a question to it is open, and whether
// Notify has been called for it.
type last struct {
	named xep.Caps
	told  bool
}

// late is a session that waits for a question, and what it named last; Notify has
// been called for that if it is known.
type late struct {
	session feature.SessionRef
	last
}

// notice is a call of Notify.
type notice struct {
	session feature.SessionRef
	nodes   []string
}

// attempt is a hash that a session named.
type attempt struct {
	session jid.JID
	ver     string
}

// New makes an empty cache. Close must be called to end its questions.
func New(o Options) *Cache {
	if o.Entries <= 0 {
		o.Entries = 1000
	}
	if o.Open <= 0 {
		o.Open = 64
	}
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	c := &Cache{opt: o, known: newLRU[string, verified](o.Entries),
		refused: newLRU[attempt, struct{}](o.Entries), open: map[jid.JID]last{}, late: map[jid.JID]late{},
		outside: outside{questions: map[string]*question{}, domains: map[string]int{}, company: map[string]int{}}}
	c.ctx, c.stop = context.WithCancel(context.Background())
	return c
}

// Feature is the feature that fills the cache.
func (c *Cache) Feature() feature.Feature {
	return feature.Feature{
		Name:     "caps",
		Specs:    []feature.Spec{{XEP: "0115", Version: "1.6.0"}},
		Disco:    []feature.Disco{{Scope: feature.Server, Vars: []string{xep.NSCaps}}},
		Presence: c.observe,
		Outside:  c.observeOutside,
	}
}

// Lookup finds verified capabilities by node#ver as presence names them
// (feature.SessionInfo.Caps), or by ver alone. The caller must not change the
// result.
func (c *Cache) Lookup(nodeVer string) (info xep.DiscoInfo, ok bool) {
	ver := nodeVer[strings.LastIndexByte(nodeVer, '#')+1:]
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.known.get(ver)
	return v.info, ok
}

// Close ends the open questions and waits for them.
func (c *Cache) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.stop()
	c.wg.Wait()
}

// observe sees each available presence that a session broadcasts.
func (c *Cache) observe(s feature.SessionRef, st *stanza.Stanza) {
	if notify, sure := c.learn(s, st); sure && c.opt.Notify != nil {
		c.opt.Notify(s, notify)
	}
}

// learn finds what the session's presence says of it; sure is false if that isn't
// known, or not yet.
func (c *Cache) learn(s feature.SessionRef, st *stanza.Stanza) (notify []string, sure bool) {
	named := capsOf(st)
	a := attempt{s.JID(), named.Ver}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, busy := c.open[a.session]
	v, known := c.known.get(named.Ver)
	known = known || named.Ver == ""
	_, waits := c.late[a.session]
	switch {
	case busy:
		c.open[a.session] = last{named, known}
	case waits:
		c.late[a.session] = late{s, last{named, known}}
	}
	if known {
		return v.notify, true
	}
	if c.closed || busy || waits {
		return nil, false
	}
	if _, refused := c.refused.get(a); refused {
		return nil, true
	}
	switch {
	case len(c.open) < c.opt.Open:
		c.open[a.session] = last{named: named}
		c.wg.Go(func() { c.ask(s, named) })
	case len(c.late) < maxLate:
		c.late[a.session] = late{s, last{named: named}}
		c.line = append(c.line, a.session)
	}
	return nil, false
}

// nextInLine opens questions while there is room, and returns whom none is needed
// for. mu is held.
func (c *Cache) nextInLine() (told []notice) {
	for len(c.line) > 0 && len(c.open) < c.opt.Open && !c.closed {
		session := c.line[0]
		c.line = c.line[1:]
		l := c.late[session]
		delete(c.late, session)
		if l.told {
			continue
		}
		v, known := c.known.get(l.named.Ver)
		if !known {
			_, known = c.refused.get(attempt{session, l.named.Ver})
		}
		if known {
			told = append(told, notice{l.session, v.notify})
			continue
		}
		c.open[session] = last{named: l.named}
		c.wg.Go(func() { c.ask(l.session, l.named) })
	}
	return told
}

// capsOf is the capabilities that a presence names, none if they couldn't be verified
// (XEP-0115 5.4).
func capsOf(st *stanza.Stanza) xep.Caps {
	named, ok := xep.ParseCaps(st.Child(xep.NSCaps, "c"))
	if !ok || named.Hash != "sha-1" && named.Hash != "sha-256" || len(named.Ver) > 64 || len(named.Node) > 1024 {
		return xep.Caps{}
	}
	named.Ver, named.Node = strings.Clone(named.Ver), strings.Clone(named.Node)
	return named
}

// ask asks a session for its capabilities and keeps them if they are what it
// named, until there is nothing that it has named since.
func (c *Cache) ask(s feature.SessionRef, named xep.Caps) {
	for more := true; more; {
		ctx, cancel := context.WithTimeout(c.ctx, c.opt.Timeout)
		v, ok := query(ctx, s, named)
		cancel()
		var told []notice
		told, named, more = c.answered(s, named, v, ok)
		for _, n := range told {
			if c.opt.Notify != nil {
				c.opt.Notify(n.session, n.nodes)
			}
		}
	}
}

// answered ends a question, or replaces it by the next: more reports whether there
// is one. told is for whom it is answered: the session, if that is about what it
// named last and it doesn't know yet, and who waited behind it.
func (c *Cache) answered(s feature.SessionRef, asked xep.Caps, v verified, ok bool) (told []notice, next xep.Caps, more bool) {
	session := s.JID()
	c.mu.Lock()
	defer c.mu.Unlock()
	if ok {
		c.known.put(asked.Ver, v)
	} else {
		c.refused.put(attempt{session, asked.Ver}, struct{}{})
	}
	now := c.open[session]
	known := now.named.Ver == asked.Ver || now.told
	if !known {
		if v, known = c.known.get(now.named.Ver); !known { // another session may have told it
			_, known = c.refused.get(attempt{session, now.named.Ver})
		}
	}
	if !known && !c.closed {
		c.open[session] = last{named: now.named}
		return nil, now.named, true
	}
	delete(c.open, session)
	if known && !now.told {
		told = append(told, notice{s, v.notify})
	}
	return append(told, c.nextInLine()...), xep.Caps{}, false
}

// query is XEP-0115 5.4.
func query(ctx context.Context, s feature.Listener, named xep.Caps) (v verified, ok bool) {
	answer, err := s.Ask(ctx, string(xep.AppendDiscoInfo(nil, named.Query(), xep.DiscoInfo{})))
	if err != nil {
		return verified{}, false
	}
	info, err := xep.ParseDiscoInfo(answer.Payload())
	if err != nil {
		return verified{}, false
	}
	ver, ok := xep.CapsVer(named.Hash, info)
	if !ok || ver != named.Ver {
		return verified{}, false
	}
	if v.info, ok = compact(info); !ok {
		return verified{}, false
	}
	for _, f := range v.info.Features {
		if node, wants := strings.CutSuffix(f, "+notify"); wants && node != "" && len(v.notify) < maxNotify {
			v.notify = append(v.notify, node)
		}
	}
	return v, true
}

// compact copies what is kept out of the stanza, whose memory it would hold:
// the forms are left out, nobody here reads them. ok is false if it is too big.
func compact(info xep.DiscoInfo) (_ xep.DiscoInfo, ok bool) {
	size := 0
	keep := func(s string) string {
		size += len(s) + 16
		return strings.Clone(s)
	}
	out := xep.DiscoInfo{Identities: slices.Clone(info.Identities), Features: slices.Clone(info.Features)}
	for i, id := range out.Identities {
		out.Identities[i] = xep.Identity{Category: keep(id.Category), Type: keep(id.Type), Lang: keep(id.Lang), Name: keep(id.Name)}
	}
	for i, f := range out.Features {
		out.Features[i] = keep(f)
	}
	return out, size <= maxInfo
}
