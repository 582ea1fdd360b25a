package room

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"carillon.im/jid"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
)

// Options are a room's configuration (XEP-0045 16.5.3). The JSON names are how it
// is stored.
type Options struct {
	Name         string   `json:"name,omitempty"`
	Description  string   `json:"description,omitempty"`
	Lang         string   `json:"lang,omitempty"`
	PubSub       string   `json:"pubsub,omitempty"` // address of a node that belongs to the room
	Persistent   bool     `json:"persistent,omitempty"`
	Public       bool     `json:"public,omitempty"`
	MembersOnly  bool     `json:"members_only,omitempty"`
	Moderated    bool     `json:"moderated,omitempty"`
	Password     string   `json:"password,omitempty"` // "": none is needed
	Whois        string   `json:"whois"`
	ChangeTopic  bool     `json:"change_subject,omitempty"` // participants may
	Invites      bool     `json:"invites,omitempty"`        // members may invite into a members-only room
	PrivateFrom  string   `json:"private_from"`
	MaxOccupants int      `json:"max_occupants,omitempty"` // 0: the server's bound
	Broadcast    []string `json:"broadcast"`               // roles whose presence is shown
	MemberList   []string `json:"member_list"`             // who may have the member list
	History      int      `json:"history"`                 // messages that a new occupant gets at most
	Archive      bool     `json:"archive"`
	Mine         bool     `json:"mine,omitempty"` // XEP-0259 (R-MINE-6)
	AvatarHash   string   `json:"avatar_hash,omitempty"`
	Hats         []hat    `json:"hats,omitempty"` // XEP-0317
}

// Values of lists.
const (
	whoisModerators = "moderators"
	whoisAnyone     = "anyone"

	privateAnyone       = "anyone"
	privateParticipants = "participants"
	privateModerators   = "moderators"
	privateNone         = "none"
)

// Bounds of a configuration. A text beyond its bound is cut by nobody: the form is
// refused.
const (
	maxName     = 256
	maxText     = 1024
	maxSecret   = 256
	maxHistory  = 100 // messages kept in memory for who joins
	listsBounds = 16
)

func defaultOptions(history int) Options {
	return Options{Public: true, Whois: whoisModerators, Invites: true, PrivateFrom: privateAnyone,
		Broadcast: []string{"moderator", "participant", "visitor"}, MemberList: []string{"moderator", "participant"},
		History: min(history, maxHistory), Archive: true}
}

// decodeOptions reads stored options; what is missing has its default.
func decodeOptions(b []byte, history int) (Options, error) {
	o := defaultOptions(history)
	o.Public, o.Invites, o.Archive = false, false, false
	err := json.Unmarshal(b, &o)
	return o, err
}

// data is what the store keeps of the room.
func (o *Options) data(subject []byte) store.RoomData {
	b, err := json.Marshal(o)
	if err != nil {
		panic("room: options can't be encoded: " + err.Error()) // strings, numbers and lists of them
	}
	return store.RoomData{Persistent: o.Persistent, Public: o.Public, Name: o.Name, Options: b, Subject: subject}
}

// listsTo: the member list is for somebody of this standing.
func (o *Options) listsTo(who standing) bool {
	return slices.Contains(o.MemberList, who.role.String()) || slices.Contains(o.MemberList, who.affiliation.String())
}

// shows: the presence of occupants with this role is broadcast.
func (o *Options) shows(r role) bool { return slices.Contains(o.Broadcast, r.String()) }

// maySendPrivate: an occupant with this role may send private messages.
func (o *Options) maySendPrivate(r role) bool {
	switch o.PrivateFrom {
	case privateNone:
		return false
	case privateModerators:
		return r == moderator
	case privateParticipants:
		return r >= participant
	}
	return true
}

// kind is how a field of the form is written and read.
type kind uint8

const (
	text kind = iota
	boolean
	number
	oneOf
	anyOf
)

var kindNames = [...]string{"text-single", "boolean", "text-single", "list-single", "list-multi"}

// option is one field of the configuration form.
type option struct {
	name, label string
	kind        kind
	max         int      // of bytes, or of a number
	choices     []string // of a list
	// One of these is where the value is.
	text func(*Options) *string
	flag func(*Options) *bool
	num  func(*Options) *int
	list func(*Options) *[]string
}

const config = "muc#roomconfig_"

// Names of fields that need more than to be copied.
const (
	fieldProtected = config + "passwordprotectedroom"
	fieldSecret    = config + "roomsecret"
	fieldMaxUsers  = config + "maxusers"
	fieldOwners    = config + "roomowners"
	fieldAdmins    = config + "roomadmins"
)

// mineField is our field for R-MINE-6, in Clark notation.
const mineField = "{" + xep.NSMine + "}mine"

func (o *Options) fields() []option {
	flag := func(name, label string, f func(*Options) *bool) option {
		return option{name: name, label: label, kind: boolean, flag: f}
	}
	roles := []string{"moderator", "participant", "visitor"}
	return []option{
		{name: config + "roomname", label: "Name", max: maxName, text: func(o *Options) *string { return &o.Name }},
		{name: config + "roomdesc", label: "Description", max: maxText, text: func(o *Options) *string { return &o.Description }},
		{name: config + "lang", label: "Language", max: 35, text: func(o *Options) *string { return &o.Lang }},
		flag(config+"persistentroom", "The room stays when nobody is in it", func(o *Options) *bool { return &o.Persistent }),
		flag(config+"publicroom", "The room is listed", func(o *Options) *bool { return &o.Public }),
		flag(config+"membersonly", "Only members may enter", func(o *Options) *bool { return &o.MembersOnly }),
		flag(config+"allowinvites", "Members may invite others", func(o *Options) *bool { return &o.Invites }),
		flag(config+"moderatedroom", "Only who has voice may speak", func(o *Options) *bool { return &o.Moderated }),
		flag(config+"changesubject", "Participants may change the subject", func(o *Options) *bool { return &o.ChangeTopic }),
		flag(config+"enablelogging", "Messages are archived", func(o *Options) *bool { return &o.Archive }),
		{name: config + "whois", label: "Who sees real addresses", kind: oneOf, choices: []string{whoisModerators, whoisAnyone},
			text: func(o *Options) *string { return &o.Whois }},
		{name: config + "allowpm", label: "Who may send private messages", kind: oneOf,
			choices: []string{privateAnyone, privateParticipants, privateModerators, privateNone}, text: func(o *Options) *string { return &o.PrivateFrom }},
		{name: config + "presencebroadcast", label: "Whose presence is shown", kind: anyOf, choices: roles, list: func(o *Options) *[]string { return &o.Broadcast }},
		{name: config + "getmemberlist", label: "Who may have the member list, where addresses are shown", kind: anyOf, choices: roles,
			list: func(o *Options) *[]string { return &o.MemberList }},
		{name: "muc#maxhistoryfetch", label: "Messages that a new occupant gets at most", kind: number, max: maxHistory, num: func(o *Options) *int { return &o.History }},
		{name: config + "pubsub", label: "Address of the room's node", max: maxText, text: func(o *Options) *string { return &o.PubSub }},
		flag(mineField, "Questions are taken by one occupant (XEP-0259)", func(o *Options) *bool { return &o.Mine }),
	}
}

// formFields are the fields of the form as they are now, those that are copied.
func (o *Options) formFields() (list []xep.FormField) {
	for _, f := range o.fields() {
		field := xep.FormField{Var: f.name, Type: kindNames[f.kind], Label: f.label, Options: f.choices}
		switch {
		case f.text != nil:
			field.Values = []string{*f.text(o)}
		case f.flag != nil:
			field.Values = []string{boolText(*f.flag(o))}
		case f.num != nil:
			field.Values = []string{strconv.Itoa(*f.num(o))}
		case f.list != nil:
			field.Values = *f.list(o)
		}
		list = append(list, field)
	}
	return list
}

// form is the configuration form as it is now (XEP-0045 10.2).
func (s *State) form() string {
	o := s.opt
	list := o.formFields()
	list = append(list,
		xep.FormField{Var: fieldProtected, Type: "boolean", Label: "A password is needed to enter", Values: []string{boolText(o.Password != "")}},
		xep.FormField{Var: fieldSecret, Type: "text-private", Label: "The password", Values: []string{o.Password}},
		xep.FormField{Var: fieldMaxUsers, Type: "list-single", Label: "Occupants at most", Values: []string{strconv.Itoa(s.maxOccupants())}, Options: s.occupantChoices()},
		xep.FormField{Var: fieldAdmins, Type: "jid-multi", Label: "Admins", Values: s.having(admin)},
		xep.FormField{Var: fieldOwners, Type: "jid-multi", Label: "Owners", Values: s.having(owner)})
	b := append([]byte(nil), "<query xmlns='"+xep.NSMUCOwner+"'>"...)
	b = xep.AppendForm(b, "form", xep.NSMUCRoomConfig, "Configuration of "+s.jid.String(), list)
	return string(append(b, "</query>"...))
}

func boolText(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

func parseBool(v string) (value, ok bool) {
	switch v {
	case "1", "true":
		return true, true
	case "0", "false":
		return false, true
	}
	return false, false
}

// maxOccupants is how many may be in the room.
func (s *State) maxOccupants() int {
	if n := s.opt.MaxOccupants; n > 0 {
		return min(n, s.cfg.Limits.Occupants)
	}
	return s.cfg.Limits.Occupants
}

func (s *State) occupantChoices() []string {
	var list []string
	for _, n := range []int{10, 20, 50, 100, 200, 500, 1000, 2000, 5000} {
		if n < s.cfg.Limits.Occupants {
			list = append(list, strconv.Itoa(n))
		}
	}
	return append(list, strconv.Itoa(s.cfg.Limits.Occupants))
}

// submit reads a submitted form into options; owners and admins are nil where the
// form doesn't name them. Fields that are left out stay as they are, fields
// that nobody asked for are passed over. What violates a rule of the service is
// not-acceptable (XEP-0045 10.1.3), what is malformed bad-request.
func (s *State) submit(form xep.Form) (o Options, owners, admins []jid.JID, e *stanza.Error) {
	o = s.opt
	o.Broadcast, o.MemberList = slices.Clone(o.Broadcast), slices.Clone(o.MemberList)
	if form.FormType() != xep.NSMUCRoomConfig && len(form.Fields) > 0 {
		return o, nil, nil, stanza.NewError(stanza.BadRequest, "the form is not "+xep.NSMUCRoomConfig)
	}
	known := map[string]option{}
	for _, f := range o.fields() {
		known[f.name] = f
	}
	for _, f := range form.Fields {
		var err *stanza.Error
		switch f.Var {
		case fieldMaxUsers:
			err = s.submitMax(&o, f)
		case fieldOwners:
			owners, err = addressList(f)
		case fieldAdmins:
			admins, err = addressList(f)
		default:
			if opt, ok := known[f.Var]; ok {
				err = opt.set(&o, f.Values)
			}
		}
		if err != nil {
			return o, nil, nil, err
		}
	}
	if o.Mine && !o.Archive {
		// R-MINE-6: the archive says who was first.
		return o, nil, nil, stanza.NewError(stanza.NotAcceptable, "where questions are taken, messages are archived")
	}
	return o, owners, admins, o.submitPassword(form)
}

func (s *State) submitMax(o *Options, f xep.Field) *stanza.Error {
	if len(f.Values) != 1 || f.Values[0] == "none" || f.Values[0] == "" {
		o.MaxOccupants = 0
		return nil
	}
	n, err := strconv.Atoi(f.Values[0])
	if err != nil || n < 1 || n > s.cfg.Limits.Occupants {
		return stanza.NewError(stanza.NotAcceptable, "so many occupants are not possible")
	}
	o.MaxOccupants = n
	return nil
}

// submitPassword: a room is protected if the form says so, or gives a password without
// a word about that; and a blank one protects nothing (XEP-0045 10.1.3).
func (o *Options) submitPassword(form xep.Form) *stanza.Error {
	password, given := form.Value(fieldSecret)
	flag, asked := form.Value(fieldProtected)
	protected, ok := parseBool(flag)
	switch {
	case asked && !ok:
		return stanza.NewError(stanza.BadRequest, "the field "+fieldProtected+" is neither true nor false")
	case len(password) > maxSecret:
		return stanza.NewError(stanza.NotAcceptable, "the password is too long")
	case asked && !protected:
		o.Password = ""
	case given:
		o.Password = strings.Clone(password)
		fallthrough
	default:
		if asked && o.Password == "" {
			return stanza.NewError(stanza.NotAcceptable, "the password is blank")
		}
	}
	return nil
}

func addressList(f xep.Field) ([]jid.JID, *stanza.Error) {
	list := []jid.JID{}
	for _, v := range f.Values {
		if v == "" {
			continue
		}
		j, err := jid.Parse(v)
		switch {
		case err != nil:
			return nil, stanza.NewError(stanza.JIDMalformed, "the field "+f.Var+" has a value that is no address")
		case len(list) == xep.MaxMUCItems:
			return nil, stanza.NewError(stanza.PolicyViolation, "too many addresses")
		}
		list = append(list, kept(j.Bare()))
	}
	return list, nil
}

// set puts a submitted value into the options.
func (f *option) set(o *Options, values []string) *stanza.Error {
	first := ""
	if len(values) > 0 {
		first = values[0]
	}
	wrong := stanza.NewError(stanza.NotAcceptable, "the field "+f.name+" can't have this value")
	switch f.kind {
	case boolean:
		v, ok := parseBool(first)
		if !ok {
			return stanza.NewError(stanza.BadRequest, "the field "+f.name+" is neither true nor false")
		}
		*f.flag(o) = v
	case number:
		n, err := strconv.Atoi(first)
		if err != nil || n < 0 {
			return wrong
		}
		*f.num(o) = min(n, f.max)
	case oneOf:
		if !slices.Contains(f.choices, first) {
			return wrong
		}
		*f.text(o) = strings.Clone(first)
	case anyOf:
		list := []string{}
		for _, v := range values {
			if len(values) > listsBounds {
				return wrong
			}
			// What isn't a role here, such as "none", gives nobody anything.
			if slices.Contains(f.choices, v) && !slices.Contains(list, v) {
				list = append(list, strings.Clone(v))
			}
		}
		*f.list(o) = list
	default:
		if len(first) > f.max {
			return wrong
		}
		*f.text(o) = strings.Clone(first)
	}
	return nil
}

// configCodes are the status codes that tell occupants what changed (XEP-0045
// 10.2.1).
func configCodes(was, is *Options) []int {
	var codes []int
	if was.Archive != is.Archive {
		code := 171
		if is.Archive {
			code = 170
		}
		codes = append(codes, code)
	}
	if was.Whois != is.Whois {
		code := 173
		if is.Whois == whoisAnyone {
			code = 172
		}
		codes = append(codes, code)
	}
	a, b := *was, *is
	a.Archive, a.Whois = b.Archive, b.Whois
	if string(a.data(nil).Options) != string(b.data(nil).Options) {
		codes = append(codes, 104)
	}
	return codes
}
