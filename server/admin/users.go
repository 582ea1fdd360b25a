package admin

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/server/store"
)

func userCalls() []Call {
	account := Arg{Name: "jid", Help: "the account, as in romeo@localhost"}
	return []Call{
		{
			Name: "user add", Help: "make an account",
			Long: "Makes an account. The password is asked for twice, or read from standard input with --password-stdin.\n" +
				"Only keys derived from it are stored (SCRAM-SHA-1, -256 and -512).",
			Example: "carillon user add romeo@localhost\npass show xmpp/romeo | carillon user add romeo@localhost --password-stdin",
			Args:    []Arg{account, {Name: "password", Help: "the password", Secret: true, New: true}},
			Creates: true,
			run:     userAdd,
			prepare: addable,
		},
		{
			Name: "user passwd", Help: "change an account's password",
			Long:    "Changes the password. Devices that are connected stay connected; the next time they log in they need the new password.",
			Example: "carillon user passwd romeo@localhost",
			Args:    []Arg{account, {Name: "password", Help: "the new password", Secret: true, New: true}},
			run:     userPasswd,
			prepare: isThere,
		},
		{
			Name: "user remove", Help: "remove an account with all that belongs to it",
			Long: "Removes the account, its contacts and its archive, and ends its sessions. There is no way back.\n" +
				"Other accounts keep their side of the conversations.",
			Example: "carillon user remove romeo@localhost",
			Args:    []Arg{account},
			Confirm: "Remove %s with its contacts and its archive, for ever?",
			run:     userRemove,
			prepare: isThere,
		},
		{
			Name: "user list", Help: "list accounts",
			Long:    "Lists the accounts of one domain, or all, one on a line.",
			Example: "carillon user list\ncarillon user list localhost",
			Args:    []Arg{{Name: "domain", Help: "only accounts of this domain", Optional: true}},
			run:     userList,
		},
		{
			Name: "user domains", Help: "count the accounts of each domain",
			Long:    "Shows how many accounts each domain has: those that are served, and those that no longer are, under which nobody can log in.",
			Example: "carillon user domains",
			run:     userDomains,
		},
		{
			Name: "user devices", Help: "show an account's devices, or end one",
			Long: devicesHelp,
			Example: "carillon user devices romeo@localhost\n" +
				"carillon user devices romeo@localhost --end d4565fa7-4d72-4749-b3d3-740edbf87770",
			Args: []Arg{account, {Name: "end", Help: "`ID` of a client, or its beginning, whose access is ended", Optional: true, Flag: true}},
			run:  userDevices,
		},
	}
}

func userAdd(ctx context.Context, h *Host, args map[string]string) (Result, error) {
	bare, err := h.newAccount(args["jid"])
	if err != nil {
		return Result{}, err
	}
	keys, err := h.DeriveKeys(args["password"])
	if err != nil {
		return Result{}, err
	}
	if _, err := h.Store.CreateAccount(ctx, bare, keys); err != nil {
		if errors.Is(err, store.ErrExists) {
			return Result{}, existsError(bare)
		}
		return Result{}, fmt.Errorf("making %s: %w", bare, err)
	}
	return Result{Text: fmt.Sprintf("account %s made\n", bare)}, nil
}

// addable finds out whether an account could be made.
func addable(ctx context.Context, h *Host, args map[string]string) error {
	bare, err := h.newAccount(args["jid"])
	if err != nil || h.Store == nil {
		return err
	}
	switch _, err = h.Store.Account(ctx, bare); {
	case err == nil:
		return existsError(bare)
	case errors.Is(err, store.ErrNotFound):
		return nil
	}
	return fmt.Errorf("looking up %s: %w", bare, err)
}

// isThere finds out whether there is the account of the argument "jid".
func isThere(ctx context.Context, h *Host, args map[string]string) error {
	bare, err := parseAccount(args["jid"])
	if err != nil || h.Store == nil {
		return err
	}
	if _, err := h.Store.Account(ctx, bare); err != nil {
		return accountError(bare, "looking up", err)
	}
	return nil
}

// newAccount reads the address of an account that is to be made.
func (h *Host) newAccount(s string) (jid.JID, error) {
	bare, err := parseAccount(s)
	if err != nil || h.serves(bare.Domain()) {
		return bare, err
	}
	flags := "--domain " + strings.Join(append(slices.Clone(h.Domains), bare.Domain()), " --domain ")
	how := fmt.Sprintf("start it again with %s", flags)
	if h.Live == nil {
		how = fmt.Sprintf("add %s to this command, and to \"carillon serve\"", flags)
	}
	return bare, fmt.Errorf("%s: this server's domains are %s; to serve %s too, %s, or write it into the key domains of the configuration file",
		bare, strings.Join(h.Domains, ", "), bare.Domain(), how)
}

func existsError(bare jid.JID) error {
	return fmt.Errorf("%s exists already: \"carillon user passwd %s\" changes its password", bare, bare)
}

func userPasswd(ctx context.Context, h *Host, args map[string]string) (Result, error) {
	bare, err := parseAccount(args["jid"])
	if err != nil {
		return Result{}, err
	}
	keys, err := h.DeriveKeys(args["password"])
	if err != nil {
		return Result{}, err
	}
	if err := h.Store.SetKeys(ctx, bare, keys, ""); err != nil {
		return Result{}, accountError(bare, "changing the password of", err)
	}
	return Result{Text: fmt.Sprintf("password of %s changed; devices that are connected stay connected (\"carillon user devices %s\" shows and ends them)\n", bare, bare)}, nil
}

func userRemove(ctx context.Context, h *Host, args map[string]string) (Result, error) {
	bare, err := parseAccount(args["jid"])
	if err != nil {
		return Result{}, err
	}
	if h.Live != nil {
		// Who is asked for its sessions is in memory, with the contacts elsewhere that must be told.
		if _, err := h.Live.Sessions(ctx, bare); err != nil && !errors.Is(err, store.ErrNotFound) {
			return Result{}, fmt.Errorf("asking for the sessions of %s: %w", bare, err)
		}
	}
	// First the store, so that nobody who is thrown out can come back.
	if err := h.Store.RemoveAccount(ctx, bare); err != nil {
		return Result{}, accountError(bare, "removing", err)
	}
	if h.Live != nil {
		if err := h.Live.AccountRemoved(ctx, bare); err != nil {
			return Result{}, fmt.Errorf("%s is removed, but ending its sessions failed: %w", bare, err)
		}
	}
	return Result{Text: fmt.Sprintf("account %s removed\n", bare)}, nil
}

// Account is an account in the data of "user list".
type Account struct {
	JID      string    `json:"jid"`
	Created  time.Time `json:"created"`
	Disabled bool      `json:"disabled,omitempty"`
}

func userList(ctx context.Context, h *Host, args map[string]string) (Result, error) {
	domain := args["domain"]
	if domain != "" {
		j, err := jid.Parse(domain)
		if err != nil || !j.IsDomain() {
			return Result{}, fmt.Errorf("%q is no domain", domain)
		}
		domain = j.Domain()
	}
	var text strings.Builder
	accounts := []Account{}
	for a, err := range h.Store.Accounts(ctx, domain) {
		if err != nil {
			return Result{}, fmt.Errorf("listing accounts: %w", err)
		}
		accounts = append(accounts, Account{a.JID.String(), a.Created.UTC(), a.Disabled})
		text.WriteString(a.JID.String())
		if a.Disabled {
			text.WriteString(" (disabled)")
		}
		text.WriteByte('\n')
	}
	// Accounts under a domain that is no longer served are still there to be found and removed.
	if domain != "" && len(accounts) == 0 && !h.serves(domain) {
		return Result{}, fmt.Errorf("%s is no domain of this server (it serves %s)", domain, strings.Join(h.Domains, ", "))
	}
	return Result{Text: text.String(), Data: accounts}, nil
}

// Domain is a domain in the data of "user domains".
type Domain struct {
	Name     string `json:"domain"`
	Accounts int    `json:"accounts"`
	Served   bool   `json:"served"`
}

func userDomains(ctx context.Context, h *Host, _ map[string]string) (Result, error) {
	counts, err := h.Store.Domains(ctx)
	if err != nil {
		return Result{}, fmt.Errorf("counting accounts: %w", err)
	}
	list := []Domain{}
	for _, name := range h.Domains {
		list = append(list, Domain{name, counts[name], true})
		delete(counts, name)
	}
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		list = append(list, Domain{name, counts[name], false})
	}
	var text strings.Builder
	for _, d := range list {
		fmt.Fprintf(&text, "%s: %s", d.Name, CountAccounts(d.Accounts))
		if !d.Served {
			text.WriteString(", not served")
		}
		text.WriteByte('\n')
	}
	return Result{Text: text.String(), Data: list}, nil
}

// CountAccounts says how many accounts, in words.
func CountAccounts(n int) string {
	switch n {
	case 0:
		return "no account"
	case 1:
		return "1 account"
	}
	return fmt.Sprintf("%d accounts", n)
}

// printable makes text that a client chose fit for a table on a terminal.
func printable(s string) string {
	if s == "" {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// parseAccount reads the address of an account.
func parseAccount(s string) (jid.JID, error) {
	j, err := jid.Parse(s)
	if wrong, ok := errors.AsType[*jid.Error](err); ok {
		return jid.JID{}, fmt.Errorf("%q is no address: its %s %s", s, wrong.Part, wrong.Reason)
	}
	if err != nil {
		return jid.JID{}, fmt.Errorf("%q is no address: %w", s, err)
	}
	if j.Local() == "" || !j.IsBare() {
		return jid.JID{}, fmt.Errorf("%q is no account: wanted name@domain, as in romeo@localhost", s)
	}
	return j, nil
}

// accountError words a store's error about an account.
func accountError(bare jid.JID, doing string, err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("there is no account %s: \"carillon user list\" lists those there are", bare)
	}
	return fmt.Errorf("%s %s: %w", doing, bare, err)
}

// DeriveKeys derives what is stored of a password: keys for each hash that a client may choose, each with a salt of its own. The error is
// sasl.ErrPassword for what can't be a password.
//
// The cost is three PBKDF2 runs of Iterations rounds. RFC 7677 4 asks for 4096 rounds, XEP-0438 for 10,000 and more.
func (h *Host) DeriveKeys(password string) ([]sasl.Keys, error) {
	hashes := []sasl.Hash{sasl.SHA1, sasl.SHA256, sasl.SHA512}
	keys := make([]sasl.Keys, len(hashes))
	for i, hash := range hashes {
		salt := make([]byte, sasl.SaltSize)
		rand.Read(salt) // never fails: it ends the program instead
		k, err := sasl.DeriveKeys(hash, password, salt, h.Iterations)
		if errors.Is(err, sasl.ErrPassword) {
			return nil, passwordError{}
		}
		if err != nil {
			return nil, fmt.Errorf("deriving keys: %w", err)
		}
		keys[i] = k
	}
	return keys, nil
}

// passwordError is sasl.ErrPassword in words for people.
type passwordError struct{}

func (passwordError) Error() string {
	return "not a usable password: empty, longer than 1024 bytes, or with control characters"
}

func (passwordError) Is(target error) bool { return target == sasl.ErrPassword }
