package store

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/server/store/sqlite"
)

// Invite is an invitation (XEP-0401).
type Invite struct {
	Domain  string
	Inviter jid.JID // bare; zero: the operator
	Name    string  // localpart that is meant; "": any
	Account bool    // an account can be made with it
	Ends    time.Time
}

// InvitePut keeps an invitation until it is taken or ends, and drops those that have ended. ErrLimit if there would be more than MaxOf of one inviter, or
// more than Max; ErrExists if somebody has the name, or it is kept for somebody.
type InvitePut struct {
	Token  string
	Invite Invite
	At     time.Time
	MaxOf  int // of one user; the operator may make Max
	Max    int
}

// InviteTake ends an invitation. ErrNotFound if there is none.
type InviteTake struct{ Token string }

func (o InvitePut) size() int  { return opOverhead + len(o.Token) + len(o.Invite.Name) }
func (o InviteTake) size() int { return opOverhead + len(o.Token) }

func inviteHash(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}

// inviter is how a row says who invites.
func (i *Invite) inviter() string { return i.Inviter.String() }

func (o InvitePut) exec(t *tx) error {
	i := &o.Invite
	if err := t.run(qInvitesEnded, o.At.UnixMicro()); err != nil {
		return err
	}
	if i.Name != "" {
		j, err := jid.New(i.Name, i.Domain, "")
		if err != nil {
			return fmt.Errorf("invitation for %q: %w", i.Name, ErrInvalid)
		}
		if _, taken, err := t.number(qAccountID, j.String()); err != nil || taken {
			return orExists(j, err)
		}
		if _, kept, err := t.number(qInviteName, i.Domain, i.Name, o.At.UnixMicro()); err != nil || kept {
			return orExists(j, err)
		}
	}
	for _, bound := range []struct {
		query string
		args  []any
		most  int
	}{{qInviteCount, nil, o.Max}, {qInviteCountOf, []any{i.inviter()}, o.MaxOf}} {
		n, _, err := t.number(bound.query, bound.args...)
		if err != nil {
			return err
		}
		if n >= int64(bound.most) && !(i.Inviter.IsZero() && bound.args != nil) {
			return fmt.Errorf("%d invitations wait to be taken: %w", n, ErrLimit)
		}
	}
	return t.run(qInvitePut, inviteHash(o.Token), i.Domain, i.inviter(), i.Name, i.Account, i.Ends.UnixMicro())
}

func orExists(j jid.JID, err error) error {
	if err == nil {
		err = fmt.Errorf("%s: %w", j, ErrExists)
	}
	return err
}

func (o InviteTake) exec(t *tx) error {
	if err := t.run(qInviteTake, inviteHash(o.Token)); err != nil {
		return err
	}
	if t.w.db.Changes() == 0 {
		return fmt.Errorf("invitation: %w", ErrNotFound)
	}
	return nil
}

// CreateInvited is CreateAccount with an invitation, which is taken by it. ErrNotFound if it was taken meanwhile.
func (s *Store) CreateInvited(ctx context.Context, bare jid.JID, keys []sasl.Keys, token string) (AccountID, error) {
	if !bare.IsBare() || bare.Local() == "" {
		return 0, fmt.Errorf("store: account %q: %w", bare, ErrInvalid)
	}
	var id AccountID
	at := s.opt.Now()
	if err := s.Commit(ctx, InviteTake{token}, accountCreate{jid: bare, at: at, keys: keys, id: &id}); err != nil {
		return 0, fmt.Errorf("store: creating %s: %w", bare, err)
	}
	return id, nil
}

// Invite returns the invitation of a token. ErrNotFound where there is none, or its time is over.
func (s *Store) Invite(ctx context.Context, token string, now time.Time) (Invite, error) {
	var i Invite
	err := s.read(ctx, func(c *conn) error {
		return c.each(qInviteGet, func(r *sqlite.Stmt) (err error) {
			i = Invite{Domain: r.ColText(0), Name: r.ColText(2), Account: r.ColInt(3) != 0, Ends: time.UnixMicro(r.ColInt(4)).UTC()}
			if inviter := r.ColText(1); inviter != "" {
				i.Inviter, err = parseJID(inviter)
			}
			return err
		}, inviteHash(token), now.UnixMicro())
	})
	if err == nil && i.Domain == "" {
		err = ErrNotFound
	}
	return i, err
}

// Invited reports whether a name is kept for who has an invitation.
func (s *Store) Invited(ctx context.Context, bare jid.JID, now time.Time) (kept bool, err error) {
	err = s.read(ctx, func(c *conn) error {
		return c.each(qInviteName, func(*sqlite.Stmt) error {
			kept = true
			return nil
		}, bare.Domain(), bare.Local(), now.UnixMicro())
	})
	return kept, err
}
