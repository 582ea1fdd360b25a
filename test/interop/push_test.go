package interop

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// notification is what py/push.py says of one.
type notification struct {
	From, Node, Secret, Refused, Type, Count string
	More                                     map[string]string
}

// TestPush: a client names a push service, which is made with slixmpp (XEP-0114). A phone whose connection broke is
// notified, with the secret that it has given the server and without a word of what was said; a service that refuses is
// asked no more, and the operator sees why.
func TestPush(t *testing.T) {
	s := serve(t)
	for _, l := range []library{slixmpp(), xmppjs()} {
		t.Run(l.name, func(t *testing.T) { push(t, s, l) }) // one after the other: there is one component
	}
}

func push(t *testing.T, s *server, l library) {
	alice, bob := s.account(t, "alice"), s.account(t, "bob")
	heard := make(chan notification, 100)
	stop := component(t, s, "py/push.py", func(line string) {
		var n notification
		if err := json.Unmarshal([]byte(line), &n); err != nil {
			t.Errorf("%s: %v", line, err)
		}
		heard <- n
	})
	defer stop()
	next := func() notification {
		t.Helper()
		select {
		case n := <-heard:
			return n
		case <-time.After(patience):
			t.Fatal("no notification came")
			return notification{}
		}
	}
	proxy := newCutter(t, s.c2s)
	a := online(t, s, l, alice, "one")
	phone := available(l.loginAt(t, s, bob, "phone", proxy.addr(), "starttls"))
	befriend(a, phone)
	phone.do("push_enable", args{"service": service, "node": "n1", "secret": "opensesame"})

	proxy.cut()
	phone.await("cut connection", func(e *event) bool { return e.Kind == "disconnected" })
	a.do("ping", nil)
	a.send(bob.bare, "are you here?")
	got := next()
	if got.From != domain || got.Node != "n1" || got.Secret != "opensesame" || got.Refused != "" || got.Type != "urn:xmpp:push:summary" || got.Count == "" || len(got.More) != 0 {
		t.Errorf("%+v", got)
	}
	phone.reconnect(proxy)
	phone.await("message", message("are you here?"))
	phone.do("ping", nil)

	// The second service has no secret; that of the node says that the device is gone.
	phone.do("push_disable", args{"service": service})
	phone.do("push_enable", args{"service": service, "node": "gone"})
	phone.do("disconnect", nil)
	a.send(bob.bare, "gone?")
	if got = next(); got.Node != "gone" || got.Refused != "item-not-found" {
		t.Errorf("%+v", got)
	}
	if s.kind.name != "carillon" {
		return
	}
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	says := func(want string, command ...string) {
		t.Helper()
		for deadline := time.Now().Add(patience); ; {
			out, err := exec.Command(bin, append(command, bob.bare, "--data", filepath.Join(s.dir, "data"), "--domain", domain)...).CombinedOutput()
			if err == nil && strings.Contains(string(out), want) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%v lacks %q: %v\n%s", command, want, err, out)
			}
		}
	}
	says("off: item-not-found", "user", "devices")
	a.send(bob.bare, "still gone?")
	a.do("ping", nil)
	device := strings.TrimPrefix(phone.jid, bob.bare+"/")
	for _, want := range []string{device + " notified after ", "R-PUSH-12: the device has no live stream", device + " is not notified, by " + service + " — R-PUSH-7: "} {
		says(want, "trace")
	}
	if len(heard) != 0 {
		t.Errorf("once more: %+v", <-heard)
	}
}
