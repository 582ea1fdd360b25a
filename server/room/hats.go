package room

import (
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"

	"carillon.im/jid"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
)

// hat is one of the room's hats, and who wears it (XEP-0317).
type hat struct {
	xep.Hat
	Worn []jid.JID `json:"worn,omitempty"` // bare
}

// Bounds of a room's hats, of who wears one, and of the id of a command's session.
const (
	maxHats    = 32
	maxWearers = 200
	maxSession = 128
)

// hatCommand is one of XEP-0317's commands.
type hatCommand struct {
	name, title string
	fields      []xep.FormField
	run         func(s *State, st *stanza.Stanza, c xep.Command, fx *effects)
}

func hatCommands() []hatCommand {
	uri := xep.FormField{Var: xep.HatURI, Type: "list-single", Label: "Hat"}
	who := xep.FormField{Var: xep.HatJID, Type: "jid-single", Label: "Address"}
	return []hatCommand{
		{"create", "Make a hat", []xep.FormField{{Var: xep.HatTitle, Type: "text-single", Label: "Title"}, {Var: xep.HatURI, Type: "text-single", Label: "URI"},
			{Var: xep.HatHue, Type: "text-single", Label: "Hue"}}, (*State).createHat},
		{"destroy", "Destroy a hat", []xep.FormField{uri}, (*State).destroyHat},
		{"assign", "Give somebody a hat", []xep.FormField{who, uri}, (*State).assignHat},
		{"unassign", "Take a hat from somebody", []xep.FormField{who, uri}, (*State).unassignHat},
		{"list", "List the hats", nil, (*State).listHats},
		{"list-assigned", "List who wears which hat", nil, (*State).listAssigned},
	}
}

// command is a step of a command (XEP-0050). Each has one form at most, and nothing is
// remembered from step to step.
func (s *State) command(st *stanza.Stanza, fx *effects) {
	c, err := xep.ParseCommand(st.Payload())
	if err != nil {
		s.refuse(st, malformed(err), fx)
		return
	}
	list := hatCommands()
	i := slices.IndexFunc(list, func(h hatCommand) bool { return c.Node == xep.NSHatCommands+":"+h.name })
	may := s.affiliation(st.From) >= admin
	if i >= 0 && list[i].fields == nil {
		// Who is there sees hats anyway, but addresses only where anybody does.
		may = may || s.visits[st.From] != nil && (list[i].name == "list" || s.opt.Whois == whoisAnyone)
	}
	switch {
	case i < 0:
		s.refuse(st, stanza.NewError(stanza.ItemNotFound, "there is no such command"), fx)
	case !may:
		s.refuse(st, stanza.NewError(stanza.Forbidden, "only admins and owners do this"), fx)
	case len(c.Session) > maxSession:
		s.refuse(st, xep.CommandError("bad-sessionid"), fx)
	case c.Action == "cancel":
		s.commandDone(st, c, "canceled", nil, fx)
	case list[i].fields != nil && (c.Form == nil || c.Form.Type != "submit"):
		fields := slices.Clone(list[i].fields)
		for k := range fields {
			if fields[k].Type == "list-single" {
				for _, h := range s.opt.Hats {
					fields[k].Options = append(fields[k].Options, h.URI)
				}
			}
		}
		s.commandDone(st, c, "executing", xep.AppendForm(nil, "form", xep.NSHatCommands, list[i].title, fields), fx)
	default:
		list[i].run(s, st, c, fx)
	}
}

func (s *State) commandDone(st *stanza.Stanza, c xep.Command, status string, payload []byte, fx *effects) {
	if c.Session == "" {
		c.Session = "hats"
	}
	result(st, xep.AppendCommand(nil, c, status, "", payload), fx)
}

// hatIndex is where a hat is, -1 for nowhere.
func hatIndex(hats []hat, uri string) int {
	return slices.IndexFunc(hats, func(h hat) bool { return h.URI == uri })
}

func (s *State) createHat(st *stanza.Stanza, c xep.Command, fx *effects) {
	made, err := xep.ParseHat(*c.Form)
	if err != nil {
		s.refuse(st, malformed(err), fx)
		return
	}
	hats := slices.Clone(s.opt.Hats)
	if i := hatIndex(hats, made.URI); i >= 0 {
		hats[i].Hat = made
	} else if len(hats) >= maxHats {
		s.refuse(st, stanza.NewError(stanza.ResourceConstraint, "the room has too many hats"), fx)
		return
	} else {
		hats = append(hats, hat{Hat: made})
	}
	s.putHats(st, c, hats, fx)
}

func (s *State) destroyHat(st *stanza.Stanza, c xep.Command, fx *effects) {
	uri, _ := c.Form.Value(xep.HatURI)
	i := hatIndex(s.opt.Hats, uri)
	if i < 0 {
		s.refuse(st, noHat(), fx)
		return
	}
	s.putHats(st, c, slices.Delete(slices.Clone(s.opt.Hats), i, i+1), fx)
}

func noHat() *stanza.Error { return stanza.NewError(stanza.ItemNotFound, "there is no such hat") }

func (s *State) assignHat(st *stanza.Stanza, c xep.Command, fx *effects) { s.wear(st, c, true, fx) }

func (s *State) unassignHat(st *stanza.Stanza, c xep.Command, fx *effects) { s.wear(st, c, false, fx) }

// wear gives somebody a hat, or takes it from him.
func (s *State) wear(st *stanza.Stanza, c xep.Command, on bool, fx *effects) {
	uri, _ := c.Form.Value(xep.HatURI)
	text, _ := c.Form.Value(xep.HatJID)
	i := hatIndex(s.opt.Hats, uri)
	who, err := jid.Parse(text)
	switch {
	case i < 0:
		s.refuse(st, noHat(), fx)
		return
	case err != nil || who.Local() == "":
		s.refuse(st, stanza.NewError(stanza.JIDMalformed, "a hat is for somebody with an address"), fx)
		return
	}
	who = kept(who.Bare())
	hats := slices.Clone(s.opt.Hats)
	worn := slices.Clone(hats[i].Worn)
	at := slices.Index(worn, who)
	switch {
	case on == (at >= 0): // it is so
	case !on:
		worn = slices.Delete(worn, at, at+1)
	case len(worn) >= maxWearers:
		s.refuse(st, stanza.NewError(stanza.ResourceConstraint, "so many can't wear one hat"), fx)
		return
	default:
		worn = append(worn, who)
	}
	hats[i].Worn = worn
	s.putHats(st, c, hats, fx)
}

// putHats keeps the hats, and then shows anew whoever looks different.
func (s *State) putHats(st *stanza.Stanza, c xep.Command, hats []hat, fx *effects) {
	opt := s.opt
	opt.Hats = hats
	s.commit(st, []store.Op{s.put(&opt)}, fx, func(fx *effects) {
		same := len(s.opt.Hats) == len(hats) && slices.EqualFunc(s.opt.Hats, hats, func(a, b hat) bool { return a.Hat == b.Hat })
		before := make([][]xep.Hat, len(s.occupants))
		for i, o := range s.occupants {
			before[i] = s.hatsOf(o.user)
		}
		s.opt = opt
		s.commandDone(st, c, "completed", nil, fx)
		if !same && len(s.occupants) > 0 {
			fx.fan(build(stanza.Message, stanza.TypeGroupchat, "", s.jid, roomUser("", 104)), s.everybody())
		}
		for i, o := range s.occupants {
			if !slices.Equal(before[i], s.hatsOf(o.user)) {
				o.changed()
				s.announce(o, notice{}, fx)
			}
		}
	})
}

// hatsOf are the hats that somebody wears.
func (s *State) hatsOf(user jid.JID) []xep.Hat {
	var list []xep.Hat
	for _, h := range s.opt.Hats {
		if slices.Contains(h.Worn, user) {
			list = append(list, h.Hat)
		}
	}
	return list
}

func (s *State) listHats(st *stanza.Stanza, c xep.Command, fx *effects) {
	var rows [][]string
	for _, h := range s.opt.Hats {
		rows = append(rows, []string{h.Title, h.URI, h.Hue})
	}
	s.commandDone(st, c, "completed", xep.AppendTable(nil, "Hats", []string{xep.HatTitle, xep.HatURI, xep.HatHue}, rows), fx)
}

func (s *State) listAssigned(st *stanza.Stanza, c xep.Command, fx *effects) {
	var rows [][]string
	for _, h := range s.opt.Hats {
		for _, who := range h.Worn {
			rows = append(rows, []string{who.String(), h.URI, h.Title, h.Hue})
		}
	}
	s.commandDone(st, c, "completed", xep.AppendTable(nil, "Who wears which hat", []string{xep.HatJID, xep.HatURI, xep.HatTitle, xep.HatHue}, rows), fx)
}

// hatsHash changes whenever the hats do (XEP-0317 2).
func (s *State) hatsHash() string {
	var b strings.Builder
	for _, h := range s.opt.Hats {
		for _, part := range []string{h.URI, h.Title, h.Hue} {
			b.WriteString(part)
			b.WriteByte(0)
		}
	}
	sum := sha256.Sum256([]byte(b.String()))
	return base64.RawURLEncoding.EncodeToString(sum[:15])
}

// commandItems are the commands as XEP-0050 2.2 lists them.
func (s *State) commandItems() []xep.DiscoItem {
	var list []xep.DiscoItem
	for _, h := range hatCommands() {
		list = append(list, xep.DiscoItem{JID: s.jid, Node: xep.NSHatCommands + ":" + h.name, Name: h.title})
	}
	return list
}
