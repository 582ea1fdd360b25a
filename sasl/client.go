package sasl

import (
	"errors"
	"io"
	"slices"
	"strings"
)

// ErrServerUnproved is returned when the server's signature is wrong: it doesn't know
// the password's keys, and the connection must not be used.
var ErrServerUnproved = errors.New("sasl: the server has not proved its identity")

// ErrDowngrade is returned when somebody has changed, or seems to have changed, what
// the server offered. XEP-0440 3, XEP-0474 6.2.
var ErrDowngrade = errors.New("sasl: the server's offer was tampered with")

// ErrNoMechanism is returned when server and client have no mechanism in common.
var ErrNoMechanism = errors.New("sasl: no mechanism in common")

// ClientConfig is what a client's exchange needs to know.
type ClientConfig struct {
	// Username is the account's localpart, prepared by package jid.
	Username string

	// Authzid is the bare address to act as, "" for the account's own.
	Authzid string

	// Password may be "" if Cache has what the server asks for.
	Password string

	// Cache, if it isn't nil, spares the derivation when it has the keys for the
	// server's salt, and is set to the keys used when an exchange is done.
	Cache *ClientKeys

	// Bindings are the connection's channel bindings, most wanted first, empty for
	// a client that does without.
	Bindings []ChannelBinding

	// Advertised is what the server offered; the zero value where the client has
	// not seen it yet.
	Advertised Advertised

	// Extensible says that Advertised is the offer of SASL2, whose servers list the
	// types of channel binding if they have any (XEP-0440 3, rule 4).
	Extensible bool

	// AllowPlain lets Choose return PLAIN. Set it under TLS only, and then with
	// care: PLAIN gives the password away and has no protection from downgrades.
	AllowPlain bool

	// Rand is the source of nonces, crypto/rand's Reader outside of tests.
	Rand io.Reader
}

// Choose returns the strongest mechanism that both sides have. It returns
// ErrDowngrade for an offer with channel bindings that no mechanism uses (XEP-0440
// 3, rule 5), or the reverse in SASL2 (rule 4), and ErrNoMechanism when there is nothing in common.
func (cfg *ClientConfig) Choose() (string, error) {
	offer := &cfg.Advertised
	if offer.Bindings != nil && !offer.plus() || cfg.Extensible && offer.plus() && len(offer.Bindings) == 0 {
		return "", ErrDowngrade
	}
	_, bind := cfg.binding()
	for _, name := range Mechanisms(bind, cfg.AllowPlain && !cfg.suspicious()) {
		if slices.Contains(offer.Mechanisms, name) {
			return name, nil
		}
	}
	return "", ErrNoMechanism
}

// suspicious reports whether the client would bind the channel but the server lists
// no type that it has, and not even the one that every server must have. Such an
// offer is fine only if the server's hash of it says so. XEP-0440 3, rule 6, as
// changed by XEP-0474 7.
func (cfg *ClientConfig) suspicious() bool {
	offer := &cfg.Advertised
	_, bind := cfg.binding()
	return !bind && len(cfg.Bindings) > 0 && offer.plus() && !slices.Contains(offer.Bindings, TLSServerEndPoint)
}

// binding returns the connection's best channel binding that the server has listed,
// or just the best where the server lists none.
func (cfg *ClientConfig) binding() (ChannelBinding, bool) {
	for _, b := range cfg.Bindings {
		if cfg.Advertised.Bindings == nil || slices.Contains(cfg.Advertised.Bindings, b.Type) {
			return b, true
		}
	}
	return ChannelBinding{}, false
}

// gs2Flag returns the first part of the GS2 header and the data to bind. RFC 5802 6,
// XEP-0440 3.
func (cfg *ClientConfig) gs2Flag(plus bool) (string, []byte, error) {
	if plus {
		b, ok := cfg.binding()
		if !ok {
			return "", nil, errors.New("sasl: no channel binding in common")
		}
		return "p=" + b.Type, b.Data, nil
	}
	// "y" says: I would have bound, but you didn't offer it. That is a lie for a
	// client that hasn't seen the offer, or saw one that it has no type for.
	if len(cfg.Bindings) > 0 && len(cfg.Advertised.Mechanisms) > 0 && !cfg.Advertised.plus() {
		return "y", nil, nil
	}
	return "n", nil, nil
}

func (cfg *ClientConfig) check() error {
	switch {
	case cfg.Username == "" || strings.ContainsRune(cfg.Username, 0) || strings.ContainsRune(cfg.Authzid, 0):
		return errors.New("sasl: not a usable name")
	case cfg.Rand == nil:
		return errors.New("sasl: no Rand")
	}
	return nil
}
