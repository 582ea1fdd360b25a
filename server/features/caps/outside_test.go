package caps

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/stanza"
	"carillon.im/xep"
)

// owner is an account of which only its name matters here.
type owner struct {
	feature.AccountRef
	jid jid.JID
}

func (o owner) JID() jid.JID { return o.jid }

// contact is a listener on another server.
type contact struct {
	session
	owner string
}

func (c *contact) Owner() feature.AccountRef { return owner{jid: jid.MustParse(c.owner + "@x.lit")} }

func outsider(who, owner string, answer func(context.Context) (*stanza.Stanza, error)) *contact {
	return &contact{session{jid: jid.MustParse(who), answer: answer}, owner}
}

func telling(info xep.DiscoInfo) func(context.Context) (*stanza.Stanza, error) {
	return func(context.Context) (*stanza.Stanza, error) {
		return stanza.Build(stanza.IQ, stanza.TypeResult, "1", jid.JID{}, jid.JID{}, string(xep.AppendDiscoInfo(nil, "", info))), nil
	}
}

func silent(ctx context.Context) (*stanza.Stanza, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func refusing(context.Context) (*stanza.Stanza, error) { return nil, errors.New("no") }

// listeners collects what is told.
type listeners struct {
	mu   sync.Mutex
	told []string
}

func (l *listeners) notify(s feature.Listener, nodes []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told = append(l.told, fmt.Sprintf("%s %s%v", s.Owner().JID().Local(), s.JID(), nodes))
}

func (l *listeners) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := l.told
	l.told = nil
	slices.Sort(list)
	return list
}

// TestOutside: who names a hash is asked once for all who name it, the next one where
// he doesn't say what has it, and nobody where it is known.
func TestOutside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l listeners
		c := New(Options{Notify: l.notify})
		defer c.Close()
		info := infoWith("n+notify")
		named := presence("sha-1", verOf(t, "sha-1", info))
		gate := make(chan struct{})
		lies := func(ctx context.Context) (*stanza.Stanza, error) {
			<-gate
			return telling(infoWith("lie+notify"))(ctx)
		}
		mute, liar, liarToo := outsider("m@a.lit/1", "romeo", silent), outsider("l@b.lit/1", "romeo", lies), outsider("l@b.lit/1", "juliet", lies)
		honest, late := outsider("h@c.lit/1", "romeo", telling(info)), outsider("z@d.lit/1", "romeo", telling(info))
		all := []*contact{liar, liarToo, mute, honest, late}
		for _, s := range all {
			c.observeOutside(s, named)
			c.observeOutside(s, named) // again while it is asked
		}
		close(gate)
		c.wg.Wait() // the mute's time passes
		want := []string{"juliet l@b.lit/1[]", "romeo h@c.lit/1[n]", "romeo l@b.lit/1[]", "romeo m@a.lit/1[]", "romeo z@d.lit/1[n]"}
		if got := l.take(); !slices.Equal(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
		if n := len(liar.asked) + len(liarToo.asked); n != 1 || len(mute.asked) != 1 || len(honest.asked) != 1 || len(late.asked) != 0 {
			t.Errorf("asked the liar %d, the mute %d, the honest %d and the late %d times", n, len(mute.asked), len(honest.asked), len(late.asked))
		}
		for _, s := range all {
			c.observeOutside(s, named)
		}
		c.observeOutside(honest, presence("sha-1", ""))
		if got := l.take(); len(got) != 6 || got[1] != "romeo h@c.lit/1[]" || got[2] != "romeo h@c.lit/1[n]" || got[3] != "romeo l@b.lit/1[n]" {
			t.Errorf("once it is known, told %q", got)
		}
	})
}

// TestOutsideGivesUp: after some that don't answer, the others are asked when they come
// again.
func TestOutsideGivesUp(t *testing.T) {
	var l listeners
	c := New(Options{Notify: l.notify})
	defer c.Close()
	tries := c.outside.max.tries
	gate := make(chan struct{})
	var all []*contact
	for i := range tries + 2 {
		all = append(all, outsider(fmt.Sprintf("u%d@a.lit/1", i), "romeo", func(ctx context.Context) (*stanza.Stanza, error) { <-gate; return refusing(ctx) }))
		c.observeOutside(all[i], presence("sha-1", "x"))
	}
	close(gate)
	c.wg.Wait()
	for i, s := range all {
		if asked := len(s.asked) == 1; asked != (i < tries) {
			t.Errorf("%d was asked %d times", i, len(s.asked))
		}
	}
	if got := l.take(); len(got) != tries {
		t.Errorf("told %q", got)
	}
	c.observeOutside(all[tries], presence("sha-1", "x"))
	c.wg.Wait()
	if len(all[tries].asked) != 1 {
		t.Error("who came again wasn't asked")
	}
}

// TestOutsideBounds: a server whose users don't answer holds up nobody else's, and what
// waits is bounded.
func TestOutsideBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l listeners
		c := New(Options{Notify: l.notify})
		info := infoWith("n+notify")
		var mutes []*contact
		mute := func(domain string, i int) {
			s := outsider(fmt.Sprintf("u%d@%s/1", i, domain), "romeo", silent)
			mutes = append(mutes, s)
			c.observeOutside(s, presence("sha-1", fmt.Sprint(domain, i)))
		}
		for i := range 100 {
			mute("mute.lit", i)
		}
		if o := &c.outside; len(o.asked) != o.max.domain || len(o.line) != o.max.domain+o.max.line || len(o.waiting) != len(o.line) {
			t.Errorf("of one domain %d are open, %d in line, %d wait", len(o.asked), len(o.line), len(o.waiting))
		}
		c.observeOutside(outsider("h@c.lit/1", "romeo", telling(info)), presence("sha-1", verOf(t, "sha-1", info)))
		synctest.Wait()
		if got := l.take(); !slices.Equal(got, []string{"romeo h@c.lit/1[n]"}) {
			t.Errorf("beside a server that doesn't answer, told %q", got)
		}
		for d := range 100 {
			for i := range c.outside.max.domain {
				mute(fmt.Sprintf("m%d.lit", d), i)
			}
		}
		if o := &c.outside; len(o.asked) != o.max.open || len(o.questions) != o.max.questions || len(o.line) != len(o.questions) {
			t.Errorf("%d are open, %d in line, %d questions", len(o.asked), len(o.line), len(o.questions))
		}
		for i := range 10 * c.outside.max.listeners { // for a hash that is asked for
			mutes = append(mutes, outsider(fmt.Sprintf("v%d@w%d.lit/1", i, min(i%10, 7)), "romeo", silent))
			c.observeOutside(mutes[len(mutes)-1], presence("sha-1", "mute.lit0"))
		}
		if o := &c.outside; len(o.waiting) != o.max.listeners || o.company["w7.lit"] != o.max.company {
			t.Errorf("%d wait, %d of one domain", len(o.waiting), o.company["w7.lit"])
		}
		c.Close()
		if n := len(l.take()); n != 0 {
			t.Errorf("%d were told after the end", n)
		}
		if o := &c.outside; len(o.asked) != 0 || len(o.domains) != 0 {
			t.Errorf("%d are open at the end", len(o.asked))
		}
	})
}
