package server

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"net"
	"testing"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/server/store"
	"carillon.im/stream"
	"carillon.im/xep"
)

// login logs in to a server by SASL2, doing the tasks that it is given (XEP-0480); refusal is the condition of a failure. The server's features say
// what may be upgraded.
func login(t *testing.T, s *Server, mechanism, password string, wanted ...string) (refusal string, offered, done []string) {
	t.Helper()
	near, far := net.Pipe()
	s.ServeConn(far, true)
	conn := tls.Client(near, &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"})
	defer near.Close()
	mach := stream.NewClient(&stream.ClientConfig{Domain: jid.MustParse("localhost")})
	x, err := sasl.NewClient(mechanism, &sasl.ClientConfig{Username: "romeo", Password: password, Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	first, _, err := x.Next(nil)
	if err == nil {
		err = conn.Handshake()
	}
	if err != nil {
		t.Fatal(err)
	}
	mach.Secured()
	out := mach.Authenticate(mach.Open(nil), mechanism, first, &stream.Login{Upgrades: wanted})
	proved := false
	prove := func(data []byte) {
		if !proved {
			if _, proved, err = x.Next(data); err != nil || !proved {
				t.Fatalf("the server has not proved itself: %v", err)
			}
		}
	}
	var in []byte
	buf := make([]byte, 4096)
	for {
		if len(out) > 0 {
			if _, err := conn.Write(out); err != nil {
				t.Fatal(err)
			}
			out = nil
		}
		ev, n := mach.Next(in)
		in = in[n:]
		switch ev.Kind {
		case stream.NeedMore:
			n, err := conn.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			in = buf[:n]
		case stream.Features:
			offered = stream.ParseFeatures(ev.Element).Upgrades
		case stream.AuthResponse:
			answer, _, err := x.Next(ev.Data)
			if err != nil {
				t.Fatal(err)
			}
			out = mach.Respond(nil, answer)
		case stream.AuthContinue:
			prove(ev.Data)
			tasks := stream.ParseTasks(ev.Element)
			done = append(done, tasks...)
			out = mach.BeginTask(nil, tasks[0])
		case stream.TaskData:
			salt, iterations, ok := xep.ParseSCRAMSalt(ev.Element)
			hash := map[string]sasl.Hash{"UPGR-SCRAM-SHA-256": sasl.SHA256, "UPGR-SCRAM-SHA-512": sasl.SHA512}[done[len(done)-1]]
			salted, err := sasl.SaltPassword(hash, password, salt, iterations)
			if !ok || err != nil {
				t.Fatal("no salt", err)
			}
			out = mach.TaskData(nil, xep.AppendSCRAMHash(nil, salted))
		case stream.AuthSuccess:
			prove(ev.Data)
			return "", offered, done
		case stream.AuthFailure:
			return ev.Name, offered, done
		case stream.Opened:
		default:
			t.Fatalf("event %d: %v", ev.Kind, ev.Err)
		}
	}
}

// TestUpgrade: an account that came with keys for SCRAM-SHA-1 alone, as one from another server may, has keys for the stronger hashes after a login by a
// client that does the tasks, and then no more tasks (XEP-0480). Keys are added, and none replaced.
func TestUpgrade(t *testing.T) {
	s := quietServer(t)
	ctx, romeo := t.Context(), jid.MustParse("romeo@localhost")
	weak, err := sasl.DeriveKeys(sasl.SHA1, "secret", []byte("0123456789abcdef"), sasl.MinIterations)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.store.CreateAccount(ctx, romeo, []sasl.Keys{weak}); err != nil {
		t.Fatal(err)
	}
	both := []string{"UPGR-SCRAM-SHA-256", "UPGR-SCRAM-SHA-512"}
	for _, step := range []struct {
		mechanism, password string
		wanted              []string
		refusal             string
		done                int
	}{
		// What the account has no keys for is answered like a wrong password, or its name would be told apart.
		{"SCRAM-SHA-256", "secret", both, "not-authorized", 0},
		{"SCRAM-SHA-512", "secret", both, "not-authorized", 0},
		{"SCRAM-SHA-1", "wrong", both, "not-authorized", 0},
		{"SCRAM-SHA-1", "secret", nil, "", 0},
		{"SCRAM-SHA-256", "secret", nil, "not-authorized", 0},
		{"SCRAM-SHA-1", "secret", []string{"UPGR-SCRAM-SHA-1", "UPGR-NONE"}, "", 0},
		{"SCRAM-SHA-1", "secret", both, "", 2},
		{"SCRAM-SHA-1", "secret", both, "", 0},
		{"SCRAM-SHA-256", "secret", both, "", 0},
		{"SCRAM-SHA-512", "secret", nil, "", 0},
		{"SCRAM-SHA-512", "wrong", nil, "not-authorized", 0},
	} {
		refusal, offered, done := login(t, s, step.mechanism, step.password, step.wanted...)
		if refusal != step.refusal || len(done) != step.done || len(offered) != 2 {
			t.Fatalf("%+v: refused %q, offered %v, done %v", step, refusal, offered, done)
		}
	}
	if k, _, err := s.store.Keys(ctx, romeo, sasl.SHA1); err != nil || string(k.StoredKey) != string(weak.StoredKey) {
		t.Error("the old keys changed:", err)
	}
	strong, _, err := s.store.Keys(ctx, romeo, sasl.SHA512)
	if err != nil || strong.Iterations != s.cfg.Auth.Iterations || len(strong.Salt) != sasl.SaltSize {
		t.Errorf("%+v %v", strong, err)
	}
	users := &accounts{server: s}
	other, err := sasl.DeriveKeys(sasl.SHA512, "another", []byte("0123456789abcdef"), sasl.MinIterations)
	if err := errors.Join(err, users.AddKeys(ctx, romeo, other)); err != nil {
		t.Fatal("keys that are there already:", err)
	}
	if k, _, err := s.store.Keys(ctx, romeo, sasl.SHA512); err != nil || string(k.StoredKey) != string(strong.StoredKey) {
		t.Error("keys were replaced:", err)
	}
	if err := users.AddKeys(ctx, jid.MustParse("nobody@localhost"), other); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
}
