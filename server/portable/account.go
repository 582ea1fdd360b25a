package portable

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/server/features/pep"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// account is one that is being imported, or a room. What isn't message by message is
// gathered here, within maxAccount; messages go their way as they come.
type account struct {
	*importing
	jid      jid.JID
	id       store.AccountID // of what exists, or is begun
	at       Place
	room     bool
	exists   bool
	begun    bool     // not finished
	has      *present // what exists has
	created  time.Time
	creator  jid.JID
	password string

	disabled bool
	keys     []sasl.Keys
	roster   []store.RosterItem
	requests []store.Request
	blocked  []jid.JID
	prefs    []byte
	vcard    []byte
	photo    string // hash of the vCard's
	private  []store.KV
	nodes    []*node
	members  []store.RoomMember
	form     *xep.Form // of a room
	subject  []byte

	offline  int             // messages
	lastID   store.ArchiveID // that the document's archive has come to
	lastKept store.ArchiveID // the same for offline messages
	batch    []entry
	waiting  int // bytes in batch
	size     int // bytes gathered
	counts   map[string]int
	left     []string
	problems []string
}

// node is one of personal events.
type node struct {
	name    string
	form    xep.Form
	members []jid.JID
	items   []store.EventItem
}

// errTooMuch ends what can't be gathered.
var errTooMuch = errors.New("it has more than 64 MiB beside its messages")

// read takes everything up to the end of the account.
func (a *account) read() error {
	depth := len(a.r.around)
	items := "" // node that items are of
	for {
		within := a.r.within()
		p, err := a.r.Next()
		if err != nil {
			return err
		}
		switch p.Kind {
		case xmltree.None:
			return errors.New("the document ends too early")
		case xmltree.StreamEnd:
			if len(a.r.around) < depth {
				return a.flush()
			}
			continue
		case xmltree.StreamStart:
			if p.Element.Is(xep.NSPubSub, "items") {
				items = strings.Clone(p.Element.Attr("node"))
				a.node(p.Place, items)
			}
			continue
		}
		if p.Place.File == "" && a.within.File != "" {
			p.Place = a.within
		}
		if within != name(nsArchive, "archive") && within != name(nsPIE, "offline-messages") {
			if a.size += len(p.Element.Raw()); a.size > maxAccount {
				return fmt.Errorf("%s: %w", p.Place, errTooMuch)
			}
		}
		if err := a.unit(within, p, items); err != nil {
			return err
		}
	}
}

// unit takes one unit of a container.
func (a *account) unit(within xmltree.Name, p Part, items string) error {
	el := p.Element
	switch within {
	case name(nsArchive, "archive"):
		return a.archived(p)
	case name(nsPIE, "offline-messages"):
		return a.unread(p)
	case name(xep.NSRoster, "query"):
		a.contact(p)
	case name(xep.NSPrivate, "query"):
		a.fragment(p)
	case name(xep.NSPubSubOwner, "pubsub"):
		a.configure(p)
	case name(xep.NSPubSub, "items"):
		a.item(p, items)
	case name(xep.NSMUCAdmin, "query"):
		a.member(p)
	case name(nsOwn, "room"):
		return a.ofRoom(p)
	default:
		switch el.Name() {
		case name(nsSCRAM, "scram-credentials"):
			a.credentials(p)
		case name(stanza.NSClient, "presence"):
			a.request(p)
		case name(xep.NSBlocking, "blocklist"):
			for c := range el.Children() {
				a.block(p.Place, c.Attr("jid"))
			}
		case name(nsPrivacy, "query"):
			a.privacy(p)
		case name(xep.NSMAM, "prefs"):
			a.preferences(p)
		case name(xep.NSVCard, "vCard"):
			a.card(p)
		default:
			a.unknown(el)
		}
	}
	return nil
}

func (a *account) unknown(el xmltree.Element) {
	a.leave(fmt.Sprintf("<%.60s xmlns='%.100s'/>", el.Local(), el.Space()))
}

// credentials reads XEP-0227 4.3. ejabberd's exports, of 23.01 at least, have salt
// and keys encoded twice.
func (a *account) credentials(p Part) {
	mechanism := p.Element.Attr("mechanism")
	var k sasl.Keys
	for _, h := range []sasl.Hash{sasl.SHA1, sasl.SHA256, sasl.SHA512} {
		if mechanism == "SCRAM-"+h.String() {
			k.Hash = h
		}
	}
	if k.Hash == 0 {
		a.leave(fmt.Sprintf("the keys of %.40q", mechanism))
		return
	}
	if slices.ContainsFunc(a.keys, func(o sasl.Keys) bool { return o.Hash == k.Hash }) {
		a.problem(p.Place, "two sets of keys for "+mechanism)
		return
	}
	n, err := strconv.Atoi(strings.TrimSpace(p.Element.Child(nsSCRAM, "iter-count").Text()))
	if err != nil || n < 1 || n > sasl.MaxIterations {
		a.problem(p.Place, "the count of iterations of "+mechanism+" is none")
		return
	}
	k.Iterations = n
	decoded := func(local string) []byte {
		b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(p.Element.Child(nsSCRAM, local).Text()))
		if err != nil {
			return nil
		}
		return b
	}
	k.Salt, k.ServerKey, k.StoredKey = decoded("salt"), decoded("server-key"), decoded("stored-key")
	if len(k.ServerKey) > k.Hash.Size() && len(k.StoredKey) > k.Hash.Size() {
		for _, b := range []*[]byte{&k.Salt, &k.ServerKey, &k.StoredKey} {
			once, err := base64.StdEncoding.DecodeString(string(*b))
			if err != nil {
				once = nil
			}
			*b = once
		}
	}
	if len(k.Salt) == 0 || len(k.Salt) > 1024 || len(k.ServerKey) != k.Hash.Size() || len(k.StoredKey) != k.Hash.Size() {
		a.problem(p.Place, "the keys of "+mechanism+" are none")
		return
	}
	a.keys = append(a.keys, k)
}

// contact reads an item of XEP-0227 4.4.
func (a *account) contact(p Part) {
	el := p.Element
	if !el.Is(xep.NSRoster, "item") {
		a.unknown(el)
		return
	}
	j := a.address(p.Place, el.Attr("jid"))
	item := store.RosterItem{JID: j, Name: strings.Clone(el.Attr("name")), Subscription: strings.Clone(el.Attr("subscription")), Ask: el.Attr("ask") == "subscribe"}
	item.Approved, _ = xep.ParseBool(el.Attr("approved"))
	switch item.Subscription {
	case xep.SubscriptionNone, xep.SubscriptionTo, xep.SubscriptionFrom, xep.SubscriptionBoth:
	case "":
		item.Subscription = xep.SubscriptionNone
	default:
		a.problem(p.Place, fmt.Sprintf("%.40q is no subscription", item.Subscription))
		return
	}
	for c := range el.Children() {
		if g := c.Text(); c.Is(xep.NSRoster, "group") && g != "" && len(g) <= xep.MaxRosterName && !slices.Contains(item.Groups, g) && len(item.Groups) < xep.MaxRosterGroups {
			item.Groups = append(item.Groups, strings.Clone(g))
		}
	}
	switch {
	case j.IsZero():
	case j == a.jid:
		a.leave("the account itself as a contact")
	case len(item.Name) > xep.MaxRosterName:
		a.problem(p.Place, fmt.Sprintf("the name of the contact %s is too long", j))
	case slices.ContainsFunc(a.roster, func(o store.RosterItem) bool { return o.JID == j }):
		a.problem(p.Place, fmt.Sprintf("the contact %s comes twice", j))
	case len(a.roster) == a.Limits.Roster:
		a.problem(p.Place, fmt.Sprintf("more than %d contacts, which limits.roster_items allows", a.Limits.Roster))
	default:
		a.roster = append(a.roster, item)
	}
}

// request reads XEP-0227 4.9.
func (a *account) request(p Part) {
	st, err := stanza.Parse(p.Element)
	if err != nil || st.Type != stanza.TypeSubscribe || st.From.IsZero() {
		a.problem(p.Place, "a presence that is no request for a subscription")
		return
	}
	st.From, st.To = st.From.Bare(), a.jid
	if slices.ContainsFunc(a.requests, func(r store.Request) bool { return r.From == st.From }) {
		return
	}
	if len(a.requests) == store.MaxRequests {
		a.leave("requests for subscriptions beyond the first 250")
		return
	}
	a.requests = append(a.requests, store.Request{From: st.From, Stanza: st.AppendTo(nil), At: a.Now().Add(time.Duration(len(a.requests)) * time.Microsecond)})
}

func (a *account) block(at Place, s string) {
	j, err := jid.Parse(s)
	switch {
	case err != nil:
		a.problem(at, fmt.Sprintf("%.200q, which is blocked, is no address", s))
	case slices.Contains(a.blocked, j):
	case len(a.blocked) == a.Limits.Blocked:
		a.problem(at, fmt.Sprintf("more than %d blocked addresses, which limits.block_items allows", a.Limits.Blocked))
	default:
		a.blocked = append(a.blocked, j)
	}
}

// privacy takes of privacy lists (XEP-0227 4.8) what is blocking (XEP-0191 5):
// addresses that the default list denies everything. Other servers keep block lists
// like that.
func (a *account) privacy(p Part) {
	active := p.Element.Child(nsPrivacy, "default").Attr("name")
	for list := range p.Element.Children() {
		if !list.Is(nsPrivacy, "list") {
			continue
		}
		for item := range list.Children() {
			kinds := 0
			for range item.Children() {
				kinds++
			}
			switch {
			case item.Attr("action") == "allow" && item.Attr("type") == "":
			case list.Attr("name") != active || item.Attr("action") != "deny" || item.Attr("type") != "jid" || kinds != 0 && kinds != 4:
				a.leave(fmt.Sprintf("rules of the privacy list %.60q that are no blocking of an address", list.Attr("name")))
			default:
				a.block(p.Place, item.Attr("value"))
			}
		}
	}
}

// card reads XEP-0227 4.7.
func (a *account) card(p Part) {
	card := p.Element.AppendTo(nil, stanza.NSClient)
	switch hash, err := xep.PhotoHash(p.Element); {
	case len(card) > a.Limits.VCardBytes:
		a.leave(fmt.Sprintf("the vCard, which has %d bytes: %d are possible", len(card), a.Limits.VCardBytes))
	case err != nil:
		a.problem(p.Place, "the photo of the vCard can't be read")
	default:
		a.vcard, a.photo = card, hash
	}
}

// node finds one by its name, or makes it; nil if it can't be.
func (a *account) node(at Place, named string) *node {
	if named == "" || len(named) > pep.MaxName {
		a.problem(at, "a node without a name, or with one that is too long")
		return nil
	}
	for _, n := range a.nodes {
		if n.name == named {
			return n
		}
	}
	if most := pep.DefaultLimits().Nodes; len(a.nodes) == most {
		a.problem(at, fmt.Sprintf("more than %d nodes", most))
		return nil
	}
	n := &node{name: strings.Clone(named)}
	a.nodes = append(a.nodes, n)
	return n
}

// configure reads XEP-0227 4.10.1.
func (a *account) configure(p Part) {
	n := a.node(p.Place, p.Element.Attr("node"))
	if n == nil {
		return
	}
	switch p.Element.Local() {
	case "configure":
		form, err := xep.ParseForm(p.Element.Child(xep.NSForm, "x"))
		if err != nil {
			a.problem(p.Place, fmt.Sprintf("the configuration of the node %.100q can't be read", n.name))
			return
		}
		n.form = form
	case "affiliations":
		for c := range p.Element.Children() {
			switch role := c.Attr("affiliation"); role {
			case "member":
				if j := a.address(p.Place, c.Attr("jid")); !j.IsZero() {
					n.members = append(n.members, j)
				}
			case "owner", "none":
			default:
				a.leave(fmt.Sprintf("the affiliation %.40q with a node", role))
			}
		}
	default:
		a.leave(fmt.Sprintf("<%.40s/> of nodes", p.Element.Local()))
	}
}

// item reads XEP-0227 4.10.2.
func (a *account) item(p Part, of string) {
	n := a.node(p.Place, of)
	if n == nil {
		return
	}
	it, err := xep.ParsePubSubItem(p.Element)
	switch most := pep.DefaultLimits().ItemBytes; {
	case !p.Element.Is(xep.NSPubSub, "item") || err != nil || it.ID == "" || len(it.ID) > pep.MaxName:
		a.problem(p.Place, fmt.Sprintf("an item of the node %.100q that is none", of))
	case len(it.Payload) > most:
		a.leave(fmt.Sprintf("items of the node %.100q with more than %d bytes", of, most))
	default:
		at := a.Now()
		if v, there := p.Element.LookupAttr(nsOwn, "published"); there {
			if t, err := xep.ParseDateTime(v); err == nil {
				at = t
			}
		}
		n.items = slices.DeleteFunc(n.items, func(o store.EventItem) bool { return o.ID == it.ID })
		if most := pep.DefaultLimits().Items; len(n.items) == most {
			n.items = n.items[1:]
			a.leave(fmt.Sprintf("items of the node %.100q but the newest %d", of, most))
		}
		n.items = append(n.items, store.EventItem{ID: strings.Clone(it.ID), Payload: []byte(it.Payload), At: at})
	}
}
