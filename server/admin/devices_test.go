package admin

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/server/store"
)

// withClients makes romeo's account with three clients and four messages, of which the phone has two and the laptop all.
func withClients(t *testing.T) (*Host, store.AccountID) {
	t.Helper()
	h, _ := newHost(t)
	mustCall(t, h, "user add", map[string]string{"jid": "romeo@localhost", "password": "x"})
	account, err := h.Store.Account(t.Context(), jid.MustParse("romeo@localhost"))
	if err != nil {
		t.Fatal(err)
	}
	id, at := account.ID, time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	first := store.ArchiveID(at.UnixMicro())
	ops := []store.Op{
		store.ClientSeen{Account: id, ID: "phone-1", Software: "Rabbit", Device: "Phone", Mechanism: "SCRAM-SHA-256", Password: true, Resource: "p", At: at},
		store.ClientSeen{Account: id, ID: "laptop", Software: "Gajim\x1b[2J", At: at.Add(time.Hour)},
		store.ClientSeen{Account: id, ID: "phone-2", At: at.Add(-time.Hour)},
		store.TokenPut{Account: id, Client: "phone-1", Token: store.Token{Mechanism: "M", Value: []byte("not to be seen"), Issued: at, Expires: at.Add(24 * time.Hour)}},
		store.SessionSave{Account: id, Session: store.SavedSession{Key: store.NewResumeKey("s"), Resource: "p", Client: "phone-1"}},
	}
	for i := range store.ArchiveID(4) {
		ops = append(ops, store.ArchiveAppend{Account: id, ID: first + i, Peer: jid.MustParse("juliet@localhost"), Stanza: []byte("<message/>")})
	}
	ops = append(ops, store.ClientCursor{Account: id, ID: "phone-1", UpTo: first + 1}, store.ClientCursor{Account: id, ID: "laptop", UpTo: first + 3})
	if err := h.Store.Commit(t.Context(), ops...); err != nil {
		t.Fatal(err)
	}
	return h, id
}

// TestDevices shows who has the newest message (S-10), and what is known of each client.
func TestDevices(t *testing.T) {
	h, _ := withClients(t)
	r := mustCall(t, h, "user devices", map[string]string{"jid": "romeo@localhost"})
	list := r.Data.(Devices).Clients
	if len(list) != 3 || list[0].ID != "laptop" || list[1].ID != "phone-1" || list[2].ID != "phone-2" {
		t.Fatalf("%+v", list)
	}
	if c := list[0]; c.Behind == nil || *c.Behind != 0 || c.Password || !c.TokenUntil.IsZero() || c.State != "away" {
		t.Errorf("laptop: %+v", c)
	}
	if c := list[1]; c.Behind == nil || *c.Behind != 2 || !c.Password || c.TokenUntil.Day() != 21 || c.Device != "Phone" {
		t.Errorf("phone: %+v", c)
	}
	if c := list[2]; c.Behind != nil || c.Cursor != "" {
		t.Errorf("the one that doesn't say: %+v", c)
	}
	if !strings.HasPrefix(r.Text, "the newest message, of 2026-11-20 12:00:00Z, is on 1 of 2 devices that say what they have\n\nCLIENT ") ||
		strings.Contains(r.Text, "\x1b") || strings.Count(r.Text, "\n") != 6 {
		t.Errorf("\n%s", r.Text)
	}
	if b, err := json.Marshal(r); err != nil || strings.Contains(string(b), "not to be seen") {
		t.Errorf("%s: %v", b, err)
	}
}

func TestClientState(t *testing.T) {
	sessions := []feature.SessionInfo{{Client: "a", Detached: true}, {Client: "b", Detached: true}, {Client: "b"}, {}}
	for id, want := range map[string]string{"a": "waiting", "b": "connected", "c": "away"} {
		if got := clientState(id, sessions); got != want {
			t.Errorf("%s is %s, not %s", id, got, want)
		}
	}
}

// TestEndDevice: by its id or its beginning, in the data of a server that doesn't run: the client can't resume there either.
func TestEndDevice(t *testing.T) {
	h, id := withClients(t)
	end := func(which string) (string, error) {
		r, err := h.Call(t.Context(), "user devices", map[string]string{"jid": "romeo@localhost", "end": which})
		return r.Text, err
	}
	for which, want := range map[string]string{"": "no client", "tablet": `no client "tablet"`, "phone": `2 clients of romeo@localhost begin with "phone"`} {
		if _, err := end(which); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", which, err)
		}
	}
	if text, err := end("lap"); err != nil || !strings.Contains(text, "laptop of romeo@localhost ended") || strings.Contains(text, "passwd") {
		t.Error(text, err)
	}
	if text, err := end("phone-1"); err != nil || !strings.Contains(text, "It knows the password") {
		t.Error(text, err)
	}
	if _, err := h.Store.Client(t.Context(), id, "phone-1"); !errors.Is(err, store.ErrNotFound) {
		t.Error("still known:", err)
	}
	if _, _, err := h.Store.Tokens(t.Context(), jid.MustParse("romeo@localhost"), "phone-1"); !errors.Is(err, store.ErrNotFound) {
		t.Error("it has a token:", err)
	}
	if list, err := h.Store.SessionsOf(t.Context(), id); err != nil || len(list) != 1 || !list[0].Ends.Before(time.Now()) {
		t.Errorf("its session: %+v %v", list, err)
	}
}
