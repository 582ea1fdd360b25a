package room

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"carillon.im/jid"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

const hall = "hall@rooms.example"

// TestRules: whatever somebody may do, he may do to nobody above him; and more
// affiliation never allows less.
func TestRules(t *testing.T) {
	for a := none; a <= owner; a++ {
		for r := noRole; r <= moderator; r++ {
			for target := outcast; target <= owner; target++ {
				for was := visitor; was <= moderator; was++ {
					for want := noRole; want <= moderator; want++ {
						e := mayChangeRole(standing{a, r}, standing{target, was}, want)
						if e == nil && (r != moderator || target > a) {
							t.Errorf("%v %v may make a %v %v a %v", a, r, target, was, want)
						}
						if e == nil && a < owner && mayChangeRole(standing{a + 1, r}, standing{target, was}, want) != nil {
							t.Errorf("%v %v may make a %v %v a %v, somebody above may not", a, r, target, was, want)
						}
					}
				}
				for want := outcast; want <= owner; want++ {
					e := mayChangeAffiliation(a, target, want, false)
					if e == nil && a < owner && (a < admin || target >= admin || want >= admin) {
						t.Errorf("%v may make %v %v", a, target, want)
					}
				}
			}
		}
	}
}

func TestNick(t *testing.T) {
	for _, same := range [][2]string{{"Juliet", "juliet"}, {"Juliet", "ＪＵＬＩＥＴ"}, {"Juliet", "Jul1et"}, {"Juliet", "JuIiet"}, {"Juliet", "Јuliеt"}, {"Romeo", "Rοmeο"},
		{"Romeo", "R0me0"}, {"Romeo", "Rorneo"}, {"A B", "AB"}, {"Zoe", "Zoë"}, {"wow", "vvovv"}, {"x", "x\u200d"}, {"cat", "Ϲat"}} {
		if skeleton(same[0]) != skeleton(same[1]) {
			t.Errorf("%q and %q look alike: %q, %q", same[0], same[1], skeleton(same[0]), skeleton(same[1]))
		}
	}
	for _, other := range [][2]string{{"Juliet", "Romeo"}, {"a", "b"}, {"Ann", "Anna"}, {"日本", "日木"}, {"🎉", "🎈"}} {
		if skeleton(other[0]) == skeleton(other[1]) {
			t.Errorf("%q and %q are two", other[0], other[1])
		}
	}
	for letter, same := range lookAlikes {
		if skeleton(string(letter)) != string(same) {
			t.Errorf("%q is not taken for %q", letter, same)
		}
	}
	for nick, ok := range map[string]bool{"Juliet": true, "J": true, "日本": true, "🎉": true, " x": false, "x ": false, "\u00ad": false, "": false,
		strings.Repeat("日", maxNick): true, strings.Repeat("x", maxNick+1): false} {
		if (checkNick(nick) == nil) != ok {
			t.Errorf("%q: %v", nick, checkNick(nick))
		}
	}
}

// TestForm: a form that is sent back as it came changes nothing.
func TestForm(t *testing.T) {
	s := newState(&Config{Limits: Limits{Occupants: 100}, History: 20}, jid.MustParse(hall))
	s.opt = defaultOptions(20)
	s.opt.Name, s.opt.Password, s.opt.Mine, s.opt.MaxOccupants, s.opt.Lang = "<&>", "word", true, 50, "en"
	s.members[jid.MustParse("a@example")] = &membership{affiliation: owner}
	el, err := xmltree.Parse([]byte(s.form()), stanza.NSClient, xmltree.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	form, err := xep.ParseForm(el.Child(xep.NSForm, "x"))
	if err != nil {
		t.Fatal(err)
	}
	o, owners, admins, e := s.submit(form)
	if e != nil {
		t.Fatal(e)
	}
	if got, want := string(o.data(nil).Options), string(s.opt.data(nil).Options); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if len(s.listed(owners, owner))+len(s.listed(admins, admin)) != 0 {
		t.Errorf("owners %v, admins %v", owners, admins)
	}
	back, err := decodeOptions(o.data(nil).Options, 20)
	if err != nil || string(back.data(nil).Options) != string(o.data(nil).Options) {
		t.Errorf("stored and read: %+v, %v", back, err)
	}
}

// TestBigRoom: who enters a room of 1000 is told of everybody in one hand-over, and what is said
// to 1000 is one payload.
func TestBigRoom(t *testing.T) {
	const n = 1000
	w := newWorld(t, func(c *Config) { c.Limits.Occupants = n })
	w.join("o@example/0", "hall", "Owner")
	w.open("o@example/0", "hall")
	for i := 1; i < n-1; i++ {
		w.join(fmt.Sprintf("u%d@example/0", i), "hall", fmt.Sprintf("nick %d", i))
	}
	w.forgetAll()
	w.join("last@example/0", "hall", "Last")
	if w.calls != 1 {
		t.Errorf("entering took %d hand-overs", w.calls)
	}
	if got := len(w.take("last@example/0")); got != n+1 { // everybody's presence, his own with it, and the subject
		t.Errorf("who entered was sent %d stanzas", got)
	}
	w.join("more@example/0", "hall", "More")
	if got := w.refused("more@example/0"); got != string(stanza.ServiceUnavailable) {
		t.Errorf("into a full room: %q", got)
	}
	w.forgetAll()
	w.send("o@example/0", "<message type='groupchat' to='"+hall+"'><body>x</body></message>")
	first := w.take("o@example/0")[0].Inner()
	for i := 1; i < n-1; i++ {
		list := w.take(fmt.Sprintf("u%d@example/0", i))
		if len(list) != 1 || unsafe.StringData(list[0].Inner()) != unsafe.StringData(first) {
			t.Fatalf("occupant %d was sent %d stanzas, not the same payload", i, len(list))
		}
	}
}

// TestEmptyRoomsCostNothing: a room in which nobody is, is forgotten, and is there
// for who asks.
func TestEmptyRoomsCostNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		for i := range 100 {
			room := fmt.Sprintf("r%d", i)
			w.join("o@example/0", room, "Owner")
			w.open("o@example/0", room, "persistentroom", "1")
			w.send("o@example/0", "<presence type='unavailable' to='"+room+"@rooms.example/Owner'/>")
		}
		if n := w.hub.Stats().Loaded.Load(); n != 100 {
			t.Errorf("%d rooms are in memory", n)
		}
		time.Sleep(2 * forgetAfter)
		synctest.Wait()
		if n := w.hub.Stats().Loaded.Load(); n != 0 {
			t.Errorf("%d rooms are in memory", n)
		}
		w.forgetAll()
		w.send("o@example/0", "<iq type='get' id='i' to='r7@rooms.example'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>")
		if list := w.take("o@example/0"); len(list) != 1 || list[0].Type != stanza.TypeResult {
			t.Errorf("a forgotten room answers %v", list)
		}
		w.send("o@example/0", "<iq type='get' id='i' to='none@rooms.example'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>")
		if n := w.hub.Stats().Loaded.Load(); n != 1 {
			t.Errorf("%d rooms are in memory: one that doesn't exist is kept", n)
		}
	})
}

// TestRates: what one person and what all together may send is bounded, and comes
// back with time.
func TestRates(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.PerUser, c.Limits.PerRoom = 10, 15 })
	now := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	w.now = func() time.Time { return now }
	w.join("o@example/0", "hall", "Owner")
	w.open("o@example/0", "hall")
	w.join("u@example/0", "hall", "User")
	say := func(who string) string {
		w.forgetAll()
		w.send(who, "<message type='groupchat' to='"+hall+"'><body>x</body></message>")
		return w.refused(who)
	}
	for i := range 98 { // and two to enter and to configure
		if got := say("o@example/0"); got != "" {
			t.Fatalf("message %d: %s", i, got)
		}
	}
	if got := say("o@example/0"); got != string(stanza.PolicyViolation) {
		t.Errorf("one person's message beyond the bound: %q", got)
	}
	for i := range 52 {
		if got := say("u@example/0"); got != "" {
			t.Fatalf("the other's message %d: %s", i, got)
		}
	}
	if got := say("u@example/0"); got != string(stanza.PolicyViolation) {
		t.Errorf("the room's message beyond the bound: %q", got)
	}
	now = now.Add(time.Second)
	if got := say("o@example/0"); got != "" {
		t.Errorf("a second later: %q", got)
	}
}

// TestBounds: what grows by what people do has a bound.
func TestBounds(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.Affiliations, c.Limits.RoomsPerUser, c.Limits.Occupants = 3, 1, 60 })
	w.join("o@example/0", "hall", "Owner")
	w.open("o@example/0", "hall", "persistentroom", "1")
	w.join("o@example/0", "other", "Owner")
	if got := w.refused("o@example/0"); got != string(stanza.ResourceConstraint) {
		t.Errorf("a second room of one's own: %q", got)
	}
	w.join("x@elsewhere/0", "other", "X")
	if got := w.refused("x@elsewhere/0"); got != string(stanza.NotAllowed) {
		t.Errorf("a room made by a stranger: %q", got)
	}
	member := func(items ...string) string {
		w.send("o@example/0", "<iq type='set' id='i' to='"+hall+"'><query xmlns='"+xep.NSMUCAdmin+"'>"+strings.Join(items, "")+"</query></iq>")
		return w.refused("o@example/0")
	}
	if got := member("<item jid='a@b' affiliation='member'/>", "<item jid='b@b' affiliation='outcast'/>"); got != "" {
		t.Errorf("two of three: %s", got)
	}
	if got := member("<item jid='c@b' affiliation='member'/>"); got != string(stanza.ResourceConstraint) {
		t.Errorf("one more affiliation: %q", got)
	}
	if got := member("<item jid='c@b' affiliation='member'/>", "<item jid='b@b' affiliation='none'/>"); got != "" {
		t.Errorf("one in place of another: %s", got)
	}
	if got := member(strings.Repeat("<item jid='c@b' affiliation='member'/>", xep.MaxMUCItems+1)); got != string(stanza.PolicyViolation) {
		t.Errorf("too many items: %q", got)
	}
	for i := range maxVisits {
		w.join(fmt.Sprintf("u@example/%d", i), "hall", "User")
	}
	w.join("u@example/more", "hall", "User")
	if got := w.refused("u@example/more"); got != string(stanza.ResourceConstraint) {
		t.Errorf("one more session of a person: %q", got)
	}
	for range maxRequests {
		w.send("u@example/0", "<iq type='get' id='v' to='"+hall+"/Owner'><x xmlns='y'/></iq>")
	}
	w.forgetAll()
	w.send("u@example/0", "<iq type='get' id='v' to='"+hall+"/Owner'><x xmlns='y'/></iq>")
	if got := w.refused("u@example/0"); got != string(stanza.RemoteServerTimeout) {
		t.Errorf("the oldest of too many requests: %q", got)
	}
	w.send("u@example/0", "<presence to='"+hall+"/User'><status>"+strings.Repeat("x", maxPresence)+"</status></presence>")
	if got := w.refused("u@example/0"); got != string(stanza.PolicyViolation) {
		t.Errorf("long presence: %q", got)
	}
	w.send("u@example/0", "<message to='"+hall+"'><x xmlns='"+xep.NSMUCUser+"'>"+strings.Repeat("<invite to='a@b'/>", xep.MaxMUCInvites+1)+"</x></message>")
	if got := w.refused("u@example/0"); got != string(stanza.PolicyViolation) {
		t.Errorf("too many invitations: %q", got)
	}
	for i := range 150 {
		w.send(fmt.Sprintf("p%d@example/0", i), "<iq type='get' id='v' to='"+hall+"/Owner'><x xmlns='y'/></iq>")
	}
	if n := len(w.hub.loops[0].rooms[jid.MustParse(hall)].rates); n > 2*60 {
		t.Errorf("%d people's rates are kept", n)
	}
	long := strings.Repeat("x", 8<<10)
	for range 40 {
		w.send("o@example/0", "<message type='groupchat' to='"+hall+"'><body>"+long+"</body></message>")
	}
	s := w.hub.loops[0].rooms[jid.MustParse(hall)] // nothing is on its way
	if s.kept > maxHistoryBytes || len(s.history) == 0 {
		t.Errorf("%d bytes of history are kept", s.kept)
	}
	w.forgetAll()
	w.send("o@example/0", "<iq type='set' id='q' to='"+hall+"'><query xmlns='urn:xmpp:mam:2'><set xmlns='http://jabber.org/protocol/rsm'><max>100</max></set></query></iq>")
	if err := w.waitFor("o@example/0", stanza.IQ); err != nil {
		t.Fatal(err)
	}
	size := 0
	for _, st := range w.take("o@example/0") {
		size += len(st.Inner())
		if st.Kind == stanza.IQ && st.Payload().Attr("complete") == "true" {
			t.Error("a page that was cut says that it is complete")
		}
	}
	if size > pageBytes+64<<10 || size < pageBytes/2 {
		t.Errorf("a page has %d bytes", size)
	}
}

// waitFor waits for a stanza that is made off the loop.
func (w *world) waitFor(who string, kind stanza.Kind) error {
	for range 1000 {
		w.mu.Lock()
		for _, st := range w.got[jid.MustParse(who)] {
			if st.Kind == kind {
				w.mu.Unlock()
				return nil
			}
		}
		w.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
	return errors.New("nothing came")
}

// TestMailbox: a loop takes so many stanzas, a busy room so many, and not one more.
func TestMailbox(t *testing.T) {
	w := newWorld(t, nil)
	l := w.hub.loops[0]
	held := make(chan struct{})
	started := make(chan struct{})
	l.tell(func(*loop) bool { close(started); <-held; return false })
	<-started
	st := build(stanza.Message, stanza.TypeGroupchat, "", jid.MustParse("u@example/0"), []byte("<body>x</body>"))
	st.To = jid.MustParse(hall)
	for i := range maxMail {
		if e := w.hub.Send(st); e != nil {
			t.Fatalf("stanza %d: %v", i, e)
		}
	}
	if e := w.hub.Send(st); e == nil || e.Condition != stanza.ResourceConstraint {
		t.Errorf("one stanza more: %v", e)
	}
	close(held)

	s := newState(&w.hub.cfg, jid.MustParse("busy@rooms.example"))
	s.load, s.busy = ready, []*change{{}}
	fx := effects{}
	for range maxWaiting + 1 {
		(&arrive{stanza: st}).apply(s, &fx)
	}
	if len(s.wait) != maxWaiting || len(fx.send) != 1 {
		t.Errorf("%d wait for the room, %d were answered", len(s.wait), len(fx.send))
	}
}

// boom is a bug.
type boom struct{}

func (boom) apply(*State, *effects) { panic("boom") }

// TestPanic: a bug costs the room's occupants their visit, and nobody anything else.
func TestPanic(t *testing.T) {
	w := newWorld(t, nil)
	w.join("o@example/0", "hall", "Owner")
	w.open("o@example/0", "hall", "persistentroom", "1")
	w.forgetAll()
	w.hub.post(jid.MustParse(hall), boom{})
	w.send("o@example/0", "<message type='groupchat' to='"+hall+"'><body>x</body></message>")
	list := w.take("o@example/0")
	if len(list) != 2 || list[0].Type != stanza.TypeUnavailable || list[1].ParseError() == nil || list[1].ParseError().Condition != stanza.NotAcceptable {
		t.Errorf("got %d stanzas", len(list))
	}
	w.join("o@example/0", "hall", "Owner")
	if got := w.take("o@example/0"); len(got) != 2 {
		t.Errorf("entering again: %d stanzas", len(got))
	}
	if n := w.hub.Stats().Panics.Load(); n != 1 {
		t.Errorf("%d panics counted", n)
	}
}

// TestGoAway: XEP-0045 11.2.
func TestGoAway(t *testing.T) {
	w := newWorld(t, nil)
	w.join("o@example/0", "hall", "Owner")
	w.forgetAll()
	w.hub.GoAway(t.Context())
	list := w.take("o@example/0")
	if len(list) != 1 || list[0].Type != stanza.TypeUnavailable || !strings.Contains(list[0].Inner(), "332") {
		t.Errorf("got %v", list)
	}
}

// TestRealAddress: the room's element is cut off, and no other.
func TestRealAddress(t *testing.T) {
	real := realAddress(jid.MustParse("a@b/c"))
	for entry, want := range map[string]string{
		"<message><body>x</body>" + real + "</message>":                                    "<message><body>x</body></message>",
		"<message>" + real + "<body>x</body></message>":                                    "<message>" + real + "<body>x</body></message>",
		"<message><body>x</body></message>":                                                "<message><body>x</body></message>",
		"<message><f>" + real + "</f></message>":                                           "<message><f>" + real + "</f></message>",
		"<message><f>" + real + "</f><x xmlns='y'>z</x></message>":                         "",
		"<message><f>" + real + "</f>" + real + "</message>":                               "<message><f>" + real + "</f></message>",
		"<message><body>&lt;x xmlns='" + xep.NSMUCUser + "'></body>" + real + "</message>": "<message><body>&lt;x xmlns='" + xep.NSMUCUser + "'></body></message>",
	} {
		if want == "" {
			want = entry
		}
		if got := string(withoutReal([]byte(entry))); got != want {
			t.Errorf("%s: got %s, want %s", entry, got, want)
		}
	}
}

// FuzzStanza: whatever somebody sends, the room goes on, and what it says is canonical.
func FuzzStanza(f *testing.F) {
	for _, s := range []string{
		"<presence to='hall@rooms.example/N'><x xmlns='http://jabber.org/protocol/muc'><history since='1'/><password>x</password></x></presence>",
		"<message to='hall@rooms.example' type='groupchat'><subject>x</subject></message>",
		"<message to='hall@rooms.example' type='groupchat'><body>a</body><mine xmlns='urn:xmpp:tmp:mine:0'><id>a</id></mine></message>",
		"<message to='hall@rooms.example'><x xmlns='http://jabber.org/protocol/muc#user'><invite to='a@b'><continue thread='x'/></invite></x></message>",
		"<message to='hall@rooms.example/Owner'><body>a</body></message>",
		"<iq type='set' id='i' to='hall@rooms.example'><query xmlns='http://jabber.org/protocol/muc#admin'><item nick='Owner' role='none'/></query></iq>",
		"<iq type='set' id='i' to='hall@rooms.example'><query xmlns='http://jabber.org/protocol/muc#owner'><destroy jid='a@b'><reason>x</reason></destroy></query></iq>",
		"<iq type='set' id='i' to='hall@rooms.example'><query xmlns='urn:xmpp:mam:2'><set xmlns='http://jabber.org/protocol/rsm'><max>1</max><before/></set></query></iq>",
		"<iq type='set' id='i' to='hall@rooms.example'><moderate xmlns='urn:xmpp:message-moderate:1' id='0'><retract xmlns='urn:xmpp:message-retract:1'/></moderate></iq>",
		"<iq type='set' id='i' to='hall@rooms.example'><query xmlns='jabber:iq:register'><x xmlns='jabber:x:data' type='submit'/></query></iq>",
		"<iq type='get' id='i' to='rooms.example'><query xmlns='http://jabber.org/protocol/disco#items'><set xmlns='http://jabber.org/protocol/rsm'/></query></iq>",
		"<presence to='hall@rooms.example/N'><x xmlns='http://jabber.org/protocol/muc'/><join xmlns='urn:xmpp:tmp:xmpp-2:0'><sync last='P1D' max='2'/></join></presence>",
		"<iq type='set' id='i' to='hall@rooms.example'><command xmlns='http://jabber.org/protocol/commands' node='urn:xmpp:hats:commands:create'><x xmlns='jabber:x:data' type='submit'>" +
			"<field var='hats#title'><value>T</value></field><field var='hats#uri'><value>u</value></field></x></command></iq>",
		"<iq type='set' id='i' to='hall@rooms.example'><command xmlns='http://jabber.org/protocol/commands' node='urn:xmpp:hats:commands:list-assigned'/></iq>",
		"<message to='hall@rooms.example'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#register</value></field>" +
			"<field var='muc#register_jid'><value>a@b</value></field><field var='muc#register_roomnick'><value>n</value></field><field var='muc#register_allow'><value>1</value></field></x></message>",
	} {
		f.Add(s)
	}
	w := newWorld(f, nil)
	f.Fuzz(func(t *testing.T, xml string) {
		el, err := xmltree.Parse([]byte(xml), stanza.NSClient, xmltree.Limits{})
		if err != nil {
			return
		}
		st, err := stanza.Parse(el)
		if err != nil || st.To.Domain() != "rooms.example" {
			return
		}
		w.t = t
		w.join("o@example/0", "hall", "Owner")
		w.open("o@example/0", "hall", "persistentroom", "1")
		for _, who := range []string{"u@example/0", "o@example/0"} {
			again := *st
			again.From = jid.MustParse(who)
			taken := make(chan struct{})
			if e := w.hub.Keep(&again, func() { close(taken) }); e == nil {
				<-taken
			}
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, list := range w.got {
			for _, st := range list {
				b := st.AppendTo(nil)
				if again, err := xmltree.Parse(b, stanza.NSClient, xmltree.Limits{}); err != nil || again.Raw() != string(b) {
					t.Errorf("%s: %v", b, err)
				}
			}
		}
		clear(w.got)
		if n := w.hub.Stats().Panics.Load(); n > 0 {
			t.Error("panic")
		}
	})
}

// TestStoreError: what a peer is told.
func TestStoreError(t *testing.T) {
	for err, want := range map[error]stanza.Condition{store.ErrFull: stanza.ResourceConstraint, store.ErrTooBig: stanza.ResourceConstraint,
		store.ErrNotFound: stanza.ItemNotFound, errors.New("x"): stanza.InternalServerError} {
		if got := storeError(fmt.Errorf("y: %w", err)).Condition; got != want {
			t.Errorf("%v: %s", err, got)
		}
	}
}

// TestBoundsOfLists: hats, who wears them, who asks to be a member, and what is remembered of voices
// have bounds.
func TestBoundsOfLists(t *testing.T) {
	w := newWorld(t, nil)
	w.join("o@example/0", "hall", "Owner")
	w.open("o@example/0", "hall", "moderatedroom", "1")
	command := func(name string, fields ...string) string {
		var b strings.Builder
		fmt.Fprintf(&b, "<iq type='set' id='c' to='%s'><command xmlns='%s' node='%s:%s'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>%s</value></field>",
			hall, xep.NSCommands, xep.NSHatCommands, name, xep.NSHatCommands)
		for i := 0; i < len(fields); i += 2 {
			fmt.Fprintf(&b, "<field var='%s'><value>%s</value></field>", fields[i], fields[i+1])
		}
		w.send("o@example/0", b.String()+"</x></command></iq>")
		return w.refused("o@example/0")
	}
	full := string(stanza.ResourceConstraint)
	for i := range maxHats {
		if e := command("create", xep.HatURI, fmt.Sprint("urn:hat:", i), xep.HatTitle, "Hat"); e != "" {
			t.Fatalf("hat %d: %s", i, e)
		}
	}
	if e := command("create", xep.HatURI, "urn:hat:more", xep.HatTitle, "Hat"); e != full {
		t.Errorf("one hat too many: %q", e)
	}
	if e := command("create", xep.HatURI, "urn:hat:0", xep.HatTitle, "Cap"); e != "" {
		t.Errorf("a hat that is there: %q", e)
	}
	for i := range maxWearers {
		if e := command("assign", xep.HatURI, "urn:hat:0", xep.HatJID, fmt.Sprintf("u%d@example", i)); e != "" {
			t.Fatalf("wearer %d: %s", i, e)
		}
	}
	if e := command("assign", xep.HatURI, "urn:hat:0", xep.HatJID, "more@example"); e != full {
		t.Errorf("one wearer too many: %q", e)
	}
	register := func(who, nick string) string {
		w.send(who, "<iq type='set' id='r' to='"+hall+"'><query xmlns='"+xep.NSRegister+"'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>"+xep.NSMUCRegister+
			"</value></field><field var='muc#register_roomnick'><value>"+nick+"</value></field></x></query></iq>")
		return w.refused(who)
	}
	for i := range maxApplicants {
		if e := register(fmt.Sprintf("u%d@example/0", i), fmt.Sprint("nick ", i)); e != "" {
			t.Fatalf("request %d: %s", i, e)
		}
	}
	if e := register("more@example/0", "more"); e != string(stanza.PolicyViolation) {
		t.Errorf("one request too many: %q", e)
	}
	if n := len(w.take("o@example")); n != maxApplicants {
		t.Errorf("the owner was asked %d times", n)
	}
}

// TestAbuse: who goes out and comes in again has no new rate; an invitation to many counts as
// many; a subject, an option, a list of owners and a nick have bounds; voice is asked for
// now and then.
func TestAbuse(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.PerUser = 2 })
	now := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	w.now = func() time.Time { return now }
	later := func() { now = now.Add(time.Hour) }
	policy := string(stanza.PolicyViolation)
	w.join("o@example/0", "hall", "Owner")
	w.open("o@example/0", "hall", "persistentroom", "1", "moderatedroom", "1")
	refused := 0
	for range 40 {
		w.join("u@example/0", "hall", "User")
		if w.refused("u@example/0") == policy {
			refused++
		}
		w.send("u@example/0", "<presence type='unavailable' to='"+hall+"/User'/>")
	}
	w.send("o@example/0", "<presence type='unavailable' to='"+hall+"/Owner'/>")
	w.join("u@example/0", "hall", "User")
	if got := w.refused("u@example/0"); refused != 20 || got != policy {
		t.Errorf("%d of 40 times refused, then %q", refused, got)
	}
	later()
	w.join("o@example/0", "hall", "Owner")
	invite := "<message to='" + hall + "'><x xmlns='" + xep.NSMUCUser + "'>" + strings.Repeat("<invite to='a@b'/>", 18) + "</x></message>"
	w.send("o@example/0", invite)
	if got := w.refused("o@example/0"); got != "" {
		t.Errorf("18 invitations: %q", got)
	}
	w.send("o@example/0", invite)
	if got := w.refused("o@example/0"); got != policy {
		t.Errorf("36 invitations: %q", got)
	}
	later()
	for size, want := range map[int]string{1 << 10: "", maxSubject: policy, 200 << 10: policy} {
		w.send("o@example/0", "<message type='groupchat' to='"+hall+"'><subject>"+strings.Repeat("x", size)+"</subject></message>")
		if got := w.refused("o@example/0"); got != want {
			t.Errorf("a subject of %d bytes: %q", size, got)
		}
	}
	long := strings.Repeat("x", 100<<10)
	for _, field := range []string{"roomname", "roomdesc", "lang", "pubsub", "whois", "maxusers", "allowpm"} {
		later()
		w.open("o@example/0", "hall", field, long)
		if got := w.refused("o@example/0"); got != string(stanza.NotAcceptable) {
			t.Errorf("%s of 100 KB: %q", field, got)
		}
	}
	later()
	w.open("o@example/0", "hall", "passwordprotectedroom", "1", "roomsecret", long)
	if got := w.refused("o@example/0"); got != string(stanza.NotAcceptable) {
		t.Errorf("a password of 100 KB: %q", got)
	}
	w.open("o@example/0", "hall", "roomowners", strings.Repeat("a@example</value><value>", xep.MaxMUCItems)+"o@example")
	if got := w.refused("o@example/0"); got != policy {
		t.Errorf("too many owners: %q", got)
	}
	w.open("o@example/0", "hall", "getmemberlist", strings.Repeat("moderator</value><value>", 100)+"visitor")
	if got := w.refused("o@example/0"); got != string(stanza.NotAcceptable) {
		t.Errorf("too many roles: %q", got)
	}
	later()
	w.join("u@example/0", "hall", "User")
	ask := func() string {
		w.forgetAll()
		w.send("u@example/0", "<message to='"+hall+"'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>"+xep.NSMUCRequest+"</value></field></x></message>")
		return w.refused("u@example/0")
	}
	if first, second := ask(), ask(); first != "" || second != policy {
		t.Errorf("asked for voice twice: %q, %q", first, second)
	}
	for nick, want := range map[string]string{"Ownеr": "conflict", "0wner": "conflict", "OWNER": "conflict", "ＯＷＮＥＲ": "conflict", strings.Repeat("n", maxNick+1): "not-acceptable"} {
		later()
		w.join("n@example/0", "hall", nick)
		if got := w.refused("n@example/0"); got != want {
			t.Errorf("nick %q: %q, want %q", nick, got, want)
		}
		w.send("n@example/0", "<presence type='unavailable' to='"+hall+"/x'/>")
	}
}
