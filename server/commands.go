package server

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"carillon.im/jid"
	"carillon.im/server/admin"
	"carillon.im/server/features/adhoc"
	"carillon.im/stanza"
	"carillon.im/xep"
)

// nsAdmin is XEP-0133's, FORM_TYPE and the beginning of its commands' names.
const nsAdmin = "http://jabber.org/protocol/admin"

// standard is what a call is in XEP-0133: its node, and what its arguments are called
// there.
type standard struct {
	node   string
	fields map[string]string
	result string // field that lists the addresses in the answer
}

func standards() map[string]standard {
	one := map[string]string{"jid": "accountjid"}
	return map[string]standard{
		"user add":    {"#add-user", one, ""},
		"user remove": {"#delete-user", map[string]string{"jid": "accountjids"}, ""},
		"user passwd": {"#change-user-password", one, ""},
		"user list":   {"#get-registered-users-list", nil, "registereduserjids"},
	}
}

// verify follows the name of a secret that is being chosen, where it is asked for again.
const verify = "-verify"

// maxLines bounds an answer: it is one stanza.
const maxLines = 1000

// adminCommands are all of the operator's calls, for the administrators.
func adminCommands(admins []string, host func() *admin.Host) (list []adhoc.Command) {
	may := func(bare jid.JID) bool { return slices.Contains(admins, bare.String()) }
	for _, call := range admin.Calls() {
		if call.Again != "" {
			continue // it is made every moment: nothing for forms
		}
		known := standards()[call.Name]
		c := adhoc.Command{Node: nsAdmin + known.node, Name: strings.ToUpper(call.Help[:1]) + call.Help[1:], May: may, FormType: nsAdmin}
		if known.node == "" {
			c.Node = "carillon#" + strings.ReplaceAll(call.Name, " ", "-")
		}
		named := map[string]string{} // arguments by field
		for _, a := range call.Args {
			f := xep.FormField{Var: a.Name, Label: strings.ReplaceAll(a.Help, "`", ""), Type: "text-single", Required: !a.Optional}
			switch {
			case a.Secret:
				f.Type = "text-private"
			case known.fields[a.Name] == "accountjids":
				f.Type = "jid-multi"
			case a.Name == "jid":
				f.Type = "jid-single"
			}
			if to := known.fields[a.Name]; to != "" {
				f.Var = to
			}
			named[f.Var] = a.Name
			c.Form = append(c.Form, f)
			if a.New {
				c.Form = append(c.Form, xep.FormField{Var: a.Name + verify, Label: f.Label + ", again", Type: f.Type, Required: true})
			}
		}
		c.Run = func(ctx context.Context, by jid.JID, values map[string][]string) (adhoc.Answer, error) {
			return runCall(ctx, host(), by, call.Name, known.result, named, values)
		}
		list = append(list, c)
	}
	return list
}

// runCall makes a call, or one for each value of the field that has several.
func runCall(ctx context.Context, h *admin.Host, by jid.JID, name, result string, named map[string]string, values map[string][]string) (adhoc.Answer, error) {
	args := map[string]string{}
	each, several := "", []string{""}
	for field, v := range values {
		if of, again := strings.CutSuffix(field, verify); again {
			if !slices.Equal(values[of], v) {
				return adhoc.Answer{}, stanza.NewError(stanza.NotAcceptable, "the two are not the same")
			}
			continue
		}
		if args[named[field]] = v[0]; len(v) > 1 {
			each, several = named[field], v
		}
	}
	var text strings.Builder
	var data any
	for _, v := range several {
		if each != "" {
			args[each] = v
		}
		r, err := h.Call(ctx, name, args)
		if err != nil {
			// It is in words for the operator, who this is.
			return adhoc.Answer{}, stanza.NewError(stanza.NotAcceptable, err.Error())
		}
		text.WriteString(r.Text)
		data = r.Data
	}
	h.Log.Info("command", "by", by, "call", name)
	lines := strings.Split(strings.TrimRight(text.String(), "\n"), "\n")
	if accounts, ok := data.([]admin.Account); ok && result != "" {
		lines = lines[:0]
		for _, a := range accounts {
			lines = append(lines, a.JID)
		}
		lines = lines[:min(len(lines), maxLines)]
		return adhoc.Answer{FormType: nsAdmin, Fields: []xep.FormField{{Var: result, Type: "text-multi", Label: "Accounts", Values: lines}}}, nil
	}
	if n := len(lines); n > maxLines {
		lines = append(lines[:maxLines], fmt.Sprintf("… and %d more", n-maxLines))
	}
	if len(lines) == 1 {
		return adhoc.Answer{Note: lines[0]}, nil
	}
	return adhoc.Answer{Note: fmt.Sprintf("%d lines", len(lines)), FormType: nsAdmin,
		Fields: []xep.FormField{{Var: "text", Type: "text-multi", Label: "Answer", Values: lines}}}, nil
}
