package xep

import (
	"strings"

	"carillon.im/jid"
	"carillon.im/xmltree"
)

// NSReporting is XEP-0377's namespace.
const NSReporting = "urn:xmpp:reporting:1"

// Report is what somebody says about whom he blocks (XEP-0377 4).
type Report struct {
	JID    jid.JID  // who is blocked
	Reason string   // a URN, mostly urn:xmpp:reporting:spam or :abuse
	Text   string   // in the reporter's words, "" for none
	IDs    []string // of messages in the reporter's archive
	Origin bool     // the reporter agrees that the report goes to the domain of who is blocked
	Third  bool     // and to others who collect such reports
}

// Bounds of a report, in bytes and in numbers: what is longer is cut.
const (
	maxReportReason = 200
	maxReportText   = 2000
	maxReportIDs    = 20
)

// ParseReports reads the reports in the items of <block/>, the first of each item. One
// without a reason is none: the block stands without it (XEP-0377 6).
func ParseReports(el xmltree.Element) []Report {
	var list []Report
	for item := range el.Children() {
		report := item.Child(NSReporting, "report")
		who, err := jid.Parse(item.Attr("jid"))
		if !item.Is(NSBlocking, "item") || report.IsZero() || report.Attr("reason") == "" || err != nil {
			continue
		}
		r := Report{JID: who, Reason: cut(report.Attr("reason"), maxReportReason), Text: cut(strings.TrimSpace(report.Child(NSReporting, "text").Text()), maxReportText),
			Origin: !report.Child(NSReporting, "report-origin").IsZero(), Third: !report.Child(NSReporting, "third-party").IsZero()}
		for c := range report.Children() {
			if c.Is(NSStanzaID, "stanza-id") && len(r.IDs) < maxReportIDs {
				r.IDs = append(r.IDs, cut(c.Attr("id"), maxReportReason))
			}
		}
		list = append(list, r)
	}
	return list
}

// cut is a copy of the first n bytes, in whole characters.
func cut(s string, n int) string {
	if len(s) > n {
		s = strings.ToValidUTF8(s[:n], "")
	}
	return strings.Clone(s)
}
