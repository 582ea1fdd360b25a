package c2s

import (
	"bytes"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/xep"
)

// login is what a connection knows until a client is authenticated.
type login struct {
	cfg       sasl.ServerConfig
	exchange  sasl.Server // nil: none is running
	mechanism string
	account   jid.JID // that the client wants to be, zero if it is no name

	keys   sasl.Keys // that the client has to prove to know; none: it shows a token
	looked time.Time // when they were looked up

	request  *stream.Login // of SASL2; nil: the classic profile
	tokens   []Token       // that the client may have
	token    *Token        // that it has
	upgrades []sasl.Hash   // that it has to do, with this salt
	salt     []byte
	begun    int // exchanges
}

// errThrottled makes sasl answer temporary-auth-failure.
var errThrottled = errors.New("c2s: too many failed logins")

// offered are the mechanisms that a client may use now.
func (s *Server) offered(bound bool) []string {
	all := s.mechanisms[bound]
	if s.cfg.Hashes == nil {
		return all
	}
	hashes := s.cfg.Hashes()
	if len(hashes) == 3 {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(name string) bool {
		of, scram := strings.CutPrefix(name, "SCRAM-")
		return scram && !slices.ContainsFunc(hashes, func(h sasl.Hash) bool { return h.String() == strings.TrimSuffix(of, "-PLUS") })
	})
}

// newLogin offers what the TLS connection allows.
func (s *Server) newLogin(c *conn) *login {
	bindings := channelBindings(c.tls, c.sock.leaf)
	l := &login{cfg: sasl.ServerConfig{
		DummySecret:       s.cfg.DummySecret,
		Iterations:        s.cfg.Iterations,
		ProtectAdvertised: true,
		Bindings:          bindings,
		Rand:              s.cfg.Rand,
	}}
	l.cfg.Advertised.Mechanisms = s.offered(len(bindings) > 0)
	if s.cfg.Hashes != nil {
		if hashes := s.cfg.Hashes(); !slices.Contains(hashes, sasl.SHA256) {
			l.cfg.PlainHash = hashes[0]
		}
	}
	for _, b := range bindings {
		l.cfg.Advertised.Bindings = append(l.cfg.Advertised.Bindings, b.Type)
	}
	l.cfg.Prepare = func(authcid string) (string, error) {
		bare, err := jid.New(authcid, c.mach.Domain().Domain(), "")
		l.account = bare
		// With the domain, so that a name without an account looks different at
		// each domain, as one with an account does.
		return bare.String(), err
	}
	l.cfg.Lookup = func(_ string, h sasl.Hash) (sasl.Keys, error) {
		// The limit holds for names that exist and for names that don't: it must
		// not tell them apart.
		if !s.guard.accountAllowed(l.account, c.address(), time.Now()) {
			return sasl.Keys{}, errThrottled
		}
		keys, err := s.cfg.Credentials.Keys(s.ctx, l.account, h)
		l.keys, l.looked = keys, time.Now()
		return keys, err
	}
	return l
}

// auth handles the SASL events; what it has to say is appended to out.
func (c *conn) auth(ev stream.Event, out []byte) []byte {
	l := c.login
	c.secret = true
	switch ev.Kind {
	case stream.AuthAbort:
		l.exchange = nil
		c.srv.Metrics.authFailed(sasl.Aborted)
		return out
	case stream.Auth:
		if !c.srv.guard.addressAllowed(c.address(), time.Now()) {
			return c.refuse(out, &sasl.Error{Condition: sasl.TemporaryAuthFailure, Err: errThrottled})
		}
		l.account, l.mechanism, l.request, l.token, l.keys = jid.JID{}, ev.Name, ev.Login, nil, sasl.Keys{}
		l.begun++
		exchange, err := c.newExchange()
		if err != nil {
			return c.refuse(out, err)
		}
		l.exchange = exchange
	}
	if l.exchange == nil {
		return c.refuse(out, &sasl.Error{Condition: sasl.MalformedRequest})
	}
	answer, done, err := l.exchange.Next(ev.Data)
	if err != nil {
		return c.refuse(out, err)
	}
	if !done {
		return c.mach.Challenge(out, answer)
	}
	if err := checkAuthzid(l.exchange.Authzid(), l.account); err != nil {
		return c.refuse(out, err)
	}
	if err := c.checkKeys(); err != nil {
		return c.refuse(out, err)
	}
	if l.request != nil {
		return c.letIn(out, answer)
	}
	l.exchange = nil
	out, ok := c.mach.Success(out, answer, l.account)
	if !ok {
		c.loginFailed(&sasl.Error{Condition: sasl.InvalidAuthzid})
		return out
	}
	c.srv.authenticated(c)
	c.login = nil
	return out
}

// keysHold is for how long keys that were looked up are taken for those that the
// account has.
const keysHold = time.Second

// checkKeys reports whether what the client has proved to know is still the account's
// password: a client that takes its time must not get in with one that was changed
// meanwhile.
func (c *conn) checkKeys() error {
	l := c.login
	if len(l.keys.StoredKey) == 0 || time.Since(l.looked) < keysHold {
		return nil
	}
	now, err := c.srv.cfg.Credentials.Keys(c.srv.ctx, l.account, l.keys.Hash)
	switch {
	case errors.Is(err, sasl.ErrUnknownUser) || err == nil && !bytes.Equal(now.StoredKey, l.keys.StoredKey):
		return &sasl.Error{Condition: sasl.NotAuthorized}
	case err != nil:
		return err
	}
	l.looked = time.Now()
	return nil
}

// authenticated counts a login that went well.
func (s *Server) authenticated(c *conn) {
	l := c.login
	s.Metrics.Logins.Add(1)
	s.guard.succeeded(l.account, c.address(), time.Now())
	c.mechanism = l.mechanism
	attrs := []slog.Attr{slog.String("mechanism", l.mechanism)}
	if l.request != nil { // the stream doesn't know it yet
		attrs = append(attrs, slog.String("account", l.account.String()))
	}
	c.log(slog.LevelDebug, "authenticated", attrs...)
}

// checkAuthzid: who is authenticated acts as itself (RFC 6120 6.3.8).
func checkAuthzid(authzid string, account jid.JID) error {
	if authzid == "" {
		return nil
	}
	if j, err := jid.Parse(authzid); err != nil || j != account {
		return &sasl.Error{Condition: sasl.InvalidAuthzid}
	}
	return nil
}

// refuse ends the exchange with what err says.
func (c *conn) refuse(out []byte, err error) []byte {
	var e *sasl.Error
	if !errors.As(err, &e) {
		e = &sasl.Error{Condition: sasl.TemporaryAuthFailure, Err: err}
	}
	c.loginFailed(e)
	c.login.exchange, c.login.token, c.login.upgrades = nil, nil, nil
	if errors.Is(e, sasl.ErrTLSUnique) && !c.srv.cfg.StrictBinding {
		// Clients that know no other binding than tls-unique offer it under TLS
		// 1.3 too, and when that fails go on without binding, but with the flag of
		// a client that saw no offer. They did see it.
		c.login.cfg.TolerateUnbound = true
	}
	return c.mach.Failure(out, e.Condition, e.Text)
}

// loginFailed counts and logs a failure. Only wrong credentials count against
// the account: nothing else tells a guesser anything.
func (c *conn) loginFailed(e *sasl.Error) {
	s, now := c.srv, time.Now()
	s.Metrics.authFailed(e.Condition)
	switch {
	case errors.Is(e, errThrottled):
		s.Metrics.Throttled.Add(1)
	case errors.Is(e, sasl.ErrBindingType):
		// Nothing was guessed: it will try again with what was offered.
		c.log(slog.LevelDebug, "login with a channel binding that was not offered", slog.Any("error", e))
		return
	case e.Condition == sasl.CredentialsExpired:
		// The token was right, once.
	case e.Condition == sasl.TemporaryAuthFailure:
		c.log(slog.LevelError, "login failed for a reason of ours", slog.Any("error", e))
		return
	case e.Condition == sasl.NotAuthorized:
		s.guard.failed(c.login.account, c.address(), now)
	default:
		s.guard.failed(jid.JID{}, c.address(), now)
	}
	c.log(slog.LevelInfo, "login failed", slog.String("wanted", c.login.account.String()), slog.Any("error", e))
}

// register answers a stranger's request for an account (XEP-0077 3.1).
func (c *conn) register(st *stanza.Stanza) *stanza.Stanza {
	if el := st.Payload(); el.Is(xep.NSPARS, "preauth") {
		token := strings.Clone(xep.PreauthToken(el))
		if st.Type != stanza.TypeSet {
			return st.ErrorReply(stanza.NewError(stanza.BadRequest, ""))
		}
		now := time.Now()
		if !c.srv.guard.addressAllowed(c.address(), now) {
			c.srv.Metrics.Throttled.Add(1)
			return st.ErrorReply(stanza.NewError(stanza.ResourceConstraint, "too many attempts from this address, try again later"))
		}
		if err := c.srv.cfg.Registrar.Welcome(c.srv.ctx, c.mach.Domain(), token); err != nil {
			e := c.asError("looking at an invitation", err)
			if e.Condition != stanza.InternalServerError {
				c.srv.guard.failed(jid.JID{}, c.address(), now) // it counts as a wrong password
			}
			return st.ErrorReply(e)
		}
		c.invited = token
		c.mach.Welcomed()
		return st.Reply("")
	}
	if st.Type == stanza.TypeSet && !c.srv.guard.registerAllowed(c.address(), time.Now()) {
		c.srv.Metrics.Throttled.Add(1)
		return st.ErrorReply(stanza.NewError(stanza.ResourceConstraint, "too many accounts from this address, try again later"))
	}
	payload, err := c.srv.cfg.Registrar.Answer(c.srv.ctx, c.mach.Domain(), c.invited, st)
	if err != nil {
		return st.ErrorReply(c.asError("registering an account", err))
	}
	return st.Reply(payload)
}
