package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	tea "charm.land/bubbletea/v2"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"carillon.im/client/account"
	"carillon.im/cmd/carillon/chat"
	"carillon.im/jid"
)

func (p *program) chatCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "chat [JID [CONTACT]]",
		Short: "talk, in the terminal",
		Long: "Logs in as JID and shows its conversations. Everything is done with keys; F1 lists them.\n\n" +
			"The password is asked for once, then the server's token for this device is kept. What was said is kept too: both in the data folder, for this user alone.\n" +
			"--demo needs no account: it starts a server that is gone afterwards, and shows two devices of one person side by side.",
		Example: "  carillon chat --demo\n  carillon chat romeo@localhost juliet@localhost\n" +
			"  carillon chat romeo@localhost --server localhost:5222 --trust 3F:A0:…\n  carillon chat romeo@localhost --device phone",
		Args: cobra.MaximumNArgs(2),
	}
	o := addLogin(cmd, "desk")
	demo := cmd.Flags().Bool("demo", false, "show two devices of one account in step, on a server of its own")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if out, ok := p.stdout.(*os.File); !ok || !term.IsTerminal(int(out.Fd())) || !term.IsTerminal(int(p.stdin.Fd())) && !o.passwordStdin {
			return errors.New("chat needs a terminal: scripts use \"carillon send\" and \"carillon listen\"")
		}
		if *demo {
			if len(args) > 0 {
				return errors.New("--demo has accounts of its own: leave the addresses out")
			}
			return p.demo(cmd.Context())
		}
		return p.chat(cmd, o, args)
	}
	return cmd
}

func (p *program) chat(cmd *cobra.Command, o *loginOptions, args []string) (err error) {
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
	a, err := l.start(cmd.Context(), account.Config{}, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close(context.WithoutCancel(cmd.Context()))) }()
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel() // before the account is closed: the screen no longer waits for it
	return p.show(ctx, chat.New(chat.Config{Context: ctx, Device: a, Account: l.account, Name: o.Device, Status: a.Status(), Contact: contact}))
}

// show runs a screen until the person quits.
func (p *program) show(ctx context.Context, screen tea.Model) error {
	in := p.stdin
	if !term.IsTerminal(int(in.Fd())) { // the password came from there
		tty, _, err := tea.OpenTTY()
		if err != nil {
			return fmt.Errorf("no terminal to read keys from: %w", err)
		}
		defer tty.Close()
		in = tty
	}
	_, err := tea.NewProgram(screen, tea.WithContext(ctx), tea.WithInput(in), tea.WithOutput(p.stdout)).Run()
	if errors.Is(err, tea.ErrInterrupted) { // a signal is as good a way to quit as a key
		return nil
	}
	return err
}
