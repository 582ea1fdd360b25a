package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"carillon.im/server/c2s"
	"carillon.im/server/config"
)

// stringFlag is a flag that stands for one key of the configuration.
type stringFlag struct {
	name, usage string
	key         func(*config.Config) *string
}

func stringFlags() []stringFlag {
	return []stringFlag{
		{"data", "`DIR` that holds everything the server keeps", func(c *config.Config) *string { return &c.Data }},
		{"c2s", "`ADDR` where clients connect with STARTTLS, or off", func(c *config.Config) *string { return &c.C2S }},
		{"c2s-tls", "`ADDR` where clients connect with direct TLS, or off", func(c *config.Config) *string { return &c.C2STLS }},
		{"s2s", "`ADDR` where other servers connect with STARTTLS, off, or auto: :5269 if a domain is in the public DNS", func(c *config.Config) *string { return &c.S2S }},
		{"s2s-tls", "`ADDR` where other servers connect with direct TLS, off, or auto: :5270 where s2s is on", func(c *config.Config) *string { return &c.S2STLS }},
		{"http", "`ADDR` where health and metrics are served, or off", func(c *config.Config) *string { return &c.HTTP }},
		{"cert", "`FILE` with the certificate chain, PEM; self-signed without one", func(c *config.Config) *string { return &c.Cert }},
		{"key", "`FILE` with its private key, PEM", func(c *config.Config) *string { return &c.Key }},
		{"log-level", "`LEVEL` of what is logged: error, warn, info, debug or trace", func(c *config.Config) *string { return &c.LogLevel }},
		{"log-format", "`FORMAT` of the log: text or json", func(c *config.Config) *string { return &c.LogFormat }},
	}
}

// options are the configuration's flags of one command.
type options struct {
	flags   *pflag.FlagSet
	file    string
	domains []string
	set     []string
}

// addOptions gives cmd the flags of the configuration; all of them, or those that matter to a command which only needs the data.
func addOptions(cmd *cobra.Command, all bool) *options {
	o := &options{flags: cmd.Flags()}
	defaults := config.Default()
	o.flags.SortFlags = false
	o.flags.StringVar(&o.file, "config", "", "`FILE` with the configuration, TOML (see \"carillon config\")")
	for _, f := range stringFlags() {
		if all || f.name == "data" {
			o.flags.String(f.name, *f.key(&defaults), f.usage)
		}
		if f.name == "data" {
			o.flags.StringArrayVar(&o.domains, "domain", defaults.Domains, "`NAME` of a domain that accounts live under; may be repeated")
		}
	}
	o.flags.StringArrayVar(&o.set, "set", nil, "`KEY=VALUE` of the configuration, as in limits.resume_seconds=300; may be repeated")
	return o
}

// load makes the configuration from the defaults, the file and the flags, and checks it.
func (o *options) load() (config.Config, error) {
	c := config.Default()
	if o.file != "" {
		document, err := os.ReadFile(o.file)
		if err != nil {
			return c, fmt.Errorf("configuration: %w", err)
		}
		if err := config.Parse(&c, o.file, document); err != nil {
			return c, err
		}
	}
	for _, assignment := range o.set {
		if err := config.Set(&c, assignment); err != nil {
			return c, err
		}
	}
	for _, f := range stringFlags() {
		if o.flags.Changed(f.name) {
			*f.key(&c) = o.flags.Lookup(f.name).Value.String()
		}
	}
	if o.flags.Changed("domain") {
		c.Domains = o.domains
	}
	return c, c.Check()
}

// repeat returns the flags that another command needs to find the same data, for messages that say what to type.
func (o *options) repeat() string {
	var b strings.Builder
	add := func(name, value string) {
		fmt.Fprintf(&b, " --%s %s", name, shellQuote(value))
	}
	if o.file != "" {
		add("config", o.file)
	}
	if o.flags.Changed("data") {
		add("data", o.flags.Lookup("data").Value.String())
	}
	return b.String()
}

// domainsFile is where the data folder keeps the domains that were served last, for commands that aren't told while no server runs.
const domainsFile = "domains"

func rememberDomains(c config.Config) error {
	return os.WriteFile(filepath.Join(c.Data, domainsFile), []byte(strings.Join(c.Domains, "\n")+"\n"), 0o600)
}

// loadAccounts is load for a command that works on accounts: the domains are those that the data folder's server served, unless they are given.
func (o *options) loadAccounts() (config.Config, error) {
	c, err := o.load()
	if err != nil || o.file != "" || len(o.set) > 0 || o.flags.Changed("domain") {
		return c, err
	}
	served, err := os.ReadFile(filepath.Join(c.Data, domainsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("domains that were served last: %w", err)
	}
	c.Domains = strings.Fields(string(served))
	return c, c.Check()
}

// shellQuote quotes s for a shell if it needs it.
func shellQuote(s string) string {
	plain := strings.IndexFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("@%+=:,./_-", r))
	}) < 0
	if plain && s != "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// commandName is what the user typed for this program, as far as that can be known: "go run" hides it behind a file of its own.
func commandName() string {
	if strings.Contains(os.Args[0], "go-build") {
		return "go run ./cmd/carillon"
	}
	return shellQuote(os.Args[0])
}

// newLogger writes to stderr as configured.
func (p *program) newLogger(c config.Config) *slog.Logger {
	o := &slog.HandlerOptions{
		Level: map[string]slog.Level{
			"error": slog.LevelError, "warn": slog.LevelWarn, "info": slog.LevelInfo, "debug": slog.LevelDebug, "trace": c2s.LevelTrace,
		}[c.LogLevel],
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if level, ok := a.Value.Any().(slog.Level); ok && len(groups) == 0 && a.Key == slog.LevelKey && level == c2s.LevelTrace {
				a.Value = slog.StringValue("TRACE")
			}
			return a
		},
	}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(p.stderr, o))
	}
	return slog.New(slog.NewTextHandler(p.stderr, o))
}
