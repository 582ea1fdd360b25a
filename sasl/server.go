package sasl

import (
	"errors"
	"fmt"
	"io"
)

// ErrUnknownUser is what ServerConfig.Lookup returns for a name without an account,
// and for an account without keys for the hash.
var ErrUnknownUser = errors.New("sasl: unknown user")

// UnknownUser is ErrUnknownUser with the iterations that the name is to seem to
// have. The same name must get the same number, unless it is to look as if its
// password had changed.
type UnknownUser struct{ Iterations int }

// Error makes *UnknownUser a Go error.
func (*UnknownUser) Error() string { return ErrUnknownUser.Error() }

// Is makes an *UnknownUser an ErrUnknownUser.
func (*UnknownUser) Is(target error) bool { return target == ErrUnknownUser }

// ErrBindingType is in the *Error of an exchange whose client binds to a type of channel
// binding that wasn't offered, or to none with a mechanism that needs one. It says
// nothing about the client's password.
var ErrBindingType = errors.New("sasl: unsupported channel binding type")

// ErrTLSUnique is the ErrBindingType of clients that bind to tls-unique, which TLS 1.3
// doesn't have and we don't offer (RFC 9266 1).
var ErrTLSUnique = fmt.Errorf("%w: tls-unique", ErrBindingType)

// ServerConfig is what a server's exchanges need to know. Bindings and Advertised
// belong to one connection, the rest to the server. Prepare, Lookup and Rand are
// called by Next only; if exchanges that run at the same time share them, they must allow that.
type ServerConfig struct {
	// Prepare gives a name as the client wrote it the form that accounts have, which
	// in XMPP is a localpart's (RFC 7622 3.3). A name that it returns an error
	// for is nobody's. Without it, two spellings of one name would have one salt
	// if the account exists and two if it doesn't.
	Prepare func(authcid string) (string, error)

	// Lookup returns the stored keys of a user, by prepared name, or
	// ErrUnknownUser, which may come as an *UnknownUser. Any other error is answered temporary-auth-failure. Whether
	// an account may be used at all is better asked after done, when it is told to
	// its owner only.
	Lookup func(username string, h Hash) (Keys, error)

	// DummySecret makes the salts of unknown users, 16 octets or more, the same
	// for as long as the accounts live and on every node.
	DummySecret []byte

	// Iterations is what unknown users seem to have, unless Lookup says otherwise.
	Iterations int

	// Advertised is what this stream offered. It decides which mechanisms may be
	// used, and whether a client that believes that there is no channel binding
	// has been deceived.
	Advertised Advertised

	// TolerateUnbound accepts a client that says that it could bind the channel
	// but saw no offer to (the flag y), although there was one. RFC 5802 6 takes
	// that for tampering. It is for clients that tried, with a type that this TLS
	// connection doesn't have: ErrTLSUnique.
	TolerateUnbound bool

	// PlainHash is whose keys PLAIN is checked against; zero is SHA-256.
	PlainHash Hash

	// ProtectAdvertised puts a hash of Advertised into SCRAM exchanges. XEP-0474.
	ProtectAdvertised bool

	// Bindings are the connection's channel bindings. The client picks one.
	Bindings []ChannelBinding

	// Rand is the source of nonces, crypto/rand's Reader outside of tests.
	Rand io.Reader
}

// minDummySecret is the least number of octets of ServerConfig.DummySecret.
const minDummySecret = 16

func (cfg *ServerConfig) check() error {
	switch {
	case cfg.Prepare == nil || cfg.Lookup == nil:
		return errors.New("sasl: no Prepare or no Lookup")
	case cfg.Rand == nil:
		return errors.New("sasl: no Rand")
	case len(cfg.DummySecret) < minDummySecret:
		return errors.New("sasl: DummySecret is too short")
	case cfg.Iterations < 1 || cfg.Iterations > MaxIterations:
		return errors.New("sasl: Iterations out of range")
	}
	return nil
}

// keys returns the prepared name, the keys to go on with and whether they are a
// user's. An unknown user and a known one cost the same: the dummy is always made.
func (cfg *ServerConfig) keys(authcid string, h Hash) (username string, k Keys, known bool, err error) {
	username, err = cfg.Prepare(authcid)
	if err != nil || username == "" {
		return authcid, dummyKeys(cfg.DummySecret, h, authcid, cfg.Iterations), false, nil
	}
	k, err = cfg.Lookup(username, h)
	iterations := cfg.Iterations
	if u, ok := errors.AsType[*UnknownUser](err); ok {
		iterations = u.Iterations
	}
	dummy := dummyKeys(cfg.DummySecret, h, username, iterations)
	if errors.Is(err, ErrUnknownUser) {
		return username, dummy, false, nil
	}
	if err == nil {
		err = k.check(h)
	}
	if err != nil {
		return username, Keys{}, false, &Error{Condition: TemporaryAuthFailure, Err: err}
	}
	return username, k, true, nil
}

// binding returns the data of a channel binding type.
func (cfg *ServerConfig) binding(typ string) ([]byte, bool) {
	for _, b := range cfg.Bindings {
		if b.Type == typ {
			return b.Data, true
		}
	}
	return nil, false
}
