package admin

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/server/store"
)

// TestDevicesPush: which push services wake an account's devices and how they do,
// and none of their secrets.
func TestDevicesPush(t *testing.T) {
	h, id := withClients(t)
	at := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	service := jid.MustParse("push.example")
	ops := []store.Op{}
	for i, node := range []string{"s3cret-1", "s3cret-2", "s3cret-3"} {
		ops = append(ops, store.PushEnable{Account: id, Target: store.PushTarget{Service: service, Node: node, Options: "s3cret", Client: []string{"phone-1", "", "laptop"}[i],
			Resource: []string{"p", "plain", "l\x1b[2J"}[i], At: at.Add(time.Duration(i) * time.Minute)}})
	}
	key := func(node string) store.PushKey { return store.PushKey{Account: id, Service: service, Node: node} }
	ops = append(ops, store.PushHold{PushKey: key("s3cret-1"), ID: 1}, store.PushHold{PushKey: key("s3cret-1"), ID: 2},
		store.PushFailed{PushKey: key("s3cret-2"), State: store.PushState{Failures: 2, Retry: at.Add(time.Hour), Condition: "remote-server-timeout"}},
		store.PushFailed{PushKey: key("s3cret-3"), State: store.PushState{Failures: 1, Off: true, Condition: "item-not-found"}})
	if err := h.Store.Commit(t.Context(), ops...); err != nil {
		t.Fatal(err)
	}
	r := mustCall(t, h, "user devices", map[string]string{"jid": "romeo@localhost"})
	_, table, _ := strings.Cut(r.Text, "\nPUSH FOR")
	lines := strings.Split(strings.TrimSpace(table), "\n")
	if len(lines) != 4 {
		t.Fatalf("\n%s", r.Text)
	}
	for i, want := range [][]string{nil, {"laptop", "off: item-not-found ", "2026-11-20 12:02:00Z", " 0"}, {"plain ", " - ", "failing: remote-server-timeout, again at 2026-11-20 13:00:00Z", " 0"},
		{"p ", "phone-1", "push.example", " on ", " 2"}} {
		for _, piece := range want {
			if !strings.Contains(lines[i], piece) {
				t.Errorf("%q lacks %q", lines[i], piece)
			}
		}
	}
	b, err := json.Marshal(r)
	if err != nil || strings.Contains(string(b)+r.Text, "s3cret") || strings.Contains(r.Text, "\x1b") {
		t.Errorf("%s: %v", b, err)
	}
}
