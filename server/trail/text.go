package trail

import (
	"fmt"
	"strings"
	"time"

	"carillon.im/server/route"
)

// Text is the record for people, a block of lines.
func (r *Record) Text() string {
	var b strings.Builder
	if r.Seq != 0 {
		fmt.Fprintf(&b, "%s  ", r.At.UTC().Format("2006-01-02 15:04:05.000Z"))
	}
	b.WriteString(r.Type + " message")
	if r.Condition != "" {
		b.WriteString(" (" + r.Condition + ")")
	}
	fmt.Fprintf(&b, " from %s to %s", show(r.From), show(r.To))
	if r.ID != "" {
		fmt.Fprintf(&b, ", id %s", show(r.ID))
	}
	b.WriteByte('\n')
	r.body(&b)
	return b.String()
}

// Explanation is what would happen to a message.
type Explanation struct {
	Message string   `json:"message"` // which: in words
	Sides   []Record `json:"sides"`
	// Outside says what happens at the border, "" if the message stays inside.
	Outside string `json:"outside,omitempty"`
}

// Text is the explanation for people.
func (e *Explanation) Text() string {
	var b strings.Builder
	b.WriteString(show(e.Message) + "\n")
	for i := range e.Sides {
		e.Sides[i].body(&b)
	}
	if e.Outside != "" {
		b.WriteString("  " + show(e.Outside) + "\n")
	}
	return b.String()
}

// body is what a record says besides what message it is about.
func (r *Record) body(b *strings.Builder) {
	fmt.Fprintf(b, "  %s, the %s side\n", show(r.Account), [...]string{"recipient's", "sender's", "sender's and the recipient's"}[r.Side])
	fmt.Fprintf(b, "    meant as %s — %v\n", r.Intent, r.Because)
	if r.Stopped != 0 {
		what := "dropped without an answer"
		if r.Error != "" {
			what = "answered <" + r.Error + "/>"
		}
		fmt.Fprintf(b, "    %s — %v\n", what, r.Stopped)
		return
	}
	for i := range r.Devices {
		b.WriteString("    " + r.Devices[i].text(r.At) + "\n")
	}
	if len(r.Devices) == 0 {
		b.WriteString("    no device is connected or waits to be resumed\n")
	}
	if !r.Outside.Queued.IsZero() {
		b.WriteString("    " + r.Outside.text(r.At) + "\n")
	}
	switch {
	case r.Archived && r.ArchiveID != "":
		fmt.Fprintf(b, "    archive: yes, as %s — %v\n", r.ArchiveID, r.ArchiveReason)
	case r.Archived:
		fmt.Fprintf(b, "    archive: yes — %v\n", r.ArchiveReason)
	default:
		fmt.Fprintf(b, "    archive: no — %v\n", r.ArchiveReason)
	}
	if r.OfflineReason != 0 {
		fmt.Fprintf(b, "    kept for the next device: %s — %v\n", map[bool]string{true: "yes", false: "no"}[r.Offline], r.OfflineReason)
	}
	for i := range r.Pushes {
		b.WriteString("    " + r.Pushes[i].text(r.At) + "\n")
	}
	if r.Claimable {
		fmt.Fprintf(b, "    can be claimed by one device — %v\n", Reason(route.RMine2))
	}
}

func (d *Device) text(since time.Time) string {
	gets := [...]string{"gets nothing", "gets it directly", "gets it, addressed to the bare JID", "gets it as it was archived",
		"gets a carbon copy of what was received", "gets a carbon copy of what was sent"}[d.Form]
	s := fmt.Sprintf("%s (%s): %s — %v", show(d.Resource), d.what(), gets, Reason(d.Rule))
	if d.Tag != route.NoTag {
		s += fmt.Sprintf("; <%v/> is added — %v", d.Tag, Reason(d.Tag.Rule()))
	}
	switch {
	case since.IsZero() || d.Form == route.Nothing:
	case !d.Acked.IsZero():
		s += fmt.Sprintf("; acknowledged after %v", took(since, d.Acked))
	case !d.Written.IsZero():
		s += fmt.Sprintf("; written after %v, not acknowledged", took(since, d.Written))
	default:
		s += "; not written yet"
	}
	return s
}

// text says whether a device was woken for the message.
func (p *Push) text(since time.Time) string {
	what := [...]string{"is not notified", "is not notified yet", "is to be notified"}[p.Verdict]
	if p.At.After(since) || p.Verdict == route.PushNow && !p.At.IsZero() {
		what = fmt.Sprintf("%s after %v", [...]string{"needs no notification any more", "is not notified yet", "notified"}[p.Verdict], took(since, p.At))
	}
	return fmt.Sprintf("%s %s, by %s — %v", show(p.Resource), what, show(p.Service), Reason(p.Rule))
}

// what says which device it is, and what of its presence keeps messages from it: from those of IM-NG nothing does (R-SESS-2).
func (d *Device) what() string {
	s := d.Profile.String()
	switch {
	case d.Profile.Modern():
	case !d.Available:
		s += ", no presence"
	case d.Priority < 0:
		s += fmt.Sprintf(", priority %d", d.Priority)
	}
	if d.Sent {
		s += ", has sent it"
	}
	return s
}

func took(from, to time.Time) time.Duration { return to.Sub(from).Round(100 * time.Microsecond) }

// show keeps what comes from elsewhere from moving the reader's terminal.
func show(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || 0x80 <= r && r < 0xa0 || 0x202a <= r && r <= 0x202e || 0x2066 <= r && r <= 0x2069 {
			return '�'
		}
		return r
	}, s)
}
