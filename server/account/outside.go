package account

import (
	"context"
	"slices"
	"strings"
	"sync"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/stanza"
	"carillon.im/xep"
)

// Contacts on other servers hear of personal events as contacts here do (XEP-0163 4.3),
// but nobody here owns them: their contact's account knows those of their resources
// that have named their capabilities in presence to it, and what these ask for. That is
// in memory alone. It is learned again whenever presence comes, which is asked for when
// somebody of the account comes; while nobody is there nothing is published.

// outsider is a resource of a contact on another server that names its capabilities.
type outsider struct {
	jid   jid.JID // full
	ver   string  // of its capabilities (XEP-0115)
	known bool    // what they ask for
	listening
}

// Bounds of what is known of contacts' resources: of a resource beyond them nothing
// is, and it hears of no events.
const (
	maxOutsiders = 4096 // of an account
	maxResources = 16   // of a contact
	maxVer       = 64   // bytes
)

// notice takes note of a presence from elsewhere: of which resource of a contact is
// there, and whether somebody must find out what it wants to hear of.
func (s *State) notice(ev *presenceArrives, fx *effects) {
	if ev.typ != stanza.TypeAvailable {
		s.forgetOutsider(ev.from)
		return
	}
	bare := ev.from.Bare()
	c := s.roster[bare]
	if ev.stanza == nil || c == nil || !c.From && !c.To || !ev.from.IsFull() {
		return
	}
	ver := ev.stanza.Child(xep.NSCaps, "c").Attr("ver")
	if ver == "" || len(ver) > maxVer {
		s.forgetOutsider(ev.from)
		return
	}
	o := s.outsider(ev.from)
	switch {
	case o == nil:
		if s.outsiders >= maxOutsiders || len(s.outside[bare]) >= maxResources {
			return
		}
		// It outlives the stanza.
		full := jid.MustParse(strings.Clone(ev.from.String()))
		o = &outsider{jid: full, ver: strings.Clone(ver)}
		if s.outside == nil {
			s.outside = map[jid.JID][]*outsider{}
		}
		s.outside[full.Bare()] = append(s.outside[full.Bare()], o)
		s.outsiders++
	case o.ver != ver:
		o.ver, o.known = strings.Clone(ver), false
	case o.known:
		return
	}
	l := &outsiderRef{&accountRef{s.cfg.hub, s.jid}, o.jid, o.ver}
	for _, observe := range s.cfg.outsideObservers {
		fx.call(func() { observe(l, ev.stanza) })
	}
}

// outsider finds a contact's resource, nil if nothing is known of it.
func (s *State) outsider(full jid.JID) *outsider {
	for _, o := range s.outside[full.Bare()] {
		if o.jid == full {
			return o
		}
	}
	return nil
}

// forgetOutsider forgets a contact's resource, or all of them.
func (s *State) forgetOutsider(j jid.JID) {
	list := s.outside[j.Bare()]
	if len(list) == 0 {
		return
	}
	rest := slices.DeleteFunc(list, func(o *outsider) bool { return j.IsBare() || o.jid == j })
	s.outsiders -= len(list) - len(rest)
	if len(rest) == 0 {
		delete(s.outside, j.Bare())
	} else {
		s.outside[j.Bare()] = rest
	}
}

// tellOutside tells a contact's resources of an event.
func (s *State) tellOutside(contact jid.JID, ev *told) {
	for _, o := range s.outside[contact] {
		if o.wants(ev.node) && !s.blocks(o.jid) {
			o.hear(ev)
			st := *ev.stanza
			st.To = o.jid
			s.cfg.hub.outside(&st)
		}
	}
}

// outsiderRef is a contact's resource elsewhere as features see it, as long as it
// names these capabilities.
type outsiderRef struct {
	account *accountRef
	jid     jid.JID
	ver     string
}

func (r *outsiderRef) JID() jid.JID { return r.jid }

func (r *outsiderRef) Owner() feature.AccountRef { return r.account }

// Publishers are the account whose contact it is: others may know it too, each by the
// presence that it was sent itself.
func (r *outsiderRef) Publishers(context.Context) ([]jid.JID, error) {
	return []jid.JID{r.account.bare}, nil
}

// in finds the resource; nil if it isn't there or names other capabilities.
func (r *outsiderRef) in(s *State) *outsider {
	if o := s.outsider(r.jid); o != nil && o.ver == r.ver {
		return o
	}
	return nil
}

// SetEvents says of which nodes the resource wants to hear.
func (r *outsiderRef) SetEvents(ctx context.Context, nodes []string) ([]string, error) {
	return ask(ctx, r.account.hub, r.account.bare, func(s *State, _ *effects) []string {
		o := r.in(s)
		if o == nil {
			return nil
		}
		o.known = true
		return o.want(nodes)
	})
}

// TellLast sends the resource a newest item that it hasn't heard of.
func (r *outsiderRef) TellLast(ctx context.Context, node string, headline *stanza.Stanza) (feature.Heard, error) {
	return inTurn(ctx, r.account, (*State).later, func(s *State) feature.Heard {
		o := r.in(s)
		if o == nil || !o.wants(node) || !s.watched(r.jid.Bare()) || s.blocks(r.jid) {
			return feature.HeardItem // it is not to be told
		}
		heard := o.hasHeard(headline.From, node)
		if heard == feature.HeardNothing {
			s.cfg.hub.outside(headline)
		}
		return heard
	})
}

// EventsTold ends what SetEvents began.
func (r *outsiderRef) EventsTold(ctx context.Context) error {
	_, err := ask(ctx, r.account.hub, r.account.bare, func(s *State, _ *effects) struct{} {
		if o := r.in(s); o != nil {
			o.heard = nil
		}
		return struct{}{}
	})
	return err
}

// questions are what accounts have asked somebody elsewhere and who waits for the
// answer, by id. Whoever asks bounds them.
type questions struct {
	mu   sync.Mutex
	open map[string]question
}

type question struct {
	to     jid.JID
	answer chan<- *stanza.Stanza
}

// Ask sends an IQ get from the account, which alone the resource's server knows as
// somebody who may ask it (RFC 6121 8.5.3.1), and waits for the answer.
func (r *outsiderRef) Ask(ctx context.Context, payload string) (*stanza.Stanza, error) {
	h := r.account.hub
	id, answer := h.cfg.newID(), make(chan *stanza.Stanza, 1)
	h.questions.mu.Lock()
	if h.questions.open == nil {
		h.questions.open = map[string]question{}
	}
	h.questions.open[id] = question{r.jid, answer}
	h.questions.mu.Unlock()
	defer func() {
		h.questions.mu.Lock()
		delete(h.questions.open, id)
		h.questions.mu.Unlock()
	}()
	b := h.cfg.border(r.jid.Domain())
	if b == nil {
		return nil, stanza.NewError(stanza.RemoteServerNotFound, "")
	}
	if e := b.Send(stanza.Build(stanza.IQ, stanza.TypeGet, id, r.account.bare, r.jid, payload)); e != nil {
		return nil, e
	}
	select {
	case st := <-answer:
		if st.Type != stanza.TypeError {
			return st, nil
		}
		if e := st.ParseError(); e != nil {
			return nil, e
		}
		return nil, stanza.NewError(stanza.UndefinedCondition, "")
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-h.stopped:
		return nil, errStopped
	}
}

// accountAnswered takes a result or an error to an account as the answer to Ask.
func (h *Hub) accountAnswered(st *stanza.Stanza) {
	h.questions.mu.Lock()
	q, ok := h.questions.open[st.ID]
	if ok = ok && q.to == st.From; ok {
		delete(h.questions.open, st.ID)
	}
	h.questions.mu.Unlock()
	if ok {
		q.answer <- st // buffered
	}
}
