package convo

import (
	"testing"
	"time"

	"carillon.im/jid"
)

// behind is an engine that knows one message of bob's, and whose next session asks
// for what came since.
func behind(t *testing.T) (*run, Query) {
	r := newRun(t, Carbons)
	r.in(fromBob("one", "a1", ""))
	r.do(Disconnected{})
	r.do(Connected{JID: phone, Profile: Carbons, Facts: all})
	q := r.asked[len(r.asked)-1]
	if q.After != "a1" {
		t.Fatalf("%+v", q)
	}
	return r, q
}

// TestCatchupAgain: a page of the catch-up that the archive couldn't give is asked
// for again in the same session, after a while, and the cursor waits for it. Found
// by sim, seeds 524011, 524948 and 529753.
func TestCatchupAgain(t *testing.T) {
	r, q := behind(t)
	r.in(fromBob("four", "a4", ""))
	r.in(result(q.ID, "a2", fromBob("two", "", ""))) // and then it fails
	r.do(QueryDone{Query: q.ID, Failed: true})
	if r.e.Cursor() != "a1" || !r.e.CatchingUp() {
		t.Fatalf("given up: the cursor is at %q", r.e.Cursor())
	}
	asked := len(r.asked)
	if r.do(Tick{}); len(r.asked) != asked {
		t.Fatal("asked again at once")
	}
	r.wait(firstRest)
	if r.do(Tick{}, Tick{}); len(r.asked) != asked+1 {
		t.Fatalf("asked %d times", len(r.asked)-asked)
	}
	again := r.asked[asked]
	if again.After != "a1" || again.ID == q.ID {
		t.Fatalf("%+v", again)
	}
	r.in(result(again.ID, "a2", fromBob("two", "", "")))
	r.in(result(again.ID, "a3", fromBob("three", "", "")))
	r.in(result(again.ID, "a4", fromBob("four", "", "")))
	r.do(QueryDone{Query: again.ID, First: "a2", Last: "a4", Complete: true})
	r.want(bob, "one two three four")
	for _, en := range r.view(bob).Entries {
		if en.Gap {
			t.Errorf("a gap before %s", en.Body)
		}
	}
	if r.e.Cursor() != "a4" || r.e.CatchingUp() {
		t.Errorf("the cursor is at %q", r.e.Cursor())
	}
}

// TestCatchupGivesUp: an archive that never answers is asked a few times, ever less
// often; then once for each time that somebody or a new connection wants more of it. The
// place is kept for the next session.
func TestCatchupGivesUp(t *testing.T) {
	r, _ := behind(t)
	r.in(fromBob("four", "a4", ""))
	began, last := r.now, r.now
	for tries, longest := 0, time.Duration(0); r.e.CatchingUp(); tries++ {
		if tries > maxTries {
			t.Fatal("it goes on for ever")
		}
		asked := len(r.asked)
		r.do(QueryDone{Query: r.asked[asked-1].ID, Failed: true})
		for r.e.CatchingUp() && len(r.asked) == asked {
			r.wait(100 * time.Millisecond)
			r.do(Tick{})
		}
		if !r.e.CatchingUp() {
			break
		}
		rest := r.now.Sub(last)
		if rest < longest/2 || rest < firstRest/2 || rest > longerRest {
			t.Errorf("after %d tries %v later, after %v", tries, rest, longest)
		}
		longest, last = max(longest, rest), r.now
	}
	if all := r.now.Sub(began); all < time.Minute || all > 10*time.Minute {
		t.Errorf("it took %v", all)
	}
	again := func(why string, events ...Event) {
		t.Helper()
		asked := len(r.asked)
		r.do(events...)
		if len(r.asked) != asked+1 || r.asked[asked].After != "a1" {
			t.Fatalf("%s: asked %+v", why, r.asked[asked:])
		}
	}
	carol := jid.MustParse("carol@wonder.example")
	again("somebody looks", Page{Conversation: carol}, Page{Conversation: carol})
	r.do(QueryDone{Query: r.asked[len(r.asked)-1].ID, Failed: true})
	r.wait(time.Hour)
	if asked := len(r.asked); len(r.do(Tick{})) > 0 || len(r.asked) > asked {
		t.Error("asked for by itself again")
	}
	r.do(Disconnected{})
	again("resumed", Connected{JID: phone, Profile: Carbons, Facts: all, Resumed: true})
	r.do(Disconnected{})
	again("a new session", Connected{JID: phone, Profile: Carbons, Facts: all})
	if !r.e.CatchingUp() {
		t.Error("nothing is said of it")
	}
}

// TestCatchupOverConnections: what failed with the connection is asked for at once
// by the session, resumed, and by a new one from the same place.
func TestCatchupOverConnections(t *testing.T) {
	for _, resumed := range []bool{true, false} {
		r, q := behind(t)
		r.in(fromBob("four", "a4", ""))
		r.do(Disconnected{})
		r.do(QueryDone{Query: q.ID, Failed: true})
		asked := len(r.asked)
		r.do(Connected{JID: phone, Profile: Carbons, Facts: all, Resumed: resumed})
		if len(r.asked) != asked+1 || r.asked[asked].After != "a1" {
			t.Errorf("resumed %v: asked %+v", resumed, r.asked[asked:])
		}
	}
}

// TestStuckOverSessions: where a catch-up that several sessions went on with ends with
// an archive that gives no more, all that came live in each of them is marked.
func TestStuckOverSessions(t *testing.T) {
	r, _ := behind(t)
	r.in(fromBob("three", "a3", ""))
	r.in(fromBob("four", "a4", ""))
	r.do(Disconnected{})
	r.do(Connected{JID: phone, Profile: Carbons, Facts: all})
	r.in(fromBob("six", "a6", ""))
	q := r.asked[len(r.asked)-1]
	r.do(QueryDone{Query: q.ID, First: "a1", Last: "a1"})
	r.want(bob, "one three four six")
	for i, gap := range []bool{false, true, false, true} {
		if en := r.view(bob).Entries[i]; en.Gap != gap {
			t.Errorf("a gap before %s: %v", en.Body, en.Gap)
		}
	}
	if r.view(bob).GapAtEnd {
		t.Error("a gap behind what is live")
	}
}
