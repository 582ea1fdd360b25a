package pep

import (
	"context"
	"fmt"
	"testing"

	"carillon.im/jid"
	"carillon.im/server/feature"
)

// newcomer is a listener that says when it is asked to hear of something, and then of
// nothing new.
type newcomer struct {
	feature.Listener
	jid   jid.JID
	asked chan jid.JID
}

func (n newcomer) JID() jid.JID              { return n.jid }
func (n newcomer) Owner() feature.AccountRef { return someone{} }
func (n newcomer) SetEvents(context.Context, []string) ([]string, error) {
	n.asked <- n.jid
	return nil, nil
}

type someone struct{ feature.AccountRef }

func (someone) JID() jid.JID { return jid.MustParse("romeo@montague.lit") }

// TestComingIsBounded: while so many wait, who comes is passed over, and those who wait
// are all told; who comes later, too.
func TestComingIsBounded(t *testing.T) {
	s := New(Options{})
	asked := make(chan jid.JID, maxComing+2)
	come := func(i int) {
		s.Notify(newcomer{jid: jid.MustParse(fmt.Sprintf("romeo@montague.lit/%d", i)), asked: asked}, nil)
	}
	for range maxArrivals { // none of them gets on
		s.work <- struct{}{}
	}
	for i := range maxComing + 1 {
		come(i)
	}
	for range maxArrivals {
		<-s.work
	}
	s.wg.Wait()
	if len(asked) != maxComing || len(s.coming) != 0 {
		t.Errorf("%d were told, %d wait", len(asked), len(s.coming))
	}
	come(maxComing)
	s.Close()
	if len(asked) != maxComing+1 {
		t.Error("who comes later isn't told")
	}
}
