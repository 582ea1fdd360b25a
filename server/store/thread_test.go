package store

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/server/store/sqlite"
)

func TestThreadOf(t *testing.T) {
	for message, thread := range map[string]string{
		"<message/>":                                                                             "",
		"<message><body>thread</body></message>":                                                 "",
		"<message><thread>t</thread></message>":                                                  "t",
		"<message><thread> t\n</thread></message>":                                               " t\n",
		"<message><thread>a&amp;b</thread></message>":                                            "a&b",
		"<message><thread parent='p'>t</thread></message>":                                       "t",
		"<message><thread>t</thread><thread>u</thread></message>":                                "t",
		"<message><thread/><thread>u</thread></message>":                                         "",
		"<message><x xmlns='urn:x'><thread>t</thread></x></message>":                             "",
		"<message><thread xmlns='urn:x'>t</thread></message>":                                    "",
		"<message><thread>" + strings.Repeat("x", MaxThread) + "</thread></message>":             strings.Repeat("x", MaxThread),
		"<message><thread>" + strings.Repeat("x", MaxThread+1) + "</thread></message>":           "",
		"<message><thread>t</thread>" + strings.Repeat("<b/>", 100_000) + "</message>":           "t",
		"<message><thread>t</thread><body>" + strings.Repeat("x", 600_000) + "</body></message>": "t",
		"<message><thread>t": "",
	} {
		if got := threadOf([]byte(message)); got != newThreadKey(thread) || thread != "" && got == (threadKey{}) {
			t.Errorf("%.80s: %x", message, got)
		}
	}
}

// TestThreadsOfOldMessages: a database of the first schema, with entries in the archive table and in the tail, has all of them and their threads
// after Open, also after one that was cut short.
func TestThreadsOfOldMessages(t *testing.T) {
	const (
		accounts = 3
		entries  = 4000 // of each, in the archive table; more than two steps
		tailed   = 10
	)
	dir := t.TempDir()
	c, err := sqlite.Open(filepath.Join(dir, "store.db"))
	if err != nil {
		t.Fatal(err)
	}
	steps, err := migrations(migrationFiles)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Exec("PRAGMA journal_mode = WAL"), migrate(t.Context(), c, steps[:1], time.Unix(1, 0)), c.Exec("BEGIN")); err != nil {
		t.Fatal(err)
	}
	insert, err := c.Prepare("INSERT INTO archive (account, id, peer_hash, peer, stanza) VALUES (?, ?, ?, 'b@x.example', ?)")
	if err != nil {
		t.Fatal(err)
	}
	peer := jid.MustParse("b@x.example")
	stanza := func(i int) []byte {
		if i%100 == 0 {
			return fmt.Appendf(nil, "<message id='%d'><thread>t%d</thread></message>", i, i%300)
		}
		return fmt.Appendf(nil, "<message id='%d'><body>a thread</body></message>", i)
	}
	var tail []byte
	for a := 1; a <= accounts; a++ {
		if err := c.Exec(fmt.Sprintf("INSERT INTO account (jid, domain, created) VALUES ('u%d@x.example', 'x.example', 0)", a)); err != nil {
			t.Fatal(err)
		}
		for i := 1; i <= entries+tailed; i++ {
			if i > entries {
				tail = appendEntry(tail, AccountID(a), tailRow{id: ArchiveID(i * 100), peer: peer, stanza: stanza(i * 100)}) // as it was before threads
				continue
			}
			bind(insert, a, i, peerHash(peer), stanza(i))
			if err := insert.Run(); err != nil {
				t.Fatal(err)
			}
		}
	}
	put, err := c.Prepare("INSERT INTO tail VALUES (1, ?)")
	if err != nil {
		t.Fatal(err)
	}
	put.Blob(1, tail)
	if err := errors.Join(put.Run(), c.Exec("COMMIT"), c.Close()); err != nil {
		t.Fatal(err)
	}

	cut, commits := errors.New("cut short"), 0
	_, err = Open(t.Context(), Options{Path: dir, Fault: func(point string) error {
		if point == "commit" {
			if commits++; commits == 3 {
				return cut
			}
		}
		return nil
	}})
	if !errors.Is(err, cut) {
		t.Fatalf("the Open that is cut short: %v", err)
	}
	for range 2 {
		s, err := Open(t.Context(), Options{Path: dir})
		if err != nil {
			t.Fatal(err)
		}
		for a := AccountID(1); a <= accounts; a++ {
			found := map[string]int{}
			for _, thread := range []string{"t0", "t100", "t200"} {
				_, err := s.Archive(t.Context(), ArchiveQuery{Account: a, Thread: thread, Max: 1000}, func(m ArchivedMessage) error {
					if !strings.Contains(string(m.Stanza), "<thread>"+thread+"</thread>") {
						return fmt.Errorf("%s in %s", m.Stanza, thread)
					}
					found[thread]++
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			n, err := s.ArchiveCount(t.Context(), ArchiveQuery{Account: a})
			if total := found["t0"] + found["t100"] + found["t200"]; err != nil || n != entries+tailed || total != entries/100+tailed || found["t0"] < 10 {
				t.Errorf("account %d has %d entries, in threads %v, %v", a, n, found, err)
			}
		}
		todo, err := s.write.db.QueryText("SELECT count(*) FROM upkeep")
		if err := errors.Join(err, s.Close()); err != nil || todo != "0" {
			t.Errorf("upkeep left: %s, %v", todo, err)
		}
	}
}
