package server

import (
	"context"
	"errors"
	"math"

	"carillon.im/jid"
	"carillon.im/server/c2s"
	"carillon.im/server/store"
)

// devices is what connections need of the programs that use accounts and of their
// tokens (XEP-0484), in terms of the store.
type devices struct{ server *Server }

// Tokens implements c2s.Clients.
func (k *devices) Tokens(ctx context.Context, bare jid.JID, client, mechanism string) ([]c2s.Token, error) {
	have, _, err := k.server.store.Tokens(ctx, bare, client)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	var list []c2s.Token
	for _, t := range []store.Token{have.New, have.Current} {
		if len(t.Value) > 0 && t.Mechanism == mechanism {
			list = append(list, c2s.Token{Secret: string(t.Value), Mechanism: t.Mechanism, Issued: t.Issued, Expiry: t.Expires})
		}
	}
	return list, err
}

// UseToken implements c2s.Clients.
func (k *devices) UseToken(ctx context.Context, bare jid.JID, client string, use c2s.TokenUse) error {
	id, err := k.account(ctx, bare)
	if err != nil {
		return err
	}
	ops := []store.Op{store.TokenUse{
		Account: id, Client: client, Value: []byte(use.Token.Secret), Counter: int64(min(use.Count, math.MaxInt64)), At: use.At,
	}}
	if use.Invalidate {
		ops = append(ops, store.TokenDelete{Account: id, Client: client})
	}
	err = k.server.store.Commit(ctx, ops...)
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrReplayed) {
		return c2s.ErrTokenUsed
	}
	return err
}

// IssueToken implements c2s.Clients.
func (k *devices) IssueToken(ctx context.Context, bare jid.JID, client string, t c2s.Token) error {
	id, err := k.account(ctx, bare)
	if err != nil {
		return err
	}
	return k.server.store.Commit(ctx, store.TokenPut{Account: id, Client: client, Token: store.Token{
		Mechanism: t.Mechanism, Value: []byte(t.Secret), Issued: t.Issued, Expires: t.Expiry}})
}

// ClientSeen implements c2s.Clients. It doesn't wait for the commit where the client
// knows the password: what is committed later, such as its token, finds it.
func (k *devices) ClientSeen(ctx context.Context, bare jid.JID, seen c2s.Client) error {
	id, err := k.account(ctx, bare)
	if err != nil {
		return err
	}
	op := store.ClientSeen{
		Account: id, ID: seen.ID, Software: seen.Software, Device: seen.Device, Address: seen.Address.String(), Mechanism: seen.Mechanism,
		SASL2: true, Password: !seen.ByToken, Known: seen.ByToken, Tag: seen.Tag, Resource: seen.Resource, At: seen.At,
	}
	if seen.ByToken {
		err := k.server.store.Commit(ctx, op)
		if errors.Is(err, store.ErrNotFound) {
			return c2s.ErrTokenUsed
		}
		return err
	}
	k.server.store.Submit(store.Unit{
		Ops: []store.Op{op},
		Done: func(err error) {
			if err != nil {
				k.server.log.Error("a client can't be noted", "account", bare, "error", err)
			}
		},
	})
	return nil
}

// Clients implements cam.Clients.
func (k *devices) Clients(ctx context.Context, account int64) ([]store.Client, error) {
	return k.server.store.Clients(ctx, store.AccountID(account))
}

// EndClient implements cam.Clients.
func (k *devices) EndClient(ctx context.Context, bare jid.JID, client string) error {
	return k.server.hub.EndClient(ctx, bare, client)
}

// account finds the store's id of an account that somebody has proved to own.
func (k *devices) account(ctx context.Context, bare jid.JID) (store.AccountID, error) {
	id, err := k.server.hub.Account(bare).StoreID(ctx)
	return store.AccountID(id), err
}
