package client

import (
	"slices"

	"carillon.im/jid"
	"carillon.im/sm"
	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

func isEnabled(ev stream.Event) bool { return ev.Kind == stream.SMEnabled }

// handle takes what the server says in a session. The error ends the connection.
func (c *Client) handle(l *link, ev *stream.Event) error {
	switch ev.Kind {
	case stream.Stanza:
		q := c.count(ev.Size)
		if q.event = c.sort(ev.Stanza); q.event != nil {
			c.push(q)
			return nil
		}
		c.skip(q)
	case stream.Answered: // malformed: it counts, and its sender hears of it
		q := c.count(ev.Size)
		c.mu.Lock()
		if st := ev.Stanza; st.Kind == stanza.IQ {
			c.answer(ev.Reply)
		}
		c.mu.Unlock()
		c.skip(q)
	case stream.SMAck:
		return c.acked(ev.H)
	case stream.SMRequest:
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.counting {
			c.ack()
		}
	case stream.SMEnabled:
		c.mu.Lock()
		defer c.mu.Unlock()
		// A second one is what some servers say to a second <enable/>.
		if c.out.Enabled() && !c.counting {
			c.in, c.counting = sm.Inbound{}, true
		}
	case stream.SMFailed, stream.Features, stream.Element:
		// What is offered late isn't needed, what is unknown isn't for us.
	default:
		return violation("out of place in a session")
	}
	return nil
}

// count numbers a stanza of the server.
func (c *Client) count(size int) queued {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := queued{size: size, epoch: c.epoch}
	if c.counting {
		q.number = c.in.Receive()
	}
	return q
}

// skip handles a stanza that is no event.
func (c *Client) skip(q queued) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle(q.epoch, q.number)
}

func (c *Client) acked(h uint32) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.out.Enabled() {
		return violation("an acknowledgement without stream management")
	}
	c.asked = false
	if err := c.acknowledge(h); err != nil {
		return err
	}
	if c.since {
		c.control = c.request(c.control)
		c.wake()
	}
	return nil
}

// sort says which event a stanza is, nil for none.
func (c *Client) sort(st *stanza.Stanza) Event {
	switch st.Kind {
	case stanza.IQ:
		if st.Type == stanza.TypeResult || st.Type == stanza.TypeError {
			c.answered(st)
			return nil
		}
		return c.requested(st)
	case stanza.Message:
		return c.message(st)
	}
	return &Received{st}
}

// own reports whether a stanza is from the own account itself, and so from its
// server: nobody else can send from there.
func (c *Client) own(st *stanza.Stanza) bool { return st.From.IsZero() || st.From == c.cfg.Account }

// message unwraps what wraps messages, if the one may wrap them who did it.
func (c *Client) message(st *stanza.Stanza) Event {
	for el := range st.Payloads() {
		switch el.Space() {
		case xep.NSMAM:
			if el.Local() == "result" {
				return c.archived(st, el)
			}
		case xep.NSCarbons:
			if el.Local() != "sent" && el.Local() != "received" {
				continue
			}
			// XEP-0280 11, CVE-2017-5589: from anybody else it is forged.
			inner, _, ok := xep.ParseForwarded(el.Child(xep.NSForward, "forwarded"))
			if !ok || st.From != c.cfg.Account {
				return nil
			}
			return &Carbon{Sent: el.Local() == "sent", Message: inner, Stanza: st}
		case xep.NSXMPP2:
			if el.Local() != "synced" {
				continue
			}
			s, ok := xep.ParseSynced(st)
			if !ok || s.Room.IsZero() && !c.own(st) || !s.Room.IsZero() && (st.From != s.Room || !c.catchesUp(s.Room)) {
				return nil
			}
			return &Synced{s, st}
		}
	}
	return &Received{st}
}

// archived is a message of the catch-up, or one for a page that somebody waits
// for. What nobody asked for is dropped (XEP-0313 4.2: the results of others are
// not to be believed).
func (c *Client) archived(st *stanza.Stanza, el xmltree.Element) Event {
	archive := st.From
	if c.own(st) {
		archive = c.cfg.Account
	}
	id := el.Attr("queryid")
	if id == xep.SyncQueryID {
		if !c.catchesUp(archive) {
			return nil
		}
		m, ok := parseArchived(archive, st, el)
		if !ok {
			return nil
		}
		return &Archived{m}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.queries[callKey{archive, id}]; p != nil {
		p.add(archive, st, el)
	}
	return nil
}

// catchesUp says whether the session may bring a catch-up from an archive: the
// account's, or that of a room that was entered with it.
func (c *Client) catchesUp(archive jid.JID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session != nil && c.session.profile == ProfileBest && (archive == c.cfg.Account || c.session.rooms[archive])
}

// requested answers a request of others, or leaves it to the program.
func (c *Client) requested(st *stanza.Stanza) Event {
	el := st.Payload()
	switch {
	case st.Type == stanza.TypeSet && el.Is(xep.NSRoster, "query"):
		return c.rosterPush(st, el)
	case st.Type == stanza.TypeSet && el.Space() == xep.NSBlocking:
		return c.blockPush(st, el)
	case st.Type == stanza.TypeGet && el.Is(xep.NSPing, "ping"):
		c.reply(st.Reply(""))
	case st.Type == stanza.TypeGet && el.Is(xep.NSDiscoInfo, "query") && !slices.Contains(c.cfg.Requests, xep.NSDiscoInfo):
		c.reply(c.disco(st, el))
	case slices.Contains(c.cfg.Requests, el.Space()):
		return &Received{st}
	default:
		c.reply(st.ErrorReply(stanza.NewError(stanza.ServiceUnavailable, ""))) // RFC 6120 8.4
	}
	return nil
}

func (c *Client) reply(st *stanza.Stanza) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer(st)
}

// opening asks for what a new session begins with, if XMPP 2.0's request has not
// brought it. c.mu is held.
func (c *Client) opening(r *Connected) {
	asked := r.Profile == ProfileBest
	if !c.cfg.Quiet {
		c.openRoster(asked && accepted(r.Session, xep.SessionRoster))
	}
	said := asked && accepted(r.Session, xep.SessionPresence) && c.begun == c.presence
	if c.unsaid = c.unsaid && !said; c.show && !said {
		c.sendPresence()
	}
}

// sessionRequest is what a new session of XMPP 2.0 is asked for, with the login (X2-31): from where to
// catch up (X2-34, X2-35) and the first presence (X2-36).
func (c *Client) sessionRequest() *xep.SessionRequest {
	sync := &xep.Sync{}
	if c.cfg.Sync != nil {
		if s := c.cfg.Sync(); s != nil {
			sync = s
		}
	}
	var rooms []Room
	if c.cfg.Rooms != nil {
		rooms = c.cfg.Rooms()
		rooms = rooms[:min(len(rooms), MaxRooms)]
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r := &xep.SessionRequest{Parts: []xep.SessionAsk{{Part: xep.SessionSync, Sync: sync}}}
	if !c.cfg.Quiet {
		r.Parts = append(r.Parts, xep.SessionAsk{Part: xep.SessionRoster, Ver: c.roster.ver})
	}
	// An unavailable one is no way to begin.
	if c.begun = nil; c.show && c.presence.Type == stanza.TypeAvailable {
		c.begun = c.presence
		r.Parts = append(r.Parts, xep.SessionAsk{Part: xep.SessionPresence, Presence: c.dressed(c.begun)})
	}
	for _, room := range rooms { // X2-37
		r.Parts = append(r.Parts, xep.SessionAsk{Part: xep.SessionJoin, Room: room.JID, Nick: room.Nick, Password: room.Password, Sync: room.Sync})
	}
	if c.cfg.Autojoin {
		r.Parts = append(r.Parts, xep.SessionAsk{Part: xep.SessionAutojoin, Sync: c.cfg.AutojoinSync})
	}
	return r
}
