package room

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
)

func (w *world) joinSync(who, nick, sync string) {
	w.t.Helper()
	w.send(who, fmt.Sprintf("<presence to='%s/%s'><x xmlns='%s'/><join xmlns='%s'>%s</join></presence>", hall, nick, xep.NSMUC, xep.NSXMPP2, sync))
}

func (w *world) say(who, text string) {
	w.t.Helper()
	w.send(who, "<message type='groupchat' to='"+hall+"'><body>"+text+"</body></message>")
}

// heard is what somebody was told: texts live and [texts] of the archive, and the end of the
// catch-up.
func heard(list []*stanza.Stanza) string {
	var all []string
	for _, st := range list {
		if s, ok := xep.ParseSynced(st); ok {
			all = append(all, fmt.Sprint("synced ", s.Complete, " ", s.Count))
		}
		if body := st.Child(stanza.NSClient, "body"); !body.IsZero() {
			all = append(all, body.Text())
		}
		if r := st.Child(xep.NSMAM, "result"); !r.IsZero() {
			inner, _, _ := xep.ParseForwarded(r.Child(xep.NSForward, "forwarded"))
			all = append(all, "["+inner.Child(stanza.NSClient, "body").Text()+"]")
		}
		if st.Type == stanza.TypeUnavailable && strings.Contains(st.Inner(), "code='333'") {
			all = append(all, "out")
		}
	}
	return strings.Join(all, " ")
}

// until waits for what somebody is told to end so.
func (w *world) until(who, end string) string {
	w.t.Helper()
	var list []*stanza.Stanza
	for range 5000 {
		if list = append(list, w.take(who)...); strings.HasSuffix(heard(list), end) {
			return heard(list)
		}
		w.ping()
	}
	w.t.Fatalf("%s was told %s", who, heard(list))
	return ""
}

// ping lets the room's loop go once around.
func (w *world) ping() {
	w.send("o@example/0", "<iq type='get' id='p' to='"+hall+"'><ping xmlns='"+xep.NSPing+"'/></iq>")
}

// TestSyncHeldUp: however long a session takes for what it missed, nobody waits for it, and it
// hears all that was said meanwhile, once and in order (S-1, S-3).
func TestSyncHeldUp(t *testing.T) {
	var w *world
	next := make(chan struct{})
	w = newWorld(t, func(c *Config) {
		c.Home = func(jid.JID) bool { return true }
		c.Stream = func(ctx context.Context, to jid.JID, list [][]byte) error {
			<-next
			for _, b := range list {
				st := parseOwn(b)
				w.deliver([]*stanza.Stanza{st})
			}
			return nil
		}
	})
	w.join("o@example/0", "hall", "Owner")
	w.open("o@example/0", "hall")
	w.say("o@example/0", "1")
	w.joinSync("a@example/1", "Ann", "<sync/>")
	w.say("o@example/0", "2")
	w.say("a@example/1", "3")
	if got := heard(w.take("o@example/0")); !strings.HasSuffix(got, "1 2 3") {
		t.Errorf("the others heard %s", got)
	}
	if got := heard(w.take("a@example/1")); got != "" {
		t.Errorf("before it is caught up it heard %s", got)
	}
	next <- struct{}{}
	w.say("o@example/0", "4")
	close(next)
	if got := w.until("a@example/1", "synced true 4"); got != "[1] [2] [3] [4] synced true 4" {
		t.Errorf("it was told %s", got)
	}
	w.say("o@example/0", "5")
	if got := heard(w.take("a@example/1")); got != "5" {
		t.Errorf("then it heard %s", got)
	}
}

// TestSyncBounds: without a wish the newest 500, for another server a page; whose archive can't be sent is out.
func TestSyncBounds(t *testing.T) {
	failing, home := false, true
	var w *world
	w = newWorld(t, func(c *Config) {
		c.Limits.Page = 7
		c.Home = func(jid.JID) bool { return home }
		c.Stream = func(_ context.Context, to jid.JID, list [][]byte) error {
			if failing {
				return errors.New("it has gone")
			}
			for _, b := range list {
				w.deliver([]*stanza.Stanza{parseOwn(b)})
			}
			return nil
		}
	})
	w.join("o@example/0", "hall", "Owner")
	w.open("o@example/0", "hall")
	for i := range syncMessages + 20 {
		w.say("o@example/0", fmt.Sprint(i))
	}
	leave := func() { w.send("a@example/1", "<presence type='unavailable' to='"+hall+"/Ann'/>") }
	w.joinSync("a@example/1", "Ann", "<sync/>")
	if got := w.until("a@example/1", fmt.Sprint("synced false ", syncMessages)); !strings.HasPrefix(got, "[20] [21]") {
		t.Errorf("%.200s", got)
	}
	leave()
	w.joinSync("a@example/1", "Ann", "<sync start='2001-01-01T00:00:00Z'/>")
	w.until("a@example/1", fmt.Sprint("synced true ", syncMessages+20))
	leave()
	home = false
	w.joinSync("a@example/1", "Ann", "<sync max='100000'/>")
	w.until("a@example/1", "synced false 7")
	leave()
	home, failing = true, true
	w.joinSync("a@example/1", "Ann", "<sync/>")
	w.until("a@example/1", "out")
	failing = false
	w.joinSync("a@example/1", "Ann", "<sync max='2'/>")
	w.until("a@example/1", "synced false 2")
	leave()
	w.joinSync("a@example/1", "Ann", "")
	w.say("o@example/0", "last")
	if got := heard(w.take("a@example/1")); got != "last" {
		t.Errorf("without <sync/> it was told %s", got)
	}
	w.open("o@example/0", "hall", "enablelogging", "0")
	leave()
	w.take("a@example/1")
	w.joinSync("a@example/1", "Ann", "<sync/>")
	if got := heard(w.take("a@example/1")); !strings.HasSuffix(got, "last synced false 0") {
		t.Errorf("without an archive it was told %.300s", got)
	}
	w.send("b@example/1", "<presence to='nowhere@rooms.example/B'><x xmlns='"+xep.NSMUC+"'/><join xmlns='"+xep.NSXMPP2+"'/></presence>")
	if got := w.refused("b@example/1"); got != string(stanza.ItemNotFound) {
		t.Errorf("into a room that isn't there: %q", got)
	}
}
