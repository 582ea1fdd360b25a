package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"carillon.im/server"
	"carillon.im/server/admin"
	"carillon.im/server/cert"
	"carillon.im/server/config"
	"carillon.im/server/store"
)

func (p *program) serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:        "serve",
		SuggestFor: []string{"start", "run", "server"},
		Short:      "run the server until Ctrl-C",
		Long: "Runs the server. Without a configuration it serves the domain localhost from ./carillon-data, with a certificate that it makes itself.\n" +
			"Ctrl-C (SIGINT) or SIGTERM stops it in order; the same once more stops it at once. Certificates are read again when their files change.",
		Example: "  carillon serve\n  carillon serve --domain example.org --cert chain.pem --key key.pem\n  carillon serve --config /etc/carillon.toml",
		Args:    cobra.NoArgs,
	}
	o := addOptions(cmd, true)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := o.load()
		if err != nil {
			return err
		}
		return p.serve(cmd.Context(), c, o)
	}
	return cmd
}

// serve runs the server until ctx ends or a signal comes.
func (p *program) serve(ctx context.Context, c config.Config, o *options) error {
	log := p.newLogger(c)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	ended := make(chan struct{})
	defer close(ended)
	var started atomic.Pointer[server.Server]
	// Asked now: of a terminal that is gone, nobody could tell that it was one.
	go watchSignals(signals, term.IsTerminal(int(p.stdin.Fd())), ended, &started, stop, log)

	s, err := server.New(ctx, c, log)
	if err != nil {
		return p.startError(ctx, c, err)
	}
	started.Store(s)
	if err := rememberDomains(c); err != nil {
		log.Warn("commands won't know the domains while the server is stopped", "error", err)
	}
	go func() {
		select {
		case <-s.Ready():
			fmt.Fprint(p.stdout, p.welcome(c, s.Addrs(), s.Certificates(), o.repeat(), haveAccounts(ctx, s.Host(), log)))
			notifySystemd("READY=1", log)
		case <-ended:
		}
	}()
	if err := s.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return p.startError(ctx, c, err)
	}
	return nil
}

// watchSignals stops the server at the first signal and the process at the second. SIGHUP reads the certificates again; at a terminal it says that the
// terminal was closed, which takes its programs with it.
func watchSignals(signals <-chan os.Signal, atTerminal bool, ended <-chan struct{}, started *atomic.Pointer[server.Server], stop func(), log *slog.Logger) {
	stopping := false
	for {
		select {
		case <-ended:
			return
		case sig := <-signals:
			if sig == syscall.SIGHUP && !atTerminal {
				log.Info("SIGHUP: reading certificates again; a changed configuration needs a restart")
				if s := started.Load(); s != nil {
					_ = s.ReloadCertificates() // logged there
				}
				continue
			}
			if stopping {
				log.Error("stopped by a second signal, not in order")
				os.Exit(1)
			}
			stopping = true
			log.Info("stopping; the same signal again stops at once", "signal", sig.String())
			notifySystemd("STOPPING=1", log)
			stop()
		}
	}
}

// notifySystemd tells the service manager how far the server is, if there is one (sd_notify(3)).
func notifySystemd(state string, log *slog.Logger) {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return
	}
	if name[0] == '@' { // an abstract socket
		name = "\x00" + name[1:]
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err == nil {
		_, err = conn.Write([]byte(state))
		err = errors.Join(err, conn.Close())
	}
	if err != nil {
		log.Warn("telling systemd failed", "state", state, "error", err)
	}
}

// startError says what to do about the usual reasons for not starting.
func (p *program) startError(ctx context.Context, c config.Config, err error) error {
	switch {
	case errors.Is(err, store.ErrLocked):
		if _, status, connectErr := admin.Connect(ctx, c.Data); connectErr == nil {
			return fmt.Errorf("a server runs on the data folder %s already, as process %d: stop it, or choose another folder with --data", absolute(c.Data), status.PID)
		}
		return fmt.Errorf("%w: wait until it ends, or choose another folder with --data", dataError(c.Data, err))
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w: another program listens there; stop it, or choose another address with %s (\"off\" for none)", err, listenerFlag(c, err))
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%w: this machine has no such address; choose another with %s", err, listenerFlag(c, err))
	case errors.Is(err, fs.ErrPermission):
		if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "listen" {
			return fmt.Errorf("%w: ports below 1024 are for root; choose another with %s", err, listenerFlag(c, err))
		}
		return fmt.Errorf("%w: run this as the owner, or choose another folder with --data", err)
	}
	return err
}

// listenerFlag names the flag of the listener that err is about.
func listenerFlag(c config.Config, err error) string {
	op, ok := errors.AsType[*net.OpError](err)
	if ok && op.Addr != nil {
		_, failed, _ := net.SplitHostPort(op.Addr.String())
		for _, l := range c.Listeners() {
			if _, port, _ := net.SplitHostPort(l.Address); port == failed && port != "" {
				if l.Key == "component" {
					return "--set component=HOST:PORT"
				}
				return "--" + strings.ReplaceAll(l.Key, "_", "-")
			}
		}
	}
	return "--c2s, --c2s-tls or --http"
}

// welcome is what a person needs to know of a server that has just started. addrs are the addresses in use by configuration key; flags are those that
// other commands need to find this server; accounts tells that there are some.
func (p *program) welcome(c config.Config, addrs map[string]string, certs []cert.Info, flags string, accounts bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "carillon serves %s\n", strings.Join(c.Domains, ", "))
	for _, l := range c.Listeners() {
		if addr := addrs[l.Key]; addr != "" {
			fmt.Fprintf(&b, "  %-12s %s (%s)\n", "listens on", addr, l.What)
		}
	}
	fmt.Fprintf(&b, "  %-12s %s\n", "data in", absolute(c.Data))
	selfSigned := false
	for _, i := range certs {
		if i.SelfSigned {
			selfSigned = true
			fmt.Fprintf(&b, "  %-12s self-signed, fingerprints\n  %-12s SHA-256 %s\n  %-12s SHA-1 %s\n", "certificate", "", i.SHA256, "", i.SHA1)
		} else {
			fmt.Fprintf(&b, "  %-12s %s, until %s\n", "certificate", i.Cert, i.NotAfter.Format("2006-01-02"))
		}
	}
	if accounts {
		// Who starts it again knows the rest.
		fmt.Fprintf(&b, "\nThere are accounts: \"%s user list%s\" shows them.\n", p.name, flags)
	} else {
		p.firstSteps(&b, c, portOf(addrs["c2s"]), flags, selfSigned)
	}
	b.WriteString("Ctrl-C stops the server.\n")
	return b.String()
}

// firstSteps says how to make an account and log in. port is where clients connect, "" if there is none for STARTTLS.
func (p *program) firstSteps(b *strings.Builder, c config.Config, port, flags string, selfSigned bool) {
	name := "romeo@" + c.Domains[0]
	fmt.Fprintf(b, "\nMake an account, in another terminal:\n  %s user add %s%s\n", p.name, name, flags)
	if port != "" {
		fmt.Fprintf(b, "Then log in with any XMPP client as %s", name)
		if c.Domains[0] != "localhost" || port != "5222" {
			fmt.Fprintf(b, " (server: this machine, port %s)", port)
		}
		b.WriteString(".\n")
	}
	if selfSigned {
		b.WriteString("Clients will ask whether to trust the certificate: compare the fingerprint.\n")
	}
}

// haveAccounts reports whether there is an account under one of the server's domains.
func haveAccounts(ctx context.Context, h *admin.Host, log *slog.Logger) bool {
	for _, domain := range h.Domains {
		for _, err := range h.Store.Accounts(ctx, domain) {
			if err != nil {
				log.Warn("looking for accounts failed", "error", err)
			}
			return err == nil
		}
	}
	return false
}

func portOf(addr string) string {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return ""
	}
	return port
}
