package lookup

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// zone serves records on loopback, by "name type"; a name with the record
// "SERVFAIL" fails.
func zone(t *testing.T, records map[string][]string, secure bool) *Resolver {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	answer := func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		name := strings.ToLower(q.Question[0].Name)
		m.AuthenticatedData = secure && !strings.HasPrefix(name, "insecure.")
		list, ok := records[name+" "+dns.TypeToString[q.Question[0].Qtype]]
		if !ok {
			m.Rcode = dns.RcodeNameError
			for have := range records {
				if strings.HasPrefix(have, name+" ") {
					m.Rcode = dns.RcodeSuccess
				}
			}
		}
		for _, one := range list {
			if one == "SERVFAIL" {
				m.Rcode = dns.RcodeServerFailure
				continue
			}
			rr, err := dns.NewRR(name + " 60 IN " + dns.TypeToString[q.Question[0].Qtype] + " " + one)
			if err != nil {
				t.Error(err)
			}
			m.Answer = append(m.Answer, rr)
		}
		if err := w.WriteMsg(m); err != nil {
			t.Error(err)
		}
	}
	s := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(answer)}
	go s.ActivateAndServe()
	t.Cleanup(func() { s.Shutdown() })
	r := New(pc.LocalAddr().String())
	r.order = func(int) int { return 0 }
	return r
}

func TestTargets(t *testing.T) {
	many := map[string][]string{}
	r := zone(t, map[string][]string{
		"_xmpp-server._tcp.both.example. SRV":          {"20 0 5269 c.both.example.", "10 5 5269 a.both.example."},
		"_xmpps-server._tcp.both.example. SRV":         {"10 0 443 B.both.example."},
		"_xmpp-server._tcp.none.example. SRV":          {"0 0 0 ."},
		"_xmpp-server._tcp.broken.example. SRV":        {"SERVFAIL"},
		"_xmpps-server._tcp.only.example. SRV":         {"0 0 0 ."},
		"_xmpp-server._tcp.only.example. SRV":          {"0 0 5269 x.only.example."},
		"plain.example. A":                             {"192.0.2.1", "192.0.2.2"},
		"plain.example. AAAA":                          {"2001:db8::1"},
		"_xmpp-server._tcp.xn--mller-kva.example. SRV": {"0 0 5269 u.example."},
	}, true)
	for domain, want := range map[string]string{
		"both.example":   "[{b.both.example 443 true true 10 0} {a.both.example 5269 false true 10 5} {c.both.example 5269 false true 20 0}]",
		"only.example":   "[{x.only.example 5269 false true 0 0}]",
		"plain.example":  "[{plain.example 5269 false false 0 0}]",
		"müller.example": "[{u.example 5269 false true 0 0}]",
		"192.0.2.7":      "[{192.0.2.7 5269 false false 0 0}]",
		"[2001:db8::7]":  "[{2001:db8::7 5269 false false 0 0}]",
		"localhost":      "[{localhost 5269 false false 0 0}]",
	} {
		got, err := r.Targets(t.Context(), domain)
		if err != nil || fmt.Sprint(got) != want {
			t.Errorf("%s: %v, %v\nwant %s", domain, got, err, want)
		}
	}
	// Too many places, the best of them named last: it is tried first.
	for i := range maxTargets + 2 {
		many["_xmpp-server._tcp.many.example. SRV"] = append(many["_xmpp-server._tcp.many.example. SRV"], fmt.Sprintf("%d 0 5269 h%d.example.", 20-i, i))
	}
	if got, err := zone(t, many, false).Targets(t.Context(), "many.example"); err != nil || len(got) != maxTargets || got[0].Host != "h17.example" || got[0].Secure {
		t.Errorf("many: %v, %v", got, err)
	}
	if _, err := r.Targets(t.Context(), "none.example"); !errors.Is(err, ErrNoService) {
		t.Errorf("none: %v", err)
	}
	if _, err := r.Targets(t.Context(), "broken.example"); err == nil || errors.Is(err, ErrNoService) {
		t.Errorf("broken: %v", err)
	}
	if got, err := r.Addresses(t.Context(), "plain.example"); fmt.Sprint(got) != "[2001:db8::1 192.0.2.1 192.0.2.2]" {
		t.Errorf("addresses: %v, %v", got, err)
	}
	if _, err := r.Addresses(t.Context(), "nowhere.example"); !errors.Is(err, ErrNoService) {
		t.Errorf("nowhere: %v", err)
	}
}

// TestWeights: each order of RFC 2782's choice comes up, as often as weights say.
func TestWeights(t *testing.T) {
	first := map[string]int{}
	for pick := range 31 {
		r := &Resolver{order: func(n int) int { return pick % n }}
		all := []Target{{Host: "a", Weight: 10}, {Host: "b", Weight: 20}, {Host: "z", Priority: 1}}
		r.sort(all)
		first[all[0].Host]++
		if all[2].Host != "z" {
			t.Errorf("the last is %s", all[2].Host)
		}
	}
	if first["a"] != 11 || first["b"] != 20 {
		t.Errorf("first: %v", first)
	}
}

// TestNoDNS: addresses and localhost ask nobody.
func TestNoDNS(t *testing.T) {
	r := New("127.0.0.1:1") // nobody
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for _, host := range []string{"192.0.2.7", "[2001:db8::7]", "localhost", "a.localhost"} {
		list, err := r.Targets(ctx, host)
		if err == nil {
			_, err = r.Addresses(ctx, list[0].Host)
		}
		if err == nil {
			_, err = r.TLSA(ctx, list[0].Host, Port)
		}
		if err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
}

// TestTLSA: only validated records count, and only of a server on this machine.
func TestTLSA(t *testing.T) {
	hash := strings.Repeat("ab", 32)
	records := map[string][]string{
		"h.example. A": {"192.0.2.1"}, "_5269._tcp.h.example. TLSA": {"3 1 1 " + hash},
		"six.example. AAAA": {"2001:db8::1"}, "_5269._tcp.six.example. TLSA": {"3 1 1 " + hash},
		"broken.example. A": {"192.0.2.1"}, "_5269._tcp.broken.example. TLSA": {"SERVFAIL"},
		"insecure.example. A": {"192.0.2.1"}, "_5269._tcp.insecure.example. TLSA": {"SERVFAIL"},
		"odd.example. A": {"192.0.2.1"}, "_5269._tcp.odd.example. TLSA": {"4 1 1 " + hash, "3 2 1 " + hash, "3 1 3 " + hash, "3 1 1 abab", "3 1 2 " + hash},
	}
	for _, secure := range []bool{true, false} {
		r := zone(t, records, secure)
		for host, want := range map[string]int{"h.example": 1, "six.example": 1, "insecure.example": 0, "odd.example": 0, "nowhere.example": 0} {
			if !secure {
				want = 0
			}
			if got, err := r.TLSA(t.Context(), host, 5269); err != nil || len(got) != want {
				t.Errorf("secure %v: %s: %v, %v", secure, host, got, err)
			}
		}
		if _, err := r.TLSA(t.Context(), "broken.example", 5269); secure && err == nil {
			t.Error("a failure was taken for no records")
		}
	}
	for server, want := range map[string]bool{"127.0.0.1:53": true, "[::1]:53": true, "192.0.2.1:53": false, "dns.example:53": false} {
		if loopback(server) != want {
			t.Errorf("%s", server)
		}
	}
}
