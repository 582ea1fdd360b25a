package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"carillon.im/server/admin"
	"carillon.im/server/config"
)

// maxMessageFile bounds what explain reads, in bytes: somewhat more than the server takes, so that the server's error is seen.
const maxMessageFile = 60 << 10

// callOf finds a call of the operator's by its name.
func callOf(name string) admin.Call {
	for _, c := range admin.Calls() {
		if c.Name == name {
			return c
		}
	}
	panic("carillon: no call " + name)
}

func (p *program) explainCommand() *cobra.Command {
	call := callOf("explain")
	cmd := &cobra.Command{Use: "explain --from JID --to JID [FILE.xml]", Short: call.Help, Long: call.Long, Example: indent(call.Example), Args: cobra.MaximumNArgs(1)}
	o := addOptions(cmd, false)
	args := map[string]*string{}
	for _, f := range []struct{ name, usage string }{
		{"from", "`JID` of who sends it"}, {"to", "`JID` of who gets it"},
		{"profile", "`PROFILE` of a sending device that isn't connected: classic, carbons, ng or v2"},
		{"type", "`TYPE` of the message: normal, chat, groupchat, headline or error"},
	} {
		args[f.name] = cmd.Flags().String(f.name, "", f.usage)
	}
	asJSON := cmd.Flags().Bool("json", false, "answer in JSON, for programs")
	cmd.RunE = func(cmd *cobra.Command, files []string) error {
		given := map[string]string{}
		for name, value := range args {
			if *value != "" {
				given[name] = *value
			}
		}
		for _, name := range []string{"from", "to"} {
			if given[name] == "" {
				return fmt.Errorf("explain needs --%s, an address such as romeo@localhost/orchard", name)
			}
		}
		c, err := o.loadAccounts()
		if err != nil {
			return err
		}
		if len(files) == 1 {
			if given["xml"], err = p.readMessage(files[0]); err != nil {
				return err
			}
		}
		result, err := callRunning(cmd.Context(), c, call.Name, given)
		if err != nil {
			return err
		}
		return p.print(result, *asJSON)
	}
	return cmd
}

// readMessage reads a file, or standard input for "-".
func (p *program) readMessage(name string) (string, error) {
	var in io.Reader = p.stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return "", err
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxMessageFile+1))
	switch {
	case err != nil:
		return "", err
	case len(b) > maxMessageFile:
		return "", fmt.Errorf("%s is longer than %d bytes", name, maxMessageFile)
	case len(b) == 0:
		return "", fmt.Errorf("%s is empty: it should hold a <message/>", name)
	}
	return string(b), nil
}

func (p *program) traceCommand() *cobra.Command {
	call := callOf("trace")
	cmd := &cobra.Command{Use: "trace ACCOUNT", Short: call.Help, Long: call.Long, Example: indent(call.Example), Args: func(_ *cobra.Command, args []string) error {
		return checkArgs(call.Name, call.Args[:1], args)
	}}
	o := addOptions(cmd, false)
	last := cmd.Flags().String("last", "20", "`N` latest messages")
	id := cmd.Flags().String("id", "", "only the message with this `ID`, its own or in the archive")
	follow := cmd.Flags().Bool("follow", false, "go on with what happens from now on, until Ctrl-C; each message once, what devices acknowledge later isn't shown")
	asJSON := cmd.Flags().Bool("json", false, "answer in JSON, for programs; with --follow one object a line")
	cmd.RunE = func(cmd *cobra.Command, given []string) error {
		c, err := o.loadAccounts()
		if err != nil {
			return err
		}
		args := map[string]string{"account": given[0], "last": *last}
		if *id != "" {
			args["id"] = *id
		}
		result, err := callRunning(cmd.Context(), c, call.Name, args)
		if err != nil {
			return err
		}
		if !*follow {
			return p.print(result, *asJSON)
		}
		return p.follow(cmd.Context(), c, args, result, *asJSON)
	}
	return cmd
}

// followEvery is how often the server is asked what is new.
const followEvery = 500 * time.Millisecond

// follow prints what happens to an account's messages until ctx ends. What was printed once isn't again when a device acknowledges it later.
func (p *program) follow(ctx context.Context, c config.Config, args map[string]string, result admin.Result, asJSON bool) error {
	delete(args, "last")
	for first := true; ; first = false {
		// The records are behind an any: they come from a socket.
		data, ok := result.Data.(map[string]any)
		if !ok {
			return errors.New("the server's answer is not understood: the program that asks and the server that runs are of different versions")
		}
		records, _ := data["records"].([]any)
		next, _ := data["next"].(float64)
		switch {
		case asJSON:
			for _, r := range records {
				if err := json.NewEncoder(p.stdout).Encode(r); err != nil {
					return err
				}
			}
		case len(records) > 0 || first:
			if !first {
				result.Text = "\n" + result.Text
			}
			if _, err := fmt.Fprint(p.stdout, result.Text); err != nil {
				return err
			}
		}
		args["after"] = strconv.FormatUint(uint64(next), 10)
		select {
		case <-time.After(followEvery):
		case <-ctx.Done():
			return nil
		}
		var err error
		if result, err = callRunning(ctx, c, "trace", args); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
}

// callRunning makes a call that only a running server can answer.
func callRunning(ctx context.Context, c config.Config, name string, args map[string]string) (admin.Result, error) {
	client, _, err := admin.Connect(ctx, c.Data)
	if errors.Is(err, admin.ErrNotRunning) {
		return admin.Result{}, fmt.Errorf("%s: %w (looked in %s; --data or --config name another folder)", name, admin.ErrNoServer, absolute(c.Data))
	}
	if err != nil {
		return admin.Result{}, err
	}
	return client.Call(ctx, name, args)
}

// print shows a call's answer.
func (p *program) print(result admin.Result, asJSON bool) error {
	if !asJSON {
		_, err := fmt.Fprint(p.stdout, result.Text)
		return err
	}
	enc := json.NewEncoder(p.stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(result.Data)
}
