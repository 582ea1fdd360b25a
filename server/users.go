package server

import (
	"context"
	"errors"
	"os"
	"slices"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/server/account"
	"carillon.im/server/c2s"
	"carillon.im/server/feature"
	"carillon.im/server/features/register"
	"carillon.im/server/route"
	"carillon.im/server/store"
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
func (a *accounts) Bind(ctx context.Context, r c2s.BindRequest) (c2s.Session, c2s.Bound, error) {
	x, err := a.server.hub.Bind(ctx, account.BindRequest{
		Account: r.Account, Resource: r.Resource, Client: r.Client, Transport: r.Transport, Conn: r.Conn, Address: r.Address,
		Profile: profile(r.Profile), Request: r.Session, Bind2: r.Inline})
	if err != nil {
		return nil, c2s.Bound{}, err
	}
	if !r.Inline {
		return session{x}, c2s.Bound{}, nil
	}
	if r.Inactive {
		x.SetActive(false)
	}
	b := c2s.Bound{Results: x.Results()}
	if b.Archive, err = a.archive(ctx, x); err != nil {
		// It spares the client a question, no more.
		a.server.log.Error("an archive's bounds can't be read", "account", r.Account, "error", err)
	}
	return session{x}, b, nil
}

func profile(p c2s.Profile) route.Profile {
	switch p {
	case c2s.Carbons:
		return route.Carbons
	case c2s.IMNG:
		return route.NG
	case c2s.Synced:
		return route.V2
	}
	return route.Classic
}

// archive is what the session's archive holds.
func (a *accounts) archive(ctx context.Context, x *account.Session) (*stream.Archive, error) {
	owner := x.Owner()
	id, err := owner.StoreID(ctx)
	if err != nil {
		return nil, err
	}
	settled, err := owner.Settled(ctx)
	if err != nil || settled == 0 {
		return &stream.Archive{}, err
	}
	first, last, err := a.server.store.ArchiveBounds(ctx, store.AccountID(id), store.ArchiveID(settled))
	if err != nil {
		return nil, err
	}
	if last == 0 {
		return &stream.Archive{}, nil
	}
	return &stream.Archive{Start: edge(first), End: edge(last)}, nil
}

func edge(id store.ArchiveID) xep.MAMEdge { return xep.MAMEdge{ID: id.String(), Stamp: id.Time()} }

// Resume implements c2s.Accounts.
func (a *accounts) Resume(ctx context.Context, r c2s.ResumeRequest) (c2s.Session, c2s.Resumed, error) {
	x, resumed, err := a.server.hub.Resume(ctx, account.ResumeRequest{
		Account: r.Account, ID: r.ID, H: r.H, Client: r.Client, Transport: r.Transport, Conn: r.Conn, Address: r.Address})
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
		err = &sasl.UnknownUser{Iterations: a.server.disguise.iterations(bare)}
	}
	return keys, err
}

// AddKeys implements c2s.Upgrades. Keys that came to be there meanwhile stay: another
// device was faster, or the password has changed.
func (a *accounts) AddKeys(ctx context.Context, bare jid.JID, keys sasl.Keys) error {
	err := a.server.store.AddKeys(ctx, bare, keys)
	if errors.Is(err, store.ErrExists) {
		return nil
	}
	return err
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
func (a *accounts) SetPassword(ctx context.Context, by jid.JID, password string) error {
	keys, err := a.derive(password)
	if err != nil {
		return err
	}
	sessions, err := a.server.hub.Sessions(ctx, by.Bare())
	if err != nil {
		return err
	}
	client := ""
	if i := slices.IndexFunc(sessions, func(x feature.SessionInfo) bool { return x.JID == by }); i >= 0 {
		client = sessions[i].Client
	}
	return a.server.store.SetKeys(ctx, by.Bare(), keys, client)
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
