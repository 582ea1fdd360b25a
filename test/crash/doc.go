// Package crash holds the server to its promise: what it acknowledged is on
// disk. It kills the real binary under load, and lets its disk fill up.
package crash
