package account

import (
	"slices"
	"testing"
)

// TestUnreadAlone: what was sent to one resource and not read there is kept, though
// another session is there: a classic one didn't get it (R-CONV-3). One that was
// sent a copy did. Found by sim, seed 201080.
func TestUnreadAlone(t *testing.T) {
	for _, c := range []struct {
		other string
		to    string
		want  []string
	}{
		{"bob/c online", bob + "/b", []string{"one"}},
		{"bob/c carbons online", bob + "/b", nil},
		{"bob/c online", bob, nil},
		{"bob/c online", bob + "/nobody", nil},
	} {
		w := newWorld(t, "alice bob")
		a, b := w.bind("alice/a"), w.bind("bob/b sm online")
		w.bind(c.other)
		a.say(c.to, "one")
		b.Close(b)
		w.settle()
		if got := w.offline("bob"); !slices.Equal(got, c.want) {
			t.Errorf("%s, to %s: kept %v", c.other, c.to, got)
		}
	}
	// The copy isn't read, and the message is.
	w := newWorld(t, "alice bob")
	a, b := w.bind("alice/a"), w.bind("bob/b carbons sm online")
	w.bind("bob/c sm online")
	a.say(bob+"/c", "one")
	b.Close(b)
	w.settle()
	if got := w.offline("bob"); len(got) != 0 {
		t.Errorf("kept %v, which its recipient has", got)
	}
}

// TestAloneOutlives: the same of a session that is restored.
func TestAloneOutlives(t *testing.T) {
	want := tag{kind: tagConversation, id: 7, archived: true, alone: true, order: 3}
	if got, ok := decodeTag(encodeTag(want)); !ok || got != want {
		t.Errorf("%+v", got)
	}
}
