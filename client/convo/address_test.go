package convo

import (
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/stanza"
)

// to says something to bob and returns where it went.
func (r *run) to() jid.JID {
	r.t.Helper()
	r.do(SendText{Conversation: bob, Body: "x"})
	return r.out().To
}

func chat(from, extra string) string {
	return "<message from='" + from + "' to='alice@wonder.example' type='chat'><body>b</body>" + extra + "</message>"
}

// TestLocking is XEP-0296 towards a server of 1.0.
func TestLocking(t *testing.T) {
	const gone = "<message from='bob@wonder.example/pc' to='alice@wonder.example' type='chat'><gone xmlns='http://jabber.org/protocol/chatstates'/></message>"
	for _, c := range []struct {
		name string
		in   []string
		want jid.JID
	}{
		{"LOCK-1, LOCK-4, LOCK-5: starts unlocked", nil, bob},
		{"LOCK-2, LOCK-6, LOCK-7: an answer locks", []string{chat("bob@wonder.example/pc", "")}, bobPC},
		{"LOCK-8, LOCK-9 (LOCK-10 is the other choice): another resource takes it over", []string{chat("bob@wonder.example/pc", ""), chat("bob@wonder.example/tv", "")}, bobTV},
		{"LOCK-3, LOCK-11, LOCK-12: presence unlocks", []string{chat("bob@wonder.example/pc", ""), "<presence from='bob@wonder.example/tv'/>"}, bob},
		{"LOCK-11: so does unavailable", []string{chat("bob@wonder.example/pc", ""), "<presence from='bob@wonder.example/pc' type='unavailable'/>"}, bob},
		{"LOCK-13: gone unlocks", []string{chat("bob@wonder.example/pc", ""), gone}, bob},
		{"a subscription request is no presence update (NOTES L5)", []string{chat("bob@wonder.example/pc", ""), "<presence from='bob@wonder.example' type='subscribe'/>"}, bobPC},
		{"somebody else's presence doesn't matter", []string{chat("bob@wonder.example/pc", ""), "<presence from='carol@wonder.example/pc'/>"}, bobPC},
		{"what was held back says where bob was", []string{chat("bob@wonder.example/pc", "<delay xmlns='urn:xmpp:delay' stamp='2026-11-20T10:00:00Z'/>")}, bob},
		{"an error doesn't lock (NOTES L2)", []string{"<message from='bob@wonder.example/pc' to='alice@wonder.example' type='error' id='q'><error type='cancel'/></message>"}, bob},
		{"a normal message doesn't lock", []string{"<message from='bob@wonder.example/pc' to='alice@wonder.example'><body>b</body></message>"}, bob},
	} {
		for _, p := range []Profile{Classic, Carbons} {
			r := newRun(t, p)
			for _, xml := range c.in {
				r.in(xml)
			}
			if got := r.to(); got != c.want {
				t.Errorf("%s: to %v, want %v", c.name, got, c.want)
			}
		}
	}
}

// TestNeverLocked: IMNG-22, X2-9, X2-26, X2-27: conversations have people.
func TestNeverLocked(t *testing.T) {
	for _, p := range []Profile{NG, V2} {
		r := newRun(t, p)
		r.in(chat("bob@wonder.example/pc", "<request xmlns='urn:xmpp:receipts'/><composing xmlns='http://jabber.org/protocol/chatstates'/>"))
		if got := r.to(); got != bob {
			t.Errorf("profile %d: to %v", p, got)
		}
		r.do(Contact{JID: bob, Trusted: true})
		r.in("<message from='bob@wonder.example/pc' to='alice@wonder.example' type='chat' id='r1'><body>b</body><request xmlns='urn:xmpp:receipts'/></message>")
		if got := r.out(); got.To != bob || got.Child("urn:xmpp:receipts", "received").IsZero() {
			t.Errorf("profile %d: the receipt goes to %v", p, got.To)
		}
		if v := r.view(bob); !v.LockedTo.IsZero() {
			t.Errorf("profile %d: locked to %v", p, v.LockedTo)
		}
	}
}

// TestUnlockedByTime: LOCK-15, and LOCK-4 for a new session.
func TestUnlockedByTime(t *testing.T) {
	r := start(t, Config{UnlockAfter: time.Minute}, NewMemory())
	r.connect(Classic)
	r.in(chat("bob@wonder.example/pc", ""))
	r.wait(59 * time.Second)
	r.do(Tick{})
	if r.view(bob).LockedTo != bobPC {
		t.Error("unlocked too early")
	}
	r.wait(time.Second)
	r.do(Tick{})
	if !r.view(bob).LockedTo.IsZero() {
		t.Error("idle and locked")
	}
	r.in(chat("bob@wonder.example/pc", ""))
	r.do(Disconnected{})
	r.connect(Classic)
	if got := r.to(); got != bob {
		t.Errorf("a new session is locked to %v", got)
	}
}

// TestComesBack: LOCK-16, LOCK-17: a presence update after the person was away,
// and only then.
func TestComesBack(t *testing.T) {
	r := start(t, Config{RefreshAfter: time.Hour}, NewMemory())
	r.connect(Classic)
	r.do(Typing{Conversation: bob, State: Composing})
	r.wait(59 * time.Minute)
	r.do(Tick{})
	r.do(Typing{Conversation: bob, State: Paused})
	if r.fresh != 0 {
		t.Fatal("was not away")
	}
	r.wait(time.Hour)
	r.do(Tick{})
	r.do(Typing{Conversation: bob, State: Composing})
	if r.fresh != 1 {
		t.Errorf("%d presence updates", r.fresh)
	}
}

// TestUnlockedByError: whoever a conversation was locked to isn't there.
func TestUnlockedByError(t *testing.T) {
	r := newRun(t, Carbons)
	r.in(chat("bob@wonder.example/pc", ""))
	r.to()
	st := r.out()
	r.in("<message from='bob@wonder.example/pc' to='alice@wonder.example/phone' type='error' id='" + st.ID +
		"'><error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>")
	if en := r.last(bob); en.Delivery != Failed || en.Error != "service-unavailable" {
		t.Errorf("%+v", en)
	}
	r.do(Resend{Conversation: bob, Entry: r.last(bob).ID})
	if got := r.out(); got.To != bob || got.ID != st.ID {
		t.Errorf("sent again to %v with id %s", got.To, got.ID)
	}
}

// TestProfiles: IMNG-21, and X2-11: what is for one device stays there whatever
// the server knows.
func TestProfiles(t *testing.T) {
	if ChooseProfile(true, true, true) != V2 || ChooseProfile(false, true, true) != NG || ChooseProfile(false, false, true) != Carbons || ChooseProfile(false, false, false) != Classic {
		t.Error("not the best that is offered")
	}
	for p, want := range map[Profile][]string{V2: nil, NG: {"im-ng"}, Carbons: {"private", "no-copy", "no-store"}, Classic: {"private", "no-copy", "no-store"}} {
		st := stanza.Build(stanza.Message, stanza.TypeChat, "1", phone, bobPC, ForDevice(p))
		var got []string
		for el := range st.Payloads() {
			got = append(got, el.Local())
		}
		if len(got) != len(want) {
			t.Fatalf("profile %d: %v, want %v", p, got, want)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("profile %d: %v, want %v", p, got, want)
			}
		}
	}
}

// TestExclusive: IMNG-23: conversation content for this device alone is not
// shown, in no profile that has the meaning.
func TestExclusive(t *testing.T) {
	const ng = "<message from='bob@wonder.example/pc' to='alice@wonder.example/phone' type='chat'><body>secret</body><im-ng xmlns='urn:xmpp:im-ng:0'/></message>"
	const modern = "<message from='bob@wonder.example/pc' to='alice@wonder.example/phone' type='chat'><body>secret</body></message>"
	const old = "<message from='bob@wonder.example/pc' to='alice@wonder.example/phone' type='chat'><body>open</body><xmpp-1 xmlns='urn:xmpp:tmp:xmpp-2:0'/></message>"
	for _, p := range []Profile{Classic, Carbons, NG, V2} {
		r := newRun(t, p)
		r.in(ng)
		if r.bodies(bob) != "" {
			t.Errorf("profile %d shows it", p)
		}
	}
	r := newRun(t, V2)
	r.in(modern)
	if r.bodies(bob) != "" {
		t.Error("a 2.0 session shows what was for it alone (X2-3)")
	}
	r.in(old)
	r.want(bob, "open")
}
