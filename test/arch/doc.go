// Package arch holds the test that keeps the layout true: who may import whom, which packages are pure, and the habits
// that a compiler does not check. It reads the source alone, so it needs no build and passes for folders that do not
// exist yet. rooms is the table; a change of the layout is a change of that table and of ARCHITECTURE.md.
package arch
