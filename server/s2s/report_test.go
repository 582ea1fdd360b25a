package s2s

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"carillon.im/server/s2s/lookup"
)

// TestStreams: what an operator is told of each way and stream.
func TestStreams(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("a.example", nil), w.add("b.example", nil)
	w.locate("gone.example", "127.0.0.1:1", false)
	a.send("p@b.example", "x", 1)
	b.expect("x")
	waitFor(t, "acknowledgement", func() bool { return len(a.forgotten()) == 1 })
	a.send("p@gone.example", "y", 2)
	waitFor(t, "a failure", func() bool { return a.Metrics.ConnectErrors.Load() > 0 })
	var got []StreamInfo
	waitFor(t, "a pause", func() bool {
		got = a.Streams()
		return len(got) == 2 && got[1].State == "waiting"
	})
	if s := got[0]; s.Domain != "b.example" || s.For != "a.example" || s.State != "up" || s.Security != "[TLS PKIX EXTERNAL]" || s.Waiting+s.Unacked+s.Bytes != 0 || s.Error != "" {
		t.Errorf("to b: %+v", s)
	}
	if s := got[1]; s.Domain != "gone.example" || s.Waiting != 1 || s.Bytes == 0 || !strings.Contains(s.Error, "connection refused") {
		t.Errorf("to gone: %+v", s)
	}
	if in := b.Streams(); len(in) != 2 || in[0].Incoming || !in[1].Incoming || !in[1].Both || in[1].State != "up" || in[0].Domain != "a.example" {
		t.Errorf("at b: %+v", in)
	}
}

// TestLook: what another server would see.
func TestLook(t *testing.T) {
	w := newWorld(t)
	w.add("a.example", nil)
	w.add("b.example", w.ca.sign(t, nil, "other.example"))
	w.locate("gone.example", "127.0.0.1:1", false)
	look := func(domain string) ([]Seen, error) {
		return Look(t.Context(), Config{Resolver: lookup.New(w.dns), Roots: w.ca.pool(), Limits: DefaultLimits(), Log: slog.New(slog.DiscardHandler)}, domain)
	}
	for domain, want := range map[string]string{
		"a.example":    "proved by PKIX, certificate for a.example until",
		"b.example":    "its certificate doesn't name b.example but other.example",
		"gone.example": "connection refused",
	} {
		got, err := look(domain)
		if err != nil || len(got) != 1 || !strings.Contains(got[0].String(), want) {
			t.Errorf("%s: %v, %v", domain, got, err)
		}
	}
	if got, err := look("nowhere.example"); err == nil && !errors.Is(got[0].Error, lookup.ErrNoService) {
		t.Errorf("nowhere: %v", got)
	}
}
