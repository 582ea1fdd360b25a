package account

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/server/route"
	"carillon.im/server/store"
	"carillon.im/server/trail"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// pushWorld is alice, who writes, and bob with a phone that has named a push
// service at x.example, and a desk that hasn't.
type pushWorld struct {
	*world
	service     *outside
	alice       *client
	phone, desk *client
}

func newPushWorld(t *testing.T, path string, change ...func(*Config)) *pushWorld {
	p := &pushWorld{service: &outside{}}
	change = append([]func(*Config){func(c *Config) { c.Borders, c.Push = p.service.to, PushConfig{Hold: 10 * time.Second} }}, change...)
	p.world = newWorldAt(t, path, "alice bob", change...)
	p.service.w = p.world
	p.befriend("alice", "bob")
	p.alice = p.bind("alice/a online")
	p.desk = p.bind("bob/desk online")
	p.phone = p.bindAs("p", "phone")
	p.phone.send("<presence/>")
	p.on(p.phone, "n1")
	p.settle()
	p.desk.take()
	p.phone.take()
	p.alice.take()
	return p
}

// on names a node of the push service for a client's device.
func (p *pushWorld) on(c *client, node string) {
	p.t.Helper()
	err := c.Owner().Update(context.Background(), feature.Update{PushOn: &feature.PushOn{Session: c.JID(), Service: xep.PushService{JID: jid.MustParse("x.example"), Node: node}}})
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *pushWorld) off(node string, all bool) {
	p.t.Helper()
	err := p.hub.Account(jid.MustParse(bob)).Update(context.Background(), feature.Update{PushOff: &feature.PushOff{Service: jid.MustParse("x.example"), Node: node, All: all}})
	if err != nil {
		p.t.Fatal(err)
	}
}

// idle passes so much time that nobody counts as using a device any more.
func (p *pushWorld) idle() { p.pass(activeFor + time.Second) }

// notified checks which counts of messages the push service was told, in order, and
// answers each request: with a result, or with an error of this condition.
func (p *pushWorld) notified(condition string, counts ...int) {
	p.t.Helper()
	var got []int
	for {
		p.settle()
		sent := p.service.take()
		if len(sent) == 0 {
			break
		}
		for _, s := range sent {
			st, err := stanza.ParseBytes([]byte(s), xmltree.Limits{})
			if err != nil || st.Kind != stanza.IQ || st.From.String() != "h.example" || st.To.String() != "x.example" {
				p.t.Fatalf("outside got %s", s)
			}
			var n int
			if _, err := fmt.Sscanf(after(s, "'message-count'><value>"), "%d", &n); err != nil {
				p.t.Fatalf("%s: %v", s, err)
			}
			got = append(got, n)
			p.answer(st.ID, condition)
		}
	}
	if !slices.Equal(got, counts) {
		p.t.Fatalf("notified of %v, want %v", got, counts)
	}
}

func (p *pushWorld) answer(id, condition string) {
	if condition == "" {
		p.service.enter("<iq type='result' from='x.example' to='h.example' id='" + id + "'/>")
		return
	}
	e := stanza.NewError(stanza.Condition(condition), "")
	p.service.enter("<iq type='error' from='x.example' to='h.example' id='" + id + "'><error type='" + string(e.Type) + "'><" + condition + " xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>")
}

func after(s, piece string) string {
	_, rest, _ := strings.Cut(s, piece)
	return rest
}

// rules are what the trail says of the phone's latest notifications, oldest first.
func (p *pushWorld) rules(n int) (list []string) {
	p.t.Helper()
	for _, r := range p.hub.Trail().Find(trail.Query{Account: bob, Last: n}) {
		for _, push := range r.Pushes {
			list = append(list, push.Resource+" "+push.Verdict.String()+" "+push.Rule.String())
		}
	}
	return list
}

func (p *pushWorld) wantRules(want ...string) {
	p.t.Helper()
	if got := p.rules(len(want)); !slices.Equal(got, want) {
		p.t.Fatalf("trail: %q, want %q", got, want)
	}
}

func (p *pushWorld) say(body string) {
	p.t.Helper()
	p.alice.say(bob, body)
}

// TestPushWhenAway: a device with a stream isn't notified, even if nobody looks at
// it; one that waits to be resumed is, once for each message, with nobody else
// there; the resumption ends it, and its end doesn't end the push service.
func TestPushWhenAway(t *testing.T) {
	p := newPushWorld(t, ":memory:")
	p.say("1")
	p.phone.SetActive(false)
	p.say("2")
	p.notified("")
	p.wantRules("phone nothing R-PUSH-5", "phone nothing R-PUSH-5")
	p.phone.read()
	p.desk.Close(p.desk)
	p.phone.detach()
	p.notified("")
	p.say("3")
	p.notified("", 1)
	p.say("4")
	p.notified("", 2)
	p.wantRules("phone pushed R-PUSH-12", "phone pushed R-PUSH-12")
	p.alice.send("<message to='" + bob + "' type='chat'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>")
	p.alice.send("<message to='" + bob + "' type='chat'><received xmlns='urn:xmpp:receipts' id='1'/></message>")
	p.alice.send("<message to='" + bob + "' type='headline'><body>x</body></message>")
	p.notified("")

	phone, _, err := p.resume(p.phone, p.phone.out.Acked())
	if err != nil {
		t.Fatal(err)
	}
	p.say("5")
	p.notified("")
	phone.read()
	phone.detach()
	p.say("6")
	p.notified("", 1) // it counts from where the device was here last
	p.pass(20 * time.Minute)
	if n := len(p.sessions("bob")); n != 0 {
		t.Fatalf("%d sessions", n)
	}
	p.say("7") // the session is gone, the device isn't
	p.notified("", 2)
	again := p.bindAs("p", "another")
	p.say("8")
	p.notified("")
	again.Close(again)
	p.settle()
	p.say("9")
	p.notified("", 1)
}

// read has the client take and acknowledge all that there is.
func (c *client) read() {
	c.w.t.Helper()
	c.w.settle()
	c.take()
	if err := c.Ack(c.out.Acked() + uint32(c.out.Unacked())); err != nil {
		c.w.t.Fatal(err)
	}
}

func (w *world) sessions(name string) []feature.SessionInfo {
	w.t.Helper()
	list, err := w.hub.Sessions(context.Background(), jid.MustParse(name+"@h.example"))
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}

// TestPushOfUnread: what a dead connection took without the phone's having it is
// notified when the connection is seen to be dead; what was notified before isn't again.
func TestPushOfUnread(t *testing.T) {
	p := newPushWorld(t, ":memory:")
	p.desk.Close(p.desk)
	p.say("1")
	p.phone.read()
	n := p.phone.out.Acked()
	p.say("2")
	p.alice.send("<message to='" + bob + "' type='chat'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>")
	p.alice.send("<message to='" + bob + "/phone' type='chat'><im-ng xmlns='urn:xmpp:im-ng:0'/><body>3</body></message>")
	p.settle()
	p.phone.take()
	p.notified("")
	p.phone.detach()
	p.notified("", 2)
	p.say("4")
	p.notified("", 3)
	phone, _, err := p.resume(p.phone, n)
	if err != nil {
		t.Fatal(err)
	}
	phone.take()
	phone.detach()
	p.notified("") // all of it before, though it was never acknowledged
	p.say("5")
	p.notified("", 1)
	// The end of its stream without acknowledgement, too.
	if phone, _, err = p.resume(phone, phone.out.Acked()+uint32(phone.out.Unacked())); err != nil {
		t.Fatal(err)
	}
	p.say("6")
	phone.take()
	phone.Close(phone)
	p.notified("", 1)
}

// TestPushHeld: while another device is in use a notification waits for it to show
// the message, and comes if it doesn't; a call waits for nothing.
func TestPushHeld(t *testing.T) {
	stamp := func(p *pushWorld) string {
		var id string
		p.store.Archive(context.Background(), store.ArchiveQuery{Account: p.id("bob"), Max: 1, Backward: true}, func(m store.ArchivedMessage) error {
			id = m.ID.String()
			return nil
		})
		return id
	}
	displayed := func(p *pushWorld, peer, by, id string) {
		payload := "<displayed xmlns='urn:xmpp:mds:displayed:0'><stanza-id xmlns='urn:xmpp:sid:0' by='" + by + "' id='" + id + "'/></displayed>"
		err := p.hub.Account(jid.MustParse(bob)).Update(context.Background(), feature.Update{Events: []feature.EventChange{{Node: xep.NSDisplayed, Config: []byte("c"),
			Put: []feature.EventItem{{ID: peer, Payload: []byte(payload), At: p.Now()}}, Keep: 10, MaxNodes: 10, MaxBytes: 10000}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		name string
		do   func(p *pushWorld)
		want []int
		rule string
	}{
		{"nobody does anything", func(*pushWorld) {}, []int{1}, "phone pushed R-PUSH-11"},
		{"claimed", func(p *pushWorld) {
			p.desk.send("<message to='" + bob + "' type='chat'><mine xmlns='urn:xmpp:tmp:mine:0'><id>x-1</id><id>" + "1-" + stamp(p) + "</id></mine></message>")
		}, nil, "phone nothing R-PUSH-6"},
		{"another one claimed", func(p *pushWorld) {
			p.desk.send("<message to='" + bob + "' type='chat'><mine xmlns='urn:xmpp:tmp:mine:0'><id>1-0000000000001</id></mine></message>")
		}, []int{1}, "phone pushed R-PUSH-11"},
		{"displayed (XEP-0333)", func(p *pushWorld) {
			p.desk.send("<message to='alice@h.example' type='chat'><displayed xmlns='urn:xmpp:chat-markers:0' id='m'/></message>")
		}, nil, "phone nothing R-PUSH-6"},
		{"something else displayed", func(p *pushWorld) {
			p.desk.send("<message to='alice@h.example' type='chat'><displayed xmlns='urn:xmpp:chat-markers:0' id='other'/></message>")
		}, []int{1}, "phone pushed R-PUSH-11"},
		{"somebody else's displayed", func(p *pushWorld) {
			p.desk.send("<message to='carol@x.example' type='chat'><displayed xmlns='urn:xmpp:chat-markers:0' id='m'/></message>")
			p.settle()
			p.service.take()
		}, []int{1}, "phone pushed R-PUSH-11"},
		{"displayed (XEP-0490)", func(p *pushWorld) { displayed(p, "alice@h.example", bob, stamp(p)) }, nil, "phone nothing R-PUSH-6"},
		{"displayed before", func(p *pushWorld) { displayed(p, "alice@h.example", bob, "0000000000001") }, []int{1}, "phone pushed R-PUSH-11"},
		{"answered", func(p *pushWorld) { p.desk.say("alice@h.example", "yes?") }, nil, "phone nothing R-PUSH-6"},
		{"the desk looks away", func(p *pushWorld) {
			p.desk.SetActive(false)
			p.tick()
			p.notified("", 1)
		}, nil, "phone pushed R-PUSH-12"},
		{"the desk goes", func(p *pushWorld) {
			p.desk.Close(p.desk)
			p.settle()
			p.tick()
			p.notified("", 1)
		}, nil, "phone pushed R-PUSH-12"},
		{"the phone comes back", func(p *pushWorld) {
			if _, _, err := p.resume(p.phone, 0); err != nil {
				p.t.Fatal(err)
			}
		}, nil, "phone nothing R-PUSH-5"},
		{"the phone logs in again", func(p *pushWorld) { p.bindAs("p", "another") }, nil, "phone nothing R-PUSH-5"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPushWorld(t, ":memory:")
			p.phone.detach()
			p.desk.send("<presence/>") // somebody is there
			p.alice.send("<message type='chat' id='m' to='" + bob + "'><body>x</body></message>")
			p.notified("")
			if got := p.heldRows(); len(got) != 1 {
				t.Fatalf("the store holds %v", got)
			}
			p.pass(9 * time.Second)
			p.notified("")
			tc.do(p)
			p.settle()
			p.pass(2 * time.Second)
			p.notified("", tc.want...)
			found := p.hub.Trail().Find(trail.Query{Account: bob, ID: "m"})
			if push := found[0].Pushes[0]; push.Resource+" "+push.Verdict.String()+" "+push.Rule.String() != tc.rule {
				t.Errorf("%+v, want %s", push, tc.rule)
			}
			if got := p.heldRows(); len(got) != 0 {
				t.Errorf("the store still holds %v", got)
			}
			p.pass(time.Minute)
			p.notified("")
		})
	}
	t.Run("a call", func(t *testing.T) {
		p := newPushWorld(t, ":memory:")
		p.phone.detach()
		p.desk.send("<presence/>")
		p.say("x")
		p.notified("")
		p.alice.send("<message type='chat' id='c' to='" + bob + "'><propose xmlns='urn:xmpp:jingle-message:0' id='1'/><store xmlns='urn:xmpp:hints'/></message>")
		p.notified("", 2) // what was held is told with it
		p.wantRules("phone pushed R-PUSH-9", "phone pushed R-PUSH-9")
	})
}

// written waits until the store has all that it was given, also what nobody waits for.
func (p *pushWorld) written() {
	p.t.Helper()
	p.settle()
	if err := p.store.Commit(context.Background(), store.PushRelease{}); err != nil {
		p.t.Fatal(err)
	}
}

// heldRows are the messages of which the store says that bob's devices have yet to be
// notified.
func (p *pushWorld) heldRows() (list []store.ArchiveID) {
	p.t.Helper()
	p.written()
	targets, err := p.store.PushTargets(context.Background(), p.id("bob"))
	if err != nil {
		p.t.Fatal(err)
	}
	for _, d := range targets {
		list = append(list, d.Held...)
	}
	return list
}

// TestPushInUse: a device is in use for a while after somebody did something on it.
func TestPushInUse(t *testing.T) {
	p := newPushWorld(t, ":memory:")
	p.phone.detach()
	p.idle()
	p.say("1")
	p.notified("", 1)
	p.desk.say("alice@h.example", "hello")
	p.say("2")
	p.notified("")
	p.pass(11 * time.Second)
	p.notified("", 2)
	p.idle()
	p.desk.SetActive(true)
	p.say("3")
	p.notified("")
	p.pass(11 * time.Second)
	p.notified("", 3)
	p.desk.send("<iq type='get' id='1' to='alice@h.example/a'><ping xmlns='urn:xmpp:ping'/></iq>") // a program, not a person
	p.idle()
	p.desk.send("<iq type='get' id='1' to='alice@h.example/a'><ping xmlns='urn:xmpp:ping'/></iq>")
	p.say("4")
	p.notified("", 4)
}

// TestPushBusy: a push service has one request at a time; what comes meanwhile is
// told with the next, in one.
// TestPushErrors: what a push service refuses for good switches it off; what passes
// leaves it alone for a while, and tells it again of the messages; ten in a row are enough.
// TestPushRestart: what was held is decided again after a restart, orderly or not,
// and pushed once; what was pushed isn't pushed again.
// TestPushStore: a message whose commit fails is nobody's notification, and no push
// service hears of a message of which the store says that it still waits.
// TestPushDevices: each device for itself; one that is ended is notified no more, nor
// one whose service is disabled; a service that is named again is the last device's.
func TestPushDevices(t *testing.T) {
	p := newPushWorld(t, ":memory:")
	tablet := p.bindAs("t", "tablet")
	p.on(tablet, "n2")
	p.on(tablet, "n3")
	p.desk.Close(p.desk)
	p.phone.detach()
	tablet.SetActive(false)
	p.say("1")
	p.notified("", 1)
	p.wantRules2(1, "phone pushed R-PUSH-12", "tablet nothing R-PUSH-5", "tablet nothing R-PUSH-5")
	tablet.read()
	tablet.detach()
	p.say("2")
	p.notified("", 2, 1, 1)
	p.off("n3", false)
	p.say("3")
	p.notified("", 3, 2)
	if err := p.hub.EndClient(context.Background(), jid.MustParse(bob), "t"); err != nil {
		t.Fatal(err)
	}
	p.say("4")
	p.notified("", 4)
	other := p.bindAs("o", "other")
	p.on(other, "n1")
	p.say("5")
	p.notified("") // it is the other's now, and that is here
	other.Close(other)
	p.settle()
	p.say("6")
	p.notified("", 1)
	p.off("", true)
	p.say("7")
	p.notified("")
	if targets, err := p.store.PushTargets(context.Background(), p.id("bob")); len(targets) != 0 || err != nil {
		t.Error(targets, err)
	}

	// A device without an id is its resource.
	plain := p.bind("bob/plain sm online")
	p.on(plain, "p")
	plain.detach()
	p.say("8")
	p.notified("", 1)
	plain = p.bind("bob/plain online")
	p.say("9")
	p.notified("")
	err := plain.Owner().Update(context.Background(), feature.Update{PushOn: &feature.PushOn{Session: plain.JID(), Service: xep.PushService{JID: jid.MustParse("bob@h.example")}}})
	if e, _ := stanza.AsError(err); e == nil || e.Condition != stanza.ItemNotFound {
		t.Error("this server as a push service:", err)
	}
}

// wantRules2 is wantRules of several devices.
func (p *pushWorld) wantRules2(records int, want ...string) {
	p.t.Helper()
	if got := p.rules(records); !slices.Equal(got, want) {
		p.t.Fatalf("trail: %q, want %q", got, want)
	}
}

// TestPushSummary: a push service is told the number of messages, and no more unless
// the operator wants it; never what an encrypted message says.
func TestPushSummary(t *testing.T) {
	const sender, body = "'last-message-sender'><value>alice@h.example/a<", "'last-message-body'><value>"
	for _, tc := range []struct {
		cfg          PushConfig
		sender, body bool
	}{{PushConfig{}, false, false}, {PushConfig{Sender: true}, true, false}, {PushConfig{Sender: true, Body: true}, true, true}} {
		p := newPushWorld(t, ":memory:", func(c *Config) { c.Push = tc.cfg })
		p.phone.detach()
		for _, m := range []struct {
			payload, want string
		}{{"<body>Wherefore</body>", "Wherefore<"}, {"<body>It is encrypted</body><encrypted xmlns='eu.siacs.conversations.axolotl'/>", ""},
			{"<body>" + strings.Repeat("é", maxPushBody) + "</body>", strings.Repeat("é", maxPushBody/2) + "<"}} {
			p.alice.send("<message type='chat' to='" + bob + "'>" + m.payload + "</message>")
			p.settle()
			got := p.service.take()
			if len(got) != 1 {
				t.Fatal(got)
			}
			if strings.Contains(got[0], sender) != tc.sender || strings.Contains(got[0], "-sender'") != tc.sender ||
				strings.Contains(got[0], body) != (tc.body && m.want != "") || tc.body && m.want != "" && !strings.Contains(got[0], body+m.want) {
				t.Errorf("%+v: %s", tc.cfg, got[0])
			}
			id, _, _ := strings.Cut(after(got[0], " id='"), "'")
			p.answer(id, "")
		}
	}
}

// TestPushMuted: a conversation of which the person wants no notifications (XEP-0492).
func TestPushMuted(t *testing.T) {
	p := newPushWorld(t, ":memory:")
	p.idle()
	bookmark := func(was []byte, room, setting string) {
		t.Helper()
		payload := "<conference xmlns='urn:xmpp:bookmarks:1'><extensions><notify xmlns='urn:xmpp:notification-settings:1'><" + setting + "/></notify></extensions></conference>"
		err := p.hub.Account(jid.MustParse(bob)).Update(context.Background(), feature.Update{Events: []feature.EventChange{{Node: xep.NodeBookmarks, Was: was, Config: []byte("c"),
			Put: []feature.EventItem{{ID: room, Payload: []byte(payload), At: p.Now()}}, Keep: 10, MaxNodes: 10, MaxBytes: 10000}}})
		if err != nil {
			t.Fatal(err)
		}
		p.settle()
	}
	room := func(nick, body string) {
		p.service.enter("<message from='room@x.example/" + nick + "' to='" + bob + "/phone' type='groupchat'><body>" + body + "</body></message>")
	}
	p.phone.send("<presence to='room@x.example/Bobby'/>")
	p.settle()
	p.service.take()
	p.phone.detach()
	room("Romeo", "1")
	p.notified("", 1)
	room("Bobby", "I said that myself")
	p.notified("")
	bookmark(nil, "room@x.example", "on-mention")
	room("Romeo", "2")
	p.notified("")
	room("Romeo", "bobby: 3")
	p.notified("", 2)
	bookmark([]byte("c"), "room@x.example", "never")
	room("Romeo", "bobby: 4")
	p.notified("")
	p.service.enter("<message from='room@x.example/Romeo' to='" + bob + "/phone' type='chat'><x xmlns='http://jabber.org/protocol/muc#user'/><body>between us</body></message>")
	p.notified("", 3)
	bookmark([]byte("c"), "alice@h.example", "never")
	p.say("5")
	p.notified("")
	bookmark([]byte("c"), "alice@h.example", "always")
	p.say("6")
	p.notified("", 4)
	p.phone.detach()
}

// TestPushBounds: what waits for one service is bounded, in memory and on disk.
// TestNoPushCostsNothing: an account whose devices have named no push service decides
// a message with as many allocations as ever.
func TestNoPushCostsNothing(t *testing.T) {
	w := newWorld(t, "alice bob")
	s := &State{cfg: &w.hub.cfg, jid: jid.MustParse(bob)}
	st, err := stanza.ParseBytes([]byte("<message type='chat' from='alice@h.example/a' to='"+bob+"'><body>x</body></message>"), xmltree.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	st, msg := route.Enter(st, route.FromSession)
	c := &copies{state: s, stanza: st}
	fx := &effects{}
	if n := testing.AllocsPerRun(100, func() {
		d := s.consider(s.receivingFacts(st, msg))
		s.considerPush(st, d, testStart)
		s.keepPushes(d, c, nil, testStart)
		s.pushWhenSure(fx)
		s.seen(st, msg.Marks, fx)
	}); n != 0 || len(fx.list) != 0 {
		t.Errorf("%v allocations, %d effects", n, len(fx.list))
	}
}
