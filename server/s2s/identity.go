package s2s

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/idna"

	"carillon.im/jid"
	"carillon.im/server/s2s/lookup"
)

// checkPKIX checks that a chain ends at a trusted authority and that its first
// certificate names the domain, or one of the hosts that a validated answer of
// DNS put in its place (RFC 6120 13.7.2, RFC 7712 4 and 5). Certificates for
// servers and for clients are taken on both sides: which one a server has for
// its outgoing streams is an accident of its authority.
func checkPKIX(chain []*x509.Certificate, domain string, hosts []string, roots *x509.CertPool, now time.Time) error {
	if len(chain) == 0 {
		return errors.New("it shows no certificate")
	}
	_, err := verifyChain(chain, roots, now)
	if err != nil {
		return err
	}
	return checkName(chain[0], domain, hosts)
}

func verifyChain(chain []*x509.Certificate, roots *x509.CertPool, now time.Time) ([][]*x509.Certificate, error) {
	opts := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool(), CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	for _, c := range chain[1:] {
		opts.Intermediates.AddCert(c)
	}
	chains, err := chain[0].Verify(opts)
	if err != nil {
		return nil, plainCertError(err, chain[0])
	}
	return chains, nil
}

// plainCertError says what is wrong with a certificate in words for an operator.
func plainCertError(err error, leaf *x509.Certificate) error {
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return fmt.Errorf("its certificate is valid from %s to %s only", leaf.NotBefore.Format(time.DateOnly), leaf.NotAfter.Format(time.DateOnly))
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		if leaf.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature) == nil {
			return errors.New("its certificate is self-signed")
		}
		return errors.New("its certificate is of an authority that isn't trusted here")
	}
	return fmt.Errorf("its certificate: %w", err)
}

// checkName checks that a certificate names the domain (RFC 6120 13.7.1.2, RFC
// 6125 6): as SRV-ID, as XmppAddr, as DNS-ID.
func checkName(leaf *x509.Certificate, domain string, hosts []string) error {
	ascii := asciiName(domain)
	srv, xmpp := otherNames(leaf)
	for _, name := range srv {
		if service, host, ok := strings.Cut(name, "."); ok && strings.EqualFold(service, "_xmpp-server") && strings.EqualFold(host, ascii) {
			return nil
		}
	}
	for _, name := range xmpp {
		if j, err := jid.Parse(name); err == nil && j.IsDomain() && j.Domain() == domain {
			return nil
		}
	}
	if leaf.VerifyHostname(strings.Trim(ascii, "[]")) == nil {
		return nil
	}
	for _, host := range hosts {
		if leaf.VerifyHostname(host) == nil {
			return nil
		}
	}
	return fmt.Errorf("its certificate doesn't name %s but %s", domain, named(leaf))
}

// named lists what a certificate names, for people.
func named(leaf *x509.Certificate) string {
	srv, xmpp := otherNames(leaf)
	all := append(append(append([]string{}, leaf.DNSNames...), srv...), xmpp...)
	switch n := len(all); {
	case n == 0:
		return "nothing"
	case n > 5:
		return strings.Join(all[:5], ", ") + fmt.Sprintf(" and %d more", n-5)
	}
	return strings.Join(all, ", ")
}

// asciiName is a domain as certificates and SNI have it.
func asciiName(domain string) string {
	if _, err := netip.ParseAddr(strings.Trim(domain, "[]")); err == nil {
		return domain
	}
	if a, err := idna.Lookup.ToASCII(domain); err == nil {
		return a
	}
	return strings.ToLower(domain)
}

// otherNames are a certificate's SRV-IDs (RFC 4985) and XMPP addresses (RFC 6120
// 13.7.1.4). Names that can't be read are none.
func otherNames(leaf *x509.Certificate) (srv, xmpp []string) {
	subjectAltName := asn1.ObjectIdentifier{2, 5, 29, 17}
	srvName, xmppAddr := asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 7}, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 5}
	for _, ext := range leaf.Extensions {
		if !ext.Id.Equal(subjectAltName) {
			continue
		}
		var names []asn1.RawValue
		if rest, err := asn1.Unmarshal(ext.Value, &names); err != nil || len(rest) > 0 {
			continue
		}
		for _, name := range names {
			if name.Class != asn1.ClassContextSpecific || name.Tag != 0 {
				continue
			}
			var other struct {
				Type  asn1.ObjectIdentifier
				Value asn1.RawValue // in an explicit tag
			}
			var text asn1.RawValue
			if rest, err := asn1.UnmarshalWithParams(name.FullBytes, &other, "tag:0"); err != nil || len(rest) > 0 {
				continue
			}
			if rest, err := asn1.Unmarshal(other.Value.Bytes, &text); err != nil || len(rest) > 0 {
				continue
			}
			switch value := string(text.Bytes); {
			case other.Type.Equal(srvName):
				srv = append(srv, value)
			case other.Type.Equal(xmppAddr):
				xmpp = append(xmpp, value)
			}
		}
	}
	return srv, xmpp
}

// checkDANE checks a chain against what DNSSEC vouches for (RFC 7673 4, RFC 7671
// 5): one record that fits is enough. hosts are the names that the domain's
// records lead to, besides which the domain's own counts.
func checkDANE(chain []*x509.Certificate, records []*lookup.TLSA, domain string, hosts []string, roots *x509.CertPool, now time.Time) error {
	if len(chain) == 0 {
		return errors.New("it shows no certificate")
	}
	err := errors.New("DNS (DANE) vouches for another certificate than the one it shows")
	for _, r := range records {
		e := checkRecord(chain, r, domain, hosts, roots, now)
		switch {
		case e == nil:
			return nil
		case !errors.Is(e, errOther):
			err = e
		}
	}
	return err
}

var errOther = errors.New("another certificate")

// checkRecord checks a chain against one record.
func checkRecord(chain []*x509.Certificate, r *lookup.TLSA, domain string, hosts []string, roots *x509.CertPool, now time.Time) error {
	fits := func(c *x509.Certificate) bool {
		got, err := dns.CertificateToDANE(r.Selector, r.MatchingType, c)
		return err == nil && strings.EqualFold(got, r.Certificate)
	}
	switch r.Usage {
	case 3: // DANE-EE: this key, whatever else the certificate says (RFC 7671 5.1)
		if fits(chain[0]) {
			return nil
		}
	case 2: // DANE-TA: an authority of the domain's own (RFC 7671 5.2)
		for _, c := range chain {
			if !fits(c) {
				continue
			}
			own := x509.NewCertPool()
			own.AddCert(c)
			return checkPKIX(chain, domain, hosts, own, now)
		}
	case 1: // PKIX-EE
		if fits(chain[0]) {
			return checkPKIX(chain, domain, hosts, roots, now)
		}
	case 0: // PKIX-TA
		chains, err := verifyChain(chain, roots, now)
		if err != nil {
			return err
		}
		for _, list := range chains {
			for _, c := range list[1:] {
				if fits(c) {
					return checkName(chain[0], domain, hosts)
				}
			}
		}
	}
	return errOther
}
