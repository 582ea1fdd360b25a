package cert

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	certFile = "self-signed.crt"
	keyFile  = "self-signed.key"

	// Nobody renews it, people compare its fingerprint by hand: it lasts.
	lifetime = 10 * 365 * 24 * time.Hour
)

// selfSignedPair names the files of the self-signed pair in a data folder.
func selfSignedPair(dir string) Pair {
	return Pair{Cert: filepath.Join(dir, certFile), Key: filepath.Join(dir, keyFile)}
}

// ensureSelfSigned makes the self-signed pair unless a good one is there. The key stays when only the certificate has to be new, and the log says why
// clients will ask about it again.
func ensureSelfSigned(dir string, domains []string, now time.Time, log *slog.Logger) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	p := selfSignedPair(dir)
	old, good := goodSelfSigned(p, domains, now)
	if good {
		return nil
	}
	served := domains
	if old != nil {
		domains = union(domains, xmppAddrs(old))
	}
	key, err := readKey(p.Key)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = makeKey(p.Key)
	}
	if err != nil {
		return err
	}
	der, err := selfSign(key, domains, now)
	if err != nil {
		return err
	}
	if err := writeFile(p.Cert, 0o644, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil || old == nil {
		return err
	}
	why := "the old one ends on " + old.NotAfter.Format(time.DateOnly)
	if lacks := lacking(old, served); len(lacks) > 0 {
		why = "the old one does not name " + strings.Join(lacks, ", ")
	}
	sum := sha256.Sum256(der)
	log.Warn("another self-signed certificate was made: clients ask again whether to trust it", "why", why, "sha256", colons(sum[:]), "file", p.Cert)
	return nil
}

// goodSelfSigned reads the self-signed certificate, nil if there is none with its key, and reports whether it may stay: it names all domains and
// doesn't end soon. More domains do no harm; a certificate for fewer would have people compare another fingerprint, and again when they are back.
func goodSelfSigned(p Pair, domains []string, now time.Time) (leaf *x509.Certificate, good bool) {
	c, err := tls.LoadX509KeyPair(p.Cert, p.Key)
	if err != nil || c.Leaf == nil {
		return nil, false
	}
	return c.Leaf, len(lacking(c.Leaf, domains)) == 0 && now.Before(c.Leaf.NotAfter.Add(-WarnBefore))
}

// lacking returns the domains that a self-signed certificate does not name as XMPP addresses, as ours do.
func lacking(leaf *x509.Certificate, domains []string) []string {
	named := xmppAddrs(leaf)
	return slices.DeleteFunc(slices.Clone(domains), func(d string) bool { return named[d] })
}

// maxNames bounds the domains of a self-signed certificate, which every client is sent, as long as no more are served.
const maxNames = 100

// union returns the domains, and behind them those that an older certificate names too, as far as there is room.
func union(domains []string, named map[string]bool) []string {
	all := slices.Clone(domains)
	for _, d := range slices.Sorted(maps.Keys(named)) {
		if len(all) < maxNames && !slices.Contains(domains, d) {
			all = append(all, d)
		}
	}
	return all
}

func readKey(name string) (crypto.Signer, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM: remove it to have a new key made", name)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s: a key that can't sign", name)
	}
	return signer, nil
}

func makeKey(name string) (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, writeFile(name, 0o600, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// selfSign makes a certificate that names each domain as DNS name and as XMPP address (RFC 6120 13.7.1.2.1). It carries no key usage: with one that
// leaves out signing certificates, OpenSSL no longer takes it for self-signed and refuses it even when the user has said to trust it.
func selfSign(key crypto.Signer, domains []string, now time.Time) ([]byte, error) {
	san, err := subjectAltName(domains)
	if err != nil {
		return nil, err
	}
	name := asciiName(domains[0])
	if len(name) > 64 { // ub-common-name, RFC 5280 appendix A
		name = "carillon"
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-time.Hour), // clients whose clock is a little behind
		NotAfter:              now.Add(lifetime),
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		ExtraExtensions:       []pkix.Extension{san},
	}
	return x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
}

// The object identifiers of id-on-xmppAddr (RFC 6120 13.7.1.4) and subjectAltName (RFC 5280 4.2.1.6).
func oidXMPPAddr() asn1.ObjectIdentifier       { return asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 5} }
func oidSubjectAltName() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 5, 29, 17} }

// The choices of GeneralName that matter here (RFC 5280 4.2.1.6).
const (
	tagOtherName = 0
	tagDNSName   = 2
	tagIPAddress = 7
)

// otherName is OtherName of RFC 5280 4.2.1.6 with a UTF-8 string in it.
type otherName struct {
	Type  asn1.ObjectIdentifier
	Value string `asn1:"utf8,explicit,tag:0"`
}

func subjectAltName(domains []string) (pkix.Extension, error) {
	var names []asn1.RawValue
	for _, domain := range domains {
		if ip, err := netip.ParseAddr(trimBrackets(domain)); err == nil {
			names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tagIPAddress, Bytes: ip.AsSlice()})
		} else {
			names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tagDNSName, Bytes: []byte(asciiName(domain))})
		}
		der, err := asn1.Marshal(otherName{oidXMPPAddr(), domain})
		if err != nil {
			return pkix.Extension{}, err
		}
		var sequence asn1.RawValue
		if _, err := asn1.Unmarshal(der, &sequence); err != nil {
			return pkix.Extension{}, err
		}
		// [0] IMPLICIT: the same content under another tag.
		names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tagOtherName, IsCompound: true, Bytes: sequence.Bytes})
	}
	value, err := asn1.Marshal(names)
	return pkix.Extension{Id: oidSubjectAltName(), Value: value}, err
}

func trimBrackets(s string) string {
	if len(s) > 2 && s[0] == '[' && s[len(s)-1] == ']' {
		return s[1 : len(s)-1]
	}
	return s
}

// xmppAddrs returns the XMPP addresses that a certificate names. Names that can't be read are none.
func xmppAddrs(c *x509.Certificate) map[string]bool {
	out := make(map[string]bool)
	for _, ext := range c.Extensions {
		if !ext.Id.Equal(oidSubjectAltName()) {
			continue
		}
		var names []asn1.RawValue
		if rest, err := asn1.Unmarshal(ext.Value, &names); err != nil || len(rest) > 0 {
			continue
		}
		for _, name := range names {
			if name.Class != asn1.ClassContextSpecific || name.Tag != tagOtherName {
				continue
			}
			var other otherName
			rest, err := asn1.UnmarshalWithParams(name.FullBytes, &other, "tag:0")
			if err == nil && len(rest) == 0 && other.Type.Equal(oidXMPPAddr()) {
				out[other.Value] = true
			}
		}
	}
	return out
}

// writeFile writes a PEM file so that it is there whole or not at all.
func writeFile(name string, mode fs.FileMode, block *pem.Block) error {
	var b bytes.Buffer
	if err := pem.Encode(&b, block); err != nil {
		return err
	}
	tmp := name + ".new"
	// What a crash left behind may have another mode.
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(b.Bytes())
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(tmp, name)
}
