package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"carillon.im/client/account"
	"carillon.im/client/convo"
	"carillon.im/cmd/carillon/chat"
	"carillon.im/jid"
)

func (p *program) listenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "listen",
		Short: "print messages as they come, for scripts",
		Long: "Prints each message of the account as it comes, until Ctrl-C. What came while it didn't run is printed first, from the second time on.\n\n" +
			"With --json each line is one object, described in docs/client.md. \"event\" is \"message\" for a new one, \"changed\" for one that was printed before and has\n" +
			"been corrected, taken back, reacted to, claimed by a device, delivered or seen.",
		Example: "  carillon listen --json --account bot@example.org | jq -r 'select(.own == false) | .body'\n  carillon listen --account romeo@localhost --from juliet@localhost",
		Args:    cobra.NoArgs,
	}
	o := addLogin(cmd, "listen")
	asJSON := cmd.Flags().Bool("json", false, "one JSON object a line")
	from := cmd.Flags().String("from", "", "only the conversation with this `JID`")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := o.complete(cmd); err != nil {
			return err
		}
		var only jid.JID
		if *from != "" {
			var err error
			if only, err = jid.Parse(*from); err != nil {
				return fmt.Errorf("--from %s: wanted name@domain", shellQuote(*from))
			}
		}
		l, err := p.newLogin(o)
		if err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		return p.listen(ctx, l, only, *asJSON)
	}
	return cmd
}

func (p *program) listen(ctx context.Context, l *login, only jid.JID, asJSON bool) (err error) {
	a, err := l.start(ctx, account.Config{Silent: true}, true)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer func() { err = errors.Join(err, a.Close(context.WithoutCancel(ctx))) }()
	f := feed{only: only, asJSON: asJSON, out: p.stdout, file: filepath.Join(l.folder, "listened")}
	if err := f.load(); err != nil {
		return err
	}
	for {
		c, err := a.Changes(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if c.Status.Final {
			return unreachable{l.account, c.Status.Err}
		}
		if err := a.Look(ctx, func(e *convo.Engine) { f.collect(e, c) }); err != nil {
			continue // it is over: Changes says why
		}
		if err := f.print(); err != nil {
			return err
		}
	}
}

// heard is a message as listen --json prints it (docs/client.md).
type heard struct {
	Event        string              `json:"event"`
	ID           string              `json:"id"`
	Conversation string              `json:"conversation"`
	From         string              `json:"from"`
	Own          bool                `json:"own"`
	Time         time.Time           `json:"time"`
	Body         string              `json:"body"`
	Subject      string              `json:"subject,omitempty"`
	Thread       string              `json:"thread,omitempty"`
	Parent       string              `json:"parent,omitempty"`
	ReplyTo      string              `json:"reply_to,omitempty"`
	Edited       bool                `json:"edited,omitempty"`
	Retracted    bool                `json:"retracted,omitempty"`
	Reactions    map[string][]string `json:"reactions,omitempty"`
	Owner        string              `json:"owner,omitempty"`
	State        string              `json:"state,omitempty"`
}

// maxHeard bounds the lines that are remembered, so that the same isn't printed twice.
const maxHeard = 4096

// feed turns changes into lines. It keeps in a file up to which message it has printed, so that the next run goes on there: what was kept and not printed
// when this one was killed comes again, nothing is left out.
type feed struct {
	only    jid.JID
	asJSON  bool
	out     io.Writer
	file    string
	up      convo.EntryID // printed up to here
	known   bool          // up is known: else what there is when the first catch-up ends is the past, and no news
	looked  bool          // at what was there at the start
	moved   bool          // up is another than in the file
	printed map[convo.EntryID]string
	due     []dueEntry
}

// dueEntry is a message to print.
type dueEntry struct {
	conversation jid.JID
	entry        convo.Entry
	replyTo      string
}

func (f *feed) load() error {
	b, err := os.ReadFile(f.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("place of the last run: %w", err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return fmt.Errorf("%s is damaged: remove it to begin with what comes from now on", f.file)
	}
	f.up, f.known = convo.EntryID(n), true
	return nil
}

func (f *feed) save() error {
	if err := os.WriteFile(f.file, []byte(strconv.FormatUint(uint64(f.up), 10)+"\n"), 0o600); err != nil {
		return fmt.Errorf("place of this run: %w", err)
	}
	return nil
}

// collect takes what is to be printed, while the engine is ours.
func (f *feed) collect(e *convo.Engine, c account.Changes) {
	all := func(take func(jid.JID, convo.Entry)) {
		for _, s := range e.Conversations() {
			v, _ := e.Conversation(s.JID, 0)
			for _, entry := range v.Entries {
				take(s.JID, entry)
			}
		}
	}
	if !f.known {
		if !c.Status.Online || c.Status.CatchingUp {
			return
		}
		all(func(_ jid.JID, entry convo.Entry) { f.up = max(f.up, entry.ID) })
		f.known, f.looked, f.moved = true, true, true
		return
	}
	take := func(with jid.JID, entry convo.Entry) {
		if entry.Kind != convo.Text || !f.only.IsZero() && with != f.only {
			return
		}
		d := dueEntry{conversation: with, entry: entry}
		if to, ok := e.Entry(with, entry.ReplyTo); ok && entry.ReplyTo != 0 {
			d.replyTo = nameOf(to)
		}
		f.due = append(f.due, d)
	}
	if !f.looked {
		f.looked = true
		all(func(with jid.JID, entry convo.Entry) {
			if entry.ID > f.up {
				take(with, entry)
			}
		})
	}
	for _, changed := range c.Conversations {
		for _, id := range changed.Entries {
			if entry, ok := e.Entry(changed.Conversation, id); ok {
				take(changed.Conversation, entry)
			}
		}
	}
	slices.SortStableFunc(f.due, func(a, b dueEntry) int { return cmp.Compare(a.entry.ID, b.entry.ID) })
}

// print writes what was collected.
func (f *feed) print() error {
	due := f.due
	f.due = nil
	for _, d := range due {
		fresh := d.entry.ID > f.up
		line, err := d.line(fresh, f.asJSON)
		if err != nil {
			return err
		}
		if f.printed == nil || len(f.printed) >= maxHeard {
			f.printed = map[convo.EntryID]string{}
		}
		same, _ := d.line(false, f.asJSON)
		if f.printed[d.entry.ID] == same {
			continue
		}
		f.printed[d.entry.ID] = same
		if line == "" {
			continue
		}
		if _, err := fmt.Fprintln(f.out, line); err != nil {
			return fmt.Errorf("output: %w", err)
		}
		f.up, f.moved = max(f.up, d.entry.ID), f.moved || fresh
	}
	if !f.moved {
		return nil
	}
	f.moved = false
	return f.save()
}

// nameOf is the id by which programs tell messages apart: that in the archive, or while it has none the sender's.
func nameOf(e convo.Entry) string {
	return cmp.Or(e.Archive.ID, e.OriginID, e.MessageID)
}

// line is a message as it is printed; for people only what is new is.
func (d dueEntry) line(fresh, asJSON bool) (string, error) {
	e := d.entry
	if !asJSON {
		if e.Own && e.Delivery == convo.Pending {
			return "", nil
		}
		who := e.From.Bare().String()
		text := chat.Clean(e.Body)
		switch {
		case e.Retracted:
			text = "(taken back)"
		case e.Edited:
			text = "(corrected) " + text
		}
		return fmt.Sprintf("%s %s: %s", e.At.Local().Format("2006-01-02 15:04"), who, strings.ReplaceAll(text, "\n", "\n    ")), nil
	}
	h := heard{Event: "changed", ID: nameOf(e), Conversation: d.conversation.String(), From: e.From.String(), Own: e.Own, Time: e.At.UTC(), Body: e.Body,
		Subject: e.Subject, Thread: e.Thread, Parent: e.Parent, ReplyTo: d.replyTo, Edited: e.Edited, Retracted: e.Retracted}
	if fresh {
		h.Event = "message"
	}
	for _, r := range e.Reactions {
		if h.Reactions == nil {
			h.Reactions = map[string][]string{}
		}
		h.Reactions[r.From.String()] = r.Emoji
	}
	h.Owner = map[convo.Owner]string{convo.Unclaimed: "nobody", convo.Claiming: "claiming", convo.Mine: "this device", convo.Elsewhere: e.OwnerRes}[e.Owner]
	if e.Own {
		h.State = map[convo.Delivery]string{convo.Pending: "sending", convo.Sent: "sent", convo.Archived: "sent", convo.Failed: "failed"}[e.Delivery]
		switch {
		case e.Displayed:
			h.State = "seen"
		case e.Delivered:
			h.State = "delivered"
		}
	}
	b, err := json.Marshal(h)
	return string(b), err
}
