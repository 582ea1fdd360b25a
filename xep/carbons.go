package xep

// NSCarbons is XEP-0280's namespace; NSCarbonsRules its feature for the
// recommended rules (6.2).
const (
	NSCarbons      = "urn:xmpp:carbons:2"
	NSCarbonsRules = "urn:xmpp:carbons:rules:0"
)

// AppendCarbon appends the payload of a carbon copy (XEP-0280 7 and 8): sent
// or received around the forwarded message, which is canonical in the context
// jabber:client. The wrapping message, from the owner's bare JID with the
// type of the copied one, is the caller's: it differs by device, this doesn't.
func AppendCarbon(dst []byte, sent bool, message []byte) []byte {
	name := "received"
	if sent {
		name = "sent"
	}
	dst = append(append(dst, '<'), name...)
	dst = append(dst, " xmlns='"+NSCarbons+"'><forwarded xmlns='"+NSForward+"'>"...)
	dst = AppendStanza(dst, message)
	dst = append(append(dst, "</forwarded></"...), name...)
	return append(dst, '>')
}
