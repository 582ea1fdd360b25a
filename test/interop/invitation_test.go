package interop

import (
	"regexp"
	"testing"
)

// TestInvitation: somebody invites from his client, with the server's command; slixmpp's registration makes an account
// with the token out of the link, and shows no other; then the two are contacts of each other, and Profanity, with the
// new account, is told what the inviter says. No client of Debian 12 shows tokens by itself (XEP-0445): that step is the
// driver's.
func TestInvitation(t *testing.T) {
	t.Parallel()
	s := serve(t)
	if s.kind.name != "carillon" {
		t.Skip("the other servers here have no invitations set up")
	}
	lib := slixmpp()
	a := online(t, s, lib, s.account(t, "alice"), "one")
	var made struct{ URI string }
	if err := a.call("invite", nil, &made); err != nil {
		t.Fatal(err)
	}
	link := regexp.MustCompile(`^xmpp:` + regexp.QuoteMeta(a.acct.bare) + `\?roster;preauth=(\w+);ibr=y$`).FindStringSubmatch(made.URI)
	if link == nil {
		t.Fatalf("the invitation is %q", made.URI)
	}
	dave := account{"dave-" + newID() + "@" + domain, "sésame-dave"}
	join := func(token string) (*client, error) {
		c := lib.launch(t, s, dave)
		return c, c.call("connect", args{"jid": dave.bare + "/first", "password": dave.password, "port": port(s.c2s), "ca": s.ca.file, "tls": "starttls", "invitation": token}, nil)
	}
	if _, err := join("AAAAAAAAAAAAAAAAAAAAAAAAAA"); err == nil || err.Error() != "invitation: item-not-found" {
		t.Errorf("with a token that nobody has made: %v", err)
	}
	d, err := join(link[1])
	if err != nil {
		t.Fatal(err)
	}
	if got := d.roster()[a.acct.bare].Subscription; got != "both" {
		t.Errorf("the inviter is a contact: %q", got)
	}
	a.await("push of who came", pushed(dave.bare, "both", ""))
	d.do("disconnect", nil)

	p := openProfanity(t, s, dave)
	p.got(`<item .*jid="` + regexp.QuoteMeta(a.acct.bare) + `".*subscription="both"`)
	a.send(dave.bare, "welcome, Dave")
	p.hear(a.acct.bare, "welcome, Dave")
	p.keepScreen("invited")
}
