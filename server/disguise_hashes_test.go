package server

import (
	"fmt"
	"testing"

	"carillon.im/sasl"
)

// TestUsable: SCRAM is offered with what all accounts have keys of, or, where there is nothing of the kind, the most.
func TestUsable(t *testing.T) {
	for _, tt := range []struct {
		sha1, sha256, sha512, accounts int
		want                           string
	}{
		{0, 0, 0, 0, "[SHA-512 SHA-256 SHA-1]"},
		{5, 5, 5, 5, "[SHA-512 SHA-256 SHA-1]"},
		{5, 4, 4, 5, "[SHA-1]"},
		{5, 5, 0, 5, "[SHA-256 SHA-1]"},
		{2, 3, 0, 5, "[SHA-256]"},
	} {
		got := usable(map[sasl.Hash]int{sasl.SHA1: tt.sha1, sasl.SHA256: tt.sha256, sasl.SHA512: tt.sha512}, tt.accounts)
		if fmt.Sprint(got) != tt.want {
			t.Errorf("%+v: %v", tt, got)
		}
	}
}
