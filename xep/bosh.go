package xep

// The namespaces of BOSH.
const (
	NSBOSH  = "http://jabber.org/protocol/httpbind" // XEP-0124
	NSXBOSH = "urn:xmpp:xbosh"                      // XEP-0206
)
