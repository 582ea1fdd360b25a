package client

import (
	"fmt"
	"slices"
	"time"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/stanza"
	"carillon.im/stream"
	"carillon.im/xep"
	"carillon.im/xmltree"
)

// begin returns an <authenticate/> for g.offer (XEP-0388 2.3), with all that the
// login asks for in it (X2-32, X2-33). version is the one of the offer if it is a remembered
// one (XEP-0509 2.2).
func (g *login) begin(version string) ([]byte, error) {
	mechanism := g.usable()
	l := &stream.Login{Agent: g.c.agent(g.state), Version: version}
	g.token, g.cfg = mechanism != "", nil
	cfg := &sasl.ClientConfig{Username: g.c.cfg.Account.Local(), Password: g.state.Token, Bindings: g.bindings, Rand: lockedRand{g.c}}
	if g.token {
		// The count is on disk before it is used, or a crash would use it twice
		// (XEP-0484 3.4).
		g.state.TokenCount++
		if err := g.c.save(g.state); err != nil {
			return nil, err
		}
		l.Fast = &xep.Fast{Count: g.state.TokenCount}
	} else {
		var err error
		if mechanism, err = g.scram(g.offer.Mechanisms, true); err != nil {
			return nil, err
		}
		cfg = g.cfg
	}
	l.TokenFor = g.wantsToken()
	g.asked = ask{resume: g.old != nil && g.offer.Resume}
	if !g.token {
		g.asked.upgrades = g.upgrades(mechanism)
		l.Upgrades = slices.Clone(g.asked.upgrades)
	}
	if g.asked.resume {
		l.Resume = &stream.Resume{ID: g.old.id, H: g.c.handled()}
	}
	if g.offer.Bind2 {
		g.asked.bind, g.asked.profile = g.bind2()
		l.Bind = g.asked.bind
	}
	initial, err := g.exchange(mechanism, cfg)
	if err != nil {
		return nil, err
	}
	return g.link.mach.Authenticate(nil, mechanism, initial, l), nil
}

// bind2 is what is asked for with the resource (XEP-0386).
func (g *login) bind2() (*xep.Bind2, Profile) {
	p := g.best(g.offer.CanBegin)
	b := &xep.Bind2{Tag: g.c.cfg.Resource, Carbons: p == ProfileCarbons, IMNG: p == ProfileIMNG}
	if g.offer.CanBegin(xep.NSSM) {
		b.SM = &xep.SMEnable{Resume: true}
	}
	if g.offer.CanBegin(xep.NSCSI) && g.c.inactive() {
		b.CSI = xep.CSIInactive
	}
	if p == ProfileBest {
		b.Session = g.c.sessionRequest()
	}
	return b, p
}

// extensible goes through SASL2 (XEP-0388), whose first message may have been
// written already.
func (g *login) extensible() error {
	if g.result.Pipelined {
		if g.cfg != nil { // what is signed is what was seen now (XEP-0474 6.2)
			g.cfg.Advertised = sasl.Advertised{Mechanisms: g.offer.Mechanisms, Bindings: g.offer.Bindings}
		}
	} else if err := g.again(); err != nil {
		return err
	}
	for {
		ev, err := g.next()
		if err != nil {
			return err
		}
		switch ev.Kind {
		case stream.AuthResponse:
			if err := g.respond(ev.Data); err != nil {
				return err
			}
		case stream.AuthSuccess:
			if ev.Welcome == nil {
				return violation("the wrong profile of SASL")
			}
			if err := g.succeed(ev.Data); err != nil {
				return err
			}
			return g.welcome(ev.Welcome)
		case stream.AuthContinue:
			if err := g.task(ev); err != nil {
				return err
			}
		case stream.AuthFailure:
			if err := g.refused(ev); err != nil {
				return err
			}
			if err := g.again(); err != nil {
				return err
			}
		default:
			return violation("something else was due")
		}
	}
}

// again begins an exchange with what the server offers now.
func (g *login) again() error {
	out, err := g.begin("")
	if err != nil {
		return err
	}
	return g.write(out)
}

// refused says whether there is another way to log in: nil, or the error.
func (g *login) refused(ev stream.Event) error {
	if g.result.Pipelined && !ev.Element.Child(xep.NSIAP, "config-version-mismatch").IsZero() {
		g.result.Pipelined = false
		return nil
	}
	if g.token && sasl.Condition(ev.Name) != sasl.TemporaryAuthFailure {
		// XEP-0484 3.5: it expired, or was revoked. The password decides.
		g.state.dropToken()
		g.result.Pipelined = false
		if g.c.secret() != "" {
			return nil
		}
	}
	if g.weaker(ev) {
		g.result.Pipelined = false
		return nil
	}
	return &AuthError{Condition: sasl.Condition(ev.Name), Text: clip(ev.Text)}
}

func (s *State) dropToken() {
	s.Token, s.TokenMechanism, s.TokenExpiry, s.TokenCount = "", "", time.Time{}, 0
}

// maxText bounds the server's words that are kept in an error, in bytes.
const maxText = 256

func clip(s string) string { return string([]byte(s[:min(len(s), maxText)])) }

// welcome takes what came with the success. What was not asked for is not taken.
func (g *login) welcome(w *stream.Welcome) error {
	offer := g.offer
	g.state.Offer = &offer
	if t := w.Token; t != nil {
		mechanism := g.result.Mechanism
		if !g.token {
			mechanism = g.wantsToken()
		}
		if mechanism != "" {
			g.state.Token, g.state.TokenMechanism, g.state.TokenExpiry, g.state.TokenCount = t.Token, mechanism, t.Expiry, 0
		}
	}
	g.failed = w.Failed
	switch {
	case w.Resumed:
		if !g.asked.resume {
			return violation("a session was resumed that is not ours")
		}
		return g.resumed(w.Full, w.H)
	case w.Bound != nil:
		if g.asked.bind == nil {
			return violation("a resource was bound without a request")
		}
		if err := g.bound(w.Full); err != nil {
			return err
		}
		return g.takeBound(w.Bound)
	}
	if w.Full.Bare() != g.c.cfg.Account {
		return violation("another account was logged in")
	}
	ev, err := g.expect(stream.Features)
	if err != nil {
		return err
	}
	// XEP-0388 2.6.1: no restart; what is left is as in RFC 6120.
	return g.afterAuth(ev.Element)
}

// takeBound notes what became of the request for a resource.
func (g *login) takeBound(b *stream.Bound) error {
	g.sm = b.SM
	g.csi = g.offer.CanBegin(xep.NSCSI)
	g.result.Archive = b.Archive
	switch g.result.Profile = g.asked.profile; {
	case g.asked.profile == ProfileBest && b.Session == nil || g.asked.profile == ProfileIMNG && !b.IMNG:
		g.result.Profile = ProfileClassic
	}
	// XEP-0386 6.2: carbons need no answer to be on; a refusal is one.
	if g.asked.profile == ProfileCarbons && slices.Contains(b.Refused, xep.NSCarbons) {
		g.result.Profile = ProfileClassic
	}
	g.result.Session = b.Session
	if g.result.Profile == ProfileBest {
		g.result.CatchUp = accepted(b.Session, xep.SessionSync)
	}
	return nil
}

func accepted(results []xep.SessionResult, part xep.SessionPart) bool {
	return slices.ContainsFunc(results, func(r xep.SessionResult) bool { return r.Part == part && r.Err == nil })
}

// entered is the rooms that a session enters with its request.
func entered(results []xep.SessionResult) map[jid.JID]bool {
	rooms := map[jid.JID]bool{}
	for _, r := range results {
		if room, err := jid.Parse(r.Room); err == nil && r.Part == xep.SessionJoin && r.Err == nil {
			rooms[room] = true
		}
		for _, j := range r.Rooms {
			rooms[j.Bare()] = true
		}
	}
	return rooms
}

// classic goes through RFC 6120's SASL, with a new stream behind it.
func (g *login) classic() error {
	g.result.Extensible = false
	g.token = false
	mechanism, err := g.scram(g.offer.Classic, false)
	if err != nil {
		return err
	}
	initial, err := g.exchange(mechanism, g.cfg)
	if err != nil {
		return err
	}
	if err := g.write(g.link.mach.Auth(nil, mechanism, initial)); err != nil {
		return err
	}
	for {
		ev, err := g.next()
		if err != nil {
			return err
		}
		switch {
		case ev.Kind == stream.AuthResponse:
			if err := g.respond(ev.Data); err != nil {
				return err
			}
			continue
		case ev.Kind == stream.AuthFailure:
			return &AuthError{Condition: sasl.Condition(ev.Name), Text: clip(ev.Text)}
		case ev.Kind != stream.AuthSuccess || ev.Welcome != nil:
			return violation("something else was due")
		}
		if err := g.succeed(ev.Data); err != nil {
			return err
		}
		features, err := g.open(g.link.mach.Open(nil))
		if err != nil {
			return err
		}
		return g.afterAuth(features)
	}
}

// afterAuth resumes or binds as XEP-0198 5 and RFC 6120 7 have it.
func (g *login) afterAuth(features xmltree.Element) error {
	sm := !features.Child(stream.NSSM, "sm").IsZero()
	g.csi = !features.Child(xep.NSCSI, "csi").IsZero()
	if g.old != nil && sm && !g.asked.resume {
		if err := g.write(g.link.mach.Resume(nil, g.old.id, g.c.handled())); err != nil {
			return err
		}
		ev, err := g.next()
		if err != nil {
			return err
		}
		switch ev.Kind {
		case stream.SMResumed:
			if ev.Name != g.old.id {
				return violation("another session was resumed")
			}
			return g.resumed(g.old.full, ev.H)
		case stream.SMFailed:
			g.failed = &xep.SMFailed{Err: ev.StanzaErr, H: ev.H, Known: ev.Known}
		default:
			return violation("something else was due")
		}
	}
	id, err := g.c.newID()
	if err != nil {
		return err
	}
	if err := g.write(g.link.mach.Bind(nil, id, g.c.cfg.Resource)); err != nil {
		return err
	}
	ev, err := g.next()
	switch {
	case err != nil:
		return err
	case ev.Kind == stream.BindFailure:
		return fmt.Errorf("client: no resource was bound: %w", ev.StanzaErr)
	case ev.Kind != stream.Bind:
		return violation("something else was due")
	}
	if err := g.bound(ev.JID); err != nil {
		return err
	}
	return g.setUp(sm)
}

// setUp asks for what Bind 2 would have brought: stream management and a
// profile, in one write. IM-NG and Carbons exclude each other (XEP-0409 4,
// IMNG-21), the first that is granted counts.
func (g *login) setUp(sm bool) error {
	imng, err := g.c.newID()
	if err != nil {
		return err
	}
	carbons, err := g.c.newID()
	if err != nil {
		return err
	}
	var out []byte
	wait := map[string]bool{}
	ask := func(id, space string) {
		w := xmltree.NewWriter(nil, stanza.NSClient)
		w.Start(space, "enable").End()
		out = stanza.Build(stanza.IQ, stanza.TypeSet, id, jid.JID{}, jid.JID{}, w.String()).AppendTo(out)
		wait[id] = true
	}
	if p := g.c.cfg.Profile; p <= ProfileIMNG { // IMNG-6
		ask(imng, xep.NSIMNG)
	}
	if p := g.c.cfg.Profile; p <= ProfileCarbons {
		ask(carbons, xep.NSCarbons)
	}
	if sm { // the last: what comes before it doesn't count (XEP-0198 4)
		out = g.link.mach.Enable(out, true, 0)
	}
	g.result.Profile = ProfileClassic
	if len(out) == 0 {
		return nil
	}
	if err := g.write(out); err != nil {
		return err
	}
	for len(wait) > 0 || sm {
		ev, err := g.next()
		if err != nil {
			return err
		}
		switch {
		case sm && ev.Kind == stream.SMEnabled:
			sm, g.sm = false, &xep.SMEnabled{ID: ev.Name, Resume: ev.Resume, Max: ev.Max}
		case sm && ev.Kind == stream.SMFailed:
			sm = false
		default:
			if st := ev.Stanza; ev.Kind == stream.Stanza && st.Kind == stanza.IQ && wait[st.ID] && g.c.forAccount(st.From, g.full) {
				delete(wait, st.ID)
				switch {
				case st.Type != stanza.TypeResult:
				case st.ID == imng:
					g.result.Profile = ProfileIMNG
				case st.ID == carbons && g.result.Profile != ProfileIMNG:
					g.result.Profile = ProfileCarbons
				}
			}
		}
		g.early = append(g.early, ev)
	}
	return nil
}
