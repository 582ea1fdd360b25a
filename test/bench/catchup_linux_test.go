package bench

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/test/xmppclient"
	"carillon.im/xep"
)

// process is the built server.
type process struct {
	bin, data, addr string
	cmd             *exec.Cmd
	log             bytes.Buffer
	keys            xmppclient.Cache
}

func (p *process) start(t *testing.T) {
	t.Helper()
	p.cmd = exec.Command(p.bin, "serve", "--data", p.data, "--c2s", "off", "--c2s-tls", p.addr, "--http", "off", "--log-level", "warn", "--set", "limits.bytes_per_second=0")
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("tcp", p.addr)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the server did not start: %v\n%s", err, &p.log)
		}
	}
}

func (p *process) stop() {
	if p.cmd != nil {
		p.cmd.Process.Signal(syscall.SIGTERM)
		p.cmd.Wait()
		p.cmd = nil
	}
}

func (p *process) dial(t *testing.T, name string, observe func(*stream.Event)) (net.Conn, xmppclient.Config) {
	t.Helper()
	nc, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	return nc, xmppclient.Config{Account: jid.MustParse(name + "@localhost"), Password: "secret", Direct: true, Keys: &p.keys, Observe: observe,
		TLS: &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"}} // self-signed, over loopback
}

// online is a client with presence.
func (p *process) online(t *testing.T, name string, observe func(*stream.Event)) *xmppclient.Client {
	t.Helper()
	c, err := xmppclient.Login(p.dial(t, name, observe))
	if err == nil {
		err = c.Bind("bench")
	}
	if err == nil {
		err = c.Send("<presence/>")
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// memory reads what the server holds: all of it, and without the files that it
// has mapped.
func (p *process) memory(t *testing.T) (rss, anonymous int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	field := func(name string) int {
		_, rest, _ := strings.Cut(string(text), name+":")
		n, err := strconv.Atoi(strings.Fields(rest)[0])
		if err != nil {
			t.Fatal(err)
		}
		return n << 10
	}
	return field("VmRSS"), field("RssAnon")
}

// cpu is the processor time that the server has used.
func (p *process) cpu(t *testing.T) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// chatter is pairs of accounts that write to each other at a fixed rate, and how
// long each message took.
type chatter struct {
	mu   sync.Mutex
	sent map[string]time.Time
	took []time.Duration
}

func (c *chatter) see(ev *stream.Event) {
	if ev.Stanza == nil || ev.Stanza.Kind != stanza.Message {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if at, ok := c.sent[ev.Stanza.ID]; ok {
		c.took = append(c.took, time.Since(at))
		delete(c.sent, ev.Stanza.ID)
	}
}

// run sends rate messages a second until ctx ends, on a timetable: a message's
// time counts from when it is due.
func (c *chatter) run(ctx context.Context, t *testing.T, rate int, pens []*xmppclient.Client, to []string) {
	start := time.Now()
	for n := 0; ; n++ {
		due := start.Add(time.Duration(n) * time.Second / time.Duration(rate))
		select {
		case <-time.After(time.Until(due)):
		case <-ctx.Done():
			return
		}
		id := "c" + strconv.Itoa(n)
		c.mu.Lock()
		c.sent[id] = due
		c.mu.Unlock()
		if err := pens[n%len(pens)].Send("<message to='" + to[n%len(to)] + "@localhost' type='chat' id='" + id + "'><body>Wherefore art thou?</body></message>"); err != nil {
			t.Error(err)
			return
		}
	}
}

// since takes the times noted since the last call, sorted.
func (c *chatter) since() []time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.took
	c.took = nil
	slices.Sort(list)
	return list
}

func quantile(sorted []time.Duration, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return float64(sorted[min(int(q*float64(len(sorted))), len(sorted)-1)].Microseconds()) / 1000
}

// TestCatchUp measures S-3: a device catches up with CARILLON_CATCHUP messages in
// one session request, while others write to each other; what it costs them and
// the server's memory is printed, as a table.
func TestCatchUp(t *testing.T) {
	if addr := os.Getenv(catchUpDevice); addr != "" {
		beDevice(t, addr)
		return
	}
	missed, err := strconv.Atoi(os.Getenv("CARILLON_CATCHUP"))
	if err != nil || missed < 1 {
		t.Skip("a measurement: make catchup")
	}
	const pairs, rate, rounds, quiet = 5, 200, 20, 3 * time.Second
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &process{bin: filepath.Join(t.TempDir(), "carillon"), data: t.TempDir(), addr: l.Addr().String()}
	l.Close()
	if out, err := exec.Command("go", "build", "-o", p.bin, "carillon.im/cmd/carillon").CombinedOutput(); err != nil {
		t.Fatalf("building the server: %v\n%s", err, out)
	}
	names := []string{"alice"}
	for i := range 2 * pairs {
		names = append(names, "p"+strconv.Itoa(i))
	}
	for _, name := range names {
		cmd := exec.Command(p.bin, "user", "add", name+"@localhost", "--password-stdin", "--data", p.data)
		cmd.Stdin = strings.NewReader("secret\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("adding %s: %v\n%s", name, err, out)
		}
	}
	p.start(t)
	defer p.stop()
	p.fill(t, "alice", missed)
	p.stop()
	p.start(t)
	p.fill(t, "p1", 20_000) // until caches are as full as they get
	syscall.Sync()          // what was built and filled isn't written to the disk while others wait for theirs

	c := &chatter{sent: map[string]time.Time{}}
	var pens []*xmppclient.Client
	var to []string
	for i := range pairs {
		pens = append(pens, p.online(t, "p"+strconv.Itoa(2*i), func(*stream.Event) {}))
		to = append(to, "p"+strconv.Itoa(2*i+1))
		defer pens[i].Cut()
		defer p.online(t, to[i], c.see).Cut()
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	running.Go(func() { c.run(ctx, t, rate, pens, to) })
	var fresh, before, during phase
	fresh.watch(t, p, c, func() { time.Sleep(3 * quiet) })
	var took []time.Duration
	for range rounds { // interleaved: what else the machine does is in both
		before.watch(t, p, c, func() { time.Sleep(quiet) })
		during.watch(t, p, c, func() { took = append(took, p.catchUp(t, missed)) })
	}
	slices.Sort(took)
	slices.Sort(before.took)
	slices.Sort(during.took)
	mib := func(n int) float64 { return float64(n) / (1 << 20) }
	fmt.Printf("\n| catch-up of %d messages, %d times | |\n| --- | --- |\n", missed, rounds)
	fmt.Printf("| rows per second, median | %.0f |\n", float64(missed)/took[rounds/2].Seconds())
	fmt.Printf("| server CPU per row, with the others' %d messages/s | %.1f µs |\n", rate, float64(during.cpu.Microseconds())/float64(rounds*missed))
	fmt.Printf("| most resident memory before the first, with it | %.1f, %.1f MiB: +%.1f |\n", mib(fresh.rss), mib(during.rss), mib(during.rss-fresh.rss))
	fmt.Printf("| of that without mapped files | %.1f, %.1f MiB: +%.1f |\n", mib(fresh.anonymous), mib(during.anonymous), mib(during.anonymous-fresh.anonymous))
	fmt.Printf("| others' p50 without it, with it | %.2f, %.2f ms |\n", quantile(before.took, 0.5), quantile(during.took, 0.5))
	fmt.Printf("| others' p99 without it (%d messages), with it (%d) | %.2f, %.2f ms: %.1f times |\n\n", len(before.took), len(during.took),
		quantile(before.took, 0.99), quantile(during.took, 0.99), quantile(during.took, 0.99)/quantile(before.took, 0.99))
}

// phase is what was measured with, or without, a catch-up.
type phase struct {
	rss, anonymous int // the most that was seen
	took           []time.Duration
	cpu            time.Duration
}

// watch measures while do runs.
func (ph *phase) watch(t *testing.T, p *process, c *chatter, do func()) {
	c.since()
	end := make(chan struct{})
	var sampling sync.WaitGroup
	sampling.Go(func() {
		for {
			rss, anonymous := p.memory(t)
			ph.rss, ph.anonymous = max(ph.rss, rss), max(ph.anonymous, anonymous)
			select {
			case <-time.After(5 * time.Millisecond):
			case <-end:
				return
			}
		}
	})
	cpu := p.cpu(t)
	do()
	ph.cpu += p.cpu(t) - cpu
	ph.took = append(ph.took, c.since()...)
	close(end)
	sampling.Wait()
}

// fill gives an account so many archived messages, while a device of its is there.
func (p *process) fill(t *testing.T, name string, count int) {
	t.Helper()
	var got atomic.Int64
	all := make(chan struct{})
	witness := p.online(t, name, func(ev *stream.Event) {
		if ev.Stanza != nil && ev.Stanza.Kind == stanza.Message && int(got.Add(1)) == count {
			close(all)
		}
	})
	defer witness.Cut()
	pen := p.online(t, "p0", func(*stream.Event) {})
	defer pen.Cut()
	for n := range count {
		for n-int(got.Load()) > 500 {
			time.Sleep(time.Millisecond)
		}
		if err := pen.Send("<message to='" + name + "@localhost' type='chat' id='m" + strconv.Itoa(n) + "'><body>It was a bright cold day in April, and the clocks were striking thirteen.</body></message>"); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-all:
	case <-time.After(time.Minute):
		t.Fatalf("%d of %d messages came\n%s", got.Load(), count, &p.log)
	}
}

// catchUpDevice is set, to the server's address, in the process that is the device
// which catches up: what it does with its processor time must not be what the
// others wait for in theirs. So it also has the lowest priority; in life it has a
// machine of its own.
const catchUpDevice = "CARILLON_CATCHUP_DEVICE"

// catchUp has another process catch up with everything, and says how long it took
// from the login until synced.
func (p *process) catchUp(t *testing.T, want int) time.Duration {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run", "^TestCatchUp$")
	cmd.Env = append(os.Environ(), catchUpDevice+"="+p.addr)
	out, err := cmd.CombinedOutput()
	var rows, micros int
	if _, scan := fmt.Sscanf(string(out), "%d %d", &rows, &micros); err != nil || scan != nil || rows != want {
		t.Fatalf("%d rows of %d: %v %v\n%s\n%s", rows, want, err, scan, out, &p.log)
	}
	return time.Duration(micros) * time.Microsecond
}

// beDevice logs in with a session request for everything.
func beDevice(t *testing.T, addr string) {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range threads { // later ones inherit it
		id, err := strconv.Atoi(e.Name())
		if err == nil {
			err = syscall.Setpriority(syscall.PRIO_PROCESS, id, 19)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	p := &process{addr: addr}
	rows, synced := 0, make(chan *stanza.Stanza, 1)
	nc, cfg := p.dial(t, "alice", func(ev *stream.Event) {
		switch {
		case ev.Stanza == nil:
		case !ev.Stanza.Child(xep.NSMAM, "result").IsZero():
			rows++
		case !ev.Stanza.Child(xep.NSXMPP2, "synced").IsZero():
			synced <- ev.Stanza
		}
	})
	start := time.Now()
	c, w, err := xmppclient.Begin(nc, cfg, &stream.Login{Agent: xep.UserAgent{ID: "d4565fa7-4d72-4749-b3d3-740edbf87770"}, Bind: &xep.Bind2{
		SM:      &xep.SMEnable{Resume: true},
		Session: &xep.SessionRequest{Parts: []xep.SessionAsk{{Part: xep.SessionSync, Sync: &xep.Sync{Start: time.Unix(0, 0)}}}},
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Cut()
	if len(w.Bound.Session) != 1 || w.Bound.Session[0].Err != nil {
		t.Fatalf("%+v", w.Bound.Session)
	}
	select {
	case st := <-synced:
		took := time.Since(start)
		if s, _ := xep.ParseSynced(st); s.Count != rows || !s.Complete {
			t.Fatalf("%d rows: %+v", rows, s)
		}
		fmt.Println(rows, took.Microseconds())
	case <-time.After(time.Minute):
		t.Fatal("not synced")
	}
}
