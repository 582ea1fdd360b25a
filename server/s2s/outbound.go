package s2s

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"carillon.im/server/s2s/lookup"
	"carillon.im/sm"
	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/xmltree"
)

// connect makes a stream for a pair on which stanzas may be sent. With no way it
// is for a dialback key alone: the other server has proved its domain, we have not
// proved ours.
func (s *Server) connect(ctx context.Context, p pair, w *way) (*conn, error) {
	ctx, cancel := s.connectContext(ctx)
	defer cancel()
	targets, err := s.cfg.Resolver.Targets(ctx, p.remote)
	if err != nil {
		return nil, err
	}
	for _, t := range targets {
		var c *conn
		if c, err = s.connectTo(ctx, p, t, w); err == nil {
			return c, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("no stream in %v: %w", s.cfg.Limits.ConnectTime, err)
	}
	return nil, err
}

// connectTo tries one target.
func (s *Server) connectTo(ctx context.Context, p pair, t lookup.Target, w *way) (*conn, error) {
	c, err := s.reach(ctx, p, t)
	if err != nil {
		return nil, err
	}
	// Whoever waits is not kept waiting by a peer that says nothing.
	stop := context.AfterFunc(ctx, func() { c.raw.Close() })
	err = c.negotiate(ctx, t, w)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		if e, ok := errors.AsType[*stanza.StreamError](err); ok && c.secure {
			c.end(e)
		} else {
			c.end(nil)
		}
		c.finish()
		c.raw.Close()
		return nil, fmt.Errorf("%s: %w", t.Address(), err)
	}
	return c, nil
}

// reach connects to one target.
func (s *Server) reach(ctx context.Context, p pair, t lookup.Target) (*conn, error) {
	addrs, err := s.cfg.Resolver.Addresses(ctx, t.Host)
	if err != nil {
		return nil, err
	}
	nc, err := dial(ctx, addrs, t.Port)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.Address(), err)
	}
	c := newConn(s, nc)
	c.outgoing, c.local, c.remote, c.direct = true, p.local, p.remote, t.Direct
	return c, nil
}

// attemptEvery is how long one address has before the next is tried beside it
// (RFC 8305 5).
const attemptEvery = 250 * time.Millisecond

// dial connects to the first of the addresses that answers (RFC 8305).
func dial(ctx context.Context, addrs []netip.Addr, port uint16) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		nc  net.Conn
		err error
	}
	results := make(chan result, len(addrs))
	started, ended := 0, 0
	start := func() {
		addr := netip.AddrPortFrom(addrs[started], port).String()
		started++
		go func() {
			nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
			results <- result{nc, err}
		}()
	}
	err := errors.New("no address")
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ended < len(addrs) {
		select {
		case <-timer.C:
			if started < len(addrs) {
				start()
				timer.Reset(attemptEvery)
			}
		case r := <-results:
			if r.err == nil {
				go func() { // the others, which cancel breaks off
					for range started - ended - 1 {
						if late := <-results; late.nc != nil {
							late.nc.Close()
						}
					}
				}()
				return r.nc, nil
			}
			ended++
			err = r.err
			timer.Reset(0)
		}
	}
	return nil, err
}

// offered is what a server's features say.
type offered struct {
	startTLS, external, dialback, bidi, management bool
	shares                                         sharing
	longest                                        int // bytes of a stanza that it takes; 0: it doesn't say
}

func readFeatures(el xmltree.Element) offered {
	o := offered{
		startTLS:   !el.Child(stream.NSTLS, "starttls").IsZero(),
		dialback:   !el.Child(nsDialbackFeature, "dialback").IsZero(),
		bidi:       !el.Child(nsBidiFeature, "bidi").IsZero(),
		management: !el.Child(sm.NS, "sm").IsZero(),
		longest:    readLimits(el),
	}
	if o.dialback {
		o.shares = sameDomain
		if !el.Child(nsDialbackFeature, "dialback").Child(nsDialbackFeature, "errors").IsZero() {
			o.shares = anyDomain // XEP-0220 2.6.2
		}
	}
	for m := range el.Child(stream.NSSASL, "mechanisms").Children() {
		o.external = o.external || m.Is(stream.NSSASL, "mechanism") && strings.TrimSpace(m.Text()) == "EXTERNAL"
	}
	return o
}

// secureStream opens the stream, under TLS whatever the other side offers.
func (c *conn) secureStream(ctx context.Context) (offered, error) {
	if deadline, ok := ctx.Deadline(); ok {
		c.raw.SetReadDeadline(deadline)
	}
	if c.direct {
		if err := c.startTLS(); err != nil {
			return offered{}, err
		}
	}
	o, err := c.begin()
	if err != nil || c.secure {
		return o, err
	}
	if !o.startTLS {
		// RFC 7590 3.1: nothing in the clear, whoever took the offer away.
		return o, errors.New("it doesn't offer TLS")
	}
	c.say("<starttls xmlns='" + stream.NSTLS + "'/>")
	if el, err := c.expect(); err != nil {
		return o, err
	} else if !el.Is(stream.NSTLS, "proceed") {
		return o, errors.New("it offers TLS and refuses it")
	}
	if err := c.startTLS(); err != nil {
		return o, err
	}
	c.restart()
	return c.begin()
}

// negotiate does all that is to be done before stanzas are sent.
func (c *conn) negotiate(ctx context.Context, t lookup.Target, w *way) error {
	o, err := c.secureStream(ctx)
	if err != nil {
		return err
	}
	c.proveServer(ctx, t)
	if p := c.srv.policy(c.remote); !p.accepts(c.proof) {
		if c.doubt == nil {
			c.doubt = fmt.Errorf("the policy for it is %q, and it has not proved as much", p)
		}
		return c.doubt
	}
	if w == nil {
		return nil
	}
	if o.bidi {
		c.say("<bidi xmlns='" + nsBidi + "'>" + c.limits() + "</bidi>") // XEP-0478 3.2
		c.bidi = true
	}
	if o, err = c.authenticate(o); err != nil {
		return err
	}
	if !c.authed {
		o.longest = 0 // by dialback: what a server takes from strangers says nothing of what it takes now
	}
	c.authed, c.longest, c.shares = true, o.longest, o.shares
	c.scan.SetLimits(c.srv.cfg.Limits.Stanza)
	if err := c.askForGuests(ctx, w); err != nil {
		return err
	}
	if o.management {
		return c.manage(w)
	}
	return nil
}

// begin opens the stream and reads the other side's header and features.
func (c *conn) begin() (offered, error) {
	if err := c.open(); err != nil {
		return offered{}, err
	}
	tok, err := c.next()
	if err != nil {
		return offered{}, err
	}
	switch el := tok.Element; {
	case tok.Kind != xmltree.StreamStart || !el.Is(stanza.NSStreams, "stream") || tok.DefaultSpace != nsServer:
		return offered{}, stanza.NewStreamError(stanza.StreamInvalidNamespace, "no stream between servers")
	default:
		c.opened, c.id, c.space = true, strings.Clone(el.Attr("id")), nsServer
		if el.Attr("version") == "" {
			return offered{}, errors.New("it speaks XMPP from before 2004, without TLS")
		}
	}
	el, err := c.expect()
	if err != nil {
		return offered{}, err
	}
	if !el.Is(stanza.NSStreams, "features") {
		return offered{}, stanza.NewStreamError(stanza.StreamInvalidXML, "features come first")
	}
	return readFeatures(el), nil
}

// expect reads the next element. A stream error of the peer, or the end of its
// stream, is an error.
func (c *conn) expect() (xmltree.Element, error) {
	tok, err := c.next()
	switch {
	case err != nil:
		return tok.Element, err
	case tok.Kind == xmltree.StreamEnd:
		return tok.Element, errors.New("it closes the stream")
	case tok.Element.Is(stanza.NSStreams, "error"):
		return tok.Element, peerError(tok.Element)
	}
	return tok.Element, nil
}

// reply is expect behind the proof of our domain: a peer to which the stream is lent
// (XEP-0288) may use it between the answers.
func (c *conn) reply() (xmltree.Element, error) {
	for {
		el, err := c.expect()
		if err != nil || !c.bidi || el.Space() != nsServer {
			return el, err
		}
		if c.stanza(el); c.ended() {
			return el, errEnded
		}
	}
}

// peerError is a stream error of the other side, for people.
func peerError(el xmltree.Element) error {
	condition, text := "", el.Child(stanza.NSStreamErrors, "text").Text()
	for one := range el.Children() {
		if one.Space() == stanza.NSStreamErrors && one.Local() != "text" {
			condition = one.Local()
			break
		}
	}
	if text != "" {
		condition += ": " + text
	}
	return fmt.Errorf("it ends the stream: %.200s", condition)
}

// proveServer finds out what the certificate of the server we connected to
// proves.
func (c *conn) proveServer(ctx context.Context, t lookup.Target) {
	c.proof, c.doubt = c.proves(ctx, c.remote, t)
}

// proves is what the certificate of the server we connected to proves of a domain
// whose target this is, and why it proves nothing.
func (c *conn) proves(ctx context.Context, remote string, t lookup.Target) (Proof, error) {
	now, roots := time.Now(), c.srv.cfg.Roots
	var hosts []string
	if t.Secure {
		hosts = []string{t.Host}
	}
	if c.srv.policy(remote).usesDANE() && (t.Secure || t.Host == asciiName(remote)) {
		records, err := c.srv.cfg.Resolver.TLSA(ctx, t.Host, t.Port)
		if err != nil {
			return NoProof, err
		}
		if len(records) > 0 {
			if err := checkDANE(c.chain, records, remote, hosts, roots, now); err != nil {
				return NoProof, err
			}
			return ByDANE, nil
		}
	}
	if err := checkPKIX(c.chain, remote, hosts, roots, now); err != nil {
		return NoProof, err
	}
	return ByPKIX, nil
}

// authenticate proves our domain, by certificate and otherwise by dialback, and
// returns what the stream offers from then on.
func (c *conn) authenticate(o offered) (offered, error) {
	refused := ""
	if o.external {
		// RFC 6120 6.3.8: who we are is in the header and in the certificate; XEP-0178
		// wants it here too.
		c.say("<auth xmlns='" + stream.NSSASL + "' mechanism='EXTERNAL'>" + base64.StdEncoding.EncodeToString([]byte(c.local)) + "</auth>")
		el, err := c.expect()
		switch {
		case err != nil:
			return o, err
		case el.Is(stream.NSSASL, "success"):
			c.restart()
			if o, err = c.begin(); err == nil {
				c.authed = true
				c.allow(pair{c.local, c.remote}, "EXTERNAL")
			}
			return o, err
		case !el.Is(stream.NSSASL, "failure"):
			return o, stanza.NewStreamError(stanza.StreamPolicyViolation, "authentication is in progress")
		}
		for condition := range el.Children() {
			refused = condition.Local()
			break
		}
	}
	if !o.dialback {
		if refused == "" {
			return o, errors.New("it offers no way to prove our domain: it doesn't accept our certificate")
		}
		return o, fmt.Errorf("it doesn't accept our certificate: %.100s", refused)
	}
	return o, c.dialbackResult()
}

// dialbackResult proves our domain by dialback (XEP-0220 2.1.1).
func (c *conn) dialbackResult() error {
	p := pair{c.local, c.remote}
	c.say(string(c.dialbackRequest(p)))
	el, err := c.expect()
	if err != nil {
		return err
	}
	if !el.Is(nsDialback, "result") || el.Attr("from") != p.remote || el.Attr("to") != p.local {
		return stanza.NewStreamError(stanza.StreamPolicyViolation, "a dialback is in progress")
	}
	switch el.Attr("type") {
	case "valid":
		c.allow(p, "dialback")
		return nil
	case "error":
		return fmt.Errorf("it refuses dialback: %.100s", condition(el))
	}
	return errors.New("it says that our dialback key is wrong: it asked another server for our domain")
}

// condition is the name of the error in an element of dialback.
func condition(el xmltree.Element) string {
	for one := range el.Child(el.Space(), "error").Children() {
		return one.Local()
	}
	for child := range el.Children() {
		for one := range child.Children() {
			return one.Local()
		}
	}
	return "no reason given"
}

// manage turns stream management on (XEP-0198 3), for a stream that broke by
// resuming it (5).
func (c *conn) manage(w *way) error {
	switch x, ours := w.broken(); {
	case x != nil && ours:
		if done, err := c.resumeOwn(w, x); done || err != nil {
			return err
		}
	case x != nil && c.srv.retire(x):
		if err := c.askAbout(w, x); err != nil {
			return err
		}
	}
	c.say("<enable xmlns='" + sm.NS + "' resume='true'/>")
	el, err := c.reply()
	switch {
	case err != nil:
		return err
	case el.Is(sm.NS, "failed"):
		return nil
	case !el.Is(sm.NS, "enabled"):
		return stanza.NewStreamError(stanza.StreamPolicyViolation, "stream management is being negotiated")
	}
	x := &session{pair: w.pair}
	if r := el.Attr("resume"); r == "true" || r == "1" {
		x.id = strings.Clone(el.Attr("id"))
	}
	c.session = x
	return nil
}

// resumeOwn asks for a session that broke to go on; done tells that it does.
func (c *conn) resumeOwn(w *way, x *session) (done bool, err error) {
	c.say(fmt.Sprintf("<resume xmlns='%s' previd='%s' h='%d'/>", sm.NS, xmltree.AppendAttrValue(nil, x.id), x.in.Load()))
	el, err := c.reply()
	if err != nil {
		return false, err
	}
	h, known := readH(el)
	switch {
	case el.Is(sm.NS, "resumed") && known:
		if done, err = w.resumed(x, h); err != nil {
			return false, stanza.NewStreamError(stanza.StreamUndefinedCondition, "handled count too high")
		} else if !done {
			return false, errors.New("the session is another stream's by now")
		}
		c.session, c.resumed = x, true
		c.srv.Metrics.Resumed.Add(1)
		return true, nil
	case el.Is(sm.NS, "failed"):
		if known {
			_, _ = w.resumed(x, h) // what it says that it has handled isn't sent again
		}
		return false, nil
	}
	return false, stanza.NewStreamError(stanza.StreamPolicyViolation, "stream management is being negotiated")
}

// retire keeps a session of the peer's from being resumed; false if that is being
// done.
func (s *Server) retire(x *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	x.retired = x.conn == nil
	return x.retired
}

// askAbout asks what the peer has handled of a session that it was to resume. It
// can't go on, for the roles have changed, but the refusal says how much that was
// (XEP-0198 5), and then nothing comes twice.
func (c *conn) askAbout(w *way, x *session) error {
	c.say(fmt.Sprintf("<resume xmlns='%s' previd='%s' h='%d'/>", sm.NS, xmltree.AppendAttrValue(nil, x.id), x.in.Load()))
	el, err := c.reply()
	if err != nil {
		return err
	}
	if !el.Is(sm.NS, "failed") {
		return stanza.NewStreamError(stanza.StreamPolicyViolation, "stream management is being negotiated")
	}
	if h, known := readH(el); known {
		_, _ = w.resumed(x, h) // a count that is too high tells nothing
	}
	return nil
}
