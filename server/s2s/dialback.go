package s2s

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// dialbackKey is the key with which from proves to to who it is, on a stream
// (XEP-0185 2).
func (s *Server) dialbackKey(from, to, id string) string {
	h := hmac.New(sha256.New, s.key)
	h.Write([]byte(to + " " + from + " " + id))
	return hex.EncodeToString(h.Sum(nil))
}

// fromTo are an element's addresses.
func fromTo(from, to string) []byte {
	b := xmltree.AppendAttrValue([]byte(" from='"), from)
	b = xmltree.AppendAttrValue(append(b, "' to='"...), to)
	return append(b, '\'')
}

// dialback handles an element of XEP-0220 on a stream under TLS.
func (c *conn) dialback(el xmltree.Element) {
	from, e1 := domainOf(el.Attr("from"))
	to, e2 := domainOf(el.Attr("to"))
	switch typ := el.Attr("type"); {
	case e1 != nil || e2 != nil:
		c.fail(stanza.NewStreamError(stanza.StreamImproperAddressing, ""))
	case el.Local() == "result" && typ != "" && c.answer(pair{to, from}, el):
	case typ != "":
		// An answer that nobody asked for on this stream (XEP-0220 3.1), or not any more:
		// those for the first pair are read where they are waited for.
		c.fail(stanza.NewStreamError(stanza.StreamPolicyViolation, "an unexpected dialback result"))
	case el.Local() == "verify":
		c.answerVerify(el, from, to)
	case el.Local() == "result":
		c.takeResult(el, pair{to, from})
	default:
		c.fail(stanza.NewStreamError(stanza.StreamUnsupportedStanzaType, ""))
	}
}

func domainOf(address string) (string, error) {
	j, err := jid.Parse(address)
	if err == nil && !j.IsDomain() {
		err = errors.New("no domain")
	}
	if err != nil {
		return "", err
	}
	return strings.Clone(j.Domain()), nil
}

// answerVerify says whether a key is ours (XEP-0220 2.2.2). It needs no proof of
// who asks: whoever has the key may know.
func (c *conn) answerVerify(el xmltree.Element, from, to string) {
	id := el.Attr("id")
	answer := func(rest string) {
		b := append([]byte("<db:verify"), fromTo(to, from)...)
		b = xmltree.AppendAttrValue(append(b, " id='"...), id)
		c.say(string(b) + "'" + rest)
	}
	if !c.srv.domains[to] {
		answer(dialbackError(stanza.ItemNotFound, "verify"))
		return
	}
	typ := "invalid"
	if key := strings.TrimSpace(el.Text()); subtle.ConstantTimeCompare([]byte(key), []byte(c.srv.dialbackKey(to, from, id))) == 1 {
		typ = "valid"
	}
	answer(" type='" + typ + "'/>")
}

// dialbackError is the rest of an element with an error (XEP-0220 2.5).
func dialbackError(condition stanza.Condition, local string) string {
	e := stanza.NewError(condition, "")
	return " type='error'><error type='" + string(e.Type) + "'><" + string(condition) + " xmlns='" + nsStanzaConditions + "'/></error></db:" + local + ">"
}

// takeResult is a peer that wants to prove a domain (XEP-0220 2.2.1). A domain
// that its certificate proves needs no key (XEP-0344 2.2); otherwise the server
// that DNS names is asked, which must prove as much as the policy wants.
func (c *conn) takeResult(el xmltree.Element, p pair) {
	answer := func(rest string) {
		c.say(string(append([]byte("<db:result"), fromTo(p.local, p.remote)...)) + rest)
	}
	c.mu.Lock()
	pairs, bidi := len(c.pairs), c.bidi
	c.mu.Unlock()
	policy := c.srv.policy(p.remote)
	switch {
	case c.outgoing && !bidi:
		c.fail(stanza.NewStreamError(stanza.StreamPolicyViolation, "this stream goes the other way"))
		return
	case !c.srv.domains[p.local]:
		answer(dialbackError(stanza.ItemNotFound, "result"))
		return
	case c.srv.domains[p.remote]:
		c.srv.Metrics.AuthFailures.Add(1)
		c.log(slog.LevelWarn, "another server claims to be us", slog.String("claimed", p.remote))
		answer(dialbackError(stanza.NotAllowed, "result"))
		c.failed(stanza.NewStreamError(stanza.StreamInvalidFrom, "that domain is this server's own"))
		return
	case policy == Deny:
		answer(dialbackError(stanza.PolicyViolation, "result"))
		return
	case pairs >= c.srv.cfg.Limits.Pairs:
		answer(dialbackError(stanza.ResourceConstraint, "result"))
		return
	}
	proof := NoProof
	if p.remote == c.remote {
		proof = c.proof
	} else if len(c.chain) > 0 && checkPKIX(c.chain, p.remote, nil, c.srv.cfg.Roots, time.Now()) == nil {
		proof = ByPKIX
	}
	if (proof == ByPKIX || proof == ByDANE) && policy.accepts(proof) {
		c.admitted(p, answer)
		return
	}
	c.verify(p, c.id, strings.TrimSpace(el.Text()), answer)
}

// admitted lets a pair in and says so.
func (c *conn) admitted(p pair, answer func(string)) {
	answer(" type='valid'/>")
	c.admit(p, "dialback")
}

// verify has a key verified. The stream isn't read meanwhile: what a peer makes
// others do is bounded by one question at a time.
func (c *conn) verify(p pair, id, key string, answer func(string)) {
	valid, err := c.srv.askAuthority(c.srv.ctx, p, id, key)
	switch {
	case err == nil && valid:
		c.admitted(p, answer)
		return
	case err == nil:
		c.srv.Metrics.AuthFailures.Add(1)
		c.log(slog.LevelWarn, "a dialback key is forged", slog.String("claimed", p.remote))
		answer(" type='invalid'/>")
		if !c.authed {
			c.failed(stanza.NewStreamError(stanza.StreamNotAuthorized, "the dialback key is wrong")) // XEP-0220 2.1.1
		}
		return
	}
	c.srv.Metrics.AuthFailures.Add(1)
	c.log(slog.LevelInfo, "a dialback key can't be verified", slog.String("claimed", p.remote), slog.Any("error", err))
	condition := stanza.RemoteServerNotFound
	if _, timeout := errors.AsType[interface {
		error
		Timeout() bool
	}](err); timeout {
		condition = stanza.RemoteServerTimeout
	}
	answer(dialbackError(condition, "result"))
}

// askAuthority asks the server that DNS names for a domain whether a key is its
// own (XEP-0220 2.1.2), on a stream for this alone.
func (s *Server) askAuthority(ctx context.Context, p pair, id, key string) (bool, error) {
	c, err := s.connect(ctx, p, nil)
	if err != nil {
		return false, err
	}
	defer c.raw.Close()
	defer context.AfterFunc(ctx, func() { c.raw.Close() })() // the server stops
	b := append([]byte("<db:verify"), fromTo(p.local, p.remote)...)
	b = append(xmltree.AppendAttrValue(append(b, " id='"...), id), "'>"...)
	b = append(xmltree.AppendText(b, key), "</db:verify>"...)
	if err := c.write(b); err != nil {
		return false, err
	}
	el, err := c.expect()
	if err != nil {
		return false, err
	}
	if !el.Is(nsDialback, "verify") || el.Attr("from") != p.remote || el.Attr("to") != p.local || el.Attr("id") != id {
		return false, errors.New("it answers another question")
	}
	c.end(nil)
	c.finish()
	switch el.Attr("type") {
	case "valid":
		return true, nil
	case "invalid":
		return false, nil
	}
	return false, fmt.Errorf("it can't tell: %.100s", condition(el))
}
