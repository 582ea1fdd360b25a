package stream

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

var (
	verona = jid.MustParse("verona.lit")
	romeo  = jid.MustParse("romeo@verona.lit")
)

func testConfig() *ServerConfig {
	n := 0
	return &ServerConfig{
		Register: true,
		Domain: func(to string) (jid.JID, bool) {
			j, err := jid.Parse(to)
			return verona, err == nil && j == verona
		},
		Fallback:     verona,
		NewID:        func() string { n++; return strconv.Itoa(n) },
		EarlyLimits:  xmltree.Limits{MaxBytes: 2000, MaxDepth: 4},
		Limits:       xmltree.Limits{MaxBytes: 4000},
		EarlySeconds: 30,
		IdleSeconds:  300,
		Features:     []byte("<csi xmlns='urn:xmpp:csi:0'/>"),
		BindInline:   []string{"urn:xmpp:carbons:2", "urn:xmpp:sm:3"},
		Upgrades:     []string{"UPGR-SCRAM-SHA-256", "UPGR-SCRAM-SHA-512"},
	}
}

// driver makes the decisions that a server would: data "ok" is let in, "more"
// challenged, all else refused; the resource "taken" is taken; the session
// "old" can be resumed. What is said and what happens is written down.
//
// With SASL2, "task" has the upgrades of the login done first, and what the login
// asks for is granted as Bind and SMResume are; the tag "taken" can't be bound.
type driver struct {
	m     *Server
	out   strings.Builder
	login *Login
	tasks []string
}

func (d *driver) feed(in []byte) {
	for len(in) > 0 {
		ev, n, out := d.m.Next(in, nil)
		in = in[n:]
		d.out.Write(d.decide(&ev, out))
	}
}

func (d *driver) decide(ev *Event, out []byte) []byte {
	m := d.m
	note := func(format string, args ...any) []byte { return fmt.Appendf(out, "["+format+"]", args...) }
	switch ev.Kind {
	case NeedMore, Opened:
		return out
	case StartTLS:
		m.Secured(Offer{
			Mechanisms: []string{"SCRAM-SHA-1-PLUS", "SCRAM-SHA-1"},
			Bindings:   []string{"tls-exporter"},
			Tokens:     []string{"HT-SHA-256-EXPR", "HT-SHA-256-NONE"},
		})
		return note("TLS")
	case Auth, AuthResponse:
		if ev.Login != nil {
			d.login = ev.Login
		} else if ev.Kind == Auth {
			d.login = nil
		}
		if d.login != nil && (string(ev.Data) == "ok" || string(ev.Data) == "empty" || string(ev.Data) == "task") {
			return d.welcome(out, ev.Data)
		}
		switch string(ev.Data) {
		case "ok":
			out, _ = m.Success(out, []byte("proof"), romeo)
			return out
		case "empty":
			out, _ = m.Success(out, []byte{}, romeo)
			return out
		case "more":
			return m.Challenge(out, []byte("why"))
		}
		return m.Failure(out, sasl.NotAuthorized, "")
	case AuthAbort:
		return note("aborted")
	case Task:
		return m.TaskData(out, []byte("<salt xmlns='urn:x'/>"))
	case TaskData:
		if ev.Element.Child("urn:x", "hash").Text() != "ok" {
			return m.Failure(out, sasl.MalformedRequest, "")
		}
		return d.welcome(out, nil)
	case Bind:
		switch ev.Name {
		case "taken":
			return m.BindFailed(out, stanza.NewError(stanza.Conflict, ""))
		case "":
			ev.Name = "made-up"
		}
		full, _ := romeo.WithResource(ev.Name)
		return m.Bound(out, full)
	case SMEnable:
		if ev.Max == 13*time.Second {
			return m.SMFailed(out, stanza.NewError(stanza.InternalServerError, ""))
		}
		return m.Enabled(out, "id<1>", ev.Resume, ev.Max)
	case SMResume:
		if ev.Name != "old" {
			return m.ResumeFailed(out, stanza.NewError(stanza.ItemNotFound, ""), 4, true)
		}
		full, _ := romeo.WithResource("back")
		return m.Resumed(out, full, ev.H)
	case Register:
		return m.Reply(note("register %s", ev.Stanza.AppendTo(nil)), ev.Stanza.Reply(""))
	case SMAck:
		return note("ack %d", ev.H)
	case SMRequest:
		return note("r")
	case Stanza:
		return note("%s", ev.Stanza.AppendTo(nil))
	case Answered:
		reply := "nothing"
		if ev.Reply != nil {
			reply = string(ev.Reply.AppendTo(nil))
		}
		return note("answered %s", reply)
	case Element:
		return note("element %s", ev.Element.Raw())
	case Closed:
		return m.End(note("closed"), nil)
	case PeerError:
		return m.End(note("peer: %s", ev.Err.Condition), nil)
	case Failed:
		return m.End(out, ev.Err)
	}
	return note("unexpected event %d", ev.Kind)
}

const (
	open    = "<?xml version='1.0'?><stream:stream to='verona.lit' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
	tls     = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
	auth    = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-1'>b2s=</auth>"
	bind    = "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>balcony</resource></bind></iq>"
	bindEnd = "</bind></iq>"

	plainFeatures = "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls></stream:features>"
	secureOffers  = "<stream:features><sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'><channel-binding type='tls-exporter'/></sasl-channel-binding>" +
		"<authentication xmlns='urn:xmpp:sasl:2'><mechanism>SCRAM-SHA-1-PLUS</mechanism><mechanism>SCRAM-SHA-1</mechanism><inline>" +
		"<bind xmlns='urn:xmpp:bind:0'><inline><feature var='urn:xmpp:carbons:2'/><feature var='urn:xmpp:sm:3'/></inline></bind><sm xmlns='urn:xmpp:sm:3'/>" +
		"<fast xmlns='urn:xmpp:fast:0'><mechanism>HT-SHA-256-EXPR</mechanism><mechanism>HT-SHA-256-NONE</mechanism></fast></inline>" +
		"<upgrade xmlns='urn:xmpp:sasl:upgrade:0'>UPGR-SCRAM-SHA-256</upgrade><upgrade xmlns='urn:xmpp:sasl:upgrade:0'>UPGR-SCRAM-SHA-512</upgrade></authentication>" +
		"<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>SCRAM-SHA-1-PLUS</mechanism><mechanism>SCRAM-SHA-1</mechanism></mechanisms>" +
		"<register xmlns='http://jabber.org/features/iq-register'/>" +
		"<limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>2000</max-bytes><idle-seconds>30</idle-seconds></limits>"
	authedFeatures = "<stream:features><limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>4000</max-bytes><idle-seconds>300</idle-seconds></limits>" +
		"<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/><session xmlns='urn:ietf:params:xml:ns:xmpp-session'><optional/></session><sm xmlns='urn:xmpp:sm:3'/>" +
		"<csi xmlns='urn:xmpp:csi:0'/></stream:features>"
	success = "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>cHJvb2Y=</success>"
	bound   = "<iq id='b' type='result'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>romeo@verona.lit/balcony</jid></bind></iq>"
	end     = "</stream:stream>"
)

// version is XEP-0509's name of what is offered.
var (
	version = func() string {
		sum := sha256.Sum256([]byte(secureOffers))
		return base64.RawURLEncoding.EncodeToString(sum[:12])
	}()
	secureFeatures = secureOffers + "<config-version xmlns='urn:xmpp:iap:0' scheme='opaque' value='" + version + "'/></stream:features>"
)

func head(id int, attrs ...string) string {
	to := ""
	if len(attrs) > 0 {
		to = " to='" + attrs[0] + "'"
	}
	return fmt.Sprintf("<?xml version='1.0'?><stream:stream from='verona.lit'%s id='%d' version='1.0' xml:lang='en' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>", to, id)
}

func streamError(condition string, text ...string) string {
	s := "<stream:error><" + condition + " xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
	if len(text) > 0 {
		s += "<text xmlns='urn:ietf:params:xml:ns:xmpp-streams' xml:lang='en'>" + text[0] + "</text>"
	}
	return s + "</stream:error></stream:stream>"
}

func saslFailure(condition string) string {
	return "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><" + condition + "/></failure>"
}

func smFailed(condition string) string {
	return "<failed xmlns='urn:xmpp:sm:3'><" + condition + " xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>"
}

func authWith(attrs, text string) string {
	return "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'" + attrs + ">" + text + "</auth>"
}

func response(text string) string {
	return "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>" + text + "</response>"
}

func iqError(id, typ, condition, text string) string {
	s := "<iq id='" + id + "' type='error'><error type='" + typ + "'><" + condition + " xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
	if text != "" {
		s += "<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>" + text + "</text>"
	}
	return s + "</error></iq>"
}

// The states that scripts begin in: what brings the stream there, and what the
// server says on the way.
var preludes = map[string][2]string{
	"plain":  {open, head(1) + plainFeatures},
	"secure": {open + tls + open, head(1) + plainFeatures + proceed + "[TLS]" + head(2) + secureFeatures},
	"authed": {open + tls + open + auth + open, head(1) + plainFeatures + proceed + "[TLS]" + head(2) + secureFeatures + success + head(3) + authedFeatures},
	"bound": {open + tls + open + auth + open + bind,
		head(1) + plainFeatures + proceed + "[TLS]" + head(2) + secureFeatures + success + head(3) + authedFeatures + bound},
}

func TestServer(t *testing.T) {
	plus := strings.ReplaceAll(auth, "SCRAM-SHA-1", "SCRAM-SHA-1-PLUS")
	noExchange := "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><malformed-request/><text xml:lang='en'>no exchange is running</text></failure>"
	enabled := "<enabled xmlns='urn:xmpp:sm:3'/>"
	for _, tt := range []struct{ name, state, in, want string }{
		// Headers, RFC 6120 4.7 to 4.9.
		{"header/from", "", strings.Replace(open, " to=", " from='romeo@verona.lit' to=", 1), head(1, "romeo@verona.lit") + plainFeatures},
		{"header/no declaration", "", strings.TrimPrefix(open, "<?xml version='1.0'?>"), head(1) + plainFeatures},
		{"header/other prefix", "", "<s:stream to='verona.lit' version='1.0' xmlns='jabber:client' xmlns:s='http://etherx.jabber.org/streams'></s:stream>", head(1) + plainFeatures + "[closed]" + end},
		{"header/newer version", "", strings.Replace(open, "n='1.0' xmlns", "n='2.10' xmlns", 1), head(1) + plainFeatures},
		{"header/old version", "", strings.Replace(open, "n='1.0' xmlns", "n='0.9' xmlns", 1), head(1) + streamError("unsupported-version")},
		{"header/bad version", "", strings.Replace(open, "n='1.0' xmlns", "n='one' xmlns", 1), head(1) + streamError("unsupported-version")},
		{"header/no version", "", strings.Replace(open, " version='1.0' xmlns", " xmlns", 1), strings.Replace(head(1), " version='1.0' xml:lang", " xml:lang", 1) + streamError("unsupported-version")},
		{"header/host unknown", "", strings.Replace(open, "verona.lit", "mantua.lit", 1), head(1) + streamError("host-unknown")},
		{"header/no host", "", strings.Replace(open, " to='verona.lit'", "", 1), head(1) + streamError("host-unknown")},
		{"header/host in capitals", "", strings.Replace(open, "verona.lit", "Verona.LIT", 1), head(1) + plainFeatures},
		{"header/stream namespace", "", strings.Replace(open, "http://etherx.jabber.org/streams", "http://wrong.example", 1), head(1) + streamError("invalid-namespace", "not a stream")},
		{"header/content namespace", "", strings.Replace(open, "jabber:client", "jabber:server", 1), head(1) + streamError("invalid-namespace", "this port is for jabber:client")},
		{"header/no content namespace", "", strings.Replace(open, " xmlns='jabber:client'", "", 1), head(1) + streamError("invalid-namespace", "this port is for jabber:client")},
		{"header/not a stream", "", strings.Replace(open, "<stream:stream", "<stream:river", 1), head(1) + streamError("bad-format", "not a stream")},
		{"header/encoding", "", "<?xml version='1.0' encoding='ISO-8859-1'?>", head(1) + streamError("unsupported-encoding", "*")},
		{"header/http", "", "GET / HTTP/1.1\r\n", head(1) + streamError("not-well-formed", "*")},
		{"header/doctype", "", "<!DOCTYPE x>", head(1) + streamError("restricted-xml", "*")},
		{"header/too long", "", "<stream:stream a='" + strings.Repeat("x", 2000), head(1) + streamError("policy-violation", "too large")},

		// XML, RFC 6120 11.
		{"xml/comment", "plain", "<!-- hello -->", streamError("restricted-xml", "*")},
		{"xml/pi", "plain", "<?php ?>", streamError("restricted-xml", "*")},
		{"xml/entity", "plain", "<a>&nbsp;</a>", streamError("restricted-xml", "*")},
		{"xml/mismatch", "plain", "<a></b>", streamError("not-well-formed", "*")},
		{"xml/prefix", "plain", "<a:b/>", streamError("not-well-formed", "*")},
		{"xml/utf-8", "plain", "<a>\xff</a>", streamError("unsupported-encoding", "not UTF-8")},
		{"xml/text", "plain", "hello", streamError("bad-format", "text between stanzas")},
		{"xml/depth", "plain", "<a><a><a><a><a>", streamError("policy-violation", "too deep")},
		{"xml/size", "plain", "<a>" + strings.Repeat("x", 2000), streamError("policy-violation", "too large")},
		{"xml/white space", "plain", " \n\t ", ""},
		{"xml/size when bound", "bound", "<message><body>" + strings.Repeat("x", 3900) + "</body></message><message>" + strings.Repeat("x", 4000),
			"[<message from='romeo@verona.lit/balcony'><body>" + strings.Repeat("x", 3900) + "</body></message>]" + streamError("policy-violation", "too large")},

		// Before TLS, RFC 6120 5, RFC 7590.
		{"plain/auth", "plain", auth, saslFailure("encryption-required") + streamError("policy-violation", "TLS is required")},
		{"plain/message", "plain", "<message/>", streamError("not-authorized")},
		{"plain/bind", "plain", bind, streamError("not-authorized")},
		{"plain/unknown", "plain", "<what xmlns='urn:x'/>", streamError("unsupported-stanza-type")},
		{"plain/sasl2", "plain", "<authenticate xmlns='urn:xmpp:sasl:2'/>", sasl2Failure("encryption-required", "") + streamError("policy-violation", "TLS is required")},
		{"plain/sm", "plain", "<enable xmlns='urn:xmpp:sm:3'/>", smFailed("unexpected-request")},
		{"plain/close", "plain", end, "[closed]" + end},
		{"plain/peer error", "plain", "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>", "[peer: conflict]" + end},
		{"secure/starttls", "secure", tls, "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>" + streamError("policy-violation", "STARTTLS was not offered")},

		// SASL, RFC 6120 6.
		{"sasl/plus", "secure", plus, success},
		{"sasl/challenge", "secure", authWith(" mechanism='SCRAM-SHA-1'", "bW9yZQ==") + response("bW9yZQ==") + response("b2s="),
			strings.Repeat("<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>d2h5</challenge>", 2) + success},
		{"sasl/no initial response", "secure", authWith(" mechanism='SCRAM-SHA-1'", "") + response("b2s="), "<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>" + success},
		{"sasl/empty initial response", "secure", authWith(" mechanism='SCRAM-SHA-1'", "="), saslFailure("not-authorized")},
		{"sasl/empty success", "secure", authWith(" mechanism='SCRAM-SHA-1'", "ZW1wdHk="), "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>=</success>"},
		{"sasl/no mechanism", "secure", authWith("", "b2s="), saslFailure("invalid-mechanism")},
		{"sasl/unknown mechanism", "secure", authWith(" mechanism='PLAIN'", "b2s="), saslFailure("invalid-mechanism")},
		{"sasl/bad base64", "secure", authWith(" mechanism='SCRAM-SHA-1'", "b2s"), saslFailure("incorrect-encoding")},
		{"sasl/padding bits", "secure", authWith(" mechanism='SCRAM-SHA-1'", "b2t="), saslFailure("incorrect-encoding")},
		{"sasl/line break", "secure", authWith(" mechanism='SCRAM-SHA-1'", "b2\ns="), saslFailure("incorrect-encoding")},
		{"sasl/children", "secure", authWith(" mechanism='SCRAM-SHA-1'", "<x/>"), saslFailure("malformed-request")},
		{"sasl/bad response", "secure", authWith(" mechanism='SCRAM-SHA-1'", "bW9yZQ==") + response("!"),
			"<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>d2h5</challenge>" + saslFailure("incorrect-encoding") + "[aborted]"},
		{"sasl/response without auth", "secure", response("b2s="), noExchange},
		{"sasl/response after failure", "secure", authWith(" mechanism='SCRAM-SHA-1'", "bm8=") + response("b2s="), saslFailure("not-authorized") + noExchange},
		{"sasl/abort", "secure", authWith(" mechanism='SCRAM-SHA-1'", "bW9yZQ==") + "<abort xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>" + response("b2s="),
			"<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>d2h5</challenge>" + saslFailure("aborted") + "[aborted]" + noExchange},
		{"sasl/second auth replaces the first", "secure", authWith(" mechanism='SCRAM-SHA-1'", "bW9yZQ==") + auth, "<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>d2h5</challenge>" + success},
		{"sasl/retries", "secure", strings.Repeat(authWith(" mechanism='SCRAM-SHA-1'", "bm8="), 6),
			strings.Repeat(saslFailure("not-authorized"), 5) + streamError("policy-violation", "too many attempts to authenticate")},
		{"sasl/never finished", "secure", strings.Repeat(authWith(" mechanism='SCRAM-SHA-1'", ""), 6),
			strings.Repeat("<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>", 5) + streamError("policy-violation", "too many attempts to authenticate")},
		{"sasl/stanza", "secure", "<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>", streamError("not-authorized")},
		{"sasl/again", "authed", auth, streamError("policy-violation", "authenticated already")},
		{"sasl/stanza instead of header", "secure", auth + "<message/>", success + strings.Replace(head(3), " version='1.0' xml:lang", " xml:lang", 1) + streamError("invalid-namespace", "not a stream")},

		// Registration, XEP-0077.
		{"register/get", "secure", "<iq type='get' id='r' to='verona.lit'><query xmlns='jabber:iq:register'/></iq>",
			"[register <iq to='verona.lit' id='r' type='get'><query xmlns='jabber:iq:register'/></iq>]<iq from='verona.lit' id='r' type='result'/>"},
		{"register/from", "secure", "<iq type='get' id='r' from='x@y'><query xmlns='jabber:iq:register'/></iq>",
			"[register <iq id='r' type='get'><query xmlns='jabber:iq:register'/></iq>]<iq id='r' type='result'/>"},
		{"register/result", "secure", "<iq type='result' id='r'><query xmlns='jabber:iq:register'/></iq>", ""},
		{"register/no id", "secure", "<iq type='get'><query xmlns='jabber:iq:register'/></iq>",
			"<iq type='error'><error type='modify'><bad-request xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>*</text></error></iq>"},
		{"register/too often", "secure", strings.Repeat("<iq type='error' id='r'><query xmlns='jabber:iq:register'/></iq>", 11), streamError("policy-violation", "too many requests for an account")},
		{"register/before TLS", "plain", "<iq type='get' id='r'><query xmlns='jabber:iq:register'/></iq>", streamError("not-authorized")},
		{"register/after the login", "authed", "<iq type='get' id='r'><query xmlns='jabber:iq:register'/></iq>", streamError("not-authorized")},

		// Resource binding, RFC 6120 7.
		{"bind/generated", "authed", "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>", strings.Replace(bound, "balcony", "made-up", 1)},
		{"bind/empty resource", "authed", strings.Replace(bind, "balcony", "", 1), strings.Replace(bound, "balcony", "made-up", 1)},
		{"bind/escaped", "authed", strings.Replace(bind, "balcony", "a&lt;b&apos;", 1), strings.Replace(bound, "balcony", "a&lt;b'", 1)},
		{"bind/conflict, then another", "authed", strings.Replace(bind, "balcony", "taken", 1) + bind, iqError("b", "cancel", "conflict", "") + bound},
		{"bind/bad resource", "authed", strings.Replace(bind, "balcony", "\u0007"+strings.Repeat("x", 1100), 1), streamError("not-well-formed", "*")},
		{"bind/long resource", "authed", strings.Replace(bind, "balcony", strings.Repeat("x", 1100), 1), iqError("b", "modify", "bad-request", "not a resource")},
		{"bind/get", "authed", strings.Replace(bind, "'set'", "'get'", 1), iqError("b", "modify", "bad-request", "")},
		{"bind/no id", "authed", strings.Replace(bind, " id='b'", "", 1), "<iq type='error'><error type='modify'><bad-request xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>*</text></error></iq>"},
		{"bind/retries", "authed", strings.Repeat(strings.Replace(bind, "balcony", "taken", 1), 11),
			strings.Repeat(iqError("b", "cancel", "conflict", ""), 10) + streamError("policy-violation", "too many attempts to bind a resource")},
		{"bind/twice", "bound", bind, "[answered <iq to='romeo@verona.lit/balcony' id='b' type='error'><error type='cancel'><not-allowed xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>a resource is bound already</text></error></iq>]"},
		{"bind/stanza first", "authed", "<presence/>", streamError("not-authorized")},
		{"bind/other iq first", "authed", "<iq type='set' id='1'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>", streamError("not-authorized")},
		{"session", "bound", "<iq type='set' id='1' to='verona.lit'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>",
			"[answered <iq from='verona.lit' to='romeo@verona.lit/balcony' id='1' type='result'/>]"},

		// Restarts.
		{"restart/other host", "secure", auth + strings.Replace(open, "verona.lit", "mantua.lit", 1), success + head(3) + streamError("host-unknown")},
		{"restart/other from", "secure", auth + strings.Replace(open, " to=", " from='juliet@verona.lit' to=", 1), success + head(3, "juliet@verona.lit") + streamError("invalid-from")},
		{"restart/full from", "secure", auth + strings.Replace(open, " to=", " from='romeo@verona.lit/x' to=", 1), success + head(3, "romeo@verona.lit") + authedFeatures},

		// Stanzas.
		{"stanza/message", "bound", "<message to='juliet@verona.lit' type='chat'><body>wherefore</body></message>\n",
			"[<message from='romeo@verona.lit/balcony' to='juliet@verona.lit' type='chat'><body>wherefore</body></message>]"},
		{"stanza/from bare", "bound", "<message from='romeo@verona.lit'/>", "[<message from='romeo@verona.lit/balcony'/>]"},
		{"stanza/from full", "bound", "<message from='romeo@verona.lit/balcony'/>", "[<message from='romeo@verona.lit/balcony'/>]"},
		{"stanza/from another resource", "bound", "<message from='romeo@verona.lit/x'/>", streamError("invalid-from")},
		{"stanza/from another", "bound", "<message from='juliet@verona.lit'/>", streamError("invalid-from")},
		{"stanza/from nonsense", "bound", "<message from='@'/>", streamError("invalid-from")},
		{"stanza/bad to", "bound", "<message to='@' id='1'/><presence/>",
			"[answered <message to='romeo@verona.lit/balcony' id='1' type='error'><error type='modify'><jid-malformed xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>*</text></error></message>][<presence from='romeo@verona.lit/balcony'/>]"},
		{"stanza/bad error", "bound", "<message to='@' type='error'/>", "[answered nothing]"},
		{"stanza/iq without id", "bound", "<iq type='get'><q xmlns='x'/></iq>",
			"[answered <iq to='romeo@verona.lit/balcony' type='error'><error type='modify'><bad-request xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>*</text></error></iq>]"},
		{"stanza/unknown", "bound", "<letter/>", streamError("unsupported-stanza-type")},
		{"stanza/sasl", "bound", auth, streamError("policy-violation", "authenticated already")},
		{"stanza/starttls", "bound", tls, "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>" + streamError("policy-violation", "STARTTLS was not offered")},
		{"stanza/features", "bound", "<stream:features/>", streamError("unsupported-stanza-type")},
		{"stanza/element", "bound", "<active xmlns='urn:xmpp:csi:0'/>", "[element <active xmlns='urn:xmpp:csi:0'/>]"},
		{"stanza/close", "bound", "<presence type='unavailable'/></stream:stream><message/>", "[<presence from='romeo@verona.lit/balcony' type='unavailable'/>][closed]" + end},

		// Stream management, XEP-0198.
		{"sm/too early", "authed", "<enable xmlns='urn:xmpp:sm:3'/>" + bind, smFailed("unexpected-request") + bound},
		{"sm/enable", "bound", "<enable xmlns='urn:xmpp:sm:3'/><r xmlns='urn:xmpp:sm:3'/><a xmlns='urn:xmpp:sm:3' h='4294967295'/>", enabled + "[r][ack 4294967295]"},
		{"sm/enable resume true", "bound", "<enable xmlns='urn:xmpp:sm:3' resume='true' max='60'/>", "<enabled xmlns='urn:xmpp:sm:3' id='id&lt;1>' resume='true' max='60'/>"},
		{"sm/enable resume 1", "bound", "<enable xmlns='urn:xmpp:sm:3' resume='1'/>", "<enabled xmlns='urn:xmpp:sm:3' id='id&lt;1>' resume='true'/>"},
		{"sm/enable resume 0", "bound", "<enable xmlns='urn:xmpp:sm:3' resume='0'/>", enabled},
		{"sm/enable resume maybe", "bound", "<enable xmlns='urn:xmpp:sm:3' resume='maybe'/>", smFailed("bad-request")},
		{"sm/enable max ever", "bound", "<enable xmlns='urn:xmpp:sm:3' max='ever'/>", smFailed("bad-request")},
		{"sm/enable twice", "bound", "<enable xmlns='urn:xmpp:sm:3'/><enable xmlns='urn:xmpp:sm:3'/>", enabled + enabled},
		{"sm/enable fails", "bound", "<enable xmlns='urn:xmpp:sm:3' max='13'/>", smFailed("internal-server-error")},
		{"sm/not enabled", "bound", "<r xmlns='urn:xmpp:sm:3'/><a xmlns='urn:xmpp:sm:3' h='0'/>", smFailed("unexpected-request") + smFailed("unexpected-request")},
		{"sm/ack without h", "bound", "<enable xmlns='urn:xmpp:sm:3'/><a xmlns='urn:xmpp:sm:3'/>", enabled + smFailed("bad-request")},
		{"sm/ack too big", "bound", "<enable xmlns='urn:xmpp:sm:3'/><a xmlns='urn:xmpp:sm:3' h='4294967296'/>", enabled + smFailed("bad-request")},
		{"sm/ack negative", "bound", "<enable xmlns='urn:xmpp:sm:3'/><a xmlns='urn:xmpp:sm:3' h='-1'/>", enabled + smFailed("bad-request")},
		{"sm/unknown", "bound", "<what xmlns='urn:xmpp:sm:3'/>", streamError("unsupported-stanza-type")},
		{"sm/resume when bound", "bound", "<resume xmlns='urn:xmpp:sm:3' previd='old' h='1'/>", smFailed("unexpected-request")},
		{"sm/resume", "authed", "<resume xmlns='urn:xmpp:sm:3' previd='old' h='7'/><r xmlns='urn:xmpp:sm:3'/><message/>",
			"<resumed xmlns='urn:xmpp:sm:3' h='7' previd='old'/>[r][<message from='romeo@verona.lit/back'/>]"},
		{"sm/resume unknown, then bind", "authed", "<resume xmlns='urn:xmpp:sm:3' previd='gone' h='7'/>" + bind,
			"<failed xmlns='urn:xmpp:sm:3' h='4'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>" + bound},
		{"sm/resume bad h", "authed", "<resume xmlns='urn:xmpp:sm:3' previd='old' h='x'/>", smFailed("bad-request")},
		{"sm/resume no id", "authed", "<resume xmlns='urn:xmpp:sm:3' h='1'/>", smFailed("bad-request")},
		{"sm/resume before the login", "secure", "<resume xmlns='urn:xmpp:sm:3' previd='old' h='7'/>", smFailed("unexpected-request")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pre := preludes[tt.state]
			in, want := []byte(pre[0]+tt.in), pre[1]+tt.want
			whole := &driver{m: NewServer(testConfig())}
			// <starttls/> ends a read: what follows comes after the handshake.
			first, rest, secured := strings.Cut(string(in), tls+open)
			if secured {
				whole.feed([]byte(first + tls))
				whole.feed([]byte(open + rest))
			} else {
				whole.feed(in)
			}
			if got := whole.out.String(); !matches(got, want) {
				t.Fatalf("got\n%s\nwant\n%s", got, want)
			}
			for size := 1; size <= 7; size += 3 {
				d := &driver{m: NewServer(testConfig())}
				for i := 0; i < len(in); i += size {
					if secured && i < len(first+tls) && i+size > len(first+tls) {
						d.feed(in[i:len(first+tls)])
						d.feed(in[len(first+tls) : i+size])
						continue
					}
					d.feed(in[i:min(i+size, len(in))])
				}
				if got := d.out.String(); got != whole.out.String() {
					t.Fatalf("in pieces of %d: got\n%s\nwant\n%s", size, got, whole.out.String())
				}
			}
			for cut := len(pre[0]); cut < len(in); cut++ {
				d := &driver{m: NewServer(testConfig())}
				if secured {
					d.feed([]byte(first + tls))
					d.feed(in[len(first+tls):cut])
				} else {
					d.feed(in[:cut])
				}
				d.feed(in[cut:])
				if got := d.out.String(); got != whole.out.String() {
					t.Fatalf("split at %d: got\n%s\nwant\n%s", cut, got, whole.out.String())
				}
			}
		})
	}
}

// matches compares, a * in want standing for any text without '<'.
func matches(got, want string) bool {
	for {
		before, after, star := strings.Cut(want, "*")
		if !strings.HasPrefix(got, before) {
			return false
		}
		got, want = got[len(before):], after
		if !star {
			return got == ""
		}
		i := strings.IndexByte(got, '<')
		if i < 0 {
			return false
		}
		got = got[i:]
	}
}

func TestStartTLSInjection(t *testing.T) {
	for _, tail := range []string{" " + auth, auth, "\x16\x03\x01"} {
		d := &driver{m: NewServer(testConfig())}
		d.feed([]byte(open + tls + tail))
		want := head(1) + plainFeatures + "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>" + streamError("policy-violation", "data behind &lt;starttls/&gt;")
		if got := d.out.String(); got != want {
			t.Errorf("behind <starttls/> %q: got\n%s\nwant\n%s", tail, got, want)
		}
	}
}

// TestLineFeeds: go-sendxmpp ends <starttls/> and <auth/> with a line feed,
// which reaches the server before the handshake and before the next header.
func TestLineFeeds(t *testing.T) {
	quiet, loud := &driver{m: NewServer(testConfig())}, &driver{m: NewServer(testConfig())}
	for _, in := range []string{open + tls, open + auth, open + bind} {
		quiet.feed([]byte(in))
		loud.feed([]byte(in + "\n"))
	}
	if got, want := loud.out.String(), quiet.out.String(); got != want || !strings.Contains(want, "<jid>") {
		t.Errorf("with line feeds\n%s\nwithout\n%s", got, want)
	}
}

// What was said before TLS must not be believed after it.
func TestSecuredForgets(t *testing.T) {
	d := &driver{m: NewServer(testConfig())}
	d.feed([]byte(strings.Replace(open, " to=", " from='juliet@verona.lit' xml:lang='it' to=", 1) + tls))
	d.feed([]byte(open + auth + open + bind + "<message/>"))
	if got := d.out.String(); !strings.HasSuffix(got, bound+"[<message from='romeo@verona.lit/balcony'/>]") {
		t.Error(got)
	}
}

func TestSuccessChecksFrom(t *testing.T) {
	d := &driver{m: NewServer(testConfig())}
	d.feed([]byte(open + tls))
	d.feed([]byte(strings.Replace(open, " to=", " from='juliet@verona.lit' to=", 1) + auth))
	want := "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><invalid-authzid/><text xml:lang='en'>the stream's 'from' is another account</text></failure>"
	if got := d.out.String(); !strings.HasSuffix(got, want) {
		t.Error(got)
	}
	if !d.m.Account().IsZero() {
		t.Error("let in as", d.m.Account())
	}
}

func TestStreamLanguage(t *testing.T) {
	for _, tt := range []struct{ header, want string }{
		{"en", ""}, {"it", " xml:lang='it'"}, {"de-CH", " xml:lang='de-CH'"},
		{"it'", ""}, {strings.Repeat("x", 36), ""},
	} {
		d := &driver{m: NewServer(testConfig())}
		lang := strings.ReplaceAll(tt.header, "'", "&apos;")
		d.feed([]byte(open + tls))
		d.feed([]byte(open + auth))
		d.feed([]byte(strings.Replace(open, " to=", " xml:lang='"+lang+"' to=", 1) + bind + "<message/><message xml:lang='fr'/>"))
		want := "[<message from='romeo@verona.lit/balcony'" + tt.want + "/>][<message from='romeo@verona.lit/balcony' xml:lang='fr'/>]"
		if got := d.out.String(); !strings.HasSuffix(got, want) {
			t.Errorf("%q: %s", tt.header, got)
		}
	}
}

func TestEndOnce(t *testing.T) {
	m := NewServer(testConfig())
	out := m.End(nil, stanza.NewStreamError(stanza.StreamSystemShutdown, ""))
	if got, want := string(out), head(1)+streamError("system-shutdown"); got != want {
		t.Errorf("got %s", got)
	}
	if out := m.End(nil, nil); len(out) != 0 {
		t.Errorf("a second end: %s", out)
	}
	if ev, n, out := m.Next([]byte(open), nil); ev.Kind != NeedMore || n != len(open) || len(out) != 0 {
		t.Errorf("after the end: %v %d %s", ev.Kind, n, out)
	}
}

// FuzzServer: no input makes the machine panic, hang, or say more than a bounded
// amount per byte, and how it is split makes no difference.
func FuzzServer(f *testing.F) {
	for _, pre := range preludes {
		f.Add([]byte(pre[0]+"<message/>"+end), uint8(3), true)
	}
	f.Add([]byte(open+auth+open+"<resume xmlns='urn:xmpp:sm:3' previd='old' h='7'/><r xmlns='urn:xmpp:sm:3'/>"), uint8(1), false)
	f.Fuzz(func(t *testing.T, in []byte, size uint8, plain bool) {
		run := func(size int) string {
			d := &driver{m: NewServer(testConfig())}
			if !plain {
				d.m.Secured(Offer{Mechanisms: []string{"SCRAM-SHA-1"}, Tokens: []string{"HT-SHA-256-NONE"}})
			}
			for i := 0; i < len(in); i += size {
				d.feed(in[i:min(i+size, len(in))])
				if strings.Contains(d.out.String(), "[TLS]") {
					return d.out.String() // the rest would be a handshake
				}
			}
			return d.out.String()
		}
		whole := run(len(in) + 1)
		if len(whole) > 4000+200*len(in) {
			t.Fatalf("%d bytes made %d", len(in), len(whole))
		}
		if parts := run(int(size)%16 + 1); parts != whole && !strings.Contains(whole, "data behind") {
			t.Fatalf("split differently: got\n%s\nwant\n%s", parts, whole)
		}
	})
}

func BenchmarkBoundStanza(b *testing.B) {
	d := &driver{m: NewServer(testConfig())}
	d.feed([]byte(open + tls))
	d.feed([]byte(open + auth + open + bind))
	in := []byte("<message to='juliet@verona.lit' type='chat' id='0123456789'><body>Wherefore art thou Romeo, and a bit more so that it is as long as usual?</body><active xmlns='http://jabber.org/protocol/chatstates'/></message>")
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		if ev, _, _ := d.m.Next(in, nil); ev.Kind != Stanza {
			b.Fatal(ev.Kind)
		}
	}
}
