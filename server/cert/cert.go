// Package cert holds the certificates that carillon's listeners show. A Source is a default pair and pairs for single domains, chosen by the name
// that the client asks for (SNI). Each pair is two PEM files; they are looked at again, at most once in a while and only when somebody connects, and
// loaded when they have changed. A new pair that can't be used changes nothing: the old one stays and the log says so once. Where no pair is given,
// a self-signed one for all domains is made in the data folder and stays there, so that its fingerprint is the same after a restart.
package cert

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/idna"
)

// WarnBefore is how long before a certificate ends the log begins to say so, once a day.
const WarnBefore = 14 * 24 * time.Hour

// lookEvery is the least time between two looks at a pair's files.
const lookEvery = 2 * time.Second

// Pair names the two PEM files of a certificate: the chain, own certificate first, and its private key.
type Pair struct{ Cert, Key string }

// Options say where certificates come from.
type Options struct {
	Dir     string          // where the self-signed pair lives; made if missing
	Domains []string        // all domains served, in prepared form
	Default Pair            // empty: self-signed
	Pairs   map[string]Pair // by domain, where one for all won't do
	Log     *slog.Logger
	Now     func() time.Time // nil: time.Now
}

// Source gives out certificates. Its methods may be called concurrently.
type Source struct {
	byName   map[string]*entry // by SNI name: lower case, ASCII
	fallback *entry            // nil if every domain has a pair of its own
	first    *entry            // for clients that send no SNI
	entries  []*entry
}

// Info describes a certificate in use.
type Info struct {
	Pair
	Domains    []string // that it is shown for
	Missing    []string // of these, the ones that it does not name
	SelfSigned bool
	SHA256     string // fingerprint: upper case hexadecimal with colons; empty if there is no certificate yet
	SHA1       string // the same for clients that show the old one
	NotBefore  time.Time
	NotAfter   time.Time
}

// Open loads every pair; it makes the self-signed one if it is needed and missing, about to end, or lacks a domain, and logs it if people will have to
// compare fingerprints again. It fails if a pair can't be used, naming the file.
func Open(o Options) (*Source, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Source{byName: make(map[string]*entry)}
	var rest []string
	for _, domain := range o.Domains {
		pair, own := o.Pairs[domain]
		if !own {
			rest = append(rest, domain)
			continue
		}
		e := &entry{pair: pair, domains: []string{domain}, log: o.Log, now: o.Now}
		s.entries = append(s.entries, e)
		s.byName[asciiName(domain)] = e
	}
	if len(rest) > 0 {
		e := &entry{pair: o.Default, domains: rest, log: o.Log, now: o.Now}
		if e.pair == (Pair{}) {
			e.pair = selfSignedPair(o.Dir)
			if err := ensureSelfSigned(o.Dir, rest, o.Now(), o.Log); err != nil {
				return nil, fmt.Errorf("self-signed certificate: %w", err)
			}
		}
		s.fallback = e
		s.entries = append(s.entries, e)
	}
	for _, e := range s.entries {
		if err := e.load(); err != nil {
			return nil, err
		}
	}
	if len(o.Domains) > 0 {
		if s.first = s.byName[asciiName(o.Domains[0])]; s.first == nil {
			s.first = s.fallback
		}
	}
	return s, nil
}

// GetCertificate is for tls.Config. A client that asks for no name, or for one that isn't served, gets the first domain's certificate: whether it
// suits is the client's to judge, and the stream's 'to' decides which domain is meant (RFC 6120 4.7.2).
func (s *Source) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	e := s.first
	if name := strings.TrimSuffix(strings.ToLower(hello.ServerName), "."); name != "" {
		if own := s.byName[name]; own != nil {
			e = own
		} else if s.fallback != nil {
			e = s.fallback
		}
	}
	if e == nil {
		return nil, errors.New("cert: no domains")
	}
	e.look()
	return e.current.Load().cert, nil
}

// Reload looks at all files now and loads those pairs that changed. The error names the pairs that can't be used; their old certificates stay.
func (s *Source) Reload() error {
	var errs []error
	for _, e := range s.entries {
		errs = append(errs, e.reload())
	}
	return errors.Join(errs...)
}

// Info describes the certificates in use now.
func (s *Source) Info() []Info {
	infos := make([]Info, len(s.entries))
	for i, e := range s.entries {
		infos[i] = describe(e.current.Load().cert.Leaf)
		infos[i].Pair = e.pair
		infos[i].Domains = e.domains
		infos[i].Missing = missing(e.current.Load().cert.Leaf, e.domains)
	}
	return infos
}

func describe(leaf *x509.Certificate) Info {
	return Info{
		// Same name is not enough: a private authority may sign a certificate that has its own name.
		SelfSigned: leaf.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature) == nil,
		SHA256:     Fingerprint(leaf),
		SHA1:       colons(sha1Sum(leaf.Raw)),
		NotBefore:  leaf.NotBefore,
		NotAfter:   leaf.NotAfter,
	}
}

// missing returns the domains that the certificate does not name as DNS name, IP address or XMPP address.
func missing(leaf *x509.Certificate, domains []string) []string {
	var out []string
	named := xmppAddrs(leaf)
	for _, domain := range domains {
		if leaf.VerifyHostname(asciiName(domain)) != nil && !named[domain] {
			out = append(out, domain)
		}
	}
	return out
}

// Fingerprint is the SHA-256 hash of a certificate as clients show it.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return colons(sum[:])
}

func sha1Sum(b []byte) []byte {
	sum := sha1.Sum(b)
	return sum[:]
}

func colons(sum []byte) string {
	parts := make([]string, len(sum))
	for i, b := range sum {
		parts[i] = strings.ToUpper(hex.EncodeToString([]byte{b}))
	}
	return strings.Join(parts, ":")
}

// asciiName is the form in which a domain stands in SNI and in certificates.
func asciiName(domain string) string {
	if a, err := idna.Lookup.ToASCII(domain); err == nil {
		return a
	}
	return strings.ToLower(domain) // an IP address, for which there is no SNI
}

// entry is one pair and what is known of it.
type entry struct {
	pair    Pair
	domains []string
	log     *slog.Logger
	now     func() time.Time

	current  atomic.Pointer[loaded]
	nextLook atomic.Int64 // Unix nanoseconds

	mu       sync.Mutex // for loading; current is read without it
	failed   *stamp     // the files' state that could not be used, so that the log says so once; nil: none
	warnedAt time.Time
}

// loaded is a certificate and the state of the files it came from.
type loaded struct {
	cert *tls.Certificate
	from stamp
}

// stamp tells whether files changed. Both are compared by identity, size and time, for tools replace files by rename or write them in place.
type stamp struct{ cert, key os.FileInfo }

func (s stamp) same(t stamp) bool { return sameFile(s.cert, t.cert) && sameFile(s.key, t.key) }

func sameFile(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// look reloads the pair if it is time to look and the files changed. One caller does it; the others go on with the old certificate.
func (e *entry) look() {
	now := e.now()
	due := e.nextLook.Load()
	if now.UnixNano() < due || !e.nextLook.CompareAndSwap(due, now.Add(lookEvery).UnixNano()) {
		return
	}
	_ = e.reload() // logged there
}

// reload loads the pair if its files changed since they were last looked at.
func (e *entry) reload() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.warn()
	// A missing file leaves its half of the stamp nil: a state like any other, of which load says what is wrong.
	now := e.stamp()
	if now.same(e.current.Load().from) {
		e.failed = nil
		return nil
	}
	again := e.failed != nil && now.same(*e.failed)
	next, err := read(e.pair, now)
	if err != nil {
		if !again {
			e.log.Error("new certificate can't be used, the old one stays", "error", err, "until", e.current.Load().cert.Leaf.NotAfter)
		}
		e.failed = &now
		return err
	}
	e.failed = nil
	e.use(next)
	e.log.Info("certificate loaded again", "file", e.pair.Cert, "sha256", Fingerprint(next.cert.Leaf), "until", next.cert.Leaf.NotAfter)
	return nil
}

// load is the first load.
func (e *entry) load() error {
	next, err := read(e.pair, e.stamp())
	if err != nil {
		return err
	}
	e.use(next)
	e.nextLook.Store(e.now().Add(lookEvery).UnixNano())
	return nil
}

func (e *entry) stamp() stamp {
	var s stamp
	// An error leaves nil; reading the file will say what it is.
	s.cert, _ = os.Stat(e.pair.Cert)
	s.key, _ = os.Stat(e.pair.Key)
	return s
}

// use makes next current and warns of what is odd about it.
func (e *entry) use(next *loaded) {
	e.current.Store(next)
	e.warnedAt = time.Time{}
	e.warn()
	if out := missing(next.cert.Leaf, e.domains); len(out) > 0 {
		e.log.Warn("certificate does not name every domain it is shown for: clients will refuse it there", "file", e.pair.Cert, "missing", out)
	}
}

// warn says that the certificate ends soon, at most once a day.
func (e *entry) warn() {
	now, leaf := e.now(), e.current.Load().cert.Leaf
	if now.Before(leaf.NotAfter.Add(-WarnBefore)) || now.Sub(e.warnedAt) < 24*time.Hour {
		return
	}
	e.warnedAt = now
	if now.After(leaf.NotAfter) {
		e.log.Error("certificate has ended: clients refuse it; put a new one in its place", "file", e.pair.Cert, "until", leaf.NotAfter)
		return
	}
	e.log.Warn("certificate ends soon: put a new one in its place", "file", e.pair.Cert, "until", leaf.NotAfter)
}

// read loads a pair. tls.LoadX509KeyPair checks that the key is the certificate's.
func read(p Pair, from stamp) (*loaded, error) {
	c, err := tls.LoadX509KeyPair(p.Cert, p.Key)
	if err != nil {
		// The messages of crypto/tls don't name a file when the content is at fault.
		return nil, fmt.Errorf("certificate %s with key %s: %w", p.Cert, p.Key, err)
	}
	if c.Leaf == nil {
		if c.Leaf, err = x509.ParseCertificate(c.Certificate[0]); err != nil {
			return nil, fmt.Errorf("certificate %s: %w", p.Cert, err)
		}
	}
	return &loaded{cert: &c, from: from}, nil
}

// Inspect describes the certificates that Open would use, and changes nothing. What is wrong with a pair stands in its Err; Trust says why clients
// that know the system's authorities will not trust it, nil if they will.
func Inspect(o Options) []Inspection {
	if o.Now == nil {
		o.Now = time.Now
	}
	var out []Inspection
	var rest []string
	for _, domain := range o.Domains {
		if pair, own := o.Pairs[domain]; own {
			out = append(out, inspect(pair, []string{domain}, o.Now()))
		} else {
			rest = append(rest, domain)
		}
	}
	if len(rest) == 0 {
		return out
	}
	if o.Default != (Pair{}) {
		return append(out, inspect(o.Default, rest, o.Now()))
	}
	p := selfSignedPair(o.Dir)
	_, good := goodSelfSigned(p, rest, o.Now())
	found := inspect(p, rest, o.Now())
	found.Made, found.SelfSigned = !good, true
	if found.Made {
		// What is wrong with it will be mended; all but a key that can't be read.
		found.Err = nil
		if _, err := readKey(p.Key); err != nil && !errors.Is(err, fs.ErrNotExist) {
			found.Err = err
		}
	}
	return append(out, found)
}

// Inspection is what Inspect found out about one pair.
type Inspection struct {
	Info
	Err   error
	Trust error
	Made  bool // Open will make a self-signed one in place of what is described; of nothing, if SHA256 is empty
}

func inspect(p Pair, domains []string, now time.Time) Inspection {
	c, err := read(p, stamp{})
	if err != nil {
		return Inspection{Info: Info{Pair: p, Domains: domains}, Err: err}
	}
	leaf := c.cert.Leaf
	out := Inspection{Info: describe(leaf)}
	out.Pair, out.Domains, out.Missing = p, domains, missing(leaf, domains)
	chain := x509.NewCertPool()
	for _, der := range c.cert.Certificate[1:] {
		if link, err := x509.ParseCertificate(der); err == nil {
			chain.AddCert(link)
		}
	}
	_, out.Trust = leaf.Verify(x509.VerifyOptions{Intermediates: chain, CurrentTime: now})
	return out
}
