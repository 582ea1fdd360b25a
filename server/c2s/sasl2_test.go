package c2s

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/xep"
)

const (
	phone  = "d4565fa7-4d72-4749-b3d3-740edbf87770"
	laptop = "d4565fa7-4d72-4749-b3d3-740edbf87771"
)

// on is a login from a client with this id.
func on(agent string) *stream.Login {
	return &stream.Login{Agent: xep.UserAgent{ID: agent, Software: "Rabbit", Device: "watch"}, Bind: &xep.Bind2{}}
}

// sasl2 runs one exchange, with the stream's header in front of it if that is wanted;
// the last event is returned. For a token's mechanism the secret is the token.
func (u *user) sasl2(mechanism, name, secret string, l *stream.Login, header bool) stream.Event {
	u.t.Helper()
	cfg := &sasl.ClientConfig{Username: name, Password: secret, Bindings: u.cb, Advertised: u.offers, Rand: rand.Reader}
	x, err := sasl.NewClient(mechanism, cfg)
	if err != nil {
		u.t.Fatal(err)
	}
	first, _, err := x.Next(nil)
	if err != nil {
		u.t.Fatal(err)
	}
	var out []byte
	if header {
		out = u.mach.Open(nil)
	}
	u.write(u.mach.Authenticate(out, mechanism, first, l))
	if header {
		u.want(stream.Opened)
		u.offered = stream.ParseFeatures(u.want(stream.Features).Element)
	}
	proved := false
	for {
		ev := u.next()
		switch ev.Kind {
		case stream.AuthResponse:
			out, _, err := x.Next(ev.Data)
			if err != nil {
				u.t.Fatal(err)
			}
			u.write(u.mach.Respond(nil, out))
		case stream.AuthContinue, stream.AuthSuccess:
			if mechanism == sasl.Plain {
				proved = true
			}
			if !proved {
				if _, proved, err = x.Next(ev.Data); err != nil || !proved {
					u.t.Fatalf("the server has not proved itself: %v", err)
				}
			}
			if ev.Kind == stream.AuthContinue {
				u.upgrade(stream.ParseTasks(ev.Element), secret)
				continue
			}
			u.full = ev.JID
			return ev
		default:
			return ev
		}
	}
}

// upgrade does one task of XEP-0480.
func (u *user) upgrade(tasks []string, password string) {
	u.t.Helper()
	hash, ok := map[string]sasl.Hash{"UPGR-SCRAM-SHA-256": sasl.SHA256, "UPGR-SCRAM-SHA-512": sasl.SHA512}[tasks[0]]
	if len(tasks) != 1 || !ok {
		u.t.Fatal(tasks)
	}
	u.write(u.mach.BeginTask(nil, tasks[0]))
	salt, iterations, ok := xep.ParseSCRAMSalt(u.want(stream.TaskData).Element)
	if !ok {
		u.t.Fatal("no salt")
	}
	salted, err := sasl.SaltPassword(hash, password, salt, iterations)
	if err != nil {
		u.t.Fatal(err)
	}
	u.write(u.mach.TaskData(nil, xep.AppendSCRAMHash(nil, salted)))
}

// secured makes a client under direct TLS that has not said anything.
func (w *world) secured(t testing.TB) *user {
	t.Helper()
	u := newUser(t, w.pipe(true))
	if err := u.secure(clientTLS); err != nil {
		t.Fatal(err)
	}
	return u
}

// welcomed logs in in one go and fails if that doesn't work.
func (w *world) welcomed(t testing.TB, mechanism, name, secret string, l *stream.Login) (*user, *stream.Welcome) {
	t.Helper()
	u := w.secured(t)
	ev := u.sasl2(mechanism, name, secret, l, true)
	if ev.Kind != stream.AuthSuccess {
		t.Fatalf("not let in: %s %s", ev.Name, ev.Text)
	}
	if !ev.Welcome.Resumed {
		u.want(stream.Features)
	}
	return u, ev.Welcome
}

// refused expects the login to fail with a condition.
func (w *world) refused(t testing.TB, mechanism, name, secret string, l *stream.Login, condition sasl.Condition) {
	t.Helper()
	u := w.secured(t)
	if ev := u.sasl2(mechanism, name, secret, l, true); ev.Kind != stream.AuthFailure || ev.Name != string(condition) {
		t.Errorf("%s as %s: event %d, %s %s; want %s", mechanism, name, ev.Kind, ev.Name, ev.Text, condition)
	}
	u.conn.Close()
}

func withClients(c *Config) { c.Clients = &c.Accounts.(*hub).clients }

func TestSASL2(t *testing.T) {
	in(t, func(c *Config) { c.AllowPlain = true }, func(t *testing.T, w *world) {
		u := w.secured(t)
		features := u.open()
		o := stream.ParseFeatures(features)
		u.readOffers(features)
		if strings.Join(o.Mechanisms, " ") != strings.Join(o.Classic, " ") || len(o.Mechanisms) != 7 || !o.Bind2 || !o.Resume || len(o.Tokens) != 0 || len(o.Upgrades) != 0 ||
			strings.Join(o.Inline, " ") != "urn:xmpp:sm:3 urn:xmpp:carbons:2 urn:xmpp:csi:0 urn:xmpp:im-ng:0" {
			t.Errorf("%+v", o)
		}
		// The offer was seen: the hash of XEP-0474 is checked by the client.
		l := on(phone)
		l.Bind = &xep.Bind2{Tag: "desk", SM: &xep.SMEnable{Resume: true, Max: time.Minute}, Carbons: true, CSI: xep.CSIInactive}
		ev := u.sasl2("SCRAM-SHA-512-PLUS", "alice", "rabbit", l, false)
		if ev.Kind != stream.AuthSuccess {
			t.Fatal(ev.Name, ev.Text)
		}
		u.want(stream.Features)
		b := ev.Welcome.Bound
		if b == nil || b.SM == nil || b.SM.ID == "" || !b.SM.Resume || b.SM.Max != time.Minute || !b.Carbons || b.Archive == nil || b.Archive.End.ID != "b21lZ2Eg" {
			t.Errorf("%+v", b)
		}
		if !strings.HasPrefix(u.full.String(), "alice@wonderland.lit/desk/") || strings.Contains(u.full.String(), phone) {
			t.Error(u.full)
		}
		req := w.hub.requests[0]
		if req.Client != phone || !req.Inline || req.Profile != Carbons || !req.Inactive || req.Account != u.full.Bare() {
			t.Errorf("%+v", req)
		}
		u.ping()
		u.send("<r xmlns='urn:xmpp:sm:3'/>")
		if ev := u.want(stream.SMAck); ev.H != 1 {
			t.Error("the count began elsewhere:", ev.H)
		}
		// Clients that see features again enable again: it is the same session.
		u.write(u.mach.Enable(nil, true, 0))
		if again := u.want(stream.SMEnabled); again.Name != b.SM.ID {
			t.Error(again.Name)
		}
		u.close()

		for _, m := range o.Mechanisms {
			u, _ := w.welcomed(t, m, "alice", "rabbit", on(phone))
			u.ping()
			u.close()
		}
		w.refused(t, "SCRAM-SHA-256", "alice", "hatter", on(phone), sasl.NotAuthorized)
		w.refused(t, "SCRAM-SHA-256", "dinah", "hatter", on(phone), sasl.NotAuthorized)
		w.refused(t, sasl.HTSHA256None, "alice", "hatter", &stream.Login{Agent: on(phone).Agent, Fast: &xep.Fast{}}, sasl.InvalidMechanism)
	})
}

// After SASL2 without Bind 2 everything else goes the classic way, on the same
// stream (S-7).
func TestSASL2ThenClassic(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		u, welcome := w.welcomed(t, "SCRAM-SHA-256", "alice", "rabbit", &stream.Login{})
		if welcome.Full.String() != "alice@"+domain || welcome.Bound != nil {
			t.Errorf("%+v", welcome)
		}
		u.bind("x")
		u.ping()
		u.close()

		w.hub.fail = stanza.NewError(stanza.ResourceConstraint, "")
		u, welcome = w.welcomed(t, "SCRAM-SHA-256", "alice", "rabbit", on(phone))
		if welcome.Bound != nil {
			t.Error("bound in spite of the accounts")
		}
		w.hub.fail = nil
		u.bind("y")
		u.ping()
		u.close()
	})
}

// flights counts how often the client has to wait for the server.
type flights struct {
	net.Conn
	n       int
	writing bool
}

func (f *flights) Write(b []byte) (int, error) {
	if !f.writing {
		f.writing = true
		f.n++
	}
	return f.Conn.Write(b)
}

func (f *flights) Read(b []byte) (int, error) {
	f.writing = false
	return f.Conn.Read(b)
}

// S-2: round trips after TLS, direct or by STARTTLS, until the session is there, with
// stream management.
func TestRoundTrips(t *testing.T) {
	for _, direct := range []bool{true, false} {
		in(t, withClients, func(t *testing.T, w *world) {
			count := func(login func(u *user)) int {
				u := newUser(t, w.pipe(direct))
				if !direct {
					u.starttls()
				} else if err := u.secure(clientTLS); err != nil {
					t.Fatal(err)
				}
				f := &flights{Conn: u.conn}
				u.conn = f
				login(u)
				n := f.n
				u.ping()
				u.close()
				return n
			}
			l := on(phone)
			l.Bind.SM, l.TokenFor = &xep.SMEnable{Resume: true}, sasl.HTSHA256Exporter
			var token string
			scram := count(func(u *user) {
				ev := u.sasl2("SCRAM-SHA-256-PLUS", "alice", "rabbit", l, true)
				if ev.Kind != stream.AuthSuccess || ev.Welcome.Token == nil {
					t.Fatalf("%+v", ev)
				}
				token = ev.Welcome.Token.Token
				u.want(stream.Features)
			})
			fast := count(func(u *user) {
				l := on(phone)
				l.Bind.SM, l.Fast = &xep.SMEnable{Resume: true}, &xep.Fast{Count: 1}
				if ev := u.sasl2(sasl.HTSHA256Exporter, "alice", token, l, true); ev.Kind != stream.AuthSuccess || ev.Welcome.Bound.SM == nil {
					t.Fatalf("%+v", ev)
				}
				u.want(stream.Features)
			})
			classic := count(func(u *user) {
				u.mech = "SCRAM-SHA-256-PLUS"
				u.authenticated("alice")
				u.bind("x")
				u.write(u.mach.Enable(nil, true, 0))
				u.want(stream.SMEnabled)
			})
			if fast != 1 || scram != 2 || classic != 6 {
				t.Errorf("direct TLS %v, round trips: FAST %d, SCRAM %d, classic %d; want 1, 2, 6", direct, fast, scram, classic)
			}
		})
	}
}

// XEP-0386 3.2, S-6: the same client gets the same resource, and its old session
// gives way.
func TestSameClient(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		l := on(phone)
		l.Bind.Tag = "desk"
		u, first := w.welcomed(t, "SCRAM-SHA-256", "alice", "rabbit", l)
		v, second := w.welcomed(t, "SCRAM-SHA-256", "alice", "rabbit", l)
		if first.Full != second.Full {
			t.Errorf("%s and %s", first.Full, second.Full)
		}
		if err := u.gone(); err == nil || err.Condition != stanza.StreamConflict {
			t.Error(err)
		}
		u.conn.Close()
		v.ping()
		v.close()

		other := on(laptop)
		other.Bind.Tag = "desk"
		for _, login := range []struct {
			name string
			l    *stream.Login
		}{{"alice", other}, {"queen", l}, {"alice", &stream.Login{Bind: &xep.Bind2{Tag: "desk"}}}} {
			u, welcome := w.welcomed(t, "SCRAM-SHA-256", login.name, "rabbit", login.l)
			if welcome.Full.Resource() == first.Full.Resource() {
				t.Errorf("%s has the resource of another client: %s", login.name, welcome.Full)
			}
			u.close()
		}
		for tag, want := range map[string]string{"": "", "a b": "a b/", strings.Repeat("x", 64): strings.Repeat("x", 64) + "/", "\u0085": ""} {
			l := on(phone)
			l.Bind.Tag = tag
			u, welcome := w.welcomed(t, "SCRAM-SHA-256", "alice", "rabbit", l)
			if got := welcome.Full.Resource(); !strings.HasPrefix(got, want) || len(got) != len(want)+16 {
				t.Errorf("tag %q: %s", tag, got)
			}
			u.close()
		}
	})
}

// XEP-0198 9.2: resumption wins over binding, and its failure doesn't hinder it.
func TestResumeInline(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		l := on(phone)
		l.Bind.SM = &xep.SMEnable{Resume: true}
		u, welcome := w.welcomed(t, "SCRAM-SHA-256", "alice", "rabbit", l)
		full, id := welcome.Full, welcome.Bound.SM.ID
		u.ping()
		u.conn.Close()
		l = on(phone)
		l.Resume = &stream.Resume{ID: id, H: 0}
		v, welcome := w.welcomed(t, "SCRAM-SHA-256", "alice", "rabbit", l)
		if !welcome.Resumed || welcome.Full != full || welcome.H != 1 || welcome.Bound != nil {
			t.Errorf("%+v", welcome)
		}
		if ev := v.want(stream.Stanza); ev.Stanza.ID != "p1" {
			t.Error("not sent again")
		}
		v.ids = 1
		v.ping()
		v.close()

		for _, r := range []*stream.Resume{{ID: "gone", H: 3}, {ID: id, H: 0}} {
			l.Resume = r
			u, welcome := w.welcomed(t, "SCRAM-SHA-256", "alice", "rabbit", l)
			if f := welcome.Failed; f == nil || f.Err.Condition != stanza.ItemNotFound || f.H != 7 || !f.Known || welcome.Bound == nil {
				t.Errorf("%+v", welcome)
			}
			u.ping()
			u.close()
		}
		if n := w.Metrics.Resumed.Load(); n != 1 {
			t.Error(n)
		}
		if strings.Contains(w.log.String(), id) {
			t.Error("a resumption id is in the transcript")
		}
	})
}

// S-4: what is wrong with a request costs only what is wrong.
func TestSessionRequest(t *testing.T) {
	request := func() *stream.Login {
		l := on(phone)
		l.Bind.Session = &xep.SessionRequest{Parts: []xep.SessionAsk{
			{Part: xep.SessionSync, Sync: &xep.Sync{After: "abc", Max: 500}},
			{Part: xep.SessionRoster},
			{Part: xep.SessionPresence, Presence: stanza.Build(stanza.Presence, "", "", jid.JID{}, jid.JID{}, "<show>away</show>")},
			{Part: xep.SessionJoin, Room: jid.MustParse("coven@chat.example"), Nick: "third"},
		}}
		return l
	}
	results := func(w *stream.Welcome) string {
		var list []string
		for _, r := range w.Bound.Session {
			s := string(r.Part)
			if r.Room != "" {
				s += " " + r.Room
			}
			if r.Err != nil {
				s += ":" + string(r.Err.Condition)
			}
			list = append(list, s)
		}
		return strings.Join(list, ", ")
	}
	in(t, nil, func(t *testing.T, w *world) {
		u, welcome := w.welcomed(t, "SCRAM-SHA-256", "alice", "rabbit", request())
		if u.offered.CanBegin(xep.NSXMPP2) {
			t.Error("offered without being there")
		}
		if got := results(welcome); got != "sync:feature-not-implemented, roster:feature-not-implemented, presence:feature-not-implemented, join coven@chat.example:feature-not-implemented" {
			t.Error(got)
		}
		if p := w.hub.requests[0].Profile; p != Classic {
			t.Error("profile", p)
		}
		u.ping()
		u.close()
	})
	in(t, func(c *Config) { c.Sync = true }, func(t *testing.T, w *world) {
		u, welcome := w.welcomed(t, "SCRAM-SHA-256", "alice", "rabbit", request())
		if !u.offered.CanBegin(xep.NSXMPP2) {
			t.Error("not offered")
		}
		if got := results(welcome); got != "sync, roster, presence, join coven@chat.example:item-not-found" {
			t.Error(got)
		}
		if p := w.hub.requests[0].Profile; p != Synced {
			t.Error("profile", p)
		}
		if ev := u.want(stream.Stanza); ev.Stanza.Child(xep.NSXMPP2, "synced").IsZero() {
			t.Error("not synced")
		}
		u.ping()
		u.close()
	})
}

// XEP-0480: keys are added by who has proved the password.
func TestUpgrade(t *testing.T) {
	in(t, func(c *Config) { c.Upgrades = c.Accounts.(*hub) }, func(t *testing.T, w *world) {
		alice := jid.MustParse("alice@" + domain)
		w.hub.keys[alice] = map[sasl.Hash]sasl.Keys{sasl.SHA1: testKeys()[sasl.SHA1]}
		w.refused(t, "SCRAM-SHA-512", "alice", "rabbit", on(phone), sasl.NotAuthorized)
		l := on(phone)
		l.Upgrades = []string{"UPGR-SCRAM-SHA-512", "UPGR-SCRAM-SHA-256", "UPGR-SCRAM-SHA-1"}
		w.refused(t, "SCRAM-SHA-1", "alice", "hatter", l, sasl.NotAuthorized)
		u, welcome := w.welcomed(t, "SCRAM-SHA-1", "alice", "rabbit", l)
		if strings.Join(u.offered.Upgrades, " ") != "UPGR-SCRAM-SHA-256 UPGR-SCRAM-SHA-512" || welcome.Bound == nil {
			t.Errorf("%v %+v", u.offered.Upgrades, welcome)
		}
		u.ping()
		u.close()
		for _, mechanism := range []string{"SCRAM-SHA-512", "SCRAM-SHA-256"} {
			// Asked for again, there is nothing to do.
			u, _ := w.welcomed(t, mechanism, "alice", "rabbit", l)
			u.close()
		}

		// Each hash has a salt of its own, and a transcript has none of them.
		if a, b := w.hub.keys[alice][sasl.SHA256].Salt, w.hub.keys[alice][sasl.SHA512].Salt; len(a) != sasl.SaltSize || bytes.Equal(a, b) ||
			bytes.Equal(a, make([]byte, len(a))) || strings.Contains(w.log.String(), base64.StdEncoding.EncodeToString(a)) {
			t.Errorf("salts %x and %x", a, b)
		}

		delete(w.hub.keys[alice], sasl.SHA256)
		for _, tt := range []struct{ data, want string }{
			{"", "malformed-request"}, {"<hash xmlns='urn:xmpp:scram-upgrade:0'>YWJj</hash>", "malformed-request"},
			{"<hash xmlns='urn:xmpp:scram-upgrade:0'>!</hash>", "malformed-request"},
			{"<hash xmlns='urn:xmpp:scram-upgrade:0'>" + strings.Repeat("AAAA", 10) + "AAA=</hash>", "temporary-auth-failure"},
		} {
			if tt.want == "temporary-auth-failure" {
				w.hub.fail = errors.New("the disk is full")
			}
			u := w.secured(t)
			x, err := sasl.NewClient("SCRAM-SHA-1", &sasl.ClientConfig{Username: "alice", Password: "rabbit", Rand: rand.Reader})
			if err != nil {
				t.Fatal(err)
			}
			first, _, _ := x.Next(nil)
			u.write(u.mach.Authenticate(u.mach.Open(nil), "SCRAM-SHA-1", first, l))
			u.want(stream.Opened)
			u.want(stream.Features)
			final, _, err := x.Next(u.want(stream.AuthResponse).Data)
			if err != nil {
				t.Fatal(err)
			}
			u.write(u.mach.Respond(nil, final))
			u.write(u.mach.BeginTask(nil, stream.ParseTasks(u.want(stream.AuthContinue).Element)[0]))
			u.want(stream.TaskData)
			u.write(u.mach.TaskData(nil, []byte(tt.data)))
			if ev := u.want(stream.AuthFailure); ev.Name != tt.want {
				t.Errorf("%s: %s", tt.data, ev.Name)
			}
			u.conn.Close()
		}
		if _, ok := w.hub.keys[alice][sasl.SHA256]; ok {
			t.Error("keys were added")
		}
	})
}

// Who takes his time with the exchange, or with a task, doesn't get in with a password
// that was changed meanwhile; who knows the new one, or whose password stayed, does.
func TestPasswordChangedDuringLogin(t *testing.T) {
	in(t, func(c *Config) { withClients(c); c.Upgrades = c.Accounts.(*hub) }, func(t *testing.T, w *world) {
		alice := jid.MustParse("alice@" + domain)
		changed, err := sasl.DeriveKeys(sasl.SHA1, "another", []byte("0123456789abcdef"), sasl.MinIterations)
		if err != nil {
			t.Fatal(err)
		}
		for _, change := range []bool{false, true} {
			for _, at := range []string{"classic", "exchange", "task"} {
				w.hub.keys[alice] = map[sasl.Hash]sasl.Keys{sasl.SHA1: testKeys()[sasl.SHA1]}
				x, err := sasl.NewClient("SCRAM-SHA-1", &sasl.ClientConfig{Username: "alice", Password: "rabbit", Rand: rand.Reader})
				if err != nil {
					t.Fatal(err)
				}
				pass := func(here string) {
					if at != here {
						return
					}
					time.Sleep(2 * time.Second)
					if w.hub.mu.Lock(); change {
						w.hub.keys[alice] = map[sasl.Hash]sasl.Keys{sasl.SHA1: changed}
					}
					w.hub.mu.Unlock()
				}
				u := w.secured(t)
				first, _, _ := x.Next(nil)
				if at == "classic" {
					u.write(u.mach.Auth(u.mach.Open(nil), "SCRAM-SHA-1", first))
				} else {
					l := on(phone)
					l.TokenFor = sasl.HTSHA256None
					if at == "task" {
						l.Upgrades = []string{"UPGR-SCRAM-SHA-256"}
					}
					u.write(u.mach.Authenticate(u.mach.Open(nil), "SCRAM-SHA-1", first, l))
				}
				u.want(stream.Opened)
				u.want(stream.Features)
				final, _, err := x.Next(u.want(stream.AuthResponse).Data)
				if err != nil {
					t.Fatal(err)
				}
				pass("classic")
				pass("exchange")
				u.write(u.mach.Respond(nil, final))
				if at == "task" {
					tasks := stream.ParseTasks(u.want(stream.AuthContinue).Element)
					pass("task")
					u.upgrade(tasks, "rabbit")
				}
				ev := u.next()
				if !change && ev.Kind != stream.AuthSuccess || change && (ev.Kind != stream.AuthFailure || ev.Name != "not-authorized") {
					t.Errorf("%s, changed %v: event %d %s", at, change, ev.Kind, ev.Name)
				}
				if _, added := w.hub.keys[alice][sasl.SHA256]; added != (at == "task" && !change) {
					t.Errorf("%s, changed %v: keys added %v", at, change, added)
				}
				u.conn.Close()
			}
		}
	})
}

// XEP-0388 2.3: the header's 'from' only narrows.
func TestSASL2From(t *testing.T) {
	in(t, nil, func(t *testing.T, w *world) {
		u := w.secured(t)
		u.mach = stream.NewClient(&stream.ClientConfig{Domain: jid.MustParse(domain), From: jid.MustParse("queen@" + domain)})
		u.mach.Secured()
		if ev := u.sasl2("SCRAM-SHA-256", "alice", "rabbit", on(phone), true); ev.Name != "invalid-authzid" {
			t.Error(ev.Kind, ev.Name)
		}
		if ev := u.sasl2("SCRAM-SHA-256", "queen", "rabbit", on(phone), false); ev.Kind != stream.AuthSuccess {
			t.Error(ev.Kind, ev.Name)
		}
		u.conn.Close()
	})
}

// Failures count alike in both profiles, for passwords and for tokens.
func TestSASL2RateLimits(t *testing.T) {
	limits := func(c *Config) {
		withClients(c)
		c.Limits.AccountFailures = Rate{Burst: 3, Every: time.Minute}
	}
	in(t, limits, func(t *testing.T, w *world) {
		token := &stream.Login{Agent: on(phone).Agent, Fast: &xep.Fast{}}
		for _, name := range []string{"alice", "dinah"} {
			w.refused(t, "SCRAM-SHA-256", name, "hatter", on(phone), sasl.NotAuthorized)
			w.refused(t, sasl.HTSHA256None, name, "hatter", token, sasl.NotAuthorized)
			u := w.offered(t)
			if ev := u.auth(name, "hatter"); ev.Name != "not-authorized" {
				t.Error(ev.Name)
			}
			u.conn.Close()
			w.refused(t, sasl.HTSHA256None, name, "hatter", token, sasl.TemporaryAuthFailure)
			w.refused(t, "SCRAM-SHA-256", name, "rabbit", on(phone), sasl.TemporaryAuthFailure)
			time.Sleep(time.Hour) // of the bubble
		}
		u, _ := w.welcomed(t, "SCRAM-SHA-256", "alice", "rabbit", on(phone))
		u.close()
	})
}
