package sim

import (
	"strconv"
	"strings"
	"time"

	"carillon.im/client/convo"
	"carillon.im/jid"
	"carillon.im/server/route"
	"carillon.im/sm"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// user is a person with an account and devices.
type user struct {
	name    string
	server  *server
	jid     jid.JID
	devices []*device
}

// device is a client: the engine, its store, and the connection's half that
// counts and resumes (XEP-0198).
type device struct {
	w       *world
	user    *user
	name    string // user/resource
	full    jid.JID
	profile convo.Profile
	sm      bool
	cfg     convo.Config
	engine  *convo.Engine
	store   *convo.Memory
	ids     int

	conn    *conn
	online  bool // the engine has a session
	wanted  bool // the person has it switched on
	resume  string
	out     sm.Queue[string] // of stanzas; the tag is a message's id
	handled uint32
	queries map[string]convo.Query // by the IQ's id

	shows map[jid.JID][]convo.Entry // what a check has seen of it
	locks map[jid.JID]jid.JID       // what XEP-0296 says, for sessions without IM-NG
	swap  string                    // a flaw's: what is held back
}

// newID gives the next of this device's ids.
func (d *device) newID() string {
	d.ids++
	return d.name + "-" + strconv.Itoa(d.ids)
}

// boot starts the program on the device, with what its store has.
func (d *device) boot() {
	snap, err := d.store.Load(d.cfg.Limits.Page + 50)
	if err != nil {
		panic("sim: " + err.Error()) // memory
	}
	d.engine = convo.New(d.cfg, snap)
	d.resume, d.online = "", false
	d.locks = map[jid.JID]jid.JID{}
}

// connect dials.
func (d *device) connect() {
	h := hello{account: d.user.jid, resource: d.full.Resource(), client: d.name, profile: route.Profile(d.profile), sm: d.sm, cursor: d.engine.Cursor()}
	if d.resume != "" {
		h.resume, h.h = d.resume, d.handled
	}
	d.w.log(d.name, "dials", h.resume)
	d.conn = d.w.dial(d, h)
}

// lost: the connection is gone.
func (d *device) lost(c *conn) {
	if d.conn != c {
		return
	}
	d.conn = nil
	if !d.online {
		return
	}
	d.online = false
	d.w.log(d.name, "lost", "")
	if !d.sm {
		d.out = sm.Queue[string]{}
	}
	d.swap = ""
	d.event(convo.Disconnected{})
	if d.resume == "" {
		d.dropQueries()
	}
}

func (d *device) dropQueries() {
	for n := range d.ids + 1 { // in the order of asking
		if q, ok := d.queries["q"+strconv.Itoa(n)]; ok {
			delete(d.queries, "q"+strconv.Itoa(n))
			d.event(convo.QueryDone{Query: q.ID, Failed: true})
		}
	}
}

// loggedIn takes the server's answer.
func (d *device) loggedIn(c *conn) {
	a := c.answer
	if a.err != nil {
		d.w.log(d.name, "refused", a.err.Error())
		d.resume = ""
		c.lose()
		c.cut()
		return
	}
	if a.resumed {
		d.w.result.Counts.Resumed++
		d.w.log(d.name, "resumed", strconv.Itoa(int(a.h)))
		d.acknowledged(a.h)
		d.out.Rewind()
		d.online = true
		d.push()
		d.event(convo.Connected{JID: a.full, Profile: d.profile, Resumed: true})
		return
	}
	if c.hello.resume != "" {
		d.w.result.Counts.NotResumed++
		if a.known {
			d.acknowledged(a.h)
		}
	}
	d.w.result.Counts.Binds++
	d.w.log(d.name, "bound", "")
	d.resume, d.handled = a.id, 0
	d.out = sm.Queue[string]{}
	if a.id != "" {
		d.out.Enable()
	}
	d.dropQueries()
	d.locks = map[jid.JID]jid.JID{}
	d.online = true
	if d.profile == convo.Carbons {
		d.send(stanza.Build(stanza.IQ, stanza.TypeSet, "carbons", jid.JID{}, jid.JID{}, "<enable xmlns='"+xep.NSCarbons+"'/>"), "")
	}
	if d.profile != convo.V2 {
		d.send(stanza.Build(stanza.Presence, "", "", jid.JID{}, jid.JID{}, ""), "")
	}
	d.event(convo.Connected{JID: a.full, Profile: d.profile, Catchup: d.profile == convo.V2,
		Facts: convo.Facts{Archive: d.profile != convo.Classic, Mine: d.user.server.modern && d.profile != convo.Classic}})
}

// send hands a stanza to the stream.
func (d *device) send(st *stanza.Stanza, id string) {
	if !d.online {
		return // the engine was told, or will be
	}
	d.out.Push(sm.Entry[string]{Data: st.AppendTo(nil), Tag: id})
	d.push()
	if id != "" && d.sm {
		d.conn.up = append(d.conn.up, "<r/>")
	}
}

func (d *device) push() {
	for {
		e, ok := d.out.Take()
		if !ok {
			return
		}
		d.conn.up = append(d.conn.up, string(e.Data))
	}
}

func (d *device) acknowledged(h uint32) {
	var ids []string
	if err := d.out.Ack(h, func(id string) { ids = append(ids, id) }); err != nil {
		d.w.problem(0, "%s: %v", d.name, err)
	}
	for _, id := range ids {
		if id != "" {
			d.event(convo.Acked{ID: id})
		}
	}
}

// receive takes one element off the stream.
func (d *device) receive(c *conn, e element) {
	switch data := e.data; {
	case data == "login":
		d.loggedIn(c)
	case data == "end":
		c.cut()
	case data == "<r/>":
		c.up = append(c.up, "<a h='"+strconv.FormatUint(uint64(d.handled), 10)+"'/>")
	case strings.HasPrefix(data, "<a "):
		h, _ := strconv.ParseUint(strings.TrimSuffix(strings.TrimPrefix(data, "<a h='"), "'/>"), 10, 32)
		d.acknowledged(uint32(h))
	default:
		d.handled++
		if d.w.opt.Flaw == None {
			d.stanza(d.w.stanza(e.el))
			return
		}
		for _, data := range d.w.spoil(d, data) {
			d.stanza(d.w.parse(data))
		}
	}
}

func (d *device) stanza(st *stanza.Stanza) {
	switch st.Kind {
	case stanza.IQ:
		if q, ok := d.queries[st.ID]; ok {
			delete(d.queries, st.ID)
			d.event(q.Done(st))
		}
	default:
		if d.profile < convo.NG {
			d.listen(st)
			if d.w.opt.Flaw == HidePresence && st.Kind == stanza.Presence && st.From.Bare() != d.user.jid {
				return
			}
		}
		d.event(convo.Received{Stanza: st})
	}
}

// listen keeps what XEP-0296 says for itself, apart from the engine.
func (d *device) listen(st *stanza.Stanza) {
	peer := st.From.Bare()
	if st.Kind == stanza.Presence {
		if st.Type == stanza.TypeAvailable || st.Type == stanza.TypeUnavailable {
			delete(d.locks, peer) // LOCK-11
		}
		return
	}
	for el := range st.Payloads() {
		if el.Is(xep.NSCarbons, "received") {
			inner, err := stanza.Parse(el.Child(xep.NSForward, "forwarded").Child(stanza.NSClient, "message"))
			if err != nil {
				return
			}
			st, peer = inner, inner.From.Bare()
			break
		}
		if el.Is(xep.NSCarbons, "sent") || el.Is(xep.NSMAM, "result") || el.Is(xep.NSDelay, "delay") {
			return
		}
	}
	if peer == d.user.jid {
		return
	}
	if st.Type == stanza.TypeError {
		delete(d.locks, peer)
		return
	}
	if st.Type != stanza.TypeChat || st.To.IsFull() && !st.Child(xep.NSIMNG, "im-ng").IsZero() {
		return
	}
	if _, known := d.engine.Conversation(peer, 1); !known && kindOf(st) == nothing {
		return // a receipt is no conversation
	}
	if !st.Child(xep.NSChatStates, "gone").IsZero() {
		delete(d.locks, peer) // LOCK-13
	} else if st.From.IsFull() {
		d.locks[peer] = st.From // LOCK-6, LOCK-8
	}
}

// event gives the engine an event and does what it wants done.
func (d *device) event(ev convo.Event) {
	for _, f := range d.engine.Apply(time.Now(), ev) {
		switch f := f.(type) {
		case convo.Send:
			d.w.addressed(d, f)
			id := ""
			if f.Stanza.Kind == stanza.Message {
				id = f.Stanza.ID
			}
			d.send(f.Stanza, id)
		case convo.Query:
			d.ids++
			id := "q" + strconv.Itoa(d.ids)
			d.queries[id] = f
			d.send(f.IQ(id), "")
		case convo.LoadHistory:
			entries, more, err := d.store.History(f.Conversation, f.Before, f.Max)
			if err != nil {
				panic("sim: " + err.Error()) // memory
			}
			d.event(convo.HistoryLoaded{Conversation: f.Conversation, Entries: entries, More: more})
		case convo.Persist:
			if err := d.store.Write(f.Writes); err != nil {
				panic("sim: " + err.Error())
			}
		case convo.Changed:
			for _, id := range f.Entries {
				if en, ok := d.engine.Entry(f.Conversation, id); ok && en.Own {
					d.w.shown(d, f.Conversation, en)
				}
			}
		}
	}
}

// stanza is an element that one of the run's own sides wrote.
func (w *world) stanza(el xmltree.Element) *stanza.Stanza {
	st, err := stanza.Parse(el)
	if err != nil {
		panic("sim: " + err.Error() + " in " + string(el.AppendTo(nil, "")))
	}
	return st
}

// parse reads what one of the run's own sides wrote.
func (w *world) parse(data string) *stanza.Stanza {
	st, err := stanza.ParseBytes([]byte(data), xmltree.Limits{MaxBytes: 1 << 20})
	if err != nil {
		panic("sim: " + err.Error() + " in " + data)
	}
	return st
}
