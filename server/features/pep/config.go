package pep

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// The access models (XEP-0060 4.5). "authorize" isn't offered.
const (
	accessOpen      = "open"
	accessPresence  = "presence"
	accessRoster    = "roster"
	accessWhitelist = "whitelist"
)

// config is a node's configuration (XEP-0060 16.4.4), as it is stored and as it
// is compared: two nodes that behave alike have the same bytes.
type config struct {
	Title    string    `json:"title,omitempty"`
	Type     string    `json:"type,omitempty"` // namespace of the payloads
	Access   string    `json:"access"`
	Groups   []string  `json:"groups,omitempty"`    // of the roster, for accessRoster
	Members  []jid.JID `json:"members,omitempty"`   // bare, for accessWhitelist; sorted
	MaxItems string    `json:"max"`                 // a number or "max"
	Last     string    `json:"last"`                // send_last_published_item
	Volatile bool      `json:"volatile,omitempty"`  // items aren't kept
	Silent   bool      `json:"silent,omitempty"`    // nobody is told
	Bare     bool      `json:"bare,omitempty"`      // told without payload
	NoDelete bool      `json:"no_delete,omitempty"` // nobody is told of items that are retracted
	OnDelete bool      `json:"on_delete,omitempty"` // tells of a node's end, or of all its items'
	OnConfig bool      `json:"on_config,omitempty"`
}

// Values of send_last_published_item.
const (
	lastNever    = "never"
	lastOnSub    = "on_sub"
	lastPresence = "on_sub_and_presence"
)

const maxWord = "max"

// Bounds of what a configuration may say.
const (
	maxText    = 256 // bytes of a title, a type, a group
	maxGroups  = 50
	maxMembers = 100
)

// defaults is the configuration of a node that is created without one: XEP-0163 3
// and 5, and for nodes that are nobody else's business as their XEPs ask of
// clients (XEP-0402 3.3, XEP-0490 4.2), in case one forgets.
func defaults(node string) config {
	switch node {
	case xep.NodeBookmarks, xep.NSDisplayed:
		return config{Access: accessWhitelist, MaxItems: maxWord, Last: lastNever}
	case xep.NSStorage:
		return config{Access: accessWhitelist, MaxItems: "1", Last: lastPresence}
	}
	return config{Access: accessPresence, MaxItems: "1", Last: lastPresence}
}

// encode is the stored form.
func (c *config) encode() []byte {
	b, err := json.Marshal(c)
	if err != nil {
		panic("pep: a configuration: " + err.Error()) // it is plain data
	}
	return b
}

// decode reads the stored form. What another version of the server wrote and
// this one can't read is nobody's but the owner's.
func decode(b []byte) config {
	var c config
	if err := json.Unmarshal(b, &c); err != nil {
		return config{Access: accessWhitelist, MaxItems: maxWord, Last: lastNever}
	}
	return c
}

// keep is how many items are kept.
func (c *config) keep(most int) int {
	if c.Volatile {
		return 0
	}
	n, err := strconv.Atoi(c.MaxItems)
	if err != nil {
		return most // "max"
	}
	return min(n, most)
}

// audience is which contacts hear of the node's events.
func (c *config) audience() feature.Audience {
	switch c.Access {
	case accessOpen, accessPresence:
		return feature.Audience{All: true}
	case accessRoster:
		return feature.Audience{Groups: c.Groups}
	}
	return feature.Audience{Members: c.Members}
}

// allows reports whether an entity may read the node.
func (c *config) allows(who jid.JID, r feature.Relation) bool {
	switch {
	case r.Own:
		return true
	case r.Blocked:
		return false
	}
	switch c.Access {
	case accessOpen:
		return true
	case accessPresence:
		return r.Sees
	case accessRoster:
		return slices.ContainsFunc(r.Groups, func(g string) bool { return slices.Contains(c.Groups, g) })
	}
	return slices.Contains(c.Members, who.Bare())
}

// field is one field of the configuration form. Without get it has one value
// only, the first of options.
type field struct {
	name    string // behind "pubsub#"
	typ     string
	label   string
	options []string
	get     func(*config) []string
	set     func(*config, []string) bool // false: there is no such value
}

func fields() []field {
	text := func(name, label string, at func(*config) *string) field {
		return field{name: name, typ: "text-single", label: label, get: func(c *config) []string { return []string{*at(c)} },
			set: func(c *config, v []string) bool {
				*at(c) = strings.Clone(one(v))
				return len(v) <= 1 && len(one(v)) <= maxText
			}}
	}
	list := func(name, label string, at func(*config) *string, options ...string) field {
		return field{name: name, typ: "list-single", label: label, options: options, get: func(c *config) []string { return []string{*at(c)} },
			set: func(c *config, v []string) bool {
				*at(c) = strings.Clone(one(v))
				return len(v) == 1 && slices.Contains(options, v[0])
			}}
	}
	// not: the configuration says the opposite.
	boolean := func(name, label string, not bool, at func(*config) *bool) field {
		return field{name: name, typ: "boolean", label: label, get: func(c *config) []string { return []string{boolText(*at(c) != not)} },
			set: func(c *config, v []string) bool {
				b, ok := parseBool(one(v))
				*at(c) = b != not
				return ok && len(v) == 1
			}}
	}
	fixed := func(name, value string) field { return field{name: name, typ: "list-single", options: []string{value}} }
	return []field{
		text("title", "Name of the node", func(c *config) *string { return &c.Title }),
		text("type", "Namespace of the payloads", func(c *config) *string { return &c.Type }),
		list("access_model", "Who may read", func(c *config) *string { return &c.Access }, accessPresence, accessOpen, accessRoster, accessWhitelist),
		{name: "roster_groups_allowed", typ: "list-multi", label: "Groups of contacts that may read", get: func(c *config) []string { return c.Groups }, set: setGroups},
		{name: "max_items", typ: "text-single", label: "How many items are kept", get: func(c *config) []string { return []string{c.MaxItems} }, set: setMaxItems},
		boolean("persist_items", "Items are kept", true, func(c *config) *bool { return &c.Volatile }),
		boolean("deliver_notifications", "Others are told of items", true, func(c *config) *bool { return &c.Silent }),
		boolean("deliver_payloads", "And of what is in them", true, func(c *config) *bool { return &c.Bare }),
		boolean("notify_retract", "Others are told of retracted items", true, func(c *config) *bool { return &c.NoDelete }),
		boolean("notify_delete", "Others are told when the node is deleted", false, func(c *config) *bool { return &c.OnDelete }),
		boolean("notify_config", "Others are told of a new configuration", false, func(c *config) *bool { return &c.OnConfig }),
		list("send_last_published_item", "When the newest item is sent", func(c *config) *string { return &c.Last }, lastPresence, lastOnSub, lastNever),
		fixed("publish_model", "publishers"), fixed("notification_type", "headline"), fixed("purge_offline", "0"),
	}
}

func one(v []string) string {
	if len(v) == 0 {
		return ""
	}
	return v[0]
}

func boolText(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

func parseBool(s string) (b, ok bool) {
	switch s {
	case "1", "true":
		return true, true
	case "0", "false":
		return false, true
	}
	return false, false
}

func setGroups(c *config, v []string) bool {
	c.Groups = nil
	for _, g := range v {
		if len(g) > maxText {
			return false
		}
		c.Groups = append(c.Groups, strings.Clone(g))
	}
	return len(v) <= maxGroups
}

func setMaxItems(c *config, v []string) bool {
	if len(v) != 1 {
		return false
	}
	if v[0] == maxWord {
		c.MaxItems = maxWord
		return true
	}
	n, err := strconv.ParseUint(v[0], 10, 31)
	c.MaxItems = strconv.FormatUint(n, 10)
	return err == nil && n > 0
}

// set takes one field of a form over. known is false for a field that there
// isn't, ok for a value that it can't have.
func (c *config) set(f xep.Field) (known, ok bool) {
	name, ours := strings.CutPrefix(f.Var, "pubsub#")
	all := fields()
	i := slices.IndexFunc(all, func(k field) bool { return ours && k.name == name })
	switch {
	case i < 0:
		return false, false
	case all[i].set == nil:
		want := all[i].options[0]
		b, isBool := parseBool(one(f.Values))
		return true, len(f.Values) == 1 && (f.Values[0] == want || isBool && boolText(b) == want)
	}
	return true, all[i].set(c, f.Values)
}

// submit takes a submitted configuration over (XEP-0060 8.2.4). A field that
// there isn't is passed over: nothing that this server does goes by it.
func (c *config) submit(form xep.Form) error {
	if form.FormType() != xep.NSNodeConfig && len(form.Fields) > 0 {
		return stanza.NewError(stanza.BadRequest, "the form is not "+xep.NSNodeConfig)
	}
	for _, f := range form.Fields {
		if known, ok := c.set(f); known && !ok {
			return stanza.NewError(stanza.NotAcceptable, f.Var+" can't have this value")
		}
	}
	return nil
}

// require takes publish options over into the configuration of a node that is
// about to be made, or, of one that exists, checks that it has them already
// (XEP-0060 7.1.5).
func (c *config) require(form xep.Form, exists bool) error {
	if form.FormType() != xep.NSPubOptions && len(form.Fields) > 0 {
		return stanza.NewError(stanza.BadRequest, "the form is not "+xep.NSPubOptions)
	}
	wanted := *c
	for _, f := range form.Fields {
		if f.Var == "FORM_TYPE" {
			continue
		}
		if known, ok := wanted.set(f); !known || !ok {
			return errPrecondition(f.Var)
		}
		if exists && string(wanted.encode()) != string(c.encode()) {
			return errPrecondition(f.Var)
		}
	}
	*c = wanted
	return nil
}

func errPrecondition(name string) error {
	return xep.PubSubError(stanza.Conflict, "precondition-not-met", name)
}

// form is the configuration as a form to fill in.
func (c *config) form() string {
	w := xmltree.NewWriter(nil, xep.NSPubSubOwner)
	w.Start(xep.NSForm, "x").Attr("type", "form")
	w.Start(xep.NSForm, "field").Attr("var", "FORM_TYPE").Attr("type", "hidden").Start(xep.NSForm, "value").Text(xep.NSNodeConfig).End().End()
	for _, f := range fields() {
		w.Start(xep.NSForm, "field").Attr("var", "pubsub#"+f.name).Attr("type", f.typ).OptAttr("label", f.label)
		values := f.options
		if f.get != nil {
			values = f.get(c)
		}
		for _, v := range values {
			w.Start(xep.NSForm, "value").Text(v).End()
		}
		for _, o := range f.options {
			w.Start(xep.NSForm, "option").Start(xep.NSForm, "value").Text(o).End().End()
		}
		w.End()
	}
	return w.End().String()
}

// metadata is what disco#info tells of a node (XEP-0060 5.4).
func (c *config) metadata() xmltree.Element {
	w := xmltree.NewWriter(nil, stanza.NSClient)
	w.Start(xep.NSForm, "x").Attr("type", "result")
	add := func(name, typ, value string) {
		if value != "" {
			w.Start(xep.NSForm, "field").Attr("var", name).OptAttr("type", typ).Start(xep.NSForm, "value").Text(value).End().End()
		}
	}
	add("FORM_TYPE", "hidden", xep.NSNodeMetadata)
	add("pubsub#title", "", c.Title)
	add("pubsub#type", "", c.Type)
	add("pubsub#access_model", "", c.Access)
	add("pubsub#max_items", "", c.MaxItems)
	el, err := xmltree.Parse(w.End().Bytes(), stanza.NSClient, xmltree.Limits{})
	if err != nil {
		panic("pep: a form: " + err.Error()) // a Writer made it
	}
	return el
}
