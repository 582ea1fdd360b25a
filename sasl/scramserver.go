package sasl

import (
	"bytes"
	"crypto/subtle"
	"strconv"
	"strings"
)

// scramServer is the server's side of the SCRAM family. RFC 5802.
type scramServer struct {
	cfg  *ServerConfig
	hash Hash
	plus bool

	step        int // messages taken
	first       clientFirst
	username    string // prepared
	binding     []byte // data of the type that the client picked
	serverFirst string
	nonce       string // client's and ours
	keys        Keys
	known       bool // keys are a user's
}

func (s *scramServer) Username() string { return s.username }
func (s *scramServer) Authzid() string  { return s.first.gs2.authzid }

func (s *scramServer) Next(in []byte) (out []byte, done bool, err error) {
	s.step++
	switch s.step {
	case 1:
		out, err = s.begin(in)
	case 2:
		out, err = s.finish(in)
		done = err == nil
	default:
		err = malformed("the exchange is over")
	}
	if err != nil {
		s.step = 2 // and so the next call is one too many
		return nil, false, err
	}
	return out, done, nil
}

// begin answers the client's first message with salt and iterations.
func (s *scramServer) begin(in []byte) ([]byte, error) {
	m, problem := parseClientFirst(in)
	if problem != "" {
		return nil, malformed(problem)
	}
	if err := s.checkBinding(&m.gs2); err != nil {
		return nil, err
	}
	nonce, err := newNonce(s.cfg.Rand)
	if err != nil {
		return nil, &Error{Condition: TemporaryAuthFailure, Err: err}
	}
	s.first = m
	s.username, s.keys, s.known, err = s.cfg.keys(m.username, s.hash)
	if err != nil {
		return nil, err
	}
	s.nonce = m.nonce + nonce
	var b strings.Builder
	b.WriteString("r=" + s.nonce + ",s=" + encode(s.keys.Salt) + ",i=" + strconv.Itoa(s.keys.Iterations))
	if s.cfg.ProtectAdvertised {
		b.WriteString(",h=" + s.cfg.Advertised.hash(s.hash))
	}
	s.serverFirst = b.String()
	return []byte(s.serverFirst), nil
}

// checkBinding holds the GS2 flag against mechanism and offer. RFC 5802 6. These are
// no matter of credentials, so the client isn't told not-authorized, upon which it
// would ask its user for another password.
func (s *scramServer) checkBinding(gs2 *gs2Header) error {
	switch gs2.flag {
	case 'p':
		if !s.plus {
			return malformed("channel binding without -PLUS")
		}
		data, ok := s.cfg.binding(gs2.binding)
		if !ok {
			e := malformed("unsupported channel binding type")
			e.Err = ErrBindingType
			if gs2.binding == "tls-unique" {
				e.Err = ErrTLSUnique
			}
			return e
		}
		s.binding = data
	case 'y':
		if s.plus || s.cfg.Advertised.plus() && !s.cfg.TolerateUnbound {
			return malformed("channel binding is supported: the offer was tampered with")
		}
	default:
		if s.plus {
			e := malformed("-PLUS without channel binding")
			e.Err = ErrBindingType
			return e
		}
	}
	return nil
}

// finish checks the client's proof and returns ours.
func (s *scramServer) finish(in []byte) ([]byte, error) {
	m, ok := parseClientFinal(in)
	if !ok || len(m.proof) != s.hash.Size() {
		return nil, malformed("bad final message")
	}
	if m.nonce != s.nonce {
		return nil, malformed("wrong nonce")
	}
	data, ok := bytes.CutPrefix(m.binding, []byte(s.first.header))
	if !ok {
		return nil, malformed("GS2 header differs from the first message")
	}
	if subtle.ConstantTimeCompare(data, s.binding) != 1 {
		return nil, &Error{Condition: NotAuthorized, Text: "channel bindings don't match"}
	}
	message := s.first.bare + "," + s.serverFirst + "," + m.withoutProof
	clientKey := s.hash.hmac(s.keys.StoredKey, message)
	subtle.XORBytes(clientKey, clientKey, m.proof)
	match := subtle.ConstantTimeCompare(s.hash.sum(clientKey), s.keys.StoredKey) == 1
	if !match || !s.known {
		return nil, &Error{Condition: NotAuthorized}
	}
	return []byte("v=" + encode(s.hash.hmac(s.keys.ServerKey, message))), nil
}
