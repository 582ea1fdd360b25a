package xep

// NSIMNG is XEP-0409's namespace. A session that enables it gets every
// conversation message of the account, and has no carbons beside (4).
const NSIMNG = "urn:xmpp:im-ng:0"
