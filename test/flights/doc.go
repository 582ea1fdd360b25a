// Package flights counts how often a device waits for its server until it is up
// to date, and how long that takes far away from it.
//
// The model: a device knows its server from an earlier login (features, salted
// password, token) and the last archived message that it has. Since then missed
// more have been archived. A flow is one way to catch up with them. A meter above
// TLS counts flights: a new one begins with the first write behind a read. A line
// below TLS delays what passes. Synced is a device that has the roster, has told
// its presence, gets copies of what other devices send, and has each missed message
// once.
//
// The counts of carillon's flows are tested always. CARILLON_FLIGHTS=1 (make
// flights) measures carillon, Prosody and ejabberd, with the delay, and prints a
// Markdown table.
package flights
