package c2s

import (
	"sync/atomic"

	"carillon.im/sasl"
)

// Metrics are a server's counters. They may be read at any time.
type Metrics struct {
	Open            atomic.Int64 // connections there are now
	Unauthenticated atomic.Int64 // of these, not yet bound
	Accepted        atomic.Int64 // connections there have been
	Refused         atomic.Int64 // connections over a limit, closed at once
	Streams         atomic.Int64 // stream headers accepted, restarts included
	Handshakes      atomic.Int64 // TLS handshakes done
	HandshakeErrors atomic.Int64
	Logins          atomic.Int64 // exchanges that ended well
	Bound           atomic.Int64 // sessions bound
	Resumed         atomic.Int64 // sessions resumed
	StanzasIn       atomic.Int64
	BytesIn         atomic.Int64 // after TLS
	BytesOut        atomic.Int64 // before TLS
	Writes          atomic.Int64 // calls that wrote BytesOut
	StreamErrors    atomic.Int64 // streams that we ended with an error
	Throttled       atomic.Int64 // logins put off by a rate limit
	Limits          atomic.Int64 // policy-violation: streams ended by a limit
	IdleTimeouts    atomic.Int64 // clients that gave no sign of life
	WriteTimeouts   atomic.Int64 // clients that did not read
	EarlyTimeouts   atomic.Int64 // clients that took too long to log in
	Panics          atomic.Int64 // recovered; each is a bug

	failures [len(conditions)]atomic.Int64
}

// conditions are the reasons for which logins fail.
var conditions = [...]sasl.Condition{
	sasl.Aborted, sasl.AccountDisabled, sasl.CredentialsExpired, sasl.EncryptionRequired, sasl.IncorrectEncoding,
	sasl.InvalidAuthzid, sasl.InvalidMechanism, sasl.MalformedRequest, sasl.MechanismTooWeak, sasl.NotAuthorized,
	sasl.TemporaryAuthFailure,
}

func (m *Metrics) authFailed(c sasl.Condition) {
	for i := range conditions {
		if conditions[i] == c {
			m.failures[i].Add(1)
		}
	}
}

// AuthFailures calls fn with the number of failed logins for each reason.
func (m *Metrics) AuthFailures(fn func(condition sasl.Condition, n int64)) {
	for i := range conditions {
		fn(conditions[i], m.failures[i].Load())
	}
}
