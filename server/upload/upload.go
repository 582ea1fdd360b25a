// Package upload keeps files that users send each other (XEP-0363).
//
// A file begins as a slot: a row among its account's values in the store, which says
// what may be put there, and counts against the account's quota from then on. The
// slot's address names the row, encrypted, so that two files of one account don't
// look alike; the address to put to is signed besides and soon worth nothing. A
// file is written beside its place and renamed into it, then the row says that it is
// there. So a row is the truth: without one, which is how an account's removal, the
// end of its time and a restart in the middle all look, there is no file, and Clean
// deletes what is left of it. No name that a client chose is a name on the disk.
//
// Service is two things: the domains upload.DOMAIN, as the accounts' border to them,
// and a http.Handler.
package upload

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"os"
	"strings"
	"sync"
	"time"

	"carillon.im/jid"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// Label is what stands before a domain to name its service.
const Label = "upload"

// SecretSize is the length of Options.Secret.
const SecretSize = 64

// space is where the store keeps the rows.
const space = "upload"

const (
	slotTime  = 5 * time.Minute // XEP-0363 4 suggests as much
	maxFiles  = 2000            // rows of one account
	maxAsking = 64              // requests that are being answered
)

// Store is what the service needs of the store.
type Store interface {
	Account(ctx context.Context, bare jid.JID) (store.AccountInfo, error)
	KVGet(ctx context.Context, id store.AccountID, space, key string) ([]byte, error)
	KVList(ctx context.Context, id store.AccountID, space string) ([]store.KV, error)
	Commit(ctx context.Context, ops ...store.Op) error
}

// Limits are what accounts may use, in bytes.
type Limits struct {
	File, Day, Account int64
	Keep               time.Duration
	Types              []string // "image/*" or "image/png"; none: all
}

// Options are what New needs.
type Options struct {
	Store   Store
	Folder  string // made when it is needed
	Secret  []byte // of SecretSize, the same ever after
	Limits  Limits
	Domains []string // served
	// Base is where the web finds the service, by domain, without a slash at the end.
	Base func(domain string) string
	// Receive takes answers to the accounts.
	Receive func(context.Context, *stanza.Stanza) error
	Now     func() time.Time
	Rand    io.Reader
	Log     *slog.Logger
}

// Service keeps files. Its methods may be called concurrently.
type Service struct {
	opt    Options
	block  cipher.Block // of ids
	ctx    context.Context
	cancel context.CancelFunc
	asking chan struct{}

	granting sync.Mutex // what is counted isn't granted twice
	mu       sync.Mutex
	busy     map[string]bool // files that are being put
	closed   bool
	running  sync.WaitGroup
}

// New makes a service.
func New(o Options) (*Service, error) {
	if len(o.Secret) != SecretSize {
		return nil, fmt.Errorf("upload: a secret of %d bytes", len(o.Secret))
	}
	block, err := aes.NewCipher(o.Secret[:32])
	if err != nil {
		return nil, err
	}
	s := &Service{opt: o, block: block, asking: make(chan struct{}, maxAsking), busy: map[string]bool{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// Close waits for the requests that are being answered; new ones are refused.
func (s *Service) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.running.Wait()
}

// Serves reports whether a domain is one of the service's.
func (s *Service) Serves(domain string) bool {
	parent, ok := strings.CutPrefix(domain, Label+".")
	return ok && s.local(parent)
}

func (s *Service) local(domain string) bool {
	for _, d := range s.opt.Domains {
		if d == domain {
			return true
		}
	}
	return false
}

// Own implements account.Border.
func (s *Service) Own() bool { return true }

// Send implements account.Border: it takes a stanza to the service.
func (s *Service) Send(st *stanza.Stanza) *stanza.Error {
	switch {
	case st.Kind == stanza.Presence, st.Type == stanza.TypeError, st.Type == stanza.TypeResult:
		return nil
	case st.Kind != stanza.IQ || !st.To.IsDomain():
		return stanza.NewError(stanza.ServiceUnavailable, "")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.asking <- struct{}{}:
	default:
		return stanza.NewError(stanza.ResourceConstraint, "too many requests at once")
	}
	if s.closed {
		return stanza.NewError(stanza.ServiceUnavailable, "")
	}
	s.running.Go(func() {
		defer func() { <-s.asking }()
		if err := s.opt.Receive(s.ctx, s.answer(st)); err != nil && s.ctx.Err() == nil {
			s.opt.Log.Error("an answer about uploads is lost", "error", err)
		}
	})
	return nil
}

// answer answers a request.
func (s *Service) answer(st *stanza.Stanza) *stanza.Stanza {
	var payload string
	err := error(stanza.NewError(stanza.ServiceUnavailable, ""))
	p := st.Payload()
	if st.Type == stanza.TypeGet {
		switch p.Name() {
		case xmltree.Name{Space: xep.NSDiscoInfo, Local: "query"}:
			payload, err = s.info(p)
		case xmltree.Name{Space: xep.NSDiscoItems, Local: "query"}:
			payload, err = string(xep.AppendDiscoItems(nil, p.Attr("node"), nil)), nil
		case xmltree.Name{Space: xep.NSPing, Local: "ping"}:
			err = nil
		case xmltree.Name{Space: xep.NSUpload, Local: "request"}:
			payload, err = s.grant(st, p)
		}
	}
	if err == nil {
		return st.Reply(payload)
	}
	e, known := stanza.AsError(err)
	if !known {
		s.opt.Log.Error("a slot can't be given", "account", st.From.Bare().String(), "error", err)
	}
	return st.ErrorReply(e)
}

// info tells what this is (XEP-0363 3).
func (s *Service) info(p xmltree.Element) (string, error) {
	if p.Attr("node") != "" {
		return "", stanza.NewError(stanza.ItemNotFound, "there is no such node")
	}
	form, err := xmltree.Parse([]byte(xep.UploadForm(s.opt.Limits.File)), stanza.NSClient, xmltree.Limits{})
	if err != nil {
		return "", err
	}
	return string(xep.AppendDiscoInfo(nil, "", xep.DiscoInfo{
		Identities: []xep.Identity{{Category: "store", Type: "file", Name: "Files"}},
		Features:   []string{xep.NSDiscoInfo, xep.NSDiscoItems, xep.NSPing, xep.NSUpload},
		Forms:      []xmltree.Element{form},
	})), nil
}

// row is what the store knows of a file, or of the slot for one.
type row struct {
	Name    string
	Type    string `json:",omitempty"`
	Size    int64
	Created time.Time
	Done    bool `json:",omitempty"` // the file is there
}

// over reports whether a row is worth nothing any more.
func (s *Service) over(r *row, now time.Time) bool {
	if !r.Done {
		return now.Sub(r.Created) > slotTime
	}
	return now.Sub(r.Created) > s.opt.Limits.Keep
}

// errRow is a row that can't be read.
var errRow = errors.New("upload: a damaged row")

func parseRow(b []byte) (*row, error) {
	r := &row{}
	if json.Unmarshal(b, r) != nil || r.Name == "" || r.Size <= 0 {
		return nil, errRow
	}
	return r, nil
}

// grant gives an account a slot.
func (s *Service) grant(st *stanza.Stanza, p xmltree.Element) (string, error) {
	lim := &s.opt.Limits
	req, err := xep.ParseUploadRequest(p)
	if err != nil {
		return "", err
	}
	if !s.local(st.From.Domain()) {
		return "", stanza.NewError(stanza.Forbidden, "this is for the server's own users")
	}
	if req.Size > lim.File {
		e := stanza.NewError(stanza.NotAcceptable, fmt.Sprintf("files of at most %d bytes are taken", lim.File))
		e.App = xep.UploadTooLarge(lim.File)
		return "", e
	}
	if req.Type != "" {
		if req.Type = mediaType(req.Type); req.Type == "" {
			return "", stanza.NewError(stanza.BadRequest, "this is no type of content")
		}
	}
	if !allowed(lim.Types, req.Type) {
		return "", stanza.NewError(stanza.NotAcceptable, "files of this type aren't taken")
	}
	account, err := s.opt.Store.Account(s.ctx, st.From.Bare())
	if errors.Is(err, store.ErrNotFound) {
		return "", stanza.NewError(stanza.Forbidden, "")
	} else if err != nil {
		return "", err
	}
	r := &row{Name: req.Name, Type: req.Type, Size: req.Size, Created: s.opt.Now()}
	id, err := s.reserve(account.ID, r)
	if err != nil {
		return "", err
	}
	get := s.opt.Base(st.From.Domain()) + Path + id.String() + "/" + escape(req.Name)
	return string(xep.AppendUploadSlot(nil, get+"?"+slotParam+"="+s.sign(id, r.Created.Add(slotTime).Unix()), get)), nil
}

// reserve makes a row if the account has room for it.
func (s *Service) reserve(account store.AccountID, r *row) (fileID, error) {
	s.granting.Lock()
	defer s.granting.Unlock()
	list, err := s.opt.Store.KVList(s.ctx, account, space)
	if err != nil {
		return fileID{}, err
	}
	lim, day := &s.opt.Limits, r.Created.Add(-24*time.Hour)
	var ops []store.Op
	var today, all int64
	oldest, retry := r.Created.Add(lim.Keep), r.Created.Add(24*time.Hour)
	files := 0
	for _, kv := range list {
		had, err := parseRow(kv.Value)
		if err != nil || !had.Done && s.over(had, r.Created) && !s.putting(account, kv.Key) {
			ops = append(ops, store.KVDelete{Account: account, Space: space, Key: kv.Key})
			continue
		}
		files++
		all += had.Size
		oldest = earlier(oldest, had.Created.Add(lim.Keep))
		if had.Created.After(day) {
			today += had.Size
			retry = earlier(retry, had.Created.Add(24*time.Hour))
		}
	}
	switch {
	case today+r.Size > lim.Day:
		return fileID{}, full("too many bytes in one day", retry)
	case all+r.Size > lim.Account || files >= maxFiles:
		return fileID{}, full("too much is kept for this account", oldest)
	}
	id, err := s.newID(account)
	if err != nil {
		return fileID{}, err
	}
	value, err := json.Marshal(r)
	if err != nil {
		return fileID{}, err
	}
	return id, s.opt.Store.Commit(s.ctx, append(ops, store.KVPut{Account: account, Space: space, Key: id.key(), Value: value})...)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// full says that there is no room until a time.
func full(text string, until time.Time) error {
	e := stanza.NewError(stanza.ResourceConstraint, text)
	e.App = xep.UploadRetry(until)
	return e
}

// mediaType is a type without parameters, "" if it is none.
func mediaType(s string) string {
	t, _, err := mime.ParseMediaType(s)
	if err != nil || strings.Count(t, "/") != 1 || len(t) > 200 {
		return ""
	}
	return t
}

// allowed reports whether a type is among those that are taken.
func allowed(types []string, t string) bool {
	for _, one := range types {
		if family, ok := strings.CutSuffix(one, "*"); one == t || ok && strings.HasPrefix(t, family) {
			return true
		}
	}
	return len(types) == 0
}

// Clean deletes files that no row names, and rows and files whose time is over. One
// call runs at a time.
func (s *Service) Clean(ctx context.Context) error {
	entries, err := os.ReadDir(s.opt.Folder)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if account, ok := accountOf(e.Name()); ok && e.IsDir() {
			err = errors.Join(err, s.cleanAccount(ctx, account))
		}
	}
	return err
}
