package crash

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/test/xmppclient"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// receiver is a device that wants every message, once: it resumes its session
// after each kill, and where that is refused it asks the archive, or catches up by
// a session request.
type receiver struct {
	t        *testing.T
	resource string
	enable   []string // what makes it get messages
	away     bool     // it has lost its connection when the server is killed

	request string // not "": it sends a session request, from its server's cursor ("cursor") or from what it has ("after")
	agent   string
	fresh   bool // it never resumes

	client *xmppclient.Client

	mu   sync.Mutex
	have []string // ids of archived messages, in the order in which they came
	page chan bool

	synced  chan xep.Synced
	repeats int // what it had and got again: with the server's cursor, after a kill
	wrong   string

	resumed, refused, requests int
}

func (r *receiver) see(ev *stream.Event) {
	st := ev.Stanza
	switch {
	case st == nil:
	case st.Kind == stanza.IQ && st.ID == "page":
		r.page <- st.Payload().Attr("complete") == "true"
	case st.Kind == stanza.Message:
		id := st.Child("urn:xmpp:mam:2", "result").Attr("id")
		archived := id != ""
		if id == "" {
			id = st.Child("urn:xmpp:sid:0", "stanza-id").Attr("id")
		}
		if id == "" {
			id = st.Child("urn:xmpp:carbons:2", "received").Child("urn:xmpp:forward:0", "forwarded").Child(stanza.NSClient, "message").
				Child("urn:xmpp:sid:0", "stanza-id").Attr("id")
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if end, ok := xep.ParseSynced(st); ok {
			r.synced <- end
			return
		}
		if n := len(r.have); n > 0 && id <= r.have[n-1] {
			if _, known := slices.BinarySearch(r.have, id); r.request == "cursor" && archived && known {
				r.repeats++
				return
			}
			r.wrong = "it got " + id + " again, or late"
		}
		r.have = append(r.have, id)
	}
}

// begin catches up by a session request, unless the session can be resumed.
func (r *receiver) begin(p *process) error {
	want := &xep.Sync{Max: xep.MaxSyncMessages}
	if r.request == "after" {
		want.After = r.last()
	}
	l := &stream.Login{Agent: xep.UserAgent{ID: r.agent}, Bind: &xep.Bind2{Tag: r.resource, SM: &xep.SMEnable{Resume: true},
		Session: &xep.SessionRequest{Parts: []xep.SessionAsk{{Part: xep.SessionSync, Sync: want}}}}}
	old := r.client
	if r.fresh {
		old = nil
	}
	nc, cfg, err := p.dial("receiver", r.see)
	if err != nil {
		return err
	}
	c, w, err := xmppclient.Begin(nc, cfg, l, old)
	if err != nil {
		return fmt.Errorf("%s: %w", r.resource, err)
	}
	r.client = c
	if w.Resumed {
		r.resumed++
		return nil
	}
	if old != nil {
		r.refused++
	}
	r.requests++
	if w.Bound == nil || w.Bound.SM == nil || len(w.Bound.Session) != 1 || w.Bound.Session[0].Err != nil {
		return fmt.Errorf("%s: %+v", r.resource, w.Bound)
	}
	select {
	case end := <-r.synced:
		if !end.Complete {
			return fmt.Errorf("%s: %+v", r.resource, end)
		}
		return nil
	case <-time.After(20 * time.Second):
		return fmt.Errorf("%s: not synced", r.resource)
	}
}

func (r *receiver) last() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.have) == 0 {
		return ""
	}
	return r.have[len(r.have)-1]
}

// connect resumes the session, or begins another.
func (r *receiver) connect(p *process) error {
	if r.request != "" {
		return r.begin(p)
	}
	if old := r.client; old != nil {
		c, err := p.connect("receiver", r.see)
		if err != nil {
			return err
		}
		err = c.Resume(old, old.Handled())
		var refused *xmppclient.Refused
		if err == nil {
			r.client = c
			r.resumed++
			return nil
		} else if c.Cut(); !errors.As(err, &refused) || refused.Condition != "item-not-found" {
			return fmt.Errorf("resuming %s: %w", r.resource, err)
		}
		r.refused++
	}
	c, err := p.login("receiver", r.resource, r.see)
	if err != nil {
		return err
	}
	r.client = c
	for complete := false; !complete; {
		after := ""
		if id := r.last(); id != "" {
			after = "<after>" + id + "</after>"
		}
		if err := c.Send("<iq type='set' id='page'><query xmlns='urn:xmpp:mam:2'><set xmlns='http://jabber.org/protocol/rsm'><max>1000</max>" + after + "</set></query></iq>"); err != nil {
			return err
		}
		select {
		case complete = <-r.page:
		case <-time.After(20 * time.Second):
			return errors.New("the archive doesn't answer")
		}
	}
	if err := c.EnableSM(true); err != nil {
		return err
	}
	return c.Send(r.enable...)
}

// holds waits until the device has all of the archive, and compares.
func (r *receiver) holds(want []string) error {
	deadline := time.Now().Add(20 * time.Second)
	for {
		r.mu.Lock()
		have, wrong := slices.Clone(r.have), r.wrong
		r.mu.Unlock()
		switch {
		case wrong != "":
			return fmt.Errorf("%s (resumed %d times, refused %d times): %s", r.resource, r.resumed, r.refused, wrong)
		case slices.Equal(have, want):
			return nil
		case len(have) > len(want) || !slices.Equal(have, want[:len(have)]):
			i := 0
			for i < min(len(have), len(want)) && have[i] == want[i] {
				i++
			}
			return fmt.Errorf("%s (resumed %d times, refused %d times) has %d messages, the archive %d; they differ from the %dth on", r.resource, r.resumed, r.refused, len(have), len(want), i+1)
		case time.Now().After(deadline):
			return fmt.Errorf("%s (resumed %d times, refused %d times) has %d of %d messages", r.resource, r.resumed, r.refused, len(have), len(want))
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestResumeOverKills is S-11: after each kill, and after stops in order between
// them, every device that resumes, asks the archive or catches up by session request ends with the archive's
// exact sequence. CARILLON_CRASH_KILLS says how many kills.
func TestResumeOverKills(t *testing.T) {
	kills := 4
	if testing.Short() {
		kills = 2
	}
	if s := os.Getenv("CARILLON_CRASH_KILLS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			t.Fatalf("CARILLON_CRASH_KILLS=%q", s)
		}
		kills = n
	}
	p := newProcess(t, t.TempDir())
	p.addUser("receiver")
	for i := range 2 {
		p.addUser("sender" + strconv.Itoa(i))
	}
	carbons := []string{"<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>", "<presence/>"}
	ng := []string{"<iq type='set' id='ng'><enable xmlns='urn:xmpp:im-ng:0'/></iq>"}
	devices := []*receiver{
		{resource: "away", enable: carbons, away: true},
		{resource: "away-ng", enable: ng, away: true},
		{resource: "busy", enable: carbons},
		{resource: "busy-ng", enable: ng},
		{resource: "cursor-away", request: "cursor", away: true},
		{resource: "cursor-busy", request: "cursor"},
		{resource: "after-away", request: "after", away: true},
		{resource: "cursor-fresh", request: "cursor", fresh: true},
		{resource: "after-fresh", request: "after", fresh: true},
	}
	resumable := 0
	for i, r := range devices {
		r.t, r.page, r.synced, r.agent = t, make(chan bool, 1), make(chan xep.Synced, 1), fmt.Sprintf("00000000-0000-4000-8000-%012d", i)
		if !r.fresh {
			resumable++
		}
	}
	var archive []string
	last := ""
	check := func() {
		p.start()
		for _, r := range devices {
			if err := r.connect(p); err != nil {
				p.fatal(err)
			}
		}
		var err error
		if last, err = p.archive("receiver", last, func(id string, _ xmltree.Element) { archive = append(archive, id) }); err != nil {
			p.fatal(err)
		}
		for _, r := range devices {
			if err := r.holds(archive); err != nil {
				p.fatal(err)
			}
		}
	}
	killed, stopped, outlived := 0, 0, 0 // outlived: sessions that a kill didn't end
	for k := 0; killed < kills || stopped == 0; k++ {
		before := resumptions(devices)
		check()
		if k > 0 && k%3 != 0 { // behind a kill
			outlived += resumptions(devices) - before
		}
		ctx, cancel := context.WithCancel(context.Background())
		var sending sync.WaitGroup
		for i := range 2 {
			sending.Go(func() { flood(ctx, p, i, k) })
		}
		pause := func(ms int) { time.Sleep(time.Duration(rand.IntN(ms)) * time.Millisecond) } // the moment is what is random about a crash
		pause(100)
		for _, r := range devices {
			if r.away {
				r.client.Cut()
			}
		}
		pause(300)
		orderly := k%3 == 2
		if orderly {
			p.stop()
			stopped++
		} else {
			p.kill()
			killed++
		}
		cancel()
		sending.Wait()
		for _, r := range devices {
			r.client.Cut()
		}
		if !orderly {
			continue
		}
		before = resumptions(devices)
		check()
		if n := resumptions(devices) - before; n != resumable {
			t.Errorf("after a stop in order %d of %d sessions were resumed", n, resumable)
		}
		for _, r := range devices {
			r.client.Cut()
		}
		p.stop()
	}
	check()
	p.kill()
	requests := 0
	for _, r := range devices {
		r.client.Cut()
		t.Logf("%s: resumed %d times, refused %d times, session requests %d, got again %d", r.resource, r.resumed, r.refused, r.requests, r.repeats)
		requests += r.requests
	}
	t.Logf("%d sessions outlived a kill", outlived)
	if outlived == 0 {
		t.Error("no session outlived a kill")
	}
	if requests < 2*(killed+stopped) {
		t.Errorf("only %d session requests", requests)
	}
	t.Logf("%d kills, %d stops in order; %d messages, each on every device once, in the archive's order", killed, stopped, len(archive))
}

func resumptions(list []*receiver) (n int) {
	for _, r := range list {
		n += r.resumed
	}
	return n
}

// flood sends messages until the connection breaks.
func flood(ctx context.Context, p *process, i, k int) {
	c, err := p.login("sender"+strconv.Itoa(i), "pen", func(*stream.Event) {})
	if err != nil {
		return // killed before
	}
	defer c.Cut()
	if c.EnableSM(false) != nil {
		return
	}
	for n := 0; ctx.Err() == nil; n++ {
		to := "receiver@localhost"
		if n%7 == 0 {
			to += "/busy" // as a client that locks does
		}
		if c.Send(fmt.Sprintf("<message to='%s' type='chat' id='%d-%d-%d'><body>x</body></message>", to, k, i, n)) != nil {
			return
		}
		if n%50 == 49 {
			if err := c.Settle(ctx); err != nil {
				return
			}
		}
	}
}
