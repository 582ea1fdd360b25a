package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"carillon.im/jid"
	"carillon.im/stream"
	"carillon.im/xep"
)

// State is what a client keeps of an account from one run to the next. It holds
// secrets: who has it can log in.
type State struct {
	AgentID string // xep.UserAgent.ID

	// Offer is what the server offered before the last login, for a first flight
	// that doesn't wait for it (XEP-0509).
	Offer *stream.Offered

	// Strength is the strongest kind of login that the server has offered; a
	// weaker one is refused.
	Strength Strength
	// Scram is the mechanism, without channel binding, of the last login with a
	// password: the server has keys for it.
	Scram string

	Token          string // XEP-0484
	TokenMechanism string
	TokenExpiry    time.Time
	TokenCount     uint64 // of logins begun with it

	RosterVersion string
	Roster        []xep.RosterItem

	// Session is one that Suspend left to be resumed; nil if there is none.
	Session *SavedSession
}

// Strength orders the ways to log in with a password.
type Strength uint8

// The strengths, weakest first.
const (
	StrengthUnknown Strength = iota
	StrengthPlain            // the server sees the password
	StrengthScram            // RFC 5802
	StrengthBound            // RFC 5802 with channel binding
)

// SavedSession is a session of stream management without its connection
// (XEP-0198 5).
type SavedSession struct {
	ID      string
	JID     jid.JID
	Expiry  time.Time
	Profile Profile
	Handled uint32   // stanzas of the server
	Acked   uint32   // stanzas of the client that the server has acknowledged
	Sent    int      // of Unacked, how many were written
	Unacked []string // encoded, oldest first
	// Rooms are those that the session entered with its request: what is left of their
	// catch-ups comes when it is resumed. States of before have none.
	Rooms []jid.JID `json:",omitempty"`
}

// Format keeps the secrets out of what is printed.
func (s State) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "client.State(agent %s)", s.AgentID) }

// Store keeps the states of accounts. It is used by one client of an account at
// a time. What it returns and is given isn't changed.
type Store interface {
	// Load returns the state of an account, the zero State if there is none.
	Load(ctx context.Context, account jid.JID) (State, error)
	// Save replaces it as a whole.
	Save(ctx context.Context, account jid.JID, s State) error
}

// MemoryStore keeps states as long as it lives. The zero value is ready to use,
// by any number of goroutines.
type MemoryStore struct {
	mu     sync.Mutex
	states map[jid.JID]State
}

// Load implements Store.
func (m *MemoryStore) Load(_ context.Context, account jid.JID) (State, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.states[account], nil
}

// Save implements Store.
func (m *MemoryStore) Save(_ context.Context, account jid.JID, s State) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.states == nil {
		m.states = map[jid.JID]State{}
	}
	s.Roster = slices.Clone(s.Roster)
	m.states[account] = s
	return nil
}

// FileStore keeps each account's state in a file of its own, readable by the
// owner alone. Files are replaced whole, so that a crash leaves the old or the
// new one.
type FileStore struct {
	Dir string // made if it isn't there
}

// stateVersion is the format of the files. Others are treated as absent: all
// that is lost is a round trip and a catch-up.
const stateVersion = 1

type stateFile struct {
	Version int
	State   *State
}

func (f FileStore) path(account jid.JID) string {
	return filepath.Join(f.Dir, url.PathEscape(account.String())+".json")
}

// Load implements Store.
func (f FileStore) Load(_ context.Context, account jid.JID) (State, error) {
	b, err := os.ReadFile(f.path(account))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return State{}, nil
	case err != nil:
		return State{}, fmt.Errorf("client: state: %w", err)
	}
	file := stateFile{State: &State{}}
	if err := json.Unmarshal(b, &file); err != nil {
		return State{}, fmt.Errorf("client: state: %s is damaged", f.path(account)) // the cause would quote it
	}
	if file.Version != stateVersion || file.State == nil {
		return State{}, nil
	}
	return *file.State, nil
}

// Save implements Store.
func (f FileStore) Save(_ context.Context, account jid.JID, s State) (err error) {
	b, err := json.Marshal(stateFile{stateVersion, &s})
	if err != nil {
		return fmt.Errorf("client: state: %w", err)
	}
	if err := os.MkdirAll(f.Dir, 0o700); err != nil {
		return fmt.Errorf("client: state: %w", err)
	}
	tmp, err := os.CreateTemp(f.Dir, ".state-*") // 0600
	if err != nil {
		return fmt.Errorf("client: state: %w", err)
	}
	defer func() {
		if err != nil {
			os.Remove(tmp.Name())
			err = fmt.Errorf("client: state: %w", err)
		}
	}()
	_, err = tmp.Write(b)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), f.path(account))
}
