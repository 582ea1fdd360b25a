package upload

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"carillon.im/server/store"
)

// Path is where files are, below Options.Base.
const Path = "/upload/"

// slotParam is the parameter that carries a slot's signature.
const slotParam = "slot"

const (
	// stallTime is how long nothing may come of a file that is being put.
	stallTime = 30 * time.Second
	// slowest is how fast a file has to be read at least, in bytes per second.
	slowest = 8 << 10
	// part is what the name of a file ends with that isn't complete.
	part = ".part"
)

// ServeHTTP implements http.Handler: GET, HEAD and PUT below Path.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	text, name, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, Path), "/")
	id, valid := s.parseID(text)
	if !ok || !valid {
		http.NotFound(w, r)
		return
	}
	switch r.Method {
	case http.MethodPut:
		s.put(w, r, id, name)
	case http.MethodGet, http.MethodHead:
		s.get(w, r, id, name)
	default:
		w.Header().Set("Allow", "GET, HEAD, PUT, OPTIONS")
		http.Error(w, "", http.StatusMethodNotAllowed)
	}
}

// row reads a row, nil if there is none, its time is over or its file has another name.
func (s *Service) row(ctx context.Context, id fileID, name string) (*row, error) {
	value, err := s.opt.Store.KVGet(ctx, id.account, space, id.key())
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	r, err := parseRow(value)
	if err != nil || r.Name != name || s.over(r, s.opt.Now()) {
		return nil, err
	}
	return r, nil
}

// fail says that something is wrong with the server.
func (s *Service) fail(w http.ResponseWriter, doing string, err error) {
	s.opt.Log.Error(doing, "error", err)
	http.Error(w, "the server has a problem", http.StatusInternalServerError)
}

// get sends a file, which browsers show in no context in which it could do harm.
func (s *Service) get(w http.ResponseWriter, r *http.Request, id fileID, name string) {
	row, err := s.row(r.Context(), id, name)
	if err != nil {
		s.fail(w, "an upload can't be looked up", err)
		return
	}
	if row == nil || !row.Done {
		http.NotFound(w, r)
		return
	}
	f, err := os.Open(s.file(id))
	if errors.Is(err, os.ErrNotExist) {
		http.NotFound(w, r)
		return
	} else if err != nil {
		s.fail(w, "an upload can't be read", err)
		return
	}
	defer f.Close()
	h := w.Header()
	typ := row.Type
	if typ == "" {
		typ = "application/octet-stream"
	}
	h.Set("Content-Type", typ)
	h.Set("Content-Disposition", disposition(typ, name))
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "public, max-age=604800, immutable")
	h.Set("ETag", `"`+id.text+`"`)
	// For slow readers there is one deadline: io.Copy to a socket has no moment between.
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(stallTime + time.Duration(row.Size/slowest)*time.Second))
	http.ServeContent(w, r, "", row.Created, f)
}

// disposition says that a file is to be saved, unless it is of a kind that shows and
// does nothing else. SVG has scripts.
func disposition(typ, name string) string {
	how := "attachment"
	family, _, _ := strings.Cut(typ, "/")
	if typ == "text/plain" || (family == "image" || family == "audio" || family == "video") && !strings.Contains(typ, "xml") {
		how = "inline"
	}
	if d := mime.FormatMediaType(how, map[string]string{"filename": name}); d != "" {
		return d
	}
	return how
}

// put takes a file into its slot, once.
func (s *Service) put(w http.ResponseWriter, r *http.Request, id fileID, name string) {
	if !s.signed(id, r.URL.Query().Get(slotParam), s.opt.Now()) {
		http.Error(w, "the slot isn't yours, or its time is over", http.StatusForbidden)
		return
	}
	row, err := s.row(r.Context(), id, name)
	switch {
	case err != nil:
		s.fail(w, "a slot can't be looked up", err)
		return
	case row == nil:
		http.NotFound(w, r)
		return
	case row.Done:
		http.Error(w, "the file is there", http.StatusConflict)
		return
	case r.ContentLength < 0:
		http.Error(w, "", http.StatusLengthRequired)
		return
	case r.ContentLength > row.Size:
		http.Error(w, "larger than the slot", http.StatusRequestEntityTooLarge)
		return
	case r.ContentLength != row.Size:
		http.Error(w, "smaller than the slot", http.StatusBadRequest)
		return
	case row.Type != "" && mediaType(r.Header.Get("Content-Type")) != row.Type:
		http.Error(w, "of another type than the slot", http.StatusUnsupportedMediaType)
		return
	case r.Header.Get("Content-Encoding") != "" || r.Header.Get("Content-Range") != "":
		http.Error(w, "the file as it is, and whole", http.StatusBadRequest)
		return
	case !s.claim(id):
		http.Error(w, "the file is being put", http.StatusConflict)
		return
	}
	defer s.release(id)
	// Somebody else may have been faster, between the look and the claim.
	if row, err = s.row(r.Context(), id, name); err == nil && (row == nil || row.Done) {
		http.Error(w, "the file is there", http.StatusConflict)
		return
	}
	if err == nil {
		err = s.take(w, r, id, row)
	}
	var gone *clientError
	switch {
	case errors.As(err, &gone):
		http.Error(w, "the file did not come whole", http.StatusBadRequest)
	case errors.Is(err, store.ErrNotFound):
		http.NotFound(w, r)
	case err != nil:
		s.fail(w, "a file can't be kept", err)
	default:
		w.WriteHeader(http.StatusCreated)
	}
}

// claim makes the caller the only one who puts a file.
func (s *Service) claim(id fileID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy[s.file(id)] || s.closed {
		return false
	}
	s.busy[s.file(id)] = true
	s.running.Add(1)
	return true
}

func (s *Service) release(id fileID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.busy, s.file(id))
	s.running.Done()
}

// putting reports whether an account's file is being put.
func (s *Service) putting(account store.AccountID, key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.busy[filepath.Join(s.folder(account), key)]
}

// clientError is what went wrong with the client.
type clientError struct{ error }

// take writes the file: beside its place, then into it, then the row.
func (s *Service) take(w http.ResponseWriter, r *http.Request, id fileID, row *row) (err error) {
	folder := s.folder(id.account)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(s.file(id)+part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name()) // Clean does it else
		}
	}()
	body := &patient{r.Body, http.NewResponseController(w)}
	n, err := io.Copy(f, io.LimitReader(body, row.Size))
	if err == nil && n != row.Size {
		err = &clientError{io.ErrUnexpectedEOF}
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), s.file(id)); err != nil {
		return err
	}
	if err = syncFolder(folder); err != nil {
		return err
	}
	row.Done = true
	value, err := json.Marshal(row)
	if err != nil {
		return err
	}
	// The file is there whether or not the client still waits to be told.
	return s.opt.Store.Commit(context.WithoutCancel(r.Context()), store.KVPut{Account: id.account, Space: space, Key: id.key(), Value: value})
}

// patient reads a body as long as something comes.
type patient struct {
	io.Reader
	control *http.ResponseController
}

// Read implements io.Reader.
func (p *patient) Read(b []byte) (int, error) {
	p.control.SetReadDeadline(time.Now().Add(stallTime)) // where it can't be set there is no network
	n, err := p.Reader.Read(b)
	if err != nil && err != io.EOF {
		err = &clientError{err}
	}
	return n, err
}

// syncFolder makes a rename last.
func syncFolder(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	// Some systems can't sync folders, and don't need to.
	if err := d.Sync(); err != nil && !errors.Is(err, os.ErrInvalid) {
		return errors.Join(err, d.Close())
	}
	return d.Close()
}

// cleanAccount is Clean for one account.
func (s *Service) cleanAccount(ctx context.Context, account store.AccountID) error {
	folder := s.folder(account)
	files, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	list, err := s.opt.Store.KVList(ctx, account, space)
	if err != nil {
		return err
	}
	now := s.opt.Now()
	keep := map[string]bool{}
	var ops []store.Op
	for _, kv := range list {
		if r, err := parseRow(kv.Value); err == nil && !s.over(r, now) || s.putting(account, kv.Key) {
			keep[kv.Key] = true
			continue
		}
		ops = append(ops, store.KVDelete{Account: account, Space: space, Key: kv.Key})
	}
	left := 0
	for _, f := range files {
		key, unfinished := strings.CutSuffix(f.Name(), part)
		if keep[key] && (!unfinished || s.putting(account, key)) {
			left++
			continue
		}
		err = errors.Join(err, os.Remove(filepath.Join(folder, f.Name())))
	}
	if len(ops) > 0 {
		err = errors.Join(err, s.opt.Store.Commit(ctx, ops...))
	}
	if left == 0 && err == nil {
		os.Remove(folder) // not if something came meanwhile
	}
	return err
}
