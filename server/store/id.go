package store

import "time"

// AccountID names an account for ever; ids are never given twice, also not after removal.
type AccountID int64

// ArchiveID names an entry of one account's archive (XEP-0313 3.1, the XEP-0359 stanza-id). It is the entry's stamp in microseconds since the
// Unix epoch, or the account's last id + 1 where the clock stands still or runs back; so ids of an account increase strictly. The account's
// owner assigns it. The zero value means "none".
type ArchiveID int64

// archiveIDLen is the length of an ArchiveID on the wire: 13 * 5 bits hold the 63 bits of a positive int64.
const archiveIDLen = 13

const base32hex = "0123456789abcdefghijklmnopqrstuv"

// NextArchiveID returns the id of an entry made at now in an account whose last id is last.
func NextArchiveID(last ArchiveID, now time.Time) ArchiveID {
	return max(last+1, ArchiveID(now.UnixMicro()))
}

// String returns the id as clients see it: 13 characters of lower case base32hex that sort like the ids.
func (id ArchiveID) String() string {
	var b [archiveIDLen]byte
	id.encode(&b)
	return string(b[:])
}

// Append appends String to dst without allocating.
func (id ArchiveID) Append(dst []byte) []byte {
	var b [archiveIDLen]byte
	id.encode(&b)
	return append(dst, b[:]...)
}

func (id ArchiveID) encode(b *[archiveIDLen]byte) {
	v := uint64(id)
	for i := archiveIDLen - 1; i >= 0; i-- {
		b[i] = base32hex[v&31]
		v >>= 5
	}
}

// ParseArchiveID is the strict inverse of String: it accepts nothing that String does not return for a positive id.
func ParseArchiveID(s string) (ArchiveID, bool) {
	if len(s) != archiveIDLen {
		return 0, false
	}
	var v uint64
	for i := range len(s) {
		c := s[i]
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'v':
			c -= 'a' - 10
		default:
			return 0, false
		}
		// 13 digits are 65 bits: the two above the sign bit, and the sign bit itself, must be clear.
		if i == 0 && c > 7 {
			return 0, false
		}
		v = v<<5 | uint64(c)
	}
	return ArchiveID(v), v != 0
}

// Time returns the stamp of the entry.
func (id ArchiveID) Time() time.Time { return time.UnixMicro(int64(id)).UTC() }
