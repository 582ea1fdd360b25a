package c2s

import (
	"crypto/tls"
	"crypto/x509"
	"errors"

	"carillon.im/sasl"
	"carillon.im/stream"
)

// alpn is XEP-0368's protocol name.
const alpn = "xmpp-client"

// tlsConfig makes the configuration of one kind of listener.
//
// There are no session tickets: they would cost every login the making of one,
// and a resumed connection has no certificate that tls-server-end-point could
// name, which XEP-0440 wants us to offer always.
func (s *Server) tlsConfig(direct bool) *tls.Config {
	cfg := &tls.Config{
		MinVersion:             tls.VersionTLS12, // RFC 7590 3.2, RFC 9325 3.1.1
		SessionTicketsDisabled: true,
		// Stanzas are put together so that they go out as one record.
		DynamicRecordSizingDisabled: true,
		GetCertificate:              s.certificate,
	}
	if direct {
		// A client without ALPN is welcome, one that wants another protocol isn't
		// (RFC 7301 3.2).
		cfg.NextProtos = []string{alpn}
	}
	return cfg
}

// certificate asks the configuration, and remembers the answer for the channel
// binding.
func (s *Server) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	sock, _ := hello.Conn.(*socket)
	if hello.ServerName == "" && sock != nil {
		hello.ServerName = sock.name // RFC 6120 5.4.3.1 rule 4
	}
	cert, err := s.cfg.Certificate(hello)
	if err != nil {
		return nil, err
	}
	if cert == nil || len(cert.Certificate) == 0 {
		return nil, errors.New("c2s: no certificate")
	}
	if sock != nil {
		if sock.leaf = cert.Leaf; sock.leaf == nil {
			if sock.leaf, err = x509.ParseCertificate(cert.Certificate[0]); err != nil {
				return nil, err
			}
		}
	}
	return cert, nil
}

// handshake does TLS and tells the stream what can be offered on it.
func (c *conn) handshake() error {
	tlsCfg := c.srv.tlsPlain
	if c.direct {
		tlsCfg = c.srv.tlsDirect
	}
	c.sock.name = c.mach.Domain().String()
	t := tls.Server(c.sock, tlsCfg)
	c.sock.blocking, c.sock.padded = true, !c.direct
	err := t.Handshake()
	c.sock.blocking, c.sock.padded = false, false
	if err != nil {
		c.srv.Metrics.HandshakeErrors.Add(1)
		return err
	}
	c.srv.Metrics.Handshakes.Add(1)
	c.tls, c.rw = t, t
	c.secured()
	return nil
}

// secured tells the stream what can be offered to a client that is protected as well
// as it is going to be.
func (c *conn) secured() {
	c.login = c.srv.newLogin(c)
	c.sock.leaf, c.sock.name = nil, ""
	cfg := &c.login.cfg
	offer := stream.Offer{Mechanisms: cfg.Advertised.Mechanisms, Bindings: cfg.Advertised.Bindings}
	if c.srv.cfg.Clients != nil {
		// XEP-0474's hash is not of these: they are in a list of their own.
		offer.Tokens = sasl.TokenMechanisms(cfg.Bindings)
	}
	c.mach.Secured(offer)
}

// channelBindings are what the TLS connection can be named by, strongest first; none
// where TLS, if there is any, ends elsewhere.
func channelBindings(t *tls.Conn, leaf *x509.Certificate) []sasl.ChannelBinding {
	var list []sasl.ChannelBinding
	if t == nil {
		return nil
	}
	cs := t.ConnectionState()
	if b, err := sasl.ExporterBinding(&cs); err == nil {
		list = append(list, b)
	}
	if leaf != nil {
		if b, err := sasl.EndPointBinding(leaf); err == nil {
			list = append(list, b)
		}
	}
	return list
}
