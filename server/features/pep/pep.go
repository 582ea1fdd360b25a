// Package pep is an account's personal events (XEP-0163): nodes with items that
// its owner publishes, and that contacts read and hear of as each node allows.
// With it come what clients build on it: avatars (XEP-0084, 0398), bookmarks
// (XEP-0402, 0048), displayed messages (XEP-0490), keys (XEP-0384) and storage of
// public and private data (XEP-0222, 0223).
//
// The model: everything here happens in three steps. What the node is like is
// read; what the request makes of it is decided, who hears of it included; and the
// change is handed to the account's owner together with the configuration that it
// was decided on. The store makes it only if the node still has that
// configuration, and else all is done again, so a node that its owner has just
// closed tells nobody anything. The account's owner tells sessions, and other
// accounts, once the change is on disk. Which sessions want to hear of which nodes
// they say in their capabilities (XEP-0115).
package pep

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// Store is what the feature reads from the store.
type Store interface {
	EventNodes(ctx context.Context, id store.AccountID) ([]store.EventNode, error)
	EventItems(ctx context.Context, id store.AccountID, node string, ids []string, limit int) (store.EventNode, []store.EventItem, error)
	EventsLast(ctx context.Context, owners []jid.JID, nodes []string) ([]store.EventLast, error)
}

// Limits bound what one account may publish; zero fields stand for the defaults.
type Limits struct {
	Nodes     int           // default 250
	Items     int           // of one node, default 1000
	ItemBytes int           // of one item, default 192 KiB
	Bytes     int           // of all items with their ids, default 2 MiB
	Burst     int           // changes at once, default 500
	Every     time.Duration // and one more after each, default 100 ms
}

func (l Limits) withDefaults() Limits {
	def := func(n *int, v int) {
		if *n <= 0 {
			*n = v
		}
	}
	def(&l.Nodes, 250)
	def(&l.Items, 1000)
	def(&l.ItemBytes, 192<<10)
	def(&l.Bytes, 2<<20)
	def(&l.Burst, 500)
	if l.Every <= 0 {
		l.Every = 100 * time.Millisecond
	}
	return l
}

// MaxName bounds the name of a node and the id of an item, in bytes.
const MaxName = 1024

// Options are what a Service works with.
type Options struct {
	Store  Store
	Limits Limits
	Now    func() time.Time
	// Account finds an account of this server; it is called once sessions come.
	Account func(jid.JID) feature.AccountRef
	// Photo makes what has to be stored of an account so that its vCard has this
	// photo, nil for none (XEP-0398 3.1). Optional.
	Photo func(ctx context.Context, owner feature.AccountRef, mime string, photo []byte) ([]feature.KeyValue, error)
	// Fragment reads the account's private XML of a name (XEP-0049), the zero
	// Element if there is none, and makes what has to be stored for another one.
	// Optional.
	Fragment    func(ctx context.Context, owner feature.AccountRef, name xmltree.Name) (xmltree.Element, error)
	SetFragment func(name xmltree.Name, fragment []byte) feature.KeyValue
}

// Service is the personal events of all accounts. Its methods may be called
// concurrently. Close ends what it does by itself.
type Service struct {
	opt  Options
	rate rate

	ctx  context.Context // of what is done for sessions that have come
	stop context.CancelFunc
	wg   sync.WaitGroup
	work chan struct{} // bounds it

	mu     sync.Mutex
	coming map[arriving]*arrival
	closed bool
}

// New makes the service.
func New(o Options) *Service {
	o.Limits = o.Limits.withDefaults()
	s := &Service{opt: o, rate: rate{burst: o.Limits.Burst, every: o.Limits.Every, full: map[jid.JID]time.Time{}},
		work: make(chan struct{}, maxArrivals), coming: map[arriving]*arrival{}}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

// Close ends what is being done for sessions that have come, and waits for it.
func (s *Service) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	s.wg.Wait()
}

// Feature is the feature that answers requests.
func (s *Service) Feature() feature.Feature {
	pubsub, owner := xmltree.Name{Space: xep.NSPubSub, Local: "pubsub"}, xmltree.Name{Space: xep.NSPubSubOwner, Local: "pubsub"}
	vars := []string{xep.NSPubSub, xep.NSPubSubOwner}
	for _, v := range []string{"access-open", "access-presence", "access-roster", "access-whitelist", "auto-create", "auto-subscribe", "config-node",
		"config-node-max", "create-and-configure", "create-nodes", "delete-items", "delete-nodes", "filtered-notifications", "item-ids",
		"last-published", "member-affiliation", "meta-data", "modify-affiliations", "multi-items", "persistent-items", "presence-notifications", "presence-subscribe",
		"publish", "publish-options", "purge-nodes", "retract-items", "retrieve-affiliations", "retrieve-default", "retrieve-items"} {
		vars = append(vars, xep.NSPubSub+"#"+v)
	}
	account := append([]string{xep.NSDisplayedAssist}, vars...)
	if s.opt.Photo != nil {
		account = append(account, xep.NSAvatarConversion)
	}
	if s.opt.Fragment != nil {
		account = append(account, xep.NSBookmarksCompat)
	}
	identity := []feature.Identity{{Category: "pubsub", Type: "pep"}}
	return feature.Feature{
		Name: "pep",
		Specs: []feature.Spec{
			{XEP: "0060", Version: "1.27.0", Note: "accounts' nodes (XEP-0163), without subscriptions, collections and the access model authorize"},
			{XEP: "0163", Version: "1.2.2", Note: "notifications to sessions and to contacts, here and elsewhere"},
			{XEP: "0048", Version: "1.2", Note: "in private XML: the same bookmarks as XEP-0402's"},
			{XEP: "0084", Version: "1.1.4"},
			{XEP: "0222", Version: "1.0.1"},
			{XEP: "0223", Version: "1.1.1"},
			{XEP: "0398", Version: "1.0.1"},
			{XEP: "0402", Version: "1.2.0"},
			{XEP: "0490", Version: "1.0.1"},
		},
		Disco: []feature.Disco{
			{Scope: feature.Account, Vars: account, Identities: identity},
			{Scope: feature.Contact, Vars: vars, Identities: identity},
		},
		IQs: []feature.IQ{
			{Scope: feature.Account, Type: stanza.TypeGet, Name: pubsub, Handle: s.get},
			{Scope: feature.Account, Type: stanza.TypeSet, Name: pubsub, Handle: s.set},
			{Scope: feature.Account, Type: stanza.TypeGet, Name: owner, Handle: s.ownerGet},
			{Scope: feature.Account, Type: stanza.TypeSet, Name: owner, Handle: s.ownerSet},
			{Scope: feature.Contact, Type: stanza.TypeGet, Name: pubsub, Handle: s.get},
			{Scope: feature.Contact, Type: stanza.TypeSet, Name: pubsub, Handle: forbid},
			{Scope: feature.Contact, Type: stanza.TypeGet, Name: owner, Handle: forbid},
			{Scope: feature.Contact, Type: stanza.TypeSet, Name: owner, Handle: forbid},
		},
		Nodes:     &feature.Nodes{List: s.list, Info: s.info},
		Addresses: []feature.Addressed{{Name: xmltree.Name{Space: xep.NSDisplayed, Local: "displayed"}, Handle: s.assist}},
	}
}

// forbid answers who changes somebody else's nodes, whether or not there are such.
func forbid(context.Context, *feature.Query) (string, error) {
	return "", stanza.NewError(stanza.Forbidden, "")
}

// action is the element of a request that says what is wanted; others of the
// request go with it.
func action(q *feature.Query, names ...string) (el xmltree.Element, err error) {
	for c := range q.Payload.Children() {
		for _, n := range names {
			if !c.Is(q.Payload.Space(), n) {
				continue
			}
			if !el.IsZero() {
				return el, stanza.NewError(stanza.BadRequest, "more than one thing is asked for")
			}
			el = c
		}
	}
	if el.IsZero() {
		for c := range q.Payload.Children() {
			return el, xep.PubSubUnsupported(c.Local())
		}
		return el, stanza.NewError(stanza.BadRequest, "nothing is asked for")
	}
	return el, nil
}

// nodeName is the node that an element names.
func nodeName(el xmltree.Element) (string, error) {
	switch node := el.Attr("node"); {
	case node == "":
		return "", xep.PubSubError(stanza.BadRequest, "nodeid-required", "")
	case len(node) > MaxName:
		return "", stanza.NewError(stanza.NotAcceptable, fmt.Sprintf("the name of a node has at most %d bytes", MaxName))
	default:
		return node, nil
	}
}

// node is a node as it was read; was is nil if there is none.
type node struct {
	config
	name  string
	was   []byte
	items []store.EventItem
}

// read reads a node of an account, with items as Store.EventItems does.
func (s *Service) read(ctx context.Context, owner feature.AccountRef, name string, ids []string, limit int) (n node, err error) {
	n.name = name
	id, err := owner.StoreID(ctx)
	if err != nil {
		return n, err
	}
	row, items, err := s.opt.Store.EventItems(ctx, store.AccountID(id), name, ids, limit)
	switch {
	case errors.Is(err, store.ErrNotFound):
		n.config = defaults(name)
		return n, nil
	case err != nil:
		return n, fmt.Errorf("reading a node: %w", err)
	}
	n.config, n.was, n.items = decode(row.Config), row.Config, items
	return n, nil
}

// change is a change of n that keeps its configuration, as it now is, and makes no difference
// otherwise.
func (s *Service) change(n *node) feature.EventChange {
	return feature.EventChange{Node: n.name, Was: n.was, Config: n.encode(), Keep: n.keep(s.opt.Limits.Items),
		MaxNodes: s.opt.Limits.Nodes, MaxBytes: s.opt.Limits.Bytes}
}

// maxTries is how often a change is decided anew because the node was changed
// meanwhile.
const maxTries = 5

// update decides a change and has it made, again and again while others come
// first.
func (s *Service) update(ctx context.Context, owner feature.AccountRef, decide func(*feature.Update) error) error {
	if !s.rate.take(owner.JID(), s.opt.Now()) {
		return stanza.NewError(stanza.ResourceConstraint, "too many changes in a short time")
	}
	for try := 1; ; try++ {
		var u feature.Update
		if err := decide(&u); err != nil {
			return err
		}
		err := owner.Update(ctx, u)
		switch {
		case errors.Is(err, store.ErrChanged) && try < maxTries:
			continue
		case errors.Is(err, store.ErrChanged):
			return stanza.NewError(stanza.ResourceConstraint, "the node is being changed")
		case errors.Is(err, store.ErrLimit):
			return stanza.NewError(stanza.PolicyViolation, fmt.Sprintf("at most %d nodes and %d bytes of items can be kept", s.opt.Limits.Nodes, s.opt.Limits.Bytes))
		case errors.Is(err, store.ErrNotFound):
			return stanza.NewError(stanza.ItemNotFound, "")
		}
		return err
	}
}

func errNoNode() error { return stanza.NewError(stanza.ItemNotFound, "there is no such node") }

// newID makes an item's id for who names none.
func newID() string { return rand.Text() }
