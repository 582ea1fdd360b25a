// Package features has one folder per behaviour that a XEP adds to the server.
//
// Each declares itself as a feature.Feature and knows of nothing but package
// feature and the wire vocabulary in package xep; what it needs of the store
// it names in an interface of its own. Here are their tests, which run them
// all together in real accounts over a real store: what a client is told is
// what counts, and only together do they make a server's answers.
package features
