package xep

// Namespaces of the founding documents' routing.
const (
	NSIMNG = "urn:xmpp:im-ng:0" // XEP-0409
	// NSMine is XEP-0259's namespace. NSMineOCR stands in copies of the text that are in circulation; it is accepted, never sent (R-MINE-1).
	NSMine    = "urn:xmpp:tmp:mine:0"
	NSMineOCR = "urn:xmpp:tmp:mime:0"
	// NSXMPP2 is the namespace of what XMPP 2.0 adds (docs/ext).
	NSXMPP2 = "urn:xmpp:tmp:xmpp-2:0"
)

// The elements that routing adds to messages.
const (
	IMNG  = "<im-ng xmlns='" + NSIMNG + "'/>"   // XEP-0409 3.3
	XMPP1 = "<xmpp-1 xmlns='" + NSXMPP2 + "'/>" // R-GW-3
	XMPP2 = "<xmpp-2 xmlns='" + NSXMPP2 + "'/>" // R-GW-1
)
