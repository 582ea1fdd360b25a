package server

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"time"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/server/admin"
	"carillon.im/server/config"
	"carillon.im/server/feature"
	"carillon.im/server/features/adhoc"
	"carillon.im/server/invite"
	"carillon.im/server/store"
	"carillon.im/stanza"
	"carillon.im/xep"
)

// newInvites makes the invitations of a server, nil where there are none.
func (s *Server) newInvites(now func() time.Time) *invite.Service {
	if s.cfg.Invites.Who == "off" {
		return nil
	}
	return invite.New(invite.Options{
		Store: s.store, Now: now, Log: s.log, Keys: func(password string) ([]sasl.Keys, error) { return s.host.DeriveKeys(password) },
		Base: func(domain string) string {
			if !onWeb(s.cfg) {
				return ""
			}
			return s.webBase(domain)
		},
		Befriend: func(ctx context.Context, owner, with jid.JID) error { return s.hub.Befriend(ctx, owner, with) },
	})
}

// invited is account.Config.Invited.
func (s *Server) invited(owner, from jid.JID, token string) {
	if s.invites != nil {
		s.invites.Subscribes(owner, from, token)
	}
}

// onWeb reports whether browsers reach the server.
func onWeb(cfg config.Config) bool { return cfg.HTTPS != config.Off || cfg.Web.URL != "" }

// MakeInvite is how a Host makes invitations where no server runs.
func MakeInvite(cfg config.Config, s *store.Store) admin.InviteFunc {
	if cfg.Invites.Who == "off" {
		return nil
	}
	base := func(domain string) string {
		_, port, err := net.SplitHostPort(cfg.HTTPS)
		switch {
		case cfg.Web.URL != "":
			return cfg.Web.URL
		case !onWeb(cfg) || err != nil:
			return ""
		case port == "443":
			return "https://" + domain
		}
		return "https://" + domain + ":" + port
	}
	return inviteFunc(invite.New(invite.Options{Store: s, Now: time.Now, Base: base}))
}

func inviteFunc(s *invite.Service) admin.InviteFunc {
	return func(ctx context.Context, i store.Invite, days int) (admin.Invitation, error) {
		l, err := s.Make(ctx, i, days)
		return admin.Invitation(l), err
	}
}

// beside declares what is done without a handler: on the command line, before
// anybody is logged in, in what one account does to another.
func beside() feature.Feature {
	return feature.Feature{
		Name: "admin",
		Specs: []feature.Spec{
			{XEP: "0227", Version: "1.1", Note: "privacy lists as far as they are block lists; rooms besides"},
			{XEP: "0379", Version: "0.3.3", Note: "tokens of the server's own invitations"},
			{XEP: "0401", Version: "0.6.0"},
			{XEP: "0445", Version: "0.2.0"},
		},
	}
}

// inviteCommands are XEP-0401 5.1 and 5.4: users invite contacts, and who may let
// others make an account does.
func inviteCommands(cfg config.Config, invites func() *invite.Service) []adhoc.Command {
	if cfg.Invites.Who == "off" {
		return nil
	}
	trusted := func(bare jid.JID) bool {
		return cfg.Invites.Who == "users" || cfg.Invites.Who == "admins" && slices.Contains(cfg.Admins, bare.String())
	}
	give := func(ctx context.Context, i store.Invite) (adhoc.Answer, error) {
		l, err := invites().Make(ctx, i, cfg.Invites.Days)
		switch {
		case errors.Is(err, store.ErrLimit):
			return adhoc.Answer{}, stanza.NewError(stanza.ResourceConstraint, "too many of your invitations wait to be taken")
		case errors.Is(err, store.ErrExists):
			return adhoc.Answer{}, stanza.NewError(stanza.Conflict, "the name is taken")
		case err != nil:
			return adhoc.Answer{}, err
		}
		fields := []xep.FormField{{Var: "uri", Type: "text-single", Label: "Invitation", Values: []string{l.URI}}}
		if l.Page != "" {
			fields = append(fields, xep.FormField{Var: "landing-url", Type: "text-single", Label: "Page", Values: []string{l.Page}})
		}
		ends := string(xep.AppendDateTime(nil, l.Ends))
		return adhoc.Answer{FormType: xep.NSInvitation, Fields: append(fields, xep.FormField{Var: "expire", Type: "text-single", Label: "Good until", Values: []string{ends}})}, nil
	}
	return []adhoc.Command{
		{Node: xep.NodeInvite, Name: "Invite a contact", May: func(jid.JID) bool { return true },
			Run: func(ctx context.Context, by jid.JID, _ map[string][]string) (adhoc.Answer, error) {
				return give(ctx, store.Invite{Domain: by.Domain(), Inviter: by, Account: trusted(by)})
			}},
		{Node: xep.NodeCreateAccount, Name: "Invite somebody to make an account", May: trusted, FormType: xep.NodeCreateAccount,
			Form: []xep.FormField{{Var: "username", Type: "text-single", Label: "Username"}, {Var: "roster-subscription", Type: "boolean", Label: "Become contacts"}},
			Run: func(ctx context.Context, by jid.JID, values map[string][]string) (adhoc.Answer, error) {
				i := store.Invite{Domain: by.Domain(), Account: true}
				if v := values["username"]; len(v) > 0 {
					j, err := jid.New(strings.TrimSpace(v[0]), by.Domain(), "")
					if err != nil || j.Local() == "" {
						return adhoc.Answer{}, stanza.NewError(stanza.NotAcceptable, "the username is not allowed")
					}
					i.Name = j.Local()
				}
				if v := values["roster-subscription"]; len(v) > 0 && (v[0] == "1" || v[0] == "true") {
					i.Inviter = by
				}
				return give(ctx, i)
			}},
	}
}
