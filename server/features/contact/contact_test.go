package contact

import "testing"

func TestContact(t *testing.T) {
	f := New(map[string][]string{"security": {"xmpp:security@shakespeare.lit"}, "abuse": {"mailto:abuse@shakespeare.lit", "https://shakespeare.lit/?a&b"}, "sales": nil}, nil)
	const want = "<x xmlns='jabber:x:data' type='result'><field var='FORM_TYPE' type='hidden'><value>http://jabber.org/network/serverinfo</value></field>" +
		"<field var='abuse-addresses' type='list-multi'><value>mailto:abuse@shakespeare.lit</value><value>https://shakespeare.lit/?a&amp;b</value></field>" +
		"<field var='security-addresses' type='list-multi'><value>xmpp:security@shakespeare.lit</value></field></x>"
	if len(f.Disco) != 1 || f.Disco[0].Forms[0] != want {
		t.Errorf("%+v", f.Disco)
	}
	f = New(nil, []string{"https://status.shakespeare.lit/status.json"})
	const down = "<x xmlns='jabber:x:data' type='result'><field var='FORM_TYPE' type='hidden'><value>urn:xmpp:sos:0</value></field>" +
		"<field var='external-status-addresses' type='list-multi'><value>https://status.shakespeare.lit/status.json</value></field></x>"
	if len(f.Disco) != 1 || len(f.Disco[0].Forms) != 1 || f.Disco[0].Forms[0] != down {
		t.Errorf("%+v", f.Disco)
	}
	if none := New(map[string][]string{"abuse": {}}, nil); len(none.Disco) != 0 {
		t.Errorf("%+v", none.Disco)
	}
}
