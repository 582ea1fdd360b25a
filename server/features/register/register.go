// Package register lets users change their password and remove their account
// (XEP-0077), and, where the operator allows it, strangers make one.
//
// The feature serves who is logged in; a Registrar serves a connection before
// it is. Passwords pass through to the functions given and are kept nowhere.
package register

import (
	"context"
	"errors"
	"fmt"
	"time"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// Accounts changes accounts. Its methods derive the keys that the store holds
// from a password; ErrPassword is for a password that can't be one. They may
// be called concurrently.
type Accounts interface {
	// Create fails with store.ErrExists if there is such an account.
	Create(ctx context.Context, bare jid.JID, password string) error
	// SetPassword gives the account of the session by, a full JID, another password,
	// which the client of that session knows.
	SetPassword(ctx context.Context, by jid.JID, password string) error
	// Remove removes the account with all that it has.
	Remove(ctx context.Context, bare jid.JID) error
	// End ends the sessions of an account that was removed, with the stream
	// error not-authorized (XEP-0077 3.2).
	End(ctx context.Context, bare jid.JID) error
}

// ErrPassword is what Accounts returns for a password that no key can be
// derived from, such as one with control characters (RFC 8265 4.2).
var ErrPassword = errors.New("register: password not allowed")

// New is the feature for users who are logged in.
func New(a Accounts) feature.Feature {
	h := handler{a}
	name := xmltree.Name{Space: xep.NSRegister, Local: "query"}
	return feature.Feature{
		Name:  "register",
		Specs: []feature.Spec{{XEP: "0077", Version: "2.4", Note: "no data forms, no redirection"}},
		Disco: []feature.Disco{{Scope: feature.Server, Vars: []string{xep.NSRegister}}},
		IQs: []feature.IQ{
			{Scope: feature.Account, Type: stanza.TypeGet, Name: name, Handle: h.get},
			{Scope: feature.Account, Type: stanza.TypeSet, Name: name, Handle: h.set},
			{Scope: feature.Server, Type: stanza.TypeGet, Name: name, Handle: h.get},
			{Scope: feature.Server, Type: stanza.TypeSet, Name: name, Handle: h.set},
		},
	}
}

type handler struct{ accounts Accounts }

// get answers with what is on file (XEP-0077 3.1).
func (h handler) get(_ context.Context, q *feature.Query) (string, error) {
	if err := ownSession(q); err != nil {
		return "", err
	}
	return string(xep.AppendRegistered(nil, q.Owner.JID().Local())), nil
}

// set changes the password (XEP-0077 3.3) or removes the account (3.2).
func (h handler) set(ctx context.Context, q *feature.Query) (string, error) {
	if err := ownSession(q); err != nil {
		return "", err
	}
	r, err := xep.ParseRegistration(q.Payload)
	if err != nil {
		return "", err
	}
	owner := q.Owner.JID()
	if r.Remove {
		return "", h.remove(ctx, q)
	}
	if r.Username == "" || r.Password == "" {
		return "", stanza.NewError(stanza.BadRequest, "username and password are needed")
	}
	named, err := jid.New(r.Username, owner.Domain(), "")
	if err != nil || named != owner {
		return "", stanza.NewError(stanza.BadRequest, "the username is not that of the account")
	}
	if err = h.accounts.SetPassword(ctx, q.Session.JID(), r.Password); errors.Is(err, ErrPassword) {
		return "", stanza.NewError(stanza.NotAcceptable, "the password is not allowed")
	} else if err != nil {
		return "", fmt.Errorf("changing a password: %w", err)
	}
	return "", nil
}

// answerTime is how long a client has to read that its account is removed.
const answerTime = 2 * time.Second

// remove removes the asker's account. The result is sent from here: it has to
// leave before the stream error, and the one that is made of what set returns
// finds the session ended.
func (h handler) remove(ctx context.Context, q *feature.Query) error {
	owner := q.Owner.JID()
	if err := h.accounts.Remove(ctx, owner); err != nil {
		return fmt.Errorf("removing an account: %w", err)
	}
	// The answer comes before the end of the stream (XEP-0077 3.2). Whether or not
	// somebody is left to read it, the sessions end.
	sent := q.Session.Send(ctx, q.IQ.Reply("").AppendTo(nil))
	if sent == nil {
		wait, cancel := context.WithTimeout(ctx, answerTime)
		sent = q.Session.Flush(wait)
		cancel()
	}
	return errors.Join(sent, h.accounts.End(ctx, owner))
}

// ownSession refuses who is no user of this server, or of another of its
// domains (XEP-0077 tables 1 and 2).
func ownSession(q *feature.Query) error {
	if q.Session == nil {
		return stanza.NewError(stanza.RegistrationRequired, "")
	}
	if to := q.IQ.To; q.Scope == feature.Server && !to.IsZero() && to.Domain() != q.Owner.JID().Domain() {
		return stanza.NewError(stanza.RegistrationRequired, "")
	}
	return nil
}

// Invites are invitations to make an account (XEP-0445). A token that is good for
// nothing is store.ErrNotFound. The methods may be called concurrently.
type Invites interface {
	// Name is the username that a token is for, "" for any. A token that was shown in
	// time is as good a minute later (XEP-0445 4): shown tells that it was.
	Name(ctx context.Context, domain jid.JID, token string, shown bool) (string, error)
	// Accept makes the account and ends the invitation, or does neither; its errors are
	// those of Accounts.Create besides.
	Accept(ctx context.Context, token string, bare jid.JID, password string) error
	// Kept reports whether a username is kept for who is invited.
	Kept(ctx context.Context, bare jid.JID) (bool, error)
}

// Registrar makes accounts for strangers, on a connection that isn't
// authenticated (XEP-0077 3.1.1). Its user bounds how often.
type Registrar struct {
	Accounts  Accounts
	Strangers bool    // may make one without a token
	Tokens    Invites // nil: there are none
}

// Open tells that no token is needed.
func (r Registrar) Open() bool { return r.Strangers }

// Invites tells that there are tokens.
func (r Registrar) Invites() bool { return r.Tokens != nil }

// Welcome finds whether a token is good (XEP-0445 4).
func (r Registrar) Welcome(ctx context.Context, domain jid.JID, token string) error {
	err := store.ErrNotFound
	if r.Tokens != nil {
		_, err = r.Tokens.Name(ctx, domain, token, false)
	}
	if errors.Is(err, store.ErrNotFound) {
		return stanza.NewError(stanza.ItemNotFound, "the invitation is not known, was taken, or has ended")
	}
	return err
}

// Answer answers one request to a domain of this server: the payload of the
// result, or an error, a *stanza.Error or one to log.
func (r Registrar) Answer(ctx context.Context, domain jid.JID, token string, iq *stanza.Stanza) (payload string, err error) {
	el := iq.Payload()
	if !el.Is(xep.NSRegister, "query") {
		return "", stanza.NewError(stanza.NotAuthorized, "")
	}
	switch iq.Type {
	case stanza.TypeGet:
		return r.Form(), nil
	case stanza.TypeSet:
		reg, err := xep.ParseRegistration(el)
		if err != nil {
			return "", err
		}
		if reg.Remove {
			return "", stanza.NewError(stanza.UnexpectedRequest, "nobody is logged in") // table 1
		}
		return "", r.Register(ctx, domain, token, reg.Username, reg.Password)
	}
	return "", stanza.NewError(stanza.BadRequest, "")
}

// Form is the answer to a get: what is needed (XEP-0077 3.1).
func (r Registrar) Form() string { return xep.RegisterForm }

// Register makes the account username at domain. Its errors: not-acceptable
// for a missing or impossible username or password, conflict for a username
// that is taken (XEP-0077 3.1), item-not-found for a token that others have used
// meanwhile.
func (r Registrar) Register(ctx context.Context, domain jid.JID, token, username, password string) error {
	if username == "" || password == "" {
		return stanza.NewError(stanza.NotAcceptable, "username and password are needed")
	}
	bare, err := jid.New(username, domain.Domain(), "")
	if err != nil {
		return stanza.NewError(stanza.NotAcceptable, "the username is not allowed")
	}
	switch err = r.create(ctx, token, bare, password); {
	case errors.Is(err, store.ErrExists):
		return stanza.NewError(stanza.Conflict, "the username is taken")
	case errors.Is(err, ErrPassword):
		return stanza.NewError(stanza.NotAcceptable, "the password is not allowed")
	case errors.Is(err, store.ErrNotFound):
		return stanza.NewError(stanza.ItemNotFound, "the invitation was taken")
	case errors.Is(err, errOtherName):
		return stanza.NewError(stanza.NotAcceptable, "the invitation is for another username")
	case err != nil:
		return fmt.Errorf("registering an account: %w", err)
	}
	return nil
}

// errOtherName tells that an invitation names somebody else.
var errOtherName = errors.New("register: another name")

func (r Registrar) create(ctx context.Context, token string, bare jid.JID, password string) error {
	if token != "" && r.Tokens != nil {
		domain, err := jid.New("", bare.Domain(), "")
		if err != nil {
			return err
		}
		name, err := r.Tokens.Name(ctx, domain, token, true)
		if err == nil && name != "" && name != bare.Local() {
			err = errOtherName
		}
		if err != nil {
			return err
		}
		if name == bare.Local() {
			return r.Tokens.Accept(ctx, token, bare, password)
		}
	}
	if r.Tokens != nil {
		if kept, err := r.Tokens.Kept(ctx, bare); err != nil || kept {
			return errors.Join(err, fmt.Errorf("%s is kept: %w", bare, store.ErrExists))
		}
	}
	if token != "" && r.Tokens != nil {
		return r.Tokens.Accept(ctx, token, bare, password)
	}
	if !r.Strangers {
		return store.ErrNotFound
	}
	return r.Accounts.Create(ctx, bare, password)
}
