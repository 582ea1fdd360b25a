package room

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"carillon.im/stanza"
	"carillon.im/xep"
)

// who are the standings in which somebody tries something: outside the room with an
// affiliation, inside with a role.
var standings = []string{"outcast", "none", "member", "admin", "owner", "visitor", "participant", "member inside", "moderator", "admin inside", "owner inside"}

// verdicts are how an attempt ends, by their letters in the table.
var verdicts = map[byte]string{'+': "", 'F': "forbidden", 'N': "not-allowed", 'A': "not-acceptable", 'R': "registration-required", 'P': "not-authorized",
	'B': "bad-request", 'C': "conflict"}

// attempt is something that somebody tries in a room of every kind of people. change: if
// it is allowed, roles or affiliations are others afterwards.
type attempt struct {
	what     string
	stanza   string // %s is the room
	verdicts string // by standing: outside, inside
	change   bool
	config   []string // of the room, beside being moderated
}

func roleItem(nick, role string) string {
	return "<iq type='set' id='i' to='%s'><query xmlns='" + xep.NSMUCAdmin + "'><item nick='" + nick + "' role='" + role + "'/></query></iq>"
}

func affiliationItem(who, affiliation string) string {
	return "<iq type='set' id='i' to='%s'><query xmlns='" + xep.NSMUCAdmin + "'><item jid='" + who + "@example' affiliation='" + affiliation + "'/></query></iq>"
}

func listOf(attr, value string) string {
	return "<iq type='get' id='i' to='%s'><query xmlns='" + xep.NSMUCAdmin + "'><item " + attr + "='" + value + "'/></query></iq>"
}

const (
	enter    = "<presence to='%s/Me'><x xmlns='" + xep.NSMUC + "'/></presence>"
	speak    = "<message type='groupchat' id='i' to='%s'><body>x</body></message>"
	subject  = "<message type='groupchat' id='i' to='%s'><subject>x</subject></message>"
	private  = "<message type='chat' id='i' to='%s/Participant'><body>x</body></message>"
	invite   = "<message id='i' to='%s'><x xmlns='" + xep.NSMUCUser + "'><invite to='friend@example'/></x></message>"
	askVoice = "<message id='i' to='%s'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>" + xep.NSMUCRequest + "</value></field></x></message>"
	register = "<iq type='get' id='i' to='%s'><query xmlns='" + xep.NSRegister + "'/></iq>"
	query    = "<iq type='set' id='i' to='%s'><query xmlns='" + xep.NSMAM + "'/></iq>"
	occupy   = "<iq type='get' id='i' to='%s/Participant'><query xmlns='jabber:iq:version'/></iq>"
	getForm  = "<iq type='get' id='i' to='%s'><query xmlns='" + xep.NSMUCOwner + "'/></iq>"
	setForm  = "<iq type='set' id='i' to='%s'><query xmlns='" + xep.NSMUCOwner + "'><x xmlns='jabber:x:data' type='submit'/></query></iq>"
	destroy  = "<iq type='set' id='i' to='%s'><query xmlns='" + xep.NSMUCOwner + "'><destroy/></query></iq>"
	avatar   = "<iq type='set' id='i' to='%s'><vCard xmlns='vcard-temp'/></iq>"
	hatList  = "<iq type='set' id='i' to='%s'><command xmlns='" + xep.NSCommands + "' node='" + xep.NSHatCommands + ":list'/></iq>"
	hatMake  = "<iq type='set' id='i' to='%s'><command xmlns='" + xep.NSCommands + "' node='" + xep.NSHatCommands + ":create'/></iq>"
)

// attempts is Tables 3 and 5 of XEP-0045 with what belongs to them. A members-only room has put
// out whoever is none, and then he is outside.
//
//	outside: outcast none member admin owner; inside: visitor participant member moderator admin owner
var attempts = []attempt{
	{"enter", enter, "F++++ ++++++", false, nil},
	{"enter a members-only room", enter, "FR+++ RR+R++", false, []string{"membersonly", "1"}},
	{"enter without its password", enter, "FPPP+ ++++++", false, []string{"passwordprotectedroom", "1", "roomsecret", "key"}},
	{"speak", speak, "AAAAA F+++++", false, nil},
	{"speak where everybody may", speak, "AAAAA ++++++", false, []string{"moderatedroom", "0"}},
	{"change the subject", subject, "AAAAA FFF+++", false, nil},
	{"change the subject where participants may", subject, "AAAAA F+++++", false, []string{"changesubject", "1"}},
	{"send a private message", private, "AAAAA ++++++", false, nil},
	{"send one where participants may", private, "AAAAA F+++++", false, []string{"allowpm", "participants"}},
	{"send one where moderators may", private, "AAAAA FFF+++", false, []string{"allowpm", "moderators"}},
	{"send one where nobody may", private, "AAAAA FFFFFF", false, []string{"allowpm", "none"}},
	{"invite", invite, "AAA++ ++++++", false, nil},
	{"invite into a members-only room", invite, "AAA++ AA+A++", true, []string{"membersonly", "1"}},
	{"invite into one whose admins alone do", invite, "AAA++ AAFA++", true, []string{"membersonly", "1", "allowinvites", "0"}},
	{"ask for voice", askVoice, "AAAAA +BBBBB", false, nil},
	{"ask how to register", register, "N++++ ++++++", false, nil},
	{"read the archive", query, "F++++ ++++++", false, nil},
	{"read that of a members-only room", query, "FF+++ FF+F++", false, []string{"membersonly", "1"}},
	{"ask an occupant", occupy, "AAAAA ++++++", false, nil},

	{"kick a visitor", roleItem("Visitor", "none"), "FFF++ FFF+++", true, nil},
	{"kick a participant", roleItem("Participant", "none"), "FFF++ FFF+++", true, nil},
	{"kick a member", roleItem("Member", "none"), "FFF++ FFFN++", true, nil},
	{"kick a moderator", roleItem("Moderator", "none"), "FFF++ FFFN++", true, nil},
	{"kick an admin", roleItem("Admin", "none"), "FFF++ FFFN++", true, nil},
	{"kick an owner", roleItem("Owner", "none"), "FFFN+ FFFNN+", true, nil},
	{"give voice", roleItem("Visitor", "participant"), "FFF++ FFF+++", true, nil},
	{"take voice", roleItem("Participant", "visitor"), "FFF++ FFF+++", true, nil},
	{"take a member's voice", roleItem("Member", "visitor"), "FFF++ FFFN++", true, nil},
	{"take an admin's voice", roleItem("Admin", "visitor"), "FFFNN FFFNNN", true, nil},
	{"take an owner's voice", roleItem("Owner", "visitor"), "FFFNN FFFNNN", true, nil},
	{"make a moderator", roleItem("Participant", "moderator"), "FFF++ FFFF++", true, nil},
	{"unmake a moderator", roleItem("Moderator", "participant"), "FFF++ FFFN++", true, nil},
	{"unmake an admin a moderator", roleItem("Admin", "participant"), "FFFNN FFFNNN", true, nil},

	{"ban somebody", affiliationItem("participant", "outcast"), "FFF++ FFFF++", true, nil},
	{"ban a member", affiliationItem("member", "outcast"), "FFF++ FFFF++", true, nil},
	{"ban an admin", affiliationItem("admin", "outcast"), "FFFN+ FFFFN+", true, nil},
	{"ban an owner", affiliationItem("owner", "outcast"), "FFFN+ FFFFN+", true, nil},
	{"end a ban", affiliationItem("outcast", "none"), "FFF++ FFFF++", true, nil},
	{"make a member", affiliationItem("participant", "member"), "FFF++ FFFF++", true, nil},
	{"unmake a member", affiliationItem("member", "none"), "FFF++ FFFF++", true, nil},
	{"make an admin", affiliationItem("member", "admin"), "FFFF+ FFFFF+", true, nil},
	{"unmake an admin", affiliationItem("admin", "member"), "FFFN+ FFFFN+", true, nil},
	{"make an owner", affiliationItem("admin", "owner"), "FFFF+ FFFFF+", true, nil},
	{"unmake an owner", affiliationItem("owner", "admin"), "FFFF+ FFFFF+", true, nil},
	{"ban oneself", affiliationItem("me", "outcast"), "FFFCC FFFFCC", true, nil},

	{"list who has voice", listOf("role", "participant"), "FFF++ FFF+++", false, nil},
	{"list moderators", listOf("role", "moderator"), "FFF++ FFF+++", false, nil},
	{"list the banned", listOf("affiliation", "outcast"), "FFF++ FFFF++", false, nil},
	{"list members", listOf("affiliation", "member"), "FFF++ FFFF++", false, nil},
	{"list members where nobody is anonymous", listOf("affiliation", "member"), "FFF++ F+++++", false, []string{"whois", "anyone"}},
	{"list admins", listOf("affiliation", "admin"), "FFF++ FFFF++", false, nil},
	{"list owners", listOf("affiliation", "owner"), "FFF++ FFFF++", false, nil},

	{"ask for the configuration", getForm, "FFFF+ FFFFF+", false, nil},
	{"configure", setForm, "FFFF+ FFFFF+", false, nil},
	{"destroy the room", destroy, "FFFF+ FFFFF+", false, nil},
	{"set the avatar", avatar, "FFFF+ FFFFF+", false, nil},
	{"list hats", hatList, "FFF++ ++++++", false, nil},
	{"make a hat", hatMake, "FFF++ FFFF++", false, nil},
}

// TestPrivileges: everything that somebody may try, in every standing. What is refused changes
// nothing; what changes something and isn't refused, does.
func TestPrivileges(t *testing.T) {
	w := newWorld(t, nil)
	n := 0
	for _, a := range attempts {
		want := strings.ReplaceAll(a.verdicts, " ", "")
		if len(want) != len(standings) {
			t.Fatalf("%s: %d verdicts", a.what, len(want))
		}
		for i, standing := range standings {
			n++
			name := fmt.Sprintf("r%d", n)
			w.people(name)
			w.put(name, standing)
			w.open("founder@example/1", name, a.config...)
			before := w.dump(name)
			w.forgetAll()
			w.send("me@example/1", fmt.Sprintf(a.stanza, name+"@rooms.example"))
			got := w.refused("me@example/1")
			if got != verdicts[want[i]] {
				t.Errorf("%s, as %s: %q, want %q", a.what, standing, got, verdicts[want[i]])
				continue
			}
			if a.what == "destroy the room" && got == "" || strings.HasPrefix(a.what, "enter") {
				continue
			}
			if after := w.dump(name); (before != after) != (a.change && got == "") {
				t.Errorf("%s, as %s (%q): the room was\n%s\nand is\n%s", a.what, standing, got, before, after)
			}
		}
	}
}

// people fills a moderated room with one of each.
func (w *world) people(name string) {
	w.t.Helper()
	w.join("founder@example/1", name, "Founder")
	w.open("founder@example/1", name, "moderatedroom", "1")
	for _, p := range []string{"visitor", "participant", "member", "moderator", "admin", "owner"} {
		w.join(p+"@example/1", name, strings.ToUpper(p[:1])+p[1:])
	}
	set := func(item string) { w.send("founder@example/1", fmt.Sprintf(item, name+"@rooms.example")) }
	set(roleItem("Participant", "participant"))
	set(roleItem("Moderator", "moderator"))
	for _, p := range []string{"member", "admin", "owner", "outcast"} {
		set(affiliationItem(p, p))
	}
}

// put brings the one who tries into a standing.
func (w *world) put(name, standing string) {
	w.t.Helper()
	set := func(item string) { w.send("founder@example/1", fmt.Sprintf(item, name+"@rooms.example")) }
	affiliation, inside := strings.CutSuffix(standing, " inside")
	switch standing {
	case "visitor", "participant", "moderator":
		w.join("me@example/1", name, "Me")
		set(roleItem("Me", standing))
		return
	}
	set(affiliationItem("me", affiliation))
	if inside {
		w.join("me@example/1", name, "Me")
	}
}

// dump is the room's lists, as its founder gets them.
func (w *world) dump(name string) string {
	w.t.Helper()
	w.take("founder@example/1")
	for _, l := range []string{"visitor", "participant", "moderator"} {
		w.send("founder@example/1", fmt.Sprintf(listOf("role", l), name+"@rooms.example"))
	}
	for _, l := range []string{"outcast", "member", "admin", "owner"} {
		w.send("founder@example/1", fmt.Sprintf(listOf("affiliation", l), name+"@rooms.example"))
	}
	var all []string
	for _, st := range w.take("founder@example/1") {
		if st.Kind == stanza.IQ {
			for it := range st.Payload().Children() {
				all = append(all, it.Attr("jid")+" "+it.Attr("affiliation")+" "+it.Attr("role"))
			}
		}
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}
