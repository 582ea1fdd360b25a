package c2s

import "testing"

// TestRedact: what is relayed may carry passwords too.
func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		"<message><body>password</body></message>":                                 "<message><body>password</body></message>",
		"<query><username>a</username><password>s3cret</password></query>":         "<query><username>a</username><password>...</password></query>",
		"<password xmlns='x'>a</password><password>b</password><digest>c</digest>": "<password xmlns='x'>...</password><password>...</password><digest>...</digest>",
		"<password>cut":                       "<password>...",
		"<password/><passwords>a</passwords>": "<password/><passwords>a</passwords>",
		"<iq><query xmlns='jabber:iq:private'><query xmlns='x'><a b='>'/></query><c>s3cret</c></query></iq>":                     "<iq><query xmlns='jabber:iq:private'>...</query></iq>",
		"<query xmlns='jabber:iq:private2'><a/></query>":                                                                         "<query xmlns='jabber:iq:private2'><a/></query>",
		"<success><additional-data>s3cret</additional-data><token xmlns='urn:xmpp:fast:0' expiry='1' token='s3cret'/></success>": "<success><additional-data>...</additional-data><token xmlns='urn:xmpp:fast:0' expiry='1' token='...'/></success>",
		"<enabled xmlns='urn:xmpp:sm:3' id='s3>ret' resume='true'/><enabled xmlns='urn:xmpp:carbons:2'/>":                        "<enabled xmlns='urn:xmpp:sm:3' id='...' resume='true'/><enabled xmlns='urn:xmpp:carbons:2'/>",
		"<resumed xmlns='urn:xmpp:sm:3' h='1' previd='s3cret'/>":                                                                 "<resumed xmlns='urn:xmpp:sm:3' h='1' previd='...'/>",
		"<resumed xmlns='urn:xmpp:sm:3' previd='cut":                                                                             "<resumed xmlns='urn:xmpp:sm:3' previd='",
		"<x><field type='text-private' var='a'><value>s3cret</value></field><field var='muc#roomconfig_roomsecret'><value>s3cret</value></field><field var='b'><value>c</value></field></x>":         "<x><field type='text-private' var='a'>...</field><field var='muc#roomconfig_roomsecret'>...</field><field var='b'><value>c</value></field></x>",
		"<iq><enable xmlns='urn:xmpp:push:0' jid='a' node='b'><x><field><value>s3cret</value></field></x></enable></iq>":                                                                             "<iq><enable xmlns='urn:xmpp:push:0' jid='a' node='b'>...</enable></iq>",
		"<x><field var='password'><value>s3cret</value></field><field var='password-verify'><value>s3cret</value></field><field var='uri'><value>xmpp:a?register;preauth=s3cret</value></field></x>": "<x><field var='password'>...</field><field var='password-verify'>...</field><field var='uri'>...</field></x>",
		"<iq><preauth xmlns='urn:xmpp:pars:0' token='s3cret'/></iq>":                             "<iq><preauth xmlns='urn:xmpp:pars:0' token='...'/></iq>",
		"<service type='turn' username='1' password='s3cret'/><services type='turn'></services>": "<service type='turn' username='1' password='...'/><services type='turn'></services>",
		"text < more <": "text < more <",
	} {
		if got := redact(in); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}
