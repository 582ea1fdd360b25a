// Package disco answers service discovery (XEP-0030) from what the features of
// the server declare, and tells the server's own entity capabilities with it
// (XEP-0115 6.3).
//
// All that is said about the server and about accounts is the same for
// everybody who may ask, so it is written once, when the feature is made. Who
// may not see an account's presence gets the answer of an account that doesn't
// exist (XEP-0030 8).
package disco

import (
	"context"
	"slices"

	"carillon.im/server/feature"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// New is the feature. Name is what the server calls itself, node the URI of
// its software (XEP-0115 4), items what belongs to it, others all other features. It panics on a form
// that isn't canonical XML: such a declaration is a programming error.
func New(name, node string, items []xep.DiscoItem, others ...feature.Feature) feature.Feature {
	info := xmltree.Name{Space: xep.NSDiscoInfo, Local: "query"}
	list := xmltree.Name{Space: xep.NSDiscoItems, Local: "query"}
	vars := []string{xep.NSDiscoInfo, xep.NSDiscoItems}
	f := feature.Feature{
		Name:  "disco",
		Specs: []feature.Spec{{XEP: "0030", Version: "2.5.0"}, {XEP: "0128", Version: "1.0.1"}},
		Disco: []feature.Disco{
			{Scope: feature.Server, Vars: vars, Identities: []feature.Identity{{Category: "server", Type: "im", Name: name}}},
			{Scope: feature.Account, Vars: vars, Identities: []feature.Identity{{Category: "account", Type: "registered"}}},
			{Scope: feature.Contact, Vars: vars, Identities: []feature.Identity{{Category: "account", Type: "registered"}}},
		},
	}
	all := append(slices.Clone(others), f)
	server := collect(feature.Server, all)
	ver, ok := xep.CapsVer("sha-1", server)
	if !ok {
		panic("disco: the features of the server declare something twice")
	}
	caps := xep.Caps{Hash: "sha-1", Node: node, Ver: ver}
	f.StreamFeatures = []string{string(xep.AppendCaps(nil, caps))}
	h := handler{
		capsNode: caps.Query(),
		server:   server,
		items:    items,
		info:     map[feature.Scope]string{feature.Server: answer(server)},
	}
	for _, scope := range []feature.Scope{feature.Account, feature.Contact} {
		h.info[scope] = answer(collect(scope, all))
	}
	for _, o := range others {
		if o.Nodes != nil {
			h.nodes = append(h.nodes, o.Nodes)
		}
		if o.ServerNodes != nil {
			h.ofServer = append(h.ofServer, o.ServerNodes)
		}
	}
	f.IQs = []feature.IQ{
		{Scope: feature.Server, Type: stanza.TypeGet, Name: info, Handle: h.serverInfo},
		{Scope: feature.Server, Type: stanza.TypeGet, Name: list, Handle: h.serverItems},
		{Scope: feature.Account, Type: stanza.TypeGet, Name: info, Handle: h.accountInfo},
		{Scope: feature.Account, Type: stanza.TypeGet, Name: list, Handle: h.accountItems},
		{Scope: feature.Contact, Type: stanza.TypeGet, Name: info, Handle: h.accountInfo},
		{Scope: feature.Contact, Type: stanza.TypeGet, Name: list, Handle: h.accountItems},
	}
	return f
}

// collect is what all features say about a scope, in a fixed order.
func collect(scope feature.Scope, all []feature.Feature) xep.DiscoInfo {
	var info xep.DiscoInfo
	for _, f := range all {
		for _, d := range f.Disco {
			if d.Scope != scope {
				continue
			}
			info.Features = append(info.Features, d.Vars...)
			for _, id := range d.Identities {
				info.Identities = append(info.Identities, xep.Identity{Category: id.Category, Type: id.Type, Name: id.Name})
			}
			for _, form := range d.Forms {
				el, err := xmltree.Parse([]byte(form), stanza.NSClient, xmltree.Limits{})
				if err != nil {
					panic("disco: a form of " + f.Name + ": " + err.Error())
				}
				info.Forms = append(info.Forms, el)
			}
		}
	}
	slices.Sort(info.Features)
	return info
}

func answer(info xep.DiscoInfo) string { return string(xep.AppendDiscoInfo(nil, "", info)) }

type handler struct {
	capsNode string
	server   xep.DiscoInfo
	items    []xep.DiscoItem
	info     map[feature.Scope]string // answers without node; never changes
	nodes    []*feature.Nodes         // of accounts
	ofServer []*feature.ServerNodes
}

func errNoNode() error { return stanza.NewError(stanza.ItemNotFound, "there is no such node") }

func (h handler) serverInfo(ctx context.Context, q *feature.Query) (string, error) {
	node := q.Payload.Attr("node")
	switch node {
	case "":
		return h.info[feature.Server], nil
	case h.capsNode:
		return string(xep.AppendDiscoInfo(nil, node, h.server)), nil
	}
	for _, n := range h.ofServer {
		if info, ok, err := n.Info(ctx, q, node); ok || err != nil {
			return string(xep.AppendDiscoInfo(nil, node, info)), err
		}
	}
	return "", errNoNode()
}

// serverItems are the services of the server (XEP-0030 7: where there are none
// the answer is empty, not an error).
func (h handler) serverItems(ctx context.Context, q *feature.Query) (string, error) {
	node := q.Payload.Attr("node")
	switch node {
	case "", h.capsNode:
		return string(xep.AppendDiscoItems(nil, node, h.items)), nil
	}
	for _, n := range h.ofServer {
		if items, ok := n.Items(ctx, q, node); ok {
			return string(xep.AppendDiscoItems(nil, node, items)), nil
		}
	}
	return "", errNoNode()
}

// accountInfo is for an account's owner and for who may see its presence
// (XEP-0030 8, rule 1).
func (h handler) accountInfo(ctx context.Context, q *feature.Query) (string, error) {
	sees, err := q.AskerSees(ctx)
	switch {
	case err != nil:
		return "", err
	case !sees:
		return "", stanza.NewError(stanza.ServiceUnavailable, "")
	}
	if node := q.Payload.Attr("node"); node != "" {
		info, err := h.node(ctx, q, node)
		return string(xep.AppendDiscoInfo(nil, node, info)), err
	}
	return h.info[q.Scope], nil
}

// node finds a node of an account.
func (h handler) node(ctx context.Context, q *feature.Query, node string) (info xep.DiscoInfo, err error) {
	err = errNoNode()
	for _, n := range h.nodes {
		if info, err = n.Info(ctx, q, node); err == nil {
			break
		}
	}
	return info, err
}

// accountItems are the nodes of an account, and its resources: to its owner all that are
// connected, to others those that are available; nothing to who may not see
// them (XEP-0030 8, rule 2).
func (h handler) accountItems(ctx context.Context, q *feature.Query) (string, error) {
	node := q.Payload.Attr("node")
	sees, err := q.AskerSees(ctx)
	switch {
	case err != nil:
		return "", err
	case !sees:
		return string(xep.AppendDiscoItems(nil, node, nil)), nil
	case node != "": // it has none
		_, err := h.node(ctx, q, node)
		return string(xep.AppendDiscoItems(nil, node, nil)), err
	}
	snap, err := q.Owner.Snapshot(ctx)
	if err != nil {
		return "", err
	}
	var items []xep.DiscoItem
	for _, s := range snap.Sessions {
		if s.Available || q.Scope == feature.Account {
			items = append(items, xep.DiscoItem{JID: s.JID})
		}
	}
	for _, n := range h.nodes {
		names, err := n.List(ctx, q)
		if err != nil {
			return "", err
		}
		for _, name := range names {
			items = append(items, xep.DiscoItem{JID: q.Owner.JID(), Node: name.Node, Name: name.Name})
		}
	}
	return string(xep.AppendDiscoItems(nil, "", items)), nil
}
