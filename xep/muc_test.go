package xep

import (
	"testing"
	"time"

	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

func element(t *testing.T, xml string) xmltree.Element {
	t.Helper()
	el, err := xmltree.Parse([]byte(xml), stanza.NSClient, xmltree.Limits{})
	if err != nil {
		t.Fatalf("%s: %v", xml, err)
	}
	return el
}

// canonical is what a parser makes of XML.
func canonical(t *testing.T, xml string) string {
	t.Helper()
	return element(t, xml).Raw()
}

func TestMUCJoin(t *testing.T) {
	none := MUCHistory{-1, -1, -1, time.Time{}}
	for xml, want := range map[string]MUCJoin{
		"<x xmlns='http://jabber.org/protocol/muc'/>":                                                                {"", none},
		"<x xmlns='http://jabber.org/protocol/muc'><password>cauldronburn</password></x>":                            {"cauldronburn", none},
		"<x xmlns='http://jabber.org/protocol/muc'><history maxchars='65000'/></x>":                                  {"", MUCHistory{65000, -1, -1, time.Time{}}},
		"<x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='20'/></x>":                                   {"", MUCHistory{-1, 20, -1, time.Time{}}},
		"<x xmlns='http://jabber.org/protocol/muc'><history seconds='180'/></x>":                                     {"", MUCHistory{-1, -1, 180, time.Time{}}},
		"<x xmlns='http://jabber.org/protocol/muc'><history since='1970-01-01T00:00:01Z'/></x>":                      {"", MUCHistory{-1, -1, -1, time.Unix(1, 0).UTC()}},
		"<x xmlns='http://jabber.org/protocol/muc'><history maxchars='-1' maxstanzas='x' since='y' seconds=''/></x>": {"", none},
	} {
		if got := ParseMUCJoin(element(t, xml)); got != want {
			t.Errorf("%s: got %+v, want %+v", xml, got, want)
		}
	}
}

// TestMUCAdmin: examples of XEP-0045 8 to 10, there and back.
func TestMUCAdmin(t *testing.T) {
	xml := "<query xmlns='http://jabber.org/protocol/muc#admin'>" +
		"<item nick='pistol' role='none'><reason>Avaunt, you cullion!</reason></item>" +
		"<item affiliation='outcast' jid='earlofcambridge@shakespeare.lit'><reason>Treason</reason></item></query>"
	want := []MUCItem{{Role: "none", Nick: "pistol", Reason: "Avaunt, you cullion!"},
		{Affiliation: "outcast", JID: jid.MustParse("earlofcambridge@shakespeare.lit"), Reason: "Treason"}}
	got, err := ParseMUCAdmin(element(t, xml))
	if err != nil || len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Fatalf("got %+v, %v", got, err)
	}
	back, err := ParseMUCAdmin(element(t, string(AppendMUCAdmin(nil, got))))
	if err != nil || len(back) != 2 || back[0] != got[0] || back[1] != got[1] {
		t.Errorf("written and read: %+v, %v", back, err)
	}
	for xml, want := range map[string]stanza.Condition{
		"<query xmlns='http://jabber.org/protocol/muc#admin'/>":                       stanza.BadRequest,
		"<query xmlns='http://jabber.org/protocol/muc#admin'><item jid='@'/></query>": stanza.JIDMalformed,
	} {
		_, err := ParseMUCAdmin(element(t, xml))
		if e, _ := stanza.AsError(err); e.Condition != want {
			t.Errorf("%s: %v", xml, err)
		}
	}
}

// TestMUCWritten: what is written is canonical and as the XEPs have it.
func TestMUCWritten(t *testing.T) {
	crone := jid.MustParse("crone1@shakespeare.lit/desktop")
	for got, want := range map[string]string{
		string(AppendMUCUser(nil, &MUCItem{Affiliation: "none", Role: "none", Actor: "Fluellen", Reason: "Avaunt!"}, "", 307, 110)): "<x xmlns='http://jabber.org/protocol/muc#user'>" +
			"<item affiliation='none' role='none'><actor nick='Fluellen'/><reason>Avaunt!</reason></item><status code='307'/><status code='110'/></x>",
		string(AppendMUCUser(nil, &MUCItem{Affiliation: "owner", Role: "moderator", JID: crone}, "")): "<x xmlns='http://jabber.org/protocol/muc#user'>" +
			"<item affiliation='owner' role='moderator' jid='crone1@shakespeare.lit/desktop'/></x>",
		string(AppendMUCUser(nil, nil, "", 104)): "<x xmlns='http://jabber.org/protocol/muc#user'><status code='104'/></x>",
		string(AppendMUCUser(nil, nil, "")):      "<x xmlns='http://jabber.org/protocol/muc#user'/>",
		string(AppendMUCUser(nil, nil, string(MUCInvite{JID: crone, Reason: "Hey <Hecate>", Continue: true, Thread: "t"}.Append(nil)))): "<x xmlns='http://jabber.org/protocol/muc#user'>" +
			"<invite from='crone1@shakespeare.lit/desktop'><reason>Hey &lt;Hecate&gt;</reason><continue thread='t'/></invite></x>",
		string(AppendMUCUser(nil, nil, string(MUCDestroy{Venue: jid.MustParse("coven@chat.shakespeare.lit"), Reason: "Macbeth doth come."}.Append(nil)))): "<x xmlns='http://jabber.org/protocol/muc#user'>" +
			"<destroy jid='coven@chat.shakespeare.lit'><reason>Macbeth doth come.</reason></destroy></x>",
		string(AppendRetract(nil, Retracted{ID: "stanza-id-1", By: jid.MustParse("room@muc.example.com/macbeth"), ByID: "dd72", Reason: "inappropriate"})): "<retract xmlns='urn:xmpp:message-retract:1' id='stanza-id-1'>" +
			"<moderated xmlns='urn:xmpp:message-moderate:1' by='room@muc.example.com/macbeth'><occupant-id xmlns='urn:xmpp:occupant-id:0' id='dd72'/></moderated><reason>inappropriate</reason></retract>",
		string(AppendRetract(nil, Retracted{ID: "retract-message-1", Stamp: time.Date(2019, 9, 20, 23, 9, 32, 0, time.UTC)})): "<retracted xmlns='urn:xmpp:message-retract:1' id='retract-message-1' stamp='2019-09-20T23:09:32Z'/>",
		string(AppendForm(nil, "form", "t", "", []FormField{{Var: "a", Type: "list-single", Values: []string{"<"}, Options: []string{"<", "b"}}, {Var: "c"}})): "<x xmlns='jabber:x:data' type='form'>" +
			"<field var='FORM_TYPE' type='hidden'><value>t</value></field><field var='a' type='list-single'><value>&lt;</value><option label='&lt;'><value>&lt;</value></option>" +
			"<option label='b'><value>b</value></option></field><field var='c'/></x>",
	} {
		if canonical(t, got) != got || got != canonical(t, want) {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestMUCInvites(t *testing.T) {
	list, err := ParseMUCInvites(element(t, "<x xmlns='http://jabber.org/protocol/muc#user'><invite to='hecate@shakespeare.lit'><reason>Hey</reason></invite><decline to='a@b'/></x>"))
	if err != nil || len(list) != 2 || list[0] != (MUCInvite{JID: jid.MustParse("hecate@shakespeare.lit"), Reason: "Hey"}) || !list[1].Decline {
		t.Errorf("got %+v, %v", list, err)
	}
	if _, err := ParseMUCInvites(element(t, "<x xmlns='http://jabber.org/protocol/muc#user'><invite/></x>")); err == nil {
		t.Error("an invitation of nobody was taken")
	}
	d, err := ParseMUCDestroy(element(t, "<destroy xmlns='http://jabber.org/protocol/muc#owner' jid='a@b'><reason>x</reason></destroy>"))
	if err != nil || d != (MUCDestroy{Venue: jid.MustParse("a@b"), Reason: "x"}) {
		t.Errorf("destroy: %+v, %v", d, err)
	}
	long := make([]byte, MaxMUCText-1)
	for i := range long {
		long[i] = 'x'
	}
	if got := CutText(string(long) + "ü"); got != string(long) {
		t.Errorf("a text was cut to %d bytes", len(got))
	}
}
