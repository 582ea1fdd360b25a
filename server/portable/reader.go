package portable

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"path"
	"strings"

	"carillon.im/xmltree"
)

// ErrOther tells that a file is no document of XEP-0227, or only a part of one.
var ErrOther = errors.New("no document of XEP-0227")

// Reader reads documents of XEP-0227, one after the other, and what they include (5).
// It must not be used concurrently.
type Reader struct {
	open    func(file string) (io.ReadCloser, error)
	more    []string  // documents that follow
	sources []*source // the innermost last
	around  []xmltree.Name
	buf     []byte
}

// source is one file.
type source struct {
	file  string
	in    io.ReadCloser
	scan  *xmltree.Scanner
	rest  []byte // read, not scanned
	read  int64  // bytes scanned
	depth int    // of containers around its root
	begun bool
}

// NewReader reads files, which open opens, as it does what they include, by paths with
// slashes.
func NewReader(open func(file string) (io.ReadCloser, error), files ...string) *Reader {
	return &Reader{open: open, more: files, buf: make([]byte, 64<<10)}
}

// NewStreamReader reads a document that includes nothing.
func NewStreamReader(in io.Reader) *Reader {
	r := &Reader{buf: make([]byte, 64<<10)}
	r.push(io.NopCloser(in), "")
	return r
}

func (r *Reader) push(in io.ReadCloser, file string) {
	s := &source{file: file, in: in, scan: xmltree.NewScanner(unitLimits()), depth: len(r.around)}
	s.scan.Descend(func(n xmltree.Name) bool { return container(r.around, n) })
	r.sources = append(r.sources, s)
}

// Close closes the files that are still open.
func (r *Reader) Close() error {
	var err error
	for _, s := range r.sources {
		err = errors.Join(err, s.in.Close())
	}
	r.sources = nil
	return err
}

// within is the container that is open.
func (r *Reader) within() xmltree.Name {
	if len(r.around) == 0 {
		return xmltree.Name{}
	}
	return r.around[len(r.around)-1]
}

// Next reads the next part; its Kind is None behind the last. An error is final.
func (r *Reader) Next() (Part, error) {
	for {
		if len(r.sources) == 0 {
			if len(r.more) == 0 {
				return Part{}, nil
			}
			in, err := r.open(r.more[0])
			if err != nil {
				return Part{}, err
			}
			r.push(in, r.more[0])
			r.more = r.more[1:]
		}
		s := r.sources[len(r.sources)-1]
		at := Place{s.file, s.read}
		tok, err := r.token(s)
		if err != nil {
			return Part{}, fmt.Errorf("%s: %w", at, err)
		}
		switch {
		case tok.Kind == xmltree.None: // the end of the file
			if err := s.in.Close(); err != nil {
				return Part{}, fmt.Errorf("%s: %w", at, err)
			}
			r.sources = r.sources[:len(r.sources)-1]
			continue
		case tok.Kind == xmltree.StreamStart && !s.begun:
			s.begun = true
			if !container(r.around, tok.Element.Name()) {
				return r.whole(s, at, tok.Element)
			}
		case tok.Kind == xmltree.Unit && tok.Element.Is(nsInclude, "include") && len(r.around) <= 3:
			// Deeper it is a user's data (XEP-0227 5, 6).
			if err := r.include(s, tok.Element); err != nil {
				return Part{}, fmt.Errorf("%s: %w", at, err)
			}
			continue
		}
		switch tok.Kind {
		case xmltree.StreamStart:
			r.around = append(r.around, tok.Element.Name())
		case xmltree.StreamEnd:
			r.around = r.around[:len(r.around)-1]
		}
		return Part{Kind: tok.Kind, Element: tok.Element, Place: at}, nil
	}
}

// token scans one token of a file, None at its end.
func (r *Reader) token(s *source) (xmltree.Token, error) {
	for {
		tok, n, err := s.scan.Next(s.rest)
		s.rest, s.read = s.rest[n:], s.read+int64(n)
		if err != nil {
			return tok, syntax(err)
		}
		if tok.Kind != xmltree.None {
			return tok, nil
		}
		n, err = s.in.Read(r.buf)
		s.rest = r.buf[:n]
		switch {
		case n > 0:
			// The buffer is one file's until it is scanned: another's is read in between only
			// after include has put it aside.
		case errors.Is(err, io.EOF):
			if len(r.around) > s.depth || !s.begun || s.scan.InUnit() {
				return tok, errors.New("the document ends too early")
			}
			return tok, nil
		case err != nil:
			return tok, err
		}
	}
}

// syntax words what is wrong with a document. The place is told already.
func syntax(err error) error {
	wrong, ok := errors.AsType[*xmltree.SyntaxError](err)
	if !ok {
		return err
	}
	return fmt.Errorf("not what XEP-0227 allows: %s at byte %d", wrong.Msg, wrong.Offset)
}

// include goes on with another file.
func (r *Reader) include(s *source, el xmltree.Element) error {
	href := el.Attr("href")
	u, err := url.Parse(href)
	if _, pointed := el.LookupAttr("", "xpointer"); err != nil || pointed || el.Attr("parse") != "" || href == "" ||
		u.Scheme != "" || u.Host != "" || u.RawQuery != "" || u.Fragment != "" || strings.HasPrefix(u.Path, "/") {
		return fmt.Errorf("it includes %.200q, which is no file beside it", href)
	}
	file := path.Join(path.Dir(s.file), u.Path)
	switch {
	case r.open == nil:
		return fmt.Errorf("it includes %.200q: give the file, not a stream of it", file)
	case len(r.sources) == maxIncludes:
		return errors.New("documents include each other too deep")
	}
	in, err := r.open(file)
	if err != nil {
		return fmt.Errorf("it includes %.200q: %w", file, err)
	}
	s.rest = append([]byte(nil), s.rest...) // the buffer is the other file's now
	r.push(in, file)
	return nil
}

// whole reads a file that is one unit.
func (r *Reader) whole(s *source, at Place, root xmltree.Element) (Part, error) {
	if len(r.around) != 3 {
		want := "<host/>"
		switch len(r.around) {
		case 0:
			want = "<server-data/>"
		case 2:
			want = "<user/>"
		}
		return Part{}, fmt.Errorf("%s: %w: it is <%.40s xmlns='%.80s'/>, not %s", at, ErrOther, root.Local(), root.Space(), want)
	}
	in, err := r.open(s.file)
	if err != nil {
		return Part{}, err
	}
	b, err := io.ReadAll(io.LimitReader(in, maxUnit+1))
	if err = errors.Join(err, in.Close(), s.in.Close()); err != nil {
		return Part{}, err
	}
	el, err := xmltree.Parse(b, "", unitLimits())
	if err != nil {
		return Part{}, fmt.Errorf("%s: %w", at, syntax(err))
	}
	r.sources = r.sources[:len(r.sources)-1]
	return Part{Kind: xmltree.Unit, Element: el, Place: at}, nil
}
