// Package scripts runs readable transcripts against a whole server in process:
// every *.txt file in this folder is one test.
//
// The model: a script's server, its clients and the clock live in a bubble of
// package testing/synctest. Clients speak real streams (TLS, SCRAM, XML) over
// net.Pipe. Time passes only when nobody has anything left to do, so "receives
// nothing" is proved by the whole server being at rest, and eleven minutes take
// no time. When a script ends, whatever a client received and the script did
// not mention is an error, and so is a goroutine or a recovered panic.
//
// A script has a header, a line of dashes, and steps. '#' begins a comment.
//
//	[Client] Romeo
//		jid: romeo@localhost
//		password: secret          (the default)
//		resource: orchard         (left out: the server makes one)
//		tls: starttls             (left out: direct)
//		account: no               (there is none of this name)
//		component: SECRET         (jid is its domain; it is a component, not a person's client)
//		acks: shown               (<a/> is received like the rest; else it is only counted)
//	[Account] romeo@localhost knows juliet@localhost both
//	[Server] limits.outbox_bytes = 20000
//
// "knows" presets a roster item with that subscription: none, to, from, both.
//
// Steps; X is a client, and where it makes sense "X, Y and Z" are several:
//
//	X connects                            logs in and binds
//	X is online                           connects, sends <presence/>; what anybody gets of it is not looked at
//	X fails to connect: not-authorized    the condition of the refusal
//	X opens a connection                  nothing is said; "a secured connection": TLS is done;
//	                                      "an authenticated connection": no resource bound
//	X sends:                              indented lines: elements, each one stanza
//	X sends 5 times:                      {n} is the count, from 1
//	X sends at once 5 times:              stanzas, in one write
//	X sends bytes:                        indented lines, joined, with Go's escapes, as one write
//	X receives:                           indented elements, in this order, next
//	X receives in any order:
//	X receives 5 times:                   {n} is the count
//	X receives nothing
//	X is disconnected                     in order; "X is disconnected: conflict" by that stream error
//	X disconnects                         ends the stream in order
//	X loses the connection
//	X stops reading / X reads again
//	X enables stream management           and gets <enabled/>; "... without resumption"
//	X acknowledges by hand                <r/> isn't answered any more; "X acknowledges" sends <a/>
//	X is owed at most 65536 bytes         in the server's memory
//	X is acknowledged                     all it sent
//	X resumes                             the lost session; "X resumes with h='7'"
//	X fails to resume: item-not-found     also: X fails to resume with h='7': ...
//	all is quiet                          everybody is at rest; what was received is not looked at
//	time passes 11m
//	server restarts                       in order, on the same data; also: server stops / server starts
//	server removes juliet@localhost       from the data of a stopped server
//	the store fails: full                 or "io"; until: the store recovers
//
// An expected element matches a received one of the same name that has the
// listed attributes with their values (others don't matter), the same text, and
// the same children, in any order. Among the children the text "..." allows
// others that are not listed, and {ordered} asks for the order. In values and
// texts {any} is anything, {none} as an attribute's value asks that it isn't
// there, {$x} takes the value at first and asks for the same later; sent text
// may use it too. {X} is client X's full address. A <whose/> is looked at where a
// script mentions it only: nearly every message has one (R-MINE-2).
//
// Which trap is tested by which script: docs/interop-traps.md.
package scripts
