package xep

import (
	"net/url"

	"carillon.im/jid"
	"carillon.im/xmltree"
)

// The namespaces of invitations: what a token is brought in (XEP-0379), the stream
// feature of servers that take one for an account (XEP-0445), and XEP-0401's commands
// with the FORM_TYPE of their answers.
const (
	NSPARS            = "urn:xmpp:pars:0"
	NSToken           = "urn:xmpp:ibr-token:0"
	NodeInvite        = "urn:xmpp:invite#invite"
	NodeCreateAccount = "urn:xmpp:invite#create-account"
	NSInvitation      = "urn:xmpp:invite#invitation"
	TokenFeature      = "<register xmlns='" + NSToken + "'/>"
	maxTokenBytes     = 128
	preauthLocal      = "preauth"
	queryRoster       = "roster"
	queryRegister     = "register"
)

// PreauthToken is the token that a request brings, "" for none or one that is too
// long to be any.
func PreauthToken(el xmltree.Element) string {
	if !el.Is(NSPARS, preauthLocal) {
		return ""
	}
	if t := el.Attr("token"); len(t) <= maxTokenBytes {
		return t
	}
	return ""
}

// ContactURI is an invitation to become a contact; ibr tells that an account can be
// made with it (XEP-0445 2.3).
func ContactURI(inviter jid.JID, token string, ibr bool) string {
	uri := "xmpp:" + escaped(inviter.Local()) + "@" + inviter.Domain() + "?" + queryRoster + ";preauth=" + token
	if ibr {
		uri += ";ibr=y"
	}
	return uri
}

// RegisterURI is an invitation to make an account, with a name or any (XEP-0445 2.1,
// 2.2).
func RegisterURI(domain, name, token string) string {
	if name != "" {
		domain = escaped(name) + "@" + domain
	}
	return "xmpp:" + domain + "?" + queryRegister + ";preauth=" + token
}

// escaped is a localpart as it stands in a URI (RFC 5122 2.3).
func escaped(local string) string { return url.PathEscape(local) }
