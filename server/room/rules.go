package room

import "carillon.im/stanza"

// affiliation is a long-lived relation with a room (XEP-0045 5.2), in the order
// of what it allows.
type affiliation uint8

const (
	outcast affiliation = iota
	none
	member
	admin
	owner
)

var affiliationNames = [...]string{"outcast", "none", "member", "admin", "owner"}

func (a affiliation) String() string { return affiliationNames[a] }

func parseAffiliation(s string) (affiliation, bool) {
	for a, name := range affiliationNames {
		if s == name {
			return affiliation(a), true
		}
	}
	return none, false
}

// role is what an occupant may do for the time of a visit (XEP-0045 5.1).
type role uint8

const (
	noRole role = iota
	visitor
	participant
	moderator
)

var roleNames = [...]string{"none", "visitor", "participant", "moderator"}

func (r role) String() string { return roleNames[r] }

func parseRole(s string) (role, bool) {
	for r, name := range roleNames {
		if s == name {
			return role(r), true
		}
	}
	return noRole, false
}

// standing is what somebody is to a room.
type standing struct {
	affiliation affiliation
	role        role
}

// firstRole is the role in which somebody enters (XEP-0045 5.1.2).
func firstRole(a affiliation, moderated bool) role {
	switch {
	case a >= admin:
		return moderator
	case a == none && moderated:
		return visitor
	}
	return participant
}

// roleAfter is the role of an occupant whose affiliation changes (XEP-0045
// 5.2.2): who was made a moderator by hand stays one.
func roleAfter(was standing, a affiliation, moderated bool) role {
	if was.affiliation < admin && a < admin && was.role == moderator {
		return moderator
	}
	return firstRole(a, moderated)
}

// mayChangeRole judges a change of somebody's role (XEP-0045 5.1.1, 5.1.3, 8.2 to
// 8.4, 9.6, 9.7): nil, or the error for who tries.
func mayChangeRole(actor, target standing, want role) *stanza.Error {
	switch {
	case actor.role != moderator:
		return stanza.NewError(stanza.Forbidden, "only moderators change roles")
	case want == moderator && actor.affiliation < admin:
		return stanza.NewError(stanza.Forbidden, "only admins and owners make moderators")
	case target.affiliation > actor.affiliation:
		return stanza.NewError(stanza.NotAllowed, "that occupant's affiliation is higher than yours")
	case target.role == moderator && want != moderator && actor.affiliation < admin:
		return stanza.NewError(stanza.NotAllowed, "only admins and owners change the role of a moderator")
	case target.affiliation >= admin && want != noRole && want != moderator:
		// Their affiliation implies the role: it would not last.
		return stanza.NewError(stanza.NotAllowed, "admins and owners are moderators")
	}
	return nil
}

// mayChangeAffiliation judges a change of somebody's affiliation (XEP-0045 5.2.1,
// 5.2.2, 9.1 to 9.5, 10.3 to 10.8). self: the actor's own.
func mayChangeAffiliation(actor, target, want affiliation, self bool) *stanza.Error {
	switch {
	case actor < admin:
		return stanza.NewError(stanza.Forbidden, "only admins and owners change affiliations")
	case self && want == outcast:
		return stanza.NewError(stanza.Conflict, "nobody bans himself") // XEP-0045 9.1
	case actor == owner || self && want < target:
		return nil
	case want >= admin:
		return stanza.NewError(stanza.Forbidden, "only owners make admins and owners")
	case target >= admin:
		return stanza.NewError(stanza.NotAllowed, "only owners change the affiliation of admins and owners")
	}
	return nil
}

// mayList judges a request for the list of an affiliation (XEP-0045 9.2, 9.5,
// 10.5, 10.8). The member list is for members where addresses are no secret, and
// for whom the room's owners name.
func mayList(actor standing, list affiliation, o *Options) *stanza.Error {
	if actor.affiliation >= admin {
		return nil
	}
	if list >= member && o.Whois == whoisAnyone && o.listsTo(actor) {
		return nil
	}
	return stanza.NewError(stanza.Forbidden, "")
}

// speaks reports whether a role may send messages to all.
func speaks(r role) bool { return r >= participant }
