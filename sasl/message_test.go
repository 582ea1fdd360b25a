package sasl

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestMalformedFirstMessage(t *testing.T) {
	for _, c := range []struct{ name, in string }{
		{"empty", ""},
		{"no GS2 header", "n=juliet,r=abc"},
		{"unknown flag", "x,,n=juliet,r=abc"},
		{"flag with a value", "n=,,n=juliet,r=abc"},
		{"flag alone", "n"},
		{"flag and a comma", "n,"},
		{"header alone", "n,,"},
		{"junk in place of the authzid", "n,x,n=juliet,r=abc"},
		{"empty authzid", "n,a=,n=juliet,r=abc"},
		{"bad escape in the authzid", "n,a==2c,n=juliet,r=abc"},
		{"binding without a type", "p=,,n=juliet,r=abc"},
		{"binding with bad characters", "p=tls_exporter,,n=juliet,r=abc"},
		{"binding without -PLUS", "p=tls-exporter,,n=juliet,r=abc"},
		{"y while -PLUS is offered", "y,,n=juliet,r=abc"},
		{"mandatory extension", "n,,m=1,n=juliet,r=abc"},
		{"mandatory extension, later", "n,,n=juliet,r=abc,m=1"},
		{"no name", "n,,r=abc"},
		{"empty name", "n,,n=,r=abc"},
		{"bad escape", "n,,n=a=2,r=abc"},
		{"lower-case escape", "n,,n=a=3d,r=abc"},
		{"escape at the end", "n,,n=a=,r=abc"},
		{"no nonce", "n,,n=juliet"},
		{"empty nonce", "n,,n=juliet,r="},
		{"empty nonce and more", "n,,n=juliet,r=,x=y"},
		{"nonce with a space", "n,,n=juliet,r=a b"},
		{"nonce that isn't ASCII", "n,,n=juliet,r=\u00fc"},
		{"attributes exchanged", "n,,r=abc,n=juliet"},
		{"comma at the end", "n,,n=juliet,r=abc,"},
		{"extension without a name", "n,,n=juliet,r=abc,=x"},
		{"extension without a value", "n,,n=juliet,r=abc,x="},
		{"extension named by a digit", "n,,n=juliet,r=abc,1=x"},
		{"NUL", "n,,n=jul\x00iet,r=abc"},
		{"not UTF-8", "n,,n=jul\xffiet,r=abc"},
		{"too long", "n,,n=juliet,r=" + strings.Repeat("x", maxMessage)},
	} {
		s, err := NewServer(ScramSHA256, serverConfig(users{"juliet": "secret"}))
		if err != nil {
			t.Fatal(err)
		}
		out, done, err := s.Next([]byte(c.in))
		if condition(err) != MalformedRequest || done || out != nil {
			t.Errorf("%s: %s, %v, %v", c.name, out, done, err)
		}
		if _, _, err := s.Next([]byte("n,,n=juliet,r=abc")); condition(err) != MalformedRequest {
			t.Errorf("%s: the exchange goes on: %v", c.name, err)
		}
	}
	for _, c := range []struct{ name, in string }{
		{"n with -PLUS", "n,,n=juliet,r=abc"},
		{"y with -PLUS", "y,,n=juliet,r=abc"},
		{"unsupported type", "p=tls-unique,,n=juliet,r=abc"},
	} {
		s, err := NewServer(ScramSHA256Plus, serverConfig(users{"juliet": "secret"}))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Next([]byte(c.in)); condition(err) != MalformedRequest {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestFirstMessage(t *testing.T) {
	for _, c := range []struct {
		in   string
		want clientFirst
	}{
		{"n,,n=juliet,r=abc", clientFirst{gs2Header{flag: 'n'}, "n,,", "n=juliet,r=abc", "juliet", "abc"}},
		{"y,a=a=2Cb=3D=3D,n==2C=3D2C,r=a=c,x=y=z", clientFirst{gs2Header{'y', "", "a,b=="}, "y,a=a=2Cb=3D=3D,", "n==2C=3D2C,r=a=c,x=y=z", ",=2C", "a=c"}},
		{"p=tls-exporter,,n=\u00fc,r=!~", clientFirst{gs2Header{'p', "tls-exporter", ""}, "p=tls-exporter,,", "n=\u00fc,r=!~", "\u00fc", "!~"}},
	} {
		if got, problem := parseClientFirst([]byte(c.in)); got != c.want || problem != "" {
			t.Errorf("%s: %+v, %s", c.in, got, problem)
		}
	}
}

func TestMalformedFinalMessage(t *testing.T) {
	const first = "n,,n=juliet,r=abc"
	proof := encode(make([]byte, SHA256.Size()))
	for _, c := range []struct {
		name, in string // NONCE stands for what the server said
		want     Condition
	}{
		{"all right but for the proof", "c=biws,r=NONCE,p=" + proof, NotAuthorized},
		{"the same with an extension", "c=biws,r=NONCE,x=y,p=" + proof, NotAuthorized},
		{"empty", "", MalformedRequest},
		{"no binding", "r=NONCE,p=" + proof, MalformedRequest},
		{"empty binding", "c=,r=NONCE,p=" + proof, MalformedRequest},
		{"binding not base64", "c=b!ws,r=NONCE,p=" + proof, MalformedRequest},
		{"binding with a line break", "c=bi\nws,r=NONCE,p=" + proof, MalformedRequest},
		{"binding with stray bits", "c=bix=,r=NONCE,p=" + proof, MalformedRequest},
		{"another GS2 header", "c=" + encode([]byte("y,,")) + ",r=NONCE,p=" + proof, MalformedRequest},
		{"binding data after an n header", "c=" + encode([]byte("n,,x")) + ",r=NONCE,p=" + proof, NotAuthorized},
		{"another nonce", "c=biws,r=abcd,p=" + proof, MalformedRequest},
		{"a longer nonce", "c=biws,r=NONCEx,p=" + proof, MalformedRequest},
		{"the client's nonce alone", "c=biws,r=abc,p=" + proof, MalformedRequest},
		{"no nonce", "c=biws,p=" + proof, MalformedRequest},
		{"no proof", "c=biws,r=NONCE", MalformedRequest},
		{"no proof but a comma", "c=biws,r=NONCE,", MalformedRequest},
		{"empty proof", "c=biws,r=NONCE,p=", MalformedRequest},
		{"short proof", "c=biws,r=NONCE,p=AAAA", MalformedRequest},
		{"proof of another hash", "c=biws,r=NONCE,p=" + encode(make([]byte, 20)), MalformedRequest},
		{"something after the proof", "c=biws,r=NONCE,p=" + proof + ",x=y", MalformedRequest},
		{"comma after the proof", "c=biws,r=NONCE,p=" + proof + ",", MalformedRequest},
		{"mandatory extension", "m=x,c=biws,r=NONCE,p=" + proof, MalformedRequest},
		{"mandatory extension, later", "c=biws,r=NONCE,m=x,p=" + proof, MalformedRequest},
		{"too long", "c=biws,r=NONCE,x=" + strings.Repeat("y", maxMessage) + ",p=" + proof, MalformedRequest},
	} {
		s, err := NewServer(ScramSHA256, serverConfig(users{"juliet": "secret"}))
		if err != nil {
			t.Fatal(err)
		}
		challenge, _, err := s.Next([]byte(first))
		if err != nil {
			t.Fatal(err)
		}
		nonce := strings.TrimPrefix(string(challenge[:bytes.IndexByte(challenge, ',')]), "r=")
		out, done, err := s.Next([]byte(strings.ReplaceAll(c.in, "NONCE", nonce)))
		if condition(err) != c.want || done || out != nil {
			t.Errorf("%s: %s, %v, %v", c.name, out, done, err)
		}
	}
}

func TestMalformedServerMessages(t *testing.T) {
	for _, c := range []struct{ name, in string }{
		{"empty", ""},
		{"error", "e=other-error"},
		{"nonce of somebody else", "r=zzzzNONCE,s=QSXC,i=4096"},
		{"nonce not extended", "r=NONCE,s=QSXC,i=4096"},
		{"no salt", "r=NONCEx,i=4096"},
		{"empty salt", "r=NONCEx,s=,i=4096"},
		{"salt not base64", "r=NONCEx,s=!,i=4096"},
		{"no iterations", "r=NONCEx,s=QSXC"},
		{"negative iterations", "r=NONCEx,s=QSXC,i=-4096"},
		{"signed iterations", "r=NONCEx,s=QSXC,i=+4096"},
		{"iterations with a zero in front", "r=NONCEx,s=QSXC,i=04096"},
		{"few iterations", "r=NONCEx,s=QSXC,i=4095"},
		{"many iterations", "r=NONCEx,s=QSXC,i=1048577"},
		{"more iterations than fit", "r=NONCEx,s=QSXC,i=99999999999999999999"},
		{"mandatory extension", "m=x,r=NONCEx,s=QSXC,i=4096"},
		{"long salt", "r=NONCEx,s=" + encode(make([]byte, maxSalt+1)) + ",i=4096"},
		{"too long", "r=NONCEx,s=QSXC,i=4096,x=" + strings.Repeat("y", maxMessage)},
	} {
		c1, err := NewClient(ScramSHA256, clientConfig("juliet", "secret"))
		if err != nil {
			t.Fatal(err)
		}
		nonce := c1.(*scramClient).nonce
		if _, _, err := c1.Next([]byte{}); err != nil {
			t.Fatal(err)
		}
		out, done, err := c1.Next([]byte(strings.ReplaceAll(c.in, "NONCE", nonce)))
		if err == nil || done || out != nil {
			t.Errorf("%s: %s, %v, %v", c.name, out, done, err)
		}
	}
	c, _ := NewClient(ScramSHA256, clientConfig("juliet", "secret"))
	if _, _, err := c.Next([]byte("r=x")); err == nil {
		t.Error("a challenge before the first message")
	}
}

func TestServerMustProveItself(t *testing.T) {
	for _, final := range []string{"", "v=", "v=AAAA", "e=invalid-proof", "v=" + encode(make([]byte, 32)), "x=y,v=AAAA"} {
		cache := &ClientKeys{}
		cc := clientConfig("juliet", "secret")
		cc.Cache = cache
		c, _ := NewClient(ScramSHA256, cc)
		s, _ := NewServer(ScramSHA256, serverConfig(users{"juliet": "secret"}))
		first, _, _ := c.Next(nil)
		challenge, _, _ := s.Next(first)
		if _, done, err := c.Next(challenge); done || err != nil {
			t.Fatal(done, err)
		}
		if _, done, err := c.Next([]byte(final)); done || !errors.Is(err, ErrServerUnproved) {
			t.Errorf("%s: %v, %v", final, done, err)
		}
		if cache.ClientKey != nil {
			t.Errorf("%s: the keys are kept", final)
		}
	}
}

func TestPlainMessages(t *testing.T) {
	u := users{"juliet": "secret"}
	for _, c := range []struct {
		in                string
		want              Condition
		username, authzid string
	}{
		{"\x00juliet\x00secret", "", "juliet", ""},
		{"\x00Juliet\x00secret", "", "juliet", ""},
		{"who\x00juliet\x00secret", "", "juliet", "who"},
		{"\x00juliet\x00wrong", NotAuthorized, "juliet", ""},
		{"\x00romeo\x00secret", NotAuthorized, "romeo", ""},
		{"\x00ro meo\x00secret", NotAuthorized, "ro meo", ""},
		{"\x00juliet\x00sec\x01ret", NotAuthorized, "juliet", ""},
		{"\x00juliet\x00" + strings.Repeat("x", 2000), NotAuthorized, "juliet", ""},
		{"", MalformedRequest, "", ""},
		{"juliet", MalformedRequest, "", ""},
		{"juliet\x00secret", MalformedRequest, "", ""},
		{"\x00\x00secret", MalformedRequest, "", ""},
		{"\x00juliet\x00", MalformedRequest, "", ""},
		{"\x00juliet\x00secret\x00", MalformedRequest, "", ""},
		{"\x00juliet\x00sec\xffret", MalformedRequest, "", ""},
		{"\x00juliet\x00" + strings.Repeat("x", maxMessage), MalformedRequest, "", ""},
	} {
		s, err := NewServer(Plain, serverConfig(u))
		if err != nil {
			t.Fatal(err)
		}
		out, done, err := s.Next([]byte(c.in))
		if condition(err) != c.want || (err == nil) != done || out != nil || s.Username() != c.username || s.Authzid() != c.authzid {
			t.Errorf("%q: %v, %v, %q as %q", c.in, done, err, s.Username(), s.Authzid())
		}
		if _, done, err := s.Next([]byte("\x00juliet\x00secret")); done || err == nil {
			t.Errorf("%q: a second try in one exchange", c.in)
		}
	}
}

func TestStoreFailure(t *testing.T) {
	failure := errors.New("disk on fire")
	for _, mechanism := range []string{ScramSHA256, Plain} {
		for name, lookup := range map[string]func(string, Hash) (Keys, error){
			"error":      func(string, Hash) (Keys, error) { return Keys{}, failure },
			"nothing":    func(string, Hash) (Keys, error) { return Keys{}, nil },
			"other hash": func(string, Hash) (Keys, error) { return DeriveKeys(SHA1, "secret", testSalt, 1) },
			"cut keys":   func(string, Hash) (Keys, error) { return Keys{SHA256, 1, testSalt, testSalt, testSalt}, nil },
			"no iteration": func(string, Hash) (Keys, error) {
				return Keys{SHA256, 0, testSalt, make([]byte, 32), make([]byte, 32)}, nil
			},
		} {
			cfg := serverConfig(nil)
			cfg.Lookup = lookup
			s, _ := NewServer(mechanism, cfg)
			c, _ := NewClient(mechanism, clientConfig("juliet", "secret"))
			_, _, err := exchange(c, s)
			if condition(err) != TemporaryAuthFailure || errors.Is(err, failure) != (name == "error") {
				t.Errorf("%s, %s: %v", mechanism, name, err)
			}
		}
	}
	cfg := serverConfig(nil)
	cfg.Rand = bytes.NewReader(nil)
	s, _ := NewServer(ScramSHA1, cfg)
	if _, _, err := s.Next([]byte("n,,n=juliet,r=abc")); condition(err) != TemporaryAuthFailure {
		t.Errorf("no randomness: %v", err)
	}
}

func TestConfigurations(t *testing.T) {
	for name, change := range map[string]func(*ServerConfig){
		"Prepare":       func(c *ServerConfig) { c.Prepare = nil },
		"Lookup":        func(c *ServerConfig) { c.Lookup = nil },
		"Rand":          func(c *ServerConfig) { c.Rand = nil },
		"DummySecret":   func(c *ServerConfig) { c.DummySecret = testSalt[1:] },
		"Iterations":    func(c *ServerConfig) { c.Iterations = 0 },
		"Iterations, 2": func(c *ServerConfig) { c.Iterations = MaxIterations + 1 },
	} {
		cfg := serverConfig(nil)
		change(cfg)
		if s, err := NewServer(ScramSHA1, cfg); err == nil || s != nil || condition(err) != "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	cfg := serverConfig(nil)
	cfg.Advertised.Mechanisms = []string{ScramSHA1, "X-OTHER"}
	for _, name := range []string{"", "X-OTHER", Plain, ScramSHA256, ScramSHA1Plus, "scram-sha-1", "SCRAM-SHA-1-PLUS-PLUS"} {
		if s, err := NewServer(name, cfg); condition(err) != InvalidMechanism || s != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, mechanism := range []string{ScramSHA1Plus, Plain} {
		for name, change := range map[string]func(*ClientConfig){
			"Username":                func(c *ClientConfig) { c.Username = "" },
			"NUL":                     func(c *ClientConfig) { c.Username = "a\x00b" },
			"Authzid":                 func(c *ClientConfig) { c.Authzid = "a\x00b" },
			"Rand":                    func(c *ClientConfig) { c.Rand = nil },
			"no binding, no password": func(c *ClientConfig) { c.Bindings, c.Password = nil, "" },
		} {
			cfg := clientConfig("juliet", "secret")
			change(cfg)
			if _, err := NewClient(mechanism, cfg); err == nil {
				t.Errorf("%s: %s: no error", mechanism, name)
			}
		}
	}
	if _, err := NewClient("X-OTHER", clientConfig("juliet", "secret")); err == nil {
		t.Error("an unknown mechanism")
	}
	broken := clientConfig("juliet", "secret")
	broken.Rand = bytes.NewReader(nil)
	if _, err := NewClient(ScramSHA1, broken); err == nil {
		t.Error("no randomness")
	}
}

func TestChoose(t *testing.T) {
	ends := []string{TLSServerEndPoint}
	for _, c := range []struct {
		name     string
		offer    Advertised
		bindings []ChannelBinding
		plain    bool
		want     string
		flag     string
		err      error
	}{
		{"all", Advertised{Mechanisms(true, true), bothTypes}, []ChannelBinding{exporter, endPoint}, false, ScramSHA512Plus, "p=tls-exporter", nil},
		{"the common type", Advertised{Mechanisms(true, true), ends}, []ChannelBinding{exporter, endPoint}, false, ScramSHA512Plus, "p=tls-server-end-point", nil},
		{"no list of types", Advertised{Mechanisms: []string{ScramSHA1, ScramSHA1Plus}}, []ChannelBinding{exporter}, false, ScramSHA1Plus, "p=tls-exporter", nil},
		{"client without binding", Advertised{Mechanisms(true, true), bothTypes}, nil, false, ScramSHA512, "n", nil},
		{"server without binding", Advertised{Mechanisms: []string{ScramSHA1, ScramSHA256}}, []ChannelBinding{exporter}, false, ScramSHA256, "y", nil},
		{"no type in common, but the mandatory one", Advertised{Mechanisms(true, true), ends}, []ChannelBinding{exporter}, false, ScramSHA512, "n", nil},
		{"no type in common", Advertised{Mechanisms(true, true), []string{"tls-unique"}}, []ChannelBinding{exporter}, false, ScramSHA512, "n", nil},
		{"no type in common, PLAIN", Advertised{[]string{ScramSHA1Plus, Plain}, []string{"tls-unique"}}, []ChannelBinding{exporter}, true, "", "", ErrNoMechanism},
		{"types without a mechanism", Advertised{[]string{ScramSHA1}, ends}, nil, false, "", "", ErrDowngrade},
		{"PLAIN only, unwanted", Advertised{Mechanisms: []string{Plain}}, nil, false, "", "", ErrNoMechanism},
		{"PLAIN only", Advertised{Mechanisms: []string{Plain}}, nil, true, Plain, "", nil},
		{"PLAIN is the last", Advertised{Mechanisms: []string{Plain, ScramSHA1}}, nil, true, ScramSHA1, "n", nil},
		{"nothing", Advertised{}, nil, true, "", "", ErrNoMechanism},
	} {
		cfg := ClientConfig{Username: "juliet", Password: "secret", Bindings: c.bindings, Advertised: c.offer, AllowPlain: c.plain, Rand: rand.Reader}
		extensible := cfg
		extensible.Extensible = true
		if got, err := extensible.Choose(); c.name == "no list of types" && !errors.Is(err, ErrDowngrade) || c.name != "no list of types" && got != c.want {
			t.Errorf("%s, SASL2: %s, %v", c.name, got, err)
		}
		got, err := cfg.Choose()
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %s, %v", c.name, got, err)
		}
		if c.flag == "" {
			continue
		}
		client, err := NewClient(got, &cfg)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if out, _, _ := client.Next(nil); !strings.HasPrefix(string(out), c.flag+",") {
			t.Errorf("%s: %s", c.name, out)
		}
	}
}

func TestCacheSparesThePassword(t *testing.T) {
	u := users{"juliet": "secret"}
	cache := &ClientKeys{}
	login := func(mechanism, password string) error {
		cc := clientConfig("juliet", password)
		cc.Cache = cache
		c, err := NewClient(mechanism, cc)
		if err != nil {
			return err
		}
		s, err := NewServer(mechanism, serverConfig(u))
		if err != nil {
			return err
		}
		_, clientErr, serverErr := exchange(c, s)
		return errors.Join(clientErr, serverErr)
	}
	if err := login(ScramSHA256, ""); !errors.Is(err, ErrPassword) {
		t.Errorf("an empty cache: %v", err)
	}
	if err := login(ScramSHA256, "secret"); err != nil {
		t.Fatal(err)
	}
	if err := login(ScramSHA256Plus, ""); err != nil {
		t.Errorf("by the cache: %v", err)
	}
	if err := login(ScramSHA512, ""); !errors.Is(err, ErrPassword) {
		t.Errorf("another hash: %v", err)
	}
	u["juliet"] = "changed"
	if err := login(ScramSHA256, ""); condition(err) != NotAuthorized {
		t.Errorf("an old cache: %v", err)
	}
}

func FuzzServer(f *testing.F) {
	keys, err := DeriveKeys(SHA256, "secret", testSalt, 1)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("n,,n=juliet,r=abc", "c=biws,r=abcAAAAAAAAAAAAAAAAAAAAAAAA,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
	f.Add("p=tls-exporter,a=a=2Cb,n=a=3D,r=abc,x=y", "c=biws,r=abcAAAAAAAAAAAAAAAAAAAAAAAA,x=y,p=AAAA")
	f.Add("\x00juliet\x00secret", "")
	f.Fuzz(func(t *testing.T, first, final string) {
		for _, mechanism := range []string{ScramSHA256, ScramSHA256Plus, Plain} {
			cfg := serverConfig(nil)
			cfg.Lookup = func(name string, h Hash) (Keys, error) {
				if name == "juliet" {
					return keys, nil
				}
				return Keys{}, ErrUnknownUser
			}
			cfg.Iterations = 1
			cfg.Rand = zeros{}
			s, err := NewServer(mechanism, cfg)
			if err != nil {
				t.Fatal(err)
			}
			_, done, err := s.Next([]byte(first))
			if done && mechanism == Plain && strings.HasSuffix(first, "\x00secret") {
				continue
			}
			if done || err != nil && condition(err) == "" {
				t.Fatalf("%s: %q: %v, %v", mechanism, first, done, err)
			}
			if err == nil {
				m, problem := parseClientFirst([]byte(first))
				if problem != "" || m.header+m.bare != first || !strings.HasPrefix(m.bare, "n="+escapeName(m.username)+",r="+m.nonce) {
					t.Fatalf("%q: %+v, %s", first, m, problem)
				}
			}
			if _, done, err = s.Next([]byte(final)); done || condition(err) == "" {
				t.Fatalf("%s: %q, %q: %v, %v", mechanism, first, final, done, err)
			}
		}
	})
}

func FuzzClient(f *testing.F) {
	f.Add("x,s=QSXC,i=4096", "v=AAAA", true)
	f.Add("x,s=QSXC,i=4096,h=AAAA", "e=other-error", true)
	f.Add("r=x,s=QSXC,i=4096", "", false)
	f.Fuzz(func(t *testing.T, first, final string, nonce bool) {
		cc := clientConfig("juliet", "secret")
		cc.Rand = zeros{}
		c, err := NewClient(ScramSHA256, cc)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := c.Next(nil); err != nil {
			t.Fatal(err)
		}
		if nonce {
			first = fmt.Sprintf("r=%s%s", c.(*scramClient).nonce, first)
		}
		if m, ok := parseServerFirst([]byte(first)); ok && m.iterations > 2*MinIterations {
			t.Skip() // takes too long for a fuzz test
		}
		if out, done, err := c.Next([]byte(first)); done || err == nil && len(out) == 0 {
			t.Fatalf("%q: %v, %v", first, done, err)
		}
		if _, done, err := c.Next([]byte(final)); done || err == nil {
			t.Fatalf("%q, %q: %v, %v", first, final, done, err)
		}
	})
}
