package bench

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/server"
	"carillon.im/server/account"
	"carillon.im/server/config"
	"carillon.im/server/feature"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/test/xmppclient"
	"carillon.im/xmltree"
)

// start runs a whole server on the data folder dir, makes the accounts and
// returns where it listens.
func start(b *testing.B, dir string, names ...string) string {
	b.Helper()
	cfg := config.Default()
	cfg.Data, cfg.C2S, cfg.C2STLS, cfg.HTTP = dir, config.Off, "127.0.0.1:0", config.Off
	cfg.Auth.Iterations = sasl.MinIterations
	cfg.Limits.OutboxBytes = 16 << 20
	ctx, stop := context.WithCancel(context.Background())
	s, err := server.NewWith(ctx, cfg, slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelWarn})), server.Options{})
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	<-s.Ready()
	b.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	for _, name := range names {
		if _, err := s.Host().Call(ctx, "user add", map[string]string{"jid": name + "@localhost", "password": "secret"}); err != nil {
			b.Fatal(err)
		}
	}
	return s.Addrs()["c2s_tls"]
}

func login(b *testing.B, addr, name string, observe func(*stream.Event)) *xmppclient.Client {
	b.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	c, err := xmppclient.Login(nc, xmppclient.Config{Account: jid.MustParse(name + "@localhost"), Password: "secret", Direct: true, Observe: observe,
		TLS: &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"}}) // self-signed, over loopback
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Cut)
	if err := c.Bind("bench"); err != nil {
		b.Fatal(err)
	}
	if err := c.Send("<presence/>"); err != nil {
		b.Fatal(err)
	}
	return c
}

const message = "<message to='bob@localhost' type='chat' id='0123456789'><body>It was a bright cold day in April, and the clocks were striking thirteen.</body></message>"

// BenchmarkEndToEnd is one message from alice to bob: read from her TLS
// connection, routed, committed to both archives on disk, written to his.
// Allocations and time are server's and clients' together; "alone" waits for
// each message, and so for its commit, "streamed" keeps many under way.
func BenchmarkEndToEnd(b *testing.B) {
	for _, way := range []struct {
		name   string
		window int
	}{{"alone", 1}, {"streamed", 256}} {
		b.Run(way.name, func(b *testing.B) {
			addr := start(b, b.TempDir(), "alice", "bob")
			got := make(chan struct{}, way.window)
			login(b, addr, "bob", func(ev *stream.Event) {
				if ev.Stanza != nil && ev.Stanza.Kind == stanza.Message {
					got <- struct{}{}
				}
			})
			alice := login(b, addr, "alice", func(*stream.Event) {})
			b.ReportAllocs()
			b.ResetTimer()
			sent, received := 0, 0
			for received < b.N {
				for sent < b.N && sent-received < way.window {
					if err := alice.Send(message); err != nil {
						b.Fatal(err)
					}
					sent++
				}
				<-got
				received++
			}
		})
	}
}

// device is the connection of a session: what it is given is counted and
// thrown away.
type device struct {
	wake    chan struct{}
	session *account.Session
}

// Wake implements account.Transport.
func (d *device) Wake() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// End implements account.Transport.
func (d *device) End(*stanza.StreamError) { d.session.Close(d) }

// drain takes what the session has until ctx ends; got hears of each message.
func (d *device) drain(ctx context.Context, got chan<- struct{}) {
	var buf []byte
	for {
		select {
		case <-d.wake:
		case <-ctx.Done():
			return
		}
		for more := true; more; {
			buf, more = d.session.Next(d, buf[:0], 16<<10)
			for range bytes.Count(buf, []byte("<message")) {
				got <- struct{}{}
			}
		}
	}
}

// BenchmarkWithoutTLS is BenchmarkEndToEnd from the received bytes to the bytes
// to send: parsing, both accounts, both archives on disk; no sockets, no TLS.
func BenchmarkWithoutTLS(b *testing.B) {
	ctx, stop := context.WithCancel(context.Background())
	log := slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelWarn}))
	st, err := store.Open(ctx, store.Options{Path: b.TempDir(), Log: log})
	if err != nil {
		b.Fatal(err)
	}
	set, err := feature.NewSet()
	if err != nil {
		b.Fatal(err)
	}
	hub := account.New(account.Config{Domains: []string{"localhost"}, Store: st, Features: set, Log: log, Now: time.Now, Rand: rand.Reader,
		Loops: 1, ArchiveDefault: "always", Limits: account.Limits{OutboxBytes: 16 << 20, SessionsPerAccount: 10, IdleAccounts: 10}})
	defer func() {
		hub.Close(ctx)
		stop()
		if err := st.Close(); err != nil {
			b.Error(err)
		}
	}()
	const window = 256
	got := make(chan struct{}, window)
	var sessions []*account.Session
	for _, name := range []string{"alice", "bob"} {
		bare := jid.MustParse(name + "@localhost")
		if _, err := st.CreateAccount(ctx, bare, nil); err != nil {
			b.Fatal(err)
		}
		d := &device{wake: make(chan struct{}, 1)}
		x, err := hub.Bind(ctx, account.BindRequest{Account: bare, Resource: "bench", Transport: d})
		if err != nil {
			b.Fatal(err)
		}
		d.session = x
		sessions = append(sessions, x)
		go d.drain(ctx, got)
		if err := x.Receive(ctx, parsed(b, "<presence/>", x.JID()), 0); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	sent, received := 0, 0
	for received < b.N {
		for sent < b.N && sent-received < window {
			if err := sessions[0].Receive(ctx, parsed(b, message, sessions[0].JID()), len(message)); err != nil {
				b.Fatal(err)
			}
			sent++
		}
		<-got
		received++
	}
}

func parsed(b *testing.B, s string, from jid.JID) *stanza.Stanza {
	st, err := stanza.ParseBytes([]byte(s), xmltree.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	st.From = from
	return st
}
