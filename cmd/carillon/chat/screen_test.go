package chat

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"carillon.im/client"
	"carillon.im/client/account"
	"carillon.im/client/convo"
	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

var update = flag.Bool("update", false, "write the screens anew")

var (
	alice = jid.MustParse("alice@wonder.example")
	desk  = jid.MustParse("alice@wonder.example/desk~k3")
	bob   = jid.MustParse("bob@wonder.example")
)

// fake is a device whose engine gets what a script says, and whose clock stands still until it is told.
type fake struct {
	t       testing.TB
	e       *convo.Engine
	now     time.Time
	sent    []*stanza.Stanza
	queries []convo.Query
	store   convo.Store
	ids     int
	status  account.Status
	clients []xep.Client
	retried int
	word    string // the password, if it was changed
	people  account.People
	did     []string // with people
	err     error
}

func newFake(t testing.TB) *fake { return newFakeOn(t, convo.NewMemory(), convo.Snapshot{}) }

// newFakeOn is newFake on a store that has something.
func newFakeOn(t testing.TB, store convo.Store, snap convo.Snapshot) *fake {
	d := &fake{t: t, now: time.Date(2026, 11, 20, 14, 3, 0, 0, time.UTC), store: store}
	d.e = convo.New(convo.Config{Account: alice, NewID: func() string { d.ids++; return fmt.Sprint("id", d.ids) }}, snap)
	return d
}

func (d *fake) apply(ev convo.Event) {
	for todo := []convo.Event{ev}; len(todo) > 0; todo = todo[1:] {
		for _, ef := range d.e.Apply(d.now, todo[0]) {
			switch ef := ef.(type) {
			case convo.Send:
				d.sent = append(d.sent, ef.Stanza)
			case convo.Query:
				d.queries = append(d.queries, ef)
			case convo.Persist:
				if err := d.store.Write(ef.Writes); err != nil {
					d.t.Fatal(err)
				}
			case convo.LoadHistory:
				entries, more, err := d.store.History(ef.Conversation, ef.Before, ef.Max)
				if err != nil {
					d.t.Fatal(err)
				}
				todo = append(todo, convo.HistoryLoaded{Conversation: ef.Conversation, Entries: entries, More: more})
			}
		}
	}
}

func (d *fake) Do(_ context.Context, ev convo.Event) error { d.apply(ev); return d.err }

func (d *fake) Look(_ context.Context, f func(*convo.Engine)) error { f(d.e); return nil }

// Changes has nothing by itself: the script says when the screen hears of changes.
func (d *fake) Changes(context.Context) (account.Changes, error) {
	return account.Changes{}, context.Canceled
}

func (d *fake) Devices(context.Context) ([]xep.Client, error) { return d.clients, d.err }

func (d *fake) ChangePassword(_ context.Context, password string) error {
	d.word = password
	return d.err
}

func (d *fake) Enter(_ context.Context, room jid.JID, nick, password string) error {
	if room.Domain() != "rooms.example" {
		return account.ErrNoRoom
	}
	if nick == "taken" {
		return stanza.NewError(stanza.Conflict, "")
	}
	d.apply(convo.Entering{JID: room})
	if want := map[string]stanza.Condition{"members": stanza.RegistrationRequired, "banned": stanza.Forbidden}[room.Local()]; want != "" {
		return stanza.NewError(want, "")
	}
	if room.Local() == "cellar" && password != "sesame" {
		return stanza.NewError(stanza.NotAuthorized, "")
	}
	if nick == "" {
		nick = "alice"
	}
	d.apply(convo.Room{JID: room, Nick: nick, Joined: true, RoomFacts: convo.RoomFacts{IDs: true}})
	return nil
}

func (d *fake) Invite(_ context.Context, _, whom jid.JID, _ string) error {
	d.did = append(d.did, "invite "+whom.String())
	return d.err
}

func (d *fake) People(context.Context) (account.People, error) { return d.people, d.err }

func (d *fake) AddContact(_ context.Context, who jid.JID, name string) error {
	d.did = append(d.did, "add "+who.String()+" "+name)
	d.people.Contacts = append(d.people.Contacts, xep.RosterItem{JID: who, Name: name, Subscription: "none", Ask: true})
	d.apply(convo.Answered{From: who, Yes: true})
	return d.err
}

func (d *fake) RemoveContact(_ context.Context, who jid.JID) error {
	d.did = append(d.did, "remove "+who.String())
	d.people.Contacts = slices.DeleteFunc(d.people.Contacts, func(c xep.RosterItem) bool { return c.JID == who })
	return d.err
}

func (d *fake) Block(_ context.Context, who jid.JID) error {
	d.did = append(d.did, "block "+who.String())
	d.people.Blocked = append(d.people.Blocked, who)
	return d.err
}

func (d *fake) Unblock(_ context.Context, who jid.JID) error {
	d.did = append(d.did, "unblock "+who.String())
	d.people.Blocked = slices.DeleteFunc(d.people.Blocked, func(j jid.JID) bool { return j == who })
	return d.err
}

func (d *fake) Answer(_ context.Context, r convo.Request, yes bool) error {
	d.did = append(d.did, fmt.Sprint("answer ", r.From, r.Room, yes))
	d.apply(convo.Answered{From: r.From, Room: r.Room, Yes: yes})
	return d.err
}

func (d *fake) Leave(_ context.Context, room jid.JID) error {
	d.apply(convo.Room{JID: room})
	return nil
}

func (d *fake) NetworkChanged() { d.retried++ }

func (d *fake) EndDevice(_ context.Context, id string) error {
	for i, c := range d.clients {
		if c.ID == id && c.Password && d.word == "" {
			return client.ErrPasswordKnown
		}
		if c.ID == id {
			d.clients = append(d.clients[:i:i], d.clients[i+1:]...)
			return nil
		}
	}
	return stanza.NewError(stanza.ItemNotFound, "")
}

// screen is a Model under test with its device.
type screen struct {
	*fake
	m          *Model
	unanswered bool // the archive takes its time
}

func newScreen(t *testing.T, w, h int) *screen {
	d := newFake(t)
	s := &screen{fake: d, m: New(Config{Context: t.Context(), Device: d, Account: alice, Name: "desk", Now: d.now})}
	s.run(s.m.Init())
	s.tell(tea.WindowSizeMsg{Width: w, Height: h})
	return s
}

// online connects the device, with nothing to catch up.
func (s *screen) online() {
	s.apply(convo.Connected{JID: desk, Profile: convo.NG, Facts: convo.Facts{Archive: true, Mine: true}})
	s.status = account.Status{Online: true, JID: desk, Profile: client.ProfileIMNG}
	s.answer()
	s.refresh()
}

// answer ends all archive queries: there is nothing.
func (s *screen) answer() {
	for len(s.queries) > 0 {
		q := s.queries[0]
		s.queries = s.queries[1:]
		s.apply(convo.QueryDone{Query: q.ID, Complete: true})
	}
}

// tell gives the model a message, and all that comes of it.
func (s *screen) tell(msg tea.Msg) {
	s.m.cfg.Now = s.now
	_, cmd := s.m.Update(msg)
	s.run(cmd)
}

func (s *screen) run(cmd tea.Cmd) {
	if cmd == nil {
		return
	}
	switch msg := cmd().(type) {
	case nil:
	case tea.BatchMsg:
		for _, c := range msg {
			s.run(c)
		}
	case changedMsg: // Changes' end; refresh stands for it
	case actedMsg:
		s.tell(msg)
		if !s.unanswered {
			s.answer()
		}
		s.refresh()
	default:
		if strings.HasPrefix(reflect.TypeOf(msg).PkgPath(), "carillon.im") {
			s.tell(msg)
		}
	}
}

// refresh lets the screen hear of what has changed.
func (s *screen) refresh() { s.tell(changedMsg{status: s.status}) }

// keys presses keys: names of Bubble Tea's, or text with a ' before it.
func (s *screen) keys(names ...string) {
	for _, name := range names {
		if text, ok := strings.CutPrefix(name, "'"); ok {
			for _, r := range text {
				s.tell(tea.KeyPressMsg{Code: r, Text: string(r)})
			}
			continue
		}
		s.tell(keyNamed(name))
	}
}

func keyNamed(name string) tea.KeyPressMsg {
	mod := tea.KeyMod(0)
	for prefix, m := range map[string]tea.KeyMod{"ctrl+": tea.ModCtrl, "alt+": tea.ModAlt} {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			name, mod = rest, mod|m
		}
	}
	code, special := map[string]rune{"enter": tea.KeyEnter, "up": tea.KeyUp, "down": tea.KeyDown, "esc": tea.KeyEscape, "tab": tea.KeyTab, "f1": tea.KeyF1,
		"f2": tea.KeyF2, "f4": tea.KeyF4, "f5": tea.KeyF5, "pgup": tea.KeyPgUp, "pgdown": tea.KeyPgDown}[name]
	if special {
		return tea.KeyPressMsg{Code: code, Mod: mod}
	}
	k := tea.KeyPressMsg{Code: rune(name[0]), Mod: mod}
	if mod == 0 {
		k.Text = name
	}
	return k
}

// gets has the device receive a message, a minute after the last. from is who wrote it: bob, bob's device, or an own device.
func (s *screen) gets(from, id, thread, payload string) {
	s.now = s.now.Add(time.Minute)
	f := jid.MustParse(from)
	to := alice
	if f.Bare() == alice && !strings.Contains(payload, "tmp:mine") {
		to = bob
	}
	if thread != "" {
		payload = "<thread>" + thread + "</thread>" + payload
	}
	payload += "<stanza-id xmlns='urn:xmpp:sid:0' by='alice@wonder.example' id='a" + id + "'/>"
	st := stanza.Build(stanza.Message, stanza.TypeChat, id, f, to, payload)
	s.apply(convo.Received{Stanza: st})
	s.refresh()
}

func body(text string) string {
	return "<body>" + string(xmltree.AppendText(nil, text)) + "</body>"
}

// reflect gives what this device sent back with its place in the archive, as IM-NG does.
func (s *screen) reflect() {
	sent := s.sent
	s.sent = nil
	for _, st := range sent {
		if st.Child(stanza.NSClient, "body").IsZero() && st.Child(xep.NSMine, "mine").IsZero() && st.Child("urn:xmpp:message-correct:0", "replace").IsZero() &&
			st.Child("urn:xmpp:message-retract:1", "retract").IsZero() && st.Child("urn:xmpp:reactions:0", "reactions").IsZero() {
			continue
		}
		back := *st
		back.From = desk
		if back.To.IsZero() {
			back.To = alice
		}
		inner := back.Inner() + "<stanza-id xmlns='urn:xmpp:sid:0' by='alice@wonder.example' id='r" + st.ID + "'/>"
		s.apply(convo.Received{Stanza: stanza.Build(back.Kind, back.Type, back.ID, back.From, back.To, inner)})
	}
	s.refresh()
}

// text is the screen as a person sees it without colour, and holds it to its size.
func (s *screen) text() string {
	s.t.Helper()
	s.m.cfg.Now = s.now
	content, _ := s.m.screen()
	plain := ansi.Strip(content)
	lines := strings.Split(plain, "\n")
	for i, l := range lines {
		if w := s.m.wide(l); w > s.m.width {
			s.t.Errorf("line %d is %d cells wide: %q", i, w, l)
		}
	}
	if len(lines) > s.m.height {
		s.t.Errorf("%d lines on a screen of %d", len(lines), s.m.height)
	}
	return plain + "\n"
}

// shows compares the screen with a golden file.
func (s *screen) shows(name string) {
	s.t.Helper()
	var b strings.Builder
	for l := range strings.Lines(s.text()) {
		b.WriteString(strings.TrimRight(l, " \n") + "\n")
	}
	file := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
			s.t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	if b.String() != string(want) {
		s.t.Errorf("%s: the screen is\n%s\nand was\n%s", file, b.String(), want)
	}
}

// has fails unless the screen has all of the texts.
func (s *screen) has(texts ...string) {
	s.t.Helper()
	got := s.text()
	for _, text := range texts {
		if !strings.Contains(got, text) {
			s.t.Errorf("no %q on the screen:\n%s", text, got)
		}
	}
}

// hasNot fails if the screen has one of the texts.
func (s *screen) hasNot(texts ...string) {
	s.t.Helper()
	got := s.text()
	for _, text := range texts {
		if strings.Contains(got, text) {
			s.t.Errorf("%q on the screen:\n%s", text, got)
		}
	}
}
