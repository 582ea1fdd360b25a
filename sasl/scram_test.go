package sasl

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/xdg-go/scram"
)

var (
	allHashes   = []Hash{SHA1, SHA256, SHA512}
	testSalt    = []byte("0123456789abcdef")
	testSecret  = []byte("a secret of the server")
	exporter    = ChannelBinding{TLSExporter, bytes.Repeat([]byte{7}, 32)}
	endPoint    = ChannelBinding{TLSServerEndPoint, bytes.Repeat([]byte{9}, 32)}
	bothTypes   = []string{TLSExporter, TLSServerEndPoint}
	testPeerXDG = map[Hash]scram.HashGeneratorFcn{SHA1: scram.SHA1, SHA256: scram.SHA256, SHA512: scram.SHA512}
)

// prepareName stands for the preparation of localparts.
func prepareName(s string) (string, error) {
	if strings.ContainsAny(s, "@ ") {
		return "", errors.New("not a localpart")
	}
	return strings.ToLower(s), nil
}

// users maps names to passwords; all have the same salt.
type users map[string]string

func (u users) lookup(name string, h Hash) (Keys, error) {
	password, ok := u[name]
	if !ok {
		return Keys{}, fmt.Errorf("%s: %w", name, ErrUnknownUser)
	}
	return DeriveKeys(h, password, testSalt, MinIterations)
}

// serverConfig offers everything.
func serverConfig(u users) *ServerConfig {
	return &ServerConfig{
		Prepare:           prepareName,
		Lookup:            u.lookup,
		DummySecret:       testSecret,
		Iterations:        MinIterations,
		Advertised:        Advertised{Mechanisms(true, true), bothTypes},
		ProtectAdvertised: true,
		Bindings:          []ChannelBinding{exporter, endPoint},
		Rand:              rand.Reader,
	}
}

func clientConfig(name, password string) *ClientConfig {
	return &ClientConfig{
		Username:   name,
		Password:   password,
		Bindings:   []ChannelBinding{exporter, endPoint},
		Advertised: Advertised{Mechanisms(true, true), bothTypes},
		Rand:       rand.Reader,
	}
}

// exchange runs our client against our server until one of them fails or both are
// done. It returns the server's messages too.
func exchange(c Client, s Server) (transcript []string, clientErr, serverErr error) {
	var message []byte
	var clientDone, serverDone bool
	for range 5 {
		message, clientDone, clientErr = c.Next(message)
		if clientErr != nil || clientDone && serverDone {
			return transcript, clientErr, nil
		}
		message, serverDone, serverErr = s.Next(message)
		if serverErr != nil {
			return transcript, nil, serverErr
		}
		transcript = append(transcript, string(message))
		if serverDone && clientDone {
			return transcript, nil, nil
		}
	}
	return transcript, errors.New("no end"), nil
}

func condition(err error) Condition {
	var e *Error
	if errors.As(err, &e) {
		return e.Condition
	}
	return ""
}

func TestOurClientOurServer(t *testing.T) {
	u := users{"juliet": "r0m30,=\u00fc", "a=b,c": "x"}
	for _, name := range Mechanisms(true, true) {
		for _, bindings := range [][]ChannelBinding{{exporter}, {endPoint}, {exporter, endPoint}} {
			for user, password := range u {
				cc := clientConfig(user, password)
				cc.Bindings = bindings
				cc.Authzid = "juliet,=@example.com"
				c, err := NewClient(name, cc)
				if err != nil {
					t.Fatal(err)
				}
				s, err := NewServer(name, serverConfig(u))
				if err != nil {
					t.Fatal(err)
				}
				if s.Username() != "" {
					t.Error("a name before the first message")
				}
				_, clientErr, serverErr := exchange(c, s)
				if clientErr != nil || serverErr != nil {
					t.Errorf("%s: %v, %v", name, clientErr, serverErr)
				}
				if s.Username() != user || s.Authzid() != cc.Authzid {
					t.Errorf("%s: %q as %q", name, s.Username(), s.Authzid())
				}
				if _, done, err := s.Next([]byte("x")); err == nil || done {
					t.Errorf("%s: the server goes on after the end", name)
				}
				if _, done, err := c.Next([]byte("x")); err == nil || done {
					t.Errorf("%s: the client goes on after the end", name)
				}
			}
		}
	}
}

func TestNameIsPrepared(t *testing.T) {
	u := users{"juliet": "secret"}
	for _, name := range []string{ScramSHA256, Plain} {
		c, err := NewClient(name, clientConfig("Juliet", "secret"))
		if err != nil {
			t.Fatal(err)
		}
		s, err := NewServer(name, serverConfig(u))
		if err != nil {
			t.Fatal(err)
		}
		if _, clientErr, serverErr := exchange(c, s); clientErr != nil || serverErr != nil || s.Username() != "juliet" {
			t.Errorf("%s: %q, %v, %v", name, s.Username(), clientErr, serverErr)
		}
	}
}

// vector is an exchange out of an RFC.
type vector struct {
	hash                                               Hash
	salt, clientNonce, nonce                           string
	clientFirst, serverFirst, clientFinal, serverFinal string
}

func TestVectors(t *testing.T) {
	for _, v := range []vector{
		{ // RFC 5802 5
			SHA1, "QSXCR+Q6sek8bf92", "fyko+d2lbbFgONRv9qkxdawL", "fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j",
			"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
			"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
			"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
			"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
		},
		{ // RFC 7677 3
			SHA256, "W22ZaJ0SNY7soEsUEjb6gQ==", "rOprNGfwEbeRWgbNEkqO", "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
			"n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
			"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
			"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
			"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
		},
	} {
		salt, _ := decode(v.salt)
		keys, err := DeriveKeys(v.hash, "pencil", salt, 4096)
		if err != nil {
			t.Fatal(err)
		}
		cfg := serverConfig(nil)
		cfg.Lookup = func(name string, h Hash) (Keys, error) { return keys, nil }
		cfg.ProtectAdvertised = false
		s := &scramServer{cfg: cfg, hash: v.hash}
		if _, _, err := s.Next([]byte(v.clientFirst)); err != nil {
			t.Fatal(err)
		}
		s.nonce, s.serverFirst = v.nonce, v.serverFirst
		out, done, err := s.Next([]byte(v.clientFinal))
		if string(out) != v.serverFinal || !done || err != nil {
			t.Errorf("%v server: %s, %v, %v", v.hash, out, done, err)
		}

		c := &scramClient{
			cfg: &ClientConfig{Password: "pencil"}, hash: v.hash,
			header: "n,,", bare: "n=user,r=" + v.clientNonce, nonce: v.clientNonce,
		}
		for i, m := range []struct {
			in, out string
			done    bool
		}{{"", v.clientFirst, false}, {v.serverFirst, v.clientFinal, false}, {v.serverFinal, "", true}} {
			out, done, err := c.Next([]byte(m.in))
			if string(out) != m.out || done != m.done || err != nil {
				t.Errorf("%v client %d: %s, %v, %v", v.hash, i, out, done, err)
			}
		}
	}
}

// xdgBinding is one of our bindings in the peer's type.
func xdgBinding(b ChannelBinding) scram.ChannelBinding {
	return scram.ChannelBinding{Type: scram.ChannelBindingType(b.Type), Data: b.Data}
}

func TestForeignClient(t *testing.T) {
	u := users{"juliet": "r0m30 \u00fc\u2163"}
	for _, h := range allHashes {
		peer, err := testPeerXDG[h].NewClient("juliet", u["juliet"], "who,=")
		if err != nil {
			t.Fatal(err)
		}
		for name, conv := range map[string]*scram.ClientConversation{
			"":                     peer.NewConversation(),
			"y":                    peer.NewConversationAdvertisingChannelBinding(),
			exporter.Type:          peer.NewConversationWithChannelBinding(xdgBinding(exporter)),
			endPoint.Type:          peer.NewConversationWithChannelBinding(xdgBinding(endPoint)),
			"wrong " + TLSExporter: peer.NewConversationWithChannelBinding(xdgBinding(ChannelBinding{TLSExporter, endPoint.Data})),
		} {
			mechanism := "SCRAM-" + h.String()
			cfg := serverConfig(u)
			if len(name) > 1 {
				mechanism += plusSuffix
			}
			if name == "y" {
				cfg.Advertised = Advertised{Mechanisms: Mechanisms(false, false)}
			}
			s, err := NewServer(mechanism, cfg)
			if err != nil {
				t.Fatal(err)
			}
			message, err := conv.Step("")
			for !conv.Done() && err == nil {
				var out []byte
				if out, _, err = s.Next([]byte(message)); err == nil {
					message, err = conv.Step(string(out))
				}
			}
			if strings.HasPrefix(name, "wrong") {
				if conv.Valid() || condition(err) != NotAuthorized {
					t.Errorf("%s %s: %v", mechanism, name, err)
				}
			} else if !conv.Valid() || err != nil || s.Username() != "juliet" || s.Authzid() != "who,=" {
				t.Errorf("%s %s: %v, %q as %q", mechanism, name, err, s.Username(), s.Authzid())
			}
		}
	}
}

func TestForeignServer(t *testing.T) {
	const password = "r0m30 \u00fc\u00bd"
	for _, h := range allHashes {
		keys, err := DeriveKeys(h, password, testSalt, MinIterations)
		if err != nil {
			t.Fatal(err)
		}
		peer, err := testPeerXDG[h].NewServer(func(name string) (scram.StoredCredentials, error) {
			return scram.StoredCredentials{
				KeyFactors: scram.KeyFactors{Salt: string(keys.Salt), Iters: keys.Iterations},
				StoredKey:  keys.StoredKey, ServerKey: keys.ServerKey,
			}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, binding := range []ChannelBinding{{}, exporter, endPoint} {
			mechanism := "SCRAM-" + h.String()
			conv := peer.NewConversation()
			cc := clientConfig("juliet", password)
			cc.Authzid = "a,b=c"
			cc.Bindings = nil
			if binding.Type != "" {
				mechanism += plusSuffix
				conv = peer.NewConversationWithChannelBinding(xdgBinding(binding))
				cc.Bindings = []ChannelBinding{binding}
			}
			c, err := NewClient(mechanism, cc)
			if err != nil {
				t.Fatal(err)
			}
			var challenge string
			var done bool
			for !done && err == nil {
				var out []byte
				if out, done, err = c.Next([]byte(challenge)); err == nil && !done {
					challenge, err = conv.Step(string(out))
				}
			}
			if err != nil || !conv.Valid() || conv.Username() != "juliet" || conv.AuthzID() != "a,b=c" {
				t.Errorf("%s %s: %v", mechanism, binding.Type, err)
			}
		}
	}
}

func TestDowngrades(t *testing.T) {
	u := users{"juliet": "secret"}
	all := Advertised{Mechanisms(true, true), bothTypes}
	stripped := Advertised{Mechanisms: Mechanisms(false, true)}
	for _, c := range []struct {
		name      string
		mechanism string
		seen      Advertised // by the client
		offered   Advertised // by the server
		protect   bool
		want      string
	}{
		{"honest", ScramSHA1Plus, all, all, true, ""},
		{"honest, without binding", ScramSHA1, stripped, stripped, true, ""},
		{"honest, plain SCRAM by choice of a client that can't tell", ScramSHA1, Advertised{}, all, true, ""},
		{"-PLUS stripped: RFC 5802 6", ScramSHA1, stripped, all, false, "server malformed-request"},
		{"strong hashes stripped: XEP-0474", ScramSHA1Plus, Advertised{[]string{ScramSHA1Plus, ScramSHA1}, bothTypes}, all, true, "client"},
		{"strong binding stripped: XEP-0474", ScramSHA1Plus, Advertised{all.Mechanisms, bothTypes[1:]}, all, true, "client"},
		{"no type in common, no hash: XEP-0440 rule 6", ScramSHA1, Advertised{all.Mechanisms, []string{"tls-unique"}}, Advertised{all.Mechanisms, []string{"tls-unique"}}, false, "client"},
		{"no type in common, hash: XEP-0474 rule 6", ScramSHA1, Advertised{all.Mechanisms, []string{"tls-unique"}}, Advertised{all.Mechanisms, []string{"tls-unique"}}, true, ""},
		{"list of bindings stripped: XEP-0474", ScramSHA1Plus, Advertised{Mechanisms: all.Mechanisms}, all, true, "client"},
	} {
		cc := clientConfig("juliet", "secret")
		cc.Advertised = c.seen
		client, err := NewClient(c.mechanism, cc)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		cfg := serverConfig(u)
		cfg.Advertised = c.offered
		cfg.ProtectAdvertised = c.protect
		server, err := NewServer(c.mechanism, cfg)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		_, clientErr, serverErr := exchange(client, server)
		got := ""
		if errors.Is(clientErr, ErrDowngrade) {
			got = "client"
		} else if serverErr != nil {
			got = "server " + string(condition(serverErr))
		}
		if got != c.want || c.want == "" && clientErr != nil {
			t.Errorf("%s: %q, %v", c.name, got, clientErr)
		}
	}
}

// TestProtectionIsSigned has somebody in between put a hash into the exchange that
// fits what the client was shown.
func TestProtectionIsSigned(t *testing.T) {
	shown := Advertised{[]string{ScramSHA1}, nil}
	cc := clientConfig("juliet", "secret")
	cc.Advertised, cc.Bindings = shown, nil
	c, _ := NewClient(ScramSHA1, cc)
	s, _ := NewServer(ScramSHA1, serverConfig(users{"juliet": "secret"}))
	first, _, _ := c.Next(nil)
	challenge, _, _ := s.Next(first)
	before, _, _ := strings.Cut(string(challenge), ",h=")
	final, _, err := c.Next([]byte(before + ",h=" + shown.hash(SHA1)))
	if err != nil {
		t.Fatal(err)
	}
	if _, done, err := s.Next(final); done || condition(err) != NotAuthorized {
		t.Errorf("%v, %v", done, err)
	}
}

// XEP-0474 6.3, with an extension in the client's second message.
func TestProtectionExample(t *testing.T) {
	offer := Advertised{[]string{ScramSHA1Plus, ScramSHA1}, []string{TLSServerEndPoint, TLSExporter}}
	salt, _ := decode("QSXCR+Q6sek8bf92")
	keys, err := DeriveKeys(SHA1, "pencil", salt, 4096)
	if err != nil {
		t.Fatal(err)
	}
	cfg := serverConfig(nil)
	cfg.Lookup = func(string, Hash) (Keys, error) { return keys, nil }
	cfg.Advertised = offer
	cfg.Bindings = []ChannelBinding{{TLSExporter, []byte("THIS IS FAKE CB DATA")}}
	s := &scramServer{cfg: cfg, hash: SHA1, plus: true}
	const nonce = "12C4CD5C-E38E-4A98-8F6D-15C38F51CCC6"
	const both = nonce + "a09117a6-ac50-4f2f-93f1-93799c2bddf6"
	out, _, err := s.Next([]byte("p=tls-exporter,,n=user,r=" + nonce))
	if err != nil || !strings.HasSuffix(string(out), ",s=QSXCR+Q6sek8bf92,i=4096,h=G6k/rBLDqgOhRRaCuuatSDFkJ08=") {
		t.Fatalf("%s, %v", out, err)
	}
	s.serverFirst = "r=" + both + strings.TrimPrefix(s.serverFirst, "r="+s.nonce)
	s.nonce = both
	out, done, err := s.Next([]byte("c=cD10bHMtZXhwb3J0ZXIsLFRISVMgSVMgRkFLRSBDQiBEQVRB,r=" + both +
		",x=19C6532F-1CF4-4A27-A18D-DC9CEA41BBB3,p=M/SIDjT+dfcxUh89jZEypRvFxB4="))
	if string(out) != "v=MQrMPvv7yv4x4Cq4W4Ih25EqS2c=" || !done || err != nil {
		t.Errorf("%s, %v, %v", out, done, err)
	}
}

func TestUnknownUserLooksLikeWrongPassword(t *testing.T) {
	shape := func(mechanism, name string) (out []string, salt string, err error) {
		c, err := NewClient(mechanism, clientConfig(name, "wrong"))
		if err != nil {
			t.Fatal(err)
		}
		s, err := NewServer(mechanism, serverConfig(users{"juliet": "secret"}))
		if err != nil {
			t.Fatal(err)
		}
		transcript, clientErr, serverErr := exchange(c, s)
		if clientErr != nil {
			t.Fatal(clientErr)
		}
		for _, m := range transcript {
			names := ""
			for attribute := range strings.SplitSeq(m, ",") {
				names += fmt.Sprintf("%c%d ", attribute[0], len(attribute))
			}
			out = append(out, names)
			if f, ok := parseServerFirst([]byte(m)); ok {
				salt = string(f.salt)
				if f.iterations != MinIterations {
					t.Errorf("%s %s: %d iterations", mechanism, name, f.iterations)
				}
			}
		}
		return out, salt, serverErr
	}
	salts := map[string]string{}
	for _, mechanism := range Mechanisms(true, true) {
		known, _, knownErr := shape(mechanism, "juliet")
		for _, name := range []string{"romeos", "rosali", "not ok", "a@b.cd"} {
			unknown, salt, unknownErr := shape(mechanism, name)
			if fmt.Sprint(known) != fmt.Sprint(unknown) {
				t.Errorf("%s: %v is not %v", mechanism, unknown, known)
			}
			if knownErr.Error() != unknownErr.Error() || condition(unknownErr) != NotAuthorized {
				t.Errorf("%s: %v is not %v", mechanism, unknownErr, knownErr)
			}
			if _, again, _ := shape(mechanism, name); again != salt {
				t.Errorf("%s: the salt of %s changes", mechanism, name)
			}
			if _, other, _ := shape(mechanism, strings.ToUpper(name)); other != salt && !strings.ContainsAny(name, "@ ") {
				t.Errorf("%s: the salt of %s depends on its spelling", mechanism, name)
			}
			if h, _, ok := scramHash(mechanism); ok {
				if before, seen := salts[salt]; seen && before != name+h.String() {
					t.Errorf("%s: %s has the salt of %s", mechanism, name, before)
				}
				salts[salt] = name + h.String()
			}
		}
	}
}

// TestDummyKeysMatchNobody proves the stored key that an unknown user has is checked
// and then refused all the same.
func TestDummyKeysMatchNobody(t *testing.T) {
	keys, _ := DeriveKeys(SHA256, "secret", testSalt, MinIterations)
	s := &scramServer{cfg: serverConfig(nil), hash: SHA256}
	c, _ := NewClient(ScramSHA256, clientConfig("nobody", "secret"))
	first, _, _ := c.Next(nil)
	challenge, _, err := s.Next(first)
	if err != nil {
		t.Fatal(err)
	}
	// As if the made-up keys were the right ones.
	challenge = []byte(strings.Replace(string(challenge), encode(s.keys.Salt), encode(testSalt), 1))
	s.keys, s.serverFirst = keys, string(challenge)
	final, _, err := c.Next(challenge)
	if err != nil {
		t.Fatal(err)
	}
	if _, done, err := s.Next(final); done || condition(err) != NotAuthorized {
		t.Errorf("%v, %v", done, err)
	}
}

func BenchmarkServer(b *testing.B) {
	for _, mechanism := range Mechanisms(true, false) {
		h, _, _ := scramHash(mechanism)
		keys, err := DeriveKeys(h, "secret", testSalt, MinIterations)
		if err != nil {
			b.Fatal(err)
		}
		for _, user := range []string{"juliet", "nobody"} {
			b.Run(mechanism+"/"+user, func(b *testing.B) {
				cfg := serverConfig(nil)
				cfg.Lookup = func(name string, h Hash) (Keys, error) {
					if name != "juliet" {
						return Keys{}, ErrUnknownUser
					}
					return keys, nil
				}
				// A nonce that repeats lets the client's messages be made once.
				cfg.Rand = zeros{}
				cache := &ClientKeys{}
				var first, final []byte
				for range 2 { // the first round fills the cache
					cc := clientConfig(user, "secret")
					cc.Cache = cache
					c, _ := NewClient(mechanism, cc)
					s, _ := NewServer(mechanism, cfg)
					first, _, _ = c.Next(nil)
					challenge, _, _ := s.Next(first)
					final, _, _ = c.Next(challenge)
				}
				b.ReportAllocs()
				for b.Loop() {
					s, _ := NewServer(mechanism, cfg)
					if _, _, err := s.Next(first); err != nil {
						b.Fatal(err)
					}
					if _, done, _ := s.Next(final); done != (user == "juliet") {
						b.Fatal("not the expected end")
					}
				}
			})
		}
	}
}

// zeros is a source of randomness that has none.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// TestUnknownIterations: a name that nobody has seems to have the iterations that
// Lookup says, and with others another salt, as after a new password.
func TestUnknownIterations(t *testing.T) {
	first := func(iterations int) (salt, count string) {
		cfg := serverConfig(nil)
		cfg.Lookup = func(string, Hash) (Keys, error) { return Keys{}, &UnknownUser{iterations} }
		s, err := NewServer(ScramSHA256, cfg)
		if err != nil {
			t.Fatal(err)
		}
		out, _, err := s.Next([]byte("n,,n=nobody,r=abc"))
		if err != nil {
			t.Fatal(err)
		}
		fields := strings.Split(string(out), ",")
		return fields[1], fields[2]
	}
	salt, count := first(4096)
	again, _ := first(4096)
	other, most := first(20000)
	if count != "i=4096" || most != "i=20000" || salt != again || salt == other {
		t.Errorf("%s %s, then %s, then %s %s", salt, count, again, other, most)
	}
}
