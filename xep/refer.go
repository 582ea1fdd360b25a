package xep

// Namespaces of messages that speak of others.
const (
	NSChatStates = "http://jabber.org/protocol/chatstates" // XEP-0085
	NSReceipts   = "urn:xmpp:receipts"                     // XEP-0184
	NSCorrect    = "urn:xmpp:message-correct:0"            // XEP-0308
	NSMarkers    = "urn:xmpp:chat-markers:0"               // XEP-0333
	NSFallback   = "urn:xmpp:fallback:0"                   // XEP-0428
	NSReactions  = "urn:xmpp:reactions:0"                  // XEP-0444
	NSReply      = "urn:xmpp:reply:0"                      // XEP-0461
	NSDisplayed  = "urn:xmpp:mds:displayed:0"              // XEP-0490
)
