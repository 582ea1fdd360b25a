package portable

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strings"

	"carillon.im/sasl"
	"carillon.im/server/feature"
	"carillon.im/server/features/pep"
	"carillon.im/server/features/private"
	"carillon.im/server/features/vcard"
	"carillon.im/server/room"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
)

// present is what an account or a room that exists has, beside its archive.
type present struct {
	store.AccountData
	room       store.RoomRow
	keys       int
	vcard      []byte
	private    map[string]bool
	nodes      map[string]map[string]bool // items by node
	offline    map[string]bool            // stanzas
	offlineIDs map[store.ArchiveID]bool
}

// existing reads what is there.
func (a *account) existing() (err error) {
	h := &present{private: map[string]bool{}, nodes: map[string]map[string]bool{}, offline: map[string]bool{}, offlineIDs: map[store.ArchiveID]bool{}}
	a.has = h
	if a.room {
		h.room, err = a.Store.LoadRoom(a.ctx, a.jid)
		return err
	}
	if h.AccountData, err = a.Store.LoadAccount(a.ctx, a.jid); err != nil {
		return err
	}
	keys, err := a.Store.Credentials(a.ctx, a.id)
	if err != nil {
		return err
	}
	h.keys = len(keys)
	values, err := a.Store.KVList(a.ctx, a.id, private.Space)
	if err != nil {
		return err
	}
	for _, kv := range values {
		h.private[kv.Key] = true
	}
	if values, err = a.Store.KVList(a.ctx, a.id, vcard.Space); err != nil {
		return err
	}
	for _, kv := range values {
		if kv.Key == vcard.Key {
			h.vcard = kv.Value
		}
	}
	nodes, err := a.Store.EventNodes(a.ctx, a.id)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		h.nodes[n.Node] = map[string]bool{}
		_, items, err := a.Store.EventItems(a.ctx, a.id, n.Node, nil, pep.DefaultLimits().Items)
		if err != nil {
			return err
		}
		for _, it := range items {
			h.nodes[n.Node][it.ID] = true
		}
	}
	for after := store.ArchiveID(0); ; {
		list, err := a.Store.Offline(a.ctx, a.id, after, 100)
		if err != nil || len(list) == 0 {
			return err
		}
		for _, m := range list {
			after = m.ID
			h.offline[string(m.Stanza)], h.offlineIDs[m.ID] = true, true
		}
	}
}

// fragment reads private XML (XEP-0227 4.6).
func (a *account) fragment(p Part) {
	n := p.Element.Name()
	if n.Space == "" {
		a.leave(fmt.Sprintf("private XML without a namespace, <%.60s/>", n.Local))
		return
	}
	kv := private.SetFragment(n, p.Element.AppendTo(nil, xep.NSPrivate))
	for i := range a.private {
		if a.private[i].Key == kv.Key { // several elements of one name are one fragment (XEP-0049 2.3)
			a.private[i].Value = append(a.private[i].Value, kv.Value...)
			return
		}
	}
	a.private = append(a.private, store.KV{Key: kv.Key, Value: kv.Value})
}

// preferences reads what is archived (XEP-0441).
func (a *account) preferences(p Part) {
	prefs, err := xep.ParseMAMPrefs(p.Element)
	if err != nil {
		a.problem(p.Place, "the archive's preferences can't be read")
		return
	}
	own := feature.ArchivePrefs(prefs)
	a.prefs = own.Encode()
}

// ofRoom reads what a room has.
func (a *account) ofRoom(p Part) error {
	switch el := p.Element; el.Name() {
	case name(xep.NSForm, "x"):
		form, err := xep.ParseForm(el)
		if err != nil {
			a.problem(p.Place, "the room's configuration can't be read")
			return nil
		}
		a.form = &form
	case name(nsOwn, "subject"):
		st, err := stanza.Parse(el.Child(stanza.NSClient, "message"))
		if err != nil {
			a.problem(p.Place, "the room's subject can't be read")
			return nil
		}
		a.subject = st.AppendTo(nil)
	case name(xep.NSVCard, "vCard"):
		a.card(p)
	default:
		a.unknown(el)
	}
	return nil
}

// member reads somebody's affiliation with a room.
func (a *account) member(p Part) {
	j := a.address(p.Place, p.Element.Attr("jid"))
	if j.IsZero() {
		return
	}
	m := store.RoomMember{JID: j, Affiliation: strings.Clone(p.Element.Attr("affiliation")), Nick: strings.Clone(p.Element.Attr("nick")),
		Reason: strings.Clone(p.Element.Child(xep.NSMUCAdmin, "reason").Text())}
	if err := room.CheckMember(j, m.Affiliation); err != nil {
		a.problem(p.Place, err.Error())
		return
	}
	a.members = append(a.members, m)
}

// finish does what is to be done with all that was read.
func (a *account) finish() error {
	var data store.RoomData
	if a.room {
		var err error
		if a.form == nil {
			a.form = &xep.Form{}
		}
		if data, err = room.ImportOptions(*a.form, a.subject, a.photo); err != nil {
			a.problem(a.at, err.Error())
		}
		data.Persistent = true
	}
	ops := a.ops()
	if err := a.credentialsDue(); err != nil {
		return err
	}
	o := Outcome{JID: a.jid.String(), Counts: a.counts, Left: a.left}
	if len(a.problems) > 0 {
		a.refuse(o, a.problems...)
		if !a.dry {
			return a.giveUpQuietly()
		}
		return nil
	}
	if a.exists {
		return a.join(o, ops)
	}
	o.Did = "new"
	delete(o.Counts, "accounts")
	if !a.dry {
		if a.room {
			ops = append(ops, store.ImportRoom{Account: a.id, JID: a.jid, Created: a.created, Creator: a.creator, Room: data, Members: a.members})
		} else {
			ops = append(ops, store.ImportAccount{Account: a.id, JID: a.jid, Created: a.created, Disabled: a.disabled, Keys: a.keys})
		}
		if err := a.commit(ops); err != nil {
			return err
		}
	}
	a.Tell(o)
	return nil
}

func (a *account) giveUpQuietly() error {
	if !a.begun {
		return nil
	}
	return a.Store.DropImport(a.ctx, a.id)
}

// join adds what is missing to what exists, or says why not.
func (a *account) join(o Outcome, ops []store.Op) error {
	switch {
	case a.Existing == Skip:
		o.Did, o.Counts = "skipped", nil
	case len(a.counts) == 0:
		o.Did = "unchanged"
	case a.Existing == Refuse:
		a.refuse(o, fmt.Sprintf("%s: it exists already, and lacks %s; --merge adds that, --skip leaves it as it is", a.at, Describe(a.counts)))
		return nil
	case a.Live:
		a.refuse(o, fmt.Sprintf("%s: it exists already, and lacks %s; a server runs: stop it first, or leave it as it is with --skip", a.at, Describe(a.counts)))
		return nil
	default:
		o.Did = "merged"
		if !a.dry {
			if err := a.commit(ops); err != nil {
				return err
			}
			if err := a.addKeys(); err != nil {
				return err
			}
		}
	}
	a.Tell(o)
	return nil
}

// addKeys gives an account that has no password one.
func (a *account) addKeys() error {
	if a.room || a.has.keys > 0 {
		return nil
	}
	for _, k := range a.keys {
		if err := a.Store.AddKeys(a.ctx, a.jid, k); err != nil {
			return err
		}
	}
	return nil
}

// Describe says in words how many of what there are.
func Describe(counts map[string]int) string {
	var list []string
	for _, what := range []string{"keys", "contacts", "requests", "blocked addresses", "archive preferences", "vCard", "private fragments", "nodes", "items",
		"offline messages", "messages", "members"} {
		if n := counts[what]; n > 0 {
			list = append(list, fmt.Sprintf("%d %s", n, what))
		}
	}
	if len(list) == 0 {
		return "nothing"
	}
	return strings.Join(list, ", ")
}

// unitSize bounds what is committed at once; the last unit makes the account.
const unitSize = 2 << 20

func (a *account) commit(ops []store.Op) error {
	size, from := 0, 0
	for i, op := range ops {
		n := 256
		switch op := op.(type) {
		case store.KVPut:
			n += len(op.Value)
		case store.EventChange:
			for _, it := range op.Put {
				n += len(it.ID) + len(it.Payload)
			}
		}
		if size += n; size > unitSize && i > from {
			if err := a.Store.Commit(a.ctx, ops[from:i]...); err != nil {
				return err
			}
			from, size = i, n
		}
	}
	return a.Store.Commit(a.ctx, ops[from:]...)
}

// credentialsDue derives keys from a password, and counts them.
func (a *account) credentialsDue() error {
	switch {
	case a.room || len(a.problems) > 0:
		return nil
	case a.exists && a.has.keys > 0:
		return nil
	case a.password != "":
		var err error
		if a.dry || a.exists && a.Existing != Merge {
			salt := make([]byte, sasl.SaltSize)
			rand.Read(salt)
			var k sasl.Keys
			k, err = sasl.DeriveKeys(sasl.SHA1, a.password, salt, sasl.MinIterations)
			a.keys = []sasl.Keys{k}
		} else {
			a.keys, err = a.Keys(a.password)
		}
		if err != nil {
			a.problem(a.at, "its password is none: "+err.Error())
		}
	case len(a.keys) == 0:
		a.leave("a password: it has none until \"carillon user passwd " + a.jid.String() + "\" sets one")
	}
	a.count("keys", len(a.keys))
	return nil
}

// ops are what makes the account have what the document has and it hasn't, its
// messages left out.
func (a *account) ops() (ops []store.Op) {
	if a.room {
		return a.roomOps()
	}
	has := a.has
	if has == nil {
		has = &present{}
	}
	version := has.RosterVersion
	for _, i := range a.roster {
		if slices.ContainsFunc(has.Roster, func(o store.RosterItem) bool { return o.JID == i.JID }) {
			continue
		}
		version++
		ops = append(ops, store.RosterPut{Account: a.id, Item: i, Version: version})
		a.count("contacts", 1)
	}
	for _, r := range a.requests {
		known := func(o store.Request) bool { return o.From == r.From }
		if !slices.ContainsFunc(has.Requests, known) {
			ops = append(ops, store.RequestPut{Account: a.id, From: r.From, Stanza: r.Stanza, At: r.At})
			a.count("requests", 1)
		}
	}
	for _, j := range a.blocked {
		if !slices.Contains(has.Blocked, j) {
			ops = append(ops, store.BlockPut{Account: a.id, JID: j})
			a.count("blocked addresses", 1)
		}
	}
	if a.prefs != nil && has.Prefs == nil {
		ops = append(ops, store.KVPut{Account: a.id, Space: "mam", Key: "prefs", Value: a.prefs})
		a.count("archive preferences", 1)
	}
	if a.vcard != nil && has.vcard == nil {
		ops = append(ops, store.KVPut{Account: a.id, Space: vcard.Space, Key: vcard.Key, Value: a.vcard},
			store.KVPut{Account: a.id, Space: vcard.Space, Key: "photo-hash", Value: []byte(a.photo)})
		a.count("vCard", 1)
	}
	return append(append(ops, a.privateOps(has)...), a.nodeOps(has)...)
}

func (a *account) privateOps(has *present) (ops []store.Op) {
	size := 0
	for _, kv := range a.private {
		if has.private[kv.Key] {
			continue
		}
		size += len(kv.Key) + len(kv.Value)
		ops = append(ops, store.KVPut{Account: a.id, Space: private.Space, Key: kv.Key, Value: kv.Value})
	}
	if len(ops) > a.Limits.PrivateItems || size > a.Limits.PrivateBytes {
		a.problem(a.at, fmt.Sprintf("%d fragments of private XML with %d bytes: %d and %d are possible", len(ops), size, a.Limits.PrivateItems, a.Limits.PrivateBytes))
	}
	a.count("private fragments", len(ops))
	return ops
}

// nodeOps makes the nodes that aren't there. One that is stays as it is: what came
// into it since would be pushed out.
func (a *account) nodeOps(has *present) (ops []store.Op) {
	limits := pep.DefaultLimits()
	size := 0
	for _, n := range a.nodes {
		if items, there := has.nodes[n.name]; there {
			for _, it := range n.items {
				if !items[it.ID] {
					a.leave(fmt.Sprintf("items of the node %.100q, which the account has", n.name))
				}
			}
			continue
		}
		config, keep, left := pep.ImportConfig(n.name, n.form, n.members, limits.Items)
		for _, l := range left {
			a.leave(fmt.Sprintf("of the node %.100q: %.200s", n.name, l))
		}
		put := n.items[max(0, len(n.items)-keep):]
		for _, it := range put {
			size += len(it.ID) + len(it.Payload)
		}
		ops = append(ops, store.EventChange{Account: a.id, Node: n.name, Config: config, Put: put, Keep: keep, MaxNodes: limits.Nodes, MaxBytes: limits.Bytes})
		a.count("items", len(put))
	}
	if len(ops) > 0 && (size > limits.Bytes || len(has.nodes)+len(ops) > limits.Nodes) {
		a.problem(a.at, fmt.Sprintf("%d nodes with %d bytes: %d and %d are possible", len(has.nodes)+len(ops), size, limits.Nodes, limits.Bytes))
	}
	a.count("nodes", len(ops))
	return ops
}

func (a *account) roomOps() (ops []store.Op) {
	if a.vcard != nil && !a.exists {
		ops = append(ops, store.KVPut{Account: a.id, Space: room.VCardSpace, Key: room.VCardKey, Value: a.vcard})
		a.count("vCard", 1)
	}
	for _, m := range a.members {
		if a.exists {
			if slices.ContainsFunc(a.has.room.Members, func(o store.RoomMember) bool { return o.JID == m.JID }) {
				continue
			}
			ops = append(ops, store.RoomMemberPut{Room: a.id, Member: m})
		}
		a.count("members", 1)
	}
	return ops
}
