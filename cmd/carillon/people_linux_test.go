package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTerminalPeople: a contact is added and accepted; a room for members with a password is entered by invitation, and refused without; who invites learns of a refusal; who is there is seen.
func TestTerminalPeople(t *testing.T) {
	if testing.Short() {
		t.Skip("two terminals")
	}
	w := newClientWorldOn(t, []string{"--set", "auth.plain=true"}, "romeo", "juliet", "prince")
	home := t.TempDir()
	chat := func(who string) *tty {
		x := openTTY(t, home, append([]string{"chat", who + "@localhost", "--device", "desk"}, w.flags...)...)
		x.has("Password for " + who + "@localhost:")
		x.types("secret")
		x.keys("Enter")
		x.has("● connected")
		return x
	}
	romeo, juliet := chat("romeo"), chat("juliet")
	romeo.keys("F4")
	romeo.has("nobody yet")
	romeo.types("a")
	romeo.has("add whom?")
	romeo.types("juliet@localhost")
	romeo.keys("Enter")
	romeo.has("a name for juliet@localhost")
	romeo.types("Jule")
	romeo.keys("Enter")
	romeo.has("juliet@localhost is asked")
	juliet.has("romeo asks to be a contact (F4)")
	juliet.keys("F4")
	juliet.has("enter accept")
	juliet.keys("Enter")
	juliet.has("You see each other when you are there.")
	romeo.keys("C-l")
	romeo.has("▸ Jule · juliet@localhost", "You see each other when you are there.")
	for _, x := range []*tty{romeo, juliet} {
		x.keys("Escape") // and a pause, else it would be alt with the next key
		x.has("who writes to you will be listed")
	}

	prince := logIn(t, w.addrs["c2s_tls"], "prince", "secret")
	defer prince.Close()
	exchange(t, prince, "<presence to='hall@rooms.localhost/Escalus'><x xmlns='http://jabber.org/protocol/muc'/></presence>", "code='110'")
	exchange(t, prince, "<iq type='set' id='c' to='hall@rooms.localhost'><query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'>"+
		"<field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#roomconfig</value></field><field var='muc#roomconfig_membersonly'><value>1</value></field>"+
		"<field var='muc#roomconfig_passwordprotectedroom'><value>1</value></field><field var='muc#roomconfig_roomsecret'><value>mandrake</value></field></x></query></iq>", "id='c'")
	for _, x := range []*tty{romeo, juliet} {
		x.keys("C-o")
		x.has("write to whom?")
		x.types("hall@rooms.localhost")
		x.keys("Enter")
		x.has("not in the room: members only: ask to be invited")
	}
	exchange(t, prince, "<message to='hall@rooms.localhost'><x xmlns='http://jabber.org/protocol/muc#user'><invite to='romeo@localhost'><reason>A feast</reason></invite></x></message>"+
		"<iq type='get' id='q' to='hall@rooms.localhost'><ping xmlns='urn:xmpp:ping'/></iq>", "id='q'")
	romeo.has("invites you into hall (F4)")
	romeo.keys("F4")
	romeo.has("A feast")
	romeo.shows("terminal-6-invited")
	romeo.keys("Enter") // the password came with the invitation
	romeo.has("2 here")
	romeo.keys("F5")
	romeo.has("i invite somebody")
	romeo.types("i")
	romeo.has("invite whom")
	romeo.types("juliet@localhost")
	romeo.keys("Enter")
	romeo.has("juliet@localhost is invited")
	juliet.has("F4: 1 ask")
	juliet.keys("F4")
	juliet.has("d refuse")
	juliet.types("d")
	juliet.has("refused")
	romeo.has("juliet@localhost won't come into hall")
	juliet.keys("Escape")
	juliet.has("not in the room: members only")
	exchange(t, prince, "<iq type='set' id='m' to='hall@rooms.localhost'><query xmlns='http://jabber.org/protocol/muc#admin'><item affiliation='member' jid='juliet@localhost'/></query></iq>", "id='m'")
	juliet.keys("C-o")
	juliet.types("hall@rooms.localhost")
	juliet.keys("Enter")
	juliet.has("the room's password:")
	juliet.types("guess")
	juliet.keys("Enter")
	juliet.has("that was wrong")
	juliet.types("mandrake")
	juliet.has("••••••••")
	juliet.keys("Enter")
	juliet.has("3 here")
	juliet.keys("F5")
	juliet.has("3 people in hall@rooms.localhost", "Escalus")
	juliet.shows("terminal-7-room")

	// Neither the room's password nor the account's is in a file; the room asks again after a restart.
	juliet.kill()
	for _, dir := range []string{home, w.flags[len(w.flags)-1]} {
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			data, err := os.ReadFile(path)
			if strings.Contains(string(data), "mandrake") {
				t.Errorf("%s has the room's password", path)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	juliet = openTTY(t, home, append([]string{"chat", "juliet@localhost", "hall@rooms.localhost", "--device", "desk"}, w.flags...)...)
	juliet.has("the room's password:")
}
