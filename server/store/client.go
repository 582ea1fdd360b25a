package store

import (
	"context"
	"crypto/subtle"
	"fmt"
	"time"
	"unicode/utf8"

	"carillon.im/jid"
	"carillon.im/server/store/sqlite"
)

// Bounds of what is kept of clients and their tokens.
const (
	MaxClients        = 100 // per account
	MaxClientID       = 128 // bytes of a user-agent's id
	MaxClientText     = 256 // bytes of a text for people to read; longer ones are cut
	MaxToken          = 256 // bytes
	MaxTokenMechanism = 20  // bytes, as for every SASL mechanism (RFC 4422 3.1)
)

// Client is a program on a device that has access to an account (XEP-0388 2.3.1, XEP-0494).
type Client struct {
	ID         string // of its user-agent, opaque
	Software   string
	Device     string
	Address    string // its last
	Mechanism  string // of its last login
	SASL2      bool   // whether its last login was by SASL2
	Password   bool   // whether it knows the password that the account has now: then forgetting it alone doesn't keep it out (XEP-0494 3.2)
	Tag        string // asked for when it last bound a resource (XEP-0386)
	Resource   string // that it last had
	FirstSeen  time.Time
	LastSeen   time.Time
	Cursor     ArchiveID // the device acknowledged everything in the archive up to here (S-10); 0: nothing
	TokenUntil time.Time // when its last FAST token expires; zero: it has none
}

// ClientSeen notes a login, a bound resource or a farewell: it makes the client known, or renews what is known of it. A text that is empty leaves
// what was known, and so does a time before the last. Beyond MaxClients the one without a valid token that was not seen for longest goes, or of those
// with one if all have. ErrInvalid for an id that is empty or too long, ErrNotFound if there is no such account, or no such client and Known is set.
type ClientSeen struct {
	Account   AccountID
	ID        string
	Software  string
	Device    string
	Address   string
	Mechanism string // not empty: it logged in, SASL2 and Password say how
	SASL2     bool
	Password  bool // by presenting the password or proving that it knows it, not by a token
	Tag       string
	Resource  string
	At        time.Time
	Known     bool // only renew: who logs in with a token and was forgotten since has been revoked
}

// ClientCursor notes that a device has acknowledged everything in the archive up to UpTo. It moves forward only; where the client is not known
// (any more) nothing happens. The owner of the account calls it when a device goes and now and then, not for each acknowledgement.
type ClientCursor struct {
	Account AccountID
	ID      string
	UpTo    ArchiveID
}

// ClientForget deletes what is known of a client, with its tokens and its push services, if there is any. The time of its saved sessions is over from then on: they can't be
// resumed, and their owner ends them as any, now or at the next start, so that what they are owed finds its way.
type ClientForget struct {
	Account AccountID
	ID      string
}

// Token is a FAST token (XEP-0484). Its value is stored as it is: the HT mechanisms use the token itself as the key of an HMAC over the
// channel binding, so the server needs it, and any form of it that would do in its place would do for a thief too. Who can read the database can
// therefore log in as every client with a token, until it expires or is revoked; the file is readable by the server's user alone, and passwords
// can't be had from it.
type Token struct {
	Mechanism string // the only one it is good for
	Value     []byte
	Issued    time.Time
	Expires   time.Time
	Counter   int64 // the highest count it was used with (XEP-0484 3.4)
}

// Tokens are the two that a client may have (XEP-0484 5.1). A Token without Value is none.
type Tokens struct {
	Current Token
	New     Token // given to the client, which may not have got it; takes the place of Current when it is used
}

// TokenPut keeps a token that the client is about to be given; another one that it was given and did not use becomes invalid. ErrNotFound if the
// client is not known, ErrInvalid for one beyond the bounds. Token.Counter is ignored.
type TokenPut struct {
	Account AccountID
	Client  string
	Token   Token
}

// TokenUse records that a client proved to have the token with this value. It fails, and with it whatever else its unit does, with ErrNotFound if
// that token is not valid (any more), and with ErrReplayed if Counter is not above all that the token was used with; 0 stands for none, which a
// login in early data must not have. The use of a new token makes the one before invalid.
type TokenUse struct {
	Account AccountID
	Client  string
	Value   []byte
	Counter int64
	At      time.Time
}

// TokenDelete makes a client's tokens invalid (XEP-0484 3.6). One that is put later in the same unit stays.
type TokenDelete struct {
	Account AccountID
	Client  string
}

// TokensDelete makes all tokens of an account invalid. SetKeys does the same by itself: a new password ends what the old one opened.
type TokensDelete struct{ Account AccountID }

// clip cuts a text for people where a character ends.
func clip(s string) string {
	if len(s) <= MaxClientText {
		return s
	}
	n := MaxClientText
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

func (o ClientSeen) exec(t *tx) error {
	if o.ID == "" || len(o.ID) > MaxClientID {
		return fmt.Errorf("client id of %d bytes: %w", len(o.ID), ErrInvalid)
	}
	if o.Known {
		if _, known, err := t.number(qClientHas, o.Account, o.ID); err != nil {
			return err
		} else if !known {
			return fmt.Errorf("client: %w", ErrNotFound)
		}
	}
	err := t.run(qClientPut, o.Account, o.ID, clip(o.Software), clip(o.Device), clip(o.Address), clip(o.Mechanism), o.SASL2, o.Password,
		clip(o.Tag), clip(o.Resource), o.At.UnixMicro())
	if err != nil {
		return err
	}
	n, _, err := t.number(qClientCount, o.Account)
	if err != nil || n <= MaxClients {
		return err
	}
	return t.run(qClientCut, o.Account, o.ID, o.At.UnixMicro(), MaxClients-1)
}

func (o ClientCursor) exec(t *tx) error { return t.run(qClientCursor, o.Account, o.ID, o.UpTo) }

func (o ClientForget) exec(t *tx) error {
	if err := t.run(qClientDel, o.Account, o.ID); err != nil {
		return err
	}
	if err := t.run(qPushDelOf, o.Account, o.ID); err != nil {
		return err
	}
	return t.run(qSavedEndOf, o.Account, o.ID)
}

func (o TokenPut) exec(t *tx) error {
	k := o.Token
	if len(k.Value) == 0 || len(k.Value) > MaxToken || k.Mechanism == "" || len(k.Mechanism) > MaxTokenMechanism {
		return fmt.Errorf("token of %d bytes for %q: %w", len(k.Value), k.Mechanism, ErrInvalid)
	}
	return t.run(qTokenPut, o.Account, o.Client, k.Mechanism, k.Value, k.Issued.UnixMicro(), k.Expires.UnixMicro())
}

func (o TokenUse) exec(t *tx) error {
	have, err := tokens(t.w.db, qTokenGet, o.Account, o.Client)
	if err != nil {
		return err
	}
	valid := func(k Token) bool {
		return len(k.Value) > 0 && subtle.ConstantTimeCompare(k.Value, o.Value) == 1 && k.Expires.After(o.At)
	}
	switch {
	case o.Counter < 0:
		return fmt.Errorf("token counter %d: %w", o.Counter, ErrInvalid)
	case valid(have.New):
		return t.run(qTokenTurn, o.Account, o.Client, o.Counter)
	case !valid(have.Current):
		return fmt.Errorf("token: %w", ErrNotFound)
	case o.Counter != 0 && o.Counter <= have.Current.Counter:
		return fmt.Errorf("token counter %d after %d: %w", o.Counter, have.Current.Counter, ErrReplayed)
	}
	return t.run(qTokenCount, o.Account, o.Client, o.Counter)
}

func (o TokenDelete) exec(t *tx) error  { return t.run(qTokenDel, o.Account, o.Client) }
func (o TokensDelete) exec(t *tx) error { return t.run(qTokensDel, o.Account) }

func (o ClientSeen) size() int {
	return opOverhead + len(o.ID) + len(o.Software) + len(o.Device) + len(o.Address) + len(o.Mechanism) + len(o.Tag) + len(o.Resource)
}
func (o ClientCursor) size() int { return opOverhead + len(o.ID) }
func (o ClientForget) size() int { return opOverhead + len(o.ID) }
func (o TokenPut) size() int {
	return opOverhead + len(o.Client) + len(o.Token.Mechanism) + len(o.Token.Value)
}
func (o TokenUse) size() int     { return opOverhead + len(o.Client) + len(o.Value) }
func (o TokenDelete) size() int  { return opOverhead + len(o.Client) }
func (o TokensDelete) size() int { return opOverhead }

// tokens reads a row of the token table; where there is none, both are none. Args are query's.
func tokens(c *conn, query string, args ...any) (k Tokens, err error) {
	err = c.each(query, func(r *sqlite.Stmt) error {
		k.Current = Token{Mechanism: r.ColText(0), Value: r.ColBlob(1), Issued: stamp(r.ColInt(2)), Expires: stamp(r.ColInt(3)), Counter: r.ColInt(4)}
		k.New = Token{Mechanism: r.ColText(5), Value: r.ColBlob(6), Issued: stamp(r.ColInt(7)), Expires: stamp(r.ColInt(8))}
		return nil
	}, args...)
	return k, err
}

// stamp is a time from the database; 0 is the zero time.
func stamp(micro int64) time.Time {
	if micro == 0 {
		return time.Time{}
	}
	return time.UnixMicro(micro).UTC()
}

// Tokens returns a client's tokens, expired or not, and the account's id for TokenUse. ErrNotFound if there is no such account, if it is disabled,
// or if the client has none.
func (s *Store) Tokens(ctx context.Context, bare jid.JID, client string) (Tokens, AccountID, error) {
	var k Tokens
	var id AccountID
	err := s.read(ctx, func(c *conn) error {
		err := c.each(qEnabledID, func(r *sqlite.Stmt) error {
			id = AccountID(r.ColInt(0))
			return nil
		}, bare.String())
		if err != nil {
			return err
		}
		if k, err = tokens(c, qTokenGet, id, client); err != nil {
			return err
		}
		if len(k.Current.Value) == 0 && len(k.New.Value) == 0 {
			return ErrNotFound
		}
		return nil
	})
	if err != nil {
		return Tokens{}, 0, err
	}
	return k, id, nil
}

func readClient(r *sqlite.Stmt) Client {
	return Client{
		ID: r.ColText(0), Software: r.ColText(1), Device: r.ColText(2), Address: r.ColText(3), Mechanism: r.ColText(4), SASL2: r.ColInt(5) != 0,
		Password: r.ColInt(6) != 0, Tag: r.ColText(7), Resource: r.ColText(8), FirstSeen: stamp(r.ColInt(9)), LastSeen: stamp(r.ColInt(10)),
		Cursor: ArchiveID(r.ColInt(11)), TokenUntil: stamp(r.ColInt(12)),
	}
}

// Clients returns an account's clients, the last seen first.
func (s *Store) Clients(ctx context.Context, account AccountID) ([]Client, error) {
	var list []Client
	err := s.read(ctx, func(c *conn) error {
		return c.each(qClientAll, func(r *sqlite.Stmt) error {
			list = append(list, readClient(r))
			return nil
		}, account)
	})
	return list, err
}

// Client returns one of an account's clients, ErrNotFound if it is not known.
func (s *Store) Client(ctx context.Context, account AccountID, id string) (Client, error) {
	var one Client
	err := s.read(ctx, func(c *conn) error {
		return c.each(qClientGet, func(r *sqlite.Stmt) error {
			one = readClient(r)
			return nil
		}, account, id)
	})
	if err == nil && one.ID == "" {
		err = ErrNotFound
	}
	return one, err
}
