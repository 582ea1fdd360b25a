package external

import (
	"context"
	"strings"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// session is an asker with an account here.
type session struct{ feature.SessionRef }

func query(t *testing.T, payload string, own bool) *feature.Query {
	t.Helper()
	el, err := xmltree.Parse([]byte(payload), stanza.NSClient, xmltree.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	q := &feature.Query{Payload: el, IQ: &stanza.Stanza{Kind: stanza.IQ, From: jid.MustParse("bard@shakespeare.lit/globe")}}
	if own {
		q.Session = session{}
	}
	return q
}

// TestCredentials compares with a code that was computed by another program:
// printf '%s' "$username" | openssl dgst -sha1 -hmac north -binary | base64
func TestCredentials(t *testing.T) {
	s := Service{ExternalService: xep.ExternalService{Type: "turn", Host: "relay.shakespeare.lit", Port: 9999}, Secret: []byte("north"), Life: time.Hour}
	now := time.Unix(1_000_000_000, 500)
	one := s.For(jid.MustParse("bard@shakespeare.lit"), now)
	if one.Username != wantUser || one.Password != wantPassword || !one.Restricted || one.Expires.Unix() != 1_000_003_600 {
		t.Errorf("%+v", one)
	}
	if other := s.For(jid.MustParse("juliet@shakespeare.lit"), now); other.Username == one.Username || other.Password == one.Password {
		t.Error("two accounts have the same credentials")
	}
	if strings.Contains(one.Username, "bard") {
		t.Error("the service learns the name")
	}
}

func TestServices(t *testing.T) {
	f := New([]Service{
		{ExternalService: xep.ExternalService{Type: "stun", Host: "stun.shakespeare.lit", Port: 9998, Transport: "udp"}},
		{ExternalService: xep.ExternalService{Type: "turn", Host: "relay.shakespeare.lit", Port: 9999, Transport: "udp"}, Secret: []byte("north"), Life: time.Hour},
		{ExternalService: xep.ExternalService{Type: "ftp", Host: "ftp.shakespeare.lit", Username: "guest", Password: "guest"}},
	}, func() time.Time { return time.Unix(1_000_000_000, 0) })
	ask := func(payload string, own bool) string {
		q := query(t, payload, own)
		for _, iq := range f.IQs {
			if iq.Name == q.Payload.Name() {
				got, err := iq.Handle(context.Background(), q)
				if err != nil {
					return err.Error()
				}
				return got
			}
		}
		return "nobody"
	}
	stun := "<service type='stun' host='stun.shakespeare.lit' port='9998' transport='udp'/>"
	turn := "<service type='turn' host='relay.shakespeare.lit' port='9999' transport='udp' restricted='1' username='" + wantUser +
		"' password='" + wantPassword + "' expires='2001-09-09T02:46:40Z'/>"
	ftp := "<service type='ftp' host='ftp.shakespeare.lit' restricted='1' username='guest' password='guest'/>"
	const ns = " xmlns='urn:xmpp:extdisco:2'"
	for payload, want := range map[string]string{
		"<services" + ns + "/>":             "<services" + ns + ">" + stun + turn + ftp + "</services>",
		"<services" + ns + " type='turn'/>": "<services" + ns + " type='turn'>" + turn + "</services>",
		"<services" + ns + " type='x'/>":    "<services" + ns + " type='x'></services>",
		"<credentials" + ns + "><service host='relay.shakespeare.lit' type='turn'/></credentials>": "<credentials" + ns + ">" + turn + "</credentials>",
	} {
		if got := ask(payload, true); got != want {
			t.Errorf("%s:\n got %s\nwant %s", payload, got, want)
		}
		if got := ask(payload, false); !strings.Contains(got, "forbidden") {
			t.Errorf("a stranger is told %s", got)
		}
	}
	for payload, want := range map[string]string{
		"<credentials" + ns + "/>": "bad-request",
		"<credentials" + ns + "><service host='relay.shakespeare.lit' type='turn' port='1'/></credentials>": "item-not-found",
	} {
		if got := ask(payload, true); !strings.Contains(got, want) {
			t.Errorf("%s: %s", payload, got)
		}
	}
	if none := New(nil, time.Now); len(none.Disco)+len(none.IQs) != 0 {
		t.Error("a server without services says that it has some")
	}
}

const (
	wantUser     = "1000003600:9dd3efa02ff8c7d2"
	wantPassword = "4zq+qGAGgrQqX6qhc9++U3LW1ro="
)
