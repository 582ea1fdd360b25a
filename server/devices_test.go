package server

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/server/c2s"
	"carillon.im/server/config"
)

// quietServer is a server on a store in memory that nobody connects to.
func quietServer(t *testing.T) *Server {
	cfg := config.Default()
	cfg.Data = t.TempDir()
	cfg.C2S, cfg.C2STLS, cfg.HTTP = config.Off, config.Off, config.Off
	cfg.Auth.Iterations = sasl.MinIterations
	s, err := NewWith(t.Context(), cfg, slog.New(slog.DiscardHandler), Options{Path: ":memory:", Release: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.close(t.Context()) })
	return s
}

// TestRevokedToken: a token of a client that was revoked is worth nothing, also to a login that had begun (XEP-0484 3.6, XEP-0494 3.2).
func TestRevokedToken(t *testing.T) {
	s := quietServer(t)
	ctx, k, romeo := t.Context(), &devices{s}, jid.MustParse("romeo@localhost")
	users := &accounts{server: s}
	if err := users.Create(ctx, romeo, "secret"); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	seen := c2s.Client{ID: "phone", Mechanism: "SCRAM-SHA-256", At: now}
	token := c2s.Token{Secret: "t", Mechanism: sasl.HTSHA256None, Issued: now, Expiry: now.Add(time.Hour).Truncate(time.Second)}
	login := func() error {
		t.Helper()
		if err := k.ClientSeen(ctx, romeo, seen); err != nil {
			return err
		}
		return k.IssueToken(ctx, romeo, "phone", token)
	}
	if err := login(); err != nil {
		t.Fatal(err)
	}
	use := c2s.TokenUse{Token: token, Count: 1, At: now}
	byToken := seen
	byToken.ByToken, byToken.Mechanism = true, sasl.HTSHA256None
	if err := errors.Join(k.UseToken(ctx, romeo, "phone", use), k.ClientSeen(ctx, romeo, byToken)); err != nil {
		t.Fatal(err)
	}
	use.Count++
	if err := k.UseToken(ctx, romeo, "phone", use); err != nil {
		t.Fatal(err)
	}
	if err := k.EndClient(ctx, romeo, "phone"); err != nil {
		t.Fatal(err)
	}
	if err := k.ClientSeen(ctx, romeo, byToken); !errors.Is(err, c2s.ErrTokenUsed) {
		t.Error("a login that had begun:", err)
	}
	use.Count++
	if err := k.UseToken(ctx, romeo, "phone", use); !errors.Is(err, c2s.ErrTokenUsed) {
		t.Error("a login that begins:", err)
	}
	if list, err := k.Tokens(ctx, romeo, "phone", sasl.HTSHA256None); err != nil || len(list) != 0 {
		t.Error(list, err)
	}
	if err := login(); err != nil {
		t.Error("with the password:", err)
	}
}
