package sim

import (
	"fmt"
	"strconv"
	"time"

	"carillon.im/client/convo"
	"carillon.im/jid"
	"carillon.im/stanza"
)

// op is one thing that a person or the world does. All that it depends on is
// drawn with the script, so that a script without some of its ops is a script.
type op struct {
	what   string
	device int
	peer   int // a user
	arg    int
}

func (o op) String() string { return fmt.Sprintf("%s(%d,%d,%d)", o.what, o.device, o.peer, o.arg) }

// weights say how often each kind of op comes.
var weights = [...]struct {
	what string
	n    int
}{
	{"say", 34}, {"reply", 5}, {"thread", 2}, {"correct", 3}, {"retract", 1}, {"react", 3}, {"claim", 14}, {"focus", 3}, {"type", 2},
	{"gone", 2}, {"page", 2}, {"cut", 6}, {"half", 5}, {"close", 3}, {"away", 4}, {"back", 5}, {"reboot", 2}, {"pause", 8}, {"longer", 1},
	{"stop", 1}, {"kill", 1},
}

func (w *world) script() []op {
	total := 0
	for _, k := range weights {
		total += k.n
	}
	list := make([]op, 0, 64)
	for range 10 + w.plan.IntN(50) {
		n := w.plan.IntN(total)
		o := op{device: w.plan.IntN(len(w.devices)), peer: w.plan.IntN(len(w.users)), arg: w.plan.IntN(1 << 16)}
		for _, k := range weights {
			if n -= k.n; n < 0 {
				o.what = k.what
				break
			}
		}
		list = append(list, o)
	}
	return list
}

// do does an op. One that makes no sense as things stand does nothing.
func (w *world) do(o op) {
	d := w.devices[o.device]
	peer := w.users[o.peer].jid
	w.log(d.name, "op", o.String())
	switch o.what {
	case "cut", "half", "close", "away", "back", "reboot":
		w.connection(d, o)
	case "pause":
		w.pass(time.Duration(o.arg%5000) * time.Millisecond)
	case "longer":
		w.pass(resumeWindow + time.Duration(o.arg%5000)*time.Millisecond)
	case "stop":
		if s := w.servers[o.peer%2]; s.up && s.closed == nil {
			s.stop()
		}
	case "kill":
		if s := w.servers[o.peer%2]; s.up {
			if o.arg%2 == 0 { // what is being written is written, and nobody hears of it
				s.gate.commit(nil)
			}
			s.kill()
		}
	case "claim":
		w.claim(o)
	default:
		if d.wanted && peer != d.user.jid {
			w.person(d, peer, o)
		}
	}
}

// claim opens the notification of something unclaimed, at a device of whoever
// has one.
func (w *world) claim(o op) {
	for n := range w.devices {
		d := w.devices[(o.device+n)%len(w.devices)]
		for _, u := range w.users {
			v, _ := d.engine.Conversation(u.jid, 0)
			for _, en := range v.Entries {
				if en.Owner == convo.Unclaimed && d.wanted {
					d.event(convo.Attention{Conversation: u.jid, Act: convo.OpenedNotification, Entries: []convo.EntryID{en.ID}})
					return
				}
			}
		}
	}
}

func (w *world) connection(d *device, o op) {
	c := d.conn
	switch o.what {
	case "cut": // both sides see it
		if c != nil {
			c.breakOff()
		}
	case "half": // one side sees it
		if c != nil && o.arg%2 == 0 {
			c.cut()
		} else if c != nil {
			c.lose()
		}
	case "close":
		if c != nil && d.online && !c.serverGone {
			c.up = append(c.up, "</stream>")
			d.resume = ""
			c.cut()
		}
	case "away":
		d.wanted = false
		if c != nil {
			c.cut()
		}
	case "back":
		for _, d := range w.devices {
			d.wanted = true
		}
	case "reboot":
		if c != nil {
			c.cut()
		}
		d.boot()
	}
}

// person is what somebody does at a device.
func (w *world) person(d *device, peer jid.JID, o op) {
	v, _ := d.engine.Conversation(peer, 20)
	var own, theirs []convo.Entry
	for _, en := range v.Entries {
		if en.Own {
			own = append(own, en)
		} else {
			theirs = append(theirs, en)
		}
	}
	pick := func(list []convo.Entry) (convo.EntryID, bool) {
		if len(list) == 0 {
			return 0, false
		}
		return list[max(0, len(list)-1-o.arg%3)].ID, true
	}
	body := "words " + strconv.Itoa(o.arg)
	id, mine := pick(own)
	to, other := pick(theirs)
	switch o.what {
	case "say":
		d.event(convo.SendText{Conversation: peer, Body: body})
	case "thread":
		d.event(convo.NewThread{Conversation: peer, Body: body})
	case "reply":
		if other {
			d.event(convo.Reply{Conversation: peer, To: to, Body: body})
		}
	case "react":
		if other {
			d.event(convo.React{Conversation: peer, Entry: to, Emoji: []string{strconv.Itoa(o.arg)}})
		}
	case "correct":
		if mine {
			d.event(convo.Correct{Conversation: peer, Entry: id, Body: body})
		}
	case "retract":
		if mine {
			d.event(convo.Retract{Conversation: peer, Entry: id})
		}
	case "focus":
		d.event(convo.Attention{Conversation: peer, Act: convo.Focused})
	case "type":
		d.event(convo.Typing{Conversation: peer, State: convo.Composing})
	case "gone":
		d.event(convo.Attention{Conversation: peer, Act: convo.Closed})
	case "page":
		d.event(convo.Page{Conversation: peer})
	}
}

// nothing is the kind of what isn't shown and says nothing of what is.
const nothing = convo.Kind(255)

// kindOf says what a message is, by its elements: as the engine does, apart from
// it.
func kindOf(st *stanza.Stanza) convo.Kind {
	kind, body := nothing, false
	for el := range st.Payloads() {
		switch el.Local() {
		case "body", "subject":
			body = true
		case "mine":
			return convo.Claim
		case "replace":
			kind = convo.Correction
		case "retract":
			kind = convo.Retraction
		case "reactions":
			kind = convo.Reaction
		}
	}
	if kind == nothing && body {
		return convo.Text
	}
	return kind
}
