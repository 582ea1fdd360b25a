package caps

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// session is a session of which only questions matter here.
type session struct {
	feature.SessionRef
	jid    jid.JID
	asked  []string
	answer func(ctx context.Context) (*stanza.Stanza, error)
}

func (s *session) JID() jid.JID { return s.jid }

func (s *session) Ask(ctx context.Context, payload string) (*stanza.Stanza, error) {
	s.asked = append(s.asked, payload)
	return s.answer(ctx)
}

func client(name string, info xep.DiscoInfo) *session {
	payload := string(xep.AppendDiscoInfo(nil, "", info))
	return &session{jid: jid.MustParse(name + "@x.lit/r"), answer: func(context.Context) (*stanza.Stanza, error) {
		return stanza.Build(stanza.IQ, stanza.TypeResult, "1", jid.JID{}, jid.JID{}, payload), nil
	}}
}

func presence(hash, ver string) *stanza.Stanza {
	return stanza.Build(stanza.Presence, "", "", jid.JID{}, jid.JID{}, string(xep.AppendCaps(nil, xep.Caps{Hash: hash, Node: "http://n", Ver: ver})))
}

func infoWith(features ...string) xep.DiscoInfo {
	return xep.DiscoInfo{Identities: []xep.Identity{{Category: "client", Type: "pc"}}, Features: features}
}

func verOf(t *testing.T, hash string, info xep.DiscoInfo) string {
	t.Helper()
	ver, ok := xep.CapsVer(hash, info)
	if !ok {
		t.Fatal("no hash")
	}
	return ver
}

func TestBelief(t *testing.T) {
	c := New(Options{})
	defer c.Close()
	for _, hash := range []string{"sha-1", "sha-256"} {
		info := infoWith("urn:" + hash)
		ver := verOf(t, hash, info)
		liar, honest := client("liar", infoWith("urn:evil")), client("honest", info)

		// A liar isn't believed, and not asked twice for one hash.
		for range 2 {
			c.observe(liar, presence(hash, ver))
			c.wg.Wait()
		}
		if _, ok := c.Lookup(ver); ok || len(liar.asked) != 1 {
			t.Fatalf("%s: known %v after %d questions to a liar", hash, ok, len(liar.asked))
		}
		for range 2 {
			c.observe(honest, presence(hash, ver))
			c.wg.Wait()
		}
		got, ok := c.Lookup("http://n#" + ver)
		if !ok || len(got.Features) != 1 || len(honest.asked) != 1 {
			t.Fatalf("%s: known %v %v after %d questions", hash, ok, got, len(honest.asked))
		}
		c.observe(liar, presence(hash, ver))
		c.wg.Wait()
		if len(liar.asked) != 1 {
			t.Error("asked for what is known")
		}
	}
}

func TestBadAnswers(t *testing.T) {
	c := New(Options{})
	defer c.Close()
	big := infoWith(strings.Repeat("x", maxInfo))
	twice := infoWith("a", "a")
	for name, s := range map[string]*session{
		"too big":  client("a", big),
		"feature":  client("b", twice),
		"no query": {jid: jid.MustParse("c@x.lit/r"), answer: func(context.Context) (*stanza.Stanza, error) { return presence("sha-1", "x"), nil }},
		"error": {jid: jid.MustParse("d@x.lit/r"), answer: func(context.Context) (*stanza.Stanza, error) {
			return nil, stanza.NewError(stanza.ServiceUnavailable, "")
		}},
	} {
		ver := "invented"
		if name == "too big" {
			ver = verOf(t, "sha-1", big)
		}
		c.observe(s, presence("sha-1", ver))
		c.wg.Wait()
		if _, ok := c.Lookup(ver); ok || len(s.asked) != 1 {
			t.Errorf("%s: known %v after %d questions", name, ok, len(s.asked))
		}
	}
}

func TestBounds(t *testing.T) {
	const open = 3
	c := New(Options{Entries: 5, Open: open})
	blocked := make(chan error, open)
	var asked []*session
	for i := range open + 2 {
		s := &session{jid: jid.MustParse(fmt.Sprintf("s%d@x.lit/r", i))}
		s.answer = func(ctx context.Context) (*stanza.Stanza, error) {
			<-ctx.Done()
			blocked <- ctx.Err()
			return nil, ctx.Err()
		}
		asked = append(asked, s)
		c.observe(s, presence("sha-1", fmt.Sprint(i)))
		c.observe(s, presence("sha-1", fmt.Sprint("more", i))) // one at a time
	}
	c.mu.Lock()
	n := len(c.own.asked)
	c.mu.Unlock()
	if n != open {
		t.Errorf("%d questions are open", n)
	}
	c.Close() // ends them
	for range open {
		if err := <-blocked; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	for i, s := range asked {
		if want := 1; i < open && len(s.asked) != want || i >= open && len(s.asked) != 0 {
			t.Errorf("session %d got %d questions", i, len(s.asked))
		}
	}
	c.observe(asked[open], presence("sha-1", "late"))
	c.wg.Wait()
	if len(asked[open].asked) != 0 {
		t.Error("asked after Close")
	}

	for i := range 20 {
		c.known.put(fmt.Sprint(i), verified{})
		c.known.get("15") // used, so it stays
	}
	if _, ok := c.known.get("15"); !ok || c.known.order.Len() != 5 || len(c.known.index) != 5 {
		t.Errorf("%d entries, %d in the index", c.known.order.Len(), len(c.known.index))
	}
}

// TestNotify: of which nodes a session wants to hear is told once it is known, again at each presence, and that it is none where it names no
// capabilities.
func TestNotify(t *testing.T) {
	var told []string
	c := New(Options{Notify: func(s feature.Listener, nodes []string) { told = append(told, fmt.Sprint(s.JID().Local(), nodes)) }})
	defer c.Close()
	info := infoWith("a+notify", "b", "+notify", "c+notify")
	ver := verOf(t, "sha-1", info)
	s, liar := client("s", info), client("liar", info)
	for _, p := range []*stanza.Stanza{presence("sha-1", ver), presence("sha-1", ver), presence("sha-1", "")} {
		c.observe(s, p)
		c.wg.Wait()
	}
	for range 2 {
		c.observe(liar, presence("sha-1", "x"))
		c.wg.Wait()
	}
	if want := []string{"s[a c]", "s[a c]", "s[]", "liar[]", "liar[]"}; !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}

	// What a session named before the answer came is not what it names now.
	told = nil
	many := make([]string, maxNotify+5)
	for i := range many {
		many[i] = fmt.Sprintf("%d+notify", i)
	}
	old := client("old", infoWith(many...))
	c.observe(s, presence("sha-1", ver))
	answer, gate := old.answer, make(chan struct{})
	old.answer = func(ctx context.Context) (*stanza.Stanza, error) { <-gate; return answer(ctx) }
	oldVer := verOf(t, "sha-1", infoWith(many...))
	c.observe(old, presence("sha-1", oldVer))
	c.observe(old, presence("sha-1", ver))
	close(gate)
	c.wg.Wait()
	if want := []string{"s[a c]", "old[a c]"}; !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
	if v, _ := c.known.get(oldVer); len(v.notify) != maxNotify {
		t.Errorf("%d nodes", len(v.notify))
	}
}

// TestNamedWhileAsked: a client changes what it can while it is asked, as profanity does that looks for an avatar: the
// newest is asked for next, those between are not, and only the newest is told.
func TestNamedWhileAsked(t *testing.T) {
	var told [][]string
	c := New(Options{Notify: func(_ feature.Listener, nodes []string) { told = append(told, nodes) }})
	defer c.Close()
	infos := []xep.DiscoInfo{infoWith("first"), infoWith("between"), infoWith("urn:node+notify")}
	var s *session
	s = &session{jid: jid.MustParse("a@x.lit/r"), answer: func(context.Context) (*stanza.Stanza, error) {
		info := infos[0]
		if len(s.asked) == 1 { // before the first answer
			c.observe(s, presence("sha-1", verOf(t, "sha-1", infos[1])))
			c.observe(s, presence("sha-1", verOf(t, "sha-1", infos[2])))
		} else {
			info = infos[2]
		}
		return stanza.Build(stanza.IQ, stanza.TypeResult, "1", jid.JID{}, jid.JID{}, string(xep.AppendDiscoInfo(nil, "", info))), nil
	}}
	c.observe(s, presence("sha-1", verOf(t, "sha-1", infos[0])))
	c.wg.Wait()
	if len(s.asked) != 2 || len(told) != 1 || !slices.Equal(told[0], []string{"urn:node"}) {
		t.Errorf("%d questions, told %q", len(s.asked), told)
	}
	if len(c.own.asked) != 0 {
		t.Errorf("open: %v", c.own.asked)
	}
}

// TestLimitsOfNames: what can't be verified isn't asked for.
func TestLimitsOfNames(t *testing.T) {
	c := New(Options{})
	defer c.Close()
	s := client("a", infoWith())
	for _, p := range []*stanza.Stanza{
		presence("md5", "x"), presence("sha-1", strings.Repeat("x", 65)), presence("sha-1", ""),
		stanza.Build(stanza.Presence, "", "", jid.JID{}, jid.JID{}, "<c xmlns='"+xep.NSCaps+"' node='n' ver='0.1'/>"),
		stanza.Build(stanza.Presence, "", "", jid.JID{}, jid.JID{}, ""),
	} {
		c.observe(s, p)
		c.wg.Wait()
	}
	if len(s.asked) != 0 {
		t.Errorf("asked: %v", s.asked)
	}
	if _, err := xmltree.Parse([]byte(xep.AppendDiscoInfo(nil, "n#v", xep.DiscoInfo{})), stanza.NSClient, xmltree.Limits{}); err != nil {
		t.Error(err)
	}
}
