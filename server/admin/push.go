package admin

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"carillon.im/server/store"
)

// Push is a push service that a device has named (XEP-0357), in the data of "user devices". The node and what is told with it are secrets between
// the device and its service.
type Push struct {
	Client    string    `json:"client,omitempty"`
	Resource  string    `json:"resource"`
	Service   string    `json:"service"`
	State     string    `json:"state"` // "on", "failing" or "off"
	Since     time.Time `json:"since"` // when the device named it last
	Failures  int       `json:"failures"`
	Condition string    `json:"condition,omitempty"` // of the last failure
	Retry     time.Time `json:"retry,omitzero"`
	Waiting   int       `json:"waiting"` // messages of which it has yet to hear
}

func pushes(targets []store.PushTarget) []Push {
	list := make([]Push, 0, len(targets))
	for _, p := range targets {
		d := Push{Client: p.Client, Resource: p.Resource, Service: p.Service.String(), State: "on", Since: p.At.UTC(), Failures: p.Failures,
			Condition: p.Condition, Retry: p.Retry, Waiting: len(p.Held)}
		switch {
		case p.Off:
			d.State = "off"
		case p.Failures > 0:
			d.State = "failing"
		}
		list = append(list, d)
	}
	return list
}

func pushTable(list []Push) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PUSH FOR\tCLIENT\tSERVICE\tSTATE\tSINCE\tWAITING")
	for _, p := range list {
		state := p.State
		if p.Condition != "" {
			state += ": " + printable(p.Condition)
		}
		if !p.Retry.IsZero() {
			state += ", again at " + stamp(p.Retry)
		}
		client := printable(p.Client)
		if client == "" {
			client = "-"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\n", printable(p.Resource), client, printable(p.Service), state, stamp(p.Since), p.Waiting)
	}
	w.Flush() // a strings.Builder does not fail
	return text.String()
}
