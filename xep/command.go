package xep

import (
	"strings"

	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// NSCommands is XEP-0050's namespace, and the node under which commands are listed.
const NSCommands = "http://jabber.org/protocol/commands"

// Command is a request to go on with a command (XEP-0050 2.4).
type Command struct {
	Node, Session string
	Action        string // "execute", "complete", "cancel", "next" or "prev"
	Form          *Form  // that was submitted; nil: none
}

// ParseCommand reads <command/> of a request. An action that there isn't is
// bad-request with <malformed-action/> (XEP-0050 4.4).
func ParseCommand(el xmltree.Element) (Command, error) {
	c := Command{Node: strings.Clone(el.Attr("node")), Session: strings.Clone(el.Attr("sessionid")), Action: el.Attr("action")}
	switch c.Action {
	case "":
		c.Action = "execute"
	case "execute", "complete", "cancel", "next", "prev":
	default:
		return c, CommandError("malformed-action")
	}
	x := el.Child(NSForm, "x")
	if x.IsZero() || c.Action == "cancel" {
		return c, nil
	}
	f, err := ParseForm(x)
	if err != nil {
		return c, CommandError("bad-payload")
	}
	c.Form = &f
	return c, nil
}

// CommandError is bad-request with a condition of XEP-0050 4.4, such as
// "bad-sessionid".
func CommandError(condition string) *stanza.Error {
	e := stanza.NewError(stanza.BadRequest, "")
	e.App = "<" + condition + " xmlns='" + NSCommands + "'/>"
	return e
}

// AppendCommand appends the answer to a request: its status is "executing" where
// form is one to fill in, "completed" or "canceled". form and note may be empty.
func AppendCommand(dst []byte, c Command, status, note string, form []byte) []byte {
	dst = appendAttr(append(dst, "<command xmlns='"+NSCommands+"'"...), "node", c.Node)
	dst = append(appendAttr(appendAttr(dst, "sessionid", c.Session), "status", status), '>')
	content := len(dst)
	if status == "executing" {
		dst = append(dst, "<actions execute='complete'><complete/></actions>"...)
	}
	dst = append(dst, form...)
	if note != "" {
		dst = append(xmltree.AppendText(append(dst, "<note type='info'>"...), note), "</note>"...)
	}
	return appendEnd(dst, content, "command")
}
