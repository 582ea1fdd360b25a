// Package adhoc lets users carry out commands of the server from their clients
// (XEP-0050): those that are for everybody, and for administrators all that the
// operator can ask (XEP-0133).
//
// A command has one stage. Without a form it is carried out at once; with one the
// client is sent the form, and what comes back with it carries the command out.
// Nothing is kept in between: the session's id is the asker's to give back, and says
// no more than that the form was seen.
package adhoc

import (
	"context"
	"crypto/rand"
	"slices"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// Command is one command.
type Command struct {
	Node string
	Name string // for people
	// May says whether an account of this server may see it and carry it out.
	May func(bare jid.JID) bool
	// FormType and Form are what is asked for; without fields nothing is.
	FormType string
	Form     []xep.FormField
	// Run carries it out; values are those of the form's fields that were given. A
	// *stanza.Error goes to the asker, other errors are logged.
	Run func(ctx context.Context, by jid.JID, values map[string][]string) (Answer, error)
}

// Answer is what came of a command.
type Answer struct {
	Note     string // for people
	FormType string
	Fields   []xep.FormField
}

// New is the feature.
func New(commands []Command) feature.Feature {
	h := handler{commands}
	return feature.Feature{
		Name: "adhoc",
		Specs: []feature.Spec{{XEP: "0050", Version: "1.3.0", Note: "one stage"},
			{XEP: "0133", Version: "1.3.1", Note: "accounts; everything else of the command line under names of its own"}},
		Disco:       []feature.Disco{{Scope: feature.Server, Vars: []string{xep.NSCommands}}},
		ServerNodes: &feature.ServerNodes{Items: h.items, Info: h.info},
		IQs:         []feature.IQ{{Scope: feature.Server, Type: stanza.TypeSet, Name: xmltree.Name{Space: xep.NSCommands, Local: "command"}, Handle: h.command}},
	}
}

type handler struct{ commands []Command }

// may says whether a command is for the asker: a user of this server who is logged in.
func may(c *Command, q *feature.Query) bool { return q.Session != nil && c.May(q.IQ.From.Bare()) }

// items are the commands that are for the asker (XEP-0050 2.2).
func (h handler) items(_ context.Context, q *feature.Query, node string) (list []xep.DiscoItem, ok bool) {
	if node != xep.NSCommands {
		return nil, h.find(node) != nil
	}
	for i := range h.commands {
		if c := &h.commands[i]; may(c, q) {
			list = append(list, xep.DiscoItem{JID: q.IQ.To, Node: c.Node, Name: c.Name})
		}
	}
	return list, true
}

func (h handler) info(_ context.Context, q *feature.Query, node string) (info xep.DiscoInfo, ok bool, err error) {
	if node == xep.NSCommands {
		info.Identities = []xep.Identity{{Category: "automation", Type: "command-list"}}
		info.Features = []string{xep.NSDiscoInfo, xep.NSDiscoItems}
		return info, true, nil
	}
	c := h.find(node)
	if c == nil {
		return info, false, nil
	}
	if !may(c, q) {
		return info, true, stanza.NewError(stanza.Forbidden, "")
	}
	info.Identities = []xep.Identity{{Category: "automation", Type: "command-node", Name: c.Name}}
	info.Features = []string{xep.NSCommands, xep.NSForm}
	return info, true, nil
}

func (h handler) find(node string) *Command {
	if i := slices.IndexFunc(h.commands, func(c Command) bool { return c.Node == node }); i >= 0 {
		return &h.commands[i]
	}
	return nil
}

// command carries one out, or asks for what it needs (XEP-0050 2.4).
func (h handler) command(ctx context.Context, q *feature.Query) (string, error) {
	r, err := xep.ParseCommand(q.Payload)
	if err != nil {
		return "", err
	}
	c := h.find(r.Node)
	switch {
	case c == nil:
		return "", stanza.NewError(stanza.ItemNotFound, "there is no such command")
	case !may(c, q):
		return "", stanza.NewError(stanza.Forbidden, "")
	case len(r.Session) > 128:
		return "", xep.CommandError("bad-sessionid")
	case r.Action == "cancel":
		return string(xep.AppendCommand(nil, r, "canceled", "", nil)), nil
	case r.Action == "prev" || r.Action != "execute" && r.Session == "":
		return "", xep.CommandError("bad-action")
	}
	first := r.Session == ""
	if first {
		r.Session = rand.Text()
	}
	if len(c.Form) > 0 && r.Form == nil {
		if !first {
			return "", xep.CommandError("bad-payload")
		}
		form := xep.AppendForm(nil, "form", c.FormType, c.Name, c.Form)
		return string(xep.AppendCommand(nil, r, "executing", "", form)), nil
	}
	values, err := c.values(r.Form)
	if err != nil {
		return "", err
	}
	answer, err := c.Run(ctx, q.IQ.From.Bare(), values)
	if err != nil {
		return "", err
	}
	var form []byte
	if len(answer.Fields) > 0 {
		form = xep.AppendForm(nil, "result", answer.FormType, "", answer.Fields)
	}
	return string(xep.AppendCommand(nil, r, "completed", answer.Note, form)), nil
}

// values are the fields that a form has of those that were asked for.
func (c *Command) values(form *xep.Form) (map[string][]string, error) {
	values := map[string][]string{}
	if form == nil {
		return values, nil
	}
	for _, asked := range c.Form {
		i := slices.IndexFunc(form.Fields, func(f xep.Field) bool { return f.Var == asked.Var })
		if i >= 0 && !slices.Equal(form.Fields[i].Values, []string{""}) && len(form.Fields[i].Values) > 0 {
			values[asked.Var] = form.Fields[i].Values
		} else if asked.Required {
			e := xep.CommandError("bad-payload")
			e.Text = asked.Label + " is missing"
			return nil, e
		}
	}
	return values, nil
}
