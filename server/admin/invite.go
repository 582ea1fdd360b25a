package admin

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"rsc.io/qr"

	"carillon.im/jid"
	"carillon.im/server/store"
)

// InviteFunc makes an invitation that is good for so many days.
type InviteFunc func(ctx context.Context, i store.Invite, days int) (Invitation, error)

// Invitation is the data of "user invite".
type Invitation struct {
	URI  string    `json:"uri"`           // xmpp:, for clients
	Page string    `json:"url,omitempty"` // for browsers; empty where the server isn't on the web
	Ends time.Time `json:"ends"`
}

// inviteDays is how long an invitation is good if nothing is said.
const inviteDays = 7

func inviteCalls() []Call {
	return []Call{{
		Name: "user invite", Help: "invite somebody to make an account",
		Long: "Makes an invitation and shows it as a link and as a QR code. Whoever has it can make one account, until it ends, also where registration\n" +
			"is off. The link leads to a page that says what to do, if the server is on the web (https, or web.url).",
		Example: "carillon user invite\ncarillon user invite --for romeo --days 30",
		Args: []Arg{
			{Name: "for", Help: "`NAME` of the account, as in romeo; it is kept until the invitation ends", Optional: true, Flag: true},
			{Name: "at", Help: "`DOMAIN` of the account, if it isn't the first", Optional: true, Flag: true},
			{Name: "days", Help: "`DAYS` that it is good for, 7 if nothing is said", Optional: true, Flag: true},
		},
		Creates: true,
		run:     userInvite,
	}}
}

func userInvite(ctx context.Context, h *Host, args map[string]string) (Result, error) {
	if h.Invite == nil {
		return Result{}, errors.New("invitations are off (the key invites.who)")
	}
	days := inviteDays
	if s := args["days"]; s != "" {
		var err error
		if days, err = strconv.Atoi(s); err != nil {
			return Result{}, fmt.Errorf("--days %q is no number", s)
		}
	}
	domain := h.Domains[0]
	if s := args["at"]; s != "" {
		j, err := jid.Parse(s)
		if err != nil || !h.serves(j.Domain()) {
			return Result{}, fmt.Errorf("%q is no domain of this server (it serves %s)", s, strings.Join(h.Domains, ", "))
		}
		domain = j.Domain()
	}
	i := store.Invite{Domain: domain, Account: true}
	if s := args["for"]; s != "" {
		name, at, _ := strings.Cut(s, "@")
		j, err := jid.New(name, domain, "")
		if err != nil || j.Local() == "" || at != "" && at != domain {
			return Result{}, fmt.Errorf("%q is no name of an account at %s", s, domain)
		}
		i.Name = j.Local()
	}
	l, err := h.Invite(ctx, i, days)
	switch {
	case errors.Is(err, store.ErrExists):
		return Result{}, fmt.Errorf("%s@%s exists already, or is kept for somebody who is invited", i.Name, domain)
	case errors.Is(err, store.ErrLimit):
		return Result{}, errors.New("too many invitations wait to be taken: they go as they end")
	case err != nil:
		return Result{}, err
	}
	show := l.URI
	if l.Page != "" {
		show = l.Page
	}
	code, err := QR(show)
	if err != nil {
		return Result{}, fmt.Errorf("the QR code: %w", err)
	}
	text := fmt.Sprintf("%s\n%s\ngood until %s, for one account\n", code, show, l.Ends.Format("2006-01-02 15:04 MST"))
	if l.Page == "" {
		text += "(there is no page for browsers: the server is not on the web, see https and web.url)\n"
	}
	return Result{Text: text, Data: l}, nil
}

// QR is a text as a QR code of half blocks, for a terminal. What is light is drawn: dark letters on a light screen read as well, phones take both.
func QR(text string) (string, error) {
	code, err := qr.Encode(text, qr.L)
	if err != nil {
		return "", err
	}
	const quiet = 2 // modules around; the standard's four would take much of a screen
	var b strings.Builder
	light := func(x, y int) bool { return !code.Black(x, y) } // outside is light
	for y := -quiet; y < code.Size+quiet; y += 2 {
		for x := -quiet; x < code.Size+quiet; x++ {
			switch up, down := light(x, y), y+1 < code.Size+quiet && light(x, y+1); {
			case up && down:
				b.WriteRune('█')
			case up:
				b.WriteRune('▀')
			case down:
				b.WriteRune('▄')
			default:
				b.WriteByte(' ')
			}
		}
		b.WriteByte('\n')
	}
	return b.String(), nil
}
