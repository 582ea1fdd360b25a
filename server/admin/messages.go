package admin

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"carillon.im/jid"
	"carillon.im/server/route"
	"carillon.im/server/trail"
	"carillon.im/stanza"
	"carillon.im/xmltree"
)

// ErrNoServer is what calls answer that only a running server can carry out.
var ErrNoServer = errors.New("no server runs on this data folder, and only a running one knows its devices: start it with \"carillon serve\"")

// maxExplained bounds the message that explain takes, in bytes.
const maxExplained = 48 << 10

func messageCalls() []Call {
	return []Call{
		{
			Name: "explain", Help: "say what would happen to a message now, and by which rules",
			Long: "Says what the running server would do with a message now, for each device of the sender and the recipient: which rule\n" +
				"applies, what goes into the archives, which error would go back. Nothing is sent and nothing changes.\n" +
				"FILE.xml holds a <message/>, - is standard input; without one it is a chat message with a body. A device that is connected\n" +
				"sends as the profile that it has; --profile is for one that isn't.",
			Example: "carillon explain --from romeo@localhost/orchard --to juliet@localhost\n" +
				"carillon explain --from romeo@localhost --profile v2 --to juliet@localhost/balcony --type normal message.xml",
			Args: []Arg{
				{Name: "from", Help: "the sender"}, {Name: "to", Help: "the recipient"},
				{Name: "profile", Help: "classic, carbons, ng or v2", Optional: true},
				{Name: "type", Help: "normal, chat, groupchat, headline or error", Optional: true},
				{Name: "xml", Help: "the message", Optional: true},
			},
			run: explain,
		},
		{
			Name: "trace", Help: "show what happened to an account's latest messages",
			Long: "Shows what the running server did with the latest messages of an account: who got what and by which rule, when it was\n" +
				"written to each device and when the device acknowledged it (XEP-0198; not all clients do), and of what left for another\n" +
				"server when it was written and how it is known that it came. The latest few thousand\n" +
				"messages of all accounts are kept, in memory, without their contents.",
			Example: "carillon trace juliet@localhost\ncarillon trace juliet@localhost --id 3f8c --json\ncarillon trace juliet@localhost --follow",
			Args: []Arg{
				{Name: "account", Help: "the account, as in juliet@localhost"},
				{Name: "last", Help: "how many messages", Optional: true},
				{Name: "id", Help: "a message's id, or its id in the archive", Optional: true},
				{Name: "after", Help: "only what came behind this record", Optional: true},
			},
			Again: "after",
			run:   trace,
		},
	}
}

func explain(ctx context.Context, h *Host, args map[string]string) (Result, error) {
	if h.Live == nil {
		return Result{}, ErrNoServer
	}
	st, err := explainedMessage(args)
	if err != nil {
		return Result{}, err
	}
	profile, err := parseProfile(args["profile"])
	if err != nil {
		return Result{}, err
	}
	if !h.serves(st.From.Domain()) && !h.serves(st.To.Domain()) {
		which := fmt.Sprintf("neither %s nor %s is a", st.From.Domain(), st.To.Domain())
		if st.From.Domain() == st.To.Domain() {
			which = st.From.Domain() + " is no"
		}
		return Result{}, fmt.Errorf("%s domain of this server (it serves %s)", which, strings.Join(h.Domains, ", "))
	}
	e, err := h.Live.Explain(ctx, st, profile)
	if err != nil {
		return Result{}, accountError(st.From.Bare(), "asking the accounts about a message from", err)
	}
	return Result{Text: e.Text(), Data: e}, nil
}

// explainedMessage makes the message of explain's arguments.
func explainedMessage(args map[string]string) (*stanza.Stanza, error) {
	xml := args["xml"]
	if xml == "" {
		xml = "<message type='chat'><body>x</body></message>"
	}
	el, err := xmltree.Parse([]byte(strings.TrimSpace(xml)), stanza.NSClient, xmltree.Limits{MaxBytes: maxExplained, MaxDepth: 64, MaxAttrs: 64, MaxChildren: 4096})
	if err != nil {
		return nil, fmt.Errorf("the message: %w", err)
	}
	if el.Local() != stanza.Message.String() {
		return nil, fmt.Errorf("it is <%s/>, and only what becomes of a <message/> can be explained", el.Local())
	}
	st, err := stanza.Parse(el)
	if err != nil {
		return nil, fmt.Errorf("the message: %w", err)
	}
	for _, a := range []struct {
		name string
		to   *jid.JID
	}{{"from", &st.From}, {"to", &st.To}} {
		if *a.to, err = jid.Parse(args[a.name]); err != nil {
			return nil, fmt.Errorf("--%s %q is not an address such as romeo@localhost/orchard: %w", a.name, args[a.name], err)
		}
	}
	if t := args["type"]; t != "" {
		if route.ParseType(t).String() != t {
			return nil, fmt.Errorf("--type %q: a message's type is normal, chat, groupchat, headline or error", t)
		}
		st.Type = t
	}
	return st, nil
}

func parseProfile(s string) (route.Profile, error) {
	for p := route.Classic; p <= route.V2; p++ {
		if p.String() == s {
			return p, nil
		}
	}
	if s == "" {
		return route.Classic, nil
	}
	return 0, fmt.Errorf("--profile %q: a profile is classic, carbons, ng or v2", s)
}

func (h *Host) serves(domain string) bool {
	for _, d := range h.Domains {
		if d == domain {
			return true
		}
	}
	return false
}

// Trace is the answer of the call trace for programs.
type Trace struct {
	Records []trail.Record `json:"records"`
	// Next is what to give as "after" for what comes behind these.
	Next uint64 `json:"next"`
}

func trace(ctx context.Context, h *Host, args map[string]string) (Result, error) {
	if h.Live == nil {
		return Result{}, ErrNoServer
	}
	bare, err := parseAccount(args["account"])
	if err != nil {
		return Result{}, err
	}
	q := trail.Query{Account: bare.String(), ID: args["id"], Last: 20}
	if s := args["last"]; s != "" {
		if q.Last, err = strconv.Atoi(s); err != nil || q.Last < 1 {
			return Result{}, fmt.Errorf("--last %q: a number of messages from 1 on", s)
		}
	}
	if s := args["after"]; s != "" {
		if q.After, err = strconv.ParseUint(s, 10, 64); err != nil {
			return Result{}, fmt.Errorf("after: %w", err)
		}
		q.Last = 0
	}
	found := h.Live.Trail().Find(q)
	answer := Trace{Records: found, Next: q.After}
	var b strings.Builder
	for i := range found {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(found[i].Text())
		answer.Next = found[i].Seq
	}
	if len(found) == 0 && args["after"] == "" {
		why, err := h.whyNothing(ctx, bare, q.ID)
		if err != nil {
			return Result{}, err
		}
		b.WriteString(why + "\n")
	}
	return Result{Text: b.String(), Data: answer}, nil
}

// whyNothing says why there is no record of an account, or of a message. Of what is no account here there can't be one: that is an error, as for explain.
func (h *Host) whyNothing(ctx context.Context, bare jid.JID, id string) (string, error) {
	const kept = "The latest few thousand messages of all accounts since the server's start are kept"
	if !h.serves(bare.Domain()) {
		return "", fmt.Errorf("nothing is known of %s: %s is no domain of this server (it serves %s); look at the account here that wrote to it, or was written to",
			bare, bare.Domain(), strings.Join(h.Domains, ", "))
	}
	if _, err := h.Store.LoadAccount(ctx, bare); err != nil {
		return "", accountError(bare, "looking up", err)
	}
	if id != "" {
		return fmt.Sprintf("nothing is known of message %s of %s. %s, and it isn't one of them", id, bare, kept), nil
	}
	return fmt.Sprintf("nothing is known of %s. %s, and none is this account's", bare, kept), nil
}
