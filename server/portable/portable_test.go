package portable

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/server/feature"
	"carillon.im/server/features/pep"
	"carillon.im/server/features/private"
	"carillon.im/server/features/vcard"
	"carillon.im/server/room"
	"carillon.im/server/store"
	"carillon.im/server/store/storetest"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// day is when everything here happens.
var day = time.Date(2024, 5, 6, 7, 8, 9, 123456000, time.UTC)

func now() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

func open(t testing.TB) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{Path: ":memory:", CommitDelay: -1, Now: func() time.Time { return day }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func commit(t testing.TB, s *store.Store, ops ...store.Op) {
	t.Helper()
	if err := s.Commit(t.Context(), ops...); err != nil {
		t.Fatal(err)
	}
}

// fill makes two accounts and a room that have all that there is.
func fill(t testing.TB, s *store.Store) {
	t.Helper()
	romeo := storetest.Account(t, s, "romeo@x.example")
	storetest.Account(t, s, "a%b?c@x.example") // a name for files to stumble over
	if err := s.SetKeys(t.Context(), jid.MustParse("romeo@x.example"), realKeys(t), ""); err != nil {
		t.Fatal(err)
	}
	if err := s.SetKeys(t.Context(), jid.MustParse("a%b?c@x.example"), realKeys(t)[:1], ""); err != nil {
		t.Fatal(err)
	}
	if err := s.SetDisabled(t.Context(), jid.MustParse("a%b?c@x.example"), true); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		commit(t, s, store.RosterPut{Account: romeo, Version: int64(i + 1), Item: store.RosterItem{JID: jid.MustParse(fmt.Sprintf("c%d@y.example", i)),
			Name: "Contact <" + fmt.Sprint(i) + ">", Subscription: []string{"none", "to", "from", "both", "none"}[i], Ask: i == 0, Approved: i == 4, Groups: []string{"G", "H & I"}[:i%3]}})
	}
	for i := range 2 {
		from := jid.MustParse(fmt.Sprintf("r%d@y.example", 1-i))
		commit(t, s, store.RequestPut{Account: romeo, From: from, At: day.Add(time.Duration(i)),
			Stanza: []byte("<presence type='subscribe' from='" + from.String() + "' to='romeo@x.example'><nick xmlns='http://jabber.org/protocol/nick'>R</nick></presence>")})
	}
	prefs := feature.ArchivePrefs{Default: "roster", Always: []jid.JID{jid.MustParse("a@y.example")}, Never: []jid.JID{jid.MustParse("y.example")}}
	commit(t, s, store.BlockPut{Account: romeo, JID: jid.MustParse("tybalt@y.example")}, store.BlockPut{Account: romeo, JID: jid.MustParse("z.example")},
		store.KVPut{Account: romeo, Space: "mam", Key: "prefs", Value: prefs.Encode()},
		store.KVPut{Account: romeo, Space: vcard.Space, Key: vcard.Key, Value: []byte("<vCard xmlns='vcard-temp'><FN>Romeo</FN><PHOTO><TYPE>image/png</TYPE><BINVAL>AAEC</BINVAL></PHOTO></vCard>")},
		store.KVPut{Account: romeo, Space: vcard.Space, Key: "photo-hash", Value: []byte(xep.PhotoSum([]byte{0, 1, 2}))})
	kv := private.SetFragment(xmltree.Name{Space: "exodus:prefs", Local: "exodus"}, []byte("<exodus xmlns='exodus:prefs'><nick>R</nick></exodus><exodus xmlns='exodus:prefs'/>"))
	commit(t, s, store.KVPut{Account: romeo, Space: kv.Space, Key: kv.Key, Value: kv.Value})
	form := xep.Form{Fields: []xep.Field{{Var: "pubsub#access_model", Values: []string{"whitelist"}}, {Var: "pubsub#max_items", Values: []string{"max"}}}}
	config, _, _ := pep.ImportConfig("urn:x:notes", form, []jid.JID{jid.MustParse("juliet@x.example")}, 1000)
	plain, _, _ := pep.ImportConfig(xep.NodeAvatarMetadata, xep.Form{}, nil, 1000)
	commit(t, s,
		store.EventChange{Account: romeo, Node: "urn:x:notes", Config: config, Keep: 1000, MaxNodes: 10, MaxBytes: 1 << 20, Put: []store.EventItem{
			{ID: "z", Payload: []byte("<note xmlns='urn:x:notes'>1</note>"), At: day}, {ID: "a", Payload: []byte("<note xmlns='urn:x:notes'>2 &lt; 3</note>"), At: day.Add(time.Second)}}},
		store.EventChange{Account: romeo, Node: xep.NodeAvatarMetadata, Config: plain, Keep: 1, MaxNodes: 10, MaxBytes: 1 << 20})
	for i := range 700 {
		id := store.ArchiveID(day.Add(time.Duration(i) * 3 * time.Minute).UnixMicro())
		from, to := "c1@y.example/r", "romeo@x.example"
		if i%3 == 0 {
			from, to = "romeo@x.example/phone", "c1@y.example"
		}
		commit(t, s, store.ArchiveAppend{Account: romeo, ID: id, Peer: jid.MustParse("c1@y.example"), Thread: "t", Stanza: []byte(
			"<message from='" + from + "' to='" + to + "' id='m" + fmt.Sprint(i) + "' type='chat'><body>line " + fmt.Sprint(i) + " &amp;</body><thread>t</thread>" +
				"<stanza-id xmlns='urn:xmpp:sid:0' by='romeo@x.example' id='" + id.String() + "'/></message>")})
	}
	kept := store.ArchiveID(day.UnixMicro())
	commit(t, s, store.OfflineAppend{Account: romeo, ID: kept, Stanza: []byte("<message from='c1@y.example/r' to='romeo@x.example' type='chat'><body>off</body>" +
		"<delay xmlns='urn:xmpp:delay' from='y.example' stamp='2020-01-01T00:00:00Z'/><stanza-id xmlns='urn:xmpp:sid:0' by='romeo@x.example' id='" + kept.String() + "'/></message>")})

	data, err := room.ImportOptions(xep.Form{Fields: []xep.Field{{Var: "muc#roomconfig_roomname", Values: []string{"The hall"}},
		{Var: "muc#roomconfig_persistentroom", Values: []string{"1"}}, {Var: "muc#roomconfig_roomsecret", Values: []string{"open sesame"}},
		{Var: "muc#roomconfig_maxusers", Values: []string{"30"}}}}, []byte("<message from='hall@rooms.x.example/R' type='groupchat'><subject>Feast</subject></message>"), "")
	if err != nil {
		t.Fatal(err)
	}
	var hall store.AccountID
	commit(t, s, store.RoomCreate{JID: jid.MustParse("hall@rooms.x.example"), At: day, Creator: jid.MustParse("romeo@x.example"), Room: data, ID: &hall, MaxRooms: 10, MaxOwn: 10,
		Members: []store.RoomMember{{JID: jid.MustParse("romeo@x.example"), Affiliation: "owner", Nick: "R"}, {JID: jid.MustParse("z.example"), Affiliation: "outcast", Reason: "noise"}}})
	commit(t, s, store.ArchiveAppend{Account: hall, ID: 5_000_000, Peer: jid.MustParse("hall@rooms.x.example/R"), Stanza: []byte(
		"<message from='hall@rooms.x.example/R' type='groupchat'><body>hi</body><x xmlns='http://jabber.org/protocol/muc#user'><item jid='romeo@x.example/r'/></x></message>")})
}

func realKeys(t testing.TB) (list []sasl.Keys) {
	for _, h := range []sasl.Hash{sasl.SHA1, sasl.SHA256, sasl.SHA512} {
		k, err := sasl.DeriveKeys(h, "secret", []byte("0123456789abcdef"), sasl.MinIterations)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, k)
	}
	return list
}

func exporter(s *store.Store) Export {
	return Export{Store: s, Domains: []string{"x.example", "empty.example"}, Rooms: []string{"rooms.x.example"}}
}

func exported(t testing.TB, s *store.Store) string {
	t.Helper()
	var b bytes.Buffer
	if err := exporter(s).To(t.Context(), NewSink(&b)); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// importer collects what it tells.
func importer(s *store.Store, outcomes *[]Outcome) Import {
	return Import{Store: s, Domains: []string{"x.example"}, Rooms: []string{"rooms.x.example"}, Now: now, Tell: func(o Outcome) { *outcomes = append(*outcomes, o) },
		Limits: Limits{Roster: 100, Blocked: 10, Offline: 10, PrivateItems: 10, PrivateBytes: 1 << 16, VCardBytes: 1 << 16},
		Keys: func(password string) ([]sasl.Keys, error) {
			k, err := sasl.DeriveKeys(sasl.SHA256, password, []byte("salt"), sasl.MinIterations)
			return []sasl.Keys{k}, err
		}}
}

// run imports a document: it looks first, and goes on if nothing is wrong.
func run(t testing.TB, i Import, open func() *Reader) error {
	t.Helper()
	for _, step := range []func(context.Context, *Reader) error{i.Check, i.Apply} {
		r := open()
		err := errors.Join(step(t.Context(), r), r.Close())
		if err != nil {
			return err
		}
	}
	return nil
}

func text(doc string) func() *Reader {
	return func() *Reader { return NewStreamReader(strings.NewReader(doc)) }
}

func folderReader(t testing.TB, dir string) func() *Reader {
	return func() *Reader {
		root, err := os.OpenRoot(dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { root.Close() })
		return NewReader(func(file string) (io.ReadCloser, error) { return root.Open(filepath.FromSlash(file)) }, MainFile)
	}
}

// TestRoundTrip: what is exported, imported into a fresh store and exported again is the same bytes; imported again it changes nothing.
func TestRoundTrip(t *testing.T) {
	from := open(t)
	fill(t, from)
	want := exported(t, from)
	for _, piece := range []string{"mechanism='SCRAM-SHA-512'", "name='Contact &lt;3>'", "r1@y.example", "tybalt", "<always>", "exodus", "urn:x:notes", "line 699", ">off<", "Feast",
		"open sesame", "outcast", "2 &lt; 3", "disabled"} {
		if !strings.Contains(strings.ReplaceAll(want, "&gt;", ">"), piece) {
			t.Errorf("the export lacks %s", piece)
		}
	}
	dir := filepath.Join(t.TempDir(), "out")
	sink, err := NewFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := exporter(from).To(t.Context(), sink); err != nil {
		t.Fatal(err)
	}
	for name, reader := range map[string]func() *Reader{"file": text(want), "folder": folderReader(t, dir)} {
		t.Run(name, func(t *testing.T) {
			to := open(t)
			var told []Outcome
			if err := run(t, importer(to, &told), reader); err != nil {
				t.Fatal(err, told)
			}
			for _, o := range told {
				if o.Did != "new" || len(o.Left) > 0 {
					t.Errorf("%+v", o)
				}
			}
			if len(told) != 6 { // two accounts and a room, looked at and done
				t.Errorf("%d outcomes: %+v", len(told), told)
			}
			got := exported(t, to)
			if got != want {
				t.Fatal(difference(got, want))
			}
			told = nil
			if err := run(t, importer(to, &told), reader); err != nil {
				t.Fatal(err, told)
			}
			for _, o := range told {
				if o.Did != "unchanged" {
					t.Errorf("again: %+v", o)
				}
			}
			if again := exported(t, to); again != want {
				t.Error("the second import changed something: " + difference(again, want))
			}
		})
	}
}

// difference is the first line that differs.
func difference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range g {
		if i >= len(w) || g[i] != w[i] {
			return fmt.Sprintf("line %d:\n got %s\nwant %s", i+1, g[i], w[min(i, len(w)-1)])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(g), len(w))
}
