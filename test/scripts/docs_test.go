package scripts

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// examples are the pieces of XML in a page of docs/ext, by the name of their first
// element. Several of one name follow each other.
func examples(t *testing.T, page string) map[string][]xmltree.Element {
	t.Helper()
	text, err := os.ReadFile("../../docs/ext/" + page)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]xmltree.Element{}
	for _, m := range regexp.MustCompile("(?s)```xml\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		el, err := xmltree.Parse([]byte(strings.TrimSpace(m[1])), stanza.NSClient, xmltree.Limits{})
		if err != nil {
			t.Fatalf("%v:\n%s", err, m[1])
		}
		found[el.Local()] = append(found[el.Local()], el)
	}
	return found
}

// TestSessionPage: the examples of the session request's page are what our client
// reads and our server takes.
func TestSessionPage(t *testing.T) {
	found := examples(t, "xmpp-2-session.md")
	for name, n := range map[string]int{"authentication": 1, "iq": 1, "authenticate": 1, "success": 2, "failure": 1, "message": 2, "session": 1} {
		if len(found[name]) != n {
			t.Fatalf("%d examples of <%s/>, want %d", len(found[name]), name, n)
		}
	}
	features, err := xmltree.Parse([]byte("<features>"+found["authentication"][0].Raw()+"</features>"), stanza.NSClient, xmltree.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if o := stream.ParseFeatures(features); !o.Bind2 || !o.Resume || !o.CanBegin(xep.NSXMPP2) || !o.CanBegin(xep.NSSM) || len(o.Mechanisms) != 2 || len(o.Tokens) != 1 {
		t.Errorf("features: %+v", o)
	}
	if roster, err := stanza.Parse(found["iq"][0]); err != nil || roster.ID != xep.SyncQueryID || roster.Child(xep.NSRoster, "query").Attr("ver") == "" {
		t.Error("roster:", err)
	}
	parts := func(list []xep.SessionResult) (text string) {
		for _, r := range list {
			if text += " " + string(r.Part); r.Err != nil {
				text += "! " + string(r.Err.Condition)
			}
		}
		return text
	}
	welcome := func(el xmltree.Element) *stream.Welcome {
		t.Helper()
		c := stream.NewClient(&stream.ClientConfig{Domain: jid.MustParse("capulet.example")})
		ev := stream.Event{}
		in := []byte("<stream:stream from='capulet.example' id='1' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'><stream:features/>" + el.Raw())
		c.Authenticate(c.Open(nil), "PLAIN", []byte{}, &stream.Login{})
		for len(in) > 0 && ev.Kind != stream.AuthSuccess {
			var n int
			if ev, n = c.Next(in); ev.Kind == stream.Failed {
				t.Fatal(ev.Err)
			}
			in = in[n:]
		}
		return ev.Welcome
	}
	if w := welcome(found["success"][0]); !w.Resumed || w.H != 12 {
		t.Errorf("resumed: %+v", w)
	}
	w := welcome(found["success"][1])
	if w.Failed == nil || w.Failed.H != 12 || w.Bound == nil || w.Bound.SM == nil || !w.Bound.SM.Resume || w.Bound.Archive == nil ||
		w.Bound.Archive.End.ID == "" || w.Bound.Archive.Start.Stamp.IsZero() || parts(w.Bound.Session) != " sync roster presence" {
		t.Errorf("bound: %+v", w)
	}
	if got := parts(xep.ParseSessionResult(found["session"][0])); got != " sync! bad-request presence" {
		t.Error("malformed:", got)
	}
	if mismatch := found["failure"][0].Child(xep.NSIAP, "config-version-mismatch"); mismatch.IsZero() {
		t.Error("failure:", found["failure"][0].Raw())
	}
	result, err := stanza.Parse(found["message"][0])
	if err != nil || result.Child(xep.NSMAM, "result").Attr("queryid") != xep.SyncQueryID {
		t.Error("result:", err)
	}
	last, err := stanza.Parse(found["message"][1])
	if err != nil {
		t.Fatal(err)
	}
	if end, ok := xep.ParseSynced(last); !ok || !end.Complete || end.Count != 12 || end.Last != result.Child(xep.NSMAM, "result").Attr("id") {
		t.Errorf("synced: %+v", end)
	}

	inWorld(t, func(t *testing.T, w *world) {
		asked := found["authenticate"][0]
		if f, err := xep.ParseFast(asked.Child(xep.NSFast, "fast")); err != nil || f.Count != 7 {
			t.Error("fast:", f, err)
		}
		inner := ""
		for el := range asked.Children() {
			if el.Local() != "initial-response" && el.Local() != "fast" { // the password is asked for here
				inner += el.Raw()
			}
		}
		c := w.login("secret", inner)
		list := w.all(c)
		if got := granted(list); got != "sync, roster, presence" {
			t.Error("the server grants", got)
		}
		if end, _ := synced(list); end == nil || !end.Complete {
			t.Errorf("synced: %+v", end)
		}
		for _, ev := range list {
			if ev.Kind == stream.AuthSuccess && (ev.Welcome.Failed == nil || ev.Welcome.Bound.SM == nil || ev.Welcome.Bound.Archive == nil) {
				t.Errorf("the server answers %+v", ev.Welcome)
			}
		}
		c.Cut()
	})
}
