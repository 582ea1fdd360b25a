package server

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/server/admin"
	"carillon.im/server/config"
	"carillon.im/server/route"
)

// newcomer is a client that has no account.
type newcomer struct {
	t    *testing.T
	conn *tls.Conn
	in   *bufio.Reader
}

func newNewcomer(t *testing.T, s *Server) *newcomer {
	t.Helper()
	near, far := net.Pipe()
	s.ServeConn(far, true)
	t.Cleanup(func() { near.Close() })
	n := &newcomer{t: t, conn: tls.Client(near, &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"})}
	n.conn.SetDeadline(time.Now().Add(10 * time.Second))
	n.in = bufio.NewReader(n.conn)
	got := n.say("<stream:stream to='localhost' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>", "</stream:features>")
	if !strings.Contains(got, "<register xmlns='urn:xmpp:ibr-token:0'/>") || strings.Contains(got, "iq-register") {
		t.Errorf("features: %s", got)
	}
	return n
}

// say sends and returns what comes up to a piece.
func (n *newcomer) say(xml, until string) string {
	n.t.Helper()
	if _, err := n.conn.Write([]byte(xml)); err != nil {
		n.t.Fatal(err)
	}
	var got strings.Builder
	for !strings.Contains(got.String(), until) {
		part, err := n.in.ReadString('>')
		got.WriteString(part)
		if err != nil {
			n.t.Fatalf("%v, after %s", err, got.String())
		}
	}
	return got.String()
}

// ask sends a request and returns the answer, of which every one ends like that.
func (n *newcomer) ask(id, xml string) string {
	n.t.Helper()
	got := n.say("<iq type='set' id='"+id+"' to='localhost'>"+xml+"</iq>", "id='"+id+"'")
	if strings.Contains(got, "type='error'") {
		got += n.say("", "</iq>")
	}
	return got
}

func (n *newcomer) register(id, name string) string {
	n.t.Helper()
	return n.ask(id, "<query xmlns='jabber:iq:register'><username>"+name+"</username><password>pencil</password></query>")
}

func (n *newcomer) show(id, token string) string {
	n.t.Helper()
	return n.ask(id, "<preauth xmlns='urn:xmpp:pars:0' token='"+token+"'/>")
}

var tokenIn = regexp.MustCompile(`preauth=([A-Z2-7]+)`)

// TestInvites: an invitation by a user, by an administrator, and by the operator, and what each is good for (XEP-0379, 0401, 0445).
func TestInvites(t *testing.T) {
	cfg := config.Default()
	cfg.Data, cfg.HTTP, cfg.C2S, cfg.C2STLS, cfg.HTTPS = t.TempDir(), config.Off, config.Off, config.Off, "127.0.0.1:0"
	cfg.Admins, cfg.Auth.Iterations = []string{"romeo@localhost"}, 4096
	s := runServer(t, cfg)
	for _, name := range []string{"romeo@localhost", "paris@localhost"} {
		if _, err := s.store.CreateAccount(t.Context(), jid.MustParse(name), nil); err != nil {
			t.Fatal(err)
		}
	}
	romeo, paris := bindDevice(t, s, "romeo@localhost", "r", route.Classic), bindDevice(t, s, "paris@localhost", "p", route.Classic)
	romeo.request("get", "", "<query xmlns='jabber:iq:roster'/>")
	romeo.send("<presence/>")
	invite := func(d *device, node, attrs, form string) (answer, token string) {
		t.Helper()
		answer = d.request("set", "localhost", "<command xmlns='http://jabber.org/protocol/commands' node='"+node+"' "+attrs+">"+form+"</command>")
		if m := tokenIn.FindStringSubmatch(answer); m != nil {
			token = m[1]
		}
		return answer, token
	}
	has := func(what, got string, pieces ...string) {
		t.Helper()
		for _, p := range pieces {
			if !strings.Contains(got, p) {
				t.Errorf("%s: no %s in %s", what, p, got)
			}
		}
	}

	// A user who may not make accounts invites contacts.
	answer, token := invite(paris, "urn:xmpp:invite#invite", "", "")
	has("paris's", answer, "status='completed'", "<value>urn:xmpp:invite#invitation</value>", "var='uri'", "xmpp:paris@localhost?roster;preauth="+token+"<", "var='landing-url'", "/invite/"+token, "var='expire'")
	answer, _ = invite(paris, "urn:xmpp:invite#create-account", "", "")
	has("paris's try", answer, "<forbidden")
	n := newNewcomer(t, s)
	has("an account with it", n.show("1", token), "type='error'", "<item-not-found")
	has("without a token", n.say("<iq type='get' id='2'><query xmlns='jabber:iq:register'/></iq>", "</stream:stream>"), "<not-authorized")

	// An administrator does; the newcomer and he are contacts then.
	answer, token = invite(romeo, "urn:xmpp:invite#invite", "", "")
	has("romeo's", answer, "xmpp:romeo@localhost?roster;preauth="+token+";ibr=y<")
	page := func(token string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		s.public.Handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "https://localhost/invite/"+token, nil))
		return w
	}
	w := page(token)
	has("the page", w.Body.String(), "romeo@localhost invites you", "href=\"xmpp:romeo@localhost?roster;preauth="+token+";ibr=y\"")
	if policy := w.Header().Get("Content-Security-Policy"); w.Code != http.StatusOK || !strings.Contains(policy, "default-src 'none'") || strings.Contains(w.Body.String(), "<script") ||
		w.Header().Get("Referrer-Policy") != "no-referrer" || w.Header().Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("page: %d, %v", w.Code, w.Header())
	}
	n = newNewcomer(t, s)
	has("the token", n.show("1", token), "type='result'")
	has("a name that is taken", n.register("2", "paris"), "<conflict")
	has("juliet", n.register("3", "juliet"), "type='result'")
	has("the same again", n.register("4", "julia"), "<item-not-found")
	has("another connection", newNewcomer(t, s).show("1", token), "<item-not-found")
	romeo.until("jid='juliet@localhost' subscription='both'")
	d, err := s.store.LoadAccount(t.Context(), jid.MustParse("juliet@localhost"))
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end) && err == nil && (len(d.Roster) == 0 || d.Roster[0].Subscription != "both"); {
		d, err = s.store.LoadAccount(t.Context(), jid.MustParse("juliet@localhost"))
	}
	if err != nil || len(d.Roster) != 1 || d.Roster[0].JID != jid.MustParse("romeo@localhost") || d.Roster[0].Subscription != "both" || d.Roster[0].Ask {
		t.Errorf("juliet's roster: %+v, %v", d.Roster, err)
	}
	if w := page(token); w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), "used already") {
		t.Errorf("the page of one that is taken: %d", w.Code)
	}

	// A name is kept.
	const form = "<x xmlns='jabber:x:data' type='submit'><field var='username'><value>Nurse</value></field></x>"
	answer, _ = invite(romeo, "urn:xmpp:invite#create-account", "", "")
	has("the form", answer, "status='executing'", "var='username'", "var='roster-subscription' type='boolean'")
	answer, token = invite(romeo, "urn:xmpp:invite#create-account", "sessionid='s'", form)
	has("for nurse", answer, "xmpp:nurse@localhost?register;preauth="+token+"<")
	answer, _ = invite(romeo, "urn:xmpp:invite#create-account", "sessionid='s'", form)
	has("for nurse again", answer, "<conflict")
	other, err := s.host.Call(t.Context(), "user invite", nil)
	if err != nil {
		t.Fatal(err)
	}
	link := other.Data.(admin.Invitation)
	has("the operator's", other.Text, "█", link.Page, "good until")
	operators := tokenIn.FindStringSubmatch(link.URI)[1]
	if link.URI != "xmpp:localhost?register;preauth="+operators {
		t.Errorf("the operator's is %s", link.URI)
	}
	n = newNewcomer(t, s)
	has("the operator's token", n.show("1", operators), "type='result'")
	has("a name that is kept", n.register("2", "nurse"), "<conflict")
	has("peter", n.register("3", "peter"), "type='result'")
	n = newNewcomer(t, s)
	has("nurse's token", n.show("1", token), "type='result'")
	has("another name", n.register("2", "friar"), "<not-acceptable")
	has("nurse", n.register("3", "nurse"), "type='result'")

	// A contact who has an account already (XEP-0379 3.4).
	_, token = invite(romeo, "urn:xmpp:invite#invite", "", "")
	paris.send("<presence to='romeo@localhost' type='subscribed'/>")
	paris.send(fmt.Sprintf("<presence to='romeo@localhost' type='subscribe'><preauth xmlns='urn:xmpp:pars:0' token='%s'/></presence>", token))
	romeo.until("jid='paris@localhost' subscription='both'")
	if w := page(token); w.Code != http.StatusNotFound {
		t.Errorf("it can be used again: %d", w.Code)
	}
	for _, bad := range []string{"", "x", strings.Repeat("A", 5000), "..%2f..%2fhealthz"} {
		if w := page(bad); w.Code != http.StatusNotFound {
			t.Errorf("page %q: %d", bad, w.Code)
		}
	}
	// There are only so many.
	for i := 0; ; i++ {
		if answer, _ := invite(paris, "urn:xmpp:invite#invite", "", ""); strings.Contains(answer, "<resource-constraint") {
			break
		} else if i > 50 {
			t.Fatal("no bound")
		}
	}
	for _, args := range []map[string]string{{"days": "0"}, {"days": "400"}, {"days": "x"}, {"at": "elsewhere"}, {"for": "romeo"}, {"for": "a@b"}, {"for": "a b"}} {
		if r, err := s.host.Call(t.Context(), "user invite", args); err == nil {
			t.Errorf("%v: %s", args, r.Text)
		}
	}
}
