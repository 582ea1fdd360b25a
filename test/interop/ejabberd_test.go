package interop

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// ejabberd is the third server that our own client is tried with: Debian's package, everything in Mnesia.
func ejabberd() serverKind {
	return serverKind{
		name: "ejabberd",
		missing: func() string {
			if _, err := exec.LookPath("ejabberdctl"); err != nil {
				return "ejabberd: apt-get install ejabberd"
			}
			return ""
		},
		prepare: func(s *server) error {
			pair, err := joinFiles(s.id.cert, s.id.key)
			if err != nil {
				return err
			}
			_, c2s, _ := strings.Cut(s.c2s, ":")
			_, direct, _ := strings.Cut(s.direct, ":")
			config := strings.NewReplacer("@DIR@", s.dir, "@C2S@", c2s, "@DIRECT@", direct, "@DOMAIN@", domain).Replace(ejabberdConfig)
			return errors.Join(os.MkdirAll(filepath.Join(s.dir, "store"), 0o700),
				os.WriteFile(filepath.Join(s.dir, "pair.pem"), pair, 0o600),
				os.WriteFile(filepath.Join(s.dir, "ejabberd.yml"), []byte(config), 0o600))
		},
		command: func(s *server) *exec.Cmd {
			// What ejabberdctl runs, without a name server for nodes: the port of components, which it has none of here, is
			// its own.
			_, port, _ := strings.Cut(s.service, ":")
			cmd := exec.Command("erl", "-sname", "interop"+port+"@localhost", "-setcookie", "interop", "-start_epmd", "false", "-erl_epmd_port", port,
				"-kernel", "inet_dist_use_interface", "{127,0,0,1}", "-mnesia", "dir", `"`+filepath.Join(s.dir, "store")+`"`, "-s", "ejabberd", "-noinput")
			cmd.Dir = s.dir
			cmd.Env = append(os.Environ(), "EJABBERD_CONFIG_PATH="+filepath.Join(s.dir, "ejabberd.yml"), "EJABBERD_LOG_PATH="+filepath.Join(s.dir, "ejabberd.log"),
				"ERL_LIBS=/usr/lib/x86_64-linux-gnu", "ERL_CRASH_DUMP_BYTES=0", "HOME="+s.dir)
			return cmd
		},
		account: register,
	}
}

func joinFiles(names ...string) ([]byte, error) {
	var all []byte
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		all = append(all, b...)
	}
	return all, nil
}

func register(s *server, user, password string) error {
	roots := x509.NewCertPool()
	roots.AddCert(s.ca.cert)
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", s.direct, &tls.Config{RootCAs: roots, ServerName: domain})
	if err != nil {
		return err
	}
	defer conn.Close()
	return signUp(conn, domain, user, password)
}

// signUp makes an account as a newcomer does (XEP-0077 3.1).
func signUp(conn net.Conn, domain, user, password string) error {
	conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(conn, "<?xml version='1.0'?><stream:stream to='%s' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"+
		"<iq type='set' id='register'><query xmlns='jabber:iq:register'><username>%s</username><password>%s</password></query></iq></stream:stream>", domain, user, password)
	var heard strings.Builder
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		heard.Write(buf[:n])
		if strings.Contains(heard.String(), "id='register'") && strings.Contains(heard.String(), "type='result'") {
			return nil
		}
		if err != nil {
			return fmt.Errorf("no account: %s", heard.String())
		}
	}
}

const ejabberdConfig = `
hosts: ["@DOMAIN@"]
loglevel: info
log_rotate_count: 0
certfiles: ["@DIR@/pair.pem"]
ca_file: "@DIR@/pair.pem"
listen:
  - {port: @C2S@, ip: "127.0.0.1", module: ejabberd_c2s, access: all, starttls_required: true}
  - {port: @DIRECT@, ip: "127.0.0.1", module: ejabberd_c2s, access: all, tls: true}
disable_sasl_mechanisms: ["digest-md5", "X-OAUTH2"]
auth_password_format: scram
registration_timeout: infinity
modules:
  mod_blocking: {}
  mod_caps: {}
  mod_carboncopy: {}
  mod_client_state: {}
  mod_disco: {}
  mod_mam: {assume_mam_usage: true, default: always}
  mod_offline: {}
  mod_ping: {}
  mod_privacy: {}
  mod_register: {access: all}
  mod_roster: {versioning: true}
  mod_stream_mgmt: {}
`
