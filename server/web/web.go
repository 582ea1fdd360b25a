// Package web is what the server is on the web: which path is whose, from where a
// request comes, and where browsers find the server (XEP-0156)
// and, if its addresses are known, everybody else (XEP-0487).
//
// There are two doors with one house behind. Public is for the listener with TLS.
// Local is for the one without, which also has what is the operator's alone, health
// and metrics: a request that a proxy passes on doesn't get there, and a request that
// no proxy and nobody on this machine makes gets nothing but that. So nothing of
// XMPP crosses a network in the clear, and a proxy that passes on everything
// publishes no metrics.
//
// What the paths do is elsewhere: package c2s has the streams, package upload the
// files.
package web

import (
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"carillon.im/xmltree"
)

// The paths, which are what other servers have too.
const (
	WebSocketPath = "/xmpp-websocket"
	BOSHPath      = "/http-bind"
	UploadPath    = "/upload/"
	InvitePath    = "/invite/"
)

// The vocabulary of host-meta (RFC 6415, XEP-0156, XEP-0487).
const (
	nsXRD        = "http://docs.oasis-open.org/ns/xri/xrd-1.0"
	relWebSocket = "urn:xmpp:alt-connections:websocket"
	relBOSH      = "urn:xmpp:alt-connections:xbosh"
	relClientTLS = "urn:xmpp:alt-connections:tls"
	relServerTLS = "urn:xmpp:alt-connections:s2s-tls"
)

// Stream serves a stream for a client at an address.
type Stream func(w http.ResponseWriter, r *http.Request, client netip.AddrPort)

// Options are what New needs.
type Options struct {
	// Domains are those that are served. Only they are believed in a request's Host.
	Domains []string
	// URL is where browsers find the server, "" for where they have found it.
	URL string
	// Addresses are where the server is on the internet. With them host-meta.json says
	// all that DNS would (XEP-0487): the ports for TLS from the first byte, 0 for none.
	Addresses            []string
	ClientTLS, ServerTLS int
	// Proxies may use Local for what is public.
	Proxies []netip.Prefix

	WebSocket Stream
	BOSH      Stream       // nil: there is none
	Upload    http.Handler // nil: there is none
	Invite    http.Handler // nil: there is none
	Private   http.Handler // health and metrics

	Now func() time.Time
}

// Site serves the web.
type Site struct {
	opt    Options
	public *http.ServeMux
	looks  looks
}

// New makes a site. Its handlers may be called concurrently.
func New(o Options) *Site {
	s := &Site{opt: o, public: http.NewServeMux(), looks: looks{now: o.Now, young: map[netip.Addr]time.Time{}}}
	s.public.Handle("/.well-known/host-meta", open(http.HandlerFunc(s.hostMetaXML), "GET, HEAD"))
	s.public.Handle("/.well-known/host-meta.json", open(http.HandlerFunc(s.hostMetaJSON), "GET, HEAD"))
	s.public.HandleFunc(WebSocketPath, func(w http.ResponseWriter, r *http.Request) { o.WebSocket(w, r, s.client(r)) })
	if o.BOSH != nil {
		s.public.Handle(BOSHPath, open(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { o.BOSH(w, r, s.client(r)) }), "GET, POST"))
	}
	if o.Upload != nil {
		s.public.Handle(UploadPath, open(o.Upload, "GET, HEAD, PUT"))
	}
	if o.Invite != nil {
		s.public.Handle(InvitePath, s.slowed(o.Invite)) // a page for people: nothing that other pages need
	}
	return s
}

// Public serves requests that came with TLS.
func (s *Site) Public() http.Handler { return s.public }

// Local serves requests that came in the clear.
func (s *Site) Local() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch own := private(r.URL.Path); {
		case own && forwarded(r):
			http.NotFound(w, r)
		case own:
			s.opt.Private.ServeHTTP(w, r)
		case !s.isProxy(peer(r).Addr()):
			http.Error(w, "this needs encryption: see the listener https", http.StatusForbidden)
		default:
			s.public.ServeHTTP(w, r)
		}
	})
}

// private reports whether a path is the operator's.
func private(path string) bool {
	return path == "/healthz" || path == "/metrics" || strings.HasPrefix(path, "/debug/")
}

// forwarded reports whether a proxy passed the request on.
func forwarded(r *http.Request) bool {
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Real-Ip", "Via"} {
		if len(r.Header.Values(name)) > 0 {
			return true
		}
	}
	return false
}

// open lets pages of any origin use a handler: nothing there goes by cookies, so what
// a page can do another program can do as well.
func open(h http.Handler, methods string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		head := w.Header()
		head.Set("Access-Control-Allow-Origin", "*")
		switch {
		case slices.Contains(strings.Split(methods, ", "), r.Method):
			h.ServeHTTP(w, r)
			return
		case r.Method != http.MethodOptions:
			head.Set("Allow", methods+", OPTIONS")
			http.Error(w, "", http.StatusMethodNotAllowed)
			return
		}
		head.Set("Access-Control-Allow-Methods", methods+", OPTIONS")
		head.Set("Access-Control-Allow-Headers", "Content-Type, Range")
		head.Set("Access-Control-Max-Age", "86400")
		w.WriteHeader(http.StatusNoContent)
	})
}

// peer is who is at the other end of the connection.
func peer(r *http.Request) netip.AddrPort {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

func (s *Site) isProxy(a netip.Addr) bool {
	return slices.ContainsFunc(s.opt.Proxies, func(p netip.Prefix) bool { return p.Contains(a.WithZone("")) })
}

// client is where a request comes from: of the addresses that proxies tell, the last
// that is none of theirs; only they could have added what stands behind it.
func (s *Site) client(r *http.Request) netip.AddrPort {
	from := peer(r)
	list := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(list) - 1; i >= 0 && r.TLS == nil && s.isProxy(from.Addr()); i-- {
		a, err := netip.ParseAddr(strings.TrimSpace(list[i]))
		if err != nil {
			break
		}
		from = netip.AddrPortFrom(a.Unmap(), 0)
	}
	return from
}

// secure reports whether the client's side of a request is encrypted.
func (s *Site) secure(r *http.Request) bool {
	return r.TLS != nil || s.isProxy(peer(r).Addr()) && strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}

// base is where the client finds the server: what the operator says, or the address
// that the client has used, if it is one of the server's domains.
func (s *Site) base(r *http.Request) string {
	if s.opt.URL != "" {
		return s.opt.URL
	}
	host, port := s.domain(r)
	if n, err := strconv.ParseUint(port, 10, 16); err == nil {
		host += ":" + strconv.FormatUint(n, 10)
	}
	if s.secure(r) {
		return "https://" + host
	}
	return "http://" + host
}

// domain is which of the server's domains a request is about, and the port that it
// names.
func (s *Site) domain(r *http.Request) (domain, port string) {
	name := r.Host
	if h, p, err := net.SplitHostPort(r.Host); err == nil {
		name, port = h, p
	}
	if name = strings.ToLower(name); slices.Contains(s.opt.Domains, name) {
		return name, port
	}
	return s.opt.Domains[0], port
}

// link is one way to connect. What stands below Href is XEP-0487's.
type link struct {
	Rel      string   `json:"rel"`
	Href     string   `json:"href,omitempty"`
	Port     int      `json:"port,omitempty"`
	IPs      []string `json:"ips,omitempty"`
	Priority int      `json:"priority,omitempty"`
	Weight   int      `json:"weight,omitempty"`
	SNI      string   `json:"sni,omitempty"`
}

// The ways' order for who has no other wish (RFC 2782): a stream of its own first.
const (
	tlsFirst  = 10
	thenWeb   = 20
	oneWeight = 50
	metaTTL   = 3600 // seconds for which host-meta may be kept
)

func (s *Site) links(r *http.Request) []link {
	base := s.base(r)
	list := []link{{Rel: relWebSocket, Href: "ws" + strings.TrimPrefix(base, "http") + WebSocketPath}}
	if s.opt.BOSH != nil {
		list = append(list, link{Rel: relBOSH, Href: base + BOSHPath})
	}
	return list
}

// allLinks adds what clients and servers else ask DNS for (XEP-0487 2.1). Where a web
// server is in front, what its addresses are isn't known here: that way is only for
// who follows XEP-0156.
func (s *Site) allLinks(r *http.Request) []link {
	list := s.links(r)
	domain, _ := s.domain(r)
	full := func(l link, priority int) link {
		l.IPs, l.Priority, l.Weight, l.SNI = s.opt.Addresses, priority, oneWeight, domain
		return l
	}
	if s.opt.URL == "" && r.TLS != nil {
		list[0] = full(list[0], thenWeb)
	}
	for _, l := range []link{{Rel: relClientTLS, Port: s.opt.ClientTLS}, {Rel: relServerTLS, Port: s.opt.ServerTLS}} {
		if l.Port != 0 {
			list = append(list, full(l, tlsFirst))
		}
	}
	return list
}

// hostMetaXML is the document of XEP-0156 3 in XML.
func (s *Site) hostMetaXML(w http.ResponseWriter, r *http.Request) {
	doc := []byte("<?xml version='1.0' encoding='utf-8'?>\n<XRD xmlns='" + nsXRD + "'>\n")
	for _, l := range s.links(r) {
		doc = append(doc, "  <Link rel='"+l.Rel+"' href='"...)
		doc = append(xmltree.AppendAttrValue(doc, l.Href), "'/>\n"...)
	}
	s.document(w, "application/xrd+xml; charset=utf-8", append(doc, "</XRD>\n"...))
}

// hostMetaJSON is the same in JSON. With a member "xmpp" clients look for addresses
// nowhere else (XEP-0487 2.2), so it is there only if the operator has told them.
func (s *Site) hostMetaJSON(w http.ResponseWriter, r *http.Request) {
	content := map[string]any{"links": s.links(r)}
	if len(s.opt.Addresses) > 0 {
		content = map[string]any{"links": s.allLinks(r), "xmpp": map[string]int{"ttl": metaTTL}}
	}
	doc, err := json.Marshal(content)
	if err != nil {
		http.Error(w, "", http.StatusInternalServerError)
		return
	}
	s.document(w, "application/json", append(doc, '\n'))
}

func (s *Site) document(w http.ResponseWriter, typ string, doc []byte) {
	w.Header().Set("Content-Type", typ)
	w.Header().Set("Vary", "Host")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Write(doc) // who is gone doesn't need it
}
