package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/server/config"
	"carillon.im/server/feature"
	"carillon.im/server/route"
)

const compliancePage = "../docs/compliance.md"

// level is from where on a category asks something of a server.
type level uint8

const (
	server   level = iota // and so of an advanced one
	advanced              // of an advanced one alone
)

// demand is a row of XEP-0479 2 that asks something of servers. What is for clients
// alone (N/A for both) isn't listed.
type demand struct {
	category, feature string
	from              level
	specs             []string // "0030", or "RFC 6120"; all of them
}

// suites are the Compliance Suites, XEP-0479 (version 0.1.0) 2.1 to 2.5.
func suites() []demand {
	return []demand{
		{"Core", "Core features", server, []string{"RFC 6120"}},
		{"Core", "TLS", server, []string{"RFC 7590"}},
		{"Core", "Direct TLS", advanced, []string{"0368"}},
		{"Core", "Feature discovery", server, []string{"0030"}},
		{"Core", "Feature broadcasts", advanced, []string{"0115"}},
		{"Core", "Server extensibility", server, []string{"0114"}},
		{"Core", "Event publishing", advanced, []string{"0163"}},
		{"Web", "Web connection mechanisms", server, []string{"RFC 7395", "0206", "0124"}},
		{"IM", "Core features", server, []string{"RFC 6121"}},
		{"IM", "User avatar compatibility", advanced, []string{"0398", "0153"}},
		{"IM", "vcard-temp", server, []string{"0054"}},
		{"IM", "Outbound message synchronization", server, []string{"0280"}},
		{"IM", "User blocking", advanced, []string{"0191"}},
		{"IM", "Group chat", server, []string{"0045", "0249"}},
		{"IM", "Advanced group chat", advanced, []string{"0048", "0313", "0402", "0410"}},
		{"IM", "Persistent storage of private data via PubSub", advanced, []string{"0223"}},
		{"IM", "Private XML storage", advanced, []string{"0049"}},
		{"IM", "Stream management", advanced, []string{"0198"}},
		{"IM", "History storage and retrieval", advanced, []string{"0313"}},
		{"IM", "File upload", server, []string{"0363"}},
		{"Mobile", "Stream management", server, []string{"0198"}},
		{"Mobile", "Client state indication", server, []string{"0352"}},
		{"Mobile", "Third party push notifications", advanced, []string{"0357"}},
		{"A/V", "STUN and TURN server discovery", server, []string{"0215"}},
	}
}

// holders is which feature declares a specification.
func holders(list []feature.Feature) map[string]string {
	by := map[string]string{}
	for _, f := range list {
		for _, s := range f.Specs {
			name := s.XEP
			if s.RFC != "" {
				name = "RFC " + s.RFC
			}
			by[name] = f.Name
		}
	}
	return by
}

// compliance is the page.
func compliance(list []feature.Feature) []byte {
	by := holders(list)
	missing := map[string]*[2]int{} // per level
	var rows bytes.Buffer
	for _, d := range suites() {
		var held []string
		n := missing[d.category]
		if n == nil {
			n = new([2]int)
			missing[d.category] = n
		}
		for _, spec := range d.specs {
			name, there := by[spec]
			if !there {
				name = "**not yet**"
				n[d.from]++
			}
			if !strings.HasPrefix(spec, "RFC") {
				spec = "XEP-" + spec
			}
			held = append(held, spec+": "+name)
		}
		core := "✓"
		if d.from == advanced {
			core = "–"
		}
		fmt.Fprintf(&rows, "| %s | %s | %s | ✓ | %s |\n", d.category, d.feature, core, strings.Join(held, ", "))
	}
	var b bytes.Buffer
	b.WriteString("# Compliance Suites\n\nWhat XEP-0479 (2023) asks of servers, and which feature of carillon holds it. Generated from the features' declarations by\n" +
		"`go generate ./server`; a test asks a running server about each row. All of it is built in: no modules, no other programs but the\n" +
		"operator's STUN and TURN servers. Rows that are for clients alone aren't listed; of connection mechanism discovery (XEP-0156),\n" +
		"which isn't asked of servers, `docs/xeps.md` tells.\n\n")
	for _, c := range []string{"Core", "Web", "IM", "Mobile", "A/V"} {
		level := "**advanced server**"
		switch n := missing[c]; {
		case n[server] > 0:
			level = "not yet"
		case n[advanced] > 0:
			level = "server; advanced server: not yet"
		}
		fmt.Fprintf(&b, "- %s: %s\n", c, level)
	}
	b.WriteString("\n| category | what is asked | server | advanced server | held by |\n| --- | --- | --- | --- | --- |\n")
	b.Write(rows.Bytes())
	return b.Bytes()
}

// TestCompliance asks a running server for what each row of the suites is known by, as
// a client would. A specification is declared exactly if it is found.
func TestCompliance(t *testing.T) {
	cfg := config.Default()
	cfg.Data, cfg.HTTP, cfg.HTTPS = t.TempDir(), config.Off, "127.0.0.1:0"
	cfg.C2S, cfg.C2STLS, cfg.Component = config.Off, config.Off, "127.0.0.1:0"
	cfg.Components = map[string]config.Component{"irc.localhost": {Secret: "between us"}}
	cfg.Services = []config.Service{{Type: "stun", Host: "stun.localhost", Port: 3478}}
	s := runServer(t, cfg)
	if _, err := s.store.CreateAccount(t.Context(), jid.MustParse("u0@localhost"), nil); err != nil {
		t.Fatal(err)
	}
	d := bindDevice(t, s, "u0@localhost", "d", route.Classic)
	d.send("<presence to='hall@rooms.localhost/u0'><x xmlns='http://jabber.org/protocol/muc'/></presence>")
	d.until("<subject/>")
	info := func(to string) string { return d.ask(to, "<query xmlns='http://jabber.org/protocol/disco#info'/>") }
	domain, account := info("localhost"), info("u0@localhost")
	rooms, room, files := info("rooms.localhost"), info("hall@rooms.localhost"), info("upload.localhost")
	items := d.ask("localhost", "<query xmlns='http://jabber.org/protocol/disco#items'/>")
	features := streamFeatures(t, s)
	caps := string(s.set.StreamFeatures())
	meta := httptest.NewRecorder()
	s.public.Handler.ServeHTTP(meta, httptest.NewRequest(http.MethodGet, "https://localhost/.well-known/host-meta", nil))

	// Where a specification is seen, and by what.
	signs := map[string][2]string{
		"RFC 6120": {features, "urn:ietf:params:xml:ns:xmpp-sasl"},
		"RFC 7590": {features, "SCRAM-SHA-256-PLUS"}, // over TLS, bound to it
		"0368":     {features, "<stream:features"},   // TLS from the first byte
		"0030":     {domain, "http://jabber.org/protocol/disco#info"},
		"0115":     {caps, "http://jabber.org/protocol/caps"},
		"0114":     {items, "irc.localhost"},
		"0163":     {account, "category='pubsub' type='pep'"},
		"RFC 7395": {meta.Body.String(), "/xmpp-websocket"},
		"0206":     {meta.Body.String(), "/http-bind"},
		"0124":     {meta.Body.String(), "/http-bind"},
		"RFC 6121": {domain, "category='server' type='im'"},
		"0398":     {account, "urn:xmpp:pep-vcard-conversion:0"},
		"0153":     {account, "vcard-temp"},
		"0054":     {domain, "vcard-temp"},
		"0280":     {domain, "urn:xmpp:carbons:2"},
		"0191":     {domain, "urn:xmpp:blocking"},
		"0045":     {rooms, "http://jabber.org/protocol/muc"},
		"0249":     {rooms, "category='conference' type='text'"}, // between clients; it needs rooms
		"0048":     {account, "urn:xmpp:bookmarks:1#compat"},
		"0313":     {account + room, "urn:xmpp:mam:2"},
		"0402":     {account, "urn:xmpp:bookmarks:1#compat"},
		"0410":     {room, "http://jabber.org/protocol/muc#self-ping-optimization"},
		"0223":     {account, "http://jabber.org/protocol/pubsub#publish-options"},
		"0049":     {domain, "jabber:iq:private"},
		"0198":     {features, "urn:xmpp:sm:3"},
		"0363":     {files, "urn:xmpp:http:upload:0"},
		"0352":     {features, "urn:xmpp:csi:0"},
		"0357":     {account, "urn:xmpp:push:0"},
		"0215":     {domain, "urn:xmpp:extdisco:2"},
	}
	by := holders(s.set.Features())
	for _, row := range suites() {
		for _, spec := range row.specs {
			sign, known := signs[spec]
			if !known {
				t.Errorf("%s, %s: nothing is known to see %s by", row.category, row.feature, spec)
				continue
			}
			_, declared := by[spec]
			if found := strings.Contains(sign[0], sign[1]); found != declared {
				t.Errorf("%s, %s: %s declared: %v, %q seen: %v in\n%s", row.category, row.feature, spec, declared, sign[1], found, sign[0])
			}
		}
	}
	for _, place := range []string{account, room} {
		if !strings.Contains(place, "urn:xmpp:mam:2") {
			t.Errorf("no archive in %s", place)
		}
	}
	for _, v := range []string{"persistent-items", "access-whitelist"} { // XEP-0223 6
		if !strings.Contains(account, "http://jabber.org/protocol/pubsub#"+v) {
			t.Errorf("an account's events lack %s", v)
		}
	}
}

// runServer runs a server with a configuration until the test ends.
func runServer(t *testing.T, cfg config.Config) *Server {
	t.Helper()
	if err := cfg.Check(); err != nil {
		t.Fatal(err)
	}
	s, err := New(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ran := make(chan error)
	go func() { ran <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
	return s
}

// ask sends a request of type get and returns the answer.
func (d *device) ask(to, payload string) string {
	d.t.Helper()
	return d.request("get", to, payload)
}

func (d *device) request(typ, to, payload string) string {
	d.t.Helper()
	d.asked++
	id := fmt.Sprintf("ask-%d", d.asked)
	d.send("<iq type='" + typ + "' id='" + id + "' to='" + to + "'>" + payload + "</iq>")
	return d.until(" id='" + id + "'")
}

// streamFeatures is what a server offers to who connects with TLS from the first byte.
func streamFeatures(t *testing.T, s *Server) string {
	t.Helper()
	near, far := net.Pipe()
	s.ServeConn(far, true)
	defer near.Close()
	conn := tls.Client(near, &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"})
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Write([]byte("<stream:stream to='localhost' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>")); err != nil {
		t.Fatal(err)
	}
	var heard []byte
	buf := make([]byte, 4096)
	for !bytes.Contains(heard, []byte("</stream:features>")) {
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		heard = append(heard, buf[:n]...)
	}
	return string(heard)
}
