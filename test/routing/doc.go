// Package routing compares what a whole server does with messages, over real
// streams, with a second opinion.
//
// The model: an account is a set of devices, each of a profile (classic,
// carbons, ng, v2) and a priority. For every set of devices that the recipient
// can have, senders of every profile, a contact, a stranger and the recipient's
// own devices, send every kind of message to every kind of address. What each
// device of the accounts gets, in which form, what both archives have and what
// is kept for later is compared with what model_test.go says. That model is
// written from the routing page and the specifications that it rests on, and
// knows nothing of package route: two readings of one page have to agree. A
// rule's id stands where the model decides by it; "decided:" marks what the
// page leaves open.
//
// TestRouting does that for local senders, TestBorder for those of another domain, at a component's connection.
// TestUnknownUser compares what a stranger is told of an account and of none. TestOrder has everybody talk at once.
//
// The server, its clients and the clock live in a bubble of testing/synctest: a
// batch is over when nobody has anything left to do, so that "nothing" is
// proved and never waited for.
//
// By default one run meets each kind of message, type, address and set of
// devices, with the senders taking turns; CARILLON_ROUTING=all lets every
// sender send everything.
package routing
