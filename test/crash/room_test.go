package crash

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/test/xmppclient"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

const (
	hall   = "hall@rooms.localhost"
	inRoom = 20 // messages that a sender has under way: the room takes one after the other
)

// assembly is a room over kills: what its people were told and what they saw.
type assembly struct {
	mu       sync.Mutex
	sent     int
	acked    map[string]bool // messages, by id
	members  []string        // affiliations that the room confirmed
	subjects []string        // that were sent
	subject  int             // the newest that was acknowledged or seen
}

// witness is a device in the room that says nothing and misses nothing: each login enters
// the room behind what the device has (X2-37).
type witness struct {
	name   string
	client *xmppclient.Client
	synced chan xep.Synced

	mu    sync.Mutex
	have  []string // archive ids
	wrong string
}

func (w *witness) see(ev *stream.Event) {
	st := ev.Stanza
	if st == nil || st.Kind != stanza.Message || st.From.Bare() != jid.MustParse(hall) {
		return
	}
	id := st.Child(xep.NSMAM, "result").Attr("id")
	if id == "" && st.Child("urn:xmpp:delay", "delay").IsZero() { // the subject of who enters bears one
		id = st.Child(xep.NSStanzaID, "stanza-id").Attr("id")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if s, ok := xep.ParseSynced(st); ok {
		w.synced <- s
		return
	}
	if id == "" {
		return
	}
	if n := len(w.have); n > 0 && id <= w.have[n-1] {
		w.wrong = "it got " + id + " behind " + w.have[n-1]
	}
	w.have = append(w.have, id)
}

// enter logs in, enters the room and waits until it has caught up.
func (w *witness) enter(p *process) error {
	sync := &xep.Sync{Start: time.Unix(1, 0)}
	w.mu.Lock()
	if n := len(w.have); n > 0 {
		sync = &xep.Sync{After: w.have[n-1]}
	}
	w.mu.Unlock()
	l := &stream.Login{Agent: xep.UserAgent{ID: "d4565fa7-4d72-4749-b3d3-740edbf8777" + w.name[len(w.name)-1:]}, Bind: &xep.Bind2{Tag: w.name, Session: &xep.SessionRequest{
		Parts: []xep.SessionAsk{{Part: xep.SessionJoin, Room: jid.MustParse(hall), Nick: w.name, Sync: sync}}}}}
	nc, cfg, err := p.dial(w.name, w.see)
	if err == nil {
		w.client, _, err = xmppclient.Begin(nc, cfg, l, nil)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", w.name, err)
	}
	select {
	case s := <-w.synced:
		if !s.Complete {
			return fmt.Errorf("%s: %+v", w.name, s)
		}
		return nil
	case <-time.After(20 * time.Second):
		return fmt.Errorf("%s has not caught up", w.name)
	}
}

// TestKillRoom: messages of a room that were acknowledged are in its archive, every device ends
// with the archive's exact sequence, and the room, its affiliations and its subject
// are there after each kill. CARILLON_CRASH_KILLS says how many.
func TestKillRoom(t *testing.T) {
	kills := 4
	if testing.Short() {
		kills = 2
	}
	if n, err := strconv.Atoi(os.Getenv("CARILLON_CRASH_KILLS")); err == nil {
		kills = n
	}
	p := newProcess(t, t.TempDir())
	p.args = []string{"--set", "rooms.user_per_second=0", "--set", "rooms.room_per_second=0", "--set", "rooms.affiliations=100000"}
	witnesses := []*witness{{name: "witness1"}, {name: "witness2"}, {name: "witness3"}}
	for _, w := range witnesses {
		w.synced = make(chan xep.Synced, 1)
		p.addUser(w.name)
	}
	for i := range senders {
		p.addUser("sender" + strconv.Itoa(i))
	}
	a := &assembly{acked: map[string]bool{}, subject: -1}
	p.start()
	a.found(p)
	for k := range kills {
		for _, w := range witnesses {
			if err := w.enter(p); err != nil {
				p.fatal(err)
			}
		}
		var running sync.WaitGroup
		for i := range senders {
			running.Go(func() { a.speak(p, k, i) })
		}
		running.Go(func() { a.rule(p, k) })
		time.Sleep(time.Duration(200+rand.IntN(800)) * time.Millisecond) // the moment is what is random about a crash
		p.kill()
		running.Wait()
		for _, w := range witnesses {
			w.client.Cut()
		}
		p.start()
		a.check(t, p, witnesses)
		if t.Failed() {
			break
		}
	}
	p.stop()
	t.Logf("kills %d, sent %d, acknowledged %d, archived %d, affiliations confirmed %d, subjects %d", kills, a.sent, len(a.acked), len(witnesses[0].have), len(a.members), len(a.subjects))
}

// found makes the room, with what must outlive every kill.
func (a *assembly) found(p *process) {
	c, err := p.login("sender0", "founder", nil)
	if err != nil {
		p.fatal(err)
	}
	defer c.Close()
	err = c.Send("<presence to='"+hall+"/Founder'><x xmlns='"+xep.NSMUC+"'/></presence>",
		"<iq type='set' id='config' to='"+hall+"'><query xmlns='"+xep.NSMUCOwner+"'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>"+xep.NSMUCRoomConfig+
			"</value></field><field var='muc#roomconfig_persistentroom'><value>1</value></field><field var='muc#roomconfig_roomname'><value>The hall</value></field></x></query></iq>",
		"<iq type='set' id='people' to='"+hall+"'><query xmlns='"+xep.NSMUCAdmin+"'><item jid='admin@localhost' affiliation='admin'/><item jid='banned@localhost' affiliation='outcast'/></query></iq>")
	for err == nil {
		var ev *stream.Event
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		ev, err = c.Next(ctx)
		cancel()
		if err == nil && ev.Stanza != nil && ev.Stanza.ID == "people" {
			if ev.Stanza.Type != stanza.TypeResult {
				err = errors.New(xmppclient.XML(ev))
			}
			break
		}
	}
	if err != nil {
		p.fatal(err)
	}
}

// speak says things in the room until the connection breaks.
func (a *assembly) speak(p *process, k, i int) {
	var order []string
	refused := map[string]bool{}
	room := make(chan struct{}, inRoom)
	c, err := p.login("sender"+strconv.Itoa(i), "pen", func(ev *stream.Event) {
		if ev.Stanza != nil && ev.Stanza.Type == stanza.TypeError {
			a.mu.Lock()
			refused[ev.Stanza.ID] = true
			a.mu.Unlock()
		}
	})
	if err != nil {
		return
	}
	defer c.Cut()
	c.OnAcked(func(n int) {
		a.mu.Lock()
		defer a.mu.Unlock()
		for _, id := range order[:n] {
			if id != "" && !refused[id] {
				a.acked[id] = true
			}
			<-room
		}
		order = order[n:]
	})
	if c.EnableSM(false) != nil {
		return
	}
	dead := make(chan struct{})
	go func() {
		c.Next(context.Background())
		close(dead)
	}()
	for n := 0; ; n++ {
		select {
		case room <- struct{}{}:
		case <-dead:
			return
		}
		id, st := "", fmt.Sprintf("<presence to='%s/sender %c'><x xmlns='%s'/></presence>", hall, 'A'+i, xep.NSMUC)
		if n > 0 {
			id = fmt.Sprintf("m-%d-%d-%06d", k, i, n)
			st = "<message type='groupchat' id='" + id + "' to='" + hall + "'><body>" + strings.Repeat("Friends, Romans, countrymen. ", 1+i) + "</body></message>"
		}
		a.mu.Lock()
		order = append(order, id)
		a.sent++
		a.mu.Unlock()
		if c.Send(st) != nil || n%10 == 9 && c.RequestAck() != nil {
			return
		}
	}
}

// rule changes affiliations and subjects until the connection breaks.
func (a *assembly) rule(p *process, k int) {
	next := make(chan struct{}, 1)
	c, err := p.login("sender0", "crown", func(ev *stream.Event) {
		st := ev.Stanza
		if st == nil {
			return
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		if st.Kind == stanza.IQ && st.Type == stanza.TypeResult {
			a.members = append(a.members, st.ID+"@localhost")
			next <- struct{}{}
		}
		if s := st.Child(stanza.NSClient, "subject").Text(); s != "" {
			a.subject = max(a.subject, slices.Index(a.subjects, s))
		}
	})
	if err != nil {
		return
	}
	defer c.Cut()
	dead := make(chan struct{})
	go func() {
		c.Next(context.Background())
		close(dead)
	}()
	if c.Send("<presence to='"+hall+"/crown'><x xmlns='"+xep.NSMUC+"'/></presence>") != nil {
		return
	}
	for n := 0; ; n++ {
		who := fmt.Sprintf("member-%d-%d", k, n)
		subject := fmt.Sprintf("subject %d %d", k, n)
		a.mu.Lock()
		a.subjects = append(a.subjects, subject)
		a.mu.Unlock()
		if c.Send("<message type='groupchat' to='"+hall+"'><subject>"+subject+"</subject></message>",
			"<iq type='set' id='"+who+"' to='"+hall+"'><query xmlns='"+xep.NSMUCAdmin+"'><item jid='"+who+"@localhost' affiliation='member'/></query></iq>") != nil {
			return
		}
		select {
		case <-next:
		case <-dead:
			return
		}
	}
}

// check compares what was told with what is there after a kill. The devices are in the
// room from then on.
func (a *assembly) check(t *testing.T, p *process, witnesses []*witness) {
	for _, w := range witnesses {
		if err := w.enter(p); err != nil {
			p.fatal(err)
		}
	}
	ids, messages, lists, subject := a.read(p)
	a.mu.Lock()
	defer a.mu.Unlock()
	count := map[string]int{}
	for _, id := range messages {
		count[id]++
	}
	for id := range a.acked {
		if count[id] != 1 {
			t.Errorf("%s was acknowledged and is %d times in the archive", id, count[id])
		}
	}
	for _, j := range append(a.members, "admin@localhost", "banned@localhost", "sender0@localhost") {
		if !lists[j] {
			t.Errorf("%s has lost his affiliation", j)
		}
	}
	if at := slices.Index(a.subjects, subject); at < a.subject {
		t.Errorf("the subject is %q, which is older than what was told", subject)
	}
	for _, w := range witnesses {
		w.mu.Lock()
		if w.wrong != "" || !slices.Equal(w.have, ids) {
			t.Errorf("%s has %d messages, the archive %d; %s", w.name, len(w.have), len(ids), w.wrong)
		}
		w.mu.Unlock()
		w.client.Cut()
	}
}

// read reads the room's archive, its lists and its subject.
func (a *assembly) read(p *process) (ids, messages []string, lists map[string]bool, subject string) {
	lists = map[string]bool{}
	pages, answers := make(chan bool, 1), make(chan struct{}, 10)
	c, err := p.login("sender0", "reader", func(ev *stream.Event) {
		st := ev.Stanza
		switch {
		case st == nil:
		case st.ID == "page":
			pages <- st.Payload().Attr("complete") == "true"
		case st.Kind == stanza.IQ:
			for it := range st.Payload().Children() {
				lists[it.Attr("jid")] = true
			}
			answers <- struct{}{}
		default:
			if s := st.Child(stanza.NSClient, "subject"); !s.IsZero() {
				subject = s.Text()
			}
			if r := st.Child(xep.NSMAM, "result"); !r.IsZero() {
				ids = append(ids, r.Attr("id"))
				var m xmltree.Element = r.Child("urn:xmpp:forward:0", "forwarded").Child(stanza.NSClient, "message")
				messages = append(messages, m.Attr("id"))
			}
		}
	})
	if err != nil {
		p.fatal(err)
	}
	defer c.Close()
	if err = c.Send("<presence to='" + hall + "/reader'><x xmlns='" + xep.NSMUC + "'><history maxstanzas='0'/></x></presence>"); err != nil {
		p.fatal(err)
	}
	for _, list := range []string{"owner", "admin", "member", "outcast"} {
		if err := c.Send("<iq type='get' id='" + list + "' to='" + hall + "'><query xmlns='" + xep.NSMUCAdmin + "'><item affiliation='" + list + "'/></query></iq>"); err != nil {
			p.fatal(err)
		}
		<-answers
	}
	for complete, after := false, ""; !complete; {
		if err := c.Send("<iq type='set' id='page' to='" + hall + "'><query xmlns='urn:xmpp:mam:2'><set xmlns='http://jabber.org/protocol/rsm'><max>1000</max>" + after + "</set></query></iq>"); err != nil {
			p.fatal(err)
		}
		select {
		case complete = <-pages:
		case <-time.After(20 * time.Second):
			p.fatal(errors.New("the archive doesn't answer"))
		}
		if len(ids) > 0 {
			after = "<after>" + ids[len(ids)-1] + "</after>"
		}
	}
	return ids, messages, lists, subject
}
