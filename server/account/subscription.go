package account

import "carillon.im/stanza"

// subscription is a user's side of the relation to one contact (RFC 6121
// appendix A): the nine states and the pre-approval of section 3.4.
type subscription struct {
	To         bool // the user sees the contact's presence
	From       bool // the contact sees the user's presence
	PendingOut bool // the user asked and has no answer
	PendingIn  bool // the contact asked and has no answer
	Approved   bool // the user approves before being asked (RFC 6121 3.4)
}

// String is the value of the roster's subscription attribute (RFC 6121 2.1.2.5).
func (s subscription) String() string {
	switch {
	case s.To && s.From:
		return "both"
	case s.To:
		return "to"
	case s.From:
		return "from"
	}
	return "none"
}

// subscriptionChange is what a subscription stanza does to one side.
type subscriptionChange struct {
	Next subscription
	// Pass: an outbound stanza is routed to the contact, an inbound one is
	// delivered to the user.
	Pass bool
	// Reply is the type of the presence that the user's server answers an
	// inbound stanza with on its own; "" for none.
	Reply string
	// ShowPresence, HidePresence: the contact is sent the user's presence, or
	// unavailable presence, because it may see it from now on, or no longer.
	ShowPresence, HidePresence bool
}

// outbound is a subscription stanza from the user (RFC 6121 appendix A.2).
func (s subscription) outbound(typ string) subscriptionChange {
	c := subscriptionChange{Next: s}
	switch typ {
	case stanza.TypeSubscribe: // A.2.1
		c.Pass = true
		c.Next.PendingOut = !s.To
	case stanza.TypeUnsubscribe: // A.2.2
		c.Pass = true
		c.Next.To, c.Next.PendingOut = false, false
	case stanza.TypeSubscribed: // A.2.3, 3.4.2
		switch {
		case s.PendingIn:
			c.Next.PendingIn, c.Next.From = false, true
			c.Pass, c.ShowPresence = true, true
		case !s.From:
			c.Next.Approved = true
		}
	case stanza.TypeUnsubscribed: // A.2.4, 3.4.2
		c.Next.Approved = false
		if s.PendingIn || s.From {
			c.Next.PendingIn, c.Next.From = false, false
			c.Pass, c.HidePresence = true, s.From
		}
	}
	return c
}

// inbound is a subscription stanza from the contact (RFC 6121 appendix A.3).
func (s subscription) inbound(typ string) subscriptionChange {
	c := subscriptionChange{Next: s}
	switch typ {
	case stanza.TypeSubscribe: // A.3.1
		switch {
		case s.From:
			c.Reply = stanza.TypeSubscribed // 3.1.3
		case s.Approved: // 3.4.2
			c.Next.From, c.Next.Approved = true, false
			c.Reply, c.ShowPresence = stanza.TypeSubscribed, true
		case !s.PendingIn:
			c.Next.PendingIn, c.Pass = true, true
		}
	case stanza.TypeUnsubscribe: // A.3.2
		// Its automatic answer "unsubscribed" is left out: it says nothing that
		// the contact's server doesn't know, and would cancel a request that
		// the contact has sent since.
		if s.PendingIn || s.From {
			c.Next.PendingIn, c.Next.From = false, false
			c.Pass, c.HidePresence = true, s.From
		}
	case stanza.TypeSubscribed: // A.3.3
		if s.PendingOut {
			c.Next.PendingOut, c.Next.To = false, true
			c.Pass = true
		}
	case stanza.TypeUnsubscribed: // A.3.4
		if s.PendingOut || s.To {
			c.Next.PendingOut, c.Next.To = false, false
			c.Pass = true
		}
	}
	return c
}
