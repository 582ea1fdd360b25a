package crash

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"carillon.im/stanza"
	"carillon.im/test/xmppclient"
)

// TestPushOverKills: a notification that was held back when the server was killed comes once, after the start; one that has come doesn't come again.
func TestPushOverKills(t *testing.T) {
	p := newProcess(t, t.TempDir())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	file := filepath.Join(t.TempDir(), "carillon.toml")
	cfg := fmt.Sprintf("component = %q\n[push]\nhold_seconds = 3\n[components.\"push.example\"]\nsecret = \"swordfish\"\n", address)
	if err := os.WriteFile(file, []byte(cfg), 0o600); err != nil {
		t.Fatal(err)
	}
	p.args, p.ready = []string{"--config", file}, []string{address}
	p.addUser("romeo")
	p.addUser("juliet")
	p.start()
	defer p.kill()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	service := pushService(t, address)
	phone, err := p.login("juliet", "phone", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := phone.Send("<iq type='set' id='on'><enable xmlns='urn:xmpp:push:0' jid='push.example' node='n'/></iq>"); err != nil {
		t.Fatal(err)
	}
	if ev, err := phone.Next(ctx); err != nil || ev.Stanza == nil || ev.Stanza.Type != stanza.TypeResult {
		t.Fatalf("enabling: %v, %v", ev, err)
	}
	phone.Close()
	desk, err := p.login("juliet", "desk", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := desk.Send("<presence/>", "<iq type='get' id='here' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>"); err != nil {
		t.Fatal(err)
	}
	for here := false; !here; { // who isn't known to be here holds nothing back
		ev, err := desk.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		here = ev.Stanza != nil && ev.Stanza.ID == "here"
	}
	say := func(n int) {
		t.Helper()
		c, err := p.login("romeo", "pen", nil)
		if err == nil {
			err = c.EnableSM(false)
		}
		if err == nil {
			err = c.Send(fmt.Sprintf("<message to='juliet@localhost' type='chat' id='m%d'><body>%[1]d</body></message>", n))
		}
		if err == nil {
			err = c.Settle(ctx)
		}
		if err != nil {
			t.Fatal(err)
		}
		c.Cut()
	}
	// The kill comes while it is held back.
	say(1)
	p.kill()
	desk.Cut()
	service.Cut()
	p.start()
	service = pushService(t, address)
	notified(ctx, t, service, "after the kill")
	p.kill()
	service.Cut()
	p.start()
	service = pushService(t, address)
	// What comes first is of the second message: nobody else is there, so it isn't held back.
	say(2)
	notified(ctx, t, service, "of the second message")
	p.stop()
	for {
		ev, err := service.Next(ctx)
		if err != nil {
			break
		}
		if ev.Stanza != nil {
			t.Errorf("once more: %s", xmppclient.XML(ev))
		}
	}
	service.Cut()
}

// pushService is a push service over a component (XEP-0114).
func pushService(t *testing.T, address string) *xmppclient.Client {
	t.Helper()
	nc, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	c, err := xmppclient.OpenComponent(nc, "push.example", "swordfish")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// notified takes one notification and answers it.
func notified(ctx context.Context, t *testing.T, service *xmppclient.Client, what string) {
	t.Helper()
	ev, err := service.Next(ctx)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	st := ev.Stanza
	publish := st.Child("http://jabber.org/protocol/pubsub", "pubsub").Child("http://jabber.org/protocol/pubsub", "publish")
	if st.Type != stanza.TypeSet || publish.Attr("node") != "n" {
		t.Fatalf("%s: %s", what, xmppclient.XML(ev))
	}
	if err := service.Send(string(st.Reply("").AppendTo(nil))); err != nil {
		t.Fatal(err)
	}
}
