package portable

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"

	"carillon.im/xmltree"
)

// stream is a Sink that writes one document.
type stream struct {
	w      *bufio.Writer
	around []xmltree.Element
}

// NewSink writes one document; what it writes is complete with the end of the
// outermost container.
func NewSink(w io.Writer) Sink { return &stream{w: bufio.NewWriterSize(w, 64<<10)} }

func (s *stream) space() string {
	if len(s.around) == 0 {
		return ""
	}
	return s.around[len(s.around)-1].Space()
}

func (s *stream) Open(el xmltree.Element) error {
	if len(s.around) == 0 {
		s.w.WriteString("<?xml version='1.0' encoding='UTF-8'?>\n")
	}
	tag := el.AppendTo(nil, s.space())
	s.w.Write(tag[:len(tag)-len("/>")])
	s.around = append(s.around, el)
	_, err := s.w.WriteString(">\n")
	return err
}

func (s *stream) Unit(xml []byte) error {
	s.w.Write(xml)
	return s.w.WriteByte('\n')
}

func (s *stream) End() error {
	el := s.around[len(s.around)-1]
	s.around = s.around[:len(s.around)-1]
	_, err := fmt.Fprintf(s.w, "</%s>\n", el.Local())
	if len(s.around) == 0 {
		err = errors.Join(err, s.w.Flush())
	}
	return err
}

// folder is a Sink that writes a file for each host and each user (XEP-0227 5.1).
type folder struct {
	dir   string
	host  string // and folder, whose users are written
	files []*file
	used  map[string]bool
}

// file is one that is being written.
type file struct {
	f    *os.File
	sink *stream
	deep int
}

// MainFile is the file of a folder that includes all others.
const MainFile = "server-data.xml"

// NewFolder writes files into a folder, which it makes, readable for its owner
// alone. A file that is there already is an error.
func NewFolder(dir string) (Sink, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return &folder{dir: dir, used: map[string]bool{}}, nil
}

func (s *folder) Open(el xmltree.Element) error {
	file := ""
	switch {
	case len(s.files) == 0:
		file = MainFile
	case len(s.files) == 1 && el.Is(nsPIE, "host"):
		s.host = s.unused(el.Attr("jid"), "")
		file = s.host + ".xml"
	case len(s.files) == 2:
		file = s.unused(el.Attr("name"), s.host+"/") + ".xml"
	}
	if file == "" {
		last := s.files[len(s.files)-1]
		last.deep++
		return last.sink.Open(el)
	}
	if len(s.files) > 0 {
		href := (&url.URL{Path: "./" + file}).EscapedPath()[len("./"):]
		include := xmltree.NewWriter(nil, nsPIE).Start(nsInclude, "include").Attr("href", href).End()
		if err := s.files[len(s.files)-1].sink.Unit(include.Bytes()); err != nil {
			return err
		}
	}
	return s.create(file, el)
}

// longest is how long a file's name gets; most systems take 255 bytes.
const longest = 200

// unused is a path that isn't taken, for a name that has no slash (RFC 7622).
func (s *folder) unused(of, before string) string {
	if len(of) > longest || s.used[before+of] {
		sum := sha256.Sum256([]byte(of))
		of = hex.EncodeToString(sum[:])
	}
	s.used[before+of] = true
	return before + of
}

func (s *folder) create(name string, el xmltree.Element) error {
	full := filepath.Join(s.dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(full, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	s.files = append(s.files, &file{f: f, sink: &stream{w: bufio.NewWriter(f)}})
	return s.files[len(s.files)-1].sink.Open(el)
}

func (s *folder) Unit(xml []byte) error { return s.files[len(s.files)-1].sink.Unit(xml) }

func (s *folder) End() error {
	last := s.files[len(s.files)-1]
	err := last.sink.End()
	if last.deep > 0 {
		last.deep--
		return err
	}
	s.files = s.files[:len(s.files)-1]
	return errors.Join(err, last.f.Close())
}
