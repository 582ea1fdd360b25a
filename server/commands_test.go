package server

import (
	"strings"
	"testing"

	"carillon.im/jid"
	"carillon.im/server/admin"
	"carillon.im/server/config"
	"carillon.im/server/route"
	"carillon.im/server/store"
)

// TestCommands: an administrator does from a client what the operator does on the command line; others see nothing of it (XEP-0050, 0133).
func TestCommands(t *testing.T) {
	cfg := config.Default()
	cfg.Data, cfg.HTTP, cfg.C2S, cfg.C2STLS = t.TempDir(), config.Off, config.Off, config.Off
	cfg.Admins = []string{"ALICE@localhost"}
	cfg.Auth.Iterations = 4096
	s := runServer(t, cfg)
	for _, name := range []string{"alice@localhost", "bob@localhost"} {
		if _, err := s.store.CreateAccount(t.Context(), jid.MustParse(name), nil); err != nil {
			t.Fatal(err)
		}
	}
	a, b := bindDevice(t, s, "alice@localhost", "a", route.Classic), bindDevice(t, s, "bob@localhost", "b", route.Classic)
	const list = "<query xmlns='http://jabber.org/protocol/disco#items' node='http://jabber.org/protocol/commands'/>"
	command := func(d *device, node, attrs, inner string) string {
		t.Helper()
		return d.request("set", "localhost", "<command xmlns='http://jabber.org/protocol/commands' node='"+node+"' "+attrs+">"+inner+"</command>")
	}
	submit := func(fields ...string) string {
		x := "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' type='hidden'><value>" + nsAdmin + "</value></field>"
		for i := 0; i < len(fields); i += 2 {
			x += "<field var='" + fields[i] + "'>"
			for _, v := range strings.Fields(fields[i+1]) {
				x += "<value>" + v + "</value>"
			}
			x += "</field>"
		}
		return x + "</x>"
	}
	has := func(what, got string, pieces ...string) {
		t.Helper()
		for _, p := range pieces {
			if !strings.Contains(got, p) {
				t.Errorf("%s: no %s in %s", what, p, got)
			}
		}
	}

	got := a.ask("localhost", list)
	for _, call := range admin.Calls() {
		node := standards()[call.Name].node
		if node == "" {
			node = "carillon#" + strings.ReplaceAll(call.Name, " ", "-")
		}
		if call.Again == "" {
			has("the list", got, node+"'")
		}
	}
	if got := b.ask("localhost", list); strings.Contains(got, "admin#") || strings.Contains(got, "carillon#") {
		t.Errorf("bob is shown %s", got)
	}
	has("info", a.ask("localhost", "<query xmlns='http://jabber.org/protocol/disco#info' node='"+nsAdmin+"#add-user'/>"), "category='automation' type='command-node'", "jabber:x:data")
	has("info for bob", b.ask("localhost", "<query xmlns='http://jabber.org/protocol/disco#info' node='"+nsAdmin+"#add-user'/>"), "type='error'", "<forbidden")
	has("bob's try", command(b, nsAdmin+"#add-user", "", ""), "<forbidden")
	has("bob's form", command(b, nsAdmin+"#delete-user", "sessionid='x'", submit("accountjids", "alice@localhost")), "<forbidden")

	got = command(a, nsAdmin+"#add-user", "action='execute'", "")
	has("the form", got, "status='executing'", "sessionid='", "var='accountjid' type='jid-single'", "<required/>", "var='password' type='text-private'", "var='password-verify'", "<complete/>")
	has("cancelled", command(a, nsAdmin+"#add-user", "action='cancel' sessionid='s'", ""), "status='canceled'")
	has("different passwords", command(a, nsAdmin+"#add-user", "sessionid='s'", submit("accountjid", "carol@localhost", "password", "one", "password-verify", "two")), "<not-acceptable", "not the same")
	has("no password", command(a, nsAdmin+"#add-user", "sessionid='s'", submit("accountjid", "carol@localhost")), "<bad-request", "<bad-payload")
	has("added", command(a, nsAdmin+"#add-user", "sessionid='s' action='complete'", submit("accountjid", "carol@localhost", "password", "one", "password-verify", "one")),
		"status='completed'", "account carol@localhost made")
	has("added twice", command(a, nsAdmin+"#add-user", "sessionid='s'", submit("accountjid", "carol@localhost", "password", "one", "password-verify", "one")), "<not-acceptable", "exists already")
	if _, _, err := s.store.Keys(t.Context(), jid.MustParse("carol@localhost"), 2); err != nil {
		t.Errorf("carol can't log in: %v", err)
	}
	has("the users", command(a, nsAdmin+"#get-registered-users-list", "", submit()), "status='completed'", "var='registereduserjids'", "<value>bob@localhost</value>", "<value>carol@localhost</value>")
	has("devices", command(a, "carillon#user-devices", "sessionid='s'", submit("jid", "bob@localhost")), "status='completed'", "RESOURCE")
	has("removed", command(a, nsAdmin+"#delete-user", "sessionid='s'", submit("accountjids", "bob@localhost carol@localhost")), "account bob@localhost removed", "account carol@localhost removed")
	for _, name := range []string{"bob@localhost", "carol@localhost"} {
		if _, err := s.store.Account(t.Context(), jid.MustParse(name)); err == nil || !strings.Contains(err.Error(), store.ErrNotFound.Error()) {
			t.Errorf("%s: %v", name, err)
		}
	}
	has("unknown", command(a, "urn:nothing", "", ""), "<item-not-found")
	has("backwards", command(a, nsAdmin+"#add-user", "action='prev' sessionid='s'", ""), "<bad-action")
	has("no session", command(a, nsAdmin+"#add-user", "action='complete'", ""), "<bad-action")
	has("no such action", command(a, nsAdmin+"#add-user", "action='jump'", ""), "<malformed-action")
	has("no form", command(a, nsAdmin+"#add-user", "sessionid='s'", ""), "<bad-payload")
}

// TestAdmins: only accounts of the server can be administrators.
func TestAdmins(t *testing.T) {
	for _, a := range []string{"alice", "alice@elsewhere.example", "alice@localhost/r", ""} {
		cfg := config.Default()
		cfg.Admins = []string{a}
		if err := cfg.Check(); err == nil || !strings.Contains(err.Error(), "admins: ") {
			t.Errorf("%q: %v", a, err)
		}
	}
}
