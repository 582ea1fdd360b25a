package chat

import (
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"carillon.im/client"
	"carillon.im/client/account"
	"carillon.im/client/convo"
	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
)

const whose = "<whose xmlns='urn:xmpp:tmp:mine:0' id='w1'/>"

// TestConversation is a conversation from the first message to a claim on another device, as a person sees it.
func TestConversation(t *testing.T) {
	s := newScreen(t, 80, 24)
	s.shows("01-connecting")
	s.online()
	s.apply(convo.Received{Stanza: stanza.Build(stanza.Presence, "", "", jid.MustParse("alice@wonder.example/phone~x9"), alice, "")})
	s.gets("bob@wonder.example/pc", "b1", "t1", body("Wherefore art thou?"))
	s.gets("carol@wonder.example/x", "c1", "c", body("Tea at four?"))
	s.shows("02-list")
	s.keys("down", "enter")
	s.shows("03-open")
	s.keys("'Under the balcony, as every evening. Mind the nurse and the dog.")
	s.shows("04-writing")
	s.keys("enter")
	s.shows("05-sending")
	s.reflect()
	s.gets("bob@wonder.example/pc", "b2", "t1", "<received xmlns='urn:xmpp:receipts' id='"+s.m.snap.view.Entries[1].MessageID+"'/>")
	s.has("delivered")
	s.keys("ctrl+n", "'Lunch tomorrow?", "enter")
	s.reflect()
	lunch := s.m.snap.view.Current
	s.gets("bob@wonder.example/pc", "b3", lunch, body("A question from elsewhere: who takes the dog out tonight?")+whose)
	s.shows("06-threads")
	s.gets("alice@wonder.example/phone~x9", "p1", lunch, "<mine xmlns='urn:xmpp:tmp:mine:0'><id>w1</id></mine>")
	s.shows("07-taken-on-phone")
	s.keys("up", "up", "r")
	s.shows("08-reply")
	s.keys("'At one.", "enter")
	s.reflect()
	s.keys("up", "up", "b", "'And where?", "enter")
	s.reflect()
	s.shows("09-branch")
	s.keys("up", "up", "e")
	s.keys("' sharp", "enter")
	s.reflect()
	s.keys("up", "+")
	s.shows("10-react")
	s.keys("1")
	s.reflect()
	s.keys("esc", "up", "up", "up", "up", "x", "y")
	s.reflect()
	s.shows("11-changed")
	s.keys("ctrl+t")
	s.shows("12-index")
	s.keys("esc", "f1")
	s.shows("13-help")
}

// TestHarmless: what others write moves no cursor, sets no colour, turns no line around and breaks no layout.
func TestHarmless(t *testing.T) {
	s := newScreen(t, 80, 24)
	s.online()
	s.apply(convo.Contact{JID: bob, Name: "Bob\u202e evil"})
	for i, text := range []string{
		"csi \u009b31mred", "rtl \u202eesrever\u202c back", "tab\tand\rreturn", "zalgo h\u0300\u0301\u0302\u0303\u0304\u0305\u0306\u0307\u0308",
		"wide 日本語のテキストはここで折り返されなければなりませんから長くする", "thumbs 👍🏽 family 👨‍👩‍👧‍👦 flag 🇩🇪",
		"averyveryverylongwordwithoutanyplacetobreakitwhichmustbecutsomewherebutnotlost", "two\nlines",
	} {
		s.gets("bob@wonder.example/pc", fmt.Sprint("h", i), "t\u202e", body(text))
	}
	s.keys("enter")
	s.shows("20-harmless")
	content, _ := s.m.screen()
	for _, r := range content {
		if r != '\n' && r != 0x1b && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
			t.Errorf("%U is on the screen", r)
		}
	}
	for _, seq := range regexp.MustCompile("\x1b(.[^a-zA-Z]*[a-zA-Z]?)").FindAllString(content, -1) {
		if !strings.HasPrefix(seq, "\x1b[") || !strings.HasSuffix(seq, "m") {
			t.Errorf("%q is on the screen", seq)
		}
	}
}

// TestNoColor: with NO_COLOR there is none, and without it there is.
func TestNoColor(t *testing.T) {
	colour := regexp.MustCompile("\x1b\\[(3|4|9)[0-9]|\x1b\\[(38|48)")
	for _, without := range []bool{false, true} {
		s := newScreen(t, 80, 24)
		s.m.style = newStyles(without)
		s.online()
		s.gets("bob@wonder.example/pc", "b1", "t1", body("hello"))
		s.keys("enter", "up", "x")
		content, _ := s.m.screen()
		if colour.MatchString(content) == without {
			t.Errorf("without colour: %v, and the screen is %q", without, content)
		}
		s.keys("n", "ctrl+o", "'banned@rooms.example", "enter")
		if content, _ = s.m.screen(); colour.MatchString(content) == without {
			t.Errorf("without colour: %v, and kept out of a room: %q", without, content)
		}
	}
}

// TestNamesakes: who is called the same is told apart by the address.
func TestNamesakes(t *testing.T) {
	s := newScreen(t, 80, 24)
	s.online()
	s.gets("bob@wonder.example/pc", "b1", "t1", body("hello"))
	s.gets("carol@wonder.example/pc", "c1", "t1", body("hello"))
	s.has("▸ carol  ")
	s.gets("bob@looking.example/pc", "b2", "t1", body("hello"))
	s.has("bob@wonder", "bob@lookin", " carol  ")
}

// TestHelp: all keys are to be had on the smallest screen.
func TestHelp(t *testing.T) {
	s := newScreen(t, minWidth, minHeight)
	s.online()
	s.keys("f1")
	seen := s.text()
	for range 60 {
		s.keys("down")
		seen += s.text()
	}
	for _, want := range []string{"Everywhere", "quit", "branch off", "show all", "who answers", "↑↓ more"} {
		if !strings.Contains(seen, want) {
			t.Errorf("no %q in the help", want)
		}
	}
	if strings.Count(seen, "…") > strings.Count(seen, "alice@") { // but the header
		t.Error("something is cut off")
	}
	s.tell(tea.WindowSizeMsg{Width: 80, Height: 24})
	s.has("Everywhere")
}

// TestPresent: who presses keys is at the terminal, whatever it said.
func TestPresent(t *testing.T) {
	s := newScreen(t, 80, 24)
	s.online()
	s.gets("bob@wonder.example/pc", "b1", "t1", body("one"))
	s.keys("enter")
	s.tell(tea.BlurMsg{})
	s.gets("bob@wonder.example/pc", "b2", "t1", body("two"))
	if n := s.m.snap.list[0].Unread; n != 1 {
		t.Errorf("%d unread while away", n)
	}
	s.keys("'x")
	s.refresh()
	if n := s.m.snap.list[0].Unread; n != 0 {
		t.Errorf("%d unread while writing", n)
	}
}

// TestNarrow: a terminal of 40 columns has one thing at a time.
func TestNarrow(t *testing.T) {
	s := newScreen(t, 40, 20)
	s.online()
	s.gets("bob@wonder.example/pc", "b1", "t1", body("Wherefore art thou? Answer me, and be it from the balcony."))
	s.gets("alice@wonder.example/phone~x", "p1", "t1", body("Here."))
	s.gets("carol@wonder.example/pc", "c1", "t1", body("Tea?"))
	s.shows("23-narrow-list")
	s.keys("down", "enter")
	s.shows("24-narrow")
}

// FuzzClean: whatever a text is, what is left of it can't be obeyed, and cleaning it again changes nothing.
func FuzzClean(f *testing.F) {
	for _, seed := range []string{"", "plain", "\x1b[2J\x1b]0;title\a", "\u009b1m", "\u202e", "h\u0300\u0301\u0302\u0303\u0304\u0305", "\xff\xfe", "\u2028", "👨‍👩‍👧", "क्षत्रिय हिन्दी भाषा क्षत्रिय"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := Clean(s)
		for _, r := range got {
			if r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
				t.Fatalf("%q has %U", got, r)
			}
		}
		if again := Clean(got); again != got && len(s) <= maxText {
			t.Fatalf("%q became %q", got, again)
		}
		for _, c := range []cells{{}, {ansi.GraphemeWidth}} {
			for _, l := range c.wrap(c.clean(s), 20) {
				if c.wide(l) > 20 {
					t.Fatalf("%q is %d cells wide", l, c.wide(l))
				}
			}
			if n := c.wide(c.fit(c.oneLine(s), 10)); n != 10 {
				t.Fatalf("fit is %d cells wide", n)
			}
		}
	})
}

// TestCells: lines are laid out by the widths that the terminal has, as far as it says which those are.
func TestCells(t *testing.T) {
	s := newScreen(t, 80, 24)
	s.online()
	s.gets("bob@wonder.example/pc", "b1", "t1", body("क्षत्रिय हिन्दी भाषा क्षत्रिय हिन्दी भाषा end"))
	s.gets("bob@wonder.example/pc", "b2", "t1", body("one 👨‍👩‍👧‍👦 two ❤️ three 👍🏽 four 🏳️‍🌈 flag 🇩🇪"))
	s.keys("enter")
	check := func(want string) {
		t.Helper()
		s.has("end", "flag 🇩🇪", want)
		for _, l := range strings.Split(s.text(), "\n") {
			if s.m.wide(l) > 80 {
				t.Errorf("%q is %d cells wide", l, s.m.wide(l))
			}
		}
	}
	check("one 👨👩👧👦 two ❤ three 👍 four 🏳🌈")
	s.tell(tea.ModeReportMsg{Mode: ansi.ModeUnicodeCore, Value: ansi.ModeNotRecognized})
	check("one 👨👩👧👦 two")
	s.tell(tea.ModeReportMsg{Mode: ansi.ModeUnicodeCore, Value: ansi.ModeReset})
	check("one 👨‍👩‍👧‍👦 two ❤️ three 👍🏽 four 🏳️‍🌈")
}

// TestSizes: on every size, whatever has the keys, the screen has as many lines as the terminal, none too wide, and the cursor is on it.
func TestSizes(t *testing.T) {
	s := newScreen(t, 80, 24)
	s.online()
	for i := range 12 {
		s.gets("bob@wonder.example/pc", fmt.Sprint("m", i), fmt.Sprint("t", i%4), body(strings.Repeat("wörd 日本 ", i*3+1)))
	}
	s.hears(stanza.Message, "", "cellar@rooms.example", strings.ReplaceAll(invitation, "Tea", strings.Repeat("日本 tea ", 100)))
	s.hears(stanza.Presence, stanza.TypeSubscribe, strings.Repeat("carol", 30)+"@wonder.example", "")
	s.keys("enter", "'a text that is longer than the narrowest of all the lines that there are to be had here, and goes on")
	for _, keys := range [][]string{{}, {"up", "up"}, {"esc", "ctrl+t"}, {"esc", "tab"}, {"f1"}, {"esc", "f2"}, {"esc", "tab", "pgup"}, {"pgdown"},
		{"f4"}, {"down", "down"}, {"b"}, {"n", "esc", "ctrl+o", "'hall@rooms.example", "enter"}, {"f5"}, {"i", "'x"}, {"esc", "ctrl+o", "'cellar@rooms.example", "enter"}} {
		s.keys(keys...)
		for _, size := range [][2]int{{200, 60}, {80, 24}, {62, 12}, {61, 12}, {40, 15}, {34, 10}, {20, 5}, {1, 1}, {80, 24}} {
			s.tell(tea.WindowSizeMsg{Width: size[0], Height: size[1]})
			text := s.text()
			if n := strings.Count(text, "\n"); size[0] >= minWidth && size[1] >= minHeight && n != size[1] {
				t.Errorf("%v after %v: %d lines\n%s", size, keys, n, text)
			}
			if _, c := s.m.screen(); c != nil && (c.X < 0 || c.X >= size[0] || c.Y < 0 || c.Y >= size[1]) {
				t.Errorf("%v after %v: the cursor is at %d, %d", size, keys, c.X, c.Y)
			}
		}
	}
}

// TestLongMessage: a very long message takes a few lines until it is unfolded, and can be read to its end.
func TestLongMessage(t *testing.T) {
	s := newScreen(t, 80, 24)
	s.online()
	var text strings.Builder
	for i := range 60 {
		fmt.Fprintf(&text, "line %d of many\n", i)
	}
	s.gets("bob@wonder.example/pc", "m1", "t1", body("short"))
	s.gets("bob@wonder.example/pc", "m2", "t1", body(text.String()))
	s.keys("enter")
	s.has("short", "line 0 of many", "52 more lines")
	s.hasNot("line 9 of many")
	s.keys("up", "enter")
	s.has("▸14:05 bob     line 0 of many") // the beginning, not the end
	for range 10 {
		s.keys("pgdown")
	}
	s.has("line 59 of many")
	for range 10 {
		s.keys("pgup")
	}
	s.has("short", "line 0 of many")
	for range 10 {
		s.keys("pgdown")
	}
	s.has("line 59 of many")
	s.gets("bob@wonder.example/pc", "m3", "t1", body(strings.Repeat("x", 200_000)))
	s.has("more lines")
}

// TestScroll: going up shows older messages down to the beginning, what comes meanwhile moves nothing, and esc goes to the newest.
func TestScroll(t *testing.T) {
	s := newScreen(t, 80, 24)
	s.online()
	for i := range 450 { // more than are looked at at once
		s.gets("bob@wonder.example/pc", fmt.Sprint("m", i), "t1", body(fmt.Sprintf("message %d.", i)))
	}
	s.keys("enter")
	s.has("message 449.")
	s.keys("pgup")
	s.hasNot("message 449.")
	before := s.text()
	s.gets("bob@wonder.example/pc", "late", "t1", body("late"))
	if lines := strings.Split(s.text(), "\n"); !strings.Contains(before, lines[10]) {
		t.Errorf("the screen has moved:\n%s\nto\n%s", before, s.text())
	}
	for range 40 {
		s.keys("pgup")
	}
	s.has("message 0.", "Friday 20 November")
	s.keys("esc")
	s.has("late")
	for range 451 {
		s.keys("up")
	}
	s.has("▸14:04 bob     message 0.")
}

// TestArchive: going up at the beginning of what is known asks the archive, once until something comes of it.
func TestArchive(t *testing.T) {
	s := newScreen(t, 80, 24)
	s.unanswered = true
	s.apply(convo.Connected{JID: desk, Profile: convo.NG, Facts: convo.Facts{Archive: true, Mine: true}})
	s.status = account.Status{Online: true, JID: desk}
	result := func(q convo.Query, n int) {
		inner := fmt.Sprintf("<message xmlns='jabber:client' from='bob@wonder.example/pc' to='alice@wonder.example' type='chat' id='o%d'><body>old %d.</body></message>", n, n)
		s.apply(convo.Received{Stanza: stanza.Build(stanza.Message, "", "", alice, desk, fmt.Sprintf(
			"<result xmlns='urn:xmpp:mam:2' queryid='%s' id='a%d'><forwarded xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay' stamp='2026-11-%02dT09:00:00Z'/>%s</forwarded></result>",
			q.ID, n, n, inner))})
	}
	q := s.queries[0]
	s.queries = nil
	for n := 10; n < 15; n++ {
		result(q, n)
	}
	s.apply(convo.QueryDone{Query: q.ID, First: "a10", Last: "a14"})
	s.refresh()
	s.m.open = bob
	s.refresh()
	s.has("old 10.", "old 14.", "older messages are being fetched")
	if len(s.queries) != 1 || s.queries[0].Before != "a10" {
		t.Fatalf("asked %+v", s.queries)
	}
	q = s.queries[0]
	s.queries = nil
	s.keys("pgup")
	if len(s.queries) != 0 {
		t.Fatalf("asked again: %+v", s.queries)
	}
	for n := 5; n < 10; n++ {
		result(q, n)
	}
	s.apply(convo.QueryDone{Query: q.ID, First: "a5", Last: "a9", Complete: true})
	s.refresh()
	s.keys("pgup", "pgup")
	s.has("old 5.", "Thursday 5 November")
	s.shows("21-archive")
}

// TestDevices: the devices of the account, and how one is ended.
func TestDevices(t *testing.T) {
	s := newScreen(t, 80, 24)
	s.online()
	s.clients = []xep.Client{{ID: "1", Device: "desk", Software: "carillon", Connected: true}, {ID: "2", Device: "phone\x1b[2J", Software: "Other", LastSeen: s.now.Add(-3 * time.Hour)},
		{ID: "3", LastSeen: s.now.Add(-72 * time.Hour)}}
	s.keys("f2", "d")
	s.has("this device", "the device that you are using")
	s.keys("down", "d")
	s.shows("22-devices")
	s.keys("n")
	s.has("phone")
	s.keys("d", "y")
	s.has("phone␛[2J has no access any more.")
	s.err = errors.New("the server says no")
	s.keys("esc", "f2")
	s.has("the server says no", "desk")
}

// TestEndDevice: a device that knows the password is ended along with it.
func TestEndDevice(t *testing.T) {
	s := newScreen(t, 80, 24)
	s.online()
	s.clients = []xep.Client{{ID: "1", Device: "desk", Software: "carillon", Connected: true, Password: true}, {ID: "2", Device: "phone", Connected: true, Password: true}}
	s.keys("f2", "down", "d", "'secret")
	s.tell(tea.PasteMsg{Content: "2\n"})
	s.has("•••••••  ")
	s.shows("25-new-password")
	s.hasNot("secret")
	s.keys("enter", "'secret", "enter")
	s.has("the two are different", "phone")
	s.keys("d", "'x", "esc")
	s.hasNot("new password")
	s.keys("d", "enter", "'xy", "backspace", "ctrl+u", "'new", "enter", "'new")
	if s.word != "" {
		t.Error("changed before it was confirmed")
	}
	s.keys("enter")
	if s.word != "new" || len(s.clients) != 1 {
		t.Errorf("the password is %q, devices %+v", s.word, s.clients)
	}
	s.has("phone has no access any more. The others ask for the new password")
}

// TestConnection: the state of the connection is in the first line, in words.
func TestConnection(t *testing.T) {
	s := newScreen(t, 80, 24)
	for _, tt := range []struct {
		status account.Status
		want   string
	}{
		{account.Status{}, "connecting…"},
		{account.Status{Online: true}, "● connected"},
		{account.Status{Online: true, CatchingUp: true}, "catching up…"},
		{account.Status{Err: errors.New("unreachable"), Retry: s.now.Add(5 * time.Second)}, "offline, next try 14:03:05"},
		{account.Status{Err: errors.New("unreachable")}, "offline, connecting…"},
		{account.Status{Final: true, Err: &client.AuthError{Condition: "not-authorized"}}, "✕ stopped"},
	} {
		s.status = tt.status
		s.refresh()
		s.has(tt.want)
	}
	s.has("the password is wrong, or the access of this device was ended. ^C quits")
	s.status = account.Status{Err: fmt.Errorf("client: connect: %w", &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5222}, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}), Retry: s.now.Add(time.Minute)}
	s.refresh()
	s.shows("26-offline")
	s.status.Err = fmt.Errorf("client: connect: %w", &net.DNSError{Name: "wonder.example", IsNotFound: true})
	s.refresh()
	s.has("there is no server named wonder.example. What")
	if s.keys("ctrl+r"); s.retried != 1 {
		t.Error("^R did nothing")
	}
	s.tell(changedMsg{err: errors.New("history can't be written: disk full")})
	s.has("✕ stopped", " history can't be written: disk full. ^C quits")
}

// TestSendAgain: what failed says so, and is sent again by a key.
func TestSendAgain(t *testing.T) {
	s := newScreen(t, 80, 24)
	s.online()
	s.gets("bob@wonder.example/pc", "b1", "t1", body("hello"))
	s.keys("enter", "'anybody there?", "enter")
	id := s.m.snap.view.Entries[1].MessageID
	s.apply(convo.Received{Stanza: stanza.Build(stanza.Message, stanza.TypeError, id, bob, desk,
		"<error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>")})
	s.refresh()
	s.has("not sent: no such account, or refused")
	s.keys("up")
	s.has("s send again")
	s.keys("s")
	s.has("sending…")
}

// TestNotTaken: a text that isn't taken stays where it was written, with the reason.
func TestNotTaken(t *testing.T) {
	s := newScreen(t, 80, 24)
	s.online()
	s.gets("bob@wonder.example/pc", "b1", "t1", body("hello"))
	s.keys("enter", "'one too many")
	s.err = account.ErrWaiting
	s.keys("enter")
	if got := s.m.text.Value(); got != "one too many" {
		t.Errorf("the text is %q", got)
	}
	s.has("not done: too many messages wait here")
}

// TestKeys: keys that mean nothing here say so or do nothing, a draft is kept with its conversation, and somebody new is written to.
func TestKeys(t *testing.T) {
	s := newScreen(t, 80, 24)
	s.online()
	s.keys("enter", "j", "k", "x", "ctrl+t", "ctrl+n", "up", "esc", "tab", "enter") // with nothing there
	s.gets("bob@wonder.example/pc", "b1", "t1", body("hello"))
	s.gets("carol@wonder.example/pc", "c1", "t1", body("hi"))
	s.keys("enter", "'half a thought", "ctrl+down")
	s.hasNot("half a thought")
	s.keys("ctrl+up")
	s.has("half a thought")
	s.keys("tab", "n", "'no address", "enter")
	s.has("that is no address")
	s.keys("esc", "ctrl+o", "'dave@wonder.example", "enter", "'hello dave", "enter")
	s.has("dave", "hello dave", "sending…")
	s.keys("up", "t")
	s.has("nobody asks who answers this")
	s.keys("down", "tab")
	s.has("▸ dave")
}

// TestPair: of two devices side by side one has the keys, and ctrl+w changes which.
func TestPair(t *testing.T) {
	a, b := newFake(t), newFake(t)
	p := NewPair(New(Config{Context: t.Context(), Device: a, Account: alice, Name: "desk", Now: a.now, Contact: bob}),
		New(Config{Context: t.Context(), Device: b, Account: alice, Name: "phone", Now: b.now, Contact: bob}))
	var run func(tea.Cmd)
	tell := func(msg tea.Msg) {
		_, cmd := p.Update(msg)
		run(cmd)
	}
	run = func(cmd tea.Cmd) {
		if cmd == nil {
			return
		}
		switch msg := cmd().(type) {
		case nil:
		case tea.BatchMsg:
			for _, c := range msg {
				run(c)
			}
		case paneMsg:
			if _, end := msg.msg.(changedMsg); !end {
				tell(msg)
			}
		}
	}
	run(p.Init())
	tell(tea.WindowSizeMsg{Width: 80, Height: 24})
	for _, r := range "left" {
		tell(tea.KeyPressMsg{Code: r, Text: string(r)})
	}
	tell(keyNamed("ctrl+w"))
	for _, r := range "right" {
		tell(tea.KeyPressMsg{Code: r, Text: string(r)})
	}
	if l, r := p.panes[0].text.Value(), p.panes[1].text.Value(); l != "left" || r != "right" {
		t.Errorf("%q, %q", l, r)
	}
	text, cursor := p.screen()
	for i, l := range strings.Split(ansi.Strip(text), "\n") {
		if p.panes[0].wide(l) != 80 {
			t.Errorf("line %d is %d cells wide", i, p.panes[0].wide(l))
		}
	}
	if cursor == nil || cursor.X != 40+3+len("right") || cursor.Y != 22 {
		t.Errorf("cursor: %+v", cursor)
	}
}

// TestThreadNumbers: roots count, children count below them, whatever the depths are.
func TestThreadNumbers(t *testing.T) {
	var views []convo.ThreadView
	for _, depth := range []int{0, 1, 1, 2, 0, 3, 1, 0} {
		views = append(views, convo.ThreadView{Depth: depth})
	}
	var got []string
	for _, x := range threadIndex(views) {
		got = append(got, x.label)
	}
	if want := "1 1.1 1.2 1.2.1 2 2.1 2.2 3"; strings.Join(got, " ") != want {
		t.Errorf("%v, not %s", got, want)
	}
}
