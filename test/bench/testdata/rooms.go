package main

import (
	"bytes"
	"fmt"
	"slices"
	"time"
)

// enterRoom enters a room and waits for the subject, which ends it (XEP-0045 7.1). It
// counts the presence that came before.
func enterRoom(s *session, nick string, limit time.Duration) (presences int, err error) {
	s.raw.SetDeadline(time.Now().Add(limit))
	defer s.raw.SetDeadline(time.Time{})
	if err := s.printf("<presence to='%s'><x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='0'/></x></presence>", nick); err != nil {
		return 0, err
	}
	st, err := s.await(func(st []byte) bool {
		if st[1] == 'p' && string(attr(st, "type")) == "error" {
			return true
		}
		if st[1] == 'p' {
			presences++
		}
		return st[1] == 'm' && bytes.Contains(st, []byte("<subject"))
	})
	if err == nil && st[1] == 'p' {
		err = fmt.Errorf("join: %s", st)
	}
	if s.smOn {
		s.smIn++
	}
	return presences, err
}

// openRoom makes a room that anybody may enter, persistent or not.
func openRoom(s *session, room string, persistent bool) error {
	form := ""
	if persistent {
		form = "<field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#roomconfig</value></field><field var='muc#roomconfig_persistentroom'><value>1</value></field>"
	}
	_, err := s.call("set", room, "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'>"+form+"</x></query>", 0)
	return err
}

// joinRoom measures what it is to enter a room in which many are.
func joinRoom(o *options, r result) error {
	const more = 20
	n := o.occupants
	r["occupants"] = n
	room := fmt.Sprintf("crowd%d@%s", n, o.target.muc)
	ss, err := o.connect(n+more, o.oneEach)
	if err != nil {
		return err
	}
	defer logoutAll(ss)
	l := &load{limit: 1 << 30}
	var took []float64
	var j *meter
	for i, s := range ss {
		if i == n {
			time.Sleep(2 * time.Second)
			j = startMeter(o.roots())
		}
		began := time.Now()
		presences, err := enterRoom(s, fmt.Sprintf("%s/n%d", room, i), o.timeout)
		if err != nil {
			return err
		}
		if i >= n {
			took = append(took, time.Since(began).Seconds()*1000)
			if presences != i+1 {
				return fmt.Errorf("who entered was told of %d, not %d", presences, i+1)
			}
		}
		if i == 0 {
			if err := openRoom(s, room, false); err != nil {
				return err
			}
		}
		l.newReceiver(s)
		s.run()
	}
	time.Sleep(time.Second) // the others are told
	j.stop()
	slices.Sort(took)
	r["join_p50_ms"], r["join_max_ms"] = round(took[more/2], 2), round(took[more-1], 2)
	r["join_server_cpu_ms_each"] = round(float64(j.srv.Microseconds())/1000/more, 2)
	r["server_cpu_us_per_presence"] = round(float64(j.srv.Microseconds())/float64(more*(2*n+more)), 2)
	return nil
}

// idleRooms measures the memory of persistent rooms in which nobody is.
func idleRooms(o *options, r result) error {
	rooms := o.archive
	r["rooms"] = rooms
	const makers = 10
	ss, err := o.connect(makers, o.oneEach)
	if err != nil {
		return err
	}
	defer logoutAll(ss)
	for i := range 200 { // what is made once
		if err := o.leaveBehind(ss[i%makers], i); err != nil {
			return err
		}
	}
	time.Sleep(o.settle)
	rss0, _ := sampleMem(o.roots())
	m := startMeter(o.roots())
	for i := range rooms {
		if err := o.leaveBehind(ss[i%makers], 200+i); err != nil {
			return err
		}
	}
	m.stop()
	rss1, _ := sampleMem(o.roots())
	time.Sleep(60 * time.Second) // rooms are forgotten, or sleep
	rss2, _ := sampleMem(o.roots())
	r["rss_before_mb"], r["rss_mb"] = round(float64(rss0)/1e6, 1), round(float64(rss2)/1e6, 1)
	r["rss_kb_per_room_at_once"] = round(float64(rss1-rss0)/1024/float64(rooms), 2)
	r["rss_kb_per_room"] = round(float64(rss2-rss0)/1024/float64(rooms), 2)
	r["server_cpu_ms_per_room"] = round(float64(m.srv.Microseconds())/1000/float64(rooms), 3)
	return nil
}

// leaveBehind makes a persistent room and leaves it.
func (o *options) leaveBehind(s *session, i int) error {
	room := fmt.Sprintf("idle%d@%s", i, o.target.muc)
	if _, err := enterRoom(s, room+"/owner", o.timeout); err != nil {
		return err
	}
	if err := openRoom(s, room, true); err != nil {
		return err
	}
	s.raw.SetDeadline(time.Now().Add(o.timeout))
	defer s.raw.SetDeadline(time.Time{})
	if err := s.printf("<presence type='unavailable' to='%s/owner'/>", room); err != nil {
		return err
	}
	_, err := s.await(func(st []byte) bool { return st[1] == 'p' && string(attr(st, "type")) == "unavailable" })
	if err == nil && s.smOn {
		s.smIn++
	}
	return err
}
