package admin

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Pages configure Handler.
type Pages struct {
	// Health returns why the server can't do its work, nil if it can. It may be slow: it is asked once a second at most, and given healthTimeout.
	Health func(context.Context) error
	// Sources are read for each scrape of the metrics.
	Sources []Source
	// Profiling opens /debug/pprof/ to requests from this machine. Profiles cost time and tell much: only on demand.
	Profiling bool
	Log       *slog.Logger
}

const (
	healthTimeout = 5 * time.Second
	healthFresh   = time.Second
)

// Handler serves /healthz, which answers 200 or 503 with the reason, /metrics for Prometheus and, if asked for, /debug/pprof/.
func Handler(p Pages) (http.Handler, error) {
	reg := prometheus.NewRegistry()
	for _, c := range []prometheus.Collector{
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		&collector{p.Sources},
	} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{
		ErrorLog:            slog.NewLogLogger(p.Log.Handler(), slog.LevelWarn),
		MaxRequestsInFlight: 4,
	}))
	mux.Handle("GET /healthz", &health{check: p.Health})
	if p.Profiling {
		mux.Handle("/debug/pprof/", localOnly(http.HandlerFunc(pprof.Index)))
		mux.Handle("/debug/pprof/cmdline", localOnly(http.HandlerFunc(pprof.Cmdline)))
		mux.Handle("/debug/pprof/profile", localOnly(http.HandlerFunc(pprof.Profile)))
		mux.Handle("/debug/pprof/symbol", localOnly(http.HandlerFunc(pprof.Symbol)))
		mux.Handle("/debug/pprof/trace", localOnly(http.HandlerFunc(pprof.Trace)))
	}
	return mux, nil
}

// health answers with the last check's outcome while it is fresh, so that asking often costs nothing.
type health struct {
	check func(context.Context) error

	mu  sync.Mutex
	at  time.Time
	err error
}

func (h *health) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if err := h.now(); err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, err.Error()+"\n")
		return
	}
	_, _ = io.WriteString(w, "ok\n")
}

func (h *health) now() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.at) < healthFresh {
		return h.err
	}
	// Not the request's context: others use the outcome too.
	ctx, cancel := context.WithTimeout(context.Background(), healthTimeout)
	defer cancel()
	h.err = h.check(ctx)
	h.at = time.Now()
	return h.err
}

// localOnly refuses requests that do not come from this machine.
func localOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a, err := netip.ParseAddrPort(r.RemoteAddr); err != nil || !a.Addr().Unmap().IsLoopback() {
			http.Error(w, "only from this machine", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}
