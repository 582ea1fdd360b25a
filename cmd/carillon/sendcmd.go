package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"carillon.im/client"
	"carillon.im/client/account"
	"carillon.im/client/convo"
	"carillon.im/cmd/carillon/chat"
	"carillon.im/jid"
)

// maxMessageText bounds what send takes from standard input, in bytes.
const maxMessageText = 64 << 10

// codeTemporary is the exit code for what may succeed later (EX_TEMPFAIL of sysexits).
const codeTemporary = 75

func (p *program) sendCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "send JID [TEXT]",
		Short: "send a message, from a script",
		Long: "Sends a message to JID, and waits until the server has it. The text is the argument, or standard input.\n\n" +
			"Exit codes: 0 the server has it, 1 it was refused or the command is wrong, 75 the server couldn't be reached in time: try again later.\n" +
			"With several recipients each gets a message of its own; it is 1 if one was refused, and what is said on standard error names him.",
		Example: "  carillon send juliet@localhost --account romeo@localhost \"The lark, not the nightingale\"\n" +
			"  df -h | CARILLON_ACCOUNT=cron@example.org carillon send admin@example.org --also night@example.org --thread disks\n" +
			"  carillon send juliet@localhost hello --account romeo@localhost --password-stdin < password",
		Args: func(_ *cobra.Command, args []string) error {
			switch len(args) {
			case 0:
				return errors.New("send to whom? carillon send JID [TEXT]")
			case 1, 2:
				return nil
			}
			return errors.New("one recipient and one text: quote a text of several words, name other recipients with --also")
		},
	}
	o := addLogin(cmd, "send")
	timeout := cmd.Flags().Duration("timeout", 30*time.Second, "`TIME` to wait for the server")
	also := cmd.Flags().StringArray("also", nil, "`JID` that gets it too; may be repeated")
	thread := cmd.Flags().String("thread", "", "`ID` of the thread, any word, that the message goes on with; else each message begins one")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := o.complete(cmd); err != nil {
			return err
		}
		var to []jid.JID
		for _, name := range append([]string{args[0]}, *also...) {
			j, err := jid.Parse(name)
			if err != nil {
				return fmt.Errorf("recipient %s: wanted name@domain", shellQuote(name))
			}
			if !slices.Contains(to, j) {
				to = append(to, j)
			}
		}
		if len(to) > maxRecipients {
			return fmt.Errorf("%d recipients: at most %d", len(to), maxRecipients)
		}
		if len(*thread) > maxThread || strings.ContainsFunc(*thread, func(r rune) bool { return r <= ' ' || r == 0x7f || r == utf8.RuneError }) {
			return fmt.Errorf("--thread %s: wanted a word of at most %d bytes", shellQuote(*thread), maxThread)
		}
		text, err := p.messageText(args[1:], o.passwordStdin)
		if err != nil {
			return err
		}
		l, err := p.newLogin(o)
		if err != nil {
			return err
		}
		return p.send(cmd.Context(), l, outgoing{to, *thread, text}, *timeout)
	}
	return cmd
}

// Bounds of what send is told.
const (
	maxRecipients = 100
	maxThread     = 256 // bytes
)

// outgoing is what to send.
type outgoing struct {
	to     []jid.JID
	thread string // "": each gets one of its own
	text   string
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
func (p *program) send(ctx context.Context, l *login, out outgoing, timeout time.Duration) (err error) {
	// The time begins when a person has typed the password; until then the attempts to connect have bounds of their own.
	a, err := l.start(ctx, account.Config{Live: true, Silent: true, Client: client.Config{Quiet: true}}, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close(context.WithoutCancel(ctx))) }()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for _, to := range out.to {
		if out.thread != "" {
			if err := a.Do(ctx, convo.SelectThread{Conversation: to, Thread: out.thread}); err != nil {
				return err
			}
		}
		if err := a.Do(ctx, convo.SendText{Conversation: to, Body: out.text}); err != nil {
			return err
		}
	}
	var refusals []error
	for _, to := range out.to {
		if err := l.sent(ctx, a, to); err != nil {
			if _, refused := errors.AsType[refusal](err); !refused {
				return errors.Join(append(refusals, err)...)
			}
			refusals = append(refusals, err)
		}
	}
	return errors.Join(refusals...)
}

// refusal is a message that somebody didn't take.
type refusal struct {
	to  jid.JID
	why string
}

func (r refusal) Error() string { return fmt.Sprintf("%s didn't get the message: %s", r.to, r.why) }

// sent waits until the server has what was sent to somebody, and a refusal would be known.
func (l *login) sent(ctx context.Context, a *account.Account, to jid.JID) error {
	for asked := false; ; {
		var e convo.Entry
		if err := a.Look(ctx, func(engine *convo.Engine) { e = newestOwn(engine, to) }); err != nil {
			return unsent(l, err)
		}
		switch {
		case e.Delivery == convo.Failed:
			return refusal{to, chat.Refused(e.Error)}
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

// unsent is the error of a wait that has ended.
func unsent(l *login, err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return unreachable{l.account, errors.New("no acknowledgement in time; the message may have arrived")}
	}
	return err
}
