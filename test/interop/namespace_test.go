package interop

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// inWorld is the beginning of a command line that runs a program in a mount namespace in which the test domain has an
// address, DNS answers nothing, and the only certificate authority is the test's: what clients look up in files that
// are the machine's. None of the words has a blank. dir is where the files are kept.
func inWorld(t *testing.T, s *server, dir, address string) []string {
	t.Helper()
	need(t, "unshare", "unshare: apt-get install util-linux")
	ca, err := os.ReadFile(s.ca.file)
	if err != nil {
		t.Fatal(err)
	}
	script := []string{"set -e"}
	for path, text := range map[string]string{
		"/etc/hosts":                         "127.0.0.1 localhost\n" + address + " " + domain + "\n",
		"/etc/resolv.conf":                   "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
		"/etc/ssl/certs/ca-certificates.crt": string(ca),
	} {
		own := filepath.Join(dir, "world-"+filepath.Base(path))
		if err := os.WriteFile(own, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		script = append(script, fmt.Sprintf(`mount --bind %s "$(readlink -f %s)"`, own, path))
	}
	script = append(script, `exec "$@"`, "")
	file := filepath.Join(dir, "world.sh")
	if err := os.WriteFile(file, []byte(strings.Join(script, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	unshare := []string{"unshare", "--mount"}
	if os.Getuid() != 0 {
		unshare = append(unshare, "--map-root-user")
	}
	if _, err := output(exec.Command(unshare[0], append(unshare[1:], "true")...)); err != nil {
		lacking(t, "a mount namespace, which root or who may map users has: "+err.Error())
	}
	return append(unshare, "sh", file)
}
