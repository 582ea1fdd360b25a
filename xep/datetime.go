package xep

import (
	"errors"
	"time"
)

// errDateTime is all that is said about a malformed time: it may be long.
var errDateTime = errors.New("xep: not a DateTime of XEP-0082")

// ParseDateTime reads XEP-0082's DateTime profile (3.2), with a fraction of a
// second or without.
func ParseDateTime(s string) (time.Time, error) {
	// The longest that means anything: nanoseconds and an offset. RFC 3339 as
	// time reads it also takes a comma before the fraction, XEP-0082 doesn't.
	if len(s) > len("2006-01-02T15:04:05.000000000+00:00") || len(s) > 19 && s[19] == ',' {
		return time.Time{}, errDateTime
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, errDateTime
	}
	return t.UTC(), nil
}

// AppendDateTime appends a time in XEP-0082's DateTime profile: UTC, with
// microseconds unless they are zero.
func AppendDateTime(dst []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	if year < 0 || year > 9999 {
		return t.AppendFormat(dst, "2006-01-02T15:04:05Z")
	}
	// A page of an archive has one time per message: AppendFormat would take
	// longer than everything else that is done for it here.
	dst = append(dst, byte('0'+year/1000), byte('0'+year/100%10))
	dst = appendPair(dst, year%100, '-')
	dst = appendPair(dst, int(month), '-')
	dst = appendPair(dst, day, 'T')
	hour, minute, sec := t.Clock()
	dst = appendPair(dst, hour, ':')
	dst = appendPair(dst, minute, ':')
	if micro := t.Nanosecond() / 1000; micro != 0 {
		dst = appendPair(dst, sec, '.')
		dst = append(dst, byte('0'+micro/100000), byte('0'+micro/10000%10), byte('0'+micro/1000%10),
			byte('0'+micro/100%10), byte('0'+micro/10%10), byte('0'+micro%10))
		return append(dst, 'Z')
	}
	return appendPair(dst, sec, 'Z')
}

// appendPair appends two digits and what follows them.
func appendPair(dst []byte, v int, then byte) []byte {
	return append(dst, byte('0'+v/10), byte('0'+v%10), then)
}
