package main

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/spf13/cobra"

	"carillon.im/server/config"
)

func TestConfigFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "carillon.toml")
	if err := os.WriteFile(file, []byte("data = \"x\"\n\nc2s_tlss = \":1\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	refuse(t, file+`:3: unknown key "c2s_tlss": did you mean "c2s_tls"?`, "", "serve", "--config", file)

	text := must(t, "", "config")
	if text != config.DefaultFile() {
		t.Error("config prints something else than the default file")
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	// A flag overrides the file.
	must(t, "x", "user", "add", "romeo@example.org", "--config", file, "--data", filepath.Join(dir, "data"), "--domain", "example.org", "--password-stdin")
}

// TestFlags: what scripts give as flags can be written into the file as well, and a flag overrides it.
func TestFlags(t *testing.T) {
	flags := []string{"--data", "x", "--domain", "a.test", "--domain", "b.test", "--c2s", ":1", "--c2s-tls", "off", "--http", ":2", "--cert", "c", "--key", "k",
		"--log-level", "debug", "--log-format", "json"}
	const same = "data = 'x'\ndomains = ['a.test', 'b.test']\nc2s = ':1'\nc2s_tls = 'off'\nhttp = ':2'\ncert = 'c'\nkey = 'k'\nlog_level = 'debug'\nlog_format = 'json'\n"
	const other = "data = 'y'\ndomains = ['c.test']\nc2s = ':3'\nc2s_tls = ':4'\nhttp = 'off'\ncert = 'd'\nkey = 'l'\nlog_level = 'error'\nlog_format = 'text'\n"
	load := func(text string, flags []string) config.Config {
		t.Helper()
		file := filepath.Join(t.TempDir(), "carillon.toml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := &cobra.Command{}
		o := addOptions(cmd, true)
		if err := cmd.ParseFlags(append([]string{"--config", file}, flags...)); err != nil {
			t.Fatal(err)
		}
		c, err := o.load()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	want := load(same, nil)
	if reflect.DeepEqual(want, load(other, nil)) {
		t.Error("the file has no effect")
	}
	for name, text := range map[string]string{"no file": "", "another file": other} {
		if got := load(text, flags); !reflect.DeepEqual(got, want) {
			t.Errorf("flags with %s give %+v, the file %+v", name, got, want)
		}
	}
}
