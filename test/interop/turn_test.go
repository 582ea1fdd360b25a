package interop

import (
	"bytes"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// turnSecret is what the server and coturn share.
const turnSecret = "nightingale"

// coturn starts Debian's TURN server with that secret, and returns when it answers.
func coturn(t *testing.T, s *server) {
	t.Helper()
	for _, program := range []string{"turnserver", "turnutils_uclient"} {
		if _, err := exec.LookPath(program); err != nil {
			lacking(t, program+": apt-get install coturn")
		}
	}
	dir := t.TempDir()
	var log bytes.Buffer
	cmd := exec.Command("turnserver", "-n", "--no-cli", "--no-tls", "--no-dtls", "--listening-ip", "127.0.0.1", "--relay-ip", "127.0.0.1", "-p", fmt.Sprint(port(s.turn)),
		"--use-auth-secret", "--static-auth-secret", turnSecret, "--realm", domain, "--allow-loopback-peers",
		"--log-file", "stdout", "--userdb", filepath.Join(dir, "db"), "--pidfile", filepath.Join(dir, "pid"))
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("coturn:\n%s", tailOf(log.String(), 4<<10))
		}
	})
	for deadline := time.Now().Add(patience); ; {
		c, err := net.Dial("tcp", s.turn)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("coturn doesn't answer: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestTURN: the credentials that a user is given for a TURN server (XEP-0215) are good for coturn, and no others are.
func TestTURN(t *testing.T) {
	s := serve(t)
	if s.kind.name != "carillon" {
		t.Skip("the other servers aren't told of it")
	}
	coturn(t, s)
	alice := s.account(t, "alice")
	a := online(t, s, slixmpp(), alice, "one")
	var list []struct{ Host, Port, Type, Transport, Username, Password, Expires, Restricted string }
	if err := a.call("services", args{"type": "turn"}, &list); err != nil || len(list) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	turn := list[0]
	until, err := time.Parse(time.RFC3339, turn.Expires)
	if in := time.Until(until); err != nil || in < 50*time.Minute || in > time.Hour || turn.Transport != "udp" || turn.Restricted == "" {
		t.Errorf("%+v: %v", turn, err)
	}
	relay := func(user, password string) (string, error) {
		cmd := exec.Command("turnutils_uclient", "-y", "-n", "2", "-m", "1", "-u", user, "-w", password, "-p", turn.Port, turn.Host)
		timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
		defer timer.Stop()
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := relay(turn.Username, turn.Password); err != nil {
		t.Errorf("its own credentials: %v\n%s", err, out)
	}
	for user, password := range map[string]string{turn.Username: "wrong", "9" + turn.Username: turn.Password} { // the second would be good for longer
		if out, err := relay(user, password); err == nil {
			t.Errorf("%s with %s:\n%s", user, password, out)
		}
	}
}
