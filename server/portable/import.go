package portable

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/server/store"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// Existing says what happens to an account or a room that is there already and
// hasn't all that the document has.
type Existing string

// The values of Existing.
const (
	Refuse Existing = ""      // nothing is imported
	Skip   Existing = "skip"  // it stays as it is
	Merge  Existing = "merge" // it gets what it lacks; what it has stays as it is
)

// Import reads a document into a store.
type Import struct {
	Store   *store.Store
	Domains []string // that accounts may live under
	Rooms   []string // that rooms may live under
	// Live tells that a server runs on the store: what is there already can't be
	// changed under its feet.
	Live     bool
	Existing Existing
	// Lenient leaves out what can't be taken, and tells, instead of refusing all.
	Lenient bool
	Limits  Limits
	Keys    func(password string) ([]sasl.Keys, error) // of an account with a password
	Now     func() time.Time
	// Tell hears of every account and room, in the order of the document.
	Tell func(Outcome)
}

// Limits are what an account may have, as the server's configuration says.
type Limits struct {
	Roster, Blocked, Offline   int
	PrivateItems, PrivateBytes int
	VCardBytes                 int
}

// Outcome is what becomes of one account or room, or would.
type Outcome struct {
	JID string `json:"jid"`
	// Did is "new", "merged", "unchanged" or "skipped", or "refused": then nothing is
	// imported, and Problems say why.
	Did string `json:"did"`
	// Counts are what there is of the account, or, where it exists already, what it
	// gets: "contacts", "messages", …
	Counts   map[string]int `json:"counts,omitempty"`
	Left     []string       `json:"left,omitempty"` // what doesn't come along
	Problems []string       `json:"problems,omitempty"`
}

// importing is a document on its way.
type importing struct {
	*Import
	ctx      context.Context
	r        *Reader
	dry      bool
	host     string
	rooms    bool // host is of rooms
	seen     map[jid.JID]Place
	within   Place // from which an account was copied here, if it was
	problems int
	left     map[string]bool // told outside of accounts
}

// ErrProblems tells that a document can't be imported as it is; why was told.
var ErrProblems = errors.New("what is told above has to be seen to first")

// Check reads the document and tells what an import would do; it changes nothing. The
// error is ErrProblems if the import would be refused.
func (i Import) Check(ctx context.Context, r *Reader) error { return i.run(ctx, r, true) }

// Apply imports a document that Check has found nothing wrong with.
func (i Import) Apply(ctx context.Context, r *Reader) error { return i.run(ctx, r, false) }

func (i *Import) run(ctx context.Context, r *Reader, dry bool) error {
	x := &importing{Import: i, ctx: ctx, r: r, dry: dry, seen: map[jid.JID]Place{}, left: map[string]bool{}}
	for {
		p, err := r.Next()
		if err != nil {
			return err
		}
		switch {
		case p.Kind == xmltree.None:
			if x.problems > 0 {
				return ErrProblems
			}
			return nil
		case p.Kind == xmltree.StreamEnd || p.Element.Is(nsPIE, "server-data"):
		case p.Kind == xmltree.Unit:
			x.passOver(p)
		case p.Element.Is(nsPIE, "host"):
			if err := x.begin(p); err != nil {
				return err
			}
		default:
			if err := x.account(p); err != nil {
				return err
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// passOver tells once of what isn't XEP-0227's.
func (x *importing) passOver(p Part) {
	what := fmt.Sprintf("<%s xmlns='%s'/>", p.Element.Local(), p.Element.Space())
	if len(x.left) < 100 && !x.left[what] {
		x.left[what] = true
		x.Tell(Outcome{JID: x.host, Did: "unchanged", Left: []string{what + " (" + p.Place.String() + ")"}})
	}
}

// begin notes whose users follow.
func (x *importing) begin(p Part) error {
	j, err := jid.Parse(p.Element.Attr("jid"))
	if err != nil || !j.IsDomain() {
		return fmt.Errorf("%s: %.200q is no host", p.Place, p.Element.Attr("jid"))
	}
	x.host = j.Domain()
	x.rooms = slices.Contains(x.Rooms, x.host)
	if !x.rooms && !slices.Contains(x.Domains, x.host) {
		x.refuse(Outcome{JID: x.host}, fmt.Sprintf("%s: this server's domains are %s: serve %s too (the key domains), or leave the host out of the document",
			p.Place, strings.Join(x.Domains, ", "), x.host))
	}
	return nil
}

// refuse tells why the document can't be imported.
func (x *importing) refuse(o Outcome, why ...string) {
	x.problems += len(why)
	o.Did, o.Problems = "refused", append(o.Problems, why...)
	x.Tell(o)
}

// account reads one account or room and does with it what is to be done.
func (x *importing) account(p Part) error {
	if from, there := p.Element.LookupAttr(nsOwn, "place"); there && p.Place.File == "" {
		p.Place = Place{File: strings.Clone(from), Offset: -1}
		x.within = p.Place
	}
	a := &account{importing: x, at: p.Place, room: p.Element.Space() == nsOwn, counts: map[string]int{}, created: x.Now()}
	named := p.Element.Attr("name")
	j, err := jid.New(named, x.host, "")
	if err != nil || j.Local() == "" {
		a.jid, _ = jid.New("", x.host, "")
		a.problem(p.Place, fmt.Sprintf("%.200q is no name of an account", named))
	} else {
		a.jid = j
	}
	if a.room && !x.rooms && slices.Contains(x.Domains, x.host) || !a.room && x.rooms {
		a.problem(p.Place, "rooms and accounts have domains of their own")
	}
	if before, twice := x.seen[a.jid]; twice && len(a.problems) == 0 {
		a.problem(p.Place, "it was there before, at "+before.String())
	}
	x.seen[a.jid] = p.Place
	if err := a.begin(p.Element); err != nil {
		return a.giveUp(err)
	}
	if err := a.read(); err != nil {
		return a.giveUp(err)
	}
	if err := a.finish(); err != nil {
		return a.giveUp(err)
	}
	return nil
}

// giveUp ends the import: nothing of this account is kept.
func (a *account) giveUp(err error) error {
	if a.begun && !a.dry {
		// Not with the context that may have ended.
		clean, cancel := context.WithTimeout(context.WithoutCancel(a.ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, a.Store.DropImport(clean, a.id))
	}
	if errors.Is(err, store.ErrExists) {
		return fmt.Errorf("%s came to be there meanwhile, or is being imported by somebody else: %w", a.jid, err)
	}
	return fmt.Errorf("%s: %w", a.jid, err)
}

// problem notes what is wrong with the account. Nothing of it is left out unless
// that is wanted.
func (a *account) problem(at Place, what string) {
	if a.Lenient && a.jid.Local() != "" && at != a.at {
		a.leave(what)
		return
	}
	if len(a.problems) < maxProblems {
		a.problems = append(a.problems, at.String()+": "+what)
	}
}

// leave notes that something doesn't come along, once.
func (a *account) leave(what string) {
	if len(a.left) < 100 && !slices.Contains(a.left, what) {
		a.left = append(a.left, what)
	}
}

// count says how many of something there are.
func (a *account) count(what string, n int) {
	if n > 0 {
		a.counts[what] += n
	}
}

// begin finds out whether the account is there, and makes room for it if not.
func (a *account) begin(el xmltree.Element) error {
	if v, there := el.LookupAttr(nsOwn, "created"); there || a.room {
		if a.room {
			v = el.Attr("created")
		}
		t, err := xep.ParseDateTime(v)
		if err != nil {
			a.problem(a.at, fmt.Sprintf("%.100q is no time", v))
		} else {
			a.created = t
		}
	}
	if a.room {
		a.creator = a.address(a.at, el.Attr("creator"))
	}
	a.disabled = false
	if v, _ := el.LookupAttr(nsOwn, "disabled"); v == "true" {
		a.disabled = true
	}
	a.password = el.Attr("password")
	if len(a.problems) > 0 {
		return nil
	}
	info, err := a.Store.Account(a.ctx, a.jid)
	switch {
	case err == nil:
		a.exists, a.id = true, info.ID
		return a.existing()
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	a.count("accounts", 1)
	if a.dry || a.room && a.Live {
		if a.room && a.Live {
			a.problem(a.at, "rooms are imported while no server runs: stop it first")
		}
		return nil
	}
	if err := a.Store.Commit(a.ctx, store.ImportBegin{JID: a.jid, At: a.Now(), ID: &a.id}); err != nil {
		return err
	}
	a.begun = true
	return nil
}

// address reads a bare address or a domain.
func (a *account) address(at Place, s string) jid.JID {
	j, err := jid.Parse(s)
	if err != nil || s == "" {
		a.problem(at, fmt.Sprintf("%.200q is no address", s))
		return jid.JID{}
	}
	return j.Bare()
}
