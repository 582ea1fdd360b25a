// Package expat asks libexpat what it thinks of a document, as an oracle for
// the tests of xmltree. It has content only with the build tag expat, which
// needs cgo and Debian's libexpat1-dev.
package expat
