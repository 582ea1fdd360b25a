package route

import "testing"

// mixed is an account with a device of every profile.
func mixed() []Session {
	return []Session{{Profile: V2, Available: true}, {Profile: NG}, {Profile: Carbons, Available: true, Priority: -1}, {Profile: Classic, Available: true, Priority: 5}}
}

// BenchmarkDecide: under 1 µs and no allocation.
func BenchmarkDecide(b *testing.B) {
	for name, f := range map[string]*Facts{
		"to bare":        {Message: Message{Type: Chat, Marks: Body}, Sender: -1, Addressed: -1, Sessions: mixed()},
		"to full":        {Message: Message{Type: Chat, Full: true, Marks: Body}, Sender: -1, Addressed: 3, Sessions: mixed()},
		"exclusive":      {Message: Message{Type: Chat, Full: true, Marks: Body | Modern}, Sender: -1, Addressed: 0, Sessions: mixed()},
		"sent":           {Message: Message{Type: Chat, Marks: Body}, Side: Sending, Sender: 1, Addressed: -1, Sessions: mixed()},
		"note to self":   {Message: Message{Type: Chat, Marks: Body}, Side: Own, Sender: 1, Addressed: -1, Sessions: mixed()},
		"kept offline":   {Message: Message{Type: Chat, Marks: Body}, Sender: -1, Addressed: -1},
		"error, to full": {Message: Message{Type: Error, Full: true}, Sender: -1, Addressed: 2, Sessions: mixed()},
	} {
		b.Run(name, func(b *testing.B) {
			d := Decision{Lines: make([]Line, 0, 4)}
			b.ReportAllocs()
			for b.Loop() {
				Decide(f, &d)
			}
		})
	}
}

// TestAllocations: reading and deciding allocate nothing.
func TestAllocations(t *testing.T) {
	f := Facts{Message: Message{Type: Chat, Full: true, Marks: Body}, Side: Receiving, Sender: -1, Addressed: 1, Sessions: mixed()}
	d := Decision{Lines: make([]Line, 0, 4)}
	plain := parse(t, "chat", "a@b/c", body+composing+receipt+noStore)
	for name, run := range map[string]func(){
		"Decide":  func() { Decide(&f, &d) },
		"Inspect": func() { Inspect(plain) },
		"Enter":   func() { Enter(plain, FromDomain) },
	} {
		if n := testing.AllocsPerRun(100, run); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}
