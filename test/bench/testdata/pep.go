package main

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Personal events (XEP-0163): one account publishes, and its contacts' clients, all of
// which ask for the node by the same capabilities (XEP-0115), hear of it.

const (
	pepNode = "urn:bench:pep"
	pepCaps = "https://bench.example"
	// carillon lets an account publish so often at once; a few more come before.
	maxEvents = 450
)

var pepFeatures = []string{"http://jabber.org/protocol/caps", "http://jabber.org/protocol/disco#info", pepNode + "+notify"}

// pepVer is the hash of the capabilities (XEP-0115 5.1).
func pepVer() string {
	sum := sha1.Sum([]byte("client/pc//<" + strings.Join(pepFeatures, "<") + "<"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// answerCaps answers who asks what the client can.
func answerCaps(s *session, st []byte) bool {
	if !bytes.Contains(st, []byte(pepCaps+"#")) {
		return false
	}
	info := ""
	for _, f := range pepFeatures {
		info += "<feature var='" + f + "'/>"
	}
	s.printf("<iq type='result' id='%s' to='%s'><query xmlns='http://jabber.org/protocol/disco#info' node='%s#%s'><identity category='client' type='pc'/>%s</query></iq>",
		attr(st, "id"), attr(st, "from"), pepCaps, pepVer(), info)
	return true
}

// befriend makes the contacts and the publisher see each other. heard counts events
// that contacts are told.
func befriend(publisher *session, contacts []*session, heard *atomic.Int64, limit time.Duration) error {
	var done atomic.Int64 // subscriptions, two for each contact
	publisher.handler = func(st []byte) {
		from := attr(st, "from")
		switch {
		case st[1] != 'p':
		case string(attr(st, "type")) == "subscribe":
			publisher.printf("<presence type='subscribed' to='%s'/><presence type='subscribe' to='%s'/>", from, from)
		case string(attr(st, "type")) == "subscribed":
			done.Add(1)
		}
	}
	for _, c := range contacts {
		c.handler = func(st []byte) {
			switch {
			case st[1] == 'm' && bytes.Contains(st, []byte("pubsub#event")) && bytes.Contains(st, []byte("<tune")):
				heard.Add(1)
			case st[1] != 'p':
			case string(attr(st, "type")) == "subscribe":
				c.printf("<presence type='subscribed' to='%s'/>", attr(st, "from"))
			case string(attr(st, "type")) == "subscribed":
				done.Add(1)
			}
		}
	}
	runAll(append(contacts, publisher))
	for _, c := range contacts {
		if err := c.printf("<presence type='subscribe' to='%s'/>", publisher.bare()); err != nil {
			return err
		}
	}
	for end := time.Now().Add(limit); done.Load() < int64(2*len(contacts)); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("%d of %d subscriptions", done.Load(), 2*len(contacts))
		}
	}
	return nil
}

// personalEvents measures what it is to tell many contacts of an event.
func personalEvents(o *options, r result) error {
	n := o.occupants
	r["contacts"] = n
	o.roster = true // who didn't ask for it isn't told of subscriptions (RFC 6121 3.1.6)
	ss, err := o.connect(n+1, o.oneEach)
	if err != nil {
		return err
	}
	defer logoutAll(ss)
	publisher, contacts := ss[n], ss[:n:n] // appending copies
	var heard atomic.Int64
	if err := befriend(publisher, contacts, &heard, o.timeout); err != nil {
		return err
	}
	for _, c := range contacts {
		c.printf("<presence><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='%s' ver='%s'/></presence>", pepCaps, pepVer())
	}
	publish := func(i int) error {
		st, err := publisher.call("set", "", fmt.Sprintf("<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='%s'><item id='current'>"+
			"<tune xmlns='urn:bench:tune'><title>%0100d</title></tune></item></publish></pubsub>", pepNode, i), o.timeout)
		if err == nil && string(attr(st, "type")) == "error" {
			err = fmt.Errorf("publishing: %s", st)
		}
		return err
	}
	// Until all are told: the server has learned what they want.
	published := 0
	for end := time.Now().Add(o.timeout); ; {
		before := heard.Load()
		if err := publish(published); err != nil {
			return err
		}
		published++
		for wait := time.Now().Add(3 * time.Second); heard.Load()-before < int64(n) && time.Now().Before(wait); {
			time.Sleep(time.Millisecond)
		}
		if heard.Load()-before >= int64(n) {
			break
		}
		if time.Now().After(end) {
			return fmt.Errorf("%d of %d contacts hear of events", heard.Load()-before, n)
		}
	}
	time.Sleep(o.warmup)
	heard.Store(0)
	var took []float64
	m := startMeter(o.roots())
	for events := 1; events <= maxEvents && (time.Since(m.t0) < o.duration || events <= 5); events++ {
		began := time.Now()
		if err := publish(published + events); err != nil {
			return err
		}
		for end := began.Add(o.timeout); heard.Load() < int64(events*n); time.Sleep(100 * time.Microsecond) {
			if time.Now().After(end) {
				return fmt.Errorf("event %d: %d of %d deliveries", events, heard.Load(), events*n)
			}
		}
		took = append(took, time.Since(began).Seconds()*1000)
	}
	m.stop()
	m.into(r, "delivery", heard.Load())
	slices.Sort(took)
	r["events"], r["deliveries_per_s"] = len(took), round(float64(heard.Load())/m.wall.Seconds(), 1)
	r["all_told_p50_ms"], r["all_told_max_ms"] = round(took[len(took)/2], 2), round(took[len(took)-1], 2)
	return nil
}
