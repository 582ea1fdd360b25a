package convo

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// FuzzStanzas feeds stanzas, one to a line, in a session of each profile, and
// checks that what is shown keeps its rules.
func FuzzStanzas(f *testing.F) {
	for _, seed := range []string{
		fromBob("one", "a1", whose("w1")+"<thread parent='p'>t</thread>"),
		originalM + "\n" + about("bob@wonder.example/pc", "x", correctM) + "\n" + about("bob@wonder.example/pc", "", reactM),
		claimBy("alice@wonder.example/desk", "c1", "w1", "w2"),
		delayed("wonder.example", originalM) + "\n" + delayed("wonder.example", fromBob("two", "a2", "")) + "\n" + result("id1", "a1", fromBob("one", "", "")) + "\n" +
			result("id1", "a2", fromBob("two", "", "")) + "\n" + delayed("wonder.example", about("bob@wonder.example/pc", "x", correctM)),
		carbonOf("received", originalM) + "\n" + carbonOf("sent", "<message from='alice@wonder.example/desk' to='bob@wonder.example' type='chat'><body>b</body></message>"),
		result("id1", "a1", originalM) + "\n" + result("session", "a2", originalM),
		fmt.Sprintf(directInvite, "attic@rooms.example", stanzaID("a1")) + "\n" + fmt.Sprintf(mediatedInvite, "hall@rooms.example", "") + "\n" + fmt.Sprintf(subscribe, "bob@wonder.example"),
		fmt.Sprintf(decline, "hall@rooms.example", " from='bob@wonder.example'", "Busy", stanzaID("a1")),
		presence("bo", "", "owner", "moderator", "") + "\n" + presence("bo", "unavailable", "none", "none", "<status code='110'/>"),
		"<message from='hall@rooms.example/bo' type='groupchat'><body>b</body></message>",
		said("bo", "one", "s1", "") + "\n" + said("bo", "two", "s2", "<replace xmlns='urn:xmpp:message-correct:0' id='m-one'/>") + "\n" +
			strings.Replace(said("bo", "", "s3", "<retract xmlns='urn:xmpp:message-retract:1' id='s1'><moderated xmlns='urn:xmpp:message-moderate:1' by='x'/></retract>"), "/bo'", "'", 1),
		kept("session", "s1", said("bo", "one", "", "")) + "\n" + kept("session", "s2", said("al", "", "", "<retracted xmlns='urn:xmpp:message-retract:1'/>")) + "\n" +
			"<message from='hall@rooms.example'><synced xmlns='urn:xmpp:tmp:xmpp-2:0' room='hall@rooms.example' complete='false' first='s1' last='s2' count='2'/></message>\n" + said("cy", "three", "s3", ""),
		kept("id2", "s2", said("bo", "two", "", "")) + "\n" + kept("id2", "s1", said("al", "one", "", "")) + "\n" + said("bo", "two", "s2", ""),
		"<presence from='bob@wonder.example/pc' type='unavailable'/>\n" + chat("bob@wonder.example/pc", "<gone xmlns='http://jabber.org/protocol/chatstates'/>"),
		"<message><body/></message>\n<message from='alice@wonder.example'><synced xmlns='urn:xmpp:tmp:xmpp-2:0' complete='false' first='a' last='b' count='3'/></message>",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, input string) {
		for _, p := range []Profile{Classic, Carbons, NG, V2} {
			r := start(t, Config{Limits: Limits{Conversations: 8, Entries: 16, Total: 32, Threads: 4, Refs: 4, Orphans: 4, Claims: 4, Page: 4}}, NewMemory())
			r.do(Entering{hall})
			r.do(Room{JID: hall, Nick: "al", Joined: true, RoomFacts: RoomFacts{Mine: true}})
			r.do(Connected{JID: phone, Profile: p, Facts: all, Catchup: p == V2})
			r.do(Room{JID: hall, Nick: "al", Joined: true, Streamed: p == V2, RoomFacts: facts})
			for line := range strings.SplitSeq(input, "\n") {
				el, err := xmltree.Parse([]byte(line), stanza.NSClient, xmltree.Limits{})
				if err != nil {
					continue
				}
				if st, err := stanza.Parse(el); err == nil {
					r.wait(time.Second)
					r.do(Received{st})
				}
			}
			r.do(QueryDone{Query: "id1", First: "a", Last: "b"})
			for _, q := range r.asked {
				r.do(QueryDone{Query: q.ID, First: "a", Last: "s2", Complete: q.By == hall})
			}
			r.do(Room{JID: hall, Nick: "al", Joined: true, Away: true, RoomFacts: facts}, Room{JID: hall, Nick: "bo", Joined: true, RoomFacts: facts}, Tick{})
			for _, s := range r.e.Conversations() {
				r.do(Attention{Conversation: s.JID, Act: Accepted})
				r.do(Page{Conversation: s.JID})
				r.do(SendText{Conversation: s.JID, Body: "b"})
			}
			holds(t, r.e)
			r.do(Disconnected{})
			again := start(t, r.e.cfg, r.store)
			holds(t, again.e)
		}
	})
}

// holds checks what is true of every engine.
func holds(t testing.TB, e *Engine) {
	t.Helper()
	for j, c := range e.convs {
		for i, it := range c.items {
			if i > 0 && c.items[i-1].Pos >= it.Pos || it.Pos <= 0 || it.Pos >= WaitingPos || c.byID[it.ID] != it {
				t.Fatalf("%v: entry %d at %d is out of place", j, it.ID, it.Pos)
			}
			if it.Archive.ID != "" && e.archived[it.Archive].i != it {
				t.Fatalf("%v: %v is in the history twice", j, it.Archive)
			}
		}
		v, _ := e.Conversation(j, 0)
		for _, en := range v.Entries {
			if en.Kind != Text || en.Retracted && en.Body != "" || en.Own == (en.Delivery == Incoming) {
				t.Fatalf("%v: %+v", j, en)
			}
		}
		for _, th := range v.Threads {
			if th.ID == "" || th.Depth > maxDepth || th.Count <= 0 {
				t.Fatalf("%v: %+v", j, th)
			}
		}
	}
}
