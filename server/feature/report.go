package feature

import "time"

// ReportSpace is where an account's reports are in its private storage, by the address
// of who is blocked: as long as he is.
const ReportSpace = "report"

// Report is a report about somebody (XEP-0377), as it is kept in JSON.
type Report struct {
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
	Text   string    `json:"text,omitempty"`
	IDs    []string  `json:"messages,omitempty"`      // in the reporter's archive
	Origin bool      `json:"report_origin,omitempty"` // who is reported may be reported to his domain
	Third  bool      `json:"third_party,omitempty"`   // and to others
}
