// Package web goes through what a whole server is on the web, over real sockets: our
// own client finds it by host-meta and talks in WebSockets, with TLS that ends at the
// server and with TLS that a proxy has taken off; files are uploaded and fetched as a
// browser does it; what is the operator's stays his.
package web
