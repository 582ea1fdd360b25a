package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTransfer: what one server's command line exports, another's imports, whether they run or not; and the same again changes nothing.
func TestTransfer(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"romeo", "juliet"} {
		must(t, "secret\n", "user", "add", name+"@localhost", "--password-stdin", "--data", path("one"))
	}
	must(t, "", "export", "--data", path("one"), "--to", path("still.xml"))
	s := startServer(t, path("one"))
	must(t, "", "export", "--data", path("one"), "--to", path("live.xml"))
	must(t, "", "export", "--data", path("one"), "--to", path("folder")+"/")
	must(t, "", "export", "--data", path("one"), "--to", path("romeo.xml"), "romeo@localhost")
	piped := must(t, "", "export", "--data", path("one"))
	refuse(t, "there is no nobody@localhost", "", "export", "--data", path("one"), "nobody@localhost")
	refuse(t, "is no account", "", "export", "--data", path("one"), "localhost")
	refuse(t, "file exists", "", "export", "--data", path("one"), "--to", path("folder")+"/")
	read := func(name string) string {
		b, err := os.ReadFile(path(name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	whole := read("still.xml")
	if read("live.xml") != whole || piped != whole {
		t.Error("what a running server exports differs")
	}
	if info, err := os.Stat(path("live.xml")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("others may read the export: %v, %v", info.Mode(), err)
	}
	if strings.Contains(read("romeo.xml"), "juliet") {
		t.Error("more than was asked for")
	}

	// Into a fresh folder, without a server, from both forms; and into a server that runs.
	refuse(t, "no data folder", "", "import", path("live.xml"), "--data", path("two"), "--dry-run")
	for _, from := range []string{"live.xml", "folder"} {
		to := path("from " + from)
		if got := must(t, "", "import", path(from), "--data", to); !strings.Contains(got, "2 new\n") {
			t.Errorf("import: %s", got)
		}
		if got := must(t, "", "import", path(from), "--data", to, "--dry-run"); got != "dry run, nothing was changed: 2 unchanged\n" {
			t.Errorf("again: %s", got)
		}
		if got := must(t, "", "export", "--data", to); got != whole {
			t.Error("an import and export has changed something")
		}
	}
	other := strings.NewReplacer("name='romeo'", "name='mercutio'", "name='juliet'", "name='rosaline'").Replace(whole)
	write := func(name, doc string) string {
		if err := os.WriteFile(path(name), []byte(doc), 0o600); err != nil {
			t.Fatal(err)
		}
		return path(name)
	}
	if got := must(t, "", "import", write("other.xml", other), "--data", path("one"), "--json", "--dry-run"); strings.Count(got, `"did":"new"`) != 2 {
		t.Errorf("in JSON: %s", got)
	}
	if got := must(t, "", "import", path("other.xml"), "--data", path("one")); !strings.Contains(got, "2 new\n") {
		t.Errorf("live: %s", got)
	}
	if got := must(t, "", "user", "list", "--data", path("one")); strings.Count(got, "\n") != 4 {
		t.Errorf("accounts: %s", got)
	}
	// What is wrong is told with its file, and nothing is changed.
	bad := strings.Replace(other, "</user>", "<query xmlns='jabber:iq:roster'><item jid='@'/></query></user>", 1)
	bad = strings.Replace(bad, "mercutio", "friar", 1)
	code, out, errs := carillon(t, "", "import", write("bad.xml", bad), "--data", path("one"))
	if code != 1 || !strings.Contains(out, "friar@localhost: "+path("bad.xml")+", byte ") && !strings.Contains(out, "rosaline@localhost: "+path("bad.xml")+", byte ") ||
		!strings.Contains(errs, "nothing was imported") {
		t.Errorf("code %d\n%s\n%s", code, out, errs)
	}
	refuse(t, path("cut.xml")+", byte ", "", "import", write("cut.xml", whole[:len(whole)-30]), "--data", path("one"))
	refuse(t, "is a document of XEP-0227", "", "import", path("one"), "--data", path("one"))
	refuse(t, "needs FILE or DIR", "", "import", "--data", path("one"))
	if got := must(t, "", "user", "list", "--data", path("one")); strings.Count(got, "\n") != 4 {
		t.Errorf("accounts: %s", got)
	}
	if code := s.stop(); code != 0 {
		t.Errorf("code %d: %s", code, s.log)
	}
}

// TestInvite: the command makes an invitation with and without a server.
func TestInvite(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	must(t, "secret\n", "user", "add", "romeo@localhost", "--password-stdin", "--data", data)
	got := must(t, "", "user", "invite", "--data", data, "--for", "juliet", "--days", "3")
	if !strings.Contains(got, "xmpp:juliet@localhost?register;preauth=") || !strings.Contains(got, "█") || !strings.Contains(got, "no page") {
		t.Errorf("without a server: %s", got)
	}
	refuse(t, "is kept for somebody", "", "user", "invite", "--data", data, "--for", "juliet")
	s := startServer(t, data, "--set", `web.url="https://chat.example.org"`)
	refuse(t, "exists already", "", "user", "invite", "--data", data, "--for", "romeo")
	refuse(t, "is no domain of this server", "", "user", "invite", "--data", data, "--at", "elsewhere.example")
	if got := must(t, "", "user", "invite", "--data", data, "--json"); !strings.Contains(got, `"uri": "xmpp:localhost?register;preauth=`) || !strings.Contains(got, `"url": "https://chat.example.org/invite/`) {
		t.Errorf("with a server: %s", got)
	}
	s.stop()
}
