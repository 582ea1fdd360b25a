package server

import (
	"strings"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/server/config"
	"carillon.im/server/route"
	"carillon.im/server/store"
)

// pushService is a component of one server that accounts of another one name as their
// push service.
type pushService struct{ *program }

// notified reads the next request: its id, and the node that it is for.
func (s pushService) notified() (id, node, xml string) {
	s.t.Helper()
	s.until("<iq ")
	xml = s.until("</iq>")
	between := func(open string) string {
		_, rest, ok := strings.Cut(xml, open)
		if !ok {
			s.t.Fatalf("no %s in %s", open, xml)
		}
		value, _, _ := strings.Cut(rest, "'")
		return value
	}
	return between(" id='"), between("<publish node='"), xml
}

// answers answers a request, with an error unless it is "".
func (s pushService) answers(id, kind, condition string) {
	s.t.Helper()
	address := " from='relay.b.example' to='a.example' id='" + id + "'"
	if condition == "" {
		s.write("<iq type='result'" + address + "/>")
		return
	}
	s.write("<iq type='error'" + address + "><error type='" + kind + "'><" + condition + " xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>")
}

// registered waits until the registration with a service is as wanted.
func (d *node) registered(name, service, node string, ok func(store.PushState) bool) {
	d.n.t.Helper()
	id, err := d.hub.Account(jid.MustParse(name + "@" + d.domain)).StoreID(d.n.t.Context())
	if err != nil {
		d.n.t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		list, err := d.store.PushTargets(d.n.t.Context(), store.AccountID(id))
		if err != nil {
			d.n.t.Fatal(err)
		}
		found := false
		for _, p := range list {
			if p.Service.String() == service && p.Node == node {
				if found = true; ok(p.PushState) {
					return
				}
			}
		}
		if time.Now().After(deadline) {
			d.n.t.Fatalf("%s %s (there: %t) is not as wanted: %+v", service, node, found, list)
		}
	}
}

// TestPushAcross: a device is woken by a push service that is another domain, on
// another server (XEP-0357 7): what that answers, refuses, asks to be patient for, and
// what becomes of the registration where nothing reaches it (7.1).
func TestPushAcross(t *testing.T) {
	n := newInternet(t)
	a, c := n.node("a.example", "alice"), n.node("c.example")
	b := n.nodeWith("b.example", func(c *config.Config) { addComponent(t, c, "relay.b.example") }, "bob")
	service := pushService{dialComponent(t, b.Server, "relay.b.example")}
	bob := b.device("bob", "phone", route.V2)
	enable := func(resource, jid, node string) {
		t.Helper()
		d := a.device("alice", resource, route.V2)
		got := d.request("set", "alice@a.example", "<enable xmlns='urn:xmpp:push:0' jid='"+jid+"' node='"+node+"'><x xmlns='jabber:x:data' type='submit'>"+
			"<field var='FORM_TYPE'><value>http://jabber.org/protocol/pubsub#publish-options</value></field><field var='secret'><value>s-"+node+"</value></field></x></enable>")
		if !strings.Contains(got, "type='result'") {
			t.Fatal(got)
		}
		d.session.Close(d)
	}
	said := 0
	say := func() {
		said++
		bob.send("<message type='chat' id='p" + string(rune('a'+said)) + "' to='alice@a.example'><body>are you there?</body></message>")
	}
	fine := func(s store.PushState) bool { return s == store.PushState{} }

	enable("phone", "relay.b.example", "n1")
	say()
	id, node, xml := service.notified()
	if node != "n1" || !strings.Contains(xml, "from='a.example'") || !strings.Contains(xml, "<value>s-n1</value>") || strings.Contains(xml, "alice") || strings.Contains(xml, "are you there") {
		t.Errorf("the service got %s", xml)
	}
	service.answers(id, "", "")

	// It asks for patience: the registration stays, and rests.
	say()
	id, _, _ = service.notified()
	service.answers(id, "wait", "resource-constraint")
	a.registered("alice", "relay.b.example", "n1", func(s store.PushState) bool {
		return !s.Off && s.Failures == 1 && s.Condition == "resource-constraint" && s.Retry.After(time.Now())
	})

	// It refuses: that node is switched off, and no other one.
	enable("phone", "relay.b.example", "n1")
	enable("tablet", "relay.b.example", "n2")
	say()
	for range 2 {
		switch id, node, _ := service.notified(); node {
		case "n1":
			service.answers(id, "cancel", "item-not-found")
		case "n2":
			service.answers(id, "", "")
		}
	}
	a.registered("alice", "relay.b.example", "n1", func(s store.PushState) bool { return s.Off && s.Condition == "item-not-found" })
	a.registered("alice", "relay.b.example", "n2", fine)
	for range 2 {
		say()
		id, node, _ := service.notified()
		if node != "n2" {
			t.Errorf("%s was notified", node)
		}
		service.answers(id, "", "")
		a.registered("alice", "relay.b.example", "n2", fine)
	}
	enable("phone", "relay.b.example", "n1") // named again, it is forgiven
	a.registered("alice", "relay.b.example", "n1", fine)

	// Nothing reaches it, or there is no such server: it may be there again later.
	c.halt()
	enable("watch", "push.c.example", "n3") // no such name
	enable("car", "c.example", "n4")        // a server that is away
	say()
	away := func(condition string) func(store.PushState) bool {
		return func(s store.PushState) bool {
			return !s.Off && s.Failures == 1 && s.Condition == condition && s.Retry.After(time.Now())
		}
	}
	a.registered("alice", "push.c.example", "n3", away("remote-server-not-found"))
	a.registered("alice", "c.example", "n4", away("remote-server-timeout"))
	for range 2 {
		if id, node, _ := service.notified(); node != "n1" && node != "n2" {
			t.Errorf("%s was notified", node)
		} else {
			service.answers(id, "", "")
		}
	}
	// The registration outlives the server, too.
	a.halt()
	a.start()
	a.registered("alice", "c.example", "n4", away("remote-server-timeout"))
}
