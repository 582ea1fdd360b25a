package room

import (
	"fmt"
	"path/filepath"
	"testing"

	"carillon.im/jid"
	"carillon.im/server/store"
	"carillon.im/stanza"
)

// BenchmarkTalk: messages to one room of 40 on disk, of whom so many have several
// under way, as people have whose client doesn't wait for each message.
func BenchmarkTalk(b *testing.B) {
	for _, speakers := range []int{1, 8, 40} {
		b.Run(fmt.Sprintf("speakers=%d", speakers), func(b *testing.B) {
			disk, err := store.Open(b.Context(), store.Options{Path: filepath.Join(b.TempDir(), "room.db")})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { disk.Close() })
			w := newWorld(b, func(c *Config) {
				c.Store, c.Deliver = disk, func([]*stanza.Stanza) {}
			})
			w.join("u0@example/0", "hall", "n0")
			w.open("u0@example/0", "hall", "persistentroom", "1")
			for i := 1; i < 40; i++ {
				w.join(fmt.Sprintf("u%d@example/0", i), "hall", fmt.Sprintf("n%d", i))
			}
			before := disk.Stats().Commits
			taken := make(chan struct{}, 2*speakers) // two under way of each
			b.ResetTimer()
			for i := range b.N {
				taken <- struct{}{}
				st := build(stanza.Message, stanza.TypeGroupchat, "", jid.MustParse(fmt.Sprintf("u%d@example/0", i%speakers)), []byte("<body>Friends, Romans, countrymen</body>"))
				st.To = jid.MustParse(hall)
				if e := w.hub.Keep(st, func() { <-taken }); e != nil {
					b.Fatal(e)
				}
			}
			for range cap(taken) {
				taken <- struct{}{}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
			b.ReportMetric(float64(b.N)/float64(disk.Stats().Commits-before), "msg/commit")
		})
	}
}
