package s2s

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"carillon.im/jid"
	"carillon.im/sm"
	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/xmltree"
)

// serve serves an incoming stream until the end of its connection.
func (c *conn) serve(direct bool) {
	defer close(c.done)
	defer c.over()
	defer c.leave()
	defer c.guard()
	c.raw.SetReadDeadline(time.Now().Add(c.srv.cfg.Limits.EarlyTime))
	if c.direct = direct; direct {
		if err := c.startTLS(); err != nil {
			c.log(slog.LevelInfo, "TLS failed", slog.Any("error", err))
			return
		}
	}
	c.read()
}

// run serves an outgoing stream, or what is left of it after its negotiation.
func (c *conn) run() {
	defer close(c.done)
	defer c.over()
	defer c.leave()
	defer c.guard()
	c.read()
}

// read is the reader's loop. Behind the end of our own stream it goes on: what is
// on its way from a peer that has done nothing wrong is taken, its last
// acknowledgement above all (RFC 6120 4.4).
func (c *conn) read() {
	for {
		tok, err := c.next()
		c.mu.Lock()
		e := c.ending
		c.mu.Unlock()
		switch {
		case e != nil && !e.drains():
			c.drop()
			return
		case err != nil:
			c.broke(err)
			return
		}
		switch tok.Kind {
		case xmltree.StreamStart:
			c.accept(tok)
		case xmltree.Unit:
			c.unit(tok.Element)
		case xmltree.StreamEnd:
			c.closed = c.reason == nil
			c.close()
			return
		}
	}
}

// close answers the end of the peer's stream with that of ours, and waits until it
// is written.
func (c *conn) close() {
	c.mu.Lock()
	first, alone := c.ending == nil, c.wake == nil
	c.mu.Unlock()
	c.end(nil)
	switch {
	case !first:
	case alone:
		c.finish()
	default:
		c.drop()
	}
}

// broke ends a stream for an error of next.
func (c *conn) broke(err error) {
	if e, ok := errors.AsType[*stanza.StreamError](err); ok {
		c.fail(e)
		c.drop()
	} else if c.reason == nil {
		if !isClosed(err) {
			c.log(slog.LevelDebug, "connection lost", slog.Any("error", err))
		}
		c.reason = fmt.Errorf("the connection broke: %w", err)
	}
}

// leave takes the stream from its way, and keeps its session if it can be resumed.
func (c *conn) leave() {
	c.raw.Close()
	c.mu.Lock()
	x, w, e := c.session, c.carries, c.ending
	c.mu.Unlock()
	resumable := x != nil && x.id != "" && !c.closed && e == nil
	// The session is this stream's until its way is without it: who resumes it waits for
	// that, and would be refused by a way that another stream still carries.
	if w != nil {
		w.detach(c, !resumable, c.closed, c.reason)
		c.srv.disband(c, w)
	}
	if x != nil && !c.outgoing {
		c.srv.mu.Lock()
		if x.conn == c {
			if x.conn = nil; resumable {
				x.until = time.Now().Add(c.srv.cfg.Limits.Resume)
			} else {
				delete(c.srv.sessions, x.id)
			}
		}
		c.srv.mu.Unlock()
	}
	if c.authed {
		c.log(slog.LevelInfo, "stream with another server ended")
	}
}

// accept checks a peer's header and answers it (RFC 6120 4.7, 4.9.1.2).
func (c *conn) accept(tok xmltree.Token) {
	el := tok.Element
	if c.outgoing || c.opened {
		c.fail(stanza.NewStreamError(stanza.StreamInvalidXML, "a second header"))
		return
	}
	c.opened, c.space, c.id = true, tok.DefaultSpace, c.srv.newID()
	from, to, e := c.readHeader(el, tok.DefaultSpace)
	c.local, c.remote = to, from
	if c.open() != nil || e != nil {
		if e != nil {
			c.fail(e)
		}
		return
	}
	if c.secure {
		c.proveClient()
	}
	c.say(c.features(el.Attr("version") != ""))
}

// readHeader judges the addresses of a header.
func (c *conn) readHeader(el xmltree.Element, space string) (from, to string, e *stanza.StreamError) {
	switch {
	case !el.Is(stanza.NSStreams, "stream"):
		return "", "", stanza.NewStreamError(stanza.StreamInvalidNamespace, "not a stream")
	case space != nsServer:
		return "", "", stanza.NewStreamError(stanza.StreamInvalidNamespace, "this port is for "+nsServer)
	}
	if raw := el.Attr("to"); raw != "" {
		j, err := jid.Parse(raw)
		if err != nil || !j.IsDomain() || !c.srv.domains[j.Domain()] {
			return "", "", stanza.NewStreamError(stanza.StreamHostUnknown, "")
		}
		to = strings.Clone(j.Domain())
	} else {
		return "", "", stanza.NewStreamError(stanza.StreamImproperAddressing, "")
	}
	if raw := el.Attr("from"); raw != "" {
		j, err := jid.Parse(raw)
		switch {
		case err != nil || !j.IsDomain():
			return "", to, stanza.NewStreamError(stanza.StreamInvalidFrom, "")
		case c.srv.domains[j.Domain()]:
			// RFC 6120 4.9.3.9: nobody else is one of ours.
			return "", to, stanza.NewStreamError(stanza.StreamInvalidFrom, "that domain is this server's own")
		case c.srv.policy(j.Domain()) == Deny:
			return j.Domain(), to, stanza.NewStreamError(stanza.StreamPolicyViolation, "this server exchanges nothing with "+j.Domain())
		}
		from = strings.Clone(j.Domain())
	}
	if c.authed && (from != c.remote || to != c.local) {
		return c.remote, c.local, stanza.NewStreamError(stanza.StreamInvalidFrom, "it was another before") // RFC 6120 4.7.1
	}
	return from, to, nil
}

// proveClient finds out what the certificate of a server that connected proves.
func (c *conn) proveClient() {
	if c.proof == ByPKIX || c.proof == ByDANE || c.remote == "" {
		return
	}
	policy := c.srv.policy(c.remote)
	c.proof = NoProof
	if len(c.chain) == 0 {
		c.doubt = errors.New("it shows no certificate")
		return
	}
	if policy != DANE {
		if c.doubt = checkPKIX(c.chain, c.remote, nil, c.srv.cfg.Roots, time.Now()); c.doubt == nil {
			c.proof = ByPKIX
			return
		}
	}
	if !policy.usesDANE() || !c.srv.cfg.Resolver.Validates() {
		return
	}
	// RFC 7712 5.1: the keys of its own servers are what it may show.
	ctx, cancel := context.WithTimeout(c.srv.ctx, c.srv.cfg.Limits.EarlyTime)
	defer cancel()
	targets, err := c.srv.cfg.Resolver.Targets(ctx, c.remote)
	if err != nil {
		return
	}
	for _, t := range targets {
		if !t.Secure && t.Host != asciiName(c.remote) {
			continue
		}
		records, err := c.srv.cfg.Resolver.TLSA(ctx, t.Host, t.Port)
		if err == nil && len(records) > 0 && checkDANE(c.chain, records, c.remote, []string{t.Host}, c.srv.cfg.Roots, time.Now()) == nil {
			c.proof, c.doubt = ByDANE, nil
			return
		}
	}
}

// features are what is offered in the stream's state (RFC 6120 4.3.2); a peer from
// before that has none.
func (c *conn) features(versioned bool) string {
	if !versioned {
		return ""
	}
	out := "<stream:features>"
	if !c.secure {
		return out + "<starttls xmlns='" + stream.NSTLS + "'><required/></starttls></stream:features>"
	}
	if !c.authed && c.external() {
		out += "<mechanisms xmlns='" + stream.NSSASL + "'><mechanism>EXTERNAL</mechanism></mechanisms>"
	}
	if !c.authed {
		out += "<bidi xmlns='" + nsBidiFeature + "'/>"
	}
	return out + "<dialback xmlns='" + nsDialbackFeature + "'><errors/></dialback><sm xmlns='" + sm.NS + "'/>" + c.limits() + "</stream:features>"
}

// external reports whether the peer's certificate lets it in.
func (c *conn) external() bool {
	return (c.proof == ByPKIX || c.proof == ByDANE) && c.srv.policy(c.remote).accepts(c.proof)
}

// unit handles one first-level element.
func (c *conn) unit(el xmltree.Element) {
	switch {
	case el.Is(stanza.NSStreams, "error"):
		c.reason = peerError(el)
		c.refused = refusal(el)
		c.log(slog.LevelInfo, "another server ended its stream", slog.Any("error", c.reason))
	case !c.secure:
		c.unitInTheClear(el)
	case el.Space() == stream.NSSASL:
		c.sasl(el)
	case el.Is(nsBidi, "bidi") && !c.outgoing && !c.authed:
		c.longest = readLimits(el)
		c.mu.Lock()
		c.bidi = true
		c.mu.Unlock()
	case el.Space() == nsDialback:
		c.dialback(el)
	case el.Space() == sm.NS:
		c.management(el)
	case el.Space() == nsServer:
		c.stanza(el)
	default:
		c.fail(stanza.NewStreamError(stanza.StreamUnsupportedStanzaType, ""))
	}
}

// refusal reports whether a stream error can be about a single stanza.
func refusal(el xmltree.Element) bool {
	for _, condition := range [...]string{
		stanza.StreamBadFormat, stanza.StreamBadNamespacePrefix, stanza.StreamImproperAddressing, stanza.StreamInternalServerError, stanza.StreamInvalidNamespace,
		stanza.StreamInvalidXML, stanza.StreamNotWellFormed, stanza.StreamPolicyViolation, stanza.StreamRestrictedXML, stanza.StreamUndefinedCondition,
		stanza.StreamUnsupportedStanzaType,
	} {
		if !el.Child(stanza.NSStreamErrors, condition).IsZero() {
			return true
		}
	}
	return false
}

// unitInTheClear: before TLS nothing but TLS is taken (RFC 7590 3.1).
func (c *conn) unitInTheClear(el xmltree.Element) {
	if !el.Is(stream.NSTLS, "starttls") {
		c.fail(stanza.NewStreamError(stanza.StreamPolicyViolation, "TLS is required"))
		return
	}
	if len(c.in) > 0 {
		c.say("<failure xmlns='" + stream.NSTLS + "'/>") // RFC 6120 5.4.2.2
		c.fail(stanza.NewStreamError(stanza.StreamPolicyViolation, "data behind the request for TLS"))
		return
	}
	c.say("<proceed xmlns='" + stream.NSTLS + "'/>")
	if err := c.startTLS(); err != nil {
		c.log(slog.LevelInfo, "TLS failed", slog.Any("error", err))
		c.raw.Close()
		return
	}
	c.restart()
}

// sasl is EXTERNAL (RFC 6120 6, XEP-0178 3).
func (c *conn) sasl(el xmltree.Element) {
	failure := ""
	switch {
	case c.outgoing || c.authed:
		c.fail(stanza.NewStreamError(stanza.StreamPolicyViolation, "authenticated already"))
		return
	case !el.Is(stream.NSSASL, "auth"):
		failure = "malformed-request"
	case el.Attr("mechanism") != "EXTERNAL":
		failure = "invalid-mechanism"
	case c.remote == "" || !c.external():
		failure = "not-authorized"
	default:
		failure = c.authzid(strings.TrimSpace(el.Text()))
	}
	if failure != "" {
		c.srv.Metrics.AuthFailures.Add(1)
		attrs := []slog.Attr{slog.String("condition", failure)}
		if c.doubt != nil {
			attrs = append(attrs, slog.Any("error", c.doubt))
		}
		c.log(slog.LevelInfo, "EXTERNAL is refused", attrs...)
		c.say("<failure xmlns='" + stream.NSSASL + "'><" + failure + "/></failure>")
		c.failed(stanza.NewStreamError(stanza.StreamNotAuthorized, "")) // XEP-0178 3: once is enough
		return
	}
	c.say("<success xmlns='" + stream.NSSASL + "'/>")
	c.restart()
	c.admit(pair{c.local, c.remote}, "EXTERNAL")
}

// authzid checks whom a peer wants to be: the domain of its header.
func (c *conn) authzid(text string) (failure string) {
	if text == "" || text == "=" {
		return ""
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return "incorrect-encoding"
	}
	if j, err := jid.Parse(string(b)); err != nil || !j.IsDomain() || j.Domain() != c.remote {
		return "invalid-authzid"
	}
	return ""
}

// admit lets stanzas of a pair in. With XEP-0288 the way back may use the stream.
func (c *conn) admit(p pair, how string) {
	c.authed = true
	c.scan.SetLimits(c.srv.cfg.Limits.Stanza)
	c.allow(p, how)
	c.srv.reached(p.remote)
	c.openTo(p.remote)
	c.log(slog.LevelInfo, "stream from another server", slog.String("proved", p.remote), slog.String("security", c.security(p)))
}

// lend gives the stream to the way back (XEP-0288), once the peer has begun to use
// it: then it is clear whether it counts stanzas.
func (c *conn) lend() {
	p := pair{c.local, c.remote}
	c.mu.Lock()
	_, proved := c.pairs[p]
	lent := c.lent || !c.bidi || c.outgoing || !proved
	c.lent = true
	c.mu.Unlock()
	if lent {
		return
	}
	c.srv.mu.Lock()
	w := c.srv.ways[p]
	if w == nil && len(c.srv.ways) < c.srv.cfg.Limits.Ways && !c.srv.closing {
		w = c.srv.newWay(p)
		c.srv.ways[p] = w
	}
	c.srv.mu.Unlock()
	if w != nil && w.pair == p { // and rides on no other one's stream
		w.attach(c, false)
	}
}

// stanza hands on what the peer sends. Its elements become those of jabber:client,
// as all are inside.
func (c *conn) stanza(el xmltree.Element) {
	raw := el.AppendTo(nil, nsServer)
	// It has passed the limits; its canonical form need not.
	st, err := stanza.ParseBytes(raw, xmltree.Limits{MaxBytes: len(raw) + 1, MaxDepth: 1 << 14, MaxAttrs: 1 << 16, MaxChildren: 1 << 24, MaxNamespaces: 1 << 20})
	switch {
	case st == nil:
		c.fail(stanza.NewStreamError(stanza.StreamUnsupportedStanzaType, ""))
		return
	case !c.authed:
		c.fail(stanza.NewStreamError(stanza.StreamNotAuthorized, "")) // RFC 6120 4.9.3.12
		return
	case el.Attr("from") == "" || el.Attr("to") == "" || st.From.IsZero() || st.To.IsZero():
		c.fail(stanza.NewStreamError(stanza.StreamImproperAddressing, "a stanza needs both from and to")) // RFC 6120 8.1.1.2, 8.1.2.2
		return
	case !c.may(pair{st.To.Domain(), st.From.Domain()}):
		c.foreign(st)
		return
	}
	c.lend()
	c.handle(st, err)
}

// handle gives a stanza to the accounts, and counts it.
func (c *conn) handle(st *stanza.Stanza, malformed error) {
	c.handling.Lock()
	defer c.handling.Unlock()
	if c.deaf {
		return // it isn't counted, so it comes again
	}
	c.srv.Metrics.StanzasIn.Add(1)
	if malformed != nil {
		e, _ := stanza.AsError(malformed)
		if r := st.ErrorReply(e); r != nil {
			c.srv.Send(r)
		}
	} else if !c.srv.answered(st) && c.srv.cfg.Receive(c.srv.ctx, st) != nil {
		c.deaf = true // the server stops, and says so in a moment
		return
	}
	c.mu.Lock()
	c.used = time.Now()
	if c.session != nil {
		c.session.in.Add(1)
	}
	c.mu.Unlock()
}

// foreign ends the stream for a stanza with addresses that it doesn't speak for.
func (c *conn) foreign(st *stanza.Stanza) {
	c.srv.Metrics.ForeignStanzas.Add(1)
	if !c.srv.domains[st.To.Domain()] {
		c.fail(stanza.NewStreamError(stanza.StreamHostUnknown, ""))
		return
	}
	c.fail(stanza.NewStreamError(stanza.StreamInvalidFrom, "")) // RFC 6120 4.9.3.9
}
