// Package interop drives real XMPP clients against a real server over real sockets.
//
// The server under test is the built carillon binary; the clients are what people use: slixmpp and @xmpp/client, each
// behind a small driver that speaks lines of JSON (py/driver.py, js/driver.mjs), profanity in a terminal, go-sendxmpp as
// a command, Converse.js in a browser, and Dino on a screen of its own. A scenario is written once and runs with every
// client that can do it; matrix_test.go says which. docs/interop.md lists the versions and what a client can't do. What
// windows, pages and terminals showed is kept in the folder that CARILLON_ARTEFACTS names. Every client verifies the
// server's certificate against a certificate authority made for the run, for a domain that is in no DNS.
//
// Nothing waits for time to pass: a test waits for an event with a deadline, and "nothing else came" is shown by a
// round trip to the server.
//
// CARILLON_INTEROP=1 runs the package for real: without it every test skips and names what it needs; with it a missing
// client is a failure. CARILLON_INTEROP_SERVER=prosody runs the same scenarios against Prosody, which tells a fault of
// the suite from a fault of carillon. CARILLON_BIN names a carillon binary to use instead of building one.
package interop
