package stream

import (
	"strings"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

const agent = "<user-agent id='d4565fa7-4d72-4749-b3d3-740edbf87770'><software>AwesomeXMPP</software><device>Kiva's Phone</device></user-agent>"

// welcome does what a server's accounts would.
func (d *driver) welcome(out, data []byte) []byte {
	if !d.m.Accepts(romeo) {
		return d.m.Failure(out, "invalid-authzid", "")
	}
	l := d.login
	if string(data) == "task" && d.tasks == nil {
		d.tasks = l.Upgrades
	}
	proof := []byte("proof")
	if data == nil {
		proof = nil // it was told before the task
	} else if string(data) == "empty" {
		proof = []byte{}
	}
	if len(d.tasks) > 0 {
		task := d.tasks[0]
		d.tasks = d.tasks[1:]
		return d.m.Continue(out, proof, task)
	}
	w := &Welcome{}
	if r := l.Resume; r != nil {
		switch {
		case r.Err != nil:
			w.Failed = &xep.SMFailed{Err: r.Err}
		case r.ID != "old":
			w.Failed = &xep.SMFailed{Err: stanza.NewError(stanza.ItemNotFound, ""), H: 4, Known: true}
		default:
			w.Resumed, w.H = true, r.H
			w.Full, _ = romeo.WithResource("back")
		}
	}
	if b := l.Bind; b != nil && !w.Resumed && b.Tag != "taken" {
		w.Full, _ = romeo.WithResource(b.Tag + "/made-up")
		w.Bound = &Bound{Carbons: b.Carbons, IMNG: b.IMNG, Refused: b.Refused}
		if b.SM != nil && b.SM.Err != nil {
			w.Bound.SMFailed = &xep.SMFailed{Err: b.SM.Err}
		} else if b.SM != nil {
			w.Bound.SM = &xep.SMEnabled{ID: "id<1>", Resume: b.SM.Resume, Max: b.SM.Max}
		}
		if b.Session != nil {
			w.Bound.Session = []xep.SessionResult{}
			for _, ask := range b.Session.Parts {
				w.Bound.Session = append(w.Bound.Session, xep.SessionResult{Part: ask.Part, Room: ask.RoomText, Err: ask.Err})
			}
		}
	}
	if l.TokenFor != "" {
		w.Token = &xep.FastToken{Token: "new token", Expiry: time.Unix(0, 0)}
	}
	return d.m.Welcome(out, proof, romeo, w)
}

func sasl2Failure(condition, text string) string {
	s := "<failure xmlns='urn:xmpp:sasl:2'><" + condition + " xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"
	if text != "" {
		s += "<text xml:lang='en'>" + text + "</text>"
	}
	return s + "</failure>"
}

func authenticate(mechanism, inner string) string {
	return "<authenticate xmlns='urn:xmpp:sasl:2' mechanism='" + mechanism + "'>" + inner + "</authenticate>"
}

const (
	initialOK   = "<initial-response>b2s=</initial-response>"
	initialMore = "<initial-response>bW9yZQ==</initial-response>"
	initialTask = "<initial-response>dGFzaw==</initial-response>"
	proofData   = "<additional-data>cHJvb2Y=</additional-data>"

	boundFeatures = "<stream:features><limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>4000</max-bytes><idle-seconds>300</idle-seconds></limits>" +
		"<sm xmlns='urn:xmpp:sm:3'/><csi xmlns='urn:xmpp:csi:0'/></stream:features>"
	managedFeatures = "<stream:features><limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>4000</max-bytes><idle-seconds>300</idle-seconds></limits>" +
		"<csi xmlns='urn:xmpp:csi:0'/></stream:features>"
)

func success2(data, address, rest string) string {
	return "<success xmlns='urn:xmpp:sasl:2'>" + data + "<authorization-identifier>romeo@verona.lit" + address + "</authorization-identifier>" + rest + "</success>"
}

func bound2(inner string) string { return "<bound xmlns='urn:xmpp:bind:0'>" + inner + "</bound>" }

func response2(text string) string {
	return "<response xmlns='urn:xmpp:sasl:2'>" + text + "</response>"
}

func bind2(inner string) string { return "<bind xmlns='urn:xmpp:bind:0'>" + inner + "</bind>" }

// TestServerSASL2 is the table of what may be said in SASL2 and when.
func TestServerSASL2(t *testing.T) {
	const scram, token, challenge = "SCRAM-SHA-1", "HT-SHA-256-NONE", "<challenge xmlns='urn:xmpp:sasl:2'>d2h5</challenge>"
	progress := streamError("policy-violation", "authentication is in progress")
	profiles := streamError("policy-violation", "two profiles of SASL on one stream")
	already := streamError("policy-violation", "authenticated already")
	noExchange := sasl2Failure("malformed-request", "no exchange is running")
	mismatch := "<failure xmlns='urn:xmpp:sasl:2'><aborted xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/><config-version-mismatch xmlns='urn:xmpp:iap:0'/></failure>"
	fast := "<fast xmlns='urn:xmpp:fast:0'/>"
	message := "<message xmlns='jabber:client'/>"
	conflict := func(space string) string {
		return "<failed xmlns='" + space + "'><conflict xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>"
	}
	abort := "<abort xmlns='urn:xmpp:sasl:2'><text>no more</text></abort>"
	next := "<next xmlns='urn:xmpp:sasl:2' task='UPGR-SCRAM-SHA-256'/>"
	upgrade := "<upgrade xmlns='urn:xmpp:sasl:upgrade:0'>UPGR-SCRAM-SHA-256</upgrade>"
	cont := "<continue xmlns='urn:xmpp:sasl:2'>" + proofData + "<tasks><task>UPGR-SCRAM-SHA-256</task></tasks></continue>"
	taskData := func(inner string) string { return "<task-data xmlns='urn:xmpp:sasl:2'>" + inner + "</task-data>" }
	salt, hash := taskData("<salt xmlns='urn:x'/>"), taskData("<hash xmlns='urn:x'>ok</hash>")

	for _, tt := range []struct{ name, state, in, want string }{
		{"success", "secure", authenticate(scram, initialOK+agent), success2(proofData, "", "") + authedFeatures},
		{"classic binding afterwards", "secure", authenticate(scram, initialOK) + bind + "<message/>",
			success2(proofData, "", "") + authedFeatures + bound + "[<message from='romeo@verona.lit/balcony'/>]"},
		{"classic resumption afterwards", "secure", authenticate(scram, initialOK) + "<resume xmlns='urn:xmpp:sm:3' previd='old' h='7'/>",
			success2(proofData, "", "") + authedFeatures + "<resumed xmlns='urn:xmpp:sm:3' h='7' previd='old'/>"},
		{"white space around the data", "secure", authenticate(scram, "<initial-response>\n  b2s=\n</initial-response>"), success2(proofData, "", "") + authedFeatures},
		{"challenge", "secure", authenticate(scram, initialMore) + response2("bW9yZQ==") + response2("b2s="), challenge + challenge + success2(proofData, "", "") + authedFeatures},
		{"no initial response", "secure", authenticate(scram, bind2("")) + response2("b2s="),
			"<challenge xmlns='urn:xmpp:sasl:2'/>" + success2(proofData, "//made-up", bound2("")) + boundFeatures},
		{"empty initial response", "secure", authenticate(scram, "<initial-response/>"), sasl2Failure("not-authorized", "")},
		{"empty additional data", "secure", authenticate(scram, "<initial-response>ZW1wdHk=</initial-response>"), success2("<additional-data></additional-data>", "", "") + authedFeatures},
		{"refused, then let in", "secure", authenticate(scram, "<initial-response>bm8=</initial-response>") + authenticate(scram, initialOK),
			sasl2Failure("not-authorized", "") + success2(proofData, "", "") + authedFeatures},
		{"unknown children", "secure", authenticate(scram, "<x xmlns='urn:x'/>"+initialOK), success2(proofData, "", "") + authedFeatures},

		// Bad input.
		{"no mechanism", "secure", "<authenticate xmlns='urn:xmpp:sasl:2'/>", sasl2Failure("invalid-mechanism", "")},
		{"unknown mechanism", "secure", authenticate("PLAIN", initialOK), sasl2Failure("invalid-mechanism", "")},
		{"tls-unique token", "secure", authenticate("HT-SHA-256-UNIQ", initialOK+fast+agent), sasl2Failure("invalid-mechanism", "")},
		{"bad base64", "secure", authenticate(scram, "<initial-response>b2s</initial-response>"), sasl2Failure("incorrect-encoding", "")},
		{"padding bits", "secure", authenticate(scram, "<initial-response>b2t=</initial-response>"), sasl2Failure("incorrect-encoding", "")},
		{"equals sign", "secure", authenticate(scram, "<initial-response>=</initial-response>"), sasl2Failure("incorrect-encoding", "")},
		{"line break", "secure", authenticate(scram, "<initial-response>b2\ns=</initial-response>"), sasl2Failure("incorrect-encoding", "")},
		{"children in the data", "secure", authenticate(scram, "<initial-response><x/></initial-response>"), sasl2Failure("malformed-request", "")},
		{"agent without UUID", "secure", authenticate(scram, initialOK+"<user-agent id='phone'/>"), sasl2Failure("malformed-request", "the user agent's id is not a UUID")},
		{"agent too long", "secure", authenticate(scram, initialOK+"<user-agent><device>"+strings.Repeat("x", 257)+"</device></user-agent>"), sasl2Failure("malformed-request", "the user agent says too much")},
		{"bad response", "secure", authenticate(scram, initialMore) + response2("!"), challenge + sasl2Failure("incorrect-encoding", "") + "[aborted]"},
		{"response without exchange", "secure", response2("b2s="), noExchange},
		{"response after failure", "secure", authenticate(scram, "<initial-response>bm8=</initial-response>") + response2("b2s="), sasl2Failure("not-authorized", "") + noExchange},
		{"task without exchange", "secure", next, noExchange},
		{"abort", "secure", authenticate(scram, initialMore) + abort + response2("b2s="), challenge + sasl2Failure("aborted", "") + "[aborted]" + noExchange},
		{"second authenticate", "secure", authenticate(scram, initialMore) + authenticate(scram, initialOK), challenge + progress},
		{"stanza meanwhile", "secure", authenticate(scram, initialMore) + "<message/>", challenge + progress},
		{"registration meanwhile", "secure", authenticate(scram, initialMore) + "<iq type='get' id='r'><query xmlns='jabber:iq:register'/></iq>", challenge + progress},
		{"resume meanwhile", "secure", authenticate(scram, initialMore) + "<resume xmlns='urn:xmpp:sm:3' previd='old' h='7'/>", challenge + progress},
		{"retries", "secure", strings.Repeat(authenticate(scram, "<initial-response>bm8=</initial-response>"), 6),
			strings.Repeat(sasl2Failure("not-authorized", ""), 5) + streamError("policy-violation", "too many attempts to authenticate")},
		{"responses count", "secure", strings.Repeat(response2(""), 6), strings.Repeat(noExchange, 5) + streamError("policy-violation", "too many attempts to authenticate")},
		{"again", "secure", authenticate(scram, initialOK) + authenticate(scram, initialOK), success2(proofData, "", "") + authedFeatures + already},
		{"again when bound", "secure", authenticate(scram, initialOK+bind2("")) + authenticate(scram, initialOK), success2(proofData, "//made-up", bound2("")) + boundFeatures + already},
		{"after the classic profile", "authed", authenticate(scram, initialOK), already},
		{"bound, after the classic profile", "bound", authenticate(scram, initialOK), already},
		{"classic after SASL2", "secure", authenticate(scram, "<initial-response>bm8=</initial-response>") + auth, sasl2Failure("not-authorized", "") + profiles},
		{"SASL2 after classic", "secure", authWith(" mechanism='SCRAM-SHA-1'", "bm8=") + authenticate(scram, initialOK), saslFailure("not-authorized") + profiles},
		{"classic in between", "secure", authenticate(scram, initialMore) + response("b2s="), challenge + progress},
		{"SASL2 in between", "secure", authWith(" mechanism='SCRAM-SHA-1'", "bW9yZQ==") + response2("b2s="),
			"<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>d2h5</challenge>" + profiles},
		{"classic again when let in", "secure", authenticate(scram, initialOK) + auth, success2(proofData, "", "") + authedFeatures + already},
		{"before TLS", "plain", authenticate(scram, initialOK), sasl2Failure("encryption-required", "") + streamError("policy-violation", "TLS is required")},

		// XEP-0509.
		{"features known", "secure", authenticate(scram, initialOK+"<config-version xmlns='urn:xmpp:iap:0' scheme='opaque' value='"+version+"'/>"), success2(proofData, "", "") + authedFeatures},
		{"features of another day", "secure", authenticate(scram, initialOK+"<config-version xmlns='urn:xmpp:iap:0' value='Tm9uLW1hdGNoaW5n'/>") + authenticate(scram, initialOK),
			mismatch + success2(proofData, "", "") + authedFeatures},
		{"no features", "secure", authenticate("PLAIN", initialOK+"<config-version xmlns='urn:xmpp:iap:0' value=''/>"), mismatch},
		{"too often", "secure", strings.Repeat(authenticate(scram, "<config-version xmlns='urn:xmpp:iap:0' value='x'/>"), 6),
			strings.Repeat(mismatch, 5) + streamError("policy-violation", "too many attempts to authenticate")},

		// FAST, XEP-0484.
		{"token", "secure", authenticate(token, initialOK+agent+fast), success2(proofData, "", "") + authedFeatures},
		{"token without fast", "secure", authenticate(token, initialOK+agent), sasl2Failure("malformed-request", "a token's mechanism without &lt;fast/&gt;")},
		{"fast without token", "secure", authenticate(scram, initialOK+agent+fast), sasl2Failure("malformed-request", "&lt;fast/&gt; without a token's mechanism")},
		{"token without agent", "secure", authenticate(token, initialOK+fast), sasl2Failure("malformed-request", "&lt;fast/&gt; without the user agent's id")},
		{"token, count zero", "secure", authenticate(token, initialOK+agent+"<fast xmlns='urn:xmpp:fast:0' count='0'/>"), sasl2Failure("malformed-request", "the count is not a positive integer")},
		{"token, count huge", "secure", authenticate(token, initialOK+agent+"<fast xmlns='urn:xmpp:fast:0' count='9223372036854775808'/>"), sasl2Failure("malformed-request", "the count is not a positive integer")},
		{"token, invalidate maybe", "secure", authenticate(token, initialOK+agent+"<fast xmlns='urn:xmpp:fast:0' invalidate='maybe'/>"), sasl2Failure("malformed-request", "invalidate is not a boolean")},
		{"classic with a token's mechanism", "secure", authWith(" mechanism='HT-SHA-256-NONE'", "b2s="), saslFailure("invalid-mechanism")},
		{"request a token", "secure", authenticate(scram, initialOK+agent+"<request-token xmlns='urn:xmpp:fast:0' mechanism='HT-SHA-256-EXPR'/>"),
			success2(proofData, "", "<token xmlns='urn:xmpp:fast:0' expiry='1970-01-01T00:00:00Z' token='new token'/>") + authedFeatures},
		{"request a token without agent", "secure", authenticate(scram, initialOK+"<request-token xmlns='urn:xmpp:fast:0' mechanism='HT-SHA-256-EXPR'/>"), success2(proofData, "", "") + authedFeatures},
		{"request a token of another kind", "secure", authenticate(scram, initialOK+agent+"<request-token xmlns='urn:xmpp:fast:0' mechanism='SCRAM-SHA-1'/>"), success2(proofData, "", "") + authedFeatures},

		// Bind 2, XEP-0386.
		{"bind", "secure", authenticate(scram, initialOK+bind2("<tag>desk</tag>")) + "<message/>",
			success2(proofData, "/desk/made-up", bound2("")) + boundFeatures + "[<message from='romeo@verona.lit/desk/made-up'/>]"},
		{"bind with everything", "secure", authenticate(scram, initialOK+bind2("<enable xmlns='urn:xmpp:carbons:2'/><enable xmlns='urn:xmpp:sm:3' resume='1' max='60'/><inactive xmlns='urn:xmpp:csi:0'/>")) + "<r xmlns='urn:xmpp:sm:3'/>",
			success2(proofData, "//made-up", bound2("<enabled xmlns='urn:xmpp:sm:3' id='id&lt;1>' resume='true' max='60'/><enabled xmlns='urn:xmpp:carbons:2'/>")) + managedFeatures + "[r]"},
		{"enable again", "secure", authenticate(scram, initialOK+bind2("<enable xmlns='urn:xmpp:sm:3' resume='1'/>")) + "<enable xmlns='urn:xmpp:sm:3' resume='1'/>",
			success2(proofData, "//made-up", bound2("<enabled xmlns='urn:xmpp:sm:3' id='id&lt;1>' resume='true'/>")) + managedFeatures + "<enabled xmlns='urn:xmpp:sm:3' id='id&lt;1>' resume='true'/>"},
		{"enable later", "secure", authenticate(scram, initialOK+bind2("")) + "<enable xmlns='urn:xmpp:sm:3'/>", success2(proofData, "//made-up", bound2("")) + boundFeatures + "<enabled xmlns='urn:xmpp:sm:3'/>"},
		{"enable malformed", "secure", authenticate(scram, initialOK+bind2("<enable xmlns='urn:xmpp:sm:3' resume='maybe'/>")),
			success2(proofData, "//made-up", bound2(smFailed("bad-request"))) + boundFeatures},
		{"not bound", "secure", authenticate(scram, initialOK+bind2("<tag>taken</tag>")) + bind, success2(proofData, "", "") + authedFeatures + bound},
		{"classic binding again", "secure", authenticate(scram, initialOK+bind2("")) + bind, success2(proofData, "//made-up", bound2("")) + boundFeatures +
			"[answered <iq to='romeo@verona.lit//made-up' id='b' type='error'><error type='cancel'><not-allowed xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>a resource is bound already</text></error></iq>]"},
		{"carbons exclude IM-NG", "secure", authenticate(scram, initialOK+bind2("<enable xmlns='urn:xmpp:carbons:2'/><enable xmlns='urn:xmpp:im-ng:0'/>")),
			success2(proofData, "//made-up", bound2("<enabled xmlns='urn:xmpp:carbons:2'/>"+conflict("urn:xmpp:im-ng:0"))) + boundFeatures},
		{"IM-NG excludes carbons", "secure", authenticate(scram, initialOK+bind2("<enable xmlns='urn:xmpp:im-ng:0'/><enable xmlns='urn:xmpp:carbons:2'/>")),
			success2(proofData, "//made-up", bound2("<enabled xmlns='urn:xmpp:im-ng:0'/>"+conflict("urn:xmpp:carbons:2"))) + boundFeatures},
		{"carbons exclude the session", "secure", authenticate(scram, initialOK+bind2("<enable xmlns='urn:xmpp:carbons:2'/><session xmlns='urn:xmpp:tmp:xmpp-2:0'><sync/></session>")),
			success2(proofData, "//made-up", bound2("<enabled xmlns='urn:xmpp:carbons:2'/>"+conflict("urn:xmpp:tmp:xmpp-2:0"))) + boundFeatures},
		{"session", "secure", authenticate(scram, initialOK+bind2("<session xmlns='urn:xmpp:tmp:xmpp-2:0'><sync after='x' start='y'/><roster/></session>")),
			success2(proofData, "//made-up", bound2("<session xmlns='urn:xmpp:tmp:xmpp-2:0'><sync><error xmlns='jabber:client' type='modify'><bad-request xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"+
				"<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>more than one of after, start and last</text></error></sync><roster/></session>")) + boundFeatures},

		// XEP-0198 9.2.
		{"resumed", "secure", authenticate(scram, initialOK+"<resume xmlns='urn:xmpp:sm:3' previd='old' h='7'/>"+bind2("<tag>desk</tag>")) + "<r xmlns='urn:xmpp:sm:3'/><message/>",
			success2(proofData, "/back", "<resumed xmlns='urn:xmpp:sm:3' h='7' previd='old'/>") + "[r][<message from='romeo@verona.lit/back'/>]"},
		{"not resumed, bound", "secure", authenticate(scram, initialOK+"<resume xmlns='urn:xmpp:sm:3' previd='gone' h='7'/>"+bind2("<tag>desk</tag>")),
			success2(proofData, "/desk/made-up", "<failed xmlns='urn:xmpp:sm:3' h='4'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>"+bound2("")) + boundFeatures},
		{"not resumed, nothing bound", "secure", authenticate(scram, initialOK+"<resume xmlns='urn:xmpp:sm:3' previd='gone' h='7'/>"),
			success2(proofData, "", "<failed xmlns='urn:xmpp:sm:3' h='4'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>") + authedFeatures},
		{"malformed resume", "secure", authenticate(scram, initialOK+"<resume xmlns='urn:xmpp:sm:3' previd='old' h='x'/>"+bind2("")),
			success2(proofData, "//made-up", smFailed("bad-request")+bound2("")) + boundFeatures},

		// Tasks, XEP-0388 2.6.3 and XEP-0480.
		{"task", "secure", authenticate(scram, initialTask+upgrade+bind2("")) + next + hash + message,
			cont + salt + success2("", "//made-up", bound2("")) + boundFeatures + "[<message from='romeo@verona.lit//made-up'/>]"},
		{"two tasks", "secure", authenticate(scram, initialTask+upgrade+strings.Replace(upgrade, "256", "512", 1)) + next + hash + strings.Replace(next, "256", "512", 1) + hash,
			cont + salt + strings.Replace(strings.Replace(cont, "256", "512", 1), proofData, "", 1) + salt + success2("", "", "") + authedFeatures},
		{"unknown task", "secure", authenticate(scram, initialTask+strings.Replace(upgrade, "256", "1024", 1)), success2(proofData, "", "") + authedFeatures},
		{"another task", "secure", authenticate(scram, initialTask+upgrade) + strings.Replace(next, "256", "512", 1) + authenticate(scram, initialOK),
			cont + sasl2Failure("malformed-request", "another task is to be done") + "[aborted]" + success2(proofData, "", "") + authedFeatures},
		{"task twice", "secure", authenticate(scram, initialTask+upgrade) + next + next, cont + salt + sasl2Failure("malformed-request", "another task is to be done") + "[aborted]"},
		{"task data first", "secure", authenticate(scram, initialTask+upgrade) + hash, cont + sasl2Failure("malformed-request", "no task was begun") + "[aborted]"},
		{"bad task data", "secure", authenticate(scram, initialTask+upgrade) + next + taskData("") + hash, cont + salt + sasl2Failure("malformed-request", "") + noExchange},
		{"task given up", "secure", authenticate(scram, initialTask+upgrade) + abort, cont + sasl2Failure("aborted", "") + "[aborted]"},
		{"task, response instead", "secure", authenticate(scram, initialTask+upgrade) + response2("b2s="), cont + progress},
		{"task, stanza instead", "secure", authenticate(scram, initialTask+upgrade) + message, cont + progress},
		{"task, authenticate instead", "secure", authenticate(scram, initialTask+upgrade) + authenticate(scram, initialOK), cont + progress},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pre := preludes[tt.state]
			whole := &driver{m: NewServer(testConfig())}
			first, rest, secured := strings.Cut(pre[0]+tt.in, tls+open)
			feed := func(d *driver, cut int) {
				if !secured {
					d.feed([]byte(first[:min(cut, len(first))]))
					d.feed([]byte(first[min(cut, len(first)):]))
					return
				}
				// <starttls/> ends a read: what follows comes after the handshake.
				d.feed([]byte(first + tls))
				d.feed([]byte((open + rest)[:cut]))
				d.feed([]byte((open + rest)[cut:]))
			}
			feed(whole, 0)
			if got, want := whole.out.String(), pre[1]+tt.want; !matches(got, want) {
				t.Fatalf("got\n%s\nwant\n%s", got, want)
			}
			for cut := range open + rest {
				d := &driver{m: NewServer(testConfig())}
				feed(d, cut)
				if got := d.out.String(); got != whole.out.String() {
					t.Fatalf("split at %d: got\n%s\nwant\n%s", cut, got, whole.out.String())
				}
			}
		})
	}
}

// XEP-0388 2.3: the stream's 'from' and the account that is proved are the same.
func TestWelcomeChecksFrom(t *testing.T) {
	for _, tt := range []struct{ from, want string }{
		{"juliet@verona.lit", sasl2Failure("invalid-authzid", "")},
		{"romeo@verona.lit", success2(proofData, "", "") + authedFeatures},
		{"romeo@verona.lit/x", success2(proofData, "", "") + authedFeatures},
	} {
		d := &driver{m: NewServer(testConfig())}
		d.feed([]byte(open + tls))
		d.feed([]byte(strings.Replace(open, " to=", " from='"+tt.from+"' to=", 1) + authenticate("SCRAM-SHA-1", initialOK)))
		if got := d.out.String(); !strings.HasSuffix(got, tt.want) {
			t.Errorf("%s: %s", tt.from, got)
		}
	}
}

// The limits of authenticated streams hold behind <success/>, though the stream is
// the same.
func TestLimitsGrow(t *testing.T) {
	d := &driver{m: NewServer(testConfig())}
	d.feed([]byte(open + tls))
	big := "<message><body>" + strings.Repeat("x", 3900) + "</body></message>"
	d.feed([]byte(open + authenticate("SCRAM-SHA-1", initialOK+bind2("")) + big))
	if got := d.out.String(); !strings.HasSuffix(got, "</body></message>]") {
		t.Error(got)
	}
}

// pair2 joins a client under TLS to a server that decides as driver does.
func newPair2(t *testing.T) *pair {
	p := newPair(t)
	p.server.m.Secured(Offer{Mechanisms: []string{"SCRAM-SHA-1"}, Bindings: []string{"tls-exporter"}, Tokens: []string{"HT-SHA-256-NONE"}})
	p.client.Secured()
	return p
}

// TestClientPipelines: stream header and <authenticate/> are one write, and what
// comes back is the session (S-2, XEP-0509 1).
func TestClientPipelines(t *testing.T) {
	p := newPair2(t)
	l := &Login{
		Agent: xep.UserAgent{ID: "d4565fa7-4d72-4749-b3d3-740edbf87770", Software: "A & B", Device: "<phone>"},
		Fast:  &xep.Fast{Count: 7, Invalidate: true}, TokenFor: "HT-SHA-256-NONE",
		Bind: &xep.Bind2{Tag: "desk", SM: &xep.SMEnable{Resume: true, Max: time.Minute}, IMNG: true, CSI: xep.CSIInactive,
			Session: &xep.SessionRequest{Parts: []xep.SessionAsk{{Part: xep.SessionSync, Sync: &xep.Sync{After: "abc", Max: 50}}}}},
	}
	evs := p.want(p.say(p.client.Authenticate(p.client.Open(nil), "HT-SHA-256-NONE", []byte("ok"), l)), Opened, Features, AuthSuccess, Features)
	o := ParseFeatures(evs[1].Element)
	if !o.Bind2 || !o.Resume || o.EarlyData || o.StartTLS || !o.CanBegin(xep.NSCarbons) || strings.Join(o.Mechanisms, " ") != "SCRAM-SHA-1" ||
		strings.Join(o.Tokens, " ") != "HT-SHA-256-NONE" || strings.Join(o.Classic, " ") != "SCRAM-SHA-1" || strings.Join(o.Bindings, " ") != "tls-exporter" || len(o.Upgrades) != 2 {
		t.Errorf("%+v", o)
	}
	got := p.server.login
	if o.Version == "" {
		t.Error("no version")
	}
	if got.Agent != l.Agent || *got.Fast != *l.Fast || got.TokenFor != l.TokenFor || got.Bind.Tag != "desk" || *got.Bind.SM != *l.Bind.SM ||
		!got.Bind.IMNG || got.Bind.CSI != xep.CSIInactive || len(got.Bind.Session.Parts) != 1 || *got.Bind.Session.Parts[0].Sync != *l.Bind.Session.Parts[0].Sync {
		t.Errorf("the server understood %+v, %+v", got, got.Bind)
	}
	w := evs[2].Welcome
	if string(evs[2].Data) != "proof" || w.Full.String() != "romeo@verona.lit/desk/made-up" || w.Token == nil || w.Token.Token != "new token" ||
		w.Bound == nil || w.Bound.SM == nil || w.Bound.SM.ID != "id<1>" || w.Bound.SM.Max != time.Minute || !w.Bound.IMNG ||
		len(w.Bound.Session) != 1 || w.Bound.Session[0].Part != xep.SessionSync || w.Bound.Session[0].Err != nil {
		t.Errorf("the client understood %+v, %+v", w, w.Bound)
	}
	p.want(p.say(AppendAckRequest(nil)))
}

func TestClientSASL2(t *testing.T) {
	p := newPair2(t)
	p.want(p.say(p.client.Open(nil)), Opened, Features)
	ev := p.want(p.say(p.client.Authenticate(nil, "SCRAM-SHA-1", []byte("no"), &Login{})), AuthFailure)[0]
	if ev.Name != "not-authorized" {
		t.Error(ev.Name)
	}
	p.want(p.say(p.client.Authenticate(nil, "SCRAM-SHA-1", []byte("more"), &Login{})), AuthResponse)
	if ev := p.want(p.say(p.client.Abort(nil)), AuthFailure)[0]; ev.Name != "aborted" {
		t.Error(ev.Name)
	}
	login := &Login{Upgrades: []string{"UPGR-SCRAM-SHA-512"}, Resume: &Resume{ID: "gone", H: 3}, Bind: &xep.Bind2{Carbons: true}}
	p.want(p.say(p.client.Authenticate(nil, "SCRAM-SHA-1", nil, login)), AuthResponse)
	ev = p.want(p.say(p.client.Respond(nil, []byte("task"))), AuthContinue)[0]
	if string(ev.Data) != "proof" || strings.Join(ParseTasks(ev.Element), " ") != "UPGR-SCRAM-SHA-512" {
		t.Error(ev)
	}
	ev = p.want(p.say(p.client.BeginTask(nil, "UPGR-SCRAM-SHA-512")), TaskData)[0]
	if ev.Element.Child("urn:x", "salt").IsZero() {
		t.Error(ev.Element.Raw())
	}
	ev = p.want(p.say(p.client.TaskData(nil, []byte("<hash xmlns='urn:x'>ok</hash>"))), AuthSuccess, Features)[0]
	if w := ev.Welcome; w.Failed == nil || w.Failed.H != 4 || !w.Failed.Known || w.Failed.Err.Condition != stanza.ItemNotFound ||
		w.Bound == nil || !w.Bound.Carbons || ev.Data != nil {
		t.Errorf("%+v", ev.Welcome)
	}

	p = newPair2(t)
	login = &Login{Resume: &Resume{ID: "old", H: 3}, Bind: &xep.Bind2{}}
	evs := p.want(p.say(p.client.Authenticate(p.client.Open(nil), "SCRAM-SHA-1", []byte("ok"), login)), Opened, Features, AuthSuccess)
	if w := evs[2].Welcome; !w.Resumed || w.H != 3 || w.Bound != nil || w.Full.Resource() != "back" {
		t.Errorf("%+v", w)
	}
}

// What a server must not say.
func TestClientRefusesSASL2(t *testing.T) {
	for _, in := range []string{
		"<success xmlns='urn:xmpp:sasl:2'/>",
		"<success xmlns='urn:xmpp:sasl:2'><authorization-identifier>verona.lit</authorization-identifier></success>",
		"<success xmlns='urn:xmpp:sasl:2'><additional-data>!</additional-data><authorization-identifier>romeo@verona.lit</authorization-identifier></success>",
		success2("", "", "<resumed xmlns='urn:xmpp:sm:3'/>"),
		success2("", "", bound2("")),
		"<challenge xmlns='urn:xmpp:sasl:2'>!</challenge>",
		"<continue xmlns='urn:xmpp:sasl:2'><additional-data>!</additional-data></continue>",
		"<authenticate xmlns='urn:xmpp:sasl:2'/>",
	} {
		p := &pair{t: t, client: NewClient(&ClientConfig{Domain: verona, Limits: xmltree.Limits{MaxBytes: 3000}})}
		evs := p.hear(head(1) + in)
		if last := evs[len(evs)-1]; last.Kind != Failed {
			t.Errorf("%s: %+v", in, last)
		}
	}
}

// FuzzSASL2: whatever a client sends, nobody is let in without the word that the
// driver wants, nothing panics, and splitting makes no difference.
func FuzzSASL2(f *testing.F) {
	f.Add([]byte(open+authenticate("SCRAM-SHA-1", initialMore+agent+bind2("<tag>x</tag>"))+response2("bm8=")), uint8(3))
	f.Add([]byte(open+authenticate("HT-SHA-256-NONE", initialMore+agent+"<fast xmlns='urn:xmpp:fast:0' count='1'/>")+"<message/>"), uint8(5))
	f.Add([]byte(open+authenticate("SCRAM-SHA-1", initialMore)+"<next xmlns='urn:xmpp:sasl:2' task=''/><task-data xmlns='urn:xmpp:sasl:2'/>"), uint8(1))
	f.Add([]byte(open+bind+auth), uint8(1))
	f.Fuzz(func(t *testing.T, in []byte, size uint8) {
		run := func(size int) (string, jid.JID) {
			d := &driver{m: NewServer(testConfig())}
			d.m.Secured(Offer{Mechanisms: []string{"SCRAM-SHA-1"}, Tokens: []string{"HT-SHA-256-NONE"}})
			for i := 0; i < len(in); i += size {
				d.feed(in[i:min(i+size, len(in))])
			}
			return d.out.String(), d.m.Account()
		}
		whole, account := run(len(in) + 1)
		// "ok", "empty" and "task" in base64: without one of them there is no success.
		if s := string(in); !account.IsZero() && !strings.Contains(s, "b2s=") && !strings.Contains(s, "ZW1wdHk=") && !strings.Contains(s, "dGFzaw==") && !strings.Contains(s, "&") && !strings.Contains(s, "CDATA") {
			t.Fatalf("let in by %q", in)
		}
		if len(whole) > 6000+300*len(in) {
			t.Fatalf("%d bytes made %d", len(in), len(whole))
		}
		if parts, _ := run(int(size)%16 + 1); parts != whole {
			t.Fatalf("split differently: got\n%s\nwant\n%s", parts, whole)
		}
	})
}
