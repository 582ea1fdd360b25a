package server

import (
	"carillon.im/sasl"
	"carillon.im/server/c2s"
	"carillon.im/server/component"
	"carillon.im/server/room"
)

// components is what /metrics shows of the components.
type components struct {
	Connected  int64  `help:"components connected"`
	Accepted   uint64 `help:"connections accepted"`
	Refused    uint64 `help:"connections closed at once because of a limit"`
	Failures   uint64 `help:"handshakes that failed"`
	StanzasIn  uint64 `help:"stanzas received"`
	StanzasOut uint64 `help:"stanzas sent"`
	Returned   uint64 `help:"stanzas that a lost connection left unsent"`
	Full       uint64 `help:"stanzas refused because too much waited for a component"`
	Panics     uint64 `help:"panics recovered; each is a bug"`
}

func componentCounters(m *component.Metrics) components {
	return components{Connected: m.Connected.Load(), Accepted: m.Accepted.Load(), Refused: m.Refused.Load(), Failures: m.Failures.Load(),
		StanzasIn: m.StanzasIn.Load(), StanzasOut: m.StanzasOut.Load(), Returned: m.Returned.Load(), Full: m.Full.Load(), Panics: m.Panics.Load()}
}

// rooms is what /metrics shows of the rooms.
type rooms struct {
	Loaded   int64  `help:"rooms in memory"`
	Messages uint64 `help:"stanzas for rooms"`
	Sent     uint64 `help:"stanzas that rooms have sent"`
	Refused  uint64 `help:"stanzas refused because too much waited for the rooms"`
	Panics   uint64 `help:"panics recovered; each is a bug"`
}

// roomCounters are all zero where there are no rooms.
func roomCounters(h *room.Hub) rooms {
	if h == nil {
		return rooms{}
	}
	n := h.Stats()
	return rooms{Loaded: n.Loaded.Load(), Messages: n.Messages.Load(), Sent: n.Sent.Load(), Refused: n.Refused.Load(), Panics: n.Panics.Load()}
}

// clients is what /metrics shows of the client connections.
type clients struct {
	Open            int64            `help:"connections"`
	Unauthenticated int64            `help:"connections that have not bound a resource yet"`
	Accepted        uint64           `help:"connections accepted"`
	Refused         uint64           `help:"connections closed at once because of a limit"`
	Handshakes      uint64           `help:"TLS handshakes"`
	HandshakeErrors uint64           `help:"TLS handshakes that failed"`
	Logins          uint64           `help:"logins"`
	LoginFailures   map[string]int64 `help:"failed logins" label:"condition"`
	Throttled       uint64           `help:"logins put off by a rate limit"`
	Bound           uint64           `help:"sessions bound"`
	Resumed         uint64           `help:"sessions resumed"`
	Stanzas         uint64           `help:"stanzas received"`
	BytesIn         uint64           `help:"bytes received, inside TLS"`
	BytesOut        uint64           `help:"bytes sent, inside TLS"`
	Writes          uint64           `help:"writes"`
	StreamErrors    uint64           `help:"streams ended with an error"`
	Limits          uint64           `help:"streams ended by a limit"`
	IdleTimeouts    uint64           `help:"clients that gave no sign of life"`
	WriteTimeouts   uint64           `help:"clients that did not read"`
	EarlyTimeouts   uint64           `help:"clients that took too long to log in"`
	Panics          uint64           `help:"panics recovered; each is a bug"`
}

func clientCounters(m *c2s.Metrics) clients {
	c := clients{
		Open: m.Open.Load(), Unauthenticated: m.Unauthenticated.Load(), LoginFailures: map[string]int64{},
		Accepted: uint64(m.Accepted.Load()), Refused: uint64(m.Refused.Load()),
		Handshakes: uint64(m.Handshakes.Load()), HandshakeErrors: uint64(m.HandshakeErrors.Load()),
		Logins: uint64(m.Logins.Load()), Throttled: uint64(m.Throttled.Load()), Bound: uint64(m.Bound.Load()), Resumed: uint64(m.Resumed.Load()),
		Stanzas: uint64(m.StanzasIn.Load()), BytesIn: uint64(m.BytesIn.Load()), BytesOut: uint64(m.BytesOut.Load()), Writes: uint64(m.Writes.Load()),
		StreamErrors: uint64(m.StreamErrors.Load()), Limits: uint64(m.Limits.Load()), IdleTimeouts: uint64(m.IdleTimeouts.Load()),
		WriteTimeouts: uint64(m.WriteTimeouts.Load()), EarlyTimeouts: uint64(m.EarlyTimeouts.Load()), Panics: uint64(m.Panics.Load()),
	}
	m.AuthFailures(func(condition sasl.Condition, n int64) { c.LoginFailures[string(condition)] = n })
	return c
}
