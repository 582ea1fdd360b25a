package features_test

import (
	"slices"
	"strings"
	"testing"

	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// TestEventWhileLearning: what happens to a node while the server learns that a
// session wants to hear of it, at each moment of the learning: the session ends up
// with the newest item, and hears nothing twice.
func TestEventWhileLearning(t *testing.T) {
	items := func(items string) string { return "<items node='n'>" + items + "</items>" }
	event := func(text string) string { return items(itemXML("1", text)) }
	publish := func(id, text string) string {
		return publishXML("n", id, text, "max_items", "3", "notify_delete", "true")
	}
	retract := func(id string) string {
		return pubsub("<retract node='n' notify='1'><item id='" + id + "'/></retract>")
	}
	for _, c := range []struct {
		name   string
		before []string // what the node is like
		hold   []string // points at which the commit or the learning waits
		do     []string // meanwhile, and, after "release POINT"
		want   []string
	}{
		{"commit under way", nil, []string{"commit"}, []string{publish("1", "a"), "learn", "release commit"}, []string{event("a")}},
		{"commit under way, an older item", []string{publish("1", "a")}, []string{"commit"},
			[]string{publish("1", "b"), "learn", "release commit"}, []string{event("b")}},
		{"committed between learning and reading", nil, []string{"look"}, []string{"learn", publish("1", "a"), "release look"}, []string{event("a")}},
		{"commit under way while it is read", []string{publish("1", "a")}, []string{"commit", "look"},
			[]string{publish("1", "b"), "learn", "release commit", "release look"}, []string{event("b")}},
		{"newer than what was read", []string{publish("1", "a")}, []string{"found"}, []string{"learn", publish("1", "b"), "release found"}, []string{event("b")}},
		{"retracted after it was read", []string{publish("1", "a")}, []string{"found"}, []string{"learn", retract("1"), "release found"},
			[]string{items("<retract id='1'/>")}},
		{"the newer of two retracted after it was read", []string{publish("1", "a"), publish("2", "b")}, []string{"found"},
			[]string{"learn", retract("2"), "release found"}, []string{items("<retract id='2'/>"), event("a")}},
		{"published and retracted after it was read", []string{publish("1", "a")}, []string{"found"},
			[]string{"learn", publish("2", "b"), retract("2"), "release found"},
			[]string{items(itemXML("2", "b")), items("<retract id='2'/>"), event("a")}},
		{"deleted after it was read", []string{publish("1", "a")}, []string{"found"},
			[]string{"learn", pubsubOwner("<delete node='n'/>"), "release found"}, []string{"<delete node='n'/>"}},
	} {
		for _, listener := range []string{"romeo", "juliet"} {
			t.Run(c.name+"/"+listener, func(t *testing.T) {
				learn(t, listener, c.before, c.hold, c.do, c.want)
			})
		}
	}
}

func learn(t *testing.T, listener string, before, hold, do, want []string) {
	l := startAt(t, limits, t.TempDir()) // in memory, who reads waits for commits
	wish, last := l.wishing("n"), l.wishing("n", "last")
	hears, publisher := l.online(listener, "hears"), l.online("romeo", "publishes")
	hears.expect("set", "", publishXML("last", "1", "x"), publishedXML("last", "1"))
	for _, p := range before {
		publisher.ask("set", "", p)
	}
	reached, release := map[string]<-chan struct{}{}, map[string]func(){}
	for _, point := range hold {
		reached[point], release[point] = l.hold(point)
	}
	published := 0
	for _, step := range do {
		point, isRelease := strings.CutPrefix(step, "release ")
		switch {
		case isRelease:
			release[point]()
			delete(reached, point)
		case step == "learn":
			looks, goOn := reached["look"], func() {}
			if looks == nil {
				looks = reached["found"]
			}
			if looks == nil {
				looks, goOn = l.hold("found")
			}
			hears.send("<presence>" + wish + "</presence>")
			<-looks
			goOn()
		case reached["commit"] != nil:
			published++
			go publisher.send("<iq type='set' id='p'>" + step + "</iq>")
			<-reached["commit"]
		default:
			publisher.ask("set", "", step)
		}
	}
	for range published {
		publisher.next(func(el xmltree.Element) bool { return el.Attr("id") == "p" })
	}
	// What is learned next is learned when all else is done.
	hears.send("<presence>" + last + "</presence>")
	got := hears.until("node='last'")
	for i := range got {
		_, got[i], _ = strings.Cut(got[i], " ")
	}
	if !slices.Equal(got, want) {
		t.Errorf("heard\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// wishing is the capabilities, known already, of a client that wants to hear of nodes.
func (l *live) wishing(nodes ...string) string {
	l.t.Helper()
	info := xep.DiscoInfo{Identities: []xep.Identity{{Category: "client", Type: "pc"}}}
	for _, n := range nodes {
		info.Features = append(info.Features, n+"+notify")
	}
	ver, ok := xep.CapsVer("sha-1", info)
	if !ok {
		l.t.Fatal("no hash")
	}
	c := string(xep.AppendCaps(nil, xep.Caps{Hash: "sha-1", Node: "n", Ver: ver}))
	first := l.bind("tybalt", "")
	first.send("<presence>" + c + "</presence>")
	q := first.next(func(el xmltree.Element) bool { return el.Is(stanza.NSClient, "iq") && el.Attr("type") == "get" })
	looks, goOn := l.hold("look")
	first.send("<iq type='result' to='" + domain + "' id='" + q.Attr("id") + "'>" + string(xep.AppendDiscoInfo(nil, "n#"+ver, info)) + "</iq>")
	<-looks // it is known
	goOn()
	return c
}
