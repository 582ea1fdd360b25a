package stream

import (
	"strings"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// pair joins a client to a server that decides as driver does.
type pair struct {
	t      *testing.T
	client *Client
	server *driver
	told   int // of the server's output that the client has read
}

func newPair(t *testing.T) *pair {
	return &pair{t: t, client: NewClient(&ClientConfig{Domain: verona, From: romeo}), server: &driver{m: NewServer(testConfig())}}
}

// say gives the server what the client wrote and returns the client's events.
func (p *pair) say(b []byte) []Event {
	p.t.Helper()
	p.server.feed(b)
	out := p.server.out.String()[p.told:]
	p.told += len(out)
	// The driver's notes aren't on the wire.
	for _, note := range []string{"[TLS]", "[aborted]", "[r]", "[ack 3]", "[closed]"} {
		out = strings.ReplaceAll(out, note, "")
	}
	return p.hear(out)
}

func (p *pair) hear(out string) []Event {
	var list []Event
	for in := []byte(out); len(in) > 0; {
		ev, n := p.client.Next(in)
		in = in[n:]
		if ev.Kind != NeedMore {
			list = append(list, ev)
		}
	}
	return list
}

func (p *pair) want(evs []Event, kinds ...Kind) []Event {
	p.t.Helper()
	if len(evs) != len(kinds) {
		p.t.Fatalf("%d events, want %d: %v", len(evs), len(kinds), evs)
	}
	for i, k := range kinds {
		if evs[i].Kind != k {
			p.t.Fatalf("event %d is %d (%v), want %d", i, evs[i].Kind, evs[i].Err, k)
		}
	}
	return evs
}

func (p *pair) authed() {
	p.t.Helper()
	evs := p.want(p.say(p.client.Open(nil)), Opened, Features)
	if evs[0].Name != "verona.lit" || evs[1].Element.Child(NSTLS, "starttls").IsZero() {
		p.t.Fatal(evs)
	}
	p.want(p.say(p.client.StartTLS(nil)), StartTLS)
	p.client.Secured()
	p.want(p.say(p.client.Open(nil)), Opened, Features)
	p.want(p.say(p.client.Auth(nil, "SCRAM-SHA-1", nil)), AuthResponse)
	p.want(p.say(p.client.Abort(nil)), AuthFailure)
	ev := p.want(p.say(p.client.Auth(nil, "SCRAM-SHA-1", []byte{})), AuthFailure)[0]
	if ev.Name != "not-authorized" {
		p.t.Fatal(ev.Name)
	}
	ev = p.want(p.say(p.client.Auth(nil, "SCRAM-SHA-1", []byte("more"))), AuthResponse)[0]
	if string(ev.Data) != "why" {
		p.t.Fatalf("%q", ev.Data)
	}
	ev = p.want(p.say(p.client.Respond(nil, []byte("ok"))), AuthSuccess)[0]
	if string(ev.Data) != "proof" {
		p.t.Fatalf("%q", ev.Data)
	}
	p.want(p.say(p.client.Open(nil)), Opened, Features)
}

func TestClient(t *testing.T) {
	p := newPair(t)
	p.server.out.Reset()
	p.authed()
	ev := p.want(p.say(p.client.Bind(nil, "1", "taken")), BindFailure)[0]
	if ev.StanzaErr.Condition != stanza.Conflict {
		t.Error(ev.StanzaErr)
	}
	ev = p.want(p.say(p.client.Bind(nil, "2", "a&b")), Bind)[0]
	if ev.JID.String() != "romeo@verona.lit/a&b" {
		t.Error(ev.JID)
	}
	ev = p.want(p.say(p.client.Enable(nil, true, time.Minute)), SMEnabled)[0]
	if ev.Name != "id<1>" || !ev.Resume || ev.Max != time.Minute {
		t.Error(ev)
	}
	p.want(p.say(AppendAckRequest(AppendAck(nil, 3))))
	evs := p.want(p.hear("<message from='juliet@verona.lit'><body>hi</body></message><r xmlns='urn:xmpp:sm:3'/><a xmlns='urn:xmpp:sm:3' h='2'/><x xmlns='y'/><message to='@'/>"),
		Stanza, SMRequest, SMAck, Element, Answered)
	if evs[0].Stanza.From.String() != "juliet@verona.lit" || evs[2].H != 2 {
		t.Error(evs)
	}
	p.want(p.say(p.client.End(nil, nil)), Closed)
	if out := p.client.End(nil, nil); out != nil {
		t.Errorf("a second end: %s", out)
	}
}

func TestClientResume(t *testing.T) {
	p := newPair(t)
	p.authed()
	ev := p.want(p.say(p.client.Resume(nil, "gone", 2)), SMFailed)[0]
	if ev.StanzaErr.Condition != stanza.ItemNotFound || ev.H != 4 || !ev.Known {
		t.Error(ev)
	}
	ev = p.want(p.say(p.client.Resume(nil, "old", 9)), SMResumed)[0]
	if ev.Name != "old" || ev.H != 9 {
		t.Error(ev)
	}
}

func TestClientRefuses(t *testing.T) {
	server := head(1)
	for _, tt := range []struct{ in, condition string }{
		{strings.Replace(server, "'jabber:client'", "'jabber:server'", 1), stanza.StreamInvalidNamespace},
		{strings.Replace(server, " version='1.0' xml", " xml", 1), stanza.StreamUnsupportedVersion},
		{server + "<!-- -->", stanza.StreamRestrictedXML},
		{server + proceed + " ", stanza.StreamPolicyViolation},
		{server + "<failure xmlns='" + NSTLS + "'/>", stanza.StreamPolicyViolation},
		{server + "<challenge xmlns='" + NSSASL + "'>!</challenge>", stanza.StreamBadFormat},
		{server + "<a xmlns='" + NSSM + "'/>", stanza.StreamBadFormat},
		{server + "<a>" + strings.Repeat("x", 300), stanza.StreamPolicyViolation},
	} {
		c := NewClient(&ClientConfig{Domain: verona, Limits: xmltree.Limits{MaxBytes: 300}})
		p := &pair{t: t, client: c}
		evs := p.hear(tt.in)
		last := evs[len(evs)-1]
		if last.Kind != Failed || last.Err.Condition != tt.condition {
			t.Errorf("%s: %v", tt.in, last)
		}
		if ev, n := c.Next([]byte("<x/>")); ev.Kind != NeedMore || n != 4 {
			t.Errorf("%s: went on", tt.in)
		}
	}
	p := &pair{t: t, client: NewClient(&ClientConfig{Domain: verona})}
	evs := p.hear(server + streamError("host-unknown", "gone fishing"))
	if last := evs[len(evs)-1]; last.Kind != PeerError || last.Err.Condition != stanza.StreamHostUnknown || last.Err.Text != "gone fishing" {
		t.Error(last)
	}
}

// The header tells who we are only under TLS (RFC 6120 4.7.1).
func TestClientHeader(t *testing.T) {
	c := NewClient(&ClientConfig{Domain: jid.MustParse("verona.lit"), From: romeo, Lang: "it"})
	if got := string(c.Open(nil)); strings.Contains(got, "romeo") || !strings.Contains(got, "xml:lang='it'") {
		t.Error(got)
	}
	c.Secured()
	if got := string(c.Open(nil)); !strings.Contains(got, "from='romeo@verona.lit'") {
		t.Error(got)
	}
}

func FuzzClient(f *testing.F) {
	f.Add([]byte(head(1) + plainFeatures + proceed))
	f.Add([]byte(head(1) + success + head(2) + bound + "<failed xmlns='urn:xmpp:sm:3' h='4'/>"))
	f.Fuzz(func(t *testing.T, in []byte) {
		c := NewClient(&ClientConfig{Domain: verona})
		for len(in) > 0 {
			ev, n := c.Next(in)
			if n == 0 && ev.Kind == NeedMore {
				t.Fatal("no progress")
			}
			in = in[n:]
		}
	})
}

// TestClientEarlyLimits: what may come grows when the server has let the client in.
func TestClientEarlyLimits(t *testing.T) {
	const open = "<?xml version='1.0'?><stream:stream from='verona.lit' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
	big := "<message><body>" + strings.Repeat("x", 5000) + "</body></message>"
	cfg := &ClientConfig{Domain: verona, From: romeo, Limits: xmltree.Limits{MaxBytes: 1 << 16}, EarlyLimits: xmltree.Limits{MaxBytes: 1000}}
	for in, want := range map[string]Kind{
		open + big: Failed,
		open + "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>" + open + big:                                                                                         Stanza,
		open + "<success xmlns='urn:xmpp:sasl:2'><authorization-identifier>romeo@verona.lit/x</authorization-identifier><bound xmlns='urn:xmpp:bind:0'/></success>" + big: Stanza,
	} {
		c := NewClient(cfg)
		c.Secured()
		var last Event
		for rest := []byte(in); len(rest) > 0; {
			ev, n := c.Next(rest)
			rest = rest[n:]
			if ev.Kind != NeedMore {
				last = ev
			}
		}
		if last.Kind != want {
			t.Errorf("%.200s: %v", in, last.Kind)
		}
	}
}

// TestClientSeeOtherHost: RFC 6120 4.9.3.19.
func TestClientSeeOtherHost(t *testing.T) {
	c := NewClient(&ClientConfig{Domain: verona})
	in := []byte("<stream:stream version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>" +
		"<stream:error><see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>[2001:db8::1]:9222</see-other-host></stream:error>")
	_, n := c.Next(in)
	if ev, _ := c.Next(in[n:]); ev.Kind != PeerError || ev.Err.Condition != stanza.StreamSeeOtherHost || ev.Name != "[2001:db8::1]:9222" {
		t.Errorf("%+v", ev)
	}
}
