package xep

// NSPrivate is XEP-0049's namespace.
const NSPrivate = "jabber:iq:private"
