package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"carillon.im/client"
	"carillon.im/client/account"
	"carillon.im/client/convo"
	"carillon.im/client/convo/sqlstore"
	"carillon.im/cmd/carillon/chat"
	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/server/admin"
	"carillon.im/xep"
)

// loginOptions say which account the client's commands log in to, and how. Each comes from its flag, else from the environment (CARILLON_ACCOUNT,
// CARILLON_SERVER, CARILLON_TRUST), else from the client's file.
type loginOptions struct {
	Account string `toml:"account"`
	Server  string `toml:"server"`
	Trust   string `toml:"trust"`
	Device  string `toml:"device"`
	Data    string `toml:"data"`

	file          string
	passwordStdin bool
}

// addLogin gives cmd the flags of a login. device is what it is called on the account's other devices.
func addLogin(cmd *cobra.Command, device string) *loginOptions {
	o := &loginOptions{}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&o.Account, "account", "", "`JID` to log in as; else $CARILLON_ACCOUNT")
	f.StringVar(&o.Server, "server", "", "`HOST:PORT` of the server, tls://HOST:PORT for TLS from the first byte; else $CARILLON_SERVER, else what DNS says")
	f.StringVar(&o.Trust, "trust", "", "`SHA256` fingerprint of the server's certificate, the only one that is accepted; remembered for the account; else $CARILLON_TRUST")
	f.StringVar(&o.Device, "device", device, "`NAME` of this device: each has its own login and history, and one program at a time")
	f.BoolVar(&o.passwordStdin, "password-stdin", false, "read the password from standard input; needed once, then a token is kept")
	f.StringVar(&o.Data, "data", "", "`DIR` for logins and history; default $XDG_DATA_HOME/carillon or ~/.local/share/carillon")
	f.StringVar(&o.file, "client-config", "", "`FILE` with account, server, trust, device and data; default $XDG_CONFIG_HOME/carillon/client.toml or ~/.config/carillon/client.toml")
	return o
}

// complete fills in what wasn't given as a flag.
func (o *loginOptions) complete(cmd *cobra.Command) error {
	file, asked := o.file, o.file != ""
	if !asked {
		if dir, err := os.UserConfigDir(); err == nil {
			file = filepath.Join(dir, "carillon", "client.toml")
		}
	}
	var kept loginOptions
	document, err := os.ReadFile(file)
	switch {
	case err == nil:
		d := toml.NewDecoder(strings.NewReader(string(document))).DisallowUnknownFields()
		if err := d.Decode(&kept); err != nil {
			if strict, ok := errors.AsType[*toml.StrictMissingError](err); ok {
				return fmt.Errorf("%s: keys are account, server, trust, device and data:\n%s", file, strict.String())
			}
			return fmt.Errorf("%s: %w", file, err)
		}
	case asked || !errors.Is(err, fs.ErrNotExist) && file != "":
		return fmt.Errorf("client's configuration: %w", err)
	}
	first := func(flag string, value *string, others ...string) {
		if cmd.Flags().Changed(flag) {
			return
		}
		for _, other := range others {
			if other != "" {
				*value = other
				return
			}
		}
	}
	first("account", &o.Account, o.Account, os.Getenv("CARILLON_ACCOUNT"), kept.Account)
	first("server", &o.Server, os.Getenv("CARILLON_SERVER"), kept.Server)
	first("trust", &o.Trust, os.Getenv("CARILLON_TRUST"), kept.Trust)
	first("device", &o.Device, kept.Device, o.Device)
	first("data", &o.Data, kept.Data, userData())
	if o.Data == "" {
		return errors.New("there is no home folder: name one for logins and history with --data")
	}
	if o.Device == "" || len(o.Device) > 40 || strings.ContainsFunc(o.Device, func(r rune) bool { return r <= ' ' || r == '/' || r == '~' || r == 0x7f }) {
		return fmt.Errorf("--device %s: wanted a short name such as desk", shellQuote(o.Device))
	}
	return nil
}

// userData is the folder of the person's data (XDG base directories).
func userData() string {
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "carillon")
	}
	if home, err := os.UserHomeDir(); err == nil {
		return filepath.Join(home, ".local", "share", "carillon")
	}
	return ""
}

// login is an account to log in to, with the folder where this device keeps it.
type login struct {
	p       *program
	o       *loginOptions
	account jid.JID
	folder  string
	pin     []byte // SHA-256 of the only certificate; nil: any that an authority vouches for
	cfg     client.Config
}

// certificateFile is where an account's devices keep the certificate that one was told to trust.
const certificateFile = "server.pem"

func (l *login) certificate() string { return filepath.Join(filepath.Dir(l.folder), certificateFile) }

// newLogin checks what was asked for.
func (p *program) newLogin(o *loginOptions) (*login, error) {
	if o.Account == "" {
		return nil, errors.New("as whom? Name an account with --account, in $CARILLON_ACCOUNT, or in the client's file")
	}
	j, err := jid.Parse(o.Account)
	if err != nil || j.Local() == "" || !j.IsBare() {
		return nil, fmt.Errorf("account %s: wanted name@domain", shellQuote(o.Account))
	}
	l := &login{p: p, o: o, account: j, folder: filepath.Join(o.Data, url.PathEscape(j.String()), o.Device)}
	l.cfg = client.Config{Account: j, Resource: o.Device, Store: client.FileStore{Dir: l.folder}, Agent: xep.UserAgent{Software: "carillon", Device: o.Device},
		Node: "https://carillon.im", Identity: xep.Identity{Category: "client", Type: "console", Name: "carillon"}}
	if o.Server != "" {
		a, err := address(o.Server)
		if err != nil {
			return nil, err
		}
		l.cfg.Addresses = []client.Address{a}
	}
	if err := l.trust(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(l.folder, 0o700); err != nil {
		return nil, fmt.Errorf("folder for the login: %w", err)
	}
	return l, nil
}

// address reads --server.
func address(s string) (client.Address, error) {
	a := client.Address{Host: s}
	if rest, ok := strings.CutPrefix(s, "tls://"); ok {
		a = client.Address{Host: rest, TLS: true}
	}
	if _, port, err := net.SplitHostPort(a.Host); err != nil || port == "" {
		return a, fmt.Errorf("--server %s: wanted HOST:PORT, as in localhost:5222, or tls://localhost:5223", shellQuote(s))
	}
	return a, nil
}

// trust finds out which certificate is the only one: that of --trust, or the one that an earlier run was told.
func (l *login) trust() error {
	if l.o.Trust != "" {
		text := strings.NewReplacer(":", "", " ", "").Replace(l.o.Trust)
		pin, err := hex.DecodeString(text)
		if err != nil || len(pin) != sha256.Size {
			return fmt.Errorf("--trust %s: wanted the SHA-256 fingerprint of a certificate, 64 hexadecimal digits", shellQuote(l.o.Trust))
		}
		l.pin = pin
		l.cfg.RootCAs = x509.NewCertPool()
	}
	document, err := os.ReadFile(l.certificate())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("certificate to trust: %w", err)
	}
	block, _ := pem.Decode(document)
	if block == nil {
		return fmt.Errorf("%s is damaged: remove it and use --trust again", l.certificate())
	}
	sum := sha256.Sum256(block.Bytes)
	if l.pin == nil {
		l.pin = sum[:]
	}
	if string(l.pin) == string(sum[:]) {
		return l.accept(block.Bytes)
	}
	return nil
}

// accept makes a certificate the only one that vouches for the server.
func (l *login) accept(der []byte) error {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("certificate to trust: %w", err)
	}
	l.cfg.RootCAs = x509.NewCertPool()
	l.cfg.RootCAs.AddCert(cert)
	return nil
}

// unverified is the certificate that a connection failed for, nil if it was another failure.
func unverified(err error) *x509.Certificate {
	if failed, ok := errors.AsType[*tls.CertificateVerificationError](err); ok && len(failed.UnverifiedCertificates) > 0 {
		return failed.UnverifiedCertificates[0]
	}
	return nil
}

// fingerprint writes a certificate's SHA-256 as the server prints it.
func fingerprint(sum []byte) string {
	var b strings.Builder
	for i, x := range sum {
		if i > 0 {
			b.WriteByte(':')
		}
		fmt.Fprintf(&b, "%02X", x)
	}
	return b.String()
}

// certificateFailed decides about a server whose certificate nobody vouches for: with nil, it is the one to trust, and another attempt will succeed.
func (l *login) certificateFailed(cert *x509.Certificate, cause error) error {
	sum := sha256.Sum256(cert.Raw)
	switch {
	case l.pin == nil && !l.o.passwordStdin && term.IsTerminal(int(l.p.stdin.Fd())):
		fmt.Fprintf(l.p.stderr, "The server's certificate can't be checked: %v\nIts SHA-256 fingerprint is\n  %s\n", rootCause(cause), fingerprint(sum[:]))
		if err := l.p.confirm("Is that what the server shows at its start, so that it is to be trusted from now on?"); err != nil {
			return errors.New("the server's certificate isn't trusted: not logged in")
		}
		l.pin = sum[:]
	case l.pin == nil:
		return fmt.Errorf("the server's certificate can't be checked: %w\nIts SHA-256 fingerprint is\n  %s\nIf that is what the server shows at its start, add\n  --trust %s",
			rootCause(cause), fingerprint(sum[:]), fingerprint(sum[:]))
	case string(l.pin) != string(sum[:]):
		return fmt.Errorf("the server's certificate is not the one to trust. Somebody may be in between; or the server has a new one.\n  trusted  %s\n  shown    %s",
			fingerprint(l.pin), fingerprint(sum[:]))
	case l.known(cert):
		return fmt.Errorf("the certificate with this fingerprint is no good for %s: %w", l.account.Domain(), rootCause(cause))
	}
	if err := os.WriteFile(l.certificate(), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), 0o600); err != nil {
		return fmt.Errorf("remembering the certificate: %w", err)
	}
	return l.accept(cert.Raw)
}

// known reports whether a certificate was accepted, so that what failed is something else.
func (l *login) known(cert *x509.Certificate) bool {
	only := x509.NewCertPool()
	only.AddCert(cert)
	return l.cfg.RootCAs.Equal(only)
}

// rootCause is what is wrong with a certificate, without the way there.
func rootCause(err error) error {
	if failed, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return failed.Err
	}
	return err
}

// start logs in. Without a token of an earlier run, or when the server doesn't take it, the password is asked for. history says that what was said is
// kept; then an account that was logged in to before is returned even while its server can't be reached.
func (l *login) start(ctx context.Context, cfg account.Config, history bool) (*account.Account, error) {
	state, err := l.cfg.Store.Load(ctx, l.account)
	if err != nil {
		return nil, err
	}
	asked := 0
	if state.Token == "" || l.o.passwordStdin {
		if err := l.password(); err != nil {
			return nil, err
		}
		asked = 1
	}
	for {
		cfg.Client = l.configured(cfg.Client)
		if history {
			if cfg.Store, err = l.history(); err != nil {
				return nil, err
			}
		}
		a, err := account.Start(ctx, cfg)
		if err != nil {
			return nil, err
		}
		select {
		case <-a.Settled():
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), a.Close(context.WithoutCancel(ctx)))
		}
		s := a.Status()
		if s.Online {
			return a, nil
		}
		cert, refused := unverified(s.Err), needsPassword(s.Err)
		if cert == nil && !refused && !s.Final && history && state.Token != "" {
			return a, nil
		}
		if err := a.Close(context.WithoutCancel(ctx)); err != nil {
			return nil, err
		}
		switch {
		case cert != nil:
			err = l.certificateFailed(cert, s.Err)
		case refused && asked == 0:
			fmt.Fprintf(l.p.stderr, "The login that was kept is no longer good: the password was changed, or the access of this device was ended.\n")
			asked++
			err = l.password()
		case refused && asked < maxAsked && !l.o.passwordStdin:
			fmt.Fprintf(l.p.stderr, "The password is wrong.\n")
			asked++
			err = l.password()
		case refused:
			err = fmt.Errorf("%s: the password is wrong, or there is no such account", l.account)
		default:
			err = unreachable{l.account, s.Err}
		}
		if err != nil {
			return nil, err
		}
	}
}

// maxAsked is how often the password is asked for.
const maxAsked = 3

// configured is the connection's configuration, with what a command has said of its own.
func (l *login) configured(own client.Config) client.Config {
	c := l.cfg
	c.Quiet, c.Profile = own.Quiet, own.Profile
	return c
}

func (l *login) password() error {
	secret, err := l.p.secret(admin.Arg{Name: "password", Help: "the password"}, l.account.String(), l.o.passwordStdin)
	if err == nil && secret == "" {
		err = errors.New("the password is empty")
	}
	l.cfg.Password = secret
	return err
}

// history opens the file of what was said.
func (l *login) history() (convo.Store, error) {
	s, err := sqlstore.Open(filepath.Join(l.folder, "history.db"))
	if err != nil {
		return nil, fmt.Errorf("%w: if another carillon runs as the device %s, choose another name with --device", err, l.o.Device)
	}
	return s, nil
}

// needsPassword reports whether a login failed for what a password may mend.
func needsPassword(err error) bool {
	refused, ok := errors.AsType[*client.AuthError](err)
	return errors.Is(err, client.ErrNoCredentials) || ok && (refused.Condition == sasl.NotAuthorized || refused.Condition == sasl.CredentialsExpired)
}

// unreachable is the failure to reach a server, which another attempt may not meet.
type unreachable struct {
	account jid.JID
	err     error
}

func (u unreachable) Error() string {
	return fmt.Sprintf("the server of %s can't be used: %s\n--server HOST:PORT names another address", u.account, chat.Reason(u.err))
}

func (u unreachable) Unwrap() error { return u.err }
