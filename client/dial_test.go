package client

import (
	"context"
	"errors"
	mathrand "math/rand/v2"
	"net"
	"slices"
	"testing"

	"carillon.im/jid"
)

func srv(target string, port, priority, weight uint16) *net.SRV {
	return &net.SRV{Target: target, Port: port, Priority: priority, Weight: weight}
}

func TestOrder(t *testing.T) {
	for name, c := range map[string]struct {
		direct, plain []*net.SRV
		want          []Address
	}{
		"priority before kind":          {[]*net.SRV{srv("a.", 443, 20, 0)}, []*net.SRV{srv("b.", 5222, 10, 0)}, []Address{{Host: "b:5222"}, {Host: "a:443", TLS: true}}},
		"of one priority, direct first": {[]*net.SRV{srv("a.", 443, 5, 0)}, []*net.SRV{srv("b.", 5222, 5, 100)}, []Address{{Host: "a:443", TLS: true}, {Host: "b:5222"}}},
		"not here":                      {[]*net.SRV{srv(".", 0, 0, 0)}, []*net.SRV{srv("b.", 5222, 0, 0)}, []Address{{Host: "b:5222"}}},
		"IPv6":                          {nil, []*net.SRV{srv("::1", 5222, 0, 0)}, []Address{{Host: "[::1]:5222"}}},
		"nothing":                       {[]*net.SRV{srv(".", 0, 0, 0)}, []*net.SRV{srv(".", 0, 0, 0)}, nil},
	} {
		if got := order(c.direct, c.plain, mathrand.New(mathrand.NewPCG(1, 2))); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v", name, got)
		}
	}
	var many []*net.SRV
	for i := range 100 {
		many = append(many, srv("a.", uint16(i+1), 0, 0))
	}
	if got := order(many, many, mathrand.New(mathrand.NewPCG(1, 2))); len(got) != maxTargets {
		t.Errorf("%d addresses", len(got))
	}
}

// TestWeight: RFC 2782's proportions, roughly.
func TestWeight(t *testing.T) {
	rnd := mathrand.New(mathrand.NewPCG(1, 2))
	first := map[string]int{}
	for range 1000 {
		list := order([]*net.SRV{srv("heavy.", 1, 0, 90), srv("light.", 1, 0, 10), srv("none.", 1, 0, 0)}, nil, rnd)
		if len(list) != 3 {
			t.Fatal(list)
		}
		first[list[0].Host]++
	}
	if n := first["heavy:1"]; n < 850 || n > 950 {
		t.Errorf("%v", first)
	}
}

// names is a DNS with these records; an absent key is an error.
type names map[string][]*net.SRV

func (n names) LookupSRV(_ context.Context, service, proto, name string) (string, []*net.SRV, error) {
	records, ok := n["_"+service+"._"+proto+"."+name]
	if !ok {
		return "", nil, errors.New("no such host")
	}
	return "", records, nil
}

func TestTargets(t *testing.T) {
	for name, c := range map[string]struct {
		account string
		dns     names
		want    []Address
		err     error
	}{
		"no records":     {"a@b.example", names{}, []Address{{Host: "b.example:5223", TLS: true}, {Host: "b.example:5222"}}, nil},
		"an address":     {"a@192.0.2.1", nil, []Address{{Host: "192.0.2.1:5223", TLS: true}, {Host: "192.0.2.1:5222"}}, nil},
		"another":        {"a@[2001:db8::1]", nil, []Address{{Host: "[2001:db8::1]:5223", TLS: true}, {Host: "[2001:db8::1]:5222"}}, nil},
		"not here":       {"a@b.example", names{"_xmpp-client._tcp.b.example": {srv(".", 0, 0, 0)}}, nil, ErrNoService},
		"one kind":       {"a@b.example", names{"_xmpp-client._tcp.b.example": {srv("x.example.", 5222, 0, 0)}}, []Address{{Host: "x.example:5222"}}, nil},
		"not only ASCII": {"a@bücher.example", names{"_xmpps-client._tcp.xn--bcher-kva.example": {srv("x.example.", 443, 0, 0)}}, []Address{{Host: "x.example:443", TLS: true}}, nil},
	} {
		cfg, err := Config{Account: jid.MustParse(c.account), Resolver: c.dns}.complete()
		if err != nil {
			t.Fatal(err)
		}
		got, err := (&Client{cfg: cfg}).targets(t.Context())
		if !slices.Equal(got, c.want) || !errors.Is(err, c.err) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestHostMetaDocuments(t *testing.T) {
	const want = "wss://example.org/ws"
	json, err := jsonLinks([]byte(`{"links":[{"rel":"other","href":"x"},{"rel":"urn:xmpp:alt-connections:websocket","href":"` + want + `"}]}`))
	if err != nil || !slices.Equal(json, []string{want}) {
		t.Errorf("JSON: %v, %v", json, err)
	}
	// XEP-0156, example 2.
	xml, err := xmlLinks([]byte("<?xml version='1.0' encoding='utf-8'?>\n<XRD xmlns='http://docs.oasis-open.org/ns/xri/xrd-1.0'>\n" +
		"<Link rel='urn:xmpp:alt-connections:xbosh' href='https://example.org/b'/>\n<Link rel='urn:xmpp:alt-connections:websocket' href='" + want + "'/></XRD>"))
	if err != nil || !slices.Equal(xml, []string{want}) {
		t.Errorf("XML: %v, %v", xml, err)
	}
	for _, doc := range []string{"", "<html>", "<a><!DOCTYPE b></a>"} {
		if _, err := xmlLinks([]byte(doc)); err == nil {
			t.Errorf("%q is a document", doc)
		}
		if _, err := jsonLinks([]byte(doc)); err == nil {
			t.Errorf("%q is JSON", doc)
		}
	}
}

func TestPause(t *testing.T) {
	cfg, err := Config{Account: jid.MustParse("a@b")}.complete()
	if err != nil {
		t.Fatal(err)
	}
	c := &Client{cfg: cfg}
	want := cfg.RetryMin
	for range 40 {
		if got := c.pause(); got < want/2 || got > want {
			t.Errorf("%s, of %s", got, want)
		}
		want = min(2*want, cfg.RetryMax)
	}
}
