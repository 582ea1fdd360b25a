package account

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"carillon.im/jid"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

const nsRoster = "jabber:iq:roster"

// Bounds of one roster item. Clients show names and groups to people; these
// are far beyond what a person types.
const (
	maxItemText   = 1023
	maxItemGroups = 64
	// maxRosterBytes bounds all names and groups of a roster together: it is sent
	// as one stanza.
	maxRosterBytes = 1 << 20
)

// rosterBytes is how many bytes people have typed into the roster, but for one
// contact.
func (s *State) rosterBytes(except jid.JID) int {
	n := 0
	for j, c := range s.roster {
		if j != except {
			n += itemBytes(c.name, c.groups)
		}
	}
	return n
}

func itemBytes(name string, groups []string) int {
	n := len(name)
	for _, g := range groups {
		n += len(g)
	}
	return n
}

// rosterFull and requestsFull bound the contacts that are listed, and the
// requests of strangers apart: those can't use up the user's places.
func (s *State) rosterFull() bool {
	n := 0
	for _, c := range s.roster {
		if c.listed {
			n++
		}
	}
	return n >= s.cfg.Limits.RosterItems
}

func (s *State) requestsFull() bool {
	n := 0
	for _, c := range s.roster {
		if c.PendingIn {
			n++
		}
	}
	return n >= min(store.MaxRequests, s.cfg.Limits.RosterItems)
}

// list puts a contact into the roster, or a new version of it.
func (s *State) list(j jid.JID, c *contact) store.RosterItem {
	s.rosterVersion++
	c.listed, c.version = true, s.rosterVersion
	s.removed = slices.DeleteFunc(s.removed, func(it store.RosterItem) bool { return it.JID == j })
	return c.item(j)
}

// rosterIQ answers a roster request of one of the account's sessions (RFC
// 6121 2).
func (s *State) rosterIQ(ev *inbound, fx *effects) {
	var err *stanza.Error
	if ev.stanza.Type == stanza.TypeGet {
		s.rosterGet(ev, fx)
	} else {
		err = s.rosterSet(ev, fx)
	}
	if err != nil {
		s.later(fx, func(fx *effects) { s.tellError(ev, err, fx) })
	}
	s.later(fx, func(fx *effects) { fx.handled(ev.session, ev.number) })
}

// rosterGet is RFC 6121 2.1.3, with versions (2.6): a client that names a
// version from which all changes are known gets those as pushes.
func (s *State) rosterGet(ev *inbound, fx *effects) {
	x := ev.session
	x.setInterest(nsRoster)
	failed := func(fx *effects, err error) { s.tellError(ev, storeError(err), fx) }
	s.show(fx, failed, func(fx *effects) {
		query := ev.stanza.Payload()
		since, versioned := query.LookupAttr("", "ver")
		if v, err := strconv.ParseInt(since, 10, 64); versioned && err == nil && v >= s.rosterFloor && v <= s.rosterVersion {
			fx.deliver(x, ev.stanza.Reply("").AppendTo(nil), tag{})
			s.pushSince(x, v, fx)
			return
		}
		w := xmltree.NewWriter(make([]byte, 0, 64+100*len(s.roster)), stanza.NSClient)
		w.Start(nsRoster, "query")
		if versioned {
			w.Attr("ver", strconv.FormatInt(s.rosterVersion, 10))
		}
		for _, j := range s.rosterOrder() {
			writeItem(w, s.roster[j].item(j), false)
		}
		w.End()
		reply := ev.stanza.Reply(string(w.Bytes())).AppendTo(nil)
		fx.deliver(x, reply, tag{answer: len(reply)})
	})
}

// rosterOrder is the listed contacts, in the order of their addresses: the
// same roster is the same answer.
func (s *State) rosterOrder() []jid.JID {
	order := make([]jid.JID, 0, len(s.roster))
	for j, c := range s.roster {
		if c.listed {
			order = append(order, j)
		}
	}
	slices.SortFunc(order, compareJIDs)
	return order
}

// pushSince sends what changed after a version, in order (RFC 6121 2.6.3).
func (s *State) pushSince(x *session, version int64, fx *effects) {
	type change struct {
		item    store.RosterItem
		removed bool
	}
	var changes []change
	for j, c := range s.roster {
		if c.listed && c.version > version {
			changes = append(changes, change{c.item(j), false})
		}
	}
	for _, it := range s.removed {
		if it.Version > version {
			changes = append(changes, change{it, true})
		}
	}
	slices.SortFunc(changes, func(a, b change) int { return cmp.Compare(a.item.Version, b.item.Version) })
	for _, c := range changes {
		push := rosterPush(x.jid, c.item, c.removed, s.cfg.newID())
		fx.deliver(x, push, tag{answer: len(push)})
	}
}

func writeItem(w *xmltree.Writer, it store.RosterItem, removed bool) {
	w.Start(nsRoster, "item").Attr("jid", it.JID.String())
	if removed {
		w.Attr("subscription", "remove").End()
		return
	}
	w.OptAttr("name", it.Name).Attr("subscription", it.Subscription)
	if it.Ask {
		w.Attr("ask", "subscribe")
	}
	if it.Approved {
		w.Attr("approved", "true")
	}
	for _, g := range it.Groups {
		w.Start(nsRoster, "group").Text(g).End()
	}
	w.End()
}

// rosterPush is RFC 6121 2.1.6.
func rosterPush(to jid.JID, it store.RosterItem, removed bool, id string) []byte {
	w := xmltree.NewWriter(nil, stanza.NSClient)
	w.Start(nsRoster, "query").Attr("ver", strconv.FormatInt(it.Version, 10))
	writeItem(w, it, removed)
	w.End()
	return stanza.Build(stanza.IQ, stanza.TypeSet, id, jid.JID{}, to, string(w.Bytes())).AppendTo(nil)
}

// pushRoster tells the sessions that asked for the roster of a change.
func (s *State) pushRoster(it store.RosterItem, removed bool, fx *effects) {
	for _, x := range s.sessions {
		if x.interested(nsRoster) {
			fx.deliver(x, rosterPush(x.jid, it, removed, s.cfg.newID()), tag{})
		}
	}
}

// rosterSet is RFC 6121 2.3 to 2.5.
func (s *State) rosterSet(ev *inbound, fx *effects) *stanza.Error {
	it, remove, err := parseRosterSet(ev.stanza.Payload())
	if err != nil {
		return err
	}
	if it.JID == s.jid {
		return stanza.NewError(stanza.NotAllowed, "the own address can't be in the roster")
	}
	result := ev.stanza.Reply("").AppendTo(nil)
	c := s.roster[it.JID]
	if remove {
		if c == nil || !c.listed {
			return stanza.NewError(stanza.ItemNotFound, "no such contact")
		}
		s.removeContact(ev, it.JID, c, result, fx)
		return nil
	}
	if (c == nil || !c.listed) && s.rosterFull() {
		return stanza.NewError(stanza.ResourceConstraint, "the roster is full")
	}
	if s.rosterBytes(it.JID)+itemBytes(it.Name, it.Groups) > maxRosterBytes {
		return stanza.NewError(stanza.ResourceConstraint, "the names and groups of the roster are too much together")
	}
	if c == nil {
		c = &contact{}
		s.roster[it.JID] = c
	}
	c.name, c.groups = it.Name, it.Groups
	item := s.list(it.JID, c)
	s.commitThen(ev, []store.Op{store.RosterPut{Account: s.id, Item: item, Version: item.Version}}, fx, func(fx *effects) {
		s.pushRoster(item, false, fx)
		fx.deliver(ev.session, result, tag{})
	})
	return nil
}

// commitThen commits a change that a session asked for; if that fails, the
// session is told and the account's data is read anew.
func (s *State) commitThen(ev *inbound, ops []store.Op, fx *effects, then func(*effects)) *entry {
	e := s.hold(fx.now, then)
	e.failed = func(fx *effects, err error) {
		s.distrust(err)
		s.tellError(ev, storeError(err), fx)
	}
	s.commit(fx, ops, e, nil)
	return e
}

// removeContact is RFC 6121 2.5: subscriptions in both directions end with it.
func (s *State) removeContact(ev *inbound, j jid.JID, c *contact, result []byte, fx *effects) {
	sub := c.subscription
	s.rosterVersion++
	tomb := store.RosterItem{JID: j, Version: s.rosterVersion}
	s.removed = append(s.removed, tomb)
	if over := len(s.removed) - store.MaxTombstones; over > 0 {
		s.rosterFloor = s.removed[over-1].Version
		s.removed = slices.Delete(s.removed, 0, over)
	}
	delete(s.roster, j)
	ops := []store.Op{store.RosterDelete{Account: s.id, Contact: j, Version: tomb.Version}}
	if sub.PendingIn {
		ops = append(ops, store.RequestDelete{Account: s.id, From: j})
	}
	e := s.commitThen(ev, ops, fx, func(fx *effects) {
		s.pushRoster(tomb, true, fx)
		fx.deliver(ev.session, result, tag{})
		if sub.To || sub.PendingOut {
			s.postPresence(presence{typ: stanza.TypeUnsubscribe}, s.jid, j, fx)
		}
		if sub.From || sub.PendingIn {
			s.showOrHide(subscriptionChange{HidePresence: sub.From}, j, fx)
			s.postPresence(presence{typ: stanza.TypeUnsubscribed}, s.jid, j, fx)
		}
	})
	if sub.To || sub.From {
		s.doubt(j, e)
	}
}

// parseRosterSet reads the one item of a roster set (RFC 6121 2.1.5, 2.3.3).
func parseRosterSet(query xmltree.Element) (it store.RosterItem, remove bool, err *stanza.Error) {
	n := 0
	var item xmltree.Element
	for el := range query.Children() {
		item = el
		n++
	}
	if n != 1 || !item.Is(nsRoster, "item") {
		return it, false, stanza.NewError(stanza.BadRequest, "a roster set carries exactly one item")
	}
	j, bad := jid.Parse(item.Attr("jid"))
	if bad != nil {
		return it, false, stanza.NewError(stanza.JIDMalformed, "the item's jid is not an address")
	}
	// What is kept must not hold the stanza's memory.
	j = jid.MustParse(strings.Clone(j.Bare().String()))
	it = store.RosterItem{JID: j, Name: strings.Clone(item.Attr("name"))}
	if len(it.Name) > maxItemText {
		return it, false, stanza.NewError(stanza.NotAcceptable, "the name is too long")
	}
	if item.Attr("subscription") == "remove" {
		return it, true, nil
	}
	for el := range item.Children() {
		if !el.Is(nsRoster, "group") {
			continue
		}
		g := el.Text()
		switch {
		case g == "" || len(g) > maxItemText || len(it.Groups) >= maxItemGroups:
			return it, false, stanza.NewError(stanza.NotAcceptable, "a group has no name, a name too long, or there are too many groups")
		case slices.Contains(it.Groups, g):
			return it, false, stanza.NewError(stanza.BadRequest, "a group is named twice")
		}
		it.Groups = append(it.Groups, strings.Clone(g))
	}
	return it, false, nil
}
