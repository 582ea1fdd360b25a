package server

import (
	"context"
	"errors"
	"os"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/server/account"
	"carillon.im/server/c2s"
	"carillon.im/server/features/register"
	"carillon.im/server/route"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/xep"
)

func pid() int { return os.Getpid() }

// accounts is what connections and in-band registration need of the accounts,
// in terms of the packages that have it.
type accounts struct{ server *Server }

// session is an account's session in the terms of package c2s.
type session struct{ *account.Session }

// Detach implements c2s.Session.
func (x session) Detach(t c2s.Transport) { x.Session.Detach(t) }

// Close implements c2s.Session.
func (x session) Close(t c2s.Transport) { x.Session.Close(t) }

// Next implements c2s.Session.
func (x session) Next(t c2s.Transport, dst []byte, limit int) ([]byte, bool) {
	return x.Session.Next(t, dst, limit)
}

// Bind implements c2s.Accounts.
func (a *accounts) Bind(ctx context.Context, r c2s.BindRequest) (c2s.Session, error) {
	x, err := a.server.hub.Bind(ctx, account.BindRequest{
		Account: r.Account, Resource: r.Resource, Transport: r.Transport, Conn: r.Conn, Address: r.Address})
	if err != nil {
		return nil, err
	}
	if err := begin(ctx, x, r); err != nil {
		x.Close(r.Transport) // nobody else would end it
		return nil, err
	}
	return session{x}, nil
}

// begin sets what Bind 2 asks for before the session is told anything.
func begin(ctx context.Context, x *account.Session, r c2s.BindRequest) error {
	if r.Inactive {
		x.SetActive(false)
	}
	switch r.Profile {
	case c2s.Carbons:
		return x.SetProfile(ctx, route.Carbons)
	case c2s.IMNG:
		return x.SetProfile(ctx, route.NG)
	case c2s.Synced:
		return x.SetProfile(ctx, route.V2)
	}
	return nil
}

// Archive implements c2s.Accounts.
func (a *accounts) Archive(ctx context.Context, s c2s.Session) (*stream.Archive, error) {
	owner := s.(session).Owner()
	id, err := owner.StoreID(ctx)
	if err != nil {
		return nil, err
	}
	settled, err := owner.Settled(ctx)
	if err != nil || settled == 0 {
		return &stream.Archive{}, err
	}
	first, last, err := a.server.store.ArchiveBounds(ctx, store.AccountID(id), store.ArchiveID(settled))
	if err != nil || last == 0 {
		return &stream.Archive{}, err
	}
	return &stream.Archive{Start: edge(first), End: edge(last)}, nil
}

func edge(id store.ArchiveID) xep.MAMEdge { return xep.MAMEdge{ID: id.String(), Stamp: id.Time()} }

// Sync implements c2s.Accounts: nothing of it is there yet, and so it isn't offered.
func (a *accounts) Sync(context.Context, c2s.Session, *xep.SessionRequest, []xep.SessionResult) error {
	return stanza.NewError(stanza.FeatureNotImplemented, "")
}

// Resume implements c2s.Accounts.
func (a *accounts) Resume(ctx context.Context, r c2s.ResumeRequest) (c2s.Session, c2s.Resumed, error) {
	x, resumed, err := a.server.hub.Resume(ctx, account.ResumeRequest{
		Account: r.Account, ID: r.ID, H: r.H, Transport: r.Transport, Conn: r.Conn, Address: r.Address})
	if err == nil {
		return session{x}, c2s.Resumed(resumed), nil
	}
	var refused *account.ResumeError
	if errors.As(err, &refused) {
		err = &c2s.ResumeError{Err: refused.Err, H: refused.H, Known: refused.Known}
	}
	return nil, c2s.Resumed{}, err
}

// Keys implements c2s.Credentials.
func (a *accounts) Keys(ctx context.Context, bare jid.JID, h sasl.Hash) (sasl.Keys, error) {
	keys, _, err := a.server.store.Keys(ctx, bare, h)
	if errors.Is(err, store.ErrNotFound) {
		err = sasl.ErrUnknownUser
	}
	return keys, err
}

// Create implements register.Accounts.
func (a *accounts) Create(ctx context.Context, bare jid.JID, password string) error {
	keys, err := a.derive(password)
	if err == nil {
		_, err = a.server.store.CreateAccount(ctx, bare, keys)
	}
	return err
}

// SetPassword implements register.Accounts.
func (a *accounts) SetPassword(ctx context.Context, bare jid.JID, password string) error {
	keys, err := a.derive(password)
	if err == nil {
		err = a.server.store.SetKeys(ctx, bare, keys)
	}
	return err
}

// Remove implements register.Accounts.
func (a *accounts) Remove(ctx context.Context, bare jid.JID) error {
	return a.server.store.RemoveAccount(ctx, bare)
}

// End implements register.Accounts.
func (a *accounts) End(ctx context.Context, bare jid.JID) error {
	return a.server.hub.AccountRemoved(ctx, bare)
}

func (a *accounts) derive(password string) ([]sasl.Keys, error) {
	keys, err := a.server.host.DeriveKeys(password)
	if errors.Is(err, sasl.ErrPassword) {
		err = register.ErrPassword
	}
	return keys, err
}
