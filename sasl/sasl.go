// Package sasl holds the SASL mechanisms (RFC 4422) that carillon speaks, both
// sides: SCRAM with SHA-1, SHA-256 and SHA-512, with and without channel binding
// (RFC 5802, RFC 7677), PLAIN (RFC 4616), and the hashed tokens of FAST
// (draft-schmaus-kitten-sasl-ht-09).
//
// An exchange is a small state machine without I/O: Next takes the peer's message
// and gives the one to send. Messages are raw octets. How they travel, the base64 and
// the elements of RFC 6120 6 or of XEP-0388, and what an absent or empty initial
// response looks like, is the stream's business; so both profiles use the same
// machines, and a mechanism is another implementation of Server and Client and a
// line in each of NewServer and NewClient.
//
// A server never has a password, except in PLAIN for as long as the check takes: it
// stores Keys, from which a password can only be guessed, at the price of one PBKDF2
// a guess. An unknown user gets made-up keys, and from there on the exchange does
// the same work and says the same things as with a known user and a wrong password
// (session.md S-8).
//
// No text of an Error, no format of a type and no return value but Keys and
// ClientKeys themselves holds a secret.
package sasl

import (
	"fmt"
	"slices"
	"strings"
)

// Condition is the name of a <failure/>'s defined condition. RFC 6120 6.5.
type Condition string

// The conditions of RFC 6120 6.5, all of them, also those that only callers use.
const (
	Aborted              Condition = "aborted"
	AccountDisabled      Condition = "account-disabled"
	CredentialsExpired   Condition = "credentials-expired"
	EncryptionRequired   Condition = "encryption-required"
	IncorrectEncoding    Condition = "incorrect-encoding"
	InvalidAuthzid       Condition = "invalid-authzid"
	InvalidMechanism     Condition = "invalid-mechanism"
	MalformedRequest     Condition = "malformed-request"
	MechanismTooWeak     Condition = "mechanism-too-weak"
	NotAuthorized        Condition = "not-authorized"
	TemporaryAuthFailure Condition = "temporary-auth-failure"
)

// An Error ends a server's exchange: Condition goes to the client, and Text may.
// Neither tells an unknown user from a wrong password.
type Error struct {
	Condition Condition
	Text      string // for people; English; may be empty
	Err       error  // the cause, for the log alone; may be nil
}

// Error joins condition, text and cause.
func (e *Error) Error() string {
	s := "sasl: " + string(e.Condition)
	if e.Text != "" {
		s += ": " + e.Text
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// malformed is the error for what breaks a mechanism's syntax or rules.
func malformed(text string) *Error { return &Error{Condition: MalformedRequest, Text: text} }

// A Server is the server's side of one exchange. It is used by one goroutine.
type Server interface {
	// Next takes a message of the client and returns the message to answer with.
	// When done is true the client is authenticated, and out, if it isn't nil,
	// belongs into the success. An error, always an *Error, ends the exchange. All
	// mechanisms here begin with the client: for an absent initial response the
	// stream sends an empty challenge and calls Next with the answer. The in
	// octets are not kept.
	Next(in []byte) (out []byte, done bool, err error)

	// Username is the authentication identity as ServerConfig.Prepare returned it,
	// or as the client wrote it if that failed. It is claimed from the first
	// message on, proved when Next has returned done, and "" before.
	Username() string

	// Authzid is the authorization identity that the client asked for, "" for
	// none. Whether Username may act as it is for the caller to decide
	// (invalid-authzid; RFC 6120 6.3.8).
	Authzid() string
}

// A Client is the client's side of one exchange. It is used by one goroutine.
type Client interface {
	// Next takes the server's message, nil for the first call, and returns the
	// message to send. When done is true the client has nothing left to check; out,
	// if it isn't nil, still has to be sent. A success of the server that comes
	// before done must be taken for a failure: the server has not proved that it
	// knows the keys. A success's data goes through Next like a challenge.
	Next(in []byte) (out []byte, done bool, err error)
}

// The mechanisms' names.
const (
	ScramSHA1       = "SCRAM-SHA-1"
	ScramSHA256     = "SCRAM-SHA-256"
	ScramSHA512     = "SCRAM-SHA-512"
	ScramSHA1Plus   = "SCRAM-SHA-1-PLUS"
	ScramSHA256Plus = "SCRAM-SHA-256-PLUS"
	ScramSHA512Plus = "SCRAM-SHA-512-PLUS"
	Plain           = "PLAIN"
)

const plusSuffix = "-PLUS"

// Mechanisms returns what can be offered, strongest first: the SCRAM family, with
// the -PLUS variants in front where there is a channel binding, and PLAIN at the end
// where it is wanted.
func Mechanisms(binding, plain bool) []string {
	var names []string
	if binding {
		names = append(names, ScramSHA512Plus, ScramSHA256Plus, ScramSHA1Plus)
	}
	names = append(names, ScramSHA512, ScramSHA256, ScramSHA1)
	if plain {
		names = append(names, Plain)
	}
	return names
}

// scramHash returns the hash of a SCRAM mechanism and whether it binds the channel.
func scramHash(mechanism string) (h Hash, plus, ok bool) {
	name, plus := strings.CutSuffix(mechanism, plusSuffix)
	switch name {
	case ScramSHA1:
		return SHA1, plus, true
	case ScramSHA256:
		return SHA256, plus, true
	case ScramSHA512:
		return SHA512, plus, true
	}
	return 0, false, false
}

// Advertised is what the server offered on this stream, in one of the two profiles.
// Both sides need it to notice that somebody in between has changed it.
type Advertised struct {
	Mechanisms []string
	Bindings   []string // types listed by XEP-0440; nil if it was not used
}

// plus reports whether a mechanism with channel binding was offered.
func (a *Advertised) plus() bool {
	return slices.ContainsFunc(a.Mechanisms, func(name string) bool {
		return strings.HasSuffix(name, plusSuffix)
	})
}

// hash is the downgrade protection hash, in base64. XEP-0474 6.1.
func (a *Advertised) hash(h Hash) string {
	s := strings.Join(slices.Sorted(slices.Values(a.Mechanisms)), "\x1e")
	if a.Bindings != nil {
		s += "\x1f" + strings.Join(slices.Sorted(slices.Values(a.Bindings)), "\x1e")
	}
	return encode(h.sum([]byte(s)))
}

// NewServer begins an exchange with the mechanism that the client asked for. It
// returns an *Error (invalid-mechanism) for one that is unknown or not in
// cfg.Advertised, and another error for a configuration that cannot work. The
// configuration is not changed; exchanges may share it.
func NewServer(mechanism string, cfg *ServerConfig) (Server, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if slices.Contains(cfg.Advertised.Mechanisms, mechanism) {
		if h, plus, ok := scramHash(mechanism); ok {
			return &scramServer{cfg: cfg, hash: h, plus: plus}, nil
		}
		if mechanism == Plain {
			return &plainServer{cfg: cfg}, nil
		}
	}
	return nil, &Error{Condition: InvalidMechanism}
}

// NewClient begins an exchange with a mechanism, for instance the one that
// ClientConfig.Choose returned. It fails for a mechanism that is unknown or that the
// configuration cannot serve. With the mechanisms of TokenMechanisms the token stands in
// ClientConfig.Password.
func NewClient(mechanism string, cfg *ClientConfig) (Client, error) {
	if h, plus, ok := scramHash(mechanism); ok {
		return newScramClient(cfg, h, plus)
	}
	if mechanism == Plain {
		return newPlainClient(cfg)
	}
	if strings.HasPrefix(mechanism, "HT-") {
		return newTokenClient(mechanism, cfg)
	}
	return nil, fmt.Errorf("sasl: unknown mechanism %q", mechanism)
}
