package c2s

import (
	"context"
	"net"
	"testing"
	"testing/synctest"

	"carillon.im/stanza"
	"carillon.im/stream"
)

func TestLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		defer w.end(t)
		u := w.login(t, "alice", "tea")
		if u.full.String() != "alice@"+domain+"/tea" {
			t.Errorf("bound %s", u.full)
		}
		u.ping()
		u.send("<message id='m1'><body>curiouser</body></message>")
		if got := string(u.want(stream.Stanza).Stanza.AppendTo(nil)); got != "<message from='alice@wonderland.lit/tea' id='m1'><body>curiouser</body></message>" {
			t.Errorf("echo: %s", got)
		}
		u.close()
		synctest.Wait()
		if w.hub.session(u.full.String()) != nil {
			t.Error("the session is still there")
		}
	})
}

func TestLoginTCP(t *testing.T) {
	w := newWorld(t, nil)
	defer w.end(t)
	for _, direct := range []bool{false, true} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		ctx, cancel := context.WithCancel(context.Background())
		go func() { served <- w.Serve(ctx, l, direct) }()
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		u := newUser(t, conn)
		if direct {
			if err := u.secure(clientTLS); err != nil {
				t.Fatal(err)
			}
		} else {
			u.starttls()
		}
		u.authenticated("queen")
		u.bind("")
		u.ping()
		u.send("<iq type='set' id='s'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>")
		if st := u.want(stream.Stanza).Stanza; st.ID != "s" || st.Type != stanza.TypeResult {
			t.Errorf("session: %s", st.AppendTo(nil))
		}
		u.close()
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}
}
