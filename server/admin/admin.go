// Package admin is what the operator of a server can ask of it. There is one list of calls, Calls; the command line and the control socket are made
// from it, so that both always offer the same. A Host carries calls out on an open store: inside the running server, or in a command while no server
// runs. Opening the store locks the data folder, so that there is one Host at most. The control socket lies in the data folder and whoever may open it
// may call everything: the file system is the access control. The package also serves the operator's HTTP pages: health, metrics and, on demand, profiles.
package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/server/route"
	"carillon.im/server/store"
	"carillon.im/server/trail"
	"carillon.im/stanza"
)

// Live is what a Host asks of the running server. Its methods may be called concurrently.
type Live interface {
	// Sessions returns the account's sessions, connected or waiting to be resumed; none is no error.
	Sessions(ctx context.Context, bare jid.JID) ([]feature.SessionInfo, error)
	// AccountRemoved ends the sessions of an account that is no longer in the store, and forgets it.
	AccountRemoved(ctx context.Context, bare jid.JID) error
	// EndClient ends the sessions of one of the account's clients, makes its tokens worthless and forgets it.
	EndClient(ctx context.Context, bare jid.JID, client string) error
	// Explain says what would happen to a message now, on each side that is this server's.
	Explain(ctx context.Context, st *stanza.Stanza, p route.Profile) (trail.Explanation, error)
	// Trail is what became of the latest messages.
	Trail() *trail.Ring
}

// Host carries out calls. Its methods may be called concurrently.
type Host struct {
	Store      *store.Store
	Domains    []string // that accounts may be made for, in prepared form
	Iterations int      // of the key derivation for new passwords (SCRAM)
	Live       Live     // nil while no server runs
	// Streams lists the ways to other servers and the streams from them; nil while nothing is exchanged with any.
	Streams func() []Stream
	Export  ExportFunc
	Import  ImportFunc
	Invite  InviteFunc // nil: there are no invitations
	Log     *slog.Logger
}

// Call is one thing that can be asked for. Args are given by position, or as flags, on the command line and by name on the socket.
type Call struct {
	Name    string // words with spaces: "user add"
	Help    string // half a sentence
	Long    string // what there is to know, for the call's own help
	Example string
	Args    []Arg
	// Confirm is a question to put to a person at a terminal before the call is made, with one %s for the first argument. Empty: no question.
	Confirm string
	// Again names the argument that only those give who made the call before and make it every moment: such calls would fill the log.
	Again string
	// Creates tells that the call makes sense on a data folder that doesn't exist yet.
	Creates bool

	run func(ctx context.Context, h *Host, args map[string]string) (Result, error)
	// prepare, if not nil, finds out whether the call could be made, before secrets are known. The host's Store may be nil.
	prepare func(ctx context.Context, h *Host, args map[string]string) error
}

// Arg is an argument of a call.
type Arg struct {
	Name     string
	Help     string
	Optional bool // only the last ones
	Secret   bool // never on a command line, never in a log: asked for by prompt or read from standard input
	New      bool // a secret that is being chosen: asked for twice
	Flag     bool // on the command line not by position, but as --name
}

// Result is a call's answer.
type Result struct {
	Text string `json:"text"`           // for people; ends with a line break unless it is empty
	Data any    `json:"data,omitempty"` // the same for programs; nil where Text says all
}

// Decode puts Data into out, which has its type: what came over the socket has lost it.
func (r Result) Decode(out any) error {
	b, err := json.Marshal(r.Data)
	if err == nil {
		err = json.Unmarshal(b, out)
	}
	if err != nil {
		return fmt.Errorf("the server's answer: %w", err)
	}
	return nil
}

// Calls returns all calls.
func Calls() []Call {
	return slices.Concat(userCalls(), inviteCalls(), roomCalls(), messageCalls(), streamCalls(), reportCalls())
}

// Call carries out the call of the given name. Errors are for the operator and say what to do where that is known.
func (h *Host) Call(ctx context.Context, name string, args map[string]string) (Result, error) {
	c, err := callNamed(name)
	if err != nil {
		return Result{}, err
	}
	if err := c.check(args, true); err != nil {
		return Result{}, err
	}
	started := time.Now()
	result, err := c.run(ctx, h, args)
	log := h.Log.With("call", name, "took", time.Since(started).Round(time.Microsecond))
	for _, a := range c.Args {
		if !a.Secret && a.Name != "xml" && args[a.Name] != "" {
			log = log.With(a.Name, args[a.Name])
		}
	}
	if err != nil {
		log.Warn("admin call failed", "error", err)
	} else {
		level := slog.LevelInfo
		if c.Again != "" && args[c.Again] != "" {
			level = slog.LevelDebug
		}
		log.Log(ctx, level, "admin call")
	}
	return result, err
}

// Prepare returns the error that the call would give, as far as it can be known without the secret arguments and without doing anything. A person is
// asked for a secret, or whether he is sure, only behind it.
func (h *Host) Prepare(ctx context.Context, name string, args map[string]string) error {
	c, err := callNamed(name)
	if err != nil {
		return err
	}
	if err := c.check(args, false); err != nil || c.prepare == nil {
		return err
	}
	return c.prepare(ctx, h, args)
}

func callNamed(name string) (Call, error) {
	for _, c := range Calls() {
		if c.Name == name {
			return c, nil
		}
	}
	return Call{}, fmt.Errorf("there is no call %q: the program that asks and the server that runs are of different versions", name)
}

// check compares given arguments with the declared ones; secrets may be missing unless they are needed.
func (c *Call) check(args map[string]string, secrets bool) error {
	known := 0
	for _, a := range c.Args {
		_, given := args[a.Name]
		if given {
			known++
		}
		if !given && !a.Optional && (secrets || !a.Secret) {
			return fmt.Errorf("%s: %s is missing", c.Name, strings.ToUpper(a.Name))
		}
	}
	if known != len(args) {
		return fmt.Errorf("%s: unknown argument", c.Name)
	}
	return nil
}
