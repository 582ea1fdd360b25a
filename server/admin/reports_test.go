package admin

import (
	"testing"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/server/store"
)

// TestReportList: who is reported, the latest first, and nothing that moves the
// operator's terminal.
func TestReportList(t *testing.T) {
	h, _ := newHost(t)
	if got := mustCall(t, h, "reports", nil); got.Text != "Nobody is reported.\n" || len(got.Data.([]Report)) != 0 {
		t.Errorf("without reports: %+v", got)
	}
	id, err := h.Store.CreateAccount(t.Context(), jid.MustParse("juliet@localhost"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for who, text := range map[string]string{
		"early@spam.example": `{"at":"2026-11-01T12:00:00Z","reason":"urn:xmpp:reporting:abuse","text":"one\nt\u001b[2Jwo"}`,
		"late@spam.example":  `{"at":"2026-11-02T12:00:00Z","reason":"urn:xmpp:reporting:spam","messages":["m1","m2"]}`,
	} {
		if err := h.Store.Commit(t.Context(), store.KVPut{Account: id, Space: feature.ReportSpace, Key: who, Value: []byte(text)}); err != nil {
			t.Fatal(err)
		}
	}
	got := mustCall(t, h, "reports", nil)
	const want = "2026-11-02 12:00:00  juliet@localhost reports late@spam.example: spam\n    messages in the archive: m1 m2\n" +
		"2026-11-01 12:00:00  juliet@localhost reports early@spam.example: abuse\n    one\n    t\ufffd[2Jwo\n"
	if got.Text != want || len(got.Data.([]Report)) != 2 {
		t.Errorf("got %s", got.Text)
	}
}
