package config

import (
	"reflect"
	"strings"
	"testing"
)

func TestWebAndServices(t *testing.T) {
	c := Default()
	err := Parse(&c, "f", []byte(`
https = ":5443"
[web]
url = "https://chat.example.org/"
proxies = ["10.1.2.3", "fd00::/8"]
[upload]
types = ["image/*", "text/plain"]
[contact]
abuse = ["mailto:abuse@example.org"]
[[services]]
type = "turn"
host = "turn.example.org"
secret = "s"
[[services]]
type = "stun"
host = "stun.example.org"
port = 3478
transport = "udp"
hours = 1
`))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	want := []Service{{Type: "turn", Host: "turn.example.org", Secret: "s", Hours: 12},
		{Type: "stun", Host: "stun.example.org", Port: 3478, Transport: "udp", Hours: 1}}
	if !reflect.DeepEqual(c.Services, want) {
		t.Errorf("%+v", c.Services)
	}
	if n, err := c.Web.Networks(); err != nil || len(n) != 2 || n[0].String() != "10.1.2.3/32" || n[1].String() != "fd00::/8" || c.Web.URL != "https://chat.example.org" {
		t.Errorf("%v %v %s", n, err, c.Web.URL)
	}
}

func TestWebErrors(t *testing.T) {
	for in, want := range map[string]string{
		"[web]\nurl = 'chat.example.org'":                                   "web.url",
		"[web]\nurl = 'https://example.org/path'":                           "web.url",
		"[web]\nproxies = ['localhost']":                                    "web.proxies",
		"[web]\naddresses = ['example.org']":                                "web.addresses",
		"[web]\naddresses = ['::']":                                         "web.addresses",
		"[upload]\ntypes = ['image']":                                       "upload.types",
		"[upload]\nfile_bytes = -1":                                         "upload.file_bytes",
		"[upload]\nkeep_days = 0":                                           "upload.keep_days",
		"[contact]\nadmin = ['me']":                                         "contact.admin",
		"[[services]]\ntype = 'turn'":                                       "services[0]: needs type and host",
		"[[services]]\ntype='a'\nhost='b'\nport=70000":                      "services[0].port",
		"[[services]]\ntype='a'\nhost='b'\ntransport='sctp'":                "transport",
		"[[services]]\ntype='a'\nhost='b'\nsecret='s'\nsecret_file='f'":     "either",
		"[[services]]\ntype='a'\nhost='b'\nsecret='s'\nusername='u'":        "not both",
		strings.Repeat("[[services]]\ntype='a'\nhost='b'\n", maxServices+1): "services: 51",
		"[[services]]\ntpye='a'":                                            "services.tpye",
		"services = 3":                                                      "[[services]]",
		"[[services]]\ntype='a'\nhost='b'\nport='3478'":                     "services.port",
	} {
		c := Default()
		err := Parse(&c, "f", []byte(in))
		if err == nil {
			err = c.Check()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", in, err)
		}
	}
}
