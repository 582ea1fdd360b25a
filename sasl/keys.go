package sasl

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Hash is the hash function of a SCRAM mechanism. The zero value is none.
type Hash uint8

// The hashes. The values are fit for storage: they will not change.
const (
	SHA1   Hash = 1
	SHA256 Hash = 2
	SHA512 Hash = 3
)

// String returns the name as it stands in mechanism names, for instance SHA-256.
func (h Hash) String() string {
	switch h {
	case SHA1:
		return "SHA-1"
	case SHA256:
		return "SHA-256"
	case SHA512:
		return "SHA-512"
	}
	return fmt.Sprintf("Hash(%d)", uint8(h))
}

// Size is the number of octets of a hash and of each key; 0 for an unknown Hash.
func (h Hash) Size() int {
	switch h {
	case SHA1:
		return sha1.Size
	case SHA256:
		return sha256.Size
	case SHA512:
		return sha512.Size
	}
	return 0
}

// new returns a running hash. h must be one of the constants.
func (h Hash) new() hash.Hash {
	switch h {
	case SHA1:
		return sha1.New()
	case SHA256:
		return sha256.New()
	}
	return sha512.New()
}

func (h Hash) sum(b []byte) []byte {
	w := h.new()
	w.Write(b)
	return w.Sum(nil)
}

func (h Hash) hmac(key []byte, message string) []byte {
	w := hmac.New(h.new, key)
	w.Write([]byte(message))
	return w.Sum(nil)
}

// SaltSize is the number of octets of salt that new Keys should have, and that the
// salts of unknown users have. Salts of one user's several hashes are to be
// independent, for those of unknown users are.
const SaltSize = 16

// Limits on what is taken as parameters of a derivation. RFC 7677 4 asks for 4096
// iterations or more; the upper limit is ours, to keep a server from stalling a client.
const (
	MinIterations = 4096
	MaxIterations = 1 << 20
	maxSalt       = 1024
)

// Keys are what a server stores of a password for one Hash. RFC 5802 3. Who has them
// can pose as the server and guess at the password, but not log in.
type Keys struct {
	Hash       Hash
	Iterations int
	Salt       []byte
	StoredKey  []byte
	ServerKey  []byte
}

// ClientKeys are what a client may keep in place of a password, for as long as salt
// and iterations stay the same. Who has them can log in.
type ClientKeys struct {
	Hash       Hash
	Iterations int
	Salt       []byte
	ClientKey  []byte
	ServerKey  []byte
}

// ErrPassword is returned for a password that is empty, longer than 1,024 octets, or
// has characters that no password may have.
var ErrPassword = errors.New("sasl: not a usable password")

// DeriveKeys prepares the password and derives a server's keys from it, which takes
// time in proportion to iterations. It returns ErrPassword for a bad password, and
// another error for an unknown hash, an empty or very long salt, or iterations below
// 1 or above MaxIterations. Few as 1 are for tests: use MinIterations or more.
//
// The preparation is SASLprep's mapping (RFC 4013 2.1, 2.2), as RFC 5802 asks, since
// it happens at the client and existing clients do it so: ignorable characters go,
// spaces become U+0020, then NFKC. What may stand in a password is wider than there:
// all graphic characters of today's Unicode, where SASLprep knows those of Unicode 3.2
// and restricts the mixing of directions, which RFC 8265 has given up for passwords.
func DeriveKeys(h Hash, password string, salt []byte, iterations int) (Keys, error) {
	k, err := deriveClientKeys(h, password, salt, iterations)
	if err != nil {
		return Keys{}, err
	}
	return Keys{h, iterations, k.Salt, h.sum(k.ClientKey), k.ServerKey}, nil
}

// deriveClientKeys is DeriveKeys for the client's keys. RFC 5802 3.
func deriveClientKeys(h Hash, password string, salt []byte, iterations int) (ClientKeys, error) {
	salted, err := SaltPassword(h, password, salt, iterations)
	if err != nil {
		return ClientKeys{}, err
	}
	return ClientKeys{h, iterations, bytes.Clone(salt), h.hmac(salted, "Client Key"), h.hmac(salted, "Server Key")}, nil
}

// SaltPassword returns RFC 5802 3's SaltedPassword, which a client gives to a server that
// asks for keys of another hash (XEP-0480 3). Who has it can log in. Errors are those of
// DeriveKeys.
func SaltPassword(h Hash, password string, salt []byte, iterations int) ([]byte, error) {
	switch {
	case h.Size() == 0:
		return nil, fmt.Errorf("sasl: unknown hash %v", h)
	case len(salt) == 0 || len(salt) > maxSalt:
		return nil, fmt.Errorf("sasl: a salt of %d octets", len(salt))
	case iterations < 1 || iterations > MaxIterations:
		return nil, fmt.Errorf("sasl: %d iterations", iterations)
	}
	password, err := preparePassword(password)
	if err != nil {
		return nil, err
	}
	salted, err := pbkdf2.Key(h.new, password, salt, iterations, h.Size())
	if err != nil {
		return nil, fmt.Errorf("sasl: deriving keys: %w", err)
	}
	return salted, nil
}

// SaltedKeys are a server's keys for a SaltedPassword that was made with these
// parameters. It fails for one that isn't as long as the hash, and for what DeriveKeys
// refuses in hash, salt and iterations.
func SaltedKeys(h Hash, salted, salt []byte, iterations int) (Keys, error) {
	k := Keys{Hash: h, Iterations: iterations, Salt: bytes.Clone(salt)}
	if h.Size() == 0 || len(salted) != h.Size() {
		return Keys{}, fmt.Errorf("sasl: a salted password of %d octets for %v", len(salted), h)
	}
	k.StoredKey, k.ServerKey = h.sum(h.hmac(salted, "Client Key")), h.hmac(salted, "Server Key")
	if err := k.check(h); err != nil {
		return Keys{}, err
	}
	return k, nil
}

// VerifyPassword reports whether k was derived from the password. It derives the keys
// again and compares them in constant time; a password that DeriveKeys refuses is no
// match, and keys that aren't valid match nothing.
func (k Keys) VerifyPassword(password string) bool {
	got, err := DeriveKeys(k.Hash, password, k.Salt, k.Iterations)
	return err == nil && subtle.ConstantTimeCompare(got.StoredKey, k.StoredKey) == 1
}

// check reports keys that no derivation can have made, which is to say a broken store.
func (k *Keys) check(h Hash) error {
	if k.Hash != h || k.Iterations < 1 || k.Iterations > MaxIterations || len(k.Salt) == 0 || len(k.Salt) > maxSalt ||
		len(k.StoredKey) != h.Size() || len(k.ServerKey) != h.Size() {
		return fmt.Errorf("sasl: stored %v keys are not valid", h)
	}
	return nil
}

// dummyKeys makes up the keys of an unknown user: always the same for the same name,
// so that asking twice tells nothing. The salt is all that gets out of them; an
// exchange with them fails even if a proof should match.
func dummyKeys(secret []byte, h Hash, authcid string, iterations int) Keys {
	made := SHA512.hmac(secret, h.String()+"\x00"+strconv.Itoa(iterations)+"\x00"+authcid)
	return Keys{h, iterations, made[:SaltSize], made[:h.Size()], made[:h.Size()]}
}

const maxPassword = 1024

// preparePassword is what DeriveKeys says.
func preparePassword(s string) (string, error) {
	if len(s) > maxPassword || !utf8.ValidString(s) {
		return "", ErrPassword
	}
	s = norm.NFKC.String(strings.Map(saslprepMap, s))
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsGraphic(r) }) {
		return "", ErrPassword
	}
	return s, nil
}

// saslprepMap is the mapping of RFC 4013 2.1: RFC 3454's table C.1.2 to a space and
// its table B.1 to nothing.
func saslprepMap(r rune) rune {
	switch {
	case r == 0xa0, r == 0x1680, 0x2000 <= r && r <= 0x200b, r == 0x202f, r == 0x205f, r == 0x3000:
		return ' '
	case r == 0xad, r == 0x34f, r == 0x1806, 0x180b <= r && r <= 0x180d, r == 0x200c, r == 0x200d, r == 0x2060,
		0xfe00 <= r && r <= 0xfe0f, r == 0xfeff:
		return -1
	}
	return r
}

// Format keeps keys out of everything that is printed.
func (k Keys) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "sasl.Keys(%v)", k.Hash) }

// MarshalText refuses, so that no encoder writes keys where somebody may read them.
// They are stored field by field.
func (k Keys) MarshalText() ([]byte, error) { return nil, errSecret }

// Format keeps keys out of everything that is printed.
func (k ClientKeys) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "sasl.ClientKeys(%v)", k.Hash) }

// MarshalText refuses, as that of Keys.
func (k ClientKeys) MarshalText() ([]byte, error) { return nil, errSecret }

var errSecret = errors.New("sasl: keys are not text")
