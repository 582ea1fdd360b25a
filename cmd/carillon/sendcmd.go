package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"carillon.im/client"
	"carillon.im/client/account"
	"carillon.im/client/convo"
	"carillon.im/jid"
)

// maxMessageText bounds what send takes from standard input, in bytes.
const maxMessageText = 64 << 10

// codeTemporary is the exit code for what may succeed later (EX_TEMPFAIL of sysexits).
const codeTemporary = 75

func (p *program) sendCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "send JID [TEXT]",
		Short: "send one message, from a script",
		Long: "Sends one message to JID, and waits until the server has it. The text is the argument, or standard input.\n\n" +
			"Exit codes: 0 the server has it, 1 it was refused or the command is wrong, 75 the server couldn't be reached in time: try again later.",
		Example: "  carillon send juliet@localhost --account romeo@localhost \"The lark, not the nightingale\"\n" +
			"  df -h | CARILLON_ACCOUNT=cron@example.org carillon send admin@example.org\n" +
			"  carillon send juliet@localhost hello --account romeo@localhost --password-stdin < password",
		Args: cobra.RangeArgs(1, 2),
	}
	o := addLogin(cmd, "send")
	timeout := cmd.Flags().Duration("timeout", 30*time.Second, "`TIME` to wait for the server")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := o.complete(cmd); err != nil {
			return err
		}
		to, err := jid.Parse(args[0])
		if err != nil {
			return fmt.Errorf("recipient %s: wanted name@domain", shellQuote(args[0]))
		}
		text, err := p.messageText(args[1:], o.passwordStdin)
		if err != nil {
			return err
		}
		l, err := p.newLogin(o)
		if err != nil {
			return err
		}
		return p.send(cmd.Context(), l, to, text, *timeout)
	}
	return cmd
}

// messageText is what to send.
func (p *program) messageText(args []string, passwordStdin bool) (string, error) {
	var text string
	switch {
	case len(args) > 0:
		text = args[0]
	case passwordStdin:
		return "", errors.New("standard input has the password: give the text as an argument")
	default:
		b, err := io.ReadAll(io.LimitReader(p.stdin, maxMessageText+1))
		if err != nil {
			return "", fmt.Errorf("reading the text: %w", err)
		}
		text = strings.TrimRight(string(b), "\r\n")
	}
	switch {
	case strings.TrimSpace(text) == "":
		return "", errors.New("there is no text: give it as an argument or on standard input")
	case len(text) > maxMessageText:
		return "", fmt.Errorf("the text is longer than %d bytes", maxMessageText)
	case !utf8.ValidString(text):
		return "", errors.New("the text is not UTF-8")
	}
	return text, nil
}

// send sends a message and waits until the server has it.
func (p *program) send(ctx context.Context, l *login, to jid.JID, text string, timeout time.Duration) (err error) {
	// The time begins when a person has typed the password; until then the attempts to connect have bounds of their own.
	a, err := l.start(ctx, account.Config{Live: true, Silent: true, Client: client.Config{Quiet: true}}, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close(context.WithoutCancel(ctx))) }()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := a.Do(ctx, convo.SendText{Conversation: to, Body: text}); err != nil {
		return err
	}
	for asked := false; ; {
		var e convo.Entry
		if err := a.Look(ctx, func(engine *convo.Engine) { e = newestOwn(engine, to) }); err != nil {
			return unsent(l, err)
		}
		switch {
		case e.Delivery == convo.Failed:
			return fmt.Errorf("%s refused the message: %s", to, refusal(e))
		case a.Status().Final:
			return unreachable{l.account, a.Status().Err}
		case e.Delivery == convo.Sent || e.Delivery == convo.Archived:
			if asked {
				return nil
			}
			// A refusal is behind the acknowledgement, and before the answer to what is asked after it.
			asked = true
			if err := settle(ctx, a, to); err != nil {
				return nil // the own server has it, and more isn't promised
			}
			continue
		}
		if _, err := a.Changes(ctx); err != nil {
			return unsent(l, err)
		}
	}
}

// settleWait bounds waiting for a refusal by the recipient's server.
const settleWait = 5 * time.Second

// settle waits until a refusal would be known.
func settle(ctx context.Context, a *account.Account, to jid.JID) error {
	ctx, cancel := context.WithTimeout(ctx, settleWait)
	defer cancel()
	return a.Settle(ctx, to.Bare())
}

// newestOwn is the message that was sent.
func newestOwn(e *convo.Engine, to jid.JID) convo.Entry {
	v, _ := e.Conversation(to, 0)
	for i := len(v.Entries) - 1; i >= 0; i-- {
		if v.Entries[i].Own {
			return v.Entries[i]
		}
	}
	return convo.Entry{}
}

func refusal(e convo.Entry) string {
	if e.Error == "" {
		return "the connection was lost before the server had it"
	}
	return e.Error
}

// unsent is the error of a wait that has ended.
func unsent(l *login, err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return unreachable{l.account, errors.New("no acknowledgement in time; the message may have arrived")}
	}
	return err
}
