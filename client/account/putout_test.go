package account

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"carillon.im/client"
	"carillon.im/client/convo"
	"carillon.im/jid"
	"carillon.im/stanza"
	"carillon.im/xep"
)

type nowhere struct{}

func (nowhere) DialContext(context.Context, string, string) (net.Conn, error) {
	return nil, errors.New("nowhere")
}

// TestPutOut: a room that puts the account out for its own sake, or has no time for it now, is entered again after a while; one that puts it out for good isn't.
func TestPutOut(t *testing.T) {
	hall := jid.MustParse("hall@rooms.localhost")
	out := func(codes ...string) *stanza.Stanza {
		payload := "<x xmlns='" + xep.NSMUCUser + "'><item affiliation='none' role='none'/>"
		for _, c := range codes {
			payload += "<status code='" + c + "'/>"
		}
		return stanza.Build(stanza.Presence, stanza.TypeUnavailable, "", jid.MustParse("hall@rooms.localhost/al"), jid.JID{}, payload+"</x>")
	}
	refusal := func(typ string, condition stanza.Condition) *stanza.Stanza {
		return stanza.Build(stanza.Presence, stanza.TypeError, "", jid.MustParse("hall@rooms.localhost/al"), jid.JID{},
			"<error type='"+typ+"'><"+string(condition)+" xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>")
	}
	for name, c := range map[string]struct {
		heard         *stanza.Stanza
		in            bool
		member, again bool
	}{
		"the service stops":                {out("110", "332"), true, true, true},
		"a fault of the room's":            {out("110", "333"), true, true, true},
		"kicked":                           {out("110", "307"), true, false, false},
		"banned":                           {out("110", "301"), true, false, false},
		"another name":                     {out("110", "303"), true, true, false},
		"somebody else leaves":             {out(), true, true, false},
		"left before it was entered again": {out("110"), false, true, false},
		"no time":                          {refusal("wait", stanza.ResourceConstraint), false, true, true},
		"its server is away":               {refusal("cancel", stanza.RemoteServerNotFound), false, true, true},
		"not for this one":                 {refusal("auth", stanza.Forbidden), false, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := Start(t.Context(), Config{Client: client.Config{Account: jid.MustParse("alice@localhost"), Password: "x", Dialer: nowhere{},
				Addresses: []client.Address{{Host: "localhost:1", TLS: true}}, RetryMin: time.Hour, RetryMax: time.Hour}})
			if err != nil {
				t.Fatal(err)
			}
			<-a.Settled()
			err = a.call(t.Context(), func() {
				r := &room{nick: "al", in: true, known: true, facts: convo.RoomFacts{Archive: true, Sync: true}}
				a.rooms[hall] = r
				a.tellRoom(hall, r, false)
				r.in = c.in
				a.heardRoom(c.heard)
				if member := a.rooms[hall] == r; member != c.member || len(a.joins()) == 1 != c.member {
					t.Errorf("it is to be entered again: %t, by the session request: %d", member, len(a.joins()))
				}
				if r.again.IsZero() == c.again {
					t.Fatalf("again at %v", r.again)
				}
				was := r.again
				a.reenter() // too early, and there is no connection
				a.setStatus(func(s *Status) { s.Online = true })
				a.reenter()
				if r.again != was {
					t.Error("entered at once")
				}
				r.again = time.Now().Add(-time.Second)
				if !c.again {
					r.again = time.Time{}
				}
				a.reenter()
				if !r.again.IsZero() {
					t.Error("not entered again")
				}
			})
			if err := errors.Join(err, a.Close(t.Context())); err != nil {
				t.Fatal(err)
			}
		})
	}
}
