package interop

import (
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"carillon.im/jid"
	_ "modernc.org/sqlite"
)

// dino is Dino on a desktop of its own. What a person would see is kept as a picture; what the test has to know for
// certain is read from Dino's own database.
type dino struct {
	*desktop
	db *sql.DB
}

// serveDesktop starts a server where a client that finds nothing in DNS looks for one: at port 5222 of the domain, for
// which one of the loopback addresses stands. It returns that address.
func serveDesktop(t *testing.T) (*server, string) {
	t.Helper()
	serve(t) // what all tests share, the carillon binary among it
	kind := kindUnderTest(t)
	if kind.name != "carillon" {
		t.Skip("the other servers here have no upload and no rooms set up")
	}
	address := ""
	for n := 2; address == ""; n++ {
		host := fmt.Sprintf("127.52.22.%d", n)
		l, err := net.Listen("tcp", host+":5222")
		if err == nil {
			l.Close()
			address = host
		} else if n == 250 {
			t.Fatal(err)
		}
	}
	prepare := kind.prepare
	kind.prepare = func(s *server) error {
		s.c2s, s.https = address+":5222", address+":5443"
		return prepare(s)
	}
	ca, id := newIdentity(t, domain)
	return serveKind(t, kind, ca, id, false), address
}

// openDino starts Dino with one account.
func openDino(t *testing.T, s *server, address string, a account) *dino {
	t.Helper()
	need(t, "dino-im", "dino-im: apt-get install dino-im")
	d := &dino{desktop: openDesktop(t)}
	folder := filepath.Join(d.home, ".local", "share", "dino")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(folder, "dino.db")+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	d.db = db
	t.Cleanup(func() { db.Close() })
	for _, statement := range []string{
		// Dino makes the tables that are not there.
		`CREATE TABLE account ( id INTEGER PRIMARY KEY AUTOINCREMENT, bare_jid TEXT NOT NULL UNIQUE, resourcepart TEXT, password TEXT, alias TEXT, enabled INTEGER, roster_version TEXT, mam_earliest_synced INTEGER)`,
		fmt.Sprintf("INSERT INTO account (bare_jid, resourcepart, password, enabled) VALUES ('%s', 'dino', '%s', 1)", a.bare, a.password),
	} {
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			d.screen("failed")
			t.Logf("end of Dino's log:\n%s", tail(d.log("dino"), 8<<10))
		}
	})
	command := append(inWorld(t, s, d.home, address), "dino-im", "--print-xmpp=all")
	d.run("dino", exec.Command(command[0], command[1:]...))
	return d
}

// knows waits until a query of Dino's database has a row, and returns its first column.
func (d *dino) knows(what, query string, arguments ...any) (value string) {
	d.t.Helper()
	d.until(what, func() bool { return d.db.QueryRow(query, arguments...).Scan(&value) == nil })
	return value
}

// converse opens a conversation that Dino has.
func (d *dino) converse(with string) {
	d.t.Helper()
	id := d.knows("conversation with "+with, "SELECT conversation.id FROM conversation JOIN jid ON jid.id = jid_id WHERE bare_jid = ?", with)
	d.must("gdbus", "call", "--session", "--dest", "im.dino.Dino", "--object-path", "/im/dino/Dino", "--method", "org.gtk.Actions.Activate",
		"open-conversation", "[<"+id+">]", "{}")
}

const said = "SELECT body FROM message JOIN jid ON jid.id = counterpart_id WHERE bare_jid = ? AND body = ?"

// TestDino: Dino logs in, publishes its keys for OMEMO, shows a contact's avatar, is in the room of its bookmark, sees
// what was said there before, talks to our own client and in the room in both directions, and sends a picture from the
// clipboard.
func TestDino(t *testing.T) {
	t.Parallel()
	s, address := serveDesktop(t)
	sc := setScene(t, s)
	d := openDino(t, s, address, sc.alice)
	sc.bob.await("alice in the room", presence(sc.room+"/Alice", ""))
	d.knows("what was said before", said, sc.room, sc.past)
	d.knows("bob's avatar", "SELECT hash FROM contact_avatar JOIN jid ON jid.id = jid_id WHERE bare_jid = ?", sc.bob.acct.bare)
	d.must("xdotool", "search", "--sync", "--onlyvisible", "--class", "dino", "windowactivate", "--sync")

	bob := ownClient(t, ownConfig(s, sc.bob.acct, s.direct))
	bob.say(jid.MustParse(sc.alice.bare), "hello, desk")
	d.knows("the message", said, sc.bob.acct.bare, "hello, desk")
	d.converse(sc.bob.acct.bare)
	d.until("bob's avatar on the screen", func() bool { return d.sunsets() > 1000 }) // in the list and beside the message
	d.enter("hello, Go")
	bob.hear(sc.alice.bare, "hello, Go")
	d.screen("chat")

	d.converse(sc.room)
	d.enter("here I am")
	sc.bob.said(sc.room+"/Alice", "here I am")
	sc.bob.do("message", args{"to": sc.room, "body": "welcome", "id": newID(), "type": "groupchat"})
	d.knows("the welcome", said, sc.room, "welcome")

	file := filepath.Join(d.home, "sunset.png")
	if err := os.WriteFile(file, picture(), 0o600); err != nil {
		t.Fatal(err)
	}
	d.run("xclip", exec.Command("xclip", "-quiet", "-selection", "clipboard", "-t", "image/png", "-i", file))
	d.must("xdotool", "key", "ctrl+v")
	d.until("the dialogue with the picture", func() bool { return d.sunsets() > 3000 })
	d.must("xdotool", "key", "Return")
	if link := sc.link(); !strings.HasPrefix(link, "https://"+domain+":5443/upload/") {
		t.Errorf("the file is at %s", link)
	}
	d.until("the picture among the messages, without the dialogue", func() bool { return d.sunsets() > 3000 })
	d.screen("room")
}
