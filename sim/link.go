package sim

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"

	"carillon.im/client/convo"
	"carillon.im/jid"
	"carillon.im/server/account"
	"carillon.im/server/route"
	"carillon.im/sm"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// conn is a connection of a device: a stream in each direction, in order, that
// may break at any place, and not on both sides at once.
type conn struct {
	device *device
	server *server
	hello  hello
	ctx    context.Context
	cancel context.CancelFunc
	in     chan string
	busy   atomic.Bool // the server's side is at something
	up     []string    // from the device
	down   []element   // from the server
	answer answer      // to the login
	sess   *account.Session
	told   bool // the answer is on its way

	woken atomic.Bool
	ended atomic.Bool

	deviceGone bool // the device knows that it is broken
	serverGone bool // the server does
}

// element is what goes down a stream: a stanza, as it is written and as it is
// read, or a word for what isn't one.
type element struct {
	data string
	el   xmltree.Element
}

// hello is what a device asks for.
type hello struct {
	account  jid.JID
	resource string
	client   string
	profile  route.Profile
	sm       bool
	resume   string // "": nothing
	h        uint32
	cursor   string
}

// answer is what it gets.
type answer struct {
	err     error
	resumed bool
	h       uint32 // what the server had handled
	known   bool   // h says something, though the session isn't resumed
	id      string // to resume it by
	full    jid.JID
}

// Wake implements account.Transport.
func (c *conn) Wake() { c.woken.Store(true) }

// End implements account.Transport.
func (c *conn) End(*stanza.StreamError) { c.ended.Store(true) }

// dial opens a connection and has the server's side log in.
func (w *world) dial(d *device, h hello) *conn {
	c := &conn{device: d, server: d.user.server, hello: h, in: make(chan string)}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.busy.Store(true)
	w.conns = append(w.conns, c)
	go c.serve(c.server.hub)
	return c
}

// serve is the connection's goroutine on the server: what c2s does.
func (c *conn) serve(hub *account.Hub) {
	c.login(hub)
	if c.ctx.Err() != nil && c.sess != nil {
		// Too late: as what Bind and Resume do when they see it first.
		if c.answer.resumed {
			c.sess.Detach(c)
		} else {
			c.sess.Close(c)
		}
	}
	c.busy.Store(false)
	for data := range c.in {
		c.take(data)
		c.busy.Store(false)
	}
}

func (c *conn) login(hub *account.Hub) {
	h := c.hello
	if h.resume != "" {
		sess, resumed, err := hub.Resume(c.ctx, account.ResumeRequest{Account: h.account, ID: h.resume, H: h.h, Client: h.client, Transport: c})
		var refused *account.ResumeError
		switch {
		case err == nil:
			c.sess, c.answer = sess, answer{resumed: true, h: resumed.H, id: h.resume, full: sess.JID()}
			return
		case errors.As(err, &refused):
			c.answer.h, c.answer.known = refused.H, refused.Known
		default:
			c.answer.err = err
			return
		}
	}
	req := account.BindRequest{Account: h.account, Resource: h.resource, Client: h.client, Transport: c}
	if h.profile >= route.NG {
		req.Bind2, req.Profile = true, h.profile
	}
	if h.profile == route.V2 {
		req.Request = &xep.SessionRequest{Parts: []xep.SessionAsk{
			{Part: xep.SessionSync, Sync: convo.SyncFrom(h.cursor, 0)},
			{Part: xep.SessionPresence, Presence: stanza.Build(stanza.Presence, "", "", jid.JID{}, jid.JID{}, "")},
		}}
	}
	sess, err := hub.Bind(c.ctx, req)
	if err != nil {
		c.answer.err = err
		return
	}
	c.answer.full = sess.JID()
	if h.sm {
		id, _, _, err := sess.EnableSM(true, 0)
		if err != nil {
			c.answer.err = err
			return
		}
		c.answer.id = id
	}
	c.sess = sess
}

// take is one element from the device.
func (c *conn) take(data string) {
	switch {
	case strings.HasPrefix(data, "<a "):
		h, _ := strconv.ParseUint(strings.TrimSuffix(strings.TrimPrefix(data, "<a h='"), "'/>"), 10, 32)
		if err := c.sess.Ack(uint32(h)); err != nil {
			panic("sim: " + err.Error())
		}
	case data == "<r/>":
		c.sess.AckRequest()
	case data == "</stream>":
		c.sess.Close(c)
	default:
		st := c.device.user.server.w.parse(data)
		st.From = c.sess.JID()
		c.sess.Receive(c.ctx, st, len(data)) // the context's error: the connection is gone
	}
}

// collect takes what the server's side has to write, and reports whether there
// was anything.
func (c *conn) collect() (some bool) {
	w := c.device.w
	if c.serverGone || c.busy.Load() && !c.told {
		return false
	}
	if !c.told {
		c.told = true
		c.down = append(c.down, element{data: "login"})
		c.Wake() // there may be something from before the login
	}
	if c.sess == nil {
		return false
	}
	for c.woken.Load() {
		c.woken.Store(false)
		some = true
		for more := true; more; {
			var buf []byte
			buf, more = c.sess.Next(c, nil, 1<<16)
			list := split(w, buf)
			if !c.device.sm {
				for _, e := range list {
					w.noteUnread(e.data)
				}
			}
			c.down = append(c.down, list...)
		}
	}
	return some
}

// finish closes a connection that the server has ended, once all that it wrote is
// on its way, and reports whether it did.
func (c *conn) finish() bool {
	if c.serverGone || c.sess == nil || !c.told || !c.ended.Load() {
		return false
	}
	c.down = append(c.down, element{data: "end"})
	c.lose()
	return true
}

// split takes elements apart. Those of stream management get a short form.
func split(w *world, buf []byte) (list []element) {
	if len(buf) == 0 {
		return nil
	}
	stream := append(append([]byte("<x xmlns='jabber:client'>"), buf...), "</x>"...)
	el, err := xmltree.Parse(stream, "", xmltree.Limits{MaxBytes: 64 << 20})
	if err != nil {
		w.problem(0, "what a session says isn't XML: %v in %s", err, buf)
		return nil
	}
	for child := range el.Children() {
		switch {
		case child.Space() != sm.NS:
			list = append(list, element{string(child.AppendTo(nil, stanza.NSClient)), child})
		case child.Local() == "r":
			list = append(list, element{data: "<r/>"})
		default:
			list = append(list, element{data: "<a h='" + child.Attr("h") + "'/>"})
		}
	}
	return list
}

// lose is the server noticing that the connection is gone.
func (c *conn) lose() {
	if c.serverGone {
		return
	}
	c.serverGone = true
	c.up = nil
	c.cancel()
	close(c.in)
	if c.sess != nil {
		c.sess.Detach(c)
	}
}

// breakOff is the server's end: the device sees the connection broken.
func (c *conn) breakOff() {
	c.lose()
	c.cut()
}

// cut is the device noticing that the connection is gone.
func (c *conn) cut() {
	if c.deviceGone {
		return
	}
	c.deviceGone = true
	c.down = nil
	c.device.lost(c)
}
