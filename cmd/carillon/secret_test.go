package main

import (
	"errors"
	"io"
	"strings"
	"testing"
)

// TestReadHidden: what keys mean at a prompt that shows nothing.
func TestReadHidden(t *testing.T) {
	for _, tt := range []struct {
		name, keys, want string
		err              error
	}{
		{"return", "secret\r", "secret", nil},
		{"line feed", "secret\nmore", "secret", nil},
		{"nothing", "\r", "", nil},
		{"backspace", "secrte\x7f\x7fet\r", "secret", nil},
		{"backspace of a letter of two bytes", "sé\x7fecret\r", "secret", nil},
		{"backspace at the start", "\x7f\bsecret\r", "secret", nil},
		{"Ctrl-U", "secert\x15secret\r", "secret", nil},
		{"Ctrl-C", "sec\x03", "", errInterrupted},
		{"Ctrl-D at the start", "\x04", "", errCancelled},
		{"Ctrl-D after all was taken back", "x\x7f\x04", "", errCancelled},
		{"Ctrl-D in the middle", "sec\x04ret\r", "secret", nil},
		{"the terminal goes away", "sec", "", errCancelled},
	} {
		if got, err := readHidden(strings.NewReader(tt.keys)); got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%s: %q, %v", tt.name, got, err)
		}
	}
	if _, err := readHidden(io.LimitReader(endless{}, 1<<20)); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("an endless line: %v", err)
	}
}

// endless is somebody who holds a key down.
type endless struct{}

func (endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 'x'
	}
	return len(b), nil
}
