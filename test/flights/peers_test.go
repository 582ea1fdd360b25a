package flights

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// certify writes a certificate for localhost with its key into one file.
func certify(t *testing.T, dir string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})...)
	file := filepath.Join(dir, "localhost.pem")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// version is what Debian calls the installed package.
func version(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("dpkg-query", "-W", "-f", "${Version}", name).Output()
	if err != nil {
		t.Fatalf("missing: %s: apt-get install %s", name, name)
	}
	return string(out)
}

// serve starts a peer, waits until a stream can be opened, and stops it when the
// test ends.
func serve(t *testing.T, name, port, dir string, cmd *exec.Cmd) *host {
	t.Helper()
	log, err := os.Create(filepath.Join(dir, "output.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			cmd.Process.Kill()
			<-ended
		}
	})
	h := &host{name: name, addr: "127.0.0.1:" + port}
	h.register = h.inBand
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		d, err := connect(newAccount("nobody"), h.addr, 0)
		if err == nil {
			if err = d.open(true); err == nil {
				d.close()
				return h
			}
			d.close()
		}
		over := time.Now().After(deadline)
		select {
		case <-ended:
			over = true
		default:
		}
		if over {
			text, _ := os.ReadFile(log.Name())
			t.Fatalf("%s did not start: %v\n%s", name, err, text)
		}
	}
}

// inBand registers as XEP-0077 has it.
func (h *host) inBand(name, password string) error {
	d, err := connect(newAccount(name), h.addr, 0)
	if err != nil {
		return err
	}
	defer d.close()
	if err := d.open(true); err != nil {
		return err
	}
	return d.ask("<iq type='set' id='register'><query xmlns='jabber:iq:register'><username>"+name+"</username><password>"+password+"</password></query></iq>", "register")
}

func prosody(t *testing.T) *host {
	t.Helper()
	name := "Prosody " + version(t, "prosody")
	dir, port := t.TempDir(), freePort(t)
	cfg := filepath.Join(dir, "prosody.cfg.lua")
	text := strings.NewReplacer("@DIR@", dir, "@PORT@", port, "@PEM@", certify(t, dir)).Replace(prosodyConfig)
	if err := os.WriteFile(cfg, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return serve(t, name, port, dir, exec.Command("prosody", "--config", cfg, "-F"))
}

const prosodyConfig = `
run_as_root = true
pidfile = "@DIR@/prosody.pid"
data_path = "@DIR@/store"
interfaces = { "127.0.0.1" }
c2s_ports = { }
c2s_direct_tls_ports = { @PORT@ }
s2s_ports = { }
s2s_direct_tls_ports = { }
http_ports = { }
https_ports = { }
c2s_require_encryption = true
authentication = "internal_hashed"
allow_registration = true
ssl = { certificate = "@PEM@"; key = "@PEM@" }
modules_enabled = {
	"disco"; "roster"; "saslauth"; "tls"; "blocklist"; "carbons"; "pep"; "private"; "smacks"; "offline";
	"vcard_legacy"; "csi_simple"; "ping"; "register_ibr"; "time"; "version"; "posix"; "mam";
}
modules_disabled = { "s2s" }
default_archive_policy = true
mam_smart_enable = false
log = { { levels = { min = "warn" }; to = "file"; filename = "@DIR@/prosody.log" } }
VirtualHost "localhost"
`

// ejabberd is started as its ejabberdctl does, without a port mapper.
func ejabberd(t *testing.T) *host {
	t.Helper()
	name := "ejabberd " + version(t, "ejabberd")
	dir, port, node := t.TempDir(), freePort(t), freePort(t)
	cfg := filepath.Join(dir, "ejabberd.yml")
	text := strings.NewReplacer("@PORT@", port, "@PEM@", certify(t, dir)).Replace(ejabberdConfig)
	if err := os.WriteFile(cfg, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("erl", "-sname", "flights@localhost", "-setcookie", fmt.Sprint("flights", os.Getpid()), "-start_epmd", "false", "-erl_epmd_port", node,
		"-kernel", "inet_dist_use_interface", "{127,0,0,1}", "-mnesia", "dir", `"`+filepath.Join(dir, "store")+`"`, "-s", "ejabberd", "-noinput")
	cmd.Env = append(os.Environ(), "EJABBERD_CONFIG_PATH="+cfg, "EJABBERD_LOG_PATH="+filepath.Join(dir, "ejabberd.log"), "ERL_LIBS=/usr/lib/x86_64-linux-gnu",
		"ERL_CRASH_DUMP_BYTES=0", "HOME="+dir)
	return serve(t, name, port, dir, cmd)
}

const ejabberdConfig = `
hosts: [localhost]
loglevel: warning
certfiles: ["@PEM@"]
listen:
  -
    port: @PORT@
    ip: "127.0.0.1"
    module: ejabberd_c2s
    access: all
    tls: true
auth_password_format: scram
disable_sasl_mechanisms: ["digest-md5", "X-OAUTH2"]
registration_timeout: infinity
modules:
  mod_blocking: {}
  mod_carboncopy: {}
  mod_client_state: {}
  mod_disco: {}
  mod_mam:
    assume_mam_usage: true
    default: always
  mod_offline: {}
  mod_ping: {}
  mod_privacy: {}
  mod_private: {}
  mod_register:
    access: all
  mod_roster:
    versioning: true
  mod_stream_mgmt: {}
  mod_version: {}
`
