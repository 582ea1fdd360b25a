package sasl

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"
)

// scramClient is the client's side of the SCRAM family. RFC 5802.
type scramClient struct {
	cfg  *ClientConfig
	hash Hash

	step      int    // calls of Next
	header    string // GS2
	binding   []byte
	bare      string // client-first-message-bare
	nonce     string
	keys      ClientKeys
	signature []byte // that the server has to show
}

var errServerMessage = errors.New("sasl: malformed message from the server")

func newScramClient(cfg *ClientConfig, h Hash, plus bool) (*scramClient, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	c := &scramClient{cfg: cfg, hash: h}
	flag, binding, err := cfg.gs2Flag(plus)
	if err != nil {
		return nil, err
	}
	c.header, c.binding = flag+",,", binding
	if cfg.Authzid != "" {
		c.header = flag + ",a=" + escapeName(cfg.Authzid) + ","
	}
	if c.nonce, err = newNonce(cfg.Rand); err != nil {
		return nil, err
	}
	c.bare = "n=" + escapeName(cfg.Username) + ",r=" + c.nonce
	return c, nil
}

func (c *scramClient) Next(in []byte) (out []byte, done bool, err error) {
	c.step++
	switch c.step {
	case 1:
		if len(in) == 0 { // an empty challenge asks for the initial response
			return []byte(c.header + c.bare), false, nil
		}
		err = errServerMessage
	case 2:
		out, err = c.prove(in)
	case 3:
		err = c.verify(in)
		done = err == nil
	default:
		err = errors.New("sasl: the exchange is over")
	}
	if err != nil {
		c.step = 3 // and so the next call is one too many
		return nil, false, err
	}
	return out, done, nil
}

// prove answers the server's first message with the client's proof.
func (c *scramClient) prove(in []byte) ([]byte, error) {
	m, ok := parseServerFirst(in)
	if !ok || !strings.HasPrefix(m.nonce, c.nonce) || len(m.nonce) == len(c.nonce) {
		return nil, errServerMessage
	}
	if m.protection == "" && c.cfg.suspicious() {
		return nil, ErrDowngrade
	}
	// XEP-0474 6.2. Who hasn't seen the offer has nothing to compare.
	if m.protection != "" && len(c.cfg.Advertised.Mechanisms) > 0 && m.protection != c.cfg.Advertised.hash(c.hash) {
		return nil, ErrDowngrade
	}
	// Fewer iterations would help who poses as the server to guess the password.
	if m.iterations < MinIterations || m.iterations > MaxIterations {
		return nil, fmt.Errorf("sasl: the server asks for %d iterations", m.iterations)
	}
	if err := c.findKeys(&m); err != nil {
		return nil, err
	}
	withoutProof := "c=" + encode(append([]byte(c.header), c.binding...)) + ",r=" + m.nonce
	message := c.bare + "," + string(in) + "," + withoutProof
	proof := c.hash.hmac(c.hash.sum(c.keys.ClientKey), message)
	subtle.XORBytes(proof, proof, c.keys.ClientKey)
	c.signature = c.hash.hmac(c.keys.ServerKey, message)
	return []byte(withoutProof + ",p=" + encode(proof)), nil
}

// findKeys takes the keys from the cache or derives them.
func (c *scramClient) findKeys(m *serverFirst) error {
	if k := c.cfg.Cache; k != nil && k.Hash == c.hash && k.Iterations == m.iterations && bytes.Equal(k.Salt, m.salt) &&
		len(k.ClientKey) == c.hash.Size() && len(k.ServerKey) == c.hash.Size() {
		c.keys = *k
		return nil
	}
	var err error
	c.keys, err = deriveClientKeys(c.hash, c.cfg.Password, m.salt, m.iterations)
	return err
}

// verify checks the server's signature.
func (c *scramClient) verify(in []byte) error {
	signature, ok := parseServerFinal(in)
	if !ok || subtle.ConstantTimeCompare(signature, c.signature) != 1 {
		return ErrServerUnproved
	}
	if c.cfg.Cache != nil {
		*c.cfg.Cache = c.keys
	}
	return nil
}
