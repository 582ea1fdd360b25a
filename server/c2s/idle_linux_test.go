package c2s

import (
	"bufio"
	"context"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// BenchmarkIdleSession says what a TLS session that does nothing costs: N of
// them (C2S_IDLE, 2000) are logged in from another process, so that this one
// holds the server's side alone. It also says what a login costs.
func BenchmarkIdleSession(b *testing.B) {
	n := 2000
	if s := os.Getenv("C2S_IDLE"); s != "" {
		n, _ = strconv.Atoi(s)
	}
	w := newWorld(b, func(cfg *Config) {
		cfg.Log = quiet()
		cfg.Limits.PerAddress, cfg.Limits.UnauthenticatedPerAddress = 0, 0
	})
	defer w.end(b)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go w.Serve(context.Background(), l, false)
	before := readCosts()
	clients := exec.Command(os.Args[0])
	clients.Env = append(os.Environ(), idleClients+"="+l.Addr().String()+" "+strconv.Itoa(n))
	clients.Stderr = os.Stderr
	in, err := clients.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := clients.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := clients.Start(); err != nil {
		b.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		b.Fatal(line, err)
	}
	after := readCosts()
	per := func(x int64) float64 { return float64(x) / float64(n) }
	b.ReportMetric(per(after.cpu-before.cpu)/1e3, "µs-cpu/login")
	b.ReportMetric(per(after.heap-before.heap), "heap-B/session")
	b.ReportMetric(per(after.stack-before.stack), "stack-B/session")
	b.ReportMetric(per(after.rss-before.rss), "rss-B/session")
	b.ReportMetric(0, "ns/op")
	in.Close()
	clients.Wait()
}

type costs struct{ cpu, heap, stack, rss int64 }

func readCosts() (c costs) {
	var ru syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &ru)
	c.cpu = ru.Utime.Nano() + ru.Stime.Nano()
	for range 6 {
		runtime.GC()
	}
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	c.heap, c.stack = int64(m.HeapAlloc), int64(m.StackInuse)
	status, _ := os.ReadFile("/proc/self/status")
	for _, line := range strings.Split(string(status), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64)
			c.rss = kb << 10
		}
	}
	return c
}
