package server

import (
	"fmt"
	"testing"

	"carillon.im/server/route"
)

// BenchmarkRoom is a message to a room of 500, from its sender to the bytes that the
// connections write, for each of those who get it.
func BenchmarkRoom(b *testing.B) {
	const occupants = 500
	s := serverWith(b, 1+occupants)
	const room = "big@rooms.h.example"
	var crowd []*device
	for i := range occupants {
		d := bindDevice(b, s, fmt.Sprintf("u%d@h.example", i), "d", route.Classic)
		d.send(fmt.Sprintf("<presence to='%s/n%d'><x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='0'/></x></presence>", room, i))
		d.until("<subject/>")
		if i == 0 {
			d.send("<iq type='set' id='c' to='" + room + "'><query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'/></query></iq>")
			d.until("id='c'")
		}
		crowd = append(crowd, d)
	}
	read := func(text string) {
		for _, d := range crowd {
			d.until(text)
		}
	}
	crowd[0].send("<message to='" + room + "' type='groupchat'><body>begin</body></message>")
	read("begin")
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		crowd[i%occupants].send(fmt.Sprintf("<message to='%s' type='groupchat' id='m%d'><body>Friends, Romans, countrymen, %d.</body></message>", room, i, i))
		read(fmt.Sprintf("countrymen, %d.", i))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*occupants), "ns/delivery")
}
