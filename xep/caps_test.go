package xep

import (
	"testing"
)

const psi = `<query xmlns='http://jabber.org/protocol/disco#info' node='http://psi-im.org#q07IKJEyjvHSyhy//CH0CxmKi8w='>
    <identity xml:lang='en' category='client' name='Psi 0.11' type='pc'/>
    <identity xml:lang='el' category='client' name='Ψ 0.11' type='pc'/>
    <feature var='http://jabber.org/protocol/caps'/>
    <feature var='http://jabber.org/protocol/disco#info'/>
    <feature var='http://jabber.org/protocol/disco#items'/>
    <feature var='http://jabber.org/protocol/muc'/>
    <x xmlns='jabber:x:data' type='result'>
      <field var='FORM_TYPE' type='hidden'><value>urn:xmpp:dataforms:softwareinfo</value></field>
      <field var='ip_version' type='text-multi' ><value>ipv6</value><value>ipv4</value></field>
      <field var='os'><value>Mac</value></field>
      <field var='os_version'><value>10.5.1</value></field>
      <field var='software'><value>Psi</value></field>
      <field var='software_version'><value>0.11</value></field>
    </x>
  </query>`

func info(t *testing.T, xml string) DiscoInfo {
	t.Helper()
	d, err := ParseDiscoInfo(parse(t, xml))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestCapsVer(t *testing.T) {
	exodus := DiscoInfo{Identities: []Identity{{"client", "pc", "", "Exodus 0.9.1"}},
		Features: []string{"http://jabber.org/protocol/muc", "http://jabber.org/protocol/disco#items", "http://jabber.org/protocol/disco#info", "http://jabber.org/protocol/caps"}}
	for want, d := range map[string]DiscoInfo{
		"QgayPKawpkPSDYmwT/WM94uAlu0=": exodus,       // XEP-0115 5.2
		"q07IKJEyjvHSyhy//CH0CxmKi8w=": info(t, psi), // XEP-0115 5.3
	} {
		got, ok := CapsVer("sha-1", d)
		if !ok || got != want {
			t.Errorf("%s, want %s", got, want)
		}
		// What is written gives the same hash again.
		if again, ok := CapsVer("sha-1", info(t, string(AppendDiscoInfo(nil, "n", d)))); !ok || again != want {
			t.Errorf("written and read: %s, want %s", again, want)
		}
	}
	if ver, ok := CapsVer("sha-256", exodus); !ok || len(ver) != 44 {
		t.Errorf("sha-256: %s", ver)
	}
	if _, ok := CapsVer("md5", exodus); ok {
		t.Error("md5 is believed")
	}
}

// TestCapsIllFormed: what XEP-0115 5.4 tells not to believe.
func TestCapsIllFormed(t *testing.T) {
	const id = "<identity category='client' type='pc'/>"
	form := func(fields string) string { return "<x xmlns='jabber:x:data' type='result'>" + fields + "</x>" }
	const hidden = "<field var='FORM_TYPE' type='hidden'><value>a</value></field>"
	for inner, want := range map[string]bool{
		id + id: false,
		id + "<feature var='a'/><feature var='a'/>":                                                            false,
		id + form(hidden) + form(hidden):                                                                       false,
		id + form("<field var='FORM_TYPE' type='hidden'><value>a</value><value>b</value></field>"):             false,
		id + form("<field var='FORM_TYPE' type='hidden'><value>a</value><value>a</value></field>"):             true,
		id + form(hidden+"<field var='b'/><field var='b'/>"):                                                   false,
		id + form("<field var='FORM_TYPE'><value>a</value></field>"):                                           true, // ignored
		id + form("<field var='b'><value>a</value></field>") + form("<field var='b'><value>a</value></field>"): true,
	} {
		if _, ok := CapsVer("sha-1", info(t, "<query xmlns='"+NSDiscoInfo+"'>"+inner+"</query>")); ok != want {
			t.Errorf("%s: %v", inner, ok)
		}
	}

	// A '<' in a value can't stand for the separator.
	one, _ := CapsVer("sha-1", DiscoInfo{Features: []string{"a<b"}})
	two, _ := CapsVer("sha-1", DiscoInfo{Features: []string{"a", "b"}})
	if one == two {
		t.Error("two answers have one hash")
	}
	for _, inner := range []string{"<identity type='pc'/>", "<identity category='client'/>", "<feature/>"} {
		if _, err := ParseDiscoInfo(parse(t, "<query xmlns='"+NSDiscoInfo+"'>"+inner+"</query>")); condition(err) != "bad-request" {
			t.Errorf("%s: %v", inner, err)
		}
	}
	if _, err := ParseDiscoInfo(parse(t, "<query xmlns='"+NSDiscoItems+"'/>")); err == nil {
		t.Error("items are read as info")
	}
}

func TestParseCaps(t *testing.T) {
	c, ok := ParseCaps(parse(t, `<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='http://code.google.com/p/exodus' ver='QgayPKawpkPSDYmwT/WM94uAlu0='/>`))
	if !ok || c.Query() != "http://code.google.com/p/exodus#QgayPKawpkPSDYmwT/WM94uAlu0=" {
		t.Error(c, ok)
	}
	for _, x := range []string{
		`<c xmlns='http://jabber.org/protocol/caps' node='http://exodus' ver='0.9'/>`, // the legacy format
		`<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' ver='0.9'/>`,
		`<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='n'/>`,
		`<c hash='sha-1' node='n' ver='v'/>`,
	} {
		if _, ok := ParseCaps(parse(t, x)); ok {
			t.Errorf("%s is accepted", x)
		}
	}
}
