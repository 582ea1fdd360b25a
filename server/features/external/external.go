// Package external tells clients of services beside XMPP, such as STUN and TURN for
// calls (XEP-0215).
//
// A service is data of the configuration. One with a secret gets credentials that are
// made for each answer and known to nobody before: the username is the time at which
// they end, the password a code of it that the service computes too. So the server
// and the service share the secret and nothing else.
package external

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"time"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// Service is a service with what its credentials are made of.
type Service struct {
	xep.ExternalService
	Secret []byte        // shared with the service; none: the credentials are the same for all
	Life   time.Duration // of credentials
}

// New is the feature; it is nothing where there are no services.
func New(services []Service, now func() time.Time) feature.Feature {
	f := feature.Feature{Name: "external", Specs: []feature.Spec{{XEP: "0215", Version: "1.0.0", Note: "nothing is pushed: services change with the configuration"}}}
	if len(services) == 0 {
		return f
	}
	h := handler{services, now}
	name := func(local string) xmltree.Name { return xmltree.Name{Space: xep.NSExtDisco, Local: local} }
	f.Disco = []feature.Disco{{Scope: feature.Server, Vars: []string{xep.NSExtDisco}}}
	f.IQs = []feature.IQ{
		{Scope: feature.Server, Type: stanza.TypeGet, Name: name("services"), Handle: h.list},
		{Scope: feature.Server, Type: stanza.TypeGet, Name: name("credentials"), Handle: h.credentials},
	}
	return f
}

type handler struct {
	services []Service
	now      func() time.Time
}

// own refuses who has no account here: relays cost money.
func own(q *feature.Query) error {
	if q.Session == nil {
		return stanza.NewError(stanza.Forbidden, "this is for the server's own users")
	}
	return nil
}

// list answers with all services, or those of a type (XEP-0215 3.1, 3.2).
func (h handler) list(_ context.Context, q *feature.Query) (string, error) {
	if err := own(q); err != nil {
		return "", err
	}
	typ := q.Payload.Attr("type")
	var list []xep.ExternalService
	for i := range h.services {
		if s := &h.services[i]; typ == "" || s.Type == typ {
			list = append(list, s.For(q.IQ.From.Bare(), h.now()))
		}
	}
	return string(xep.AppendExternalServices(nil, "services", typ, list)), nil
}

// credentials answers with those of the services that are asked for (XEP-0215 3.3).
func (h handler) credentials(_ context.Context, q *feature.Query) (string, error) {
	if err := own(q); err != nil {
		return "", err
	}
	asked := q.Payload.Child(xep.NSExtDisco, "service")
	host, typ, port := asked.Attr("host"), asked.Attr("type"), asked.Attr("port")
	if host == "" || typ == "" {
		return "", stanza.NewError(stanza.BadRequest, "which service: host and type")
	}
	var list []xep.ExternalService
	for i := range h.services {
		s := &h.services[i]
		if s.Host == host && s.Type == typ && (port == "" || port == strconv.Itoa(s.Port)) {
			list = append(list, s.For(q.IQ.From.Bare(), h.now()))
		}
	}
	if len(list) == 0 {
		return "", stanza.NewError(stanza.ItemNotFound, "there is no such service")
	}
	return string(xep.AppendExternalServices(nil, "credentials", "", list)), nil
}

// For is the service as an account is told of it. The username names the account to
// the service by a code alone, which is the same each time, so that the service can
// count what one account uses.
func (s *Service) For(account jid.JID, now time.Time) xep.ExternalService {
	one := s.ExternalService
	one.Restricted = one.Username != "" || len(s.Secret) > 0
	if len(s.Secret) == 0 {
		return one
	}
	who := hmac.New(sha256.New, s.Secret)
	who.Write([]byte("account\x00" + account.String()))
	one.Expires = now.Add(s.Life).Truncate(time.Second)
	one.Username = strconv.FormatInt(one.Expires.Unix(), 10) + ":" + hex.EncodeToString(who.Sum(nil)[:8])
	code := hmac.New(sha1.New, s.Secret) // as TURN servers compute it
	code.Write([]byte(one.Username))
	one.Password = base64.StdEncoding.EncodeToString(code.Sum(nil))
	return one
}
