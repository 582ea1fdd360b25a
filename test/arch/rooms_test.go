package arch

import (
	"slices"
	"strings"
)

// room is a row of the layout: a folder, what it may import of this module, and whether it is pure, that is without
// goroutine, clock, randomness, network, files, SQL and log. Folders below a room belong to it unless they have a row.
type room struct {
	folder string
	may    []string // folders; what lies below them is meant too
	pure   bool
}

// Layers that rows share.
var (
	protocol = []string{"jid", "xmltree", "stanza", "xep"}
	wire     = []string{"jid", "xmltree", "stanza", "xep", "sasl", "sm"}
)

func rooms() []room {
	with := func(more ...string) []string { return append(slices.Clone(protocol), more...) }
	return []room{
		{"jid", nil, true},
		{"xmltree", nil, true},
		{"stanza", []string{"jid", "xmltree"}, true},
		{"xep", []string{"jid", "xmltree", "stanza"}, true},
		{"sasl", nil, true},
		{"sm", []string{"jid", "xmltree", "stanza"}, true},
		{"stream", wire, true},
		{"client", append(slices.Clone(wire), "stream"), false},
		{"client/convo", protocol, true},
		{"client/convo/sqlstore", with("client/convo"), false},
		{"client/account", append(slices.Clone(wire), "stream", "client", "client/convo"), false},
		{"server/config", []string{"jid"}, true},
		{"server/cert", nil, false},
		{"server/route", protocol, true},
		{"server/trail", []string{"server/route"}, false},
		{"server/store", []string{"jid", "xmltree", "stanza", "sasl"}, false},
		{"server/feature", with("server/route"), true},
		// A feature never imports another feature, an account or a connection. The facts that it contributes are route's,
		// and its own small store interface speaks in the store's row types.
		{"server/features", with("server/feature", "server/route", "server/store"), false},
		{"server/account", with("sm", "server/feature", "server/route", "server/store", "server/trail"), false},
		{"server/room", with("server/route", "server/store"), false},
		{"server/c2s", append(slices.Clone(wire), "stream", "server/account"), false},
		{"server/component", append(slices.Clone(protocol), "stream"), false},
		{"server/upload", with("server/store"), false},
		{"server/web", []string{"xmltree"}, false},
		{"server/s2s", append(slices.Clone(wire), "stream", "server/account", "server/trail"), false},
		{"server/cluster", []string{"jid", "stanza"}, false},
		{"server/invite", with("sasl", "server/store", "server/features"), false},
		{"server/portable", with("sasl", "server/feature", "server/features", "server/room", "server/store"), false},
		{"server/admin", with("sasl", "server/feature", "server/route", "server/store", "server/trail"), false},
		{"server", append(slices.Clone(wire), "stream", "server"), false},
		{"cmd", append(slices.Clone(wire), "stream", "server", "client"), false},
		{"web", nil, false},
		{"spec", nil, false},
		{"sim", []string{""}, false},
		{"test", []string{""}, false},
	}
}

// roomOf returns the row with the longest folder that holds a package.
func roomOf(folder string) (room, bool) {
	var best room
	found := false
	for _, r := range rooms() {
		if within(folder, r.folder) && (!found || len(r.folder) > len(best.folder)) {
			best, found = r, true
		}
	}
	return best, found
}

func within(folder, parent string) bool {
	return parent == "" || folder == parent || strings.HasPrefix(folder, parent+"/")
}

// allowed says whether a package may import another of this module.
func allowed(from, to string) bool {
	r, ok := roomOf(from)
	if !ok {
		return false
	}
	// Its own room, but not the next feature's folder.
	if target, ok := roomOf(to); ok && target.folder == r.folder {
		return r.folder != "server/features" || feature(from) == feature(to)
	}
	for _, folder := range r.may {
		if within(to, folder) {
			// A room named in the row means itself, not rooms of their own below it; "" and "server" mean everything.
			target, _ := roomOf(to)
			return target.folder == folder || folder == "" || folder == "server" || folder == "client"
		}
	}
	return false
}

// feature returns the folder of the feature that a package below server/features belongs to.
func feature(folder string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(folder, "server/features/"), "/")
	return name
}

// impure are imports that a pure package does without.
func impure() []string {
	return []string{"crypto/rand", "database/sql", "io/ioutil", "log", "log/slog", "math/rand", "math/rand/v2", "net", "net/http",
		"os", "os/exec", "os/signal", "syscall"}
}

// clock are the functions of package time that read a clock or wait for it.
func clock() []string {
	return []string{"After", "AfterFunc", "NewTicker", "NewTimer", "Now", "Since", "Sleep", "Tick", "Until"}
}

// vague are package names that say nothing.
func vague() []string {
	return []string{"util", "utils", "common", "helper", "helpers", "base", "manager", "pkg"}
}
