package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"carillon.im/jid"
	"carillon.im/server/feature"
)

// Report is what an account says about somebody whom it blocks (XEP-0377).
type Report struct {
	Account jid.JID `json:"account"`
	About   string  `json:"about"` // whom
	feature.Report
}

func reportCalls() []Call {
	return []Call{{
		Name: "reports", Help: "list whom users have reported",
		Long: "Lists whom users have blocked and reported (XEP-0377), the latest first, with the reason that they gave. A report is kept as long\n" +
			"as the block stands; the log says it too. Nothing is passed on to other servers by itself.",
		Example: "carillon reports\ncarillon reports example.org --json",
		Args:    []Arg{{Name: "domain", Help: "only accounts of this domain", Optional: true}},
		run:     reports,
	}}
}

func reports(ctx context.Context, h *Host, args map[string]string) (Result, error) {
	list := []Report{}
	for a, err := range h.Store.Accounts(ctx, args["domain"]) {
		if err != nil {
			return Result{}, err
		}
		kept, err := h.Store.KVList(ctx, a.ID, feature.ReportSpace)
		if err != nil {
			return Result{}, err
		}
		for _, kv := range kept {
			r := Report{Account: a.JID, About: kv.Key}
			if err := json.Unmarshal(kv.Value, &r.Report); err != nil {
				return Result{}, fmt.Errorf("the report of %s about %s: %w", a.JID, kv.Key, err)
			}
			list = append(list, r)
		}
	}
	slices.SortStableFunc(list, func(a, b Report) int { return b.At.Compare(a.At) })
	var b strings.Builder
	for _, r := range list {
		fmt.Fprintf(&b, "%s  %s reports %s: %s\n", r.At.Format(time.DateTime), r.Account, r.About, printable(strings.TrimPrefix(r.Reason, "urn:xmpp:reporting:")))
		for line := range strings.Lines(r.Text) {
			fmt.Fprintf(&b, "    %s\n", printable(strings.TrimSpace(line)))
		}
		if len(r.IDs) > 0 {
			fmt.Fprintf(&b, "    messages in the archive: %s\n", printable(strings.Join(r.IDs, " ")))
		}
	}
	if len(list) == 0 {
		b.WriteString("Nobody is reported.\n")
	}
	return Result{Text: b.String(), Data: list}, nil
}
