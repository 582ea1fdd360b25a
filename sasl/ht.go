package sasl

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"slices"
	"unicode/utf8"
)

// The mechanisms of hashed tokens (draft-schmaus-kitten-sasl-ht-09) that FAST
// (XEP-0484) uses, by the channel that the token is bound to.
const (
	HTSHA256Exporter = "HT-SHA-256-EXPR" // tls-exporter
	HTSHA256EndPoint = "HT-SHA-256-ENDP" // tls-server-end-point
	HTSHA256None     = "HT-SHA-256-NONE" // not bound
)

// TokenMechanisms returns the mechanisms of tokens that a connection with these channel
// bindings can offer, strongest first. The one for tls-unique, HT-SHA-256-UNIQ, is never
// among them: TLS 1.3 has no such binding (RFC 9266 1).
func TokenMechanisms(bindings []ChannelBinding) []string {
	var names []string
	for _, name := range []string{HTSHA256Exporter, HTSHA256EndPoint, HTSHA256None} {
		if _, ok := tokenBinding(name, bindings); ok {
			names = append(names, name)
		}
	}
	return names
}

// tokenBinding returns the data that a mechanism binds a token to, empty for -NONE.
func tokenBinding(mechanism string, bindings []ChannelBinding) ([]byte, bool) {
	var typ string
	switch mechanism {
	case HTSHA256None:
		return nil, true
	case HTSHA256Exporter:
		typ = TLSExporter
	case HTSHA256EndPoint:
		typ = TLSServerEndPoint
	default:
		return nil, false
	}
	i := slices.IndexFunc(bindings, func(b ChannelBinding) bool { return b.Type == typ })
	if i < 0 {
		return nil, false
	}
	return bindings[i].Data, true
}

// The two sides of an exchange hash different words. draft-schmaus-kitten-sasl-ht-09 3.1, 3.3.
const (
	htInitiator = "Initiator"
	htResponder = "Responder"
)

// hashedToken is the HMAC that shows the possession of a token.
func hashedToken(token, side string, binding []byte) []byte {
	return SHA256.hmac([]byte(token), side+string(binding))
}

// maxTokens is how many tokens are compared in each exchange, no matter how many there
// are: XEP-0484 5.1 has two for a client.
const maxTokens = 2

// A TokenServer is the server's side of an exchange with a hashed token.
type TokenServer struct {
	cfg      *ServerConfig
	tokens   func(username string) ([]string, error)
	binding  []byte
	used     bool
	username string
	token    string
}

// NewTokenServer begins an exchange with one of the mechanisms that TokenMechanisms
// returns for cfg's bindings; for any other the error is an *Error, invalid-mechanism.
// XEP-0484 keeps them out of ServerConfig.Advertised.
//
// The function tokens returns the tokens, at most two are looked at, that a user, by
// prepared name, may show with this mechanism; they are secrets. For a name without an
// account, or without tokens, it returns none: the exchange costs the same. An error is
// answered temporary-auth-failure. When a token has expired is for the caller to judge,
// after the exchange and so before its owner alone.
func NewTokenServer(mechanism string, cfg *ServerConfig, tokens func(username string) ([]string, error)) (*TokenServer, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	binding, ok := tokenBinding(mechanism, cfg.Bindings)
	if !ok {
		return nil, &Error{Condition: InvalidMechanism}
	}
	return &TokenServer{cfg: cfg, tokens: tokens, binding: binding}, nil
}

// Username is Server's.
func (s *TokenServer) Username() string { return s.username }

// Authzid is Server's; the mechanism has none (draft-schmaus-kitten-sasl-ht-09 1.2).
func (s *TokenServer) Authzid() string { return "" }

// Token is the token that the client has proved to have, "" before Next has returned
// done. It is a secret.
func (s *TokenServer) Token() string { return s.token }

// Next is Server's.
func (s *TokenServer) Next(in []byte) ([]byte, bool, error) {
	if s.used {
		return nil, false, malformed("the exchange is over")
	}
	s.used = true
	// initiator-msg = authcid NUL initiator-hashed-token; the hash may hold NULs.
	authcid, proof, ok := bytes.Cut(in, []byte{0})
	if !ok || len(in) > maxMessage || len(authcid) == 0 || !utf8.Valid(authcid) || len(proof) != SHA256.Size() {
		return nil, false, malformed("not a message of a hashed token")
	}
	username, err := s.cfg.Prepare(string(authcid))
	s.username = username
	var tokens []string
	if err != nil || username == "" {
		s.username = string(authcid)
	} else if tokens, err = s.tokens(username); err != nil {
		return nil, false, &Error{Condition: TemporaryAuthFailure, Err: err}
	}
	// Always the same number of comparisons, with one that nobody can meet in place of
	// a token that isn't there.
	found := -1
	for i := range maxTokens {
		token, real := string(s.cfg.DummySecret), 0
		if i < len(tokens) && tokens[i] != "" {
			token, real = tokens[i], 1
		}
		match := subtle.ConstantTimeCompare(hashedToken(token, htInitiator, s.binding), proof)
		found = subtle.ConstantTimeSelect(match&real, i, found)
	}
	if found < 0 {
		return nil, false, &Error{Condition: NotAuthorized}
	}
	s.token = tokens[found]
	return hashedToken(s.token, htResponder, s.binding), true, nil
}

// tokenClient is the client's side.
type tokenClient struct {
	step     int
	message  []byte
	expected []byte // what the server has to show
}

// newTokenClient takes ClientConfig.Password for the token.
func newTokenClient(mechanism string, cfg *ClientConfig) (*tokenClient, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	binding, ok := tokenBinding(mechanism, cfg.Bindings)
	switch {
	case !ok:
		return nil, errors.New("sasl: " + mechanism + " without its channel binding")
	case cfg.Password == "":
		return nil, errors.New("sasl: no token")
	case cfg.Authzid != "":
		return nil, errors.New("sasl: " + mechanism + " has no authorization identity")
	}
	message := append([]byte(cfg.Username), 0)
	return &tokenClient{
		message:  append(message, hashedToken(cfg.Password, htInitiator, binding)...),
		expected: hashedToken(cfg.Password, htResponder, binding),
	}, nil
}

func (c *tokenClient) Next(in []byte) (out []byte, done bool, err error) {
	c.step++
	switch {
	case c.step == 1 && len(in) == 0:
		return c.message, false, nil
	case c.step == 2 && subtle.ConstantTimeCompare(in, c.expected) == 1:
		return nil, true, nil
	case c.step == 2:
		return nil, false, ErrServerUnproved
	}
	c.step = 2
	return nil, false, errServerMessage
}
