package admin

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"carillon.im/jid"
	"carillon.im/server/feature"
	"carillon.im/server/store"
)

const devicesHelp = "Shows the clients that have access to an account, which are programs on devices that say which one they are when they log in\n" +
	"(XEP-0388), and below them the sessions that the account has now, if the server runs, and when other resources were last seen.\n\n" +
	"CLIENT    its id; with --end its tokens are worth nothing any more, its sessions end, and it is forgotten. One that knows the\n" +
	"          password can log in again: change that first (\"carillon user passwd\")\n" +
	"STATE     connected, waiting (its connection broke and may be resumed) or away\n" +
	"PASSWORD  whether it logged in with the password that the account has now\n" +
	"TOKEN     until when it may log in without (FAST, XEP-0484), if it doesn't come before\n" +
	"BEHIND    how many messages of the archive it has not acknowledged; - for one that doesn't say (only those that use the session\n" +
	"          request of XMPP 2.0 do)\n\n" +
	"STATE     of a session: online, connected (without having sent presence) or waiting (its connection broke and may be resumed)\n" +
	"PROFILE   how the device gets messages: classic (RFC 6121), carbons (with copies of what other devices send and get,\n" +
	"          XEP-0280), ng (every message once, IM-NG, XEP-0409) or v2 (the same by the rules of XMPP 2.0)\n" +
	"PRIORITY  below 0, a classic device or one with carbons gets no messages to the account's bare address\n" +
	"QUEUED    bytes that wait to be written to it; they grow while a device is slow or waits to be resumed, and what doesn't\n" +
	"          fit (limits.outbox_bytes) it finds in the archive\n" +
	"RESUMABLE whether a broken connection may be resumed without loss (XEP-0198)\n\n" +
	"PUSH FOR  the resource from which a device named a push service, which wakes it while it has no connection (XEP-0357)\n" +
	"STATE     of a push service: on, failing (it is tried again later) or off (it refused what it was sent, and isn't asked again\n" +
	"          before the device names it anew), with the last error\n" +
	"WAITING   messages of which it has yet to hear: another device is in use, or the service is failing"

// Devices is the data of "user devices".
type Devices struct {
	Clients  []Access `json:"clients"`  // the last seen first
	Sessions []Device `json:"sessions"` // and resources that have none now
	Push     []Push   `json:"push"`     // push services, those named last first
	// Newest is when the archive's newest message was stored; zero if it is empty.
	Newest time.Time `json:"newest,omitzero"`
}

// Access is a program that has access to an account, in the data of "user devices".
type Access struct {
	ID         string    `json:"id"`
	Software   string    `json:"software,omitempty"`
	Device     string    `json:"device,omitempty"`
	State      string    `json:"state"` // "connected", "waiting" or "away"
	FirstSeen  time.Time `json:"first_seen"`
	LastSeen   time.Time `json:"last_seen"`
	Address    string    `json:"address,omitempty"`   // its last
	Mechanism  string    `json:"mechanism,omitempty"` // of its last login
	Resource   string    `json:"resource,omitempty"`  // its last
	Password   bool      `json:"password"`
	TokenUntil time.Time `json:"token_until,omitzero"`
	Cursor     string    `json:"cursor,omitempty"` // the archive id up to which it has everything
	Behind     *int      `json:"behind,omitempty"` // messages above it; nil without one
}

// Device is a session, or what was last seen of one, in the data of "user devices".
type Device struct {
	Resource  string    `json:"resource"`
	State     string    `json:"state"` // "online", "connected", "waiting" or "last seen"
	Profile   string    `json:"profile,omitempty"`
	Priority  int8      `json:"priority"`
	Software  string    `json:"software,omitempty"`
	Client    string    `json:"client,omitempty"` // whose session it is
	Address   string    `json:"address,omitempty"`
	Since     time.Time `json:"since"` // of the session, or when it was last seen
	Queued    int       `json:"queued_bytes"`
	Resumable bool      `json:"resumable"`
	Conn      string    `json:"conn,omitempty"` // as in the log
}

func userDevices(ctx context.Context, h *Host, args map[string]string) (Result, error) {
	bare, err := parseAccount(args["jid"])
	if err != nil {
		return Result{}, err
	}
	account, err := h.Store.Account(ctx, bare)
	if err != nil {
		return Result{}, accountError(bare, "looking up", err)
	}
	known, err := h.Store.Clients(ctx, account.ID)
	if err != nil {
		return Result{}, fmt.Errorf("reading the clients of %s: %w", bare, err)
	}
	if id, end := args["end"]; end {
		return h.endClient(ctx, bare, account.ID, known, id)
	}
	seen, err := h.Store.Sessions(ctx, account.ID)
	if err != nil {
		return Result{}, fmt.Errorf("reading the devices of %s: %w", bare, err)
	}
	var sessions []feature.SessionInfo
	if h.Live != nil {
		if sessions, err = h.Live.Sessions(ctx, bare); err != nil {
			return Result{}, fmt.Errorf("asking for the sessions of %s: %w", bare, err)
		}
	}
	devices := Devices{Sessions: mergeDevices(sessions, seen)}
	for i := range devices.Sessions {
		if x := &devices.Sessions[i]; x.Client != "" && x.Software == "" {
			if i := slices.IndexFunc(known, func(c store.Client) bool { return c.ID == x.Client }); i >= 0 {
				x.Software = known[i].Software
			}
		}
	}
	if devices.Clients, err = h.clients(ctx, account.ID, known, sessions); err != nil {
		return Result{}, fmt.Errorf("counting what the devices of %s have: %w", bare, err)
	}
	_, last, err := h.Store.ArchiveBounds(ctx, account.ID, math.MaxInt64)
	if err != nil {
		return Result{}, fmt.Errorf("reading the archive of %s: %w", bare, err)
	}
	if last != 0 {
		devices.Newest = last.Time()
	}
	targets, err := h.Store.PushTargets(ctx, account.ID)
	if err != nil {
		return Result{}, fmt.Errorf("reading the push services of %s: %w", bare, err)
	}
	devices.Push = pushes(targets)
	if len(devices.Clients)+len(devices.Sessions) == 0 {
		return Result{Text: fmt.Sprintf("%s has not logged in yet\n", bare), Data: devices}, nil
	}
	return Result{Text: devices.text(), Data: devices}, nil
}

// clients puts together what the store and the sessions tell of an account's clients.
func (h *Host) clients(ctx context.Context, account store.AccountID, known []store.Client, sessions []feature.SessionInfo) ([]Access, error) {
	list := make([]Access, 0, len(known))
	behind := map[store.ArchiveID]int{} // most have the same
	for i := range known {
		k := &known[i]
		c := Access{
			ID: k.ID, Software: k.Software, Device: k.Device, State: clientState(k.ID, sessions), FirstSeen: k.FirstSeen, LastSeen: k.LastSeen,
			Address: k.Address, Mechanism: k.Mechanism, Resource: k.Resource, Password: k.Password, TokenUntil: k.TokenUntil,
		}
		if k.Cursor != 0 {
			n, counted := behind[k.Cursor]
			if !counted {
				var err error
				if n, err = h.Store.ArchiveCount(ctx, store.ArchiveQuery{Account: account, AfterID: k.Cursor}); err != nil {
					return nil, err
				}
				behind[k.Cursor] = n
			}
			c.Cursor, c.Behind = k.Cursor.String(), &n
		}
		list = append(list, c)
	}
	return list, nil
}

func clientState(id string, sessions []feature.SessionInfo) string {
	state := "away"
	for i := range sessions {
		switch x := &sessions[i]; {
		case x.Client != id:
		case !x.Detached:
			return "connected"
		default:
			state = "waiting"
		}
	}
	return state
}

// endClient ends the access of the client with an id, or with the only one that begins so.
func (h *Host) endClient(ctx context.Context, bare jid.JID, account store.AccountID, known []store.Client, id string) (Result, error) {
	c, err := oneClient(bare, known, id)
	if err != nil {
		return Result{}, err
	}
	if h.Live != nil {
		err = h.Live.EndClient(ctx, bare, c.ID)
	} else {
		err = h.Store.Commit(ctx, store.ClientForget{Account: account, ID: c.ID})
	}
	if err != nil {
		return Result{}, fmt.Errorf("ending %s of %s: %w", c.ID, bare, err)
	}
	text := fmt.Sprintf("%s of %s ended: it has no token and no session any more\n", printable(c.ID), bare)
	if c.Password {
		text += fmt.Sprintf("It knows the password and can log in again with it; \"carillon user passwd %s\" changes that.\n", bare)
	}
	return Result{Text: text, Data: map[string]any{"ended": c.ID, "password": c.Password}}, nil
}

func oneClient(bare jid.JID, known []store.Client, id string) (store.Client, error) {
	var found []store.Client
	for _, c := range known {
		if c.ID == id {
			return c, nil
		}
		if id != "" && strings.HasPrefix(c.ID, id) {
			found = append(found, c)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return store.Client{}, fmt.Errorf("%s has no client %q: \"carillon user devices %s\" lists those there are", bare, id, bare)
	}
	return store.Client{}, fmt.Errorf("%d clients of %s begin with %q: give the whole id", len(found), bare, id)
}

// text is what a person reads: who has the newest message (S-10), the clients, the sessions.
func (d *Devices) text() string {
	var b strings.Builder
	have, say := 0, 0
	for _, c := range d.Clients {
		if c.Behind != nil {
			if say++; *c.Behind == 0 {
				have++
			}
		}
	}
	if say > 0 && !d.Newest.IsZero() {
		fmt.Fprintf(&b, "the newest message, of %s, is on %d of %d devices that say what they have\n\n", stamp(d.Newest), have, say)
	}
	if len(d.Clients) > 0 {
		b.WriteString(clientTable(d.Clients))
	}
	if len(d.Sessions) > 0 {
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(deviceTable(d.Sessions))
	}
	if len(d.Push) > 0 {
		b.WriteString("\n" + pushTable(d.Push))
	}
	return b.String()
}

func clientTable(clients []Access) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CLIENT\tSOFTWARE\tDEVICE\tSTATE\tLAST SEEN\tPASSWORD\tTOKEN\tBEHIND")
	for _, c := range clients {
		password, token, behind := "no", "-", "-"
		if c.Password {
			password = "yes"
		}
		if !c.TokenUntil.IsZero() {
			token = stamp(c.TokenUntil)
		}
		if c.Behind != nil {
			behind = fmt.Sprint(*c.Behind)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n",
			printable(c.ID), printable(c.Software), printable(c.Device), c.State, stamp(c.LastSeen), password, token, behind)
	}
	w.Flush() // a strings.Builder does not fail
	return text.String()
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }

// mergeDevices lists live sessions, then the resources that were seen and have none now, newest first. What software a session runs is known to the
// store alone.
func mergeDevices(sessions []feature.SessionInfo, seen []store.SessionRow) []Device {
	devices := []Device{}
	software := make(map[string]string, len(seen))
	for _, row := range seen {
		software[row.Resource] = row.Client
	}
	live := make(map[string]bool, len(sessions))
	for _, s := range sessions {
		d := Device{
			Resource: s.JID.Resource(), State: "connected", Profile: fmt.Sprint(s.Profile), Priority: s.Priority,
			Software: software[s.JID.Resource()], Client: s.Client, Address: s.Address, Since: s.Since.UTC(), Queued: s.Queued, Resumable: s.Resumable, Conn: s.Conn,
		}
		switch {
		case s.Detached:
			d.State = "waiting"
		case s.Available:
			d.State = "online"
		}
		live[d.Resource] = true
		devices = append(devices, d)
	}
	slices.SortFunc(devices, func(a, b Device) int { return strings.Compare(a.Resource, b.Resource) })
	old := len(devices)
	for _, row := range seen {
		if !live[row.Resource] {
			devices = append(devices, Device{Resource: row.Resource, State: "last seen", Software: row.Client, Address: row.Address, Since: row.At.UTC()})
		}
	}
	slices.SortStableFunc(devices[old:], func(a, b Device) int { return b.Since.Compare(a.Since) })
	return devices
}

func deviceTable(devices []Device) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "RESOURCE\tSTATE\tSINCE\tSOFTWARE\tADDRESS\tPROFILE\tPRIORITY\tQUEUED\tRESUMABLE")
	for _, d := range devices {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s", printable(d.Resource), d.State, stamp(d.Since), printable(d.Software), printable(d.Address))
		if d.State == "last seen" {
			fmt.Fprintln(w, "\t-\t-\t-\t-")
			continue
		}
		resumable := "no"
		if d.Resumable {
			resumable = "yes"
		}
		fmt.Fprintf(w, "\t%s\t%d\t%d B\t%s\n", d.Profile, d.Priority, d.Queued, resumable)
	}
	w.Flush() // a strings.Builder does not fail
	return text.String()
}
