package sasl

import (
	"bytes"
	"errors"
	"unicode/utf8"
)

// plainHash is the one whose keys PLAIN is checked against, unless
// ServerConfig.PlainHash says otherwise.
const plainHash Hash = SHA256

// plainServer checks a password as it is. RFC 4616. That the connection is encrypted
// is the caller's to see to, before offering it.
type plainServer struct {
	cfg               *ServerConfig
	used              bool
	username, authzid string
}

func (s *plainServer) Username() string { return s.username }
func (s *plainServer) Authzid() string  { return s.authzid }

func (s *plainServer) Next(in []byte) ([]byte, bool, error) {
	if s.used {
		return nil, false, malformed("the exchange is over")
	}
	s.used = true
	// message = [authzid] NUL authcid NUL passwd. RFC 4616 2.
	parts := bytes.SplitN(in, []byte{0}, 4)
	if len(in) > maxMessage || !utf8.Valid(in) || len(parts) != 3 || len(parts[1]) == 0 || len(parts[2]) == 0 {
		return nil, false, malformed("not a PLAIN message")
	}
	s.authzid = string(parts[0])
	hash := plainHash
	if s.cfg.PlainHash != 0 {
		hash = s.cfg.PlainHash
	}
	username, keys, known, err := s.cfg.keys(string(parts[1]), hash)
	s.username = username
	if err != nil {
		return nil, false, err
	}
	// With an unknown user's keys too: that is where the time goes.
	if match := keys.VerifyPassword(string(parts[2])); !match || !known {
		return nil, false, &Error{Condition: NotAuthorized}
	}
	return nil, true, nil
}

// plainClient is the other side.
type plainClient struct {
	message []byte
}

func newPlainClient(cfg *ClientConfig) (*plainClient, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	// RFC 4616 2 leaves the preparation to the server; it forbids NUL, which no
	// password has that can be prepared.
	if _, err := preparePassword(cfg.Password); err != nil {
		return nil, err
	}
	return &plainClient{[]byte(cfg.Authzid + "\x00" + cfg.Username + "\x00" + cfg.Password)}, nil
}

func (c *plainClient) Next(in []byte) ([]byte, bool, error) {
	if c.message == nil || len(in) != 0 {
		return nil, false, errors.New("sasl: unexpected challenge in PLAIN")
	}
	out := c.message
	c.message = nil
	return out, true, nil
}
