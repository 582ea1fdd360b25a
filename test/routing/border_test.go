package routing

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	"carillon.im/server/config"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

const (
	serviceDomain = "service.example"
	serviceSecret = "of the service"
	tag2          = "<xmpp-2 xmlns='urn:xmpp:tmp:xmpp-2:0'/>"
)

// service is a component (XEP-0114), the border to another domain. It is on a real connection, so nothing here is in a
// bubble, and an answer to something sent later says that nothing more comes.
type service struct {
	t    *testing.T
	conn net.Conn
	got  []byte // not looked at yet
	n    int    // of fences
}

// TestBorder: what enters from another domain, with XMPP 2.0's tag and without it (R-GW-2, R-GW-3, R-INT-4, R-INT-7,
// R-MINE-6).
func TestBorder(t *testing.T) {
	w := newWorld(t, func(cfg *config.Config) {
		cfg.Component = "127.0.0.1:0"
		cfg.Components = map[string]config.Component{serviceDomain: {Secret: serviceSecret}}
	})
	defer w.end()
	bad := newDisagreements()
	r := prepareRound(w, 1<<len(templates())-1, variant{every: true}, bad)
	s := w.service()
	for _, d := range r.recipient.devices {
		r.clients[d] = w.login(d, false)
		if err := r.clients[d].Send("<message to='" + d.full() + "' type='headline' id='here'/>"); err != nil {
			t.Fatal(err)
		}
		if _, err := until(t.Context(), r.clients[d], fenced("here")); err != nil {
			t.Fatal(err)
		}
	}
	room := &account{bare: "room@" + serviceDomain, service: true}
	r.archives[room], r.ids[room] = map[key]form{}, map[string]string{}
	old := &device{kind: "nick of 1.0", name: "old", profile: classic, account: room}
	modern := &device{kind: "nick of 2.0", name: "new", profile: v2, account: room}
	r.kinds = slices.DeleteFunc(r.kinds, func(k kind) bool { return k.respelled != "" }) // which is a matter of users' own
	r.enter(s, old, r.messages(old, 0, 1))
	r.kinds = tagged(r.kinds)
	r.enter(s, modern, r.messages(modern, 0, 1))
	r.checkArchive(r.recipient)
	bad.report(t)
}

// tagged are kinds as another server of XMPP 2.0 sends them: what modifies routing is there for servers between, and
// means nothing here (R-GW-2). Decided: that a conversation shouldn't be stored is what its sender said, and holds.
func tagged(list []kind) []kind {
	modifiers := strings.NewReplacer(private, "", noCopy, "")
	list = slices.Clone(list)
	for i := range list {
		k := &list[i]
		if !strings.Contains(k.payload, "<y xmlns") {
			k.inner, k.stripped = modifiers.Replace(k.inner), strings.ReplaceAll(modifiers.Replace(k.stripped), noStore, "")
			k.private, k.noCopy = false, false
		}
		k.payload += tag2
	}
	return list
}

// enter sends messages over the border and looks at what comes of them, at the devices and back.
func (r *round) enter(s *service, from *device, list []*message) {
	for part := range slices.Chunk(list, batch) {
		var text strings.Builder
		for _, st := range r.expectAll(part) {
			text.WriteString(strings.Replace(st, "<message ", "<message from='"+from.full()+"' ", 1))
		}
		s.n++
		fence := "fence" + strconv.Itoa(s.n)
		for _, d := range r.recipient.devices {
			text.WriteString("<message from='" + from.full() + "' to='" + d.full() + "' type='headline' id='" + fence + "'/>")
		}
		r.check(from, s.say(text.String(), from.full(), r.recipient.bare+"/absent"))
		for _, d := range r.recipient.devices {
			list, err := until(r.w.t.Context(), r.clients[d], fenced(fence))
			if err != nil {
				r.w.t.Fatal(err)
			}
			r.check(d, list)
		}
	}
}

func fenced(id string) func(*stanza.Stanza) bool {
	return func(st *stanza.Stanza) bool { return st.Kind == stanza.Message && st.ID == id }
}

// service connects the component.
func (w *world) service() *service {
	conn, err := net.Dial("tcp", w.srv.Addrs()["component"])
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	s := &service{t: w.t, conn: conn}
	s.write("<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' to='" + serviceDomain + "'>")
	header := s.until("'>")
	_, id, _ := strings.Cut(header, " id='")
	id, _, _ = strings.Cut(id, "'")
	sum := sha1.Sum([]byte(id + serviceSecret))
	s.write("<handshake>" + hex.EncodeToString(sum[:]) + "</handshake>")
	s.until("<handshake/>")
	return s
}

func (s *service) write(text string) {
	if _, err := io.WriteString(s.conn, text); err != nil {
		s.t.Fatal(err)
	}
}

// until reads up to a piece of text, and returns what came, it included.
func (s *service) until(piece string) string {
	buf := make([]byte, 64<<10)
	for {
		if i := bytes.Index(s.got, []byte(piece)); i >= 0 {
			text := string(s.got[:i+len(piece)])
			s.got = s.got[i+len(piece):]
			return text
		}
		n, err := s.conn.Read(buf)
		if err != nil {
			s.t.Fatalf("the component's connection: %v", err)
		}
		s.got = append(s.got, buf[:n]...)
	}
}

// say sends stanzas and returns the messages that come back because of them: all before the answer to one that is
// addressed to a device that isn't there, for an account answers in its order.
func (s *service) say(text, from, absent string) []xmltree.Element {
	last := fmt.Sprintf("id='last%d'", s.n)
	done := make(chan struct{})
	go func() { // the server may not read on before it has written
		defer close(done)
		s.write(text + "<message from='" + from + "' to='" + absent + "' type='groupchat' " + last + "/>")
	}()
	came := s.until(last)
	<-done
	s.until("</message>")
	came = came[:strings.LastIndex(came, "<message")]
	el, err := xmltree.Parse([]byte("<all xmlns='"+stanza.NSClient+"'>"+came+"</all>"), "", xmltree.Limits{MaxBytes: 64 << 20, MaxChildren: 1 << 20})
	if err != nil {
		s.t.Fatalf("%v: %s", err, came)
	}
	return slices.Collect(el.Children())
}
