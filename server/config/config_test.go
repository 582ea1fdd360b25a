package config

import (
	"reflect"
	"strings"
	"testing"
)

func TestDefaultFileIsDefault(t *testing.T) {
	// From an empty struct: whatever the file left out would be missing.
	var c Config
	if err := Parse(&c, "default.toml", []byte(DefaultFile())); err != nil {
		t.Fatal(err)
	}
	if len(c.Certificates) == 0 {
		c.Certificates = nil
	}
	if want := Default(); !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
	if err := c.Check(); err != nil {
		t.Errorf("the defaults are wrong: %v", err)
	}
}

func TestParseOverrides(t *testing.T) {
	c := Default()
	err := Parse(&c, "f", []byte(`
domains = ["Example.ORG", "example.net"]
[limits]
depth = 20
[certificates."example.org"]
cert = "a"
key = "b"
`))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Domains = []string{"example.org", "example.net"}
	want.Limits.Depth = 20
	want.Certificates = map[string]Certificate{"example.org": {"a", "b"}}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
}

func TestParseErrors(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"near", "data = 'x'\nlog_levle = 'info'\n", `f:2: unknown key "log_levle": did you mean "log_level"?`},
		{"in table", "[limits]\n\nstanza_byte = 1\n", `f:3: unknown key "limits.stanza_byte": did you mean "limits.stanza_bytes"?`},
		{"dotted", "limits.stanza_byte = 1\n", `f:1: unknown key "limits.stanza_byte": did you mean "limits.stanza_bytes"?`},
		{"wrong table", "[storage]\nresume_seconds = 1\n", `f:2: unknown key "storage.resume_seconds": did you mean "limits.resume_seconds"?`},
		{"wrong table name", "[limit]\ndepth = 1\n", `f:1: unknown key "limit"`},
		{"table", "\n[auht]\nplain = true\n", `f:2: unknown key "auht": did you mean "auth"?`},
		{"far", "\n\n\npreposterous = 1\n", `f:4: unknown key "preposterous" ("carillon config" prints all there are)`},
		{"two", "domain = 'a'\ndate = 'b'\n", "f:1: unknown key \"domain\": did you mean \"domains\"?\nf:2: unknown key \"date\": did you mean \"data\"?"},
		{"below certificates", "[certificates.\"a.example\"]\ncret = 'x'\n", `f:2: unknown key "certificates.a.example.cret"`},
		{"no bool", "data = 'x'\nregistration = 'yes'\n", "f:2: registration: wanted true or false, without quotes"},
		{"no number", "[limits]\ndepth = 'x'\n", "f:2: limits.depth: wanted a whole number, without quotes"},
		{"a fraction", "limits.depth = 1.5\n", "f:1: limits.depth: wanted a whole number"},
		{"no string", "c2s = 5222\n", `f:1: c2s: wanted a string, as in c2s = "…"`},
		{"no list", "domains = 'a'\n", "f:1: domains: wanted a list of strings"},
		{"a list of something else", "domains = ['a', 2]\n", "f:1: domains: wanted a list of strings"},
		{"no table", "limits = 3\n", "f:1: limits: wanted a table, [limits]"},
		{"a table", "[data]\nx = 1\n", "f:1: data: wanted a string"},
		{"tables", "[[limits]]\ndepth = 3\n", "f:1: limits: wanted a table, [limits]"},
		{"no string below certificates", "[certificates.'a']\ncert = 3\n", "f:2: certificates.a.cert: wanted a string"},
		{"in braces", "limits = {depth = 'x'}\n", "f:1: limits: wanted a table, [limits], with values as"},
		{"syntax", "data = 'x'\nc2s = :5222\n", "f:2:"},
		{"twice", "data = 'x'\ndata = 'y'\n", "f:2:"},
		{"number too big", "[limits]\ndepth = 99999999999999999999\n", "f:2:"},
		{"invalid UTF-8", "data = '\xff'\n", "f:1:"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := Default()
			err := Parse(&c, "f", []byte(tt.in))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
			if err != nil && (strings.Contains(err.Error(), "Config") || strings.Contains(err.Error(), "struct")) {
				t.Errorf("Go's own words: %v", err)
			}
		})
	}
}

func TestSet(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want func(*Config)
	}{
		{"c2s=:1", func(c *Config) { c.C2S = ":1" }},
		{`c2s = "off"`, func(c *Config) { c.C2S = "off" }},
		{`data=C:\x "y"`, func(c *Config) { c.Data = `C:\x "y"` }},
		{"domains=a.example, b.example", func(c *Config) { c.Domains = []string{"a.example", "b.example"} }},
		{`domains=["c.example"]`, func(c *Config) { c.Domains = []string{"c.example"} }},
		{"limits.depth=9", func(c *Config) { c.Limits.Depth = 9 }},
		{"strangers=false", func(c *Config) { c.Strangers = false }},
	} {
		got, want := Default(), Default()
		tt.want(&want)
		if err := Set(&got, tt.in); err != nil {
			t.Errorf("%s: %v", tt.in, err)
		} else if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v", tt.in, got)
		}
	}
	for in, want := range map[string]string{
		"":                   "key=value",
		"limits.depth":       "key=value",
		"limits.dept=1":      `did you mean "limits.depth"?`,
		"limits=1":           "unknown key",
		"limits.depth=ten":   "--set limits.depth=ten: wanted a whole number",
		"limits.depth=1.5":   "limits.depth",
		"registration=maybe": "--set",
	} {
		c := Default()
		if err := Set(&c, in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", in, err, want)
		}
	}
}

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		name string
		set  func(*Config)
		want string // "" = right
	}{
		{"listeners off", func(c *Config) { c.C2S, c.C2STLS, c.HTTP = Off, Off, Off }, ""},
		{"any free port twice", func(c *Config) { c.C2S, c.C2STLS = "127.0.0.1:0", "127.0.0.1:0" }, ""},
		{"IPv6", func(c *Config) { c.C2S = "[::1]:5222" }, ""},
		{"no data", func(c *Config) { c.Data = "" }, "data: "},
		{"no domain", func(c *Config) { c.Domains = nil }, "domains: no domain given"},
		{"domain twice", func(c *Config) { c.Domains = []string{"a.example", "A.example"} }, "twice"},
		{"account as domain", func(c *Config) { c.Domains = []string{"romeo@a.example"} }, "carillon user add"},
		{"bad domain", func(c *Config) { c.Domains = []string{"a b"} }, `domains: "a b" is no domain`},
		{"too many domains", func(c *Config) { c.Domains = make([]string, 101) }, "100 are the limit"},
		{"no port", func(c *Config) { c.C2S = "localhost" }, "c2s: "},
		{"port too big", func(c *Config) { c.C2S = ":65536" }, "c2s: "},
		{"named port", func(c *Config) { c.C2S = ":http" }, "c2s: "},
		{"bare IPv6", func(c *Config) { c.HTTP = "::1:80" }, "brackets"},
		{"same address", func(c *Config) { c.C2STLS = ":5222" }, "c2s_tls: \":5222\" is the address of c2s too"},
		{"cert without key", func(c *Config) { c.Cert = "x" }, "cert: "},
		{"certificate of another", func(c *Config) { c.Certificates = map[string]Certificate{"b.example": {"x", "y"}} }, "not among domains"},
		{"certificate without key", func(c *Config) { c.Certificates = map[string]Certificate{"localhost": {"x", ""}} }, "both"},
		{"component", func(c *Config) {
			c.Component, c.Components = "127.0.0.1:5347", map[string]Component{"IRC.localhost": {Secret: "x"}}
		}, ""},
		{"component without listener", func(c *Config) { c.Components = map[string]Component{"irc.localhost": {Secret: "x"}} }, "component: components can't connect"},
		{"listener without component", func(c *Config) { c.Component = ":5347" }, "component: nobody may connect"},
		{"component without secret", func(c *Config) { c.Components = map[string]Component{"irc.localhost": {}} }, `components."irc.localhost": needs either`},
		{"component with two secrets", func(c *Config) { c.Components = map[string]Component{"irc.localhost": {Secret: "x", SecretFile: "y"}} }, "needs either"},
		{"component among domains", func(c *Config) { c.Components = map[string]Component{"Localhost": {Secret: "x"}} }, "where accounts live"},
		{"component that is an account", func(c *Config) { c.Components = map[string]Component{"a@b": {Secret: "x"}} }, "no domain"},
		{"component where rooms are", func(c *Config) {
			c.Component, c.Components = ":5347", map[string]Component{"Rooms.localhost": {Secret: "x"}}
		}, `rooms.subdomain: "rooms.localhost" is a component`},
		{"accounts where rooms are", func(c *Config) { c.Domains = []string{"localhost", "rooms.localhost"} }, `rooms.subdomain: "rooms.localhost" is among domains`},
		{"rooms without a name", func(c *Config) { c.Rooms.Subdomain = "a b" }, `rooms.subdomain: "a b.localhost" is no domain`},
		{"rooms made by nobody", func(c *Config) { c.Rooms.Create = "nobody" }, "rooms.create"},
		{"rooms for nobody", func(c *Config) { c.Rooms.Occupants = 0 }, "rooms.occupants"},
		{"component twice", func(c *Config) { c.Components = map[string]Component{"a.b": {Secret: "x"}, "A.b": {Secret: "x"}} }, "stands there twice"},
		{"component's rate", func(c *Config) { c.Components = map[string]Component{"a.b": {Secret: "x", BytesPerSecond: -1}} }, "too small"},
		{"component on another's address", func(c *Config) {
			c.Component, c.Components = ":5222", map[string]Component{"irc.localhost": {Secret: "x"}}
		}, "component: \":5222\" is the address of c2s too"},
		{"log level", func(c *Config) { c.LogLevel = "all" }, `log_level: "all" is none of error, warn`},
		{"log format", func(c *Config) { c.LogFormat = "xml" }, "log_format: "},
		{"archive", func(c *Config) { c.Archive.Default = "sometimes" }, "archive.default: "},
		{"token days", func(c *Config) { c.Auth.TokenDays = 0 }, "auth.token_days: 0 is too small: at least 1"},
		{"iterations", func(c *Config) { c.Auth.Iterations = 1 }, "auth.iterations: 1 is too small: at least 4096"},
		{"stanza below the RFC's floor", func(c *Config) { c.Limits.StanzaBytesUnauthenticated = 9999 }, "limits.stanza_bytes_unauthenticated: "},
		{"outbox below a stanza", func(c *Config) { c.Limits.StanzaBytes = 2 << 20 }, "limits.outbox_bytes: "},
		{"too big", func(c *Config) { c.Limits.MAMPageMax = 1 << 20 }, "limits.mam_page_max: 1048576 is too big"},
		{"several", func(c *Config) { c.LogFormat, c.Limits.Depth = "", 0 }, "log_format: \"\" is none of text, json\nlimits.depth: 0 is too small: at least 8"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := Default()
			tt.set(&c)
			err := c.Check()
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(DefaultFile()))
	f.Add([]byte("[limits]\nx = 1\n"))
	f.Fuzz(func(t *testing.T, document []byte) {
		c := Default()
		if Parse(&c, "f", document) == nil {
			_ = c.Check() // must not panic, whatever the values
		}
	})
}
