package sm

import (
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func push(q *Queue[int], tags ...int) {
	for _, t := range tags {
		q.Push(Entry[int]{Data: make([]byte, 10), Tag: t})
	}
}

func take(q *Queue[int]) (tags []int) {
	for {
		e, ok := q.Take()
		if !ok {
			return tags
		}
		tags = append(tags, e.Tag)
	}
}

// TestResume is XEP-0198 5: what the peer had not handled is sent again, in
// order, before what came since.
func TestResume(t *testing.T) {
	var q Queue[int]
	q.Enable()
	push(&q, 1, 2, 3, 4)
	take(&q)
	var gone []int
	if err := q.Ack(1, func(tag int) { gone = append(gone, tag) }); err != nil {
		t.Fatal(err)
	}
	push(&q, 5)
	if err := q.Ack(2, func(tag int) { gone = append(gone, tag) }); err != nil {
		t.Fatal(err)
	}
	q.Rewind()
	if got := take(&q); !slices.Equal(got, []int{3, 4, 5}) || !slices.Equal(gone, []int{1, 2}) {
		t.Fatalf("resent %v, acknowledged %v", got, gone)
	}
	if q.Bytes() != 30 {
		t.Fatalf("bytes %d", q.Bytes())
	}
}

// TestAckTooHigh: XEP-0198 4, h beyond what was sent is the peer's error and
// changes nothing.
func TestAckTooHigh(t *testing.T) {
	var q Queue[int]
	q.Enable()
	push(&q, 1, 2)
	q.Take()
	var high *TooHighError
	if err := q.Ack(2, nil); !errors.As(err, &high) || high.H != 2 || high.SendCount != 1 {
		t.Fatalf("got %v", err)
	}
	if q.Unacked() != 1 || q.Waiting() != 1 {
		t.Fatal("a refused acknowledgement changed the queue")
	}
}

// TestWrap: the counter wraps at 2^32 (XEP-0198 4).
func TestWrap(t *testing.T) {
	q := Queue[int]{enabled: true, acked: ^uint32(0)}
	push(&q, 1, 2)
	take(&q)
	if err := q.Ack(0, nil); err != nil || q.Unacked() != 1 {
		t.Fatalf("after the wrap: %v, %d unacknowledged", err, q.Unacked())
	}
}

func TestWithoutAcknowledgements(t *testing.T) {
	var q Queue[int]
	push(&q, 1, 2)
	if got := take(&q); !slices.Equal(got, []int{1, 2}) || q.Bytes() != 0 || q.Unacked() != 0 {
		t.Fatalf("took %v, %d bytes left", got, q.Bytes())
	}
}

// TestQueueModel drives the queue and a plain slice with the same operations.
func TestQueueModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q Queue[int]
		q.Enable()
		var all []int // everything pushed
		acked, sent := 0, 0
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) { all = append(all, len(all)); push(&q, len(all)-1) },
			"take": func(t *rapid.T) {
				e, ok := q.Take()
				if ok != (sent < len(all)) || ok && e.Tag != all[sent] {
					t.Fatalf("take gave %v %v, %d of %d sent", e.Tag, ok, sent, len(all))
				}
				if ok {
					sent++
				}
			},
			"ack": func(t *rapid.T) {
				h := rapid.IntRange(acked, sent+1).Draw(t, "h")
				err := q.Ack(uint32(h), func(tag int) {
					if tag != all[acked] {
						t.Fatalf("acknowledged %d, oldest is %d", tag, all[acked])
					}
					acked++
				})
				if (err != nil) != (h > sent) {
					t.Fatalf("h=%d sent=%d: %v", h, sent, err)
				}
			},
			"resume": func(*rapid.T) { q.Rewind(); sent = acked },
			"": func(t *rapid.T) {
				if q.Bytes() != 10*(len(all)-acked) || q.Waiting() != len(all)-sent || q.Unacked() != sent-acked {
					t.Fatalf("bytes %d waiting %d unacked %d", q.Bytes(), q.Waiting(), q.Unacked())
				}
			},
		})
	})
}

// TestInbound: h is what is done from the first stanza on, without a hole.
func TestInbound(t *testing.T) {
	var in Inbound
	in.Done(in.Receive()) // before enabling: never counted
	early := in.Receive()
	in.Enable()
	a, b, c := in.Receive(), in.Receive(), in.Receive()
	in.Done(b)
	in.Done(a)
	if in.H() != 0 {
		t.Fatalf("h=%d while an earlier stanza is pending", in.H())
	}
	in.Done(early)
	if in.H() != 2 || in.Settled(c) || !in.Settled(b) || in.Pending() != 1 {
		t.Fatalf("h=%d pending=%d", in.H(), in.Pending())
	}
	if !in.Done(c) || in.H() != 3 || in.Pending() != 0 {
		t.Fatalf("h=%d", in.H())
	}
}

// TestOutlives: a stream that is put down and taken up again goes on counting
// where it was.
func TestOutlives(t *testing.T) {
	q := Queue[int]{acked: ^uint32(0), enabled: true}
	push(&q, 1, 2, 3)
	q.Take()
	q.Take()
	if err := q.Ack(0, nil); err != nil {
		t.Fatal(err)
	}
	n := NewQueue(q.Acked(), q.Unacked(), slices.Clone(q.Entries()))
	if n.Bytes() != 20 || n.Unacked() != 1 || n.Waiting() != 1 || n.Check(2) == nil || !n.Enabled() {
		t.Fatalf("%+v", n)
	}
	if err := n.Ack(1, nil); err != nil {
		t.Fatal(err)
	}
	if got := take(&n); !slices.Equal(got, []int{3}) {
		t.Fatalf("it goes on with %v", got)
	}
	in := NewInbound(^uint32(0))
	in.Done(in.Receive())
	if in.H() != 0 || in.Pending() != 0 {
		t.Fatalf("h=%d, %d pending", in.H(), in.Pending())
	}
}
