package c2s

import "testing"

// TestRedact: what is relayed may carry passwords too.
func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		"<message><body>password</body></message>":                                 "<message><body>password</body></message>",
		"<query><username>a</username><password>s3cret</password></query>":         "<query><username>a</username><password>...</password></query>",
		"<password xmlns='x'>a</password><password>b</password><digest>c</digest>": "<password>...</password><password>...</password><digest>...</digest>",
		"<password>cut": "<password>cut",
	} {
		if got := redact(in); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}
