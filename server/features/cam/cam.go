// Package cam shows a user the programs that have access to his account, and lets
// him end their access (XEP-0494). A client is what logged in under one user-agent
// id; a session whose client named none stands for itself. What access is, and how
// it ends, is the account's owner's and the store's business.
package cam

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// Clients is where clients are kept. Its methods may be called concurrently.
type Clients interface {
	// Clients lists an account's clients, by its id in the store.
	Clients(ctx context.Context, account int64) ([]store.Client, error)
	// EndClient revokes a client's tokens, ends its sessions and forgets it.
	EndClient(ctx context.Context, bare jid.JID, client string) error
}

// New is the feature. XEP-0494 names no feature for disco: its namespace is that of
// the account, which is who is asked.
func New(c Clients, now func() time.Time) feature.Feature {
	h := handler{c, now}
	name := func(local string) xmltree.Name { return xmltree.Name{Space: xep.NSCAM, Local: local} }
	return feature.Feature{
		Name:  "cam",
		Specs: []feature.Spec{{XEP: "0494", Version: "0.1.0", Note: "all clients have unrestricted access"}},
		Disco: []feature.Disco{{Scope: feature.Account, Vars: []string{xep.NSCAM}}},
		IQs: []feature.IQ{
			{Scope: feature.Account, Type: stanza.TypeGet, Name: name("list"), Handle: h.list},
			{Scope: feature.Account, Type: stanza.TypeSet, Name: name("revoke"), Handle: h.revoke},
		},
	}
}

type handler struct {
	clients Clients
	now     func() time.Time
}

// The two kinds of ids, so that a client's own choice is never taken for a session.
const (
	ofClient  = "client/"
	ofSession = "session/"
)

// sessionID is the id of a session without a known client. Resources may be longer than ids.
func sessionID(full jid.JID) string {
	sum := sha256.Sum256([]byte(full.Resource()))
	return ofSession + hex.EncodeToString(sum[:12])
}

// list is XEP-0494 3.1.
func (h handler) list(ctx context.Context, q *feature.Query) (string, error) {
	list, err := h.read(ctx, q.Owner)
	if err != nil {
		return "", err
	}
	return string(xep.AppendClients(nil, list)), nil
}

// read lists what has access to an account: clients that were seen, then sessions of
// others, which know the password, for nobody else gets one.
func (h handler) read(ctx context.Context, owner feature.AccountRef) ([]xep.Client, error) {
	// Sessions first: a client whose session is listed has been noted, or is about to be.
	snap, err := owner.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	id, err := owner.StoreID(ctx)
	if err != nil {
		return nil, err
	}
	known, err := h.clients.Clients(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("reading an account's clients: %w", err)
	}
	now := h.now()
	list := make([]xep.Client, 0, len(known)+len(snap.Sessions))
	for i := range known {
		c := &known[i]
		connected := slices.ContainsFunc(snap.Sessions, func(x feature.SessionInfo) bool { return x.Client == c.ID })
		list = append(list, xep.Client{
			ID: ofClient + c.ID, Connected: connected, Session: connected || c.Resource != "", FirstSeen: c.FirstSeen, LastSeen: c.LastSeen,
			Password: c.Password, Fast: c.TokenUntil.After(now), Software: c.Software, Device: c.Device,
		})
	}
	for i := range snap.Sessions {
		x := &snap.Sessions[i]
		if slices.ContainsFunc(known, func(c store.Client) bool { return c.ID == x.Client }) {
			continue
		}
		list = append(list, xep.Client{
			ID: sessionID(x.JID), Connected: true, Session: true, FirstSeen: x.Since, LastSeen: x.Since, Password: true, Device: x.JID.Resource(),
		})
	}
	return list, nil
}

// revoke is XEP-0494 3.2. Who revokes the client that asks is answered by the end of
// its stream.
func (h handler) revoke(ctx context.Context, q *feature.Query) (string, error) {
	id, err := xep.ParseRevoke(q.Payload)
	if err != nil {
		return "", err
	}
	list, err := h.read(ctx, q.Owner)
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(list, func(c xep.Client) bool { return c.ID == id })
	if i < 0 {
		return "", stanza.NewError(stanza.ItemNotFound, "no such client")
	}
	if list[i].Password {
		// Nothing is done by halves: to say that it was ended, and let it log in again,
		// would be worse than to say that it can't be.
		e := stanza.NewError(stanza.ServiceUnavailable, "the client knows the password: change it first")
		e.App = xep.PasswordResetRequired
		return "", e
	}
	return "", h.clients.EndClient(ctx, q.Owner.JID(), strings.TrimPrefix(id, ofClient))
}
