package c2s

import (
	"context"
	"sync"

	"carillon.im/jid"
)

// clients is Clients as XEP-0484 5.1 has it: two slots for each client.
type clients struct {
	mu    sync.Mutex
	slots map[[2]string]*slots
	seen  []Client
	fail  error
	// revoked: the access by token of whoever logs in is revoked meanwhile.
	revoked bool
}

type slots struct {
	current, next *Token
	count         uint64 // of current
}

func (k *clients) slot(bare jid.JID, client string) *slots {
	if k.slots == nil {
		k.slots = map[[2]string]*slots{}
	}
	key := [2]string{bare.String(), client}
	if k.slots[key] == nil {
		k.slots[key] = &slots{}
	}
	return k.slots[key]
}

func (k *clients) Tokens(_ context.Context, bare jid.JID, client, mechanism string) ([]Token, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var list []Token
	s := k.slot(bare, client)
	for _, t := range []*Token{s.next, s.current} {
		if t != nil && t.Mechanism == mechanism {
			list = append(list, *t)
		}
	}
	return list, k.fail
}

func (k *clients) UseToken(_ context.Context, bare jid.JID, client string, use TokenUse) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.slot(bare, client)
	switch {
	case s.next != nil && *s.next == use.Token:
		s.current, s.next, s.count = s.next, nil, use.Count
	case s.current == nil || *s.current != use.Token || use.Count != 0 && use.Count <= s.count:
		return ErrTokenUsed
	case use.Count != 0:
		s.count = use.Count
	}
	if use.Invalidate {
		s.current = nil
	}
	return nil
}

func (k *clients) IssueToken(_ context.Context, bare jid.JID, client string, t Token) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.slot(bare, client).next = &t
	return k.fail
}

func (k *clients) ClientSeen(_ context.Context, _ jid.JID, c Client) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.seen = append(k.seen, c)
	if c.ByToken && k.revoked {
		return ErrTokenUsed
	}
	return k.fail
}
