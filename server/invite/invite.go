// Package invite is invitations: links with which somebody becomes a contact or makes
// an account (XEP-0379, 0401, 0445).
//
// A link carries a token, 128 random bits, and the store keeps its hash, with what the
// token is good for and until when. It is taken once: by the account that is made
// with it, in one transaction with that account, or by the first request for a
// subscription that brings it. Then the inviter and who came are each other's
// contacts, both ways. There are bounds on how many wait, of one user and in all.
package invite

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/server/features/register"
	"carillon.im/server/store"
	"carillon.im/xep"
)

// Path is where the pages of invitations are.
const Path = "/invite/"

// Bounds of what waits to be taken.
const (
	maxOf  = 20
	maxAll = 10_000
	// MaxDays is how long an invitation may last.
	MaxDays = 365
)

// Options are what New needs.
type Options struct {
	Store *store.Store
	Now   func() time.Time
	Log   *slog.Logger
	// Base is where the web finds the domain's server, without a slash at the end; ""
	// where it doesn't: then links have no page.
	Base func(domain string) string
	// Keys derives what is stored of a password; its error is for the user.
	Keys func(password string) ([]sasl.Keys, error)
	// Befriend makes with a contact of owner. It is nil where no server runs.
	Befriend func(ctx context.Context, owner, with jid.JID) error
}

// Service makes invitations and takes them back. Its methods may be called
// concurrently.
type Service struct {
	opt  Options
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup
	view *template.Template
	busy chan struct{} // requests with tokens that are being looked at
}

// New makes a service.
func New(o Options) *Service {
	s := &Service{opt: o, view: template.Must(template.New("invite").Parse(text)), busy: make(chan struct{}, 64)}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

// Close waits for what is under way.
func (s *Service) Close() {
	s.stop()
	s.wg.Wait()
}

// Link is an invitation as somebody gets it.
type Link struct {
	URI  string    `json:"uri"`           // xmpp:, for clients
	Page string    `json:"url,omitempty"` // for browsers, which say what to do
	Ends time.Time `json:"ends"`
}

// Make makes an invitation that is good for so many days. Errors for people:
// store.ErrLimit if too many wait, store.ErrExists if the name is taken or kept.
func (s *Service) Make(ctx context.Context, i store.Invite, days int) (Link, error) {
	now := s.opt.Now()
	if days < 1 || days > MaxDays {
		return Link{}, fmt.Errorf("an invitation is good for 1 to %d days", MaxDays)
	}
	i.Ends = now.Add(time.Duration(days) * 24 * time.Hour).Truncate(time.Second)
	token := rand.Text()
	if err := s.opt.Store.Commit(ctx, store.InvitePut{Token: token, Invite: i, At: now, MaxOf: maxOf, Max: maxAll}); err != nil {
		return Link{}, err
	}
	return s.link(i, token), nil
}

func (s *Service) link(i store.Invite, token string) Link {
	l := Link{URI: uri(i, token), Ends: i.Ends}
	if base := s.opt.Base(i.Domain); base != "" {
		l.Page = base + Path + url.PathEscape(token)
	}
	return l
}

func uri(i store.Invite, token string) string {
	if i.Inviter.IsZero() || i.Name != "" {
		return xep.RegisterURI(i.Domain, i.Name, token)
	}
	return xep.ContactURI(i.Inviter, token, i.Account)
}

// Name implements register.Invites.
func (s *Service) Name(ctx context.Context, domain jid.JID, token string, shown bool) (string, error) {
	now := s.opt.Now()
	if shown {
		now = anyTime()
	}
	i, err := s.opt.Store.Invite(ctx, token, now)
	if err == nil && (!i.Account || i.Domain != domain.Domain()) {
		err = store.ErrNotFound
	}
	return i.Name, err
}

// anyTime is before the end of every invitation.
func anyTime() time.Time { return time.Unix(0, 0) }

// Accept implements register.Invites: the account comes with its inviter as a
// contact.
func (s *Service) Accept(ctx context.Context, token string, bare jid.JID, password string) error {
	i, err := s.opt.Store.Invite(ctx, token, anyTime()) // that it was shown in time was seen before
	if err != nil {
		return err
	}
	keys, err := s.opt.Keys(password)
	if errors.Is(err, sasl.ErrPassword) {
		err = register.ErrPassword
	}
	if err != nil {
		return err
	}
	if _, err := s.opt.Store.CreateInvited(ctx, bare, keys, token); err != nil {
		return err
	}
	s.opt.Log.Info("invitation taken", "account", bare, "inviter", i.Inviter)
	if i.Inviter.IsZero() {
		return nil
	}
	// First the inviter, who approves and asks; then who came, who answers and asks in
	// turn. The account is there whatever comes of it.
	for _, side := range [][2]jid.JID{{i.Inviter, bare}, {bare, i.Inviter}} {
		if err := s.opt.Befriend(ctx, side[0], side[1]); err != nil {
			s.opt.Log.Warn("who was invited is no contact", "account", side[0], "contact", side[1], "error", err)
		}
	}
	return nil
}

// Kept implements register.Invites.
func (s *Service) Kept(ctx context.Context, bare jid.JID) (bool, error) {
	return s.opt.Store.Invited(ctx, bare, s.opt.Now())
}

// Subscribes hears of a request for owner's presence that brought a token. It returns
// at once; if there is too much to do, the owner answers the request by hand
// (XEP-0379 4.1).
func (s *Service) Subscribes(owner, from jid.JID, token string) {
	select {
	case s.busy <- struct{}{}:
	default:
		return
	}
	s.wg.Go(func() {
		defer func() { <-s.busy }()
		if err := s.subscribes(s.ctx, owner, from, token); err != nil && !errors.Is(err, store.ErrNotFound) && s.ctx.Err() == nil {
			s.opt.Log.Warn("an invited contact could not be added", "account", owner, "contact", from, "error", err)
		}
	})
}

func (s *Service) subscribes(ctx context.Context, owner, from jid.JID, token string) error {
	i, err := s.opt.Store.Invite(ctx, token, s.opt.Now())
	if err != nil || i.Inviter != owner {
		return err
	}
	if err := s.opt.Store.Commit(ctx, store.InviteTake{Token: token}); err != nil {
		return err
	}
	return s.opt.Befriend(ctx, owner, from)
}
