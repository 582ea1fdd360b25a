package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"carillon.im/xmltree"
)

// The vocabulary of host-meta (RFC 6415, XEP-0156).
const (
	nsXRD        = "http://docs.oasis-open.org/ns/xri/xrd-1.0"
	relWebSocket = "urn:xmpp:alt-connections:websocket"
)

// maxHostMeta bounds a host-meta document.
const maxHostMeta = 64 << 10

// hostMeta asks the domain's web server where to reach it by WebSocket (XEP-0156
// 3): in JSON, and where there is none in XML. Only encrypted addresses count.
func (c *Client) hostMeta(ctx context.Context) ([]Address, error) {
	domain, err := c.asciiDomain()
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, kind := range []struct {
		path  string
		links func([]byte) ([]string, error)
	}{{"host-meta.json", jsonLinks}, {"host-meta", xmlLinks}} {
		var links []string
		doc, err := c.get(ctx, "https://"+domain+"/.well-known/"+kind.path)
		if err == nil {
			links, err = kind.links(doc)
		}
		var list []Address
		for _, l := range links {
			if u, err := url.Parse(l); err == nil && u.Scheme == "wss" && u.Host != "" && len(list) < maxTargets {
				list = append(list, Address{URL: l})
			}
		}
		if len(list) > 0 {
			return list, nil
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("client: host-meta: %w", errors.Join(errs...))
	}
	return nil, ErrNoService
}

func (c *Client) get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.cfg.HTTP.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, resp.Status)
	}
	doc, err := io.ReadAll(io.LimitReader(resp.Body, maxHostMeta+1))
	if err == nil && len(doc) > maxHostMeta {
		err = errors.New("the document is too large")
	}
	return doc, err
}

func jsonLinks(doc []byte) ([]string, error) {
	var meta struct {
		Links []struct{ Rel, Href string }
	}
	if err := json.Unmarshal(doc, &meta); err != nil {
		return nil, err
	}
	var list []string
	for _, l := range meta.Links {
		if l.Rel == relWebSocket {
			list = append(list, l.Href)
		}
	}
	return list, nil
}

func xmlLinks(doc []byte) ([]string, error) {
	el, err := xmltree.Parse(doc, "", xmltree.Limits{MaxBytes: maxHostMeta})
	if err != nil {
		return nil, err
	}
	var list []string
	for l := range el.Children() {
		if l.Is(nsXRD, "Link") && l.Attr("rel") == relWebSocket {
			list = append(list, l.Attr("href"))
		}
	}
	return list, nil
}
