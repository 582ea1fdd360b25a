package upload

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"io"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"carillon.im/server/store"
)

// fileID is a file: its account, and a number of its own.
type fileID struct {
	account store.AccountID
	number  [8]byte
	text    string // as it stands in addresses
}

// String is the id in addresses.
func (id fileID) String() string { return id.text }

// key is the id among those of its account.
func (id fileID) key() string { return hex.EncodeToString(id.number[:]) }

// newID makes an id. What stands in addresses is one block, encrypted: it tells
// nothing, and what nobody was given decrypts to an account that there isn't, or
// to a number that it doesn't have.
func (s *Service) newID(account store.AccountID) (fileID, error) {
	id := fileID{account: account}
	if _, err := io.ReadFull(s.opt.Rand, id.number[:]); err != nil {
		return fileID{}, err
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(account))
	copy(b[8:], id.number[:])
	s.block.Encrypt(b[:], b[:])
	id.text = base64.RawURLEncoding.EncodeToString(b[:])
	return id, nil
}

// parseID undoes newID.
func (s *Service) parseID(text string) (fileID, bool) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) != 16 {
		return fileID{}, false
	}
	s.block.Decrypt(b, b)
	id := fileID{account: store.AccountID(binary.BigEndian.Uint64(b)), text: text}
	copy(id.number[:], b[8:])
	return id, id.account > 0
}

// sign makes what lets its owner put the file until a time, in seconds of Unix.
func (s *Service) sign(id fileID, until int64) string {
	at := strconv.FormatInt(until, 10)
	h := hmac.New(sha256.New, s.opt.Secret[32:])
	h.Write([]byte(id.text + "\x00" + at))
	return at + "." + base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// signed reports whether a signature is for the file, and still good.
func (s *Service) signed(id fileID, signature string, now time.Time) bool {
	at, _, _ := strings.Cut(signature, ".")
	until, err := strconv.ParseInt(at, 10, 64)
	return err == nil && now.Unix() <= until && hmac.Equal([]byte(signature), []byte(s.sign(id, until)))
}

// file is where the file is kept.
func (s *Service) file(id fileID) string { return filepath.Join(s.folder(id.account), id.key()) }

func (s *Service) folder(account store.AccountID) string {
	return filepath.Join(s.opt.Folder, strconv.FormatInt(int64(account), 10))
}

// accountOf undoes folder.
func accountOf(name string) (store.AccountID, bool) {
	n, err := strconv.ParseInt(name, 10, 64)
	return store.AccountID(n), err == nil && n > 0 && strconv.FormatInt(n, 10) == name
}

// escape writes a file's name as the end of an address.
func escape(name string) string { return url.PathEscape(name) }
