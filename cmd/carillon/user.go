package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"carillon.im/server"
	"carillon.im/server/admin"
	"carillon.im/server/config"
	"carillon.im/server/store"
)

// busyTimeout is how long a command waits for a data folder that another one has, or for a server that is starting or stopping.
const busyTimeout = 10 * time.Second

// userCommand makes the commands from the list of calls.
func (p *program) userCommand() *cobra.Command {
	user := &cobra.Command{
		Use:        "user",
		SuggestFor: []string{"account", "accounts", "adduser", "useradd"},
		Short:      "make, change, remove and look at accounts",
		Long: "Accounts of the server. If it runs on the data folder, the commands reach it through the control socket there;\n" +
			"if not, they work on the data folder themselves.",
		Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, call := range admin.Calls() {
		if strings.HasPrefix(call.Name, "user ") {
			user.AddCommand(p.callCommand(call))
		}
	}
	return user
}

// roomCommand does the same for rooms.
func (p *program) roomCommand() *cobra.Command {
	room := &cobra.Command{
		Use:        "room",
		SuggestFor: []string{"rooms", "muc"},
		Short:      "look at rooms",
		Long:       "Rooms of the server, as it runs or as they are in the data folder.",
		Args:       knownCommand,
		RunE:       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, call := range admin.Calls() {
		if strings.HasPrefix(call.Name, "room ") {
			room.AddCommand(p.callCommand(call))
		}
	}
	return room
}

func (p *program) callCommand(call admin.Call) *cobra.Command {
	var positional, flags []admin.Arg
	use := call.Name[strings.LastIndexByte(call.Name, ' ')+1:]
	for _, a := range call.Args {
		switch {
		case a.Secret:
			continue
		case a.Flag:
			flags = append(flags, a)
			continue
		case a.Optional:
			use += " [" + strings.ToUpper(a.Name) + "]"
		default:
			use += " " + strings.ToUpper(a.Name)
		}
		positional = append(positional, a)
	}
	cmd := &cobra.Command{Use: use, Short: call.Help, Long: call.Long, Example: indent(call.Example)}
	o := addOptions(cmd, false)
	var fromStdin, yes, asJSON bool
	for _, a := range call.Args {
		if a.Secret {
			cmd.Flags().BoolVar(&fromStdin, a.Name+"-stdin", false, "read "+a.Help+" from standard input")
		}
	}
	if call.Confirm != "" {
		cmd.Flags().BoolVar(&yes, "yes", false, "don't ask")
	}
	for _, a := range flags {
		cmd.Flags().String(a.Name, "", a.Help)
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer in JSON, for programs")
	cmd.Args = func(_ *cobra.Command, args []string) error { return checkArgs(call.Name, positional, args) }
	cmd.RunE = func(cmd *cobra.Command, given []string) error {
		c, err := o.loadAccounts()
		if err != nil {
			return err
		}
		args := make(map[string]string)
		for i, value := range given {
			args[positional[i].Name] = value
		}
		for _, a := range flags {
			if f := cmd.Flags().Lookup(a.Name); f.Changed {
				args[a.Name] = f.Value.String()
			}
		}
		if err := haveData(cmd.Context(), c, call); err != nil {
			return err
		}
		// Nobody should have to think of a password, or answer a question, for what can't be done anyway.
		if err := p.prepare(cmd.Context(), c, call.Name, args); err != nil {
			return err
		}
		if call.Confirm != "" && !yes {
			if err := p.confirm(fmt.Sprintf(call.Confirm, given[0])); err != nil {
				return err
			}
		}
		for _, a := range call.Args {
			if !a.Secret {
				continue
			}
			if args[a.Name], err = p.secret(a, given[0], fromStdin); err != nil {
				return err
			}
		}
		result, err := p.call(cmd.Context(), c, call.Name, args)
		if err != nil {
			return err
		}
		if asJSON {
			data := result.Data
			if data == nil {
				data = map[string]string{"text": strings.TrimSpace(result.Text)}
			}
			enc := json.NewEncoder(p.stdout)
			enc.SetIndent("", "  ")
			return enc.Encode(data)
		}
		_, err = fmt.Fprint(p.stdout, result.Text)
		return err
	}
	return cmd
}

// indent sets the examples of a call as cobra prints its own.
func indent(s string) string { return "  " + strings.ReplaceAll(s, "\n", "\n  ") }

// checkArgs says which argument is missing or too many.
func checkArgs(name string, wanted []admin.Arg, given []string) error {
	for i, a := range wanted {
		if i >= len(given) && !a.Optional {
			return fmt.Errorf("%s needs %s, %s (\"carillon %s --help\" shows more)", name, strings.ToUpper(a.Name), a.Help, name)
		}
	}
	if len(given) > len(wanted) {
		// A password is what people are most likely to write there: it must not be repeated.
		return fmt.Errorf("%s: too many arguments; passwords are never given on the command line, where other users of the machine can read them", name)
	}
	return nil
}

// haveData refuses to work on a data folder that doesn't exist, which would only be made by mistake.
func haveData(ctx context.Context, c config.Config, call admin.Call) error {
	if call.Creates {
		return nil
	}
	if _, err := os.Stat(c.Data); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no data folder %s: say where it is with --data or --config", absolute(c.Data))
	}
	return nil
}

// callee carries out calls: the running server or, if there is none, this process.
type callee interface {
	Call(ctx context.Context, name string, args map[string]string) (admin.Result, error)
	Prepare(ctx context.Context, name string, args map[string]string) error
}

// prepare finds out whether a call could be made with these arguments; secrets may be missing. It makes no data folder.
func (p *program) prepare(ctx context.Context, c config.Config, name string, args map[string]string) error {
	if _, err := os.Stat(c.Data); errors.Is(err, fs.ErrNotExist) {
		return newHost(c, nil).Prepare(ctx, name, args)
	}
	return p.reach(ctx, c, func(to callee, _ bool) error { return to.Prepare(ctx, name, args) })
}

// call makes a call.
func (p *program) call(ctx context.Context, c config.Config, name string, args map[string]string) (result admin.Result, err error) {
	err = p.reach(ctx, c, func(to callee, here bool) (err error) {
		if result, err = to.Call(ctx, name, args); err == nil && here {
			fmt.Fprintf(p.stderr, "(no server runs on %s: done in the folder itself)\n", absolute(c.Data))
		}
		return err
	})
	return result, err
}

// reach hands do who carries out calls on the data folder, and whether that is this process.
func (p *program) reach(ctx context.Context, c config.Config, do func(to callee, here bool) error) error {
	deadline := time.Now().Add(busyTimeout)
	for {
		client, _, err := admin.Connect(ctx, c.Data)
		if err == nil {
			return do(client, false)
		}
		if !errors.Is(err, admin.ErrNotRunning) {
			return err
		}
		s, err := store.Open(ctx, store.Options{Path: c.Data, Log: slog.New(slog.NewTextHandler(p.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))})
		if err == nil {
			return errors.Join(do(newHost(c, s), true), s.Close())
		}
		if !errors.Is(err, store.ErrLocked) {
			return dataError(c.Data, err)
		}
		// A server that is starting or stopping, or another command: soon over.
		if time.Now().After(deadline) {
			return fmt.Errorf("%w; it did not answer for %v: if it is a server, its log may say why", dataError(c.Data, err), busyTimeout)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// newHost carries out calls in this process, on an open store; without one it can only prepare them.
func newHost(c config.Config, s *store.Store) *admin.Host {
	h := &admin.Host{Store: s, Domains: c.Domains, Iterations: c.Auth.Iterations, Log: slog.New(slog.DiscardHandler)}
	h.Export, h.Import = server.Transfers(c, h)
	h.Invite = server.MakeInvite(c, s)
	return h
}

// dataError says what to do about a data folder that can't be opened.
func dataError(dir string, err error) error {
	switch {
	case errors.Is(err, store.ErrLocked):
		return fmt.Errorf("the data folder %s is in use by another process", absolute(dir))
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("data folder %s: %w: run this as the folder's owner, or choose another folder with --data", absolute(dir), err)
	}
	return fmt.Errorf("data folder %s: %w", absolute(dir), err)
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}
