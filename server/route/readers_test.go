package route

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
)

const (
	routingPage    = "../../docs/routing.md"
	routingPicture = "../../docs/routing.svg"
)

// TestRoutingPage holds the rules in docs/routing.md to the rules here.
func TestRoutingPage(t *testing.T) {
	page, err := os.ReadFile(routingPage)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- generated: rules -->\n", "<!-- end -->"
	head, rest, ok := strings.Cut(string(page), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatal("docs/routing.md has no place for the rules")
	}
	var b strings.Builder
	b.WriteString(head + begin + "| rule | what it says |\n| --- | --- |\n")
	for r := range Rules() {
		fmt.Fprintf(&b, "| %v | %s |\n", r, r.Says())
	}
	for r := range PushRules() {
		fmt.Fprintf(&b, "| %v | %s |\n", r, r.Says())
	}
	b.WriteString(end + tail)
	current(t, routingPage, page, []byte(b.String()))
}

// TestRoutingPicture holds docs/routing.svg to what Decide says.
func TestRoutingPicture(t *testing.T) {
	have, _ := os.ReadFile(routingPicture)
	current(t, routingPicture, have, picture())
}

func current(t *testing.T, path string, have, want []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	} else if !bytes.Equal(have, want) {
		t.Errorf("%s is not what the code says: run go generate ./server/route", path)
	}
}

// way is one arrow of the picture: what a device gets.
type way struct {
	device string
	line   Line
}

// ways decides a chat message to the bare JID for an account with a device of
// each profile; for the sender's side the first of them sent it.
func ways(side Side, sender int) (list []way, archived bool) {
	f := Facts{Message: Message{Type: Chat, Marks: Body}, Side: side, Sender: sender, Addressed: -1, Known: side == Receiving, Sessions: []Session{
		{Profile: Classic, Available: true}, {Profile: Carbons}, {Profile: NG}, {Profile: V2}}}
	var d Decision
	Decide(&f, &d)
	for i, l := range d.Lines {
		list = append(list, way{f.Sessions[i].Profile.String(), l})
	}
	return list, d.Archive
}

// picture draws a message of Romeo's classic device to Juliet's bare JID.
func picture() []byte {
	var b bytes.Buffer
	b.WriteString(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 960 430" font-family="sans-serif" font-size="14">
<defs><marker id="tip" markerWidth="9" markerHeight="9" refX="8" refY="4.5" orient="auto"><path d="M0,0 L9,4.5 L0,9 z" fill="#345"/></marker></defs>
<rect width="960" height="430" fill="#fdfdfb"/>
<text x="20" y="30" font-size="16" font-weight="bold" fill="#223">A chat message from Romeo's classic device to juliet@capulet.example</text>
`)
	box := func(x, y, w, h int, fill, line1, line2 string) {
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%d" height="%d" rx="6" fill="%s" stroke="#345"/>`, x, y, w, h, fill)
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle" fill="#112">%s</text>`, x+w/2, y+h/2-2, line1)
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle" font-size="12" fill="#456">%s</text>`+"\n", x+w/2, y+h/2+15, line2)
	}
	arrow := func(x1, y1, x2, y2 int, dashed bool) {
		style := ""
		if dashed {
			style = ` stroke-dasharray="3 4" opacity="0.45"`
		}
		fmt.Fprintf(&b, `<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="#345" stroke-width="1.5" marker-end="url(#tip)"%s/>`+"\n", x1, y1, x2, y2, style)
	}
	describe := func(w way) string {
		text := fmt.Sprintf("%v (%v)", w.line.Form, w.line.Rule)
		if w.line.Tag != NoTag {
			text += " + " + w.line.Tag.String()
		}
		return text
	}
	fmt.Fprint(&b, `<text x="120" y="58" text-anchor="middle" fill="#456">Romeo's devices</text><text x="840" y="58" text-anchor="middle" fill="#456">Juliet's devices</text>`+"\n")
	box(360, 190, 90, 56, "#e8eef7", "Romeo's", "account")
	box(510, 190, 90, 56, "#e8eef7", "Juliet's", "account")
	arrow(450, 218, 508, 218, false)
	sent, kept := ways(Sending, 0)
	got, keptToo := ways(Receiving, -1)
	for _, a := range []struct {
		x    int
		name string
		kept bool
	}{{330, "Romeo's archive", kept}, {480, "Juliet's archive", keptToo}} {
		if a.kept {
			box(a.x, 330, 145, 56, "#f4ecd8", a.name, RArch1.String())
			arrow(a.x+75, 248, a.x+75, 328, false)
		}
	}
	for i := range sent {
		y, name := 70+i*88, sent[i].device
		if sent[i].device == Carbons.String() {
			name += ", without presence"
		}
		what := describe(sent[i])
		if i == 0 {
			what = "sends it"
		}
		box(20, y, 200, 56, "#eef7ee", name, what)
		box(740, y, 200, 56, "#eef7ee", name, describe(got[i]))
		if i == 0 {
			arrow(222, y+28, 372, 188, false)
		} else {
			arrow(358, 210+i*9, 222, y+28, sent[i].line.Form == Nothing)
		}
		arrow(602, 200+i*12, 738, y+28, got[i].line.Form == Nothing)
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}
