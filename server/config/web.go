package config

import (
	"fmt"
	"math"
	"mime"
	"net/netip"
	"net/url"
	"strings"
)

// maxServices bounds the services of XEP-0215, which are told in one answer.
const maxServices = 50

func (c *Config) checkWeb(p *problems) {
	if u, err := url.Parse(c.Web.URL); c.Web.URL != "" && (err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" ||
		strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil) {
		p.add("web.url", "%q: wanted https://host or https://host:port", c.Web.URL)
	}
	c.Web.URL = strings.TrimRight(c.Web.URL, "/")
	if _, err := c.Web.Networks(); err != nil {
		p.add("web.proxies", "%v", err)
	}
	for _, a := range c.Web.Addresses {
		if ip, err := netip.ParseAddr(a); err != nil || ip.Zone() != "" || ip.IsUnspecified() {
			p.add("web.addresses", "%q is no address such as \"192.0.2.1\"", a)
		}
	}
	u := &c.Upload
	p.between("upload.file_bytes", u.FileBytes, 0, math.MaxInt32)
	p.between("upload.day_bytes", u.DayBytes, 0, math.MaxInt)
	p.between("upload.account_bytes", u.AccountBytes, 0, math.MaxInt)
	p.between("upload.keep_days", u.KeepDays, 1, 36500)
	for _, t := range u.Types {
		if _, params, err := mime.ParseMediaType(t); err != nil || len(params) > 0 || strings.Count(t, "/") != 1 {
			p.add("upload.types", "%q is no type: wanted \"image/png\" or \"image/*\"", t)
		}
	}
	for key, list := range c.Contact.Lists() {
		for _, address := range list {
			if a, err := url.Parse(address); err != nil || a.Scheme == "" || len(address) > 1000 {
				p.add("contact."+key, "%q is no address: wanted \"xmpp:…\", \"mailto:…\" or \"https:…\"", address)
			}
		}
	}
}

// Networks are the proxies.
func (w Web) Networks() ([]netip.Prefix, error) {
	var list []netip.Prefix
	for _, s := range w.Proxies {
		n, err := netip.ParsePrefix(s)
		if a, ok := netip.ParseAddr(s); ok == nil {
			n, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return nil, fmt.Errorf("%q is neither an address nor a network such as \"10.0.0.0/8\"", s)
		}
		list = append(list, n.Masked())
	}
	return list, nil
}

// Lists are the addresses by what they are for.
func (c Contact) Lists() map[string][]string {
	return map[string][]string{"abuse": c.Abuse, "admin": c.Admin, "feedback": c.Feedback, "sales": c.Sales, "security": c.Security,
		"status": c.Status, "support": c.Support}
}

func (c *Config) checkServices(p *problems) {
	if len(c.Services) > maxServices {
		p.add("services", "%d services, %d are the limit", len(c.Services), maxServices)
	}
	for i := range c.Services {
		s := &c.Services[i]
		key := fmt.Sprintf("services[%d]", i)
		switch {
		case s.Type == "" || s.Host == "":
			p.add(key, "needs type and host")
		case s.Secret != "" && s.SecretFile != "":
			p.add(key, "needs either secret or secret_file")
		case (s.Secret != "" || s.SecretFile != "") && (s.Username != "" || s.Password != ""):
			p.add(key, "credentials are made with the secret or are the same for all: not both")
		case s.Transport != "" && s.Transport != "tcp" && s.Transport != "udp":
			p.add(key, "transport %q is neither tcp nor udp", s.Transport)
		}
		p.between(key+".port", s.Port, 0, 65535)
		p.between(key+".hours", s.Hours, 0, 24*365)
		if s.Hours == 0 {
			s.Hours = 12
		}
	}
}
