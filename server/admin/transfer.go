package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"carillon.im/jid"
)

// Exports and imports are no calls: what they carry has no bound. On the control socket each is a request of its own, whose body is the document.

// ExportFunc writes a document with accounts and rooms: all, or those in only.
type ExportFunc func(ctx context.Context, to io.Writer, only []jid.JID) error

// ImportFunc reads a document without includes and tells what becomes of each account. The values that it tells can be written as JSON.
type ImportFunc func(ctx context.Context, from io.Reader, o ImportOptions, tell func(any)) error

// ImportOptions are how a document is imported.
type ImportOptions struct {
	Dry      bool   // only look
	Existing string // "", "skip" or "merge"
	Lenient  bool
}

// transferLine is a line of the answer to an import: first what is told, at last how it ended.
type transferLine struct {
	Told  json.RawMessage `json:"told,omitempty"`
	Done  bool            `json:"done,omitempty"`
	Error string          `json:"error,omitempty"`
}

// serveExport answers with the document. If it breaks off, so does the connection: an answer that ends in order is complete.
func (h *Host) serveExport(w http.ResponseWriter, r *http.Request) {
	var only []jid.JID
	for _, s := range r.URL.Query()["only"] {
		j, err := parseAccount(s)
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnprocessableEntity)
			return
		}
		only = append(only, j)
	}
	w.Header().Set("Content-Type", "application/xml")
	counted := &counter{w: w}
	err := h.Export(r.Context(), counted, only)
	h.Log.Info("export", "bytes", counted.n, "error", err)
	switch {
	case err != nil && counted.n == 0:
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
	case err != nil:
		panic(http.ErrAbortHandler)
	}
}

// counter counts what is written.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// serveImport reads a document and answers line by line.
func (h *Host) serveImport(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	// A document takes as long as it takes. Only who owns the folder is here.
	if err := errors.Join(rc.SetReadDeadline(time.Time{}), rc.EnableFullDuplex()); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	q := r.URL.Query()
	o := ImportOptions{Dry: q.Get("dry") != "", Existing: q.Get("existing"), Lenient: q.Get("lenient") != ""}
	w.Header().Set("Content-Type", "application/x-ndjson")
	enc := json.NewEncoder(w)
	n := 0
	err := h.Import(r.Context(), r.Body, o, func(told any) {
		if b, err := json.Marshal(told); err == nil {
			_ = enc.Encode(transferLine{Told: b}) // who asked may have gone: then the body ends, too
			_ = rc.Flush()
			n++
		}
	})
	last := transferLine{Done: true}
	if err != nil {
		last.Error = err.Error()
	}
	_ = enc.Encode(last)
	h.Log.Info("import", "dry", o.Dry, "accounts", n, "error", err)
}

// Export is ExportFunc in the running server.
func (c *Client) Export(ctx context.Context, to io.Writer, only []jid.JID) error {
	q := url.Values{}
	for _, j := range only {
		q.Add("only", j.String())
	}
	resp, err := c.transfer(ctx, http.MethodGet, "/export?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(to, resp.Body)
	if err != nil {
		return fmt.Errorf("the server broke the export off (its log says why): %w", err)
	}
	return nil
}

// Import is ImportFunc in the running server. What is told comes as JSON.
func (c *Client) Import(ctx context.Context, from io.Reader, o ImportOptions, tell func(json.RawMessage) error) error {
	q := url.Values{"existing": {o.Existing}}
	if o.Dry {
		q.Set("dry", "1")
	}
	if o.Lenient {
		q.Set("lenient", "1")
	}
	resp, err := c.transfer(ctx, http.MethodPost, "/import?"+q.Encode(), from)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for dec := json.NewDecoder(resp.Body); ; {
		var l transferLine
		switch err := dec.Decode(&l); {
		case err != nil:
			return fmt.Errorf("the server's answer broke off: %w", err)
		case l.Done && l.Error != "":
			return errors.New(l.Error)
		case l.Done:
			return nil
		}
		if err := tell(l.Told); err != nil {
			return err
		}
	}
}

func (c *Client) transfer(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://carillon"+path, body)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		return nil, errors.New(strings.TrimSpace(string(text)))
	}
	return resp, nil
}
