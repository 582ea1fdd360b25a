package sasl

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

// htProof computes a message of the mechanism from the draft's words, without this
// package's code: HMAC(token, word || cb-data).
func htProof(token, word string, binding []byte) []byte {
	w := hmac.New(sha256.New, []byte(token))
	w.Write([]byte(word))
	w.Write(binding)
	return w.Sum(nil)
}

func htConfig(bindings ...ChannelBinding) *ServerConfig {
	return &ServerConfig{
		Prepare: func(s string) (string, error) {
			if strings.Contains(s, "@") {
				return "", errors.New("no name")
			}
			return strings.ToLower(s), nil
		},
		Lookup:      func(string, Hash) (Keys, error) { return Keys{}, ErrUnknownUser },
		DummySecret: []byte("0123456789abcdef"),
		Iterations:  MinIterations,
		Bindings:    bindings,
		Rand:        rand.Reader,
	}
}

var (
	htExporter = ChannelBinding{TLSExporter, []byte("exported key")}
	htEndPoint = ChannelBinding{TLSServerEndPoint, []byte("certificate hash")}
)

// Vectors made with another implementation of HMAC (openssl dgst -sha256 -hmac).
func TestHashedTokenVectors(t *testing.T) {
	for _, tt := range []struct{ token, word, binding, want string }{
		{"Jefe", "what do ya want for nothing?", "", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"}, // RFC 4231 4.3
	} {
		if got := hex.EncodeToString(hashedToken(tt.token, tt.word, []byte(tt.binding))); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.token, got, tt.want)
		}
	}
	for _, binding := range []string{"", "data", "\x00\xff"} {
		for _, word := range []string{"Initiator", "Responder"} {
			if !bytes.Equal(hashedToken("secret", word, []byte(binding)), htProof("secret", word, []byte(binding))) {
				t.Errorf("%s with binding %q differs from its definition", word, binding)
			}
		}
	}
}

func TestTokenMechanisms(t *testing.T) {
	for _, tt := range []struct {
		bindings []ChannelBinding
		want     string
	}{
		{nil, "HT-SHA-256-NONE"},
		{[]ChannelBinding{htEndPoint}, "HT-SHA-256-ENDP HT-SHA-256-NONE"},
		{[]ChannelBinding{htExporter, htEndPoint}, "HT-SHA-256-EXPR HT-SHA-256-ENDP HT-SHA-256-NONE"},
		{[]ChannelBinding{{"tls-unique", []byte("x")}}, "HT-SHA-256-NONE"},
	} {
		if got := strings.Join(TokenMechanisms(tt.bindings), " "); got != tt.want {
			t.Errorf("%v: %s", tt.bindings, got)
		}
	}
}

func TestTokenServer(t *testing.T) {
	cfg := htConfig(htExporter, htEndPoint)
	for _, tt := range []struct {
		name, mechanism, in, want string // want: the token, or the condition
	}{
		{"none", HTSHA256None, "alice\x00" + string(htProof("new", "Initiator", nil)), "new"},
		{"older token", HTSHA256None, "alice\x00" + string(htProof("old", "Initiator", nil)), "old"},
		{"third token", HTSHA256None, "alice\x00" + string(htProof("third", "Initiator", nil)), "not-authorized"},
		{"name is prepared", HTSHA256None, "ALICE\x00" + string(htProof("new", "Initiator", nil)), "new"},
		{"htExporter", HTSHA256Exporter, "alice\x00" + string(htProof("new", "Initiator", htExporter.Data)), "new"},
		{"end point", HTSHA256EndPoint, "alice\x00" + string(htProof("new", "Initiator", htEndPoint.Data)), "new"},
		{"binding left out", HTSHA256Exporter, "alice\x00" + string(htProof("new", "Initiator", nil)), "not-authorized"},
		{"another binding", HTSHA256Exporter, "alice\x00" + string(htProof("new", "Initiator", htEndPoint.Data)), "not-authorized"},
		{"binding where none is", HTSHA256None, "alice\x00" + string(htProof("new", "Initiator", htExporter.Data)), "not-authorized"},
		{"the server's word", HTSHA256None, "alice\x00" + string(htProof("new", "Responder", nil)), "not-authorized"},
		{"wrong token", HTSHA256None, "alice\x00" + string(htProof("wrong", "Initiator", nil)), "not-authorized"},
		{"empty token", HTSHA256None, "empty\x00" + string(htProof("", "Initiator", nil)), "not-authorized"},
		{"the dummy", HTSHA256None, "nobody\x00" + string(htProof("0123456789abcdef", "Initiator", nil)), "not-authorized"},
		{"the dummy as one of two", HTSHA256None, "single\x00" + string(htProof("0123456789abcdef", "Initiator", nil)), "not-authorized"},
		{"unknown user", HTSHA256None, "nobody\x00" + string(htProof("new", "Initiator", nil)), "not-authorized"},
		{"no name", HTSHA256None, "a@b\x00" + string(htProof("new", "Initiator", nil)), "not-authorized"},
		{"broken store", HTSHA256None, "broken\x00" + string(htProof("new", "Initiator", nil)), "temporary-auth-failure"},
		{"empty name", HTSHA256None, "\x00" + string(htProof("new", "Initiator", nil)), "malformed-request"},
		{"not UTF-8", HTSHA256None, "\xff\x00" + string(htProof("new", "Initiator", nil)), "malformed-request"},
		{"no separator", HTSHA256None, "alice", "malformed-request"},
		{"short", HTSHA256None, "alice\x00abc", "malformed-request"},
		{"long", HTSHA256None, "alice\x00" + string(htProof("new", "Initiator", nil)) + "x", "malformed-request"},
		{"huge name", HTSHA256None, strings.Repeat("a", 5000) + "\x00" + string(htProof("new", "Initiator", nil)), "malformed-request"},
		{"nothing", HTSHA256None, "", "malformed-request"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := NewTokenServer(tt.mechanism, cfg, func(username string) ([]string, error) {
				switch username {
				case "alice":
					return []string{"new", "old", "third"}, nil
				case "single":
					return []string{"one"}, nil
				case "empty":
					return []string{"", ""}, nil
				case "broken":
					return nil, errors.New("disk")
				}
				return nil, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			out, done, err := s.Next([]byte(tt.in))
			var e *Error
			if errors.As(err, &e) {
				if string(e.Condition) != tt.want || done || out != nil || s.Token() != "" {
					t.Errorf("%v, done %v, out %q, token %q; want %s", err, done, out, s.Token(), tt.want)
				}
			} else if !done || s.Token() != tt.want {
				t.Errorf("done %v, token %q, %v; want %s", done, s.Token(), err, tt.want)
			} else if binding, _ := tokenBinding(tt.mechanism, cfg.Bindings); !bytes.Equal(out, htProof(tt.want, "Responder", binding)) {
				t.Errorf("the server's proof is %x", out)
			}
			if _, done, err := s.Next([]byte(tt.in)); done || err == nil {
				t.Error("a second message was taken")
			}
		})
	}
	for _, name := range []string{"HT-SHA-256-UNIQ", "HT-SHA-512-NONE", "SCRAM-SHA-256", ""} {
		if _, err := NewTokenServer(name, cfg, nil); err == nil {
			t.Errorf("%s was accepted", name)
		}
		// Nor are tokens a mechanism of ordinary logins.
		if _, err := NewServer(HTSHA256None, cfg); err == nil {
			t.Error("NewServer takes tokens")
		}
	}
	if _, err := NewTokenServer(HTSHA256Exporter, htConfig(htEndPoint), nil); err == nil {
		t.Error("-EXPR without its binding was accepted")
	}
}

func TestTokenClient(t *testing.T) {
	server := htConfig(htExporter)
	for _, mechanism := range TokenMechanisms(server.Bindings) {
		for _, token := range []string{"token", "wrong"} {
			c, err := NewClient(mechanism, &ClientConfig{Username: "alice", Password: token, Bindings: server.Bindings, Rand: rand.Reader})
			if err != nil {
				t.Fatal(err)
			}
			s, err := NewTokenServer(mechanism, server, func(string) ([]string, error) { return []string{"token"}, nil })
			if err != nil {
				t.Fatal(err)
			}
			first, done, err := c.Next(nil)
			if done || err != nil {
				t.Fatal(done, err)
			}
			proof, done, err := s.Next(first)
			if done != (token == "token") || (err == nil) != done {
				t.Fatalf("%s: %v %v", mechanism, done, err)
			}
			if !done {
				proof = htProof("token", "Responder", nil)
			}
			if _, done, err = c.Next(proof); done != (token == "token") {
				t.Errorf("%s: the client says %v %v", mechanism, done, err)
			}
			if !done && !errors.Is(err, ErrServerUnproved) {
				t.Error(err)
			}
			if _, done, err = c.Next(proof); done || err == nil {
				t.Error("the client goes on")
			}
		}
	}
	for name, cfg := range map[string]*ClientConfig{
		"no token":   {Username: "alice", Rand: rand.Reader},
		"no name":    {Password: "x", Rand: rand.Reader},
		"authzid":    {Username: "alice", Password: "x", Authzid: "queen@x", Rand: rand.Reader},
		"no binding": {Username: "alice", Password: "x", Rand: rand.Reader},
	} {
		mechanism := HTSHA256None
		if name == "no binding" {
			mechanism = HTSHA256Exporter
		}
		if _, err := NewClient(mechanism, cfg); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

// XEP-0480 3: the parameters of its example 5, whose hash is made of "pencil".
func TestSaltedKeys(t *testing.T) {
	salt := []byte("A_XLBsQa6sek8bf_Z")
	salted, err := SaltPassword(SHA256, "pencil", salt, 4096)
	if err != nil {
		t.Fatal(err)
	}
	got, err := SaltedKeys(SHA256, salted, salt, 4096)
	if err != nil {
		t.Fatal(err)
	}
	if !got.VerifyPassword("pencil") || got.VerifyPassword("pen") {
		t.Error("the keys are another password's")
	}
	for name, f := range map[string]func() error{
		"short":      func() error { _, err := SaltedKeys(SHA256, salted[1:], salt, 4096); return err },
		"hash":       func() error { _, err := SaltedKeys(0, salted, salt, 4096); return err },
		"no salt":    func() error { _, err := SaltedKeys(SHA256, salted, nil, 4096); return err },
		"iterations": func() error { _, err := SaltedKeys(SHA256, salted, salt, 0); return err },
	} {
		if f() == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

// FuzzTokenServer: nothing but a proof lets anybody in, and nothing panics.
func FuzzTokenServer(f *testing.F) {
	f.Add([]byte("alice\x00" + string(make([]byte, 32))))
	f.Add([]byte("alice"))
	cfg := htConfig(htExporter)
	proof := append([]byte("alice\x00"), htProof("token", "Initiator", nil)...)
	f.Fuzz(func(t *testing.T, in []byte) {
		s, err := NewTokenServer(HTSHA256None, cfg, func(string) ([]string, error) { return []string{"token"}, nil })
		if err != nil {
			t.Fatal(err)
		}
		if _, done, _ := s.Next(in); done && !bytes.HasSuffix(in, proof[5:]) {
			t.Fatalf("let in with %q", in)
		}
	})
}
