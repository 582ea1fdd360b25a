package s2s

// Policy is what another server must prove before stanzas pass between it and
// this one, either way.
type Policy string

// The policies. TLS is always required (RFC 7590 3.4): without it nothing passes.
const (
	// Certificate asks for a certificate of the domain, from an authority that is
	// trusted or vouched for by DNSSEC (DANE).
	Certificate Policy = "certificate"
	// PKIX asks for a certificate of the domain from a trusted authority.
	PKIX Policy = "pkix"
	// DANE asks for a certificate that DNSSEC vouches for (RFC 7673).
	DANE Policy = "dane"
	// Dialback is content with what DNS says (XEP-0220), whatever the certificate.
	Dialback Policy = "dialback"
	// Deny is for domains that nothing is exchanged with.
	Deny Policy = "deny"
)

// Proof is how a peer has shown which domain it is, besides by dialback.
type Proof string

// The proofs.
const (
	NoProof   Proof = ""
	ByPKIX    Proof = "PKIX"
	ByDANE    Proof = "DANE"
	unchecked Proof = "unchecked" // a certificate that nobody has looked at yet
)

// accepts reports whether a proof is enough for a policy.
func (p Policy) accepts(proof Proof) bool {
	switch p {
	case Certificate:
		return proof == ByPKIX || proof == ByDANE
	case PKIX:
		return proof == ByPKIX
	case DANE:
		return proof == ByDANE
	case Dialback:
		return true
	}
	return false
}

// usesDANE reports whether records of DNS can make a difference.
func (p Policy) usesDANE() bool { return p != PKIX && p != Deny }

// policy is the one for a domain.
func (s *Server) policy(domain string) Policy {
	if p, ok := s.cfg.Peers[domain]; ok {
		return p
	}
	return s.cfg.Policy
}
