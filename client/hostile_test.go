package client_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"carillon.im/client"
	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/stanza"
)

// attempt dials and returns the error.
func attempt(t *testing.T, cfg client.Config) error {
	t.Helper()
	c, err := client.Dial(t.Context(), cfg)
	if err == nil {
		c.Close(t.Context())
	}
	return err
}

// TestCertificate: nothing is said to a server that isn't the domain's (RFC 6120
// 13.7.2, RFC 6125 6).
func TestCertificate(t *testing.T) {
	f := newFake(t, func(p *peer) {
		if n, err := p.Read(make([]byte, 1)); n > 0 || err == nil {
			p.t.Error("something was said")
		}
	})
	cfg := f.config()
	cfg.RootCAs = nil
	var unknown *tls.CertificateVerificationError
	if err := attempt(t, cfg); !errors.As(err, &unknown) {
		t.Errorf("unknown authority: %v", err)
	}
	cfg = f.config()
	cfg.Account = jid.MustParse("alice@elsewhere.example") // whatever the address is
	if err := attempt(t, cfg); !errors.As(err, &unknown) {
		t.Errorf("another name: %v", err)
	}
}

// TestBeforeTLS are streams that somebody on the way has touched (RFC 7590 3.1).
func TestBeforeTLS(t *testing.T) {
	for name, script := range map[string]func(*peer){
		"no TLS":        func(p *peer) { p.say(header + plainSay) },
		"refused":       func(p *peer) { p.say(header + startTLS); p.hear("<starttls"); p.say(tlsFailure) },
		"data behind":   func(p *peer) { p.say(header + startTLS); p.hear("<starttls"); p.say(proceed + header) },
		"login at once": func(p *peer) { p.say(header + "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>") },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, func(p *peer) {
				p.hear("<stream:stream")
				script(p)
				p.drain()
				if strings.Contains(p.got.String(), "c2VjcmV0") || strings.Contains(p.got.String(), "<auth") {
					p.t.Errorf("said in the clear: %s", p.got.String())
				}
			})
			f.plain = true
			err := attempt(t, f.config())
			var ended *client.StreamEnded
			if !errors.Is(err, client.ErrNoTLS) && !errors.As(err, &ended) {
				t.Errorf("%v", err)
			}
		})
	}
}

const (
	startTLS   = "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>"
	tlsFailure = "<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
	proceed    = "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
)

// middle is somebody in between with a certificate for the domain, who changes
// what carillon says.
type middle struct {
	*world
	t      *testing.T
	change func([]byte) []byte
}

func (m *middle) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	sh, err := common()
	if err != nil {
		return nil, err
	}
	inner, err := m.world.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	server := tls.Client(inner, &tls.Config{RootCAs: sh.roots, ServerName: "localhost"})
	a, b, err := pair()
	if err != nil {
		return nil, err
	}
	toClient := tls.Server(b, &tls.Config{Certificates: []tls.Certificate{sh.cert}})
	pump := func(dst, src net.Conn, change func([]byte) []byte) {
		defer inner.Close()
		defer b.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := src.Read(buf)
			if err != nil {
				return
			}
			if _, err := dst.Write(change(buf[:n])); err != nil {
				return
			}
		}
	}
	go pump(server, toClient, func(b []byte) []byte { return b })
	go pump(toClient, server, m.change)
	return a, nil
}

// TestDowngrade: who changes the offer is found out (XEP-0440 3, XEP-0474 6.2).
func TestDowngrade(t *testing.T) {
	w := newWorld(t, "alice")
	remove := func(words ...string) func([]byte) []byte {
		return func(b []byte) []byte {
			for _, word := range words {
				b = bytes.ReplaceAll(b, []byte(word), nil)
			}
			return b
		}
	}
	plus := []string{"<mechanism>SCRAM-SHA-512-PLUS</mechanism>", "<mechanism>SCRAM-SHA-256-PLUS</mechanism>", "<mechanism>SCRAM-SHA-1-PLUS</mechanism>"}
	bindings := "<sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'><channel-binding type='tls-exporter'/><channel-binding type='tls-server-end-point'/></sasl-channel-binding>"
	sasl2 := func(b []byte) []byte {
		if i, j := bytes.Index(b, []byte("<authentication")), bytes.Index(b, []byte("</authentication>")); i >= 0 && j > i {
			return append(b[:i:i], b[j+len("</authentication>"):]...)
		}
		return b
	}
	for name, change := range map[string]func([]byte) []byte{
		"no -PLUS":                remove(plus...),
		"no -PLUS, no bindings":   remove(append(plus, bindings)...),
		"no bindings":             remove(bindings),
		"no SASL2, no -PLUS":      func(b []byte) []byte { return remove(append(plus, bindings)...)(sasl2(b)) },
		"the strongest hash gone": remove("<mechanism>SCRAM-SHA-512-PLUS</mechanism>"),
	} {
		t.Run(name, func(t *testing.T) {
			cfg := w.config("alice")
			cfg.Dialer = &middle{world: w, t: t, change: change}
			err := attempt(t, cfg)
			var refused *client.AuthError // the channel isn't the server's: it notices
			if !errors.Is(err, sasl.ErrDowngrade) && !errors.As(err, &refused) {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestWeaker: what a server could once, it can (docs/ext, session, security).
func TestWeaker(t *testing.T) {
	f := newFake(t, func(p *peer) {
		p.hear(">")
		p.say(header + plainSay)
		p.drain()
		if strings.Contains(p.got.String(), "c2VjcmV0") {
			p.t.Error("the password was given away")
		}
	})
	cfg := f.config()
	store := &client.MemoryStore{}
	store.Save(t.Context(), cfg.Account, client.State{Strength: client.StrengthScram})
	cfg.Store = store
	if err := attempt(t, cfg); !errors.Is(err, client.ErrWeaker) {
		t.Errorf("after SCRAM: %v", err)
	}
	cfg = f.config()
	cfg.AllowPlain = false
	if err := attempt(t, cfg); !errors.Is(err, sasl.ErrNoMechanism) {
		t.Errorf("PLAIN isn't allowed: %v", err)
	}
}

const (
	scramSay  = "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>SCRAM-SHA-256</mechanism></mechanisms></stream:features>"
	scram2Say = "<stream:features><authentication xmlns='urn:xmpp:sasl:2'><mechanism>SCRAM-SHA-256</mechanism><inline><bind xmlns='urn:xmpp:bind:0'/></inline></authentication></stream:features>"
	welcome2  = "<success xmlns='urn:xmpp:sasl:2'><authorization-identifier>" + full + "</authorization-identifier>%s</success>"
)

// TestLoginViolations are servers that let the client in without being the
// server, or into something else than it asked for.
func TestLoginViolations(t *testing.T) {
	in2 := func(inner string) func(*peer) {
		return func(p *peer) {
			p.hear(">")
			p.say(header + plain2)
			p.hear("</authenticate>")
			p.say(fmt.Sprintf(welcome2, inner))
		}
	}
	for name, script := range map[string]func(*peer){
		"success without a proof": func(p *peer) {
			p.hear(">")
			p.say(header + scramSay)
			p.hear("</auth>")
			p.say("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>")
		},
		"success of SASL2 without a proof": func(p *peer) {
			p.hear(">")
			p.say(header + scram2Say)
			p.hear("</authenticate>")
			p.say(fmt.Sprintf(welcome2, "<bound xmlns='urn:xmpp:bind:0'/>"))
		},
		"the other profile's success": func(p *peer) {
			p.hear(">")
			p.say(header + plain2)
			p.hear("</authenticate>")
			p.say("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>")
		},
		"resumed what isn't there": in2("<resumed xmlns='urn:xmpp:sm:3' previd='x' h='0'/>"),
		"another account": func(p *peer) {
			p.hear(">")
			p.say(header + plain2)
			p.hear("</authenticate>")
			p.say("<success xmlns='urn:xmpp:sasl:2'><authorization-identifier>mallory@localhost/x</authorization-identifier><bound xmlns='urn:xmpp:bind:0'/></success>")
		},
		"another account's resource": func(p *peer) {
			p.authenticate(bindFeature)
			id := answerID(p.hear("</iq>"))
			p.say("<iq type='result' id='" + id + "'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>mallory@localhost/x</jid></bind></iq>")
		},
		"tasks": func(p *peer) {
			p.hear(">")
			p.say(header + plain2)
			p.hear("</authenticate>")
			p.say("<continue xmlns='urn:xmpp:sasl:2'><tasks><task>HOTP-EXAMPLE</task></tasks></continue>")
		},
		"features without end": func(p *peer) {
			p.hear(">")
			p.say(header + "<stream:features>")
			for {
				p.say("<more xmlns='urn:example'/>")
			}
		},
		"features again and again": func(p *peer) {
			p.authenticate(bindFeature)
			p.hear("</iq>")
			for {
				p.say("<stream:features/>")
			}
		},
		"challenges again and again": func(p *peer) {
			p.hear(">")
			p.say(header + plainSay)
			for {
				p.say("<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>")
			}
		},
		"nested without end": func(p *peer) {
			p.hear(">")
			p.say(header)
			for {
				p.say("<a xmlns='urn:example'>")
			}
		},
		"a document type": func(p *peer) { p.say("<!DOCTYPE a [<!ENTITY b 'c'>]>") },
		"not XMPP":        func(p *peer) { p.say("HTTP/1.1 400 Bad Request\r\n\r\n") },
		"gone at once":    func(p *peer) { p.Close() },
		"other hosts without end": func(p *peer) {
			p.say(header + "<stream:error><see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>other.example</see-other-host></stream:error></stream:stream>")
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, script)
			cfg := f.config()
			cfg.ConnectTimeout = patience
			if err := attempt(t, cfg); err == nil {
				t.Error("logged in")
			} else if errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("only time ended it: %v", err)
			}
		})
	}
}

// TestSilent: a server that says nothing costs the time of an attempt.
func TestSilent(t *testing.T) {
	f := newFake(t, func(p *peer) { p.drain() })
	cfg := f.config()
	cfg.ConnectTimeout = 50 * time.Millisecond
	if err := attempt(t, cfg); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := client.Dial(ctx, f.config()); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// TestForged: answers, pushes, copies and archived messages of those who aren't
// asked are as if they had not come (CVE-2017-5589, RFC 6121 2.1.6, XEP-0313 4.2).
func TestForged(t *testing.T) {
	const forward = "<forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='bank@bank.example' to='alice@localhost'><body>pay</body></message></forwarded>"
	d := dial(t, newFake(t, func(p *peer) {
		p.manage("1")
		id := answerID(p.hear("</iq>"))
		for _, from := range []string{"mallory@localhost/x", "localhost", "alice@localhost.example", "bob@elsewhere.example/x"} {
			p.say("<iq type='result' from='" + from + "' id='" + id + "'><forged xmlns='urn:example'/></iq>")
		}
		p.say("<iq type='result' from='bob@elsewhere.example' id='other'/>")
		p.say("<iq type='set' id='push' from='mallory@localhost/x'><query xmlns='jabber:iq:roster'><item jid='mallory@localhost' subscription='both'/></query></iq>")
		p.say("<iq type='set' id='block' from='mallory@localhost/x'><block xmlns='urn:xmpp:blocking'><item jid='bob@localhost'/></block></iq>")
		for _, what := range []string{
			"<received xmlns='urn:xmpp:carbons:2'>" + forward + "</received>",
			"<sent xmlns='urn:xmpp:carbons:2'>" + forward + "</sent>",
			"<result xmlns='urn:xmpp:mam:2' id='1' queryid='session'>" + forward + "</result>",
			"<result xmlns='urn:xmpp:mam:2' id='1'>" + forward + "</result>",
			"<synced xmlns='urn:xmpp:tmp:xmpp-2:0' complete='true' first='' last='' count='0'/>",
		} {
			for _, from := range []string{"mallory@localhost/x", full, "localhost"} {
				p.say("<message from='" + from + "'>" + what + "</message>")
			}
		}
		p.say("<message><result xmlns='urn:xmpp:mam:2' id='1' queryid='session'>" + forward + "</result></message>") // no session asked for it
		p.say("<iq type='result' from='bob@elsewhere.example' id='" + id + "'><real xmlns='urn:example'/></iq>")
		p.say("<message id='last' from='bob@elsewhere.example'><body>that was all</body></message>")
		p.hear("service-unavailable") // the pushes were refused, which tells nothing
		p.hear("service-unavailable")
	}).config())
	st, err := d.IQ(d.ctx, stanza.Build(stanza.IQ, stanza.TypeGet, "", jid.JID{}, jid.MustParse("bob@elsewhere.example"), "<ask xmlns='urn:example'/>"))
	if err != nil || st.Payload().Local() != "real" {
		t.Fatalf("answer: %v, %v", st, err)
	}
	for {
		ev, err := d.Next(d.ctx)
		if err != nil {
			t.Fatal(err)
		}
		switch ev := ev.(type) {
		case *client.Connected:
		case *client.Received:
			if ev.Stanza.ID == "last" {
				if len(d.Roster()) > 0 {
					t.Errorf("roster: %v", d.Roster())
				}
				return
			}
			t.Errorf("received: %s", ev.Stanza.AppendTo(nil))
		default:
			t.Errorf("event: %#v", ev)
		}
	}
}

// TestForgedByDevice: what another device of the account says is no answer of the account's server.
func TestForgedByDevice(t *testing.T) {
	d := dial(t, newFake(t, func(p *peer) {
		p.manage("1")
		id := answerID(p.hear("</iq>"))
		p.say("<iq type='result' from='alice@localhost/other' id='" + id + "'><forged xmlns='urn:example'/></iq>")
		p.say("<iq type='result' from='" + full + "' id='" + id + "'><real xmlns='urn:example'/></iq>") // as older servers do
	}).config())
	st, err := d.IQ(d.ctx, stanza.Build(stanza.IQ, stanza.TypeGet, "", jid.JID{}, jid.JID{}, "<ask xmlns='urn:example'/>"))
	if err != nil || st.Payload().Local() != "real" {
		t.Fatalf("answer: %v, %v", st, err)
	}
}

// TestSessionViolations: each ends the stream, with the error that says why, and
// the next one begins anew.
func TestSessionViolations(t *testing.T) {
	for name, c := range map[string]struct{ say, want string }{
		"too high":              {"<a xmlns='urn:xmpp:sm:3' h='7'/>", "<handled-count-too-high xmlns='urn:xmpp:sm:3' h='7' send-count='0'/>"},
		"back":                  {"<a xmlns='urn:xmpp:sm:3' h='4294967295'/>", "<handled-count-too-high"},
		"no number":             {"<a xmlns='urn:xmpp:sm:3' h='-1'/>", "<bad-format"},
		"resumed, again":        {"<resumed xmlns='urn:xmpp:sm:3' previd='1' h='0'/>", "<policy-violation"},
		"success, again":        {"<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>", "<policy-violation"},
		"TLS, again":            {proceed, "<policy-violation"},
		"a challenge":           {"<challenge xmlns='urn:xmpp:sasl:2'/>", "<policy-violation"},
		"a header":              {header, "<restricted-xml"},
		"a stanza that is huge": {"<message><body>" + strings.Repeat("x", 70000) + "</body></message>", "<policy-violation"},
		"nested":                {"<message>" + strings.Repeat("<a xmlns=''>", 200), "<policy-violation"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, func(p *peer) {
				p.manage(fmt.Sprint(p.n))
				if p.n == 1 {
					go p.Write([]byte(c.say)) // the client may end before it has read all
					p.hear(c.want)
					p.hear("</stream:stream>")
				}
			})
			cfg := f.config()
			cfg.Limits.MaxBytes = 64 << 10
			d := dial(t, cfg)
			expect[*client.Connected](d, nil)
			off := expect[*client.Disconnected](d, nil)
			var ended *client.StreamEnded
			if !errors.As(off.Err, &ended) || !ended.Own {
				t.Errorf("disconnected: %v", off.Err)
			}
			if on := expect[*client.Connected](d, nil); on.Resumed {
				t.Error("the broken session was resumed")
			}
		})
	}
}
