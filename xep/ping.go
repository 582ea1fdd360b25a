package xep

// NSPing is XEP-0199's namespace.
const NSPing = "urn:xmpp:ping"

// Ping is the payload of a ping (XEP-0199 3); the answer has none.
const Ping = "<ping xmlns='" + NSPing + "'/>"
