package trail

import (
	"encoding/json"
	"fmt"
	"time"
)

// Step is something that happens to a message on its way to another domain.
type Step uint8

// The steps. How it is known that the other server has a message is one of the four
// from Acknowledged on: a server need not acknowledge what it takes.
const (
	Queued       Step = iota // it waits for its turn
	Written                  // on a stream; again, if that broke
	Returned                 // to its sender, with an error
	Acknowledged             // by stream management (XEP-0198)
	Answered                 // a question that was sent behind it
	LivedOn                  // the stream, for a while after it was written
	Closed                   // the stream was, in good order, after it was written
)

// Outside is what became of a message that left for another domain.
type Outside struct {
	Queued    time.Time
	Written   time.Time // the last time
	Delivered time.Time
	Known     Step // how that is known, if Delivered
	Returned  time.Time
	Condition string // of the error, if Returned
}

// MarshalJSON writes it for programs.
func (o Outside) MarshalJSON() ([]byte, error) {
	known := ""
	if !o.Delivered.IsZero() {
		known = [...]string{Acknowledged: "acknowledged", Answered: "answered", LivedOn: "lived-on", Closed: "closed"}[o.Known]
	}
	return json.Marshal(struct {
		Queued    time.Time `json:"queued"`
		Written   time.Time `json:"written,omitzero"`
		Delivered time.Time `json:"delivered,omitzero"`
		Known     string    `json:"known_because,omitempty"`
		Returned  time.Time `json:"returned,omitzero"`
		Condition string    `json:"returned_with,omitempty"`
	}{o.Queued, o.Written, o.Delivered, known, o.Returned, o.Condition})
}

// Left notes a step of the message whose record ref names; condition is that of an
// error, for Returned. It may be called concurrently.
func (r *Ring) Left(ref Ref, step Step, condition string, at time.Time) {
	r.change(ref, func(rec *Record) {
		o := &rec.Outside
		switch step {
		case Queued:
			o.Queued = at
		case Written:
			o.Written = at
		case Returned:
			o.Returned, o.Condition = at, condition
		default:
			o.Delivered, o.Known = at, step
		}
	})
}

// text is what people read of it; since is when the message was sent.
func (o *Outside) text(since time.Time) string {
	s := fmt.Sprintf("leaves for its domain: queued after %v", took(since, o.Queued))
	if !o.Written.IsZero() {
		s += fmt.Sprintf("; written after %v", took(since, o.Written))
	}
	switch {
	case !o.Returned.IsZero():
		s += fmt.Sprintf("; returned after %v with <%s/>", took(since, o.Returned), o.Condition)
	case !o.Delivered.IsZero():
		after := took(since, o.Delivered)
		switch o.Known {
		case Answered:
			s += fmt.Sprintf("; read, as its answer to a question behind it says, after %v: that server doesn't acknowledge (XEP-0198)", after)
		case LivedOn:
			s += fmt.Sprintf("; taken for delivered after %v, for the stream has lived on: that server doesn't acknowledge (XEP-0198)", after)
		case Closed:
			s += fmt.Sprintf("; read to the end of the stream, which was closed in good order after %v", after)
		default:
			s += fmt.Sprintf("; acknowledged after %v", after)
		}
	case o.Written.IsZero():
		s += "; not written yet"
	default:
		s += "; not acknowledged"
	}
	return s
}
