package c2s

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"slices"
	"time"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/xep"
)

// upgrades are the tasks of XEP-0480 that are offered where keys can be added.
var upgrades = [...]struct {
	task string
	hash sasl.Hash
}{{"UPGR-SCRAM-SHA-256", sasl.SHA256}, {"UPGR-SCRAM-SHA-512", sasl.SHA512}}

// taskOf is the task that makes keys of a hash.
func taskOf(h sasl.Hash) string {
	for _, u := range upgrades {
		if u.hash == h {
			return u.task
		}
	}
	return ""
}

// newExchange begins the exchange that the client asked for.
func (c *conn) newExchange() (sasl.Server, error) {
	l := c.login
	if l.request == nil || l.request.Fast == nil {
		return sasl.NewServer(l.mechanism, &l.cfg)
	}
	return sasl.NewTokenServer(l.mechanism, &l.cfg, func(string) ([]string, error) {
		// As for passwords: limited for accounts that exist and for those that don't.
		if !c.srv.guard.accountAllowed(l.account, c.address(), time.Now()) {
			return nil, errThrottled
		}
		var err error
		if l.tokens, err = c.srv.cfg.Clients.Tokens(c.srv.ctx, l.account, l.request.Agent.ID, l.mechanism); err != nil {
			return nil, err
		}
		var secrets []string
		for _, t := range l.tokens {
			secrets = append(secrets, t.Secret)
		}
		return secrets, nil
	})
}

// letIn goes on with a client of SASL2 that has proved who it is; answer is the
// mechanism's last message.
func (c *conn) letIn(out, answer []byte) []byte {
	l := c.login
	if !c.mach.Accepts(l.account) {
		return c.refuse(out, &sasl.Error{Condition: sasl.InvalidAuthzid, Text: "the stream's 'from' is another account"})
	}
	if x, ok := l.exchange.(*sasl.TokenServer); ok {
		if err := c.useToken(x.Token()); err != nil {
			return c.refuse(out, err)
		}
	}
	l.exchange = nil
	if err := c.findUpgrades(); err != nil {
		return c.refuse(out, err)
	}
	return c.proceed(out, answer)
}

// useToken judges a token whose possession was proved, and notes its use.
func (c *conn) useToken(secret string) error {
	l := c.login
	i := slices.IndexFunc(l.tokens, func(t Token) bool { return t.Secret == secret })
	if i < 0 {
		return errors.New("c2s: a token that was not looked up")
	}
	l.token = &l.tokens[i]
	// XEP-0484 4.2. Only the token's owner learns that it has expired.
	now := time.Now()
	if !now.Before(l.token.Expiry) {
		return &sasl.Error{Condition: sasl.CredentialsExpired}
	}
	err := c.srv.cfg.Clients.UseToken(c.srv.ctx, l.account, l.request.Agent.ID, TokenUse{
		Token: *l.token, Count: l.request.Fast.Count, Invalidate: l.request.Fast.Invalidate, At: now,
	})
	if errors.Is(err, ErrTokenUsed) {
		return &sasl.Error{Condition: sasl.NotAuthorized, Err: err}
	}
	return err
}

// findUpgrades lists the tasks that the client wants to do and whose keys aren't
// there. A token's owner may not know the password, and so can't set keys.
func (c *conn) findUpgrades() error {
	l := c.login
	l.upgrades = nil
	if l.token != nil {
		return nil
	}
	for _, u := range upgrades {
		if !slices.Contains(l.request.Upgrades, u.task) {
			continue
		}
		switch _, err := c.srv.cfg.Credentials.Keys(c.srv.ctx, l.account, u.hash); {
		case errors.Is(err, sasl.ErrUnknownUser):
			l.upgrades = append(l.upgrades, u.hash)
		case err != nil:
			return err
		}
	}
	return nil
}

// proceed has the client do its next task, or lets it in.
func (c *conn) proceed(out, answer []byte) []byte {
	if len(c.login.upgrades) > 0 {
		return c.mach.Continue(out, answer, taskOf(c.login.upgrades[0]))
	}
	return c.welcome(out, answer)
}

// task goes on with the client's task (XEP-0480 3).
func (c *conn) task(ev *stream.Event, out []byte) []byte {
	l := c.login
	c.secret = true
	if ev.Kind == stream.Task {
		l.salt = make([]byte, sasl.SaltSize)
		if _, err := io.ReadFull(c.srv.cfg.Rand, l.salt); err != nil {
			return c.refuse(out, err)
		}
		return c.mach.TaskData(out, xep.AppendSCRAMSalt(nil, l.salt, c.srv.cfg.Iterations))
	}
	salted, ok := xep.ParseSCRAMHash(ev.Element)
	if !ok {
		return c.refuse(out, &sasl.Error{Condition: sasl.MalformedRequest, Text: "no hash"})
	}
	keys, err := sasl.SaltedKeys(l.upgrades[0], salted, l.salt, c.srv.cfg.Iterations)
	if err != nil {
		return c.refuse(out, &sasl.Error{Condition: sasl.MalformedRequest, Text: "not a hash", Err: err})
	}
	if err := c.checkKeys(); err != nil {
		return c.refuse(out, err)
	}
	if err := c.srv.cfg.Upgrades.AddKeys(c.srv.ctx, l.account, keys); err != nil {
		return c.refuse(out, err)
	}
	c.log(slog.LevelInfo, "keys added", slog.String("wanted", l.account.String()), slog.String("hash", keys.Hash.String()))
	l.upgrades = l.upgrades[1:]
	return c.proceed(out, nil)
}

// welcome lets the client in and grants what it asked for: to go on with a
// session, or else a new one (XEP-0386 3.2, XEP-0198 9.2).
func (c *conn) welcome(out, answer []byte) []byte {
	l := c.login
	s, r := c.srv, l.request
	s.authenticated(c)
	c.client = c.newClient()
	w := &stream.Welcome{}
	sess, broken := c.resumeInline(w)
	if broken != nil {
		c.endEarly(out, broken)
		return nil
	}
	if sess == nil && r.Bind != nil {
		sess = c.bindInline(w)
	}
	if !c.seen(sess, out) {
		return nil
	}
	w.Token = c.issueToken()
	out = c.mach.Welcome(out, answer, l.account, w)
	if sess == nil {
		c.login = nil
		return out
	}
	c.attach(sess, out, w.Resumed || w.Bound.SM != nil, w.Resumed)
	return nil
}

// newClient is the client that has logged in, if it says which one it is.
func (c *conn) newClient() *Client {
	l := c.login
	r := l.request
	if c.srv.cfg.Clients == nil || r.Agent.ID == "" {
		return nil
	}
	one := &Client{
		ID: r.Agent.ID, Software: r.Agent.Software, Device: r.Agent.Device, Mechanism: l.mechanism, ByToken: l.token != nil, Address: c.addr,
	}
	if r.Bind != nil {
		one.Tag = r.Bind.Tag
	}
	return one
}

// clientID is the id of the client that has logged in, "" if it has none.
func (c *conn) clientID() string {
	if c.client == nil {
		return ""
	}
	return c.client.ID
}

// seen notes the client's login and the session that it has got, nil for none yet. It
// reports false, and has ended all, with out before it, if the client's access was
// revoked while it logged in, or if that can't be found out.
func (c *conn) seen(sess Session, out []byte) bool {
	if c.client == nil {
		return true
	}
	one := *c.client
	one.At = time.Now()
	if sess != nil {
		one.Resource = sess.JID().Resource()
	}
	err := c.srv.cfg.Clients.ClientSeen(c.srv.ctx, c.account(), one)
	if err != nil && !errors.Is(err, ErrTokenUsed) {
		c.log(slog.LevelError, "noting a client", slog.Any("error", err))
	}
	if err == nil || !one.ByToken {
		return true
	}
	if sess != nil {
		sess.Close(c)
	}
	end := stanza.NewStreamError(stanza.StreamInternalServerError, "")
	if errors.Is(err, ErrTokenUsed) {
		end = stanza.NewStreamError(stanza.StreamNotAuthorized, "the client's access was revoked")
	}
	c.endEarly(out, end)
	return false
}

// account is who has logged in.
func (c *conn) account() jid.JID {
	if c.login != nil {
		return c.login.account // the stream doesn't know it yet
	}
	return c.mach.Account()
}

// resumeInline tries the session that the client wants back; nil if there is none, and then it is bound anew (X2-38).
func (c *conn) resumeInline(w *stream.Welcome) (Session, *stanza.StreamError) {
	r := c.login.request.Resume
	switch {
	case r == nil:
		return nil, nil
	case r.Err != nil:
		w.Failed = &xep.SMFailed{Err: r.Err}
		return nil, nil
	}
	sess, res, refused, broken := c.resumeSession(c.login.account, r.ID, r.H)
	switch {
	case broken != nil:
		return nil, broken
	case refused != nil:
		w.Failed = &xep.SMFailed{Err: refused.Err, H: refused.H, Known: refused.Known}
		return nil, nil
	}
	w.Resumed, w.Full, w.H = true, sess.JID(), res.H
	return sess, nil
}

// bindInline makes the session that the client asks for, with all that is to begin
// with it; nil if it can't be had: the client may then ask in the classic way.
func (c *conn) bindInline(w *stream.Welcome) Session {
	s, l := c.srv, c.login
	b := l.request.Bind
	req := BindRequest{
		Account: l.account, Resource: s.resource(l.account, b.Tag, l.request.Agent.ID), Transport: c, Conn: c.ID(), Address: c.addr,
		Client: l.request.Agent.ID, Inline: true, Inactive: b.CSI == xep.CSIInactive,
	}
	switch {
	case b.Session != nil && s.cfg.Sync:
		req.Profile, req.Session = Synced, b.Session
	case b.IMNG:
		req.Profile = IMNG
	case b.Carbons:
		req.Profile = Carbons
	}
	sess, got, err := s.cfg.Accounts.Bind(s.ctx, req)
	if err != nil {
		e := c.asError("binding a resource", err)
		c.log(slog.LevelInfo, "no session", slog.String("wanted", l.account.String()), slog.String("condition", string(e.Condition)))
		return nil
	}
	s.Metrics.Bound.Add(1)
	w.Full = sess.JID()
	w.Bound = &stream.Bound{Carbons: b.Carbons, IMNG: b.IMNG, Refused: b.Refused, Archive: got.Archive, Session: got.Results}
	if b.SM != nil {
		w.Bound.SM, w.Bound.SMFailed = enableInline(sess, b.SM)
	}
	if b.Session != nil && !s.cfg.Sync {
		w.Bound.Session = refused(b.Session)
	}
	return sess
}

// refused answers a session request where there is no such thing.
func refused(req *xep.SessionRequest) []xep.SessionResult {
	results := make([]xep.SessionResult, 0, len(req.Parts))
	for i := range req.Parts {
		ask := &req.Parts[i]
		r := xep.SessionResult{Part: ask.Part, Room: ask.RoomText, Err: ask.Err}
		if r.Err == nil {
			r.Err = stanza.NewError(stanza.FeatureNotImplemented, "")
		}
		results = append(results, r)
	}
	return results
}

// enableInline begins stream management. Nobody asks the session for anything to
// send before it is attached, behind what is written of this.
func enableInline(sess Session, e *xep.SMEnable) (*xep.SMEnabled, *xep.SMFailed) {
	if e.Err != nil {
		return nil, &xep.SMFailed{Err: e.Err}
	}
	id, resumable, window, err := sess.EnableSM(e.Resume, e.Max)
	if err != nil {
		return nil, &xep.SMFailed{Err: err}
	}
	return &xep.SMEnabled{ID: id, Resume: resumable, Max: window}, nil
}

// issueToken makes a token if the client asked for one, or if its own is due to be
// replaced (XEP-0484 3.3, 3.5); nil for none.
func (c *conn) issueToken() *xep.FastToken {
	s, l := c.srv, c.login
	mechanism, now := l.request.TokenFor, time.Now()
	if mechanism == "" && l.token != nil && !l.request.Fast.Invalidate && now.Sub(l.token.Issued) > s.cfg.TokenAge {
		mechanism = l.mechanism
	}
	if mechanism == "" {
		return nil
	}
	var b [32]byte
	_, err := io.ReadFull(s.cfg.Rand, b[:])
	t := Token{Secret: base64.RawURLEncoding.EncodeToString(b[:]), Mechanism: mechanism, Issued: now, Expiry: now.Add(s.cfg.TokenLife).Truncate(time.Second)}
	if err == nil {
		err = s.cfg.Clients.IssueToken(s.ctx, l.account, l.request.Agent.ID, t)
	}
	if err != nil {
		c.log(slog.LevelError, "issuing a token", slog.Any("error", err))
		return nil
	}
	return &xep.FastToken{Token: t.Secret, Expiry: t.Expiry}
}

var resourceEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// resource makes a resource for Bind 2 (XEP-0386 3.2.1): always the same for the
// same client, which it doesn't name, so that its earlier session gives way.
func (s *Server) resource(account jid.JID, tag, client string) string {
	var b [10]byte
	if client != "" {
		w := hmac.New(sha256.New, s.cfg.DummySecret)
		w.Write([]byte("resource\x00" + account.String() + "\x00" + client))
		copy(b[:], w.Sum(nil))
	} else if _, err := io.ReadFull(s.cfg.Rand, b[:]); err != nil {
		panic("c2s: no randomness: " + err.Error())
	}
	own := resourceEncoding.EncodeToString(b[:])
	if full, err := account.WithResource(tag + "/" + own); tag != "" && err == nil {
		return full.Resource()
	}
	return own
}
