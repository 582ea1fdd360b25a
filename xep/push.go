package xep

import (
	"strconv"
	"strings"

	"carillon.im/jid"
	"carillon.im/xmltree"
)

// The namespaces of XEP-0357.
const (
	NSPush        = "urn:xmpp:push:0"
	NSPushSummary = "urn:xmpp:push:summary"
)

// Bounds of what a client may ask to be kept of a push service, in bytes.
const (
	maxPushNode    = 1024
	maxPushOptions = 4096
)

// PushService is where notifications for a device are published (XEP-0357 5).
type PushService struct {
	JID  jid.JID
	Node string // "" if the client named none
	// Options is the form with what the service wants to be told with each
	// notification, such as a secret: canonical, "" for none.
	Options string
}

// ParsePushEnable reads <enable/>. Without the service's address, with one that
// is none, or with a form that isn't of publish options it is bad-request.
func ParsePushEnable(el xmltree.Element) (p PushService, err error) {
	if p.JID, p.Node, err = pushTarget(el); err != nil {
		return PushService{}, err
	}
	if p.JID.IsZero() {
		return PushService{}, badRequest("no push service is named")
	}
	for x := range el.Children() {
		if !x.Is(NSForm, "x") {
			continue
		}
		if p.Options != "" {
			return PushService{}, badRequest("there are two forms")
		}
		form, err := ParseForm(x)
		if err != nil {
			return PushService{}, err
		}
		if form.FormType() != NSPubOptions {
			return PushService{}, badRequest("the form is not one of publish options")
		}
		if p.Options = string(appendOptions(nil, form)); len(p.Options) > maxPushOptions {
			return PushService{}, badRequest("the publish options are too long")
		}
	}
	return p, nil
}

// ParsePushDisable reads <disable/>. Without a node, which node says, all of the
// service's are meant (XEP-0357 6).
func ParsePushDisable(el xmltree.Element) (service jid.JID, name string, node bool, err error) {
	if service, name, err = pushTarget(el); err == nil && service.IsZero() {
		err = badRequest("no push service is named")
	}
	_, node = el.LookupAttr("", "node")
	return service, name, node, err
}

func pushTarget(el xmltree.Element) (service jid.JID, node string, err error) {
	if address := el.Attr("jid"); address != "" {
		if service, err = jid.Parse(strings.Clone(address)); err != nil {
			return jid.JID{}, "", badRequest("the push service's address is none")
		}
	}
	if node = strings.Clone(el.Attr("node")); len(node) > maxPushNode {
		return jid.JID{}, "", badRequest("the node's name is too long")
	}
	return service, node, nil
}

// appendOptions writes the form as it is submitted: FORM_TYPE first, then the
// fields as the client had them.
func appendOptions(dst []byte, f Form) []byte {
	dst = append(dst, "<x xmlns='"+NSForm+"' type='submit'>"...)
	dst = appendField(dst, formTypeField, NSPubOptions)
	for _, field := range f.Fields {
		if field.Var != formTypeField {
			dst = appendField(dst, field.Var, field.Values...)
		}
	}
	return append(dst, "</x>"...)
}

// appendField writes one field of a form that is submitted.
func appendField(dst []byte, name string, values ...string) []byte {
	dst = append(appendAttr(append(dst, "<field"...), "var", name), '>')
	content := len(dst)
	for _, v := range values {
		dst = appendElement(dst, "", "value", v)
	}
	return appendEnd(dst, content, "field")
}

// PushSummary is what a notification tells (XEP-0357 7). Sender and Body are left
// out where they are empty.
type PushSummary struct {
	Count  int // messages that the device hasn't got
	Sender string
	Body   string
}

// PushPublish is the payload of the IQ that publishes a notification.
func PushPublish(p PushService, s PushSummary) string {
	dst := append([]byte("<pubsub xmlns='"+NSPubSub+"'>"), "<publish"...)
	dst = append(appendOptAttr(dst, "node", p.Node), "><item><notification xmlns='"+NSPush+"'><x xmlns='"+NSForm+"' type='submit'>"...)
	dst = appendField(dst, formTypeField, NSPushSummary)
	dst = appendField(dst, "message-count", strconv.Itoa(s.Count))
	if s.Sender != "" {
		dst = appendField(dst, "last-message-sender", s.Sender)
	}
	if s.Body != "" {
		dst = appendField(dst, "last-message-body", s.Body)
	}
	dst = append(dst, "</x></notification></item></publish>"...)
	if p.Options != "" {
		dst = append(append(append(dst, "<publish-options>"...), p.Options...), "</publish-options>"...)
	}
	return string(append(dst, "</pubsub>"...))
}
