package xep

import "testing"

// TestParseNotify: XEP-0492's examples 1 and 2, and what isn't one.
func TestParseNotify(t *testing.T) {
	const both = "<never identity-category='client' identity-type='pc'/><on-mention identity-category='client' identity-type='phone'/>" +
		"<on-mention identity-category='gateway'/><always/>"
	for inner, want := range map[string][3]NotifyWhen{ // of a phone, a PC, a bot
		"<never/>": {NotifyNever, NotifyNever, NotifyNever},
		both:       {NotifyOnMention, NotifyNever, NotifyAlways},
		"<always/><never identity-category='client'/>": {NotifyNever, NotifyNever, NotifyNever},
		"<never identity-type='phone'/>":               {},
		"<sometimes/>":                                 {},
		"<never xmlns='urn:example'/>":                 {},
		"":                                             {},
		"<never identity-category='client' identity-type='phone'><advanced><x xmlns='custom:ns-1'/></advanced></never>": {NotifyNever},
	} {
		el := parse(t, "<conference xmlns='urn:xmpp:bookmarks:1'><extensions><notify xmlns='urn:xmpp:notification-settings:1'>"+inner+"</notify></extensions></conference>")
		if got := [3]NotifyWhen{ParseNotify(el, "client", "phone"), ParseNotify(el, "client", "pc"), ParseNotify(el, "client", "bot")}; got != want {
			t.Errorf("%s: %v, want %v", inner, got, want)
		}
	}
	if got := ParseNotify(parse(t, "<conference xmlns='urn:xmpp:bookmarks:1'/>"), "client", "phone"); got != NotifyDefault {
		t.Errorf("without extensions: %v", got)
	}
}
