package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
)

// Stream is the way to another domain, or a stream from it.
type Stream struct {
	Domain    string    `json:"domain"`               // the other one
	For       string    `json:"for"`                  // ours
	Direction string    `json:"direction"`            // "out", "in" or "both"
	Stream    uint64    `json:"stream,omitempty"`     // which one it is: those with the same number share it; 0: none
	State     string    `json:"state"`                // "up", "connecting", "waiting" for the next try, "idle"
	Security  string    `json:"security,omitempty"`   // how the stream is secured and the domain was proved
	Since     time.Time `json:"since,omitzero"`       // when the stream began, or of "waiting" when the next try is
	Waiting   int       `json:"waiting"`              // stanzas not sent yet
	Unacked   int       `json:"unacked"`              // sent and not acknowledged
	Bytes     int       `json:"bytes"`                // of both
	Error     string    `json:"last_error,omitempty"` // in plain words
}

func streamCalls() []Call {
	return []Call{{
		Name: "s2s", Help: "list the streams with other servers",
		Long: "Lists the ways to other domains and the streams from them: how they are secured and the other domain was proved, what waits or\n" +
			"isn't acknowledged, and why the last try failed. Pairs of domains with the same number under STREAM share a connection.",
		Example: "carillon s2s\ncarillon s2s --json",
		run:     streams,
	}}
}

func streams(_ context.Context, h *Host, _ map[string]string) (Result, error) {
	switch {
	case h.Live == nil:
		return Result{}, ErrNoServer
	case h.Streams == nil:
		return Result{}, errors.New("nothing is exchanged with other servers: s2s is off, or no domain is in the public DNS")
	}
	list := h.Streams()
	if len(list) == 0 {
		return Result{Text: "There are no streams with other servers.\n", Data: []Stream{}}, nil
	}
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "DOMAIN\tFOR\tDIRECTION\tSTREAM\tSTATE\tSECURITY\tWAITING\tUNACKED\tBYTES")
	for _, s := range list {
		state := s.State
		switch {
		case s.Since.IsZero():
		case s.State == "waiting":
			state = "next try " + s.Since.Format(time.TimeOnly)
		default:
			state += " since " + s.Since.Format(time.DateTime)
		}
		stream := "-"
		if s.Stream != 0 {
			stream = fmt.Sprint(s.Stream)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\n", s.Domain, s.For, s.Direction, stream, state, s.Security, s.Waiting, s.Unacked, s.Bytes)
	}
	if err := t.Flush(); err != nil {
		return Result{}, err
	}
	for _, s := range list {
		if s.Error != "" {
			fmt.Fprintf(&b, "%s: %s\n", s.Domain, s.Error)
		}
	}
	return Result{Text: b.String(), Data: list}, nil
}
