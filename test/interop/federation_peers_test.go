package interop

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// carillonCommand, prosodyCommand and ejabberdCommand serve federation: by certificate
// (external) or by dialback.
func carillonCommand(external bool) func(*other) *exec.Cmd {
	return func(o *other) *exec.Cmd {
		bin, err := federationBinary()
		if err != nil {
			o.t.Fatal(err)
		}
		policy, authorities := "certificate", o.ca.file
		if !external {
			policy, authorities = "dialback", ""
		}
		config := filepath.Join(o.dir, "carillon.toml")
		text := fmt.Sprintf("domains = ['%s']\ns2s = '127.0.0.1:%s'\ns2s_tls = 'off'\nhttp = 'off'\n[limits]\nconnections_per_address = 0\n[federation]\npolicy = %q\nresolver = %q\nauthorities = %q\n", strings.Join(o.domains(), "', '"), o.s2s, policy, o.resolver, authorities)
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			o.t.Fatal(err)
		}
		return exec.Command(bin, "serve", "--config", config, "--data", filepath.Join(o.dir, "data"),
			"--c2s", "127.0.0.1:"+o.c2s, "--c2s-tls", "off", "--cert", o.id.cert, "--key", o.id.key, "--log-level", o.log)
	}
}

// federationBinary is carillon, built once.
var federationBinary = sync.OnceValues(func() (string, error) {
	if run.dir == "" {
		var err error
		if run.dir, err = os.MkdirTemp("", "interop-"); err != nil {
			return "", err
		}
	}
	return binary()
})

// streamInfo is what `carillon s2s` says of a stream.
type streamInfo struct {
	Domain, For, Direction, State, Security string
	Stream                                  uint64
	Waiting, Unacked                        int
}

func (o *other) streams() (list []streamInfo) {
	o.t.Helper()
	bin, err := federationBinary()
	if err != nil {
		o.t.Fatal(err)
	}
	text, err := output(exec.Command(bin, "s2s", "--json", "--data", filepath.Join(o.dir, "data")))
	if err != nil {
		o.t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		o.t.Fatalf("%v: %s", err, text)
	}
	return list
}

// delivered waits until nothing that carillon sent is unacknowledged.
func (o *other) delivered() {
	o.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		n := 0
		for _, s := range o.streams() {
			n += s.Waiting + s.Unacked
		}
		if n == 0 {
			return
		}
		if time.Now().After(deadline) {
			o.t.Fatalf("%d stanzas are not acknowledged", n)
		}
	}
}

func carillonRegister(o *other, user string) {
	bin, err := federationBinary()
	if err != nil {
		o.t.Fatal(err)
	}
	user, domain := o.account(user)
	cmd := exec.Command(bin, "user", "add", user+"@"+domain, "--password-stdin", "--data", filepath.Join(o.dir, "data"))
	cmd.Stdin = strings.NewReader("secret-" + user + "\n")
	if _, err := output(cmd); err != nil {
		o.t.Fatal(err)
	}
}

func prosodyCommand(external bool) func(*other) *exec.Cmd {
	return func(o *other) *exec.Cmd {
		host, port, _ := net.SplitHostPort(o.resolver)
		disabled := ""
		if !external {
			disabled = `"s2s_auth_certs";`
		}
		config := strings.NewReplacer("@DIR@", o.dir, "@C2S@", o.c2s, "@S2S@", o.s2s, "@CERT@", o.id.cert, "@KEY@", o.id.key, "@CA@", o.ca.file,
			"@HOSTS@", "VirtualHost \""+strings.Join(o.domains(), "\"\nVirtualHost \"")+"\"", "@DNS@", host+"@"+port, "@DISABLED@", disabled, "@SECURE@", fmt.Sprint(external), "@LOG@", o.log).Replace(prosodyFederation)
		file := filepath.Join(o.dir, "prosody.cfg.lua")
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			o.t.Fatal(err)
		}
		return exec.Command("prosody", "--config", file, "-F")
	}
}

func prosodyRegister(o *other, user string) {
	user, domain := o.account(user)
	dir := filepath.Join(o.dir, "store", strings.ReplaceAll(domain, ".", "%2e"), "accounts")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		o.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, user+".dat"), fmt.Appendf(nil, "return { [%q] = %q; };\n", "password", "secret-"+user), 0o600); err != nil {
		o.t.Fatal(err)
	}
}

const prosodyFederation = `
run_as_root = true
pidfile = "@DIR@/prosody.pid"
data_path = "@DIR@/store"
interfaces = { "127.0.0.1" }
c2s_ports = { @C2S@ }
c2s_direct_tls_ports = { }
s2s_ports = { @S2S@ }
s2s_direct_tls_ports = { }
component_ports = { }
http_ports = { }
https_ports = { }
unbound = { resolvconf = false; hoststxt = false; forward = { "@DNS@" }; options = { ["do-not-query-localhost:"] = "no"; ["module-config:"] = "iterator" } }
c2s_require_encryption = true
s2s_require_encryption = true
s2s_secure_auth = @SECURE@
authentication = "internal_plain"
ssl = { certificate = "@CERT@"; key = "@KEY@"; cafile = "@CA@" }
modules_enabled = {
	"disco"; "roster"; "saslauth"; "tls"; "dialback"; "s2s_bidi"; "blocklist"; "carbons"; "pep"; "private"; "smacks"; "offline";
	"ping"; "time"; "version"; "posix"; "mam"; "vcard";
}
modules_disabled = { @DISABLED@ }
default_archive_policy = true
mam_smart_enable = false
log = { { levels = { min = "@LOG@" }; to = "file"; filename = "@DIR@/output.log" } }
@HOSTS@
`

func ejabberdCommand(external bool) func(*other) *exec.Cmd {
	return func(o *other) *exec.Cmd {
		_, port, _ := net.SplitHostPort(o.resolver)
		pem := filepath.Join(o.dir, "both.pem")
		both, err := joinFiles(o.id.cert, o.id.key)
		if err != nil {
			o.t.Fatal(err)
		}
		ca := o.ca.file
		if !external {
			ca = "/etc/ssl/certs/ca-certificates.crt"
		}
		files := map[string]string{
			pem:                            string(both),
			filepath.Join(o.dir, "inetrc"): "{resolv_conf, \"\"}.\n{hosts_file, \"\"}.\n{lookup, [dns]}.\n{nameserver, {127,0,0,1}, " + port + "}.\n",
			filepath.Join(o.dir, "ejabberd.yml"): strings.NewReplacer("@HOSTS@", strings.Join(o.domains(), `", "`), "@PEM@", pem, "@CA@", ca, "@C2S@", o.c2s, "@S2S@", o.s2s).
				Replace(ejabberdFederation),
		}
		for file, text := range files {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				o.t.Fatal(err)
			}
		}
		if err := os.MkdirAll(filepath.Join(o.dir, "store"), 0o700); err != nil {
			o.t.Fatal(err)
		}
		cmd := exec.Command("erl", "-noinput", "-mnesia", "dir", `"`+filepath.Join(o.dir, "store")+`"`, "-s", "ejabberd")
		cmd.Dir = filepath.Join(o.dir, "store")
		cmd.Env = append(os.Environ(), "EJABBERD_CONFIG_PATH="+filepath.Join(o.dir, "ejabberd.yml"), "EJABBERD_LOG_PATH="+filepath.Join(o.dir, "ejabberd.log"),
			"ERL_INETRC="+filepath.Join(o.dir, "inetrc"), "ERL_LIBS=/usr/lib/x86_64-linux-gnu", "ERL_CRASH_DUMP=/dev/null", "HOME="+o.dir)
		return cmd
	}
}

func ejabberdRegister(o *other, user string) {
	user, domain := o.account(user)
	nc, err := net.Dial("tcp", "127.0.0.1:"+o.c2s)
	if err != nil {
		o.t.Fatal(err)
	}
	defer nc.Close()
	if err := signUp(nc, domain, user, "secret-"+user); err != nil {
		o.t.Fatal(err)
	}
}

const ejabberdFederation = `
hosts: ["@HOSTS@"]
loglevel: debug
log_rotate_count: 0
certfiles: ["@PEM@"]
ca_file: "@CA@"
s2s_use_starttls: required
s2s_max_retry_delay: 1
listen:
  -
    port: @C2S@
    ip: "127.0.0.1"
    module: ejabberd_c2s
    access: all
    starttls: true
  -
    port: @S2S@
    ip: "127.0.0.1"
    module: ejabberd_s2s_in
disable_sasl_mechanisms: ["digest-md5", "X-OAUTH2"]
auth_password_format: scram
registration_timeout: infinity
modules:
  mod_blocking: {}
  mod_caps: {}
  mod_carboncopy: {}
  mod_disco: {}
  mod_mam: {assume_mam_usage: true, default: always}
  mod_offline: {}
  mod_ping: {}
  mod_privacy: {}
  mod_pubsub: {access_createnode: all, plugins: [flat, pep]}
  mod_register: {access: all, ip_access: all}
  mod_roster: {}
  mod_s2s_dialback: {}
  mod_stream_mgmt: {}
  mod_vcard: {search: false}
  mod_version: {}
`
