//go:build !(linux || darwin || freebsd)

package main

// freeSpace and fileLimit are not known on this system.
func freeSpace(string) (bytes uint64, ok bool) { return 0, false }
func fileLimit() (n uint64, ok bool)           { return 0, false }
