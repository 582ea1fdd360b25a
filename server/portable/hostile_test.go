package portable

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"strings"
	"testing"

	"carillon.im/jid"
	"carillon.im/server/store"
	"carillon.im/server/store/storetest"
)

// pie is a document with one account, romeo@x.example, that has this.
func pie(inner string) string {
	return "<?xml version='1.0'?><server-data xmlns='urn:xmpp:pie:0'><host jid='x.example'><user name='romeo'>" + inner + "</user></host></server-data>"
}

func archiveOf(results string) string {
	return "<archive xmlns='urn:xmpp:pie:0#mam'>" + results + "</archive>"
}

func result(stamp, message string) string {
	return "<result xmlns='urn:xmpp:mam:2' id='foreign'><forwarded xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay' stamp='" + stamp + "'/>" + message + "</forwarded></result>"
}

const greeting = "<message xmlns='jabber:client' from='a@y.example/r' to='romeo@x.example' type='chat'><body>hi</body></message>"

// accounts counts what is in a store, what nobody sees included.
func accounts(t *testing.T, s *store.Store) (n int) {
	t.Helper()
	for _, err := range s.Accounts(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	// An import that was given up can be begun again.
	for _, name := range []string{"romeo@x.example", "juliet@x.example"} {
		var id store.AccountID
		if err := s.Commit(t.Context(), store.ImportBegin{JID: jid.MustParse(name), At: day, ID: &id}); err != nil {
			t.Errorf("something of %s was left: %v", name, err)
		} else if err := s.DropImport(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	return n
}

// TestHostile: what is wrong is told with the account and the place, and nothing is imported.
func TestHostile(t *testing.T) {
	many := strings.Repeat("<item jid='a@b.example'/>", 3)
	for name, tt := range map[string]struct{ doc, want string }{
		"nothing":          {"", "ends too early"},
		"not XML":          {"hello", "byte 0"},
		"not a document":   {"<stream xmlns='jabber:client'/>", "<stream xmlns='jabber:client'/>"},
		"cut off":          {strings.TrimSuffix(pie(""), "</user></host></server-data>"), "romeo@x.example: byte 98: the document ends too early"},
		"mismatched":       {pie("<vCard xmlns='vcard-temp'></card>"), "end tag does not match"},
		"entities":         {"<!DOCTYPE x [<!ENTITY a 'aaaa'>]><server-data xmlns='urn:xmpp:pie:0'/>", "document type declaration"},
		"text":             {pie("text"), "text between elements"},
		"deep":             {pie(strings.Repeat("<a xmlns='b'>", 200)), "too deep"},
		"huge unit":        {pie("<vCard xmlns='vcard-temp'><FN>" + strings.Repeat("x", maxUnit) + "</FN></vCard>"), "too many bytes"},
		"many elements":    {pie("<vCard xmlns='vcard-temp'>" + strings.Repeat("<a/>", 1<<16) + "</vCard>"), "too many elements"},
		"foreign host":     {strings.ReplaceAll(pie(""), "x.example", "elsewhere.example"), "serve elsewhere.example too"},
		"bad host":         {strings.ReplaceAll(pie(""), "x.example", "@@"), "is no host"},
		"bad name":         {strings.ReplaceAll(pie(""), "romeo", "ro meo"), `"ro meo" is no name`},
		"twice":            {strings.ReplaceAll(pie(""), "</host>", "<user name='ROMEO'/></host>"), "it was there before"},
		"bad contact":      {pie("<query xmlns='jabber:iq:roster'><item jid='@nobody'/></query>"), `"@nobody" is no address`},
		"contact twice":    {pie("<query xmlns='jabber:iq:roster'>" + many + "</query>"), "comes twice"},
		"subscription":     {pie("<query xmlns='jabber:iq:roster'><item jid='a@b.example' subscription='all'/></query>"), "no subscription"},
		"too many":         {pie("<query xmlns='jabber:iq:roster'>" + numbered("<item jid='a%d@b.example'/>", 101) + "</query>"), "more than 100 contacts"},
		"blocked":          {pie("<blocklist xmlns='urn:xmpp:blocking'><item/></blocklist>"), "which is blocked"},
		"keys":             {pie("<scram-credentials xmlns='urn:xmpp:pie:0#scram' mechanism='SCRAM-SHA-1'><iter-count>1</iter-count></scram-credentials>"), "the keys of SCRAM-SHA-1"},
		"iterations":       {pie("<scram-credentials xmlns='urn:xmpp:pie:0#scram' mechanism='SCRAM-SHA-1'><iter-count>99999999</iter-count></scram-credentials>"), "iterations"},
		"password":         {strings.ReplaceAll(pie(""), "name='romeo'", "name='romeo' password='&#9;'"), "password"},
		"photo":            {pie("<vCard xmlns='vcard-temp'><PHOTO><BINVAL>!</BINVAL></PHOTO></vCard>"), "photo"},
		"item":             {pie("<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='n'><item/></items></pubsub>"), `node "n"`},
		"node":             {pie("<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node=''/></pubsub>"), "a node without a name"},
		"too many nodes":   {pie("<pubsub xmlns='http://jabber.org/protocol/pubsub'>" + numbered("<items node='n%d'/>", 251) + "</pubsub>"), "more than 250 nodes"},
		"private":          {pie("<query xmlns='jabber:iq:private'>" + numbered("<a xmlns='n%d'/>", 11) + "</query>"), "11 fragments"},
		"message":          {pie(archiveOf(result("2020-01-01T00:00:00Z", "<message xmlns='jabber:client' from='@'/>"))), "archive can't be read"},
		"no message":       {pie(archiveOf(result("2020-01-01T00:00:00Z", ""))), "archive can't be read"},
		"presence":         {pie(archiveOf(result("2020-01-01T00:00:00Z", "<presence xmlns='jabber:client'/>"))), "archive can't be read"},
		"no time":          {pie(archiveOf(result("yesterday", greeting))), "has no time"},
		"future":           {pie(archiveOf(result("2030-01-01T00:00:00Z", greeting))), "from the future"},
		"offline":          {pie("<offline-messages><message xmlns='jabber:client' to='@'/></offline-messages>"), "offline message can't be read"},
		"request":          {pie("<presence xmlns='jabber:client' type='subscribed' from='a@b.example'/>"), "no request"},
		"include":          {pie("<include xmlns='http://www.w3.org/2001/XInclude' href='/etc/passwd'/>"), "no file beside it"},
		"include elswhere": {pie("<include xmlns='http://www.w3.org/2001/XInclude' href='http://x.example/a.xml'/>"), "no file beside it"},
		"include stream":   {pie("<include xmlns='http://www.w3.org/2001/XInclude' href='a.xml'/>"), "not a stream"},
		"room of strangers": {"<server-data xmlns='urn:xmpp:pie:0'><host jid='x.example'><room xmlns='urn:xmpp:tmp:export:0' name='hall' creator='a@b.example' created='2020-01-01T00:00:00Z'/></host></server-data>",
			"domains of their own"},
		"user among rooms": {strings.ReplaceAll(pie(""), "x.example", "rooms.x.example"), "domains of their own"},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			var told []Outcome
			err := run(t, importer(s, &told), text(tt.doc))
			all := fmt.Sprint(err, told)
			if err == nil || !strings.Contains(all, tt.want) {
				t.Errorf("%v, %+v: want %q", err, told, tt.want)
			}
			if errors.Is(err, ErrProblems) && !strings.Contains(all, "byte ") {
				t.Errorf("no place in %s", all)
			}
			if n := accounts(t, s); n != 0 {
				t.Errorf("%d accounts were made", n)
			}
		})
	}
}

func numbered(format string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// TestNothingByHalves: an import that ends in the middle of an account leaves those before it whole, and nothing of it.
func TestNothingByHalves(t *testing.T) {
	s := open(t)
	var told []Outcome
	i := importer(s, &told)
	many := strings.Repeat(result("2020-01-01T00:00:00Z", greeting), 3*batchMessages)
	doc := strings.ReplaceAll(pie(archiveOf(many)), "<user name='romeo'>", "<user name='juliet'/><user name='romeo'>")
	err := i.Apply(t.Context(), NewStreamReader(io.MultiReader(strings.NewReader(doc[:len(doc)-200]), failing{})))
	if err == nil || !strings.Contains(err.Error(), "romeo@x.example") || !strings.Contains(err.Error(), errDisk.Error()) {
		t.Errorf("error %v", err)
	}
	if _, err := s.Account(t.Context(), jid.MustParse("juliet@x.example")); err != nil {
		t.Errorf("juliet: %v", err)
	}
	if _, err := s.Account(t.Context(), jid.MustParse("romeo@x.example")); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("romeo: %v", err)
	}
	// The same again goes on where it ended.
	told = nil
	if err := run(t, i, text(doc)); err != nil {
		t.Fatal(err, told)
	}
	a, err := s.Account(t.Context(), jid.MustParse("romeo@x.example"))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := s.ArchiveCount(t.Context(), store.ArchiveQuery{Account: a.ID}); err != nil || n != 3*batchMessages {
		t.Errorf("%d messages, %v", n, err)
	}
	// A context that ends gives up, too.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	other := open(t)
	i = importer(other, &told)
	if err := i.Apply(ctx, text(doc)()); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	accounts(t, other)
}

var errDisk = errors.New("the disk is gone")

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errDisk }

// TestLenient: what can't be taken is left out and told, where that is wanted.
func TestLenient(t *testing.T) {
	s := open(t)
	var told []Outcome
	i := importer(s, &told)
	i.Lenient = true
	doc := pie("<query xmlns='jabber:iq:roster'><item jid='@nobody'/><item jid='a@b.example'/></query><what xmlns='urn:x'/>" +
		archiveOf(result("never", greeting)+result("2020-01-01T00:00:00Z", greeting)))
	if err := run(t, i, text(doc)); err != nil {
		t.Fatal(err, told)
	}
	o := told[len(told)-1]
	if o.Did != "new" || o.Counts["contacts"] != 1 || o.Counts["messages"] != 1 || len(o.Left) != 4 { // no password besides
		t.Errorf("%+v", o)
	}
}

// TestMerge: what exists gets what it lacks where that is wanted, and keeps what it has; a running server's accounts aren't touched.
func TestMerge(t *testing.T) {
	s := open(t)
	romeo := storetest.Account(t, s, "romeo@x.example")
	at := store.ArchiveID(day.UnixMicro())
	commit(t, s, store.RosterPut{Account: romeo, Version: 7, Item: store.RosterItem{JID: jid.MustParse("a@b.example"), Name: "mine", Subscription: "both"}},
		store.ArchiveAppend{Account: romeo, ID: at, Peer: jid.MustParse("c@d.example"), Stanza: []byte("<message from='c@d.example'><body>in the way</body></message>")},
		store.OfflineAppend{Account: romeo, ID: at, Stanza: []byte("<message from='c@d.example'><body>in the way</body></message>")})
	doc := pie("<query xmlns='jabber:iq:roster'><item jid='a@b.example' name='theirs'/><item jid='new@b.example'/></query>" +
		"<vCard xmlns='vcard-temp'><FN>R</FN></vCard>" +
		"<offline-messages><message xmlns='jabber:client' from='e@f.example'><body>o</body><delay xmlns='urn:xmpp:delay' from='x.example' stamp='" + stamp(day) + "'/></message></offline-messages>" +
		archiveOf(result(stamp(day), greeting)+result(stamp(day), greeting)))
	var told []Outcome
	for _, tt := range []struct {
		existing Existing
		live     bool
		want     string
	}{{Refuse, false, "refused"}, {Refuse, true, "refused"}, {Merge, true, "refused"}, {Skip, true, "skipped"}, {Skip, false, "skipped"}} {
		before := exported(t, s)
		told = nil
		i := importer(s, &told)
		i.Existing, i.Live = tt.existing, tt.live
		err := run(t, i, text(doc))
		if o := told[len(told)-1]; o.Did != tt.want || errors.Is(err, ErrProblems) != (tt.want == "refused") {
			t.Errorf("%+v: %v, %+v", tt, err, o)
		}
		if exported(t, s) != before {
			t.Errorf("%+v changed something", tt)
		}
	}
	told = nil
	i := importer(s, &told)
	i.Existing = Merge
	if err := run(t, i, text(doc)); err != nil {
		t.Fatal(err, told)
	}
	if got := Describe(told[1].Counts); got != "1 contacts, 1 vCard, 1 offline messages, 2 messages" || told[1].Did != "merged" || got != Describe(told[0].Counts) {
		t.Errorf("merged %s, %+v", got, told)
	}
	d, err := s.LoadAccount(t.Context(), jid.MustParse("romeo@x.example"))
	if err != nil || len(d.Roster) != 2 || d.Roster[0].Name != "mine" || d.RosterVersion != 8 || d.Offline != 2 {
		t.Errorf("%+v, %v", d, err)
	}
	if n, err := s.ArchiveCount(t.Context(), store.ArchiveQuery{Account: romeo}); err != nil || n != 3 {
		t.Errorf("%d messages, %v", n, err)
	}
	after := exported(t, s)
	told = nil
	if err := run(t, i, text(doc)); err != nil || told[1].Did != "unchanged" {
		t.Errorf("merged again: %v, %+v", err, told)
	}
	if exported(t, s) != after {
		t.Error("merged again, something changed")
	}
}

// TestMemory: an archive of any length passes through.
func TestMemory(t *testing.T) {
	s := open(t)
	var told []Outcome
	i := importer(s, &told)
	one := result("2020-01-01T00:00:00Z", strings.Replace(greeting, "hi", strings.Repeat("long ", 2000), 1))
	const messages = 5000 // 50 MB
	doc := func() io.Reader {
		parts := []io.Reader{strings.NewReader(strings.TrimSuffix(pie("<archive xmlns='urn:xmpp:pie:0#mam'>"), "</user></host></server-data>"))}
		for range messages {
			parts = append(parts, strings.NewReader(one))
		}
		return io.MultiReader(append(parts, strings.NewReader("</archive></user></host></server-data>"))...)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	peak := uint64(0)
	reads := 0
	r := NewStreamReader(watch{doc(), func() {
		if reads++; reads%100 == 0 {
			runtime.ReadMemStats(&after)
			peak = max(peak, after.HeapInuse)
		}
	}})
	if err := i.Check(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if told[0].Counts["messages"] != messages {
		t.Errorf("%+v", told)
	}
	if grown := int64(peak) - int64(before.HeapInuse); grown > 24<<20 {
		t.Errorf("reading 50 MB took %d MiB", grown>>20)
	}
}

// watch calls before each read.
type watch struct {
	io.Reader
	each func()
}

func (w watch) Read(p []byte) (int, error) {
	w.each()
	return w.Reader.Read(p)
}

// TestIncludes: files in files, and what they must not be.
func TestIncludes(t *testing.T) {
	const xi = "xmlns:xi='http://www.w3.org/2001/XInclude'"
	files := map[string]string{
		"main.xml":          "<server-data xmlns='urn:xmpp:pie:0' " + xi + "><xi:include href='sub/x.example.xml'/></server-data>",
		"sub/x.example.xml": "<?xml version='1.0'?><host xmlns='urn:xmpp:pie:0' " + xi + " jid='x.example'><user name='juliet'/><xi:include href='us%20ers/romeo.xml'/><user name='benvolio'/></host>",
		"sub/us ers/romeo.xml": "<user xmlns='urn:xmpp:pie:0' " + xi + " name='romeo'><xi:include href='card.xml'/><query xmlns='jabber:iq:private'>" +
			"<a xmlns='urn:a'><xi:include href='../../../etc/passwd'/></a></query></user>",
		"sub/us ers/card.xml": "<vCard xmlns='vcard-temp'><FN>R</FN></vCard>",
		"loop.xml":            "<server-data xmlns='urn:xmpp:pie:0' " + xi + "><xi:include href='loop.xml'/></server-data>",
		"bomb.xml":            "<server-data xmlns='urn:xmpp:pie:0' " + xi + "><host jid='x.example'><user name='romeo'><xi:include href='bomb2.xml'/></user></host></server-data>",
		"bomb2.xml":           "<archive xmlns='urn:xmpp:pie:0#mam' " + xi + "><xi:include href='bomb2.xml'/></archive>",
		"up.xml":              "<server-data xmlns='urn:xmpp:pie:0' " + xi + "><xi:include href='../main.xml'/></server-data>",
		"wrong.xml":           "<server-data xmlns='urn:xmpp:pie:0' " + xi + "><xi:include href='sub/us%20ers/card.xml'/></server-data>",
		"gone.xml":            "<server-data xmlns='urn:xmpp:pie:0' " + xi + "><xi:include href='nowhere.xml'/></server-data>",
	}
	opened := 0
	open1 := func(file string) (io.ReadCloser, error) {
		doc, there := files[file]
		if !there {
			return nil, fs.ErrNotExist
		}
		opened++
		return io.NopCloser(strings.NewReader(doc)), nil
	}
	s := open(t)
	var told []Outcome
	if err := run(t, importer(s, &told), func() *Reader { return NewReader(open1, "main.xml") }); err != nil {
		t.Fatal(err, told)
	}
	var names []string
	for _, o := range told[len(told)/2:] {
		names = append(names, o.JID)
	}
	if got := strings.Join(names, " "); got != "juliet@x.example romeo@x.example benvolio@x.example" {
		t.Errorf("accounts %s", got)
	}
	if got := exported(t, s); !strings.Contains(got, "<FN>R</FN>") || !strings.Contains(got, "<include xmlns='http://www.w3.org/2001/XInclude' href='../../../etc/passwd'/>") {
		t.Errorf("exported %s", got)
	}
	for file, want := range map[string]string{"loop.xml": "it is <server-data", "up.xml": "not exist", "wrong.xml": "vCard", "gone.xml": "nowhere.xml"} {
		opened = 0
		err := run(t, importer(open(t), &told), func() *Reader { return NewReader(open1, file) })
		if err == nil || opened > maxIncludes || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %d files opened", file, err, opened)
		}
	}
	// In an archive it is no message, and goes nowhere.
	told = nil
	if err := run(t, importer(open(t), &told), func() *Reader { return NewReader(open1, "bomb.xml") }); err != nil || !strings.Contains(fmt.Sprint(told), "<include") {
		t.Errorf("bomb.xml: %v, %+v", err, told)
	}
}

// FuzzImport: whatever a document is, it is refused as a whole or arrives, and what has arrived survives another export and import.
func FuzzImport(f *testing.F) {
	f.Add(pie("<query xmlns='jabber:iq:roster'><item jid='a@b.example' name='n' subscription='both'><group>g</group></item></query>"))
	f.Add(pie("<pubsub xmlns='http://jabber.org/protocol/pubsub#owner'><configure node='n'><x xmlns='jabber:x:data' type='submit'><field var='pubsub#access_model'><value>open</value></field></x></configure></pubsub>" +
		"<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='n'><item id='i'><a xmlns='urn:a'/></item></items></pubsub>"))
	f.Add(pie(archiveOf(result("2020-01-01T00:00:00Z", greeting) + result("2020-01-01T00:00:00.5Z", greeting))))
	f.Add(pie("<offline-messages>" + greeting + "</offline-messages><presence xmlns='jabber:client' type='subscribe' from='a@b.example'/>" +
		"<query xmlns='jabber:iq:private'><a xmlns='urn:a'>t</a></query><vCard xmlns='vcard-temp'><FN>R</FN></vCard>"))
	s := open(f)
	fill(f, s)
	f.Add(strings.ReplaceAll(exported(f, s), "line ", ""))
	first, second := open(f), open(f) // opening one takes longer than everything else here
	f.Fuzz(func(t *testing.T, doc string) {
		if len(doc) > 1<<16 {
			return
		}
		empty(t, first)
		var told []Outcome
		i := importer(first, &told)
		i.Lenient = len(doc)%2 == 0
		if err := i.Check(t.Context(), text(doc)()); err != nil {
			return
		}
		if err := i.Apply(t.Context(), text(doc)()); err != nil {
			t.Fatalf("%v, though nothing was wrong before", err)
		}
		want := exported(t, first)
		empty(t, second)
		if err := run(t, importer(second, &told), text(want)); err != nil {
			t.Fatalf("an export is refused: %v, %+v\n%s", err, told, want)
		}
		if got := exported(t, second); got != want {
			t.Fatal(difference(got, want))
		}
	})
}

// empty removes all accounts and rooms.
func empty(t testing.TB, s *store.Store) {
	t.Helper()
	var all []jid.JID
	for a, err := range s.Accounts(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, a.JID)
	}
	rooms, err := s.Rooms(t.Context(), "", "", true, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rooms {
		all = append(all, r.JID)
	}
	for _, j := range all {
		if err := s.RemoveAccount(t.Context(), j); err != nil {
			t.Fatal(err)
		}
	}
}
