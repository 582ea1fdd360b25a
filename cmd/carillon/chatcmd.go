package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	tea "charm.land/bubbletea/v2"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"carillon.im/client/account"
	"carillon.im/cmd/carillon/chat"
	"carillon.im/jid"
)

func (p *program) chatCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "chat [JID [CONTACT-OR-ROOM]]",
		Short: "talk, in the terminal",
		Long: "Logs in as JID and shows its conversations. Everything is done with keys; F1 lists them.\n\n" +
			"The password is asked for once, then the server's token for this device is kept. What was said is kept too: both in the data folder, for this user alone.\n" +
			"--demo needs no account: it starts a server that is gone afterwards, and shows two devices of one person side by side.",
		Example: "  carillon chat --demo\n  carillon chat romeo@localhost juliet@localhost\n" +
			"  carillon chat romeo@localhost --server localhost:5222 --trust 3F:A0:…\n  carillon chat romeo@localhost --device phone\n  carillon chat romeo@localhost hall@rooms.localhost --nick Romeo",
		Args: cobra.MaximumNArgs(2),
	}
	o := addLogin(cmd, "desk")
	nick := cmd.Flags().String("nick", "", "`NAME` in rooms; default the account's name")
	demo := cmd.Flags().Bool("demo", false, "show two devices of one account in step, on a server of its own")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if out, ok := p.stdout.(*os.File); !ok || !term.IsTerminal(int(out.Fd())) || !term.IsTerminal(int(p.stdin.Fd())) && !o.passwordStdin {
			return errors.New("chat needs a terminal: scripts use \"carillon send\" and \"carillon listen\"")
		}
		// A signal, that of a closed window above all, is as good a way to quit as a key: nothing may be left behind.
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
		defer stop()
		if *demo {
			if len(args) > 0 {
				return errors.New("--demo has accounts of its own: leave the addresses out")
			}
			return p.demo(ctx)
		}
		return p.chat(ctx, cmd, o, *nick, args)
	}
	return cmd
}

func (p *program) chat(ctx context.Context, cmd *cobra.Command, o *loginOptions, nick string, args []string) (err error) {
	if len(args) > 0 {
		if cmd.Flags().Changed("account") {
			return errors.New("name the account once: as JID or with --account")
		}
		o.Account = args[0]
	}
	if err := o.complete(cmd); err != nil {
		return err
	}
	var contact jid.JID
	if len(args) > 1 {
		if contact, err = jid.Parse(args[1]); err != nil || contact.Local() == "" {
			return fmt.Errorf("contact %s: wanted name@domain", shellQuote(args[1]))
		}
	}
	l, err := p.newLogin(o)
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stderr, "connecting to the server of %s…\n", l.account)
	a, err := l.start(ctx, account.Config{}, true)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer func() { err = errors.Join(err, a.Close(context.WithoutCancel(ctx))) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // before the account is closed: the screen no longer waits for it
	return p.show(ctx, chat.New(chat.Config{Context: ctx, Device: a, Account: l.account, Name: o.Device, Status: a.Status(), NoColor: noColor(), Contact: contact, Nick: nick}))
}

// show runs a screen until the person quits, or ctx ends.
func (p *program) show(ctx context.Context, screen tea.Model) error {
	in := p.stdin
	if !term.IsTerminal(int(in.Fd())) { // the password came from there
		keys, other, err := tea.OpenTTY()
		if err != nil {
			return fmt.Errorf("no terminal to read keys from: %w", err)
		}
		defer keys.Close()
		defer other.Close()
		in = keys
	}
	program := tea.NewProgram(screen, tea.WithInput(in), tea.WithOutput(p.stdout), tea.WithoutSignalHandler())
	defer context.AfterFunc(ctx, program.Quit)()
	if _, err := program.Run(); ctx.Err() == nil {
		return err
	}
	return nil // what fails then is a terminal that has gone
}

// noColor reports whether the person wants none.
func noColor() bool { return os.Getenv("NO_COLOR") != "" }
