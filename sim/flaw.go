package sim

import (
	"strings"

	"carillon.im/client/convo"
)

// spoil is what a device gets of an element that was sent to it: that, unless
// the run has a flaw.
func (w *world) spoil(d *device, data string) []string {
	if w.opt.Flaw == None {
		return []string{data}
	}
	if d.swap != "" {
		data, d.swap = data+"\x00"+d.swap, ""
		return strings.Split(data, "\x00")
	}
	if w.spoiled || !strings.HasPrefix(data, "<message") || strings.Contains(data, "urn:xmpp:mam:2") {
		return []string{data}
	}
	text := strings.Contains(data, "<body>")
	modern := d.profile >= convo.NG
	switch {
	case w.opt.Flaw == DropLive && modern && text, w.opt.Flaw == DropDelivered && d.profile == convo.Classic && text:
		w.spoiled = true
		w.log(d.name, "FLAW", "never gets "+data)
		return nil
	case w.opt.Flaw == SwapLive && modern && text:
		w.spoiled = true
		w.log(d.name, "FLAW", "gets later "+data)
		d.swap = data
		return nil
	case w.opt.Flaw == RepeatLive && modern && text:
		w.spoiled = true
		w.log(d.name, "FLAW", "gets twice "+data)
		return []string{data, strings.NewReplacer(" id='", " id='x").Replace(data)}
	case w.opt.Flaw == ForgeClaim && modern && strings.Contains(data, "<mine "):
		w.spoiled = true
		w.log(d.name, "FLAW", "gets from elsewhere "+data)
		return []string{strings.Replace(data, "from='"+d.user.jid.String()+"/", "from='"+d.user.jid.String()+"/not-", 1)}
	}
	return []string{data}
}

// lie is what the server gets of an element that a device sent.
func (w *world) lie(d *device, data string) string {
	if w.opt.Flaw == LoseSent && !w.spoiled && d.sm && strings.HasPrefix(data, "<message") && strings.Contains(data, "<body>") {
		w.spoiled = true
		w.log(d.name, "FLAW", "the server loses "+data)
		return "<message to='nobody@nowhere.example' type='error'/>"
	}
	return data
}
