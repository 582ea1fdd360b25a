package sasl

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"fmt"
)

// The channel binding types that we know, strongest first.
const (
	TLSExporter       = "tls-exporter"         // RFC 9266
	TLSServerEndPoint = "tls-server-end-point" // RFC 5929 4
)

// ChannelBinding is one way to name the TLS connection that an exchange runs over.
type ChannelBinding struct {
	Type string // IANA's unique prefix
	Data []byte
}

// ExporterBinding returns the tls-exporter binding of a connection. RFC 9266 2. It
// fails where that is not defined: below TLS 1.3 without the extended master secret,
// with renegotiation, and before the end of the handshake.
func ExporterBinding(cs *tls.ConnectionState) (ChannelBinding, error) {
	if !cs.HandshakeComplete {
		return ChannelBinding{}, fmt.Errorf("sasl: %s before the end of the handshake", TLSExporter)
	}
	// The context is empty and not absent: TLS 1.2 tells the two apart.
	data, err := cs.ExportKeyingMaterial("EXPORTER-Channel-Binding", []byte{}, 32)
	if err != nil {
		return ChannelBinding{}, fmt.Errorf("sasl: %s: %w", TLSExporter, err)
	}
	return ChannelBinding{TLSExporter, data}, nil
}

// EndPointBinding returns the tls-server-end-point binding of connections whose
// server shows this certificate. RFC 5929 4.1. It fails for a signature algorithm
// without exactly one hash function, Ed25519 for instance: the binding is undefined
// there and must not be offered.
func EndPointBinding(cert *x509.Certificate) (ChannelBinding, error) {
	var h crypto.Hash
	switch cert.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1,
		x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.DSAWithSHA256, x509.ECDSAWithSHA256:
		h = crypto.SHA256
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		h = crypto.SHA384
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		h = crypto.SHA512
	default:
		return ChannelBinding{}, fmt.Errorf("sasl: %s is undefined for signature algorithm %v", TLSServerEndPoint, cert.SignatureAlgorithm)
	}
	w := h.New()
	w.Write(cert.Raw)
	return ChannelBinding{TLSServerEndPoint, w.Sum(nil)}, nil
}
