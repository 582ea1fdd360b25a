package xep

import (
	"strings"
	"testing"

	"carillon.im/jid"
)

// TestPushEnable: XEP-0357's examples 8 and 9, and what is refused.
func TestPushEnable(t *testing.T) {
	const form = "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>http://jabber.org/protocol/pubsub#publish-options</value></field>" +
		"<field var='secret'><value>eruio234vzxc2kla-91</value></field></x>"
	service := jid.MustParse("push-5.client.example")
	enable := func(attrs, inner string) string {
		return "<enable xmlns='urn:xmpp:push:0'" + attrs + ">" + inner + "</enable>"
	}
	const to, node = " jid='push-5.client.example'", " node='yxs32uqsflafdk3iuqo'"
	for xml, want := range map[string]PushService{
		enable(to+node, ""):   {JID: service, Node: "yxs32uqsflafdk3iuqo"},
		enable(to, ""):        {JID: service},
		enable(to+node, form): {JID: service, Node: "yxs32uqsflafdk3iuqo", Options: form},
		// FORM_TYPE comes first, text for people goes, values are escaped.
		enable(to, "<x xmlns='jabber:x:data'><title>x</title><field var='s' label='x'><value>&lt;&amp;'</value><value/></field><field var='e'/><field var='FORM_TYPE' type='hidden'><value>http://jabber.org/protocol/pubsub#publish-options</value></field></x>"): {
			JID: service, Options: strings.Replace(form, "<field var='secret'><value>eruio234vzxc2kla-91</value></field>",
				"<field var='s'><value>&lt;&amp;'</value><value/></field><field var='e'/>", 1)},
	} {
		if got, err := ParsePushEnable(parse(t, xml)); err != nil || got != want {
			t.Errorf("%s: %+v, %v", xml, got, err)
		}
	}
	for _, xml := range []string{
		enable("", ""), enable(" jid='@'", ""), enable(" jid=''"+node, ""), enable(to+" node='"+strings.Repeat("x", maxPushNode+1)+"'", ""),
		enable(to, form+form), enable(to, strings.Replace(form, "publish-options", "node_config", 1)), enable(to, "<x xmlns='jabber:x:data' type='submit'/>"),
		enable(to, strings.Replace(form, "eruio", strings.Repeat("x", maxPushOptions), 1)), enable(to, strings.Replace(form, "</x>", "<field/></x>", 1)),
	} {
		if got, err := ParsePushEnable(parse(t, xml)); condition(err) != "bad-request" {
			t.Errorf("%s: %+v, %v", xml, got, err)
		}
	}
}

// TestPushDisable: XEP-0357's examples 10 and 11.
func TestPushDisable(t *testing.T) {
	for xml, want := range map[string]struct {
		name string
		node bool
	}{
		"<disable xmlns='urn:xmpp:push:0' jid='push-5.client.example'/>":                        {"", false},
		"<disable xmlns='urn:xmpp:push:0' jid='push-5.client.example' node='yxs32'/>":           {"yxs32", true},
		"<disable xmlns='urn:xmpp:push:0' jid='push-5.client.example' node=''/>":                {"", true},
		"<disable xmlns='urn:xmpp:push:0' jid='push-5.client.example'><x xmlns='y'/></disable>": {"", false},
	} {
		service, name, node, err := ParsePushDisable(parse(t, xml))
		if err != nil || service.String() != "push-5.client.example" || name != want.name || node != want.node {
			t.Errorf("%s: %v %q %v, %v", xml, service, name, node, err)
		}
	}
	for _, xml := range []string{"<disable xmlns='urn:xmpp:push:0'/>", "<disable xmlns='urn:xmpp:push:0' jid='a@@'/>"} {
		if _, _, _, err := ParsePushDisable(parse(t, xml)); condition(err) != "bad-request" {
			t.Errorf("%s: %v", xml, err)
		}
	}
}

// TestPushPublish: XEP-0357's examples 12 and 13, without what is the example's own.
func TestPushPublish(t *testing.T) {
	const open = "<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='yxs32uqsflafdk3iuqo'><item><notification xmlns='urn:xmpp:push:0'>" +
		"<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>urn:xmpp:push:summary</value></field><field var='message-count'><value>1</value></field>"
	const who = "<field var='last-message-sender'><value>juliet@capulet.example/balcony</value></field>"
	const what = "<field var='last-message-body'><value>Wherefore art thou, Romeo?</value></field>"
	const end = "</x></notification></item></publish>"
	p := PushService{JID: jid.MustParse("push-5.client.example"), Node: "yxs32uqsflafdk3iuqo"}
	s := PushSummary{Count: 1}
	same(t, []byte(PushPublish(p, s)), open+end+"</pubsub>")
	s.Sender = "juliet@capulet.example/balcony"
	same(t, []byte(PushPublish(p, s)), open+who+end+"</pubsub>")
	s.Body = "Wherefore art thou, Romeo?"
	same(t, []byte(PushPublish(p, s)), open+who+what+end+"</pubsub>")
	p.Options = "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>http://jabber.org/protocol/pubsub#publish-options</value></field><field var='secret'><value>eruio234vzxc2kla-91</value></field></x>"
	same(t, []byte(PushPublish(p, s)), open+who+what+end+"<publish-options>"+p.Options+"</publish-options></pubsub>")
	p.Node = ""
	same(t, []byte(PushPublish(p, s)), strings.Replace(open, " node='yxs32uqsflafdk3iuqo'", "", 1)+who+what+end+"<publish-options>"+p.Options+"</publish-options></pubsub>")
}
