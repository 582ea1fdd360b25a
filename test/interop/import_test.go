package interop

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// mover is a server that people come from: how it keeps what the test looks for, and how its operator exports.
type mover struct {
	kind   serverKind
	export func(t *testing.T, s *server, to string) // with the server stopped or not
	// What its exports have.
	offline, nodes, archive bool
}

// edited is a kind whose configuration is changed before the start.
func edited(kind serverKind, file string, edit func(config string) string) serverKind {
	prepare := kind.prepare
	kind.prepare = func(s *server) error {
		if err := prepare(s); err != nil {
			return err
		}
		name := filepath.Join(s.dir, file)
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		return os.WriteFile(name, []byte(edit(string(text))), 0o600)
	}
	return kind
}

// fromProsody stores passwords as SCRAM keys, and exports with Debian's prosody-migrator into its storage xep0227.
func fromProsody() mover {
	return mover{
		kind: edited(prosody(), "prosody.cfg.lua", func(c string) string {
			return strings.NewReplacer("internal_plain", "internal_hashed", "vcard_legacy", "vcard").Replace(c)
		}),
		nodes: true, archive: true,
		export: func(t *testing.T, s *server, to string) {
			s.stop()
			// The program knows one folder to write such files to, the system's.
			script, err := os.ReadFile("/usr/bin/prosody-migrator")
			if err != nil {
				lacking(t, "prosody-migrator: apt-get install prosody")
			}
			own := filepath.Join(s.dir, "migrator")
			config := filepath.Join(s.dir, "migrator.cfg.lua")
			text := strings.Replace(string(script), "CFG_DATADIR='/var/lib/prosody'", "CFG_DATADIR='"+to+"'", 1)
			store := strings.NewReplacer("@STORE@", filepath.Join(s.dir, "store"), "@DOMAIN@", domain).Replace(`
input { type = "internal"; path = "@STORE@"; hosts = { ["@DOMAIN@"] = { "accounts", "roster", "vcard", "private", "pep-pubsub", "archive-archive" } } }
output { type = "xep0227" }
`)
			for name, content := range map[string]string{own: text, config: store} {
				if err := os.WriteFile(name, []byte(content), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			if out, err := output(exec.Command("lua5.4", own, "--root", "--config="+config, "input", "output")); err != nil {
				t.Fatal(out, err)
			}
		},
	}
}

// fromEjabberd exports as "ejabberdctl export_piefxis" does.
func fromEjabberd() mover {
	return mover{
		kind: edited(ejabberd(), "ejabberd.yml", func(c string) string {
			return c + "  mod_private: {}\n  mod_vcard: {}\n"
		}),
		offline: true,
		export: func(t *testing.T, s *server, to string) {
			port := strconv.Itoa(port(s.service))
			call := "io:format(\"~p~n\", [rpc:call('interop" + port + "@localhost', ejabberd_ctl, process2, [[\"export_piefxis\", \"" + to + "\"], []])]), halt()."
			cmd := exec.Command("erl", "-noinput", "-sname", "ctl"+port+"@localhost", "-setcookie", "interop", "-start_epmd", "false", "-erl_epmd_port", port,
				"-dist_listen", "false", "-eval", call)
			cmd.Env = append(os.Environ(), "HOME="+s.dir)
			if out, err := output(cmd); err != nil || !strings.Contains(out, "{[],0}") {
				t.Fatal(out, err)
			}
		},
	}
}

// TestImport: people live on another server, move to carillon with their passwords, and find everything there.
func TestImport(t *testing.T) {
	serve(t) // the carillon binary
	for _, m := range []mover{fromProsody(), fromEjabberd()} {
		t.Run(m.kind.name, func(t *testing.T) {
			if what := m.kind.missing(); what != "" {
				lacking(t, what)
			}
			ca, id := newIdentity(t, domain)
			old, err := newServer(m.kind, filepath.Join(t.TempDir(), "old"), ca, id, false)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { old.stop(); old.report(t) })
			l := slixmpp()
			alice, bob, carol := old.account(t, "alice"), old.account(t, "bob"), old.account(t, "carol")
			a, b := online(t, old, l, alice, "one"), online(t, old, l, bob, "one")
			befriend(a, b)
			a.do("personal", args{"nodes": []string{}})
			a.do("vcard_publish", args{"name": "Alice & Co"})
			a.do("bookmark_old_set", args{"rooms": args{"hall@rooms.example": "The hall"}})
			if m.nodes {
				a.do("avatar_publish", args{"image": "iVBORw0KGgo=", "mime": "image/png", "access": "open"})
			}
			var want []string
			for _, text := range []string{"one", "two <&> zwei", "three"} {
				b.send(alice.bare, text)
				a.await("message", message(text))
				a.send(bob.bare, "re: "+text)
				b.await("message", message("re: "+text))
				want = append(want, text, "re: "+text)
			}
			// She is away.
			b.send(carol.bare, "for later")
			b.do("ping", nil)
			a.do("disconnect", nil)
			b.do("disconnect", nil)
			export := filepath.Join(t.TempDir(), "export")
			if err := os.Mkdir(export, 0o700); err != nil {
				t.Fatal(err)
			}
			m.export(t, old, export)

			var told string
			kind := carillon()
			prepare := kind.prepare
			kind.prepare = func(s *server) error {
				if err := prepare(s); err != nil {
					return err
				}
				bin, _ := binary()
				data := filepath.Join(s.dir, "data")
				if err := os.Mkdir(data, 0o700); err != nil {
					return err
				}
				dry, err := output(exec.Command(bin, "import", export, "--data", data, "--domain", domain, "--dry-run"))
				if err == nil {
					told, err = output(exec.Command(bin, "import", export, "--data", data, "--domain", domain))
				}
				if !strings.Contains(dry, "dry run, nothing was changed: 3 new") || !strings.Contains(told, "3 new") {
					t.Errorf("dry run:\n%s\nimport:\n%s", dry, told)
				}
				if strings.Contains(told, "left out") {
					t.Errorf("something was left out:\n%s", told)
				}
				return err
			}
			s, err := newServer(kind, filepath.Join(t.TempDir(), "new"), ca, id, false)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.stop(); s.report(t) })
			a = online(t, s, l, alice, "one") // with the password of before
			if got := a.roster(); got[bob.bare].Subscription != "both" {
				t.Errorf("alice's roster is %+v", got)
			}
			a.do("personal", args{"nodes": []string{}})
			var rooms []string
			if err := a.call("bookmark_list", nil, &rooms); err != nil || !slices.Equal(rooms, []string{"hall@rooms.example The hall"}) {
				t.Errorf("her bookmarks are %q, %v", rooms, err)
			}
			if m.archive {
				if p := a.archive(args{"max": 50}); !slices.Equal(p.bodies(), want) {
					t.Errorf("her archive is %q, want %q", p.bodies(), want)
				}
			}
			b = online(t, s, l, bob, "one")
			b.await("her presence", presence(a.jid, ""))
			b.do("personal", args{"nodes": []string{}})
			var name string
			if err := b.call("vcard_name", args{"jid": alice.bare}, &name); err != nil || name != "Alice & Co" {
				t.Errorf("her vCard's name is %q, %v", name, err)
			}
			if m.nodes {
				var nodes []string
				if err := a.call("event_nodes", args{"jid": alice.bare}, &nodes); err != nil || !slices.Contains(nodes, "urn:xmpp:avatar:metadata") {
					t.Errorf("her nodes are %q, %v", nodes, err)
				}
			}
			c := online(t, s, l, carol, "one")
			if m.offline {
				c.await("what waited for her", message("for later"))
			}
		})
	}
}
