package sasl

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/xdg-go/scram"
)

// certificate makes a self-signed one.
func certificate(t *testing.T, key crypto.Signer, algorithm x509.SignatureAlgorithm) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber:       big.NewInt(1),
		NotAfter:           time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
		DNSNames:           []string{"localhost"},
		SignatureAlgorithm: algorithm,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// handshake returns the states of both ends of a connection.
func handshake(t *testing.T, cert tls.Certificate, version uint16) (client, server tls.ConnectionState) {
	t.Helper()
	a, b := net.Pipe()
	roots := x509.NewCertPool()
	roots.AddCert(cert.Leaf)
	s := tls.Server(b, &tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: version, SessionTicketsDisabled: true})
	c := tls.Client(a, &tls.Config{RootCAs: roots, ServerName: "localhost"})
	done := make(chan error, 1)
	go func() { done <- s.Handshake() }()
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	client, server = c.ConnectionState(), s.ConnectionState()
	a.Close()
	b.Close()
	return client, server
}

func TestBindingsOfConnections(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := certificate(t, key, x509.ECDSAWithSHA256)
	var before []byte
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		cs, ss := handshake(t, cert, version)
		atClient, err := ExporterBinding(&cs)
		if err != nil {
			t.Fatal(err)
		}
		atServer, err := ExporterBinding(&ss)
		if err != nil {
			t.Fatal(err)
		}
		if atServer.Type != TLSExporter || len(atServer.Data) != 32 || !bytes.Equal(atServer.Data, atClient.Data) || bytes.Equal(atServer.Data, before) {
			t.Errorf("%x: %v, %v", version, atClient, atServer)
		}
		before = atServer.Data

		end, err := EndPointBinding(cs.PeerCertificates[0])
		if err != nil {
			t.Fatal(err)
		}
		peer, err := scram.NewTLSServerEndpointBinding(&cs)
		if err != nil || !bytes.Equal(end.Data, peer.Data) || end.Type != string(peer.Type) {
			t.Errorf("%x: %v, peer has %v, %v", version, end, peer, err)
		}
		if version == tls.VersionTLS13 {
			if peer, err := scram.NewTLSExporterBinding(&cs); err != nil || !bytes.Equal(atClient.Data, peer.Data) {
				t.Errorf("%v, peer has %v, %v", atClient, peer, err)
			}
		}
	}
	if b, err := ExporterBinding(&tls.ConnectionState{}); err == nil {
		t.Errorf("of no connection: %v", b)
	}
}

func TestEndPointHashes(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sum256 := func(b []byte) []byte { s := sha256.Sum256(b); return s[:] }
	sum384 := func(b []byte) []byte { s := sha512.Sum384(b); return s[:] }
	sum512 := func(b []byte) []byte { s := sha512.Sum512(b); return s[:] }
	for _, c := range []struct {
		key       crypto.Signer
		algorithm x509.SignatureAlgorithm
		sum       func([]byte) []byte
	}{
		{ec, x509.ECDSAWithSHA256, sum256},
		{ec, x509.ECDSAWithSHA384, sum384},
		{ec, x509.ECDSAWithSHA512, sum512},
		{rsaKey, x509.SHA256WithRSA, sum256},
		{rsaKey, x509.SHA384WithRSA, sum384},
		{rsaKey, x509.SHA512WithRSAPSS, sum512},
		{ed, x509.PureEd25519, nil},
	} {
		cert := certificate(t, c.key, c.algorithm).Leaf
		b, err := EndPointBinding(cert)
		if c.sum == nil {
			if err == nil {
				t.Errorf("%v: %v", c.algorithm, b)
			}
			continue
		}
		if err != nil || b.Type != TLSServerEndPoint || !bytes.Equal(b.Data, c.sum(cert.Raw)) {
			t.Errorf("%v: %v, %v", c.algorithm, b, err)
		}
	}
	// Nobody signs with these any more, but certificates exist. RFC 5929 4.1.
	for _, weak := range []x509.SignatureAlgorithm{x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1} {
		b, err := EndPointBinding(&x509.Certificate{SignatureAlgorithm: weak, Raw: []byte("x")})
		if err != nil || !bytes.Equal(b.Data, sum256([]byte("x"))) {
			t.Errorf("%v: %v, %v", weak, b, err)
		}
	}
}
