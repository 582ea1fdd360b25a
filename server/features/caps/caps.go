// Package caps learns what clients can (XEP-0115): when a presence names
// capabilities that aren't known, its sender is asked for them once, and what it
// says is believed if it has the hash that was named.
//
// The model: verified information is kept by its hash, for all clients alike, in a
// bounded cache. A question is for a hash as well (question.go): of those who named
// it a few are asked, and all hear what it is, so that after a start, when all come
// back at once, a few answer for thousands. So many are asked at a time, each one
// question; the others wait in line. A client waits for what it named last. One that
// named a hash and told something else, or nothing, isn't asked for that hash again,
// while another that names it is. Sessions and clients of other servers have lines of
// their own: who doesn't answer elsewhere holds up nobody here.
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
	Open    int           // sessions that are asked at a time, default 64
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
	own     desk // questions to sessions
	outside desk // to clients of other servers
	closed  bool
}

// verified is information that has the hash by which it is known.
type verified struct {
	info   xep.DiscoInfo
	notify []string
}

// attempt is a hash that a listener named.
type attempt struct {
	listener jid.JID
	ver      string
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
		refused: newLRU[attempt, struct{}](o.Entries), own: newDesk(forSessions(o.Open)), outside: newDesk(forOthers())}
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
	c.tell(&c.own, who{listener: s.JID()}, s, st)
}

// observeOutside sees available presence of contacts on other servers.
func (c *Cache) observeOutside(l feature.Listener, st *stanza.Stanza) {
	if c.opt.Notify != nil { // nobody else wants to know
		c.tell(&c.outside, who{l.Owner().JID(), l.JID()}, l, st)
	}
}

// tell calls Notify, if what the presence names is known.
func (c *Cache) tell(d *desk, w who, l feature.Listener, st *stanza.Stanza) {
	if notify, sure := c.learn(d, w, l, capsOf(st)); sure && c.opt.Notify != nil {
		c.opt.Notify(l, notify)
	}
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
