package c2s

import (
	"strings"
	"testing"
	"time"

	"carillon.im/sasl"
	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/xep"
)

// by is a login by a token, the client's count-th.
func by(agent string, count uint64) *stream.Login {
	l := on(agent)
	l.Fast = &xep.Fast{Count: count}
	return l
}

// token logs in with the password and takes a token.
func (w *world) token(t *testing.T, mechanism, name, agent string) xep.FastToken {
	t.Helper()
	l := on(agent)
	l.TokenFor = mechanism
	u, welcome := w.welcomed(t, "SCRAM-SHA-256", name, "rabbit", l)
	u.close()
	if welcome.Token == nil {
		t.Fatal("no token")
	}
	return *welcome.Token
}

// XEP-0484 from the first token to the last.
func TestFast(t *testing.T) {
	in(t, withClients, func(t *testing.T, w *world) {
		const mechanism = sasl.HTSHA256Exporter
		first := w.token(t, mechanism, "alice", phone)
		if d := time.Until(first.Expiry); d > 21*24*time.Hour || d < 20*24*time.Hour || len(first.Token) < 32 {
			t.Errorf("%v", d)
		}
		// Used, it stays what it is while it is young.
		u, welcome := w.welcomed(t, mechanism, "alice", first.Token, by(phone, 1))
		if got := strings.Join(u.offered.Tokens, " "); got != "HT-SHA-256-EXPR HT-SHA-256-ENDP HT-SHA-256-NONE" || u.offered.EarlyData {
			t.Error(got)
		}
		if welcome.Token != nil || welcome.Bound == nil {
			t.Errorf("%+v", welcome)
		}
		u.ping()
		u.close()

		// 3.4: of the mechanism, the client, the account, and never twice.
		w.refused(t, mechanism, "alice", first.Token, by(phone, 1), sasl.NotAuthorized)
		w.refused(t, sasl.HTSHA256None, "alice", first.Token, by(phone, 2), sasl.NotAuthorized)
		w.refused(t, mechanism, "alice", first.Token, by(laptop, 2), sasl.NotAuthorized)
		w.refused(t, mechanism, "queen", first.Token, by(phone, 2), sasl.NotAuthorized)
		w.refused(t, mechanism, "dinah", first.Token, by(phone, 2), sasl.NotAuthorized)
		w.refused(t, mechanism, "alice", "another", by(phone, 2), sasl.NotAuthorized)
		w.refused(t, "SCRAM-SHA-256", "alice", first.Token, on(phone), sasl.NotAuthorized)

		// 3.5: replaced, it is good until its successor is used.
		time.Sleep(25 * time.Hour)
		u, welcome = w.welcomed(t, mechanism, "alice", first.Token, by(phone, 2))
		u.close()
		lost := welcome.Token
		u, welcome = w.welcomed(t, mechanism, "alice", first.Token, by(phone, 3))
		u.close()
		second := welcome.Token
		if lost == nil || second == nil || lost.Token == second.Token || second.Token == first.Token {
			t.Fatal("not replaced")
		}
		w.refused(t, mechanism, "alice", lost.Token, by(phone, 1), sasl.NotAuthorized)
		u, _ = w.welcomed(t, mechanism, "alice", second.Token, by(phone, 1))
		u.close()
		w.refused(t, mechanism, "alice", first.Token, by(phone, 4), sasl.NotAuthorized)

		// 3.6
		l := by(phone, 2)
		l.Fast.Invalidate = true
		time.Sleep(25 * time.Hour)
		u, welcome = w.welcomed(t, mechanism, "alice", second.Token, l)
		u.close()
		if welcome.Token != nil {
			t.Error("a token for who gave one up")
		}
		w.refused(t, mechanism, "alice", second.Token, by(phone, 3), sasl.NotAuthorized)

		// 4.2: only its owner learns that a token has expired.
		last := w.token(t, mechanism, "alice", phone)
		time.Sleep(22 * 24 * time.Hour)
		w.refused(t, mechanism, "alice", last.Token, by(phone, 1), sasl.CredentialsExpired)
		w.refused(t, mechanism, "alice", "another", by(phone, 1), sasl.NotAuthorized)

		for _, secret := range []string{first.Token, lost.Token, second.Token, last.Token} {
			if strings.Contains(w.log.String(), secret) {
				t.Error("a token is in the log")
			}
		}
		seen := w.hub.clients.seen
		if c := seen[0]; c.ID != phone || c.Software != "Rabbit" || c.Device != "watch" || c.ByToken || c.At.IsZero() || c.Mechanism != "SCRAM-SHA-256" || c.Resource == "" {
			t.Errorf("%+v", c)
		}
		if !seen[1].ByToken {
			t.Errorf("%+v", seen[1])
		}
	})
}

// Tokens that live for less than four days are replaced sooner: who comes every day never needs the password again.
func TestTokenLife(t *testing.T) {
	short := func(c *Config) { withClients(c); c.TokenLife = 24 * time.Hour }
	in(t, short, func(t *testing.T, w *world) {
		token := w.token(t, sasl.HTSHA256None, "alice", phone)
		if d := time.Until(token.Expiry); d > 24*time.Hour || d < 23*time.Hour {
			t.Error(d)
		}
		for day := range 3 {
			time.Sleep(23 * time.Hour)
			u, welcome := w.welcomed(t, sasl.HTSHA256None, "alice", token.Token, by(phone, 1))
			u.close()
			if welcome.Token == nil {
				t.Fatal("not replaced on day", day+1)
			}
			token = *welcome.Token
		}
		time.Sleep(24 * time.Hour)
		w.refused(t, sasl.HTSHA256None, "alice", token.Token, by(phone, 1), sasl.CredentialsExpired)
	})
}

// Access that is revoked while its owner logs in leaves it no session, however it gets one; the noted session is the one that it
// got. Who knows the password isn't kept out.
func TestRevokedDuringLogin(t *testing.T) {
	in(t, withClients, func(t *testing.T, w *world) {
		clients := &w.hub.clients
		token := w.token(t, sasl.HTSHA256None, "alice", phone)
		revoked := func(yes bool) {
			clients.mu.Lock()
			clients.revoked = yes
			clients.mu.Unlock()
		}
		thrownOut := func(what string, u *user) {
			t.Helper()
			if ev := u.next(); ev.Kind != stream.PeerError || ev.Err.Condition != stanza.StreamNotAuthorized {
				t.Errorf("%s: %+v", what, ev)
			}
			u.conn.Close()
		}
		revoked(true)
		u := w.secured(t)
		if ev := u.sasl2(sasl.HTSHA256None, "alice", token.Token, by(phone, 1), true); ev.Kind != stream.PeerError || ev.Err.Condition != stanza.StreamNotAuthorized {
			t.Errorf("inline: %+v", ev)
		}
		u.conn.Close()

		revoked(false)
		l := by(phone, 2)
		l.Bind = nil
		u, _ = w.welcomed(t, sasl.HTSHA256None, "alice", token.Token, l)
		revoked(true)
		u.write(u.mach.Bind(nil, "b", "desk"))
		thrownOut("classic", u)
		w.hub.mu.Lock()
		last := w.hub.requests[len(w.hub.requests)-1]
		w.hub.mu.Unlock()
		if last.Client != phone || last.Inline {
			t.Errorf("%+v", last)
		}
		clients.mu.Lock()
		if c := clients.seen[len(clients.seen)-1]; c.Resource != "desk" || !c.ByToken || c.ID != phone {
			t.Errorf("%+v", c)
		}
		clients.mu.Unlock()

		u, _ = w.welcomed(t, "SCRAM-SHA-256", "alice", "rabbit", on(phone))
		u.ping()
		u.close()
	})
}

// A failure and the next attempt fit one stream: the client falls back to the
// password (XEP-0484 4.1).
func TestFastFallsBack(t *testing.T) {
	in(t, withClients, func(t *testing.T, w *world) {
		u := w.secured(t)
		if ev := u.sasl2(sasl.HTSHA256None, "alice", "stale", by(phone, 1), true); ev.Name != "not-authorized" {
			t.Fatal(ev.Kind, ev.Name)
		}
		// The client checks XEP-0474's hash of what it was offered: the mechanisms of
		// tokens are not in it.
		u.offers = sasl.Advertised{Mechanisms: u.offered.Mechanisms, Bindings: u.offered.Bindings}
		l := on(phone)
		l.TokenFor, l.Version = sasl.HTSHA256None, u.offered.Version
		ev := u.sasl2("SCRAM-SHA-256-PLUS", "alice", "rabbit", l, false)
		if ev.Kind != stream.AuthSuccess || ev.Welcome.Token == nil {
			t.Fatalf("%+v", ev)
		}
		u.want(stream.Features)
		u.ping()
		u.close()
	})
}

// XEP-0509: who logs in with another day's features in mind is told so, and it is no
// failed login.
func TestPipelinedWithStaleFeatures(t *testing.T) {
	in(t, func(c *Config) { c.Limits.AddressFailures = Rate{Burst: 1, Every: time.Hour} }, func(t *testing.T, w *world) {
		u := w.secured(t)
		l := on(phone)
		l.Version = "yesterday"
		ev := u.sasl2("SCRAM-SHA-256", "alice", "rabbit", l, true)
		if ev.Kind != stream.AuthFailure || ev.Name != "aborted" || ev.Element.Child(xep.NSIAP, "config-version-mismatch").IsZero() {
			t.Fatalf("%+v", ev)
		}
		l.Version = u.offered.Version
		if ev = u.sasl2("SCRAM-SHA-256", "alice", "rabbit", l, false); ev.Kind != stream.AuthSuccess {
			t.Fatal(ev.Name)
		}
		u.conn.Close()
		u = w.secured(t)
		if ev = u.sasl2("SCRAM-SHA-256", "alice", "rabbit", l, true); ev.Kind != stream.AuthSuccess {
			t.Error("the features changed:", ev.Name)
		}
		u.conn.Close()
		if got := w.lines("login failed"); len(got) != 0 {
			t.Error(got)
		}
	})
}

// A broken store costs the token, not the login by password.
func TestFastStoreFails(t *testing.T) {
	in(t, withClients, func(t *testing.T, w *world) {
		token := w.token(t, sasl.HTSHA256None, "alice", phone)
		w.hub.clients.fail = errDropped
		w.refused(t, sasl.HTSHA256None, "alice", token.Token, by(phone, 1), sasl.TemporaryAuthFailure)
		l := on(phone)
		l.TokenFor = sasl.HTSHA256None
		u, welcome := w.welcomed(t, "SCRAM-SHA-256", "alice", "rabbit", l)
		if welcome.Token != nil {
			t.Error("a token that was not kept")
		}
		u.close()
	})
}

// Whoever has a token may not know the password, and so gets to set no keys.
func TestFastDoesNotUpgrade(t *testing.T) {
	in(t, func(c *Config) { withClients(c); c.Upgrades = c.Accounts.(*hub) }, func(t *testing.T, w *world) {
		token := w.token(t, sasl.HTSHA256None, "alice", phone)
		for _, k := range w.hub.keys {
			delete(k, sasl.SHA512)
		}
		l := by(phone, 1)
		l.Upgrades = []string{"UPGR-SCRAM-SHA-512"}
		u, _ := w.welcomed(t, sasl.HTSHA256None, "alice", token.Token, l)
		u.close()
		for account, k := range w.hub.keys {
			if _, ok := k[sasl.SHA512]; ok {
				t.Error("keys were set for", account)
			}
		}
	})
}
