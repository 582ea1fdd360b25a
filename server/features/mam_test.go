package features_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

const mamNS = "urn:xmpp:mam:2"

// fill puts n messages into Romeo's archive, a second apart, every third with
// Tybalt's, the others with Juliet's; it returns their ids.
func (l *live) fill(n, size int) []store.ArchiveID {
	l.t.Helper()
	data, err := l.store.LoadAccount(l.t.Context(), bare("romeo"))
	if err != nil {
		l.t.Fatal(err)
	}
	ids := make([]store.ArchiveID, n)
	ops := make([]store.Op, n)
	start := l.time().Add(-time.Duration(n) * time.Second)
	for i := range n {
		ids[i] = store.ArchiveID(start.Add(time.Duration(i) * time.Second).UnixMicro())
		ops[i] = store.ArchiveAppend{Account: data.ID, ID: ids[i], Peer: jid.MustParse(peerOf(i)), Thread: threadOf(i), Stanza: []byte(stored(i, size))}
	}
	l.commit(ops...)
	return ids
}

// threadOf: every fifth message belongs to a thread.
func threadOf(i int) string {
	if i%5 == 0 {
		return "e0ffe42b"
	}
	return ""
}

func peerOf(i int) string {
	if i%3 == 0 {
		return "tybalt@" + domain + "/street"
	}
	return "juliet@" + domain + "/balcony"
}

func stored(i, size int) string {
	return fmt.Sprintf("<message from='%s' to='romeo@%s' id='m%d' type='chat'><body>%s%d</body></message>", peerOf(i), domain, i, strings.Repeat("x", size), i)
}

// form is a submitted form of fields, name=value.
func form(fields ...string) string {
	b := "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' type='hidden'><value>" + mamNS + "</value></field>"
	for _, f := range fields {
		name, values, _ := strings.Cut(f, "=")
		b += "<field var='" + name + "'><value>" + strings.Join(strings.Split(values, ","), "</value><value>") + "</value></field>"
	}
	return b + "</x>"
}

func rsm(inner string) string {
	return "<set xmlns='http://jabber.org/protocol/rsm'>" + inner + "</set>"
}

func mamXML(inner string) string {
	if inner == "" {
		return "<query xmlns='" + mamNS + "'/>"
	}
	return "<query xmlns='" + mamNS + "' queryid='f27'>" + inner + "</query>"
}

// results is what a query gave: the indices of the messages, and the end.
func (c *client) results(inner string) (got []int, ids []string, fin string) {
	c.t.Helper()
	fin = c.ask("set", "", "<query xmlns='"+mamNS+"' queryid='f27'>"+inner+"</query>")
	rest := c.inbox[:0:0]
	for _, el := range c.inbox {
		r := el.Child(mamNS, "result")
		if r.IsZero() {
			rest = append(rest, el)
			continue
		}
		fwd := r.Child("urn:xmpp:forward:0", "forwarded")
		msg := fwd.Child(stanza.NSClient, "message")
		var i int
		if _, err := fmt.Sscanf(msg.Attr("id"), "m%d", &i); err != nil {
			c.t.Fatalf("%v: %s", err, el.Raw())
		}
		id, ok := store.ParseArchiveID(r.Attr("id"))
		stamp, err := time.Parse(time.RFC3339, fwd.Child("urn:xmpp:delay", "delay").Attr("stamp"))
		if !ok || err != nil || !stamp.Equal(id.Time()) || r.Attr("queryid") != "f27" ||
			el.Attr("from") != "romeo@"+domain || el.Attr("to") != c.session.JID().String() {
			c.t.Fatalf("result %s", el.Raw())
		}
		got, ids = append(got, i), append(ids, r.Attr("id"))
	}
	c.inbox = rest
	return got, ids, fin
}

func fin(complete bool, ids []store.ArchiveID, count int) string {
	b := "<fin xmlns='" + mamNS + "'"
	if complete {
		b += " complete='true'"
	}
	b += "><set xmlns='http://jabber.org/protocol/rsm'"
	if len(ids) == 0 && count < 0 {
		return b + "/></fin>"
	}
	b += ">"
	if len(ids) > 0 {
		b += "<first>" + ids[0].String() + "</first><last>" + ids[len(ids)-1].String() + "</last>"
	}
	if count >= 0 {
		b += fmt.Sprintf("<count>%d</count>", count)
	}
	return b + "</set></fin>"
}

func span(from, to int) (s []int) {
	for i := from; i < to; i++ {
		s = append(s, i)
	}
	return s
}

func only(in []int, keep func(int) bool) []int {
	return slices.DeleteFunc(slices.Clone(in), func(i int) bool { return !keep(i) })
}

func reversed(in []int) []int {
	out := slices.Clone(in)
	slices.Reverse(out)
	return out
}

func TestArchiveQueries(t *testing.T) {
	l := start(t, limits)
	const n = 30
	ids := l.fill(n, 0)
	romeo := l.bind("romeo", "orchard")
	stamp := func(i int) string { return ids[i].Time().Format(time.RFC3339Nano) }
	juliets := func(i int) bool { return i%3 != 0 }
	pick := func(is []int) (out []store.ArchiveID) {
		for _, i := range is {
			out = append(out, ids[i])
		}
		return out
	}
	for name, c := range map[string]struct {
		query    string
		want     []int
		complete bool
		count    int
	}{
		"all":                {"", span(0, n), true, n},
		"first page":         {rsm("<max>10</max>"), span(0, 10), false, -1},
		"exactly all":        {rsm("<max>30</max>"), span(0, n), true, n},
		"after":              {rsm("<max>10</max><after>" + ids[9].String() + "</after>"), span(10, 20), false, -1},
		"empty after":        {rsm("<max>10</max><after/>"), span(0, 10), false, -1},
		"last after":         {rsm("<max>10</max><after>" + ids[n-1].String() + "</after>"), nil, true, -1},
		"last but":           {rsm("<max>10</max><after>" + ids[n-11].String() + "</after>"), span(n-10, n), true, -1},
		"last page":          {rsm("<max>10</max><before/>"), span(n-10, n), false, -1},
		"last page, all":     {rsm("<max>40</max><before/>"), span(0, n), true, n},
		"before":             {rsm("<max>10</max><before>" + ids[15].String() + "</before>"), span(5, 15), false, -1},
		"before, complete":   {rsm("<max>10</max><before>" + ids[10].String() + "</before>"), span(0, 10), true, -1},
		"before the first":   {rsm("<before>" + ids[0].String() + "</before>"), nil, true, -1},
		"between":            {rsm("<after>" + ids[3].String() + "</after><before>" + ids[6].String() + "</before>"), span(4, 6), true, -1},
		"between, limited":   {rsm("<max>1</max><after>" + ids[3].String() + "</after><before>" + ids[6].String() + "</before>"), span(5, 6), false, -1},
		"flipped":            {rsm("<max>10</max><before/>") + "<flip-page/>", reversed(span(n-10, n)), false, -1},
		"flipped forwards":   {rsm("<max>10</max><after>"+ids[4].String()+"</after>") + "<flip-page/>", reversed(span(5, 15)), false, -1},
		"with, bare":         {form("with=juliet@" + domain), only(span(0, n), juliets), true, 20},
		"with, full":         {form("with=" + peerOf(1)), only(span(0, n), juliets), true, 20},
		"with, other device": {form("with=juliet@" + domain + "/other"), nil, true, 0},
		"with, paged":        {form("with=juliet@"+domain) + rsm("<max>3</max><before/>"), []int{26, 28, 29}, false, -1},
		"with, self":         {form("with=romeo@" + domain), nil, true, 0},
		"start":              {form("start=" + stamp(25)), span(25, n), true, 5},
		"end":                {form("end=" + stamp(4)), span(0, 5), true, 5},
		"start and end":      {form("start="+stamp(3), "end="+stamp(4)), span(3, 5), true, 2},
		"start after end":    {form("start="+stamp(4), "end="+stamp(3)), nil, true, 0},
		"offset":             {form("start=" + ids[25].Time().In(time.FixedZone("", 3600)).Format(time.RFC3339)), span(25, n), true, 5},
		"after-id":           {form("after-id=" + ids[24].String()), span(25, n), true, 5},
		"before-id":          {form("before-id=" + ids[5].String()), span(0, 5), true, 5},
		"between ids":        {form("after-id="+ids[4].String(), "before-id="+ids[7].String()), span(5, 7), true, 2},
		"between ids, paged": {form("after-id="+ids[4].String(), "before-id="+ids[20].String()) + rsm("<max>5</max><after>"+ids[9].String()+"</after>"), span(10, 15), false, -1},
		"page out of ids":    {form("after-id="+ids[4].String()) + rsm("<before>"+ids[2].String()+"</before>"), nil, true, -1},
		"ids":                {form("ids=" + ids[7].String() + "," + ids[3].String()), []int{3, 7}, true, 2},
		"ids, with":          {form("ids="+ids[7].String()+","+ids[3].String(), "with=tybalt@"+domain), []int{3}, true, 1},
		"thread":             {form("{urn:xmpp:tmp:thread:0}thread=e0ffe42b"), []int{0, 5, 10, 15, 20, 25}, true, 6},
		"thread, paged":      {form("{urn:xmpp:tmp:thread:0}thread=e0ffe42b") + rsm("<max>2</max><after>"+ids[5].String()+"</after>"), []int{10, 15}, false, -1},
		"thread, flipped":    {form("{urn:xmpp:tmp:thread:0}thread=e0ffe42b") + rsm("<max>2</max><before/>") + "<flip-page/>", []int{25, 20}, false, -1},
		"thread, counted":    {form("{urn:xmpp:tmp:thread:0}thread=e0ffe42b") + rsm("<max>0</max>"), nil, false, 6},
		"thread, with":       {form("{urn:xmpp:tmp:thread:0}thread=e0ffe42b", "with=tybalt@"+domain), []int{0, 15}, true, 2},
		"thread, not alike":  {form("{urn:xmpp:tmp:thread:0}thread= e0ffe42b"), nil, true, 0},
		"empty fields":       {form("with=", "start=", "end=", "before-id=", "after-id=", "{urn:xmpp:tmp:thread:0}thread="), span(0, n), true, n},
		"no results wanted":  {rsm("<max>0</max>"), nil, false, n},
		"count of a filter":  {form("with=juliet@"+domain) + rsm("<max>0</max><after>"+ids[9].String()+"</after>"), nil, false, 20},
		"count of nothing":   {form("with=nobody@"+domain) + rsm("<max>0</max>"), nil, true, 0},
	} {
		got, sent, end := romeo.results(c.query)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
			continue
		}
		for i, id := range sent {
			if id != ids[got[i]].String() {
				t.Errorf("%s: message %d has the id %s", name, got[i], id)
			}
		}
		if want := fin(c.complete, pick(slices.Sorted(slices.Values(c.want))), c.count); end != want {
			t.Errorf("%s:\n got %s\nwant %s", name, end, want)
		}
	}
}

func TestArchiveRefusals(t *testing.T) {
	l := start(t, limits)
	ids := l.fill(3, 0)
	romeo := l.bind("romeo", "orchard")
	const absent = "0000000000001"
	manyIDs := "ids=" + strings.Repeat(absent+",", 256) + absent
	for _, c := range []struct{ query, want string }{
		{rsm("<after>" + absent + "</after>"), notFound},
		{rsm("<after>m1</after>"), notFound}, // a message's own id (interop-traps.md)
		{rsm("<before>" + absent + "</before>"), notFound},
		{rsm("<max>0</max><before>" + absent + "</before>"), notFound},
		{form("after-id=" + absent), notFound},
		{form("before-id=" + absent), notFound},
		{form("ids=" + ids[0].String() + "," + absent), notFound},
		{form("ids="), notFound},
		{form("after-id=" + (ids[2] + 1).String()), notFound},
		{rsm("<index>3</index>"), notImplemented},
		{rsm("<max>many</max>"), bad},
		{rsm("<max>-1</max>"), bad},
		{rsm("<max/>"), bad},
		{form("with=a@@b"), bad},
		{form("start=yesterday"), bad},
		{form("start=2026-11-20"), bad},
		{form("end=2026-11-20T00:00:00"), bad},
		{form("with=a@b.lit,c@d.lit"), bad},
		{form("{urn:x}search=love"), notImplemented},
		{form("include-groupchat=true"), notImplemented},
		{form("with=a@b.lit", "with=c@d.lit"), bad},
		{form(manyIDs), tooMuch},
		{form("{urn:xmpp:tmp:thread:0}thread=" + strings.Repeat("x", 1024)), tooMuch},
		{form("{urn:xmpp:tmp:thread:1}thread=x"), notImplemented},
		{"<x xmlns='jabber:x:data' type='submit'><field var='with'><value>a@b.lit</value></field></x>", bad},
		{"<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>urn:other</value></field></x>", bad},
		{strings.Replace(form(), "submit", "form", 1), bad},
		{"<x xmlns='jabber:x:data' type='submit'><field><value>x</value></field></x>", bad},
	} {
		if got := romeo.ask("set", "", mamXML(c.query)); got != c.want {
			t.Errorf("%s: %s, want %s", c.query, got, c.want)
		}
	}
	romeo.expect("set", "", "<query xmlns='"+mamNS+"' queryid='"+strings.Repeat("q", 257)+"'/>", bad)
	romeo.expect("set", "", "<query xmlns='"+mamNS+"' node='blog'/>", notFound)
	romeo.nothingElse(func(el xmltree.Element) bool { return !el.Child(mamNS, "result").IsZero() })

	for _, to := range []string{"juliet@" + domain, "nobody@" + domain} {
		romeo.expect("set", to, mamXML(""), forbidden)
		romeo.expect("get", to, mamXML(""), forbidden)
		romeo.expect("get", to, "<metadata xmlns='"+mamNS+"'/>", forbidden)
		romeo.expect("get", to, "<prefs xmlns='"+mamNS+"'/>", forbidden)
		romeo.expect("set", to, "<prefs xmlns='"+mamNS+"' default='always'/>", forbidden)
	}
	romeo.expect("set", domain, mamXML(""), unavailable)
}

func TestEmptyArchive(t *testing.T) {
	l := start(t, limits)
	romeo := l.bind("romeo", "orchard")
	for _, c := range []struct{ query, want string }{
		{"", fin(true, nil, 0)},
		{rsm("<max>10</max><before/>"), fin(true, nil, 0)},
		{rsm("<max>0</max>"), fin(true, nil, 0)},
		{rsm("<after>0000000000001</after>"), notFound},
	} {
		if _, _, end := romeo.results(c.query); end != c.want {
			t.Errorf("%s: %s, want %s", c.query, end, c.want)
		}
	}
	romeo.expect("get", "", "<metadata xmlns='"+mamNS+"'/>", "<metadata xmlns='"+mamNS+"'/>")
}

func TestArchiveFormAndMetadata(t *testing.T) {
	l := start(t, limits)
	ids := l.fill(3, 0)
	romeo := l.bind("romeo", "orchard")
	got := romeo.ask("get", "romeo@"+domain, mamXML(""))
	for _, field := range []string{"with", "start", "end", "before-id", "after-id", "ids", "{urn:xmpp:tmp:thread:0}thread"} {
		if !strings.Contains(got, "var='"+field+"'") {
			t.Errorf("the form lacks %s", field)
		}
	}
	romeo.expect("get", "", "<metadata xmlns='"+mamNS+"'/>", "<metadata xmlns='"+mamNS+"'>"+
		"<start id='"+ids[0].String()+"' timestamp='2026-11-20T11:59:57Z'/><end id='"+ids[2].String()+"' timestamp='2026-11-20T11:59:59Z'/></metadata>")
}

// TestArchivePages pages through archives whose pages don't fit into one
// batch, in both directions and flipped.
func TestArchivePages(t *testing.T) {
	for _, size := range []int{0, 4000} {
		l := start(t, limits)
		const n = 300
		ids := l.fill(n, size)
		romeo := l.bind("romeo", "orchard")
		if got, _, end := romeo.results(""); !slices.Equal(got, span(0, 50)) || end != fin(false, ids[:50], -1) {
			t.Errorf("size %d: a page of the default size: %d messages, %s", size, len(got), end)
		}
		if got, _, end := romeo.results(rsm("<max>10000</max>")); !slices.Equal(got, span(0, 250)) || end != fin(false, ids[:250], -1) {
			t.Errorf("size %d: the largest page: %d messages, %s", size, len(got), end)
		}
		for _, flip := range []bool{false, true} {
			for _, last := range []bool{false, true} {
				query := "<max>130</max><after/>"
				if last {
					query = "<max>130</max><before/>"
				}
				var all []int
				for pages := 0; pages < 3; pages++ {
					inner := rsm(query)
					if flip {
						inner += "<flip-page/>"
					}
					got, sent, end := romeo.results(inner)
					if flip {
						slices.Reverse(got)
						slices.Reverse(sent)
					}
					if last {
						all = append(got, all...)
						query = "<max>130</max><before>" + sent[0] + "</before>"
					} else {
						all = append(all, got...)
						query = "<max>130</max><after>" + sent[len(sent)-1] + "</after>"
					}
					if complete := strings.Contains(end, "complete='true'"); complete != (pages == 2) {
						t.Errorf("size %d, flip %v, last %v: page %d of %d messages ends with %s", size, flip, last, pages, len(got), end)
					}
				}
				if !slices.Equal(all, span(0, n)) {
					t.Errorf("size %d, flip %v, last %v: %v", size, flip, last, all)
				}
			}
		}
	}
}

// TestArchiveOfRealMessages: what was routed is found under the ids that the
// devices were told, by both, and whoever reads the archive isn't sent it as
// offline messages.
func TestArchiveOfRealMessages(t *testing.T) {
	l := start(t, limits)
	romeo := l.online("romeo", "orchard")
	for i := range 3 {
		romeo.send(fmt.Sprintf("<message to='juliet@montague.lit' type='chat' id='m%d'><body>a &lt; b</body></message>", i))
		l.advance(time.Second)
	}
	got, _, _ := romeo.results("")
	if !slices.Equal(got, span(0, 3)) {
		t.Errorf("in the archive: %v", got)
	}
	juliet := l.bind("juliet", "balcony")
	end := juliet.ask("set", "", mamXML(rsm("<max>2</max>")))
	if !strings.HasPrefix(end, "<fin xmlns='"+mamNS+"'><set") {
		t.Error(end)
	}
	for i := range 2 {
		r := juliet.next(func(el xmltree.Element) bool { return !el.Child(mamNS, "result").IsZero() })
		msg := r.Child(mamNS, "result").Child("urn:xmpp:forward:0", "forwarded").Child(stanza.NSClient, "message")
		if msg.Attr("id") != fmt.Sprint("m", i) || msg.Child(stanza.NSClient, "body").Text() != "a < b" || msg.Attr("from") != "romeo@montague.lit/orchard" {
			t.Errorf("result %s", r.Raw())
		}
	}
	juliet.send("<presence/>")
	juliet.nothingElse(func(el xmltree.Element) bool { return el.Is(stanza.NSClient, "message") })
}

func TestArchivePrefs(t *testing.T) {
	l := start(t, limits)
	romeo := l.online("romeo", "orchard")
	const get = "<prefs xmlns='" + mamNS + "'/>"
	romeo.expect("get", "", get, "<prefs xmlns='"+mamNS+"' default='always'><always/><never/></prefs>")
	const set = "<prefs xmlns='" + mamNS + "' default='roster'><always><jid>romeo@montague.lit</jid></always><never><jid>montague@montague.lit</jid></never></prefs>"
	romeo.expect("set", "", set, set)
	romeo.expect("get", "romeo@"+domain, get, set)
	many := strings.Repeat("<jid>a@b.lit</jid>", 1001)
	for _, c := range []struct{ prefs, want string }{
		{"<prefs xmlns='" + mamNS + "'/>", bad},
		{"<prefs xmlns='" + mamNS + "' default='sometimes'/>", bad},
		{"<prefs xmlns='" + mamNS + "' default='never'><always><jid>a@@b</jid></always></prefs>", bad},
		{"<prefs xmlns='" + mamNS + "' default='never'><always><jid/></always></prefs>", bad},
		{"<prefs xmlns='" + mamNS + "' default='never'><never>" + many + "</never></prefs>", tooMuch},
	} {
		romeo.expect("set", "", c.prefs, c.want)
	}
	romeo.expect("get", "", get, set)

	romeo.expect("set", "", "<prefs xmlns='"+mamNS+"' default='never'/>", "<prefs xmlns='"+mamNS+"' default='never'><always/><never/></prefs>")
	romeo.send("<message to='juliet@montague.lit' type='chat' id='m0'><body>x</body></message>")
	if got, _, _ := romeo.results(""); len(got) != 0 {
		t.Errorf("archived in spite of the preferences: %v", got)
	}
}

// TestSlowReader: a page waits for a client whose queue is full, and other
// sessions of the account don't.
func TestSlowReader(t *testing.T) {
	lim := limits
	lim.OutboxBytes = 32 << 10
	l := start(t, lim)
	l.fill(200, 1000)
	slow, other := l.bind("romeo", "slow"), l.bind("romeo", "other")
	done := make(chan struct{})
	go func() {
		defer close(done)
		slow.send("<iq type='set' id='q'><query xmlns='" + mamNS + "'>" + rsm("<max>200</max>") + "</query></iq>")
	}()
	other.expect("get", "", "<ping xmlns='urn:xmpp:ping'/>", "")
	slow.next(func(el xmltree.Element) bool { return el.Is(stanza.NSClient, "iq") && el.Attr("id") == "q" })
	<-done
	if len(slow.inbox) != 200 {
		t.Errorf("%d results", len(slow.inbox))
	}
}

// BenchmarkArchivePage is one page of 50 messages of 300 bytes, from the
// request to the bytes that a connection would write.
func BenchmarkArchivePage(b *testing.B) {
	for _, inner := range []string{rsm("<max>50</max>"), rsm("<max>50</max><before/>"), rsm("<max>250</max>")} {
		b.Run(strings.NewReplacer("<", "", ">", "", "/", "").Replace(inner[len("<set xmlns='http://jabber.org/protocol/rsm'>"):len(inner)-len("</set>")]), func(b *testing.B) {
			l := start(b, limits)
			l.fill(2000, 150)
			romeo := l.bind("romeo", "orchard")
			st, err := stanza.ParseBytes([]byte("<iq type='set' id='q'>"+mamXML(inner)+"</iq>"), xmltree.Limits{})
			if err != nil {
				b.Fatal(err)
			}
			st.From = romeo.session.JID()
			var buf []byte
			messages := 0
			b.ReportAllocs()
			for b.Loop() {
				query := *st
				if err := romeo.session.Receive(b.Context(), &query, 100); err != nil {
					b.Fatal(err)
				}
				for more := true; more; {
					buf, more = romeo.session.Next(romeo, buf[:0], 16<<10)
					messages += strings.Count(string(buf), "<result ")
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(messages), "ns/message")
		})
	}
}
