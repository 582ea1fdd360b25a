// Package trail is what became of messages, as data: for the operator who asks
// where a message went.
//
// A Record is one account's side of one message: the decision, line by line
// with its rules, and when each device was written it and acknowledged it.
// Bodies are not in it. The server keeps the latest records in a Ring; the same
// Record answers what would happen to a message that nobody sent. Printing is
// here too, so that the command line and whoever reads JSON see the same.
package trail

import (
	"encoding/json"
	"time"

	"carillon.im/server/route"
)

// Record is one account's side of one message.
type Record struct {
	Seq       uint64    `json:"seq,omitempty"` // rising; 0 if it didn't happen
	At        time.Time `json:"at,omitzero"`   // zero if it didn't happen
	Account   string    `json:"account"`       // bare JID
	Side      Side      `json:"side"`
	ID        string    `json:"id,omitempty"`         // the message's own
	ArchiveID string    `json:"archive_id,omitempty"` // in the account's archive
	From      string    `json:"from"`
	To        string    `json:"to"`
	Type      string    `json:"type"`
	Condition string    `json:"condition,omitempty"` // of type error: which, if it is one of RFC 6120 8.3.3's
	Intent    string    `json:"intent"`
	Because   Reason    `json:"intent_rule"`

	Archived      bool   `json:"archived"`
	ArchiveReason Reason `json:"archive_rule"`
	Offline       bool   `json:"offline"`
	OfflineReason Reason `json:"offline_rule,omitzero"`
	Claimable     bool   `json:"claimable"` // it carries <whose/> (XEP-0259)
	// Stopped says why the message goes no further; Error is the condition that
	// its sender is told, "" for none.
	Stopped Reason `json:"stopped_rule,omitzero"`
	Error   string `json:"error,omitempty"`

	Devices []Device `json:"devices"`
	Outside Outside  `json:"outside,omitzero"` // of a message that left for another domain
	Pushes  []Push   `json:"pushes,omitempty"`
}

// Push is what became of a notification of one device (XEP-0357).
type Push struct {
	Resource string // from which the device named the push service
	Service  string
	Verdict  route.PushVerdict
	Rule     route.Rule
	At       time.Time // of what came of it later; zero: the verdict is that of the moment of the message
}

// MarshalJSON writes the notification for programs.
func (p Push) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Resource string    `json:"resource"`
		Service  string    `json:"service"`
		Verdict  string    `json:"verdict"`
		Rule     Reason    `json:"rule"`
		At       time.Time `json:"at,omitzero"`
	}{p.Resource, p.Service, p.Verdict.String(), Reason(p.Rule), p.At})
}

// Device is what one session gets of a message.
type Device struct {
	Resource  string
	Profile   route.Profile
	Available bool // had sent available presence
	Priority  int8 // of that presence
	Sent      bool // it is the one that sent the message
	Form      route.Form
	Tag       route.Tag
	Rule      route.Rule
	Written   time.Time
	Acked     time.Time // by stream management
}

// MarshalJSON writes the device for programs.
func (d Device) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Resource  string    `json:"resource"`
		Profile   string    `json:"profile"`
		Available bool      `json:"available"`
		Priority  int8      `json:"priority"`
		Sent      bool      `json:"sent,omitempty"`
		Gets      string    `json:"gets"`
		Tag       string    `json:"tag,omitempty"`
		Rule      Reason    `json:"rule"`
		Written   time.Time `json:"written,omitzero"`
		Acked     time.Time `json:"acknowledged,omitzero"`
	}{d.Resource, d.Profile.String(), d.Available, d.Priority, d.Sent, d.Form.String(), d.Tag.String(), Reason(d.Rule), d.Written, d.Acked})
}

// Reason is a rule with its sentence.
type Reason route.Rule

// MarshalJSON writes the rule's id and what it says.
func (r Reason) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Rule string `json:"rule"`
		Says string `json:"says"`
	}{route.Rule(r).String(), route.Rule(r).Says()})
}

// String is how people read it: the id and the sentence.
func (r Reason) String() string { return route.Rule(r).String() + ": " + route.Rule(r).Says() }

// Side says whose account it is.
type Side route.Side

// MarshalText is the side's word.
func (s Side) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// String is the side's word.
func (s Side) String() string {
	return [...]string{"recipient", "sender", "self"}[s]
}

// Fill puts a decision into the record; the devices' resources are the caller's. Nothing is allocated if Devices has room.
func (r *Record) Fill(f *route.Facts, d *route.Decision) {
	r.Side, r.Type = Side(f.Side), f.Message.Type.String()
	r.Intent, r.Because = d.Intent.String(), Reason(d.IntentRule)
	r.Archived, r.ArchiveReason = d.Archive, Reason(d.ArchiveRule)
	r.Offline, r.OfflineReason = d.Offline, Reason(d.OfflineRule)
	r.Claimable, r.Stopped = d.Whose, Reason(d.ReplyRule)
	r.Error = [...]string{"", "service-unavailable", "not-acceptable", "bad-request"}[d.Reply]
	r.Devices = r.Devices[:0]
	for i, l := range d.Lines {
		s := &f.Sessions[i]
		r.Devices = append(r.Devices, Device{Profile: s.Profile, Available: s.Available, Priority: s.Priority, Sent: i == f.Sender, Form: l.Form, Tag: l.Tag, Rule: l.Rule})
	}
}
