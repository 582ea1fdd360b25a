package c2s

import (
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/xep"
)

// lines returns the log's lines with this message.
func (w *world) lines(msg string) []string {
	var list []string
	for _, line := range strings.Split(w.log.String(), "\n") {
		if strings.Contains(line, "msg="+msg+" ") || strings.Contains(line, `msg="`+msg+`"`) {
			list = append(list, line)
		}
	}
	return list
}

// wantLine fails unless there is one such line and it matches the pattern.
func (w *world) wantLine(t *testing.T, msg, pattern string) {
	t.Helper()
	list := w.lines(msg)
	if len(list) == 0 || !regexp.MustCompile(pattern).MatchString(list[len(list)-1]) {
		t.Errorf("%s: %q, want %s at last", msg, list, pattern)
	}
}

// One line says that a session begins, and one that and why it ends.
func TestSessionLines(t *testing.T) {
	for _, tt := range []struct {
		name, why string
		end       func(*world, *user)
	}{
		{"closed", `"closed by the client"`, func(_ *world, u *user) { u.close() }},
		{"lost", `"connection lost.*`, func(_ *world, u *user) { u.conn.Close() }},
		{"broken", `not-well-formed`, func(_ *world, u *user) { u.send("<a></b>"); u.gone(); u.conn.Close() }},
		{"ended", `conflict`, func(w *world, u *user) {
			w.hub.session(u.full.String()).t.End(stanza.NewStreamError(stanza.StreamConflict, ""))
			u.gone()
			u.conn.Close()
		}},
		{"taken away", `"closed by the server"`, func(w *world, u *user) {
			w.hub.session(u.full.String()).t.End(nil)
			u.gone()
			u.conn.Close()
		}},
	} {
		in(t, nil, func(t *testing.T, w *world) {
			u := w.login(t, "alice", "hole")
			tt.end(w, u)
			synctest.Wait()
			w.wantLine(t, "session begins", `level=INFO .*resource=hole mechanism=SCRAM-SHA-512-PLUS resumed=false conn=\S+ account=alice@wonderland.lit`)
			w.wantLine(t, "session ends", `level=INFO .*resource=hole why=`+tt.why+` conn=\S+ account=alice@wonderland.lit`)
			if n := len(w.lines("session begins")) + len(w.lines("session ends")); n != 2 {
				t.Errorf("%s: %d lines", tt.name, n)
			}
		})
	}
	in(t, nil, func(t *testing.T, w *world) {
		l := on(phone)
		l.Bind.SM = &xep.SMEnable{Resume: true}
		u, welcome := w.welcomed(t, "SCRAM-SHA-256", "alice", "rabbit", l)
		u.conn.Close()
		u, _ = w.welcomed(t, "SCRAM-SHA-1", "alice", "rabbit", &stream.Login{Resume: &stream.Resume{ID: welcome.Bound.SM.ID}})
		w.wantLine(t, "session begins", `mechanism=SCRAM-SHA-1 resumed=true `)
		u.close()
	})
}

// A channel binding that wasn't offered says nothing about a password: it is no
// failed login.
func TestUnsupportedBindingIsNoFailure(t *testing.T) {
	strict := func(c *Config) {
		c.Limits.AddressFailures = Rate{Burst: 1, Every: time.Hour}
		c.Limits.AccountFailures = Rate{Burst: 1, Every: time.Hour}
	}
	in(t, strict, func(t *testing.T, w *world) {
		u := w.offered(t)
		for _, first := range []string{"p=tls-unique,,n=alice,r=abc", "p=tls-server-end-pint,,n=alice,r=abc", "n,,n=alice,r=abc"} {
			u.write(u.mach.Auth(nil, "SCRAM-SHA-256-PLUS", []byte(first)))
			if ev := u.want(stream.AuthFailure); ev.Name != string(sasl.MalformedRequest) {
				t.Error(first, ev.Name)
			}
		}
		if ev := u.auth("alice", "rabbit"); ev.Kind != stream.AuthSuccess {
			t.Error("counted:", ev.Name)
		}
		if got := w.lines("login failed"); len(got) != 0 {
			t.Error(got)
		}
		w.wantLine(t, "login with a channel binding that was not offered", "level=DEBUG")
		u.conn.Close()
	})
}

// A stream that ran out of time says what it had done.
func TestTimeoutLine(t *testing.T) {
	for _, tt := range []struct {
		reached string
		begin   func(*user)
	}{
		{"plain", func(*user) {}},
		{"secure", func(u *user) { u.starttls() }},
		{"authenticating", func(u *user) {
			u.starttls()
			u.open()
			u.write(u.mach.Authenticate(nil, "SCRAM-SHA-256", []byte("n,,n=alice,r=abc"), &stream.Login{}))
			u.want(stream.AuthResponse)
		}},
		{"authenticated", func(u *user) { u.starttls(); u.authenticated("alice") }},
	} {
		in(t, nil, func(t *testing.T, w *world) {
			u := newUser(t, w.pipe(false))
			tt.begin(u)
			u.gone()
			u.conn.Close()
			w.wantLine(t, "not logged in in time", "level=DEBUG .*reached="+tt.reached+" bytes=\\d+ exchanges=\\d")
			if got := w.lines("stream ended by an error"); len(got) != 1 || !strings.Contains(got[0], "level=DEBUG") {
				t.Error(got)
			}
		})
	}
}

// What XEP-0049 keeps is private in both directions, and so are the ids with which
// sessions are taken over.
func TestTranscriptKeepsPrivateStorage(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		u := w.login(t, "alice", "hole")
		u.write(u.mach.Enable(nil, true, 0))
		id := u.want(stream.SMEnabled).Name
		u.send("<message to='" + u.full.String() + "' id='1'><query xmlns='jabber:iq:private'><a xmlns='x'>tarts</a></query></message>")
		if ev := u.want(stream.Stanza); !strings.Contains(string(ev.Stanza.AppendTo(nil)), "tarts") {
			t.Error("redacted on the wire")
		}
		u.conn.Close()
		v := newUser(t, w.pipe(false))
		v.starttls()
		v.authenticated("alice")
		v.write(v.mach.Resume(nil, id, 0))
		v.want(stream.SMResumed)
		v.conn.Close()
		for _, secret := range []string{"tarts", id + "'", id + "\""} {
			if strings.Contains(w.log.String(), secret) {
				t.Errorf("%q is in the transcript", secret)
			}
		}
	})
}

// S-8: the salt of a name without an account differs by domain, as an account's does.
func TestDummySaltsDifferByDomain(t *testing.T) {
	other := jid.MustParse("looking-glass.lit")
	in(t, func(c *Config) { c.Domains = append(c.Domains, other) }, func(t *testing.T, w *world) {
		salt := func(d jid.JID) string {
			u := newUser(t, w.pipe(true))
			u.mach = stream.NewClient(&stream.ClientConfig{Domain: d})
			if err := u.secure(clientTLS); err != nil {
				t.Fatal(err)
			}
			u.open()
			defer u.conn.Close()
			u.write(u.mach.Auth(nil, "SCRAM-SHA-256", []byte("n,,n=dinah,r=abc")))
			_, s, _ := strings.Cut(string(u.want(stream.AuthResponse).Data), ",s=")
			return s[:24]
		}
		if a, b := salt(jid.MustParse(domain)), salt(other); a == b {
			t.Errorf("dinah has the salt %s at both domains", a)
		}
	})
}
