package store

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	"carillon.im/jid"
	"carillon.im/sasl"
	"carillon.im/server/store/sqlite"
)

// The store's own ops. Their results are read after the commit.

type accountCreate struct {
	jid  jid.JID
	at   time.Time
	keys []sasl.Keys
	id   *AccountID
}

type keysSet struct {
	jid  jid.JID
	keys []sasl.Keys
	by   string
}

type keysAdd struct {
	jid  jid.JID
	keys sasl.Keys
}

type accountDisable struct {
	jid      jid.JID
	disabled bool
}

// accountRemove deletes everything of an account but its archive, which archiveCut deletes in pieces, and ends its contacts' subscriptions: whoever
// gets the name later inherits nothing.
type accountRemove struct {
	jid jid.JID
	id  *AccountID
}

type removalDone struct{ account AccountID }

type secretPut struct {
	name  string
	value []byte
}

// probe changes nothing; its commit shows whether writing works.
type probe struct{}

func (o accountCreate) size() int  { return opOverhead * (1 + len(o.keys)) }
func (o keysSet) size() int        { return opOverhead*(1+len(o.keys)) + len(o.by) }
func (o keysAdd) size() int        { return opOverhead }
func (o accountDisable) size() int { return opOverhead }
func (o accountRemove) size() int  { return opOverhead }
func (o removalDone) size() int    { return opOverhead }
func (o secretPut) size() int      { return opOverhead + len(o.value) }
func (o probe) size() int          { return opOverhead }

func (o accountCreate) exec(t *tx) error {
	if err := t.run(qAccountPut, o.jid.String(), o.jid.Domain(), o.at.UnixMicro()); err != nil {
		return err
	}
	*o.id = AccountID(t.w.db.LastInsertID())
	return putKeys(t, *o.id, o.keys)
}

func putKeys(t *tx, id AccountID, keys []sasl.Keys) error {
	for _, k := range keys {
		if err := t.run(qKeysPut, id, int(k.Hash), k.Iterations, k.Salt, k.StoredKey, k.ServerKey); err != nil {
			return err
		}
	}
	return nil
}

// find returns the id of an account by its address.
func (t *tx) find(j jid.JID) (AccountID, error) {
	id, ok, err := t.number(qAccountID, j.String())
	if err == nil && !ok {
		err = fmt.Errorf("account %s: %w", j, ErrNotFound)
	}
	return AccountID(id), err
}

func (o keysSet) exec(t *tx) error {
	id, err := t.find(o.jid)
	if err != nil {
		return err
	}
	if err := t.run(qKeysDel, id); err != nil {
		return err
	}
	if err := t.run(qTokensDel, id); err != nil {
		return err
	}
	if err := t.run(qClientsKnow, id, o.by); err != nil {
		return err
	}
	return putKeys(t, id, o.keys)
}

func (o keysAdd) exec(t *tx) error {
	id, err := t.find(o.jid)
	if err != nil {
		return err
	}
	return putKeys(t, id, []sasl.Keys{o.keys})
}

func (o accountDisable) exec(t *tx) error {
	id, err := t.find(o.jid)
	if err != nil {
		return err
	}
	return t.run(qAccountDisable, id, o.disabled)
}

func (o accountRemove) exec(t *tx) error {
	id, err := t.find(o.jid)
	if err != nil {
		return err
	}
	for _, query := range []string{qPeersVersion, qPeersCut, qPeersRequests} {
		if err := t.run(query, id, o.jid.String()); err != nil {
			return err
		}
	}
	if err := t.run(qRemovalPut, id); err != nil {
		return err
	}
	if err := t.run(qAccountDel, id); err != nil {
		return err
	}
	t.removed = append(t.removed, id)
	*o.id = id
	return nil
}

func (o removalDone) exec(t *tx) error { return t.run(qRemovalDel, o.account) }
func (o secretPut) exec(t *tx) error   { return t.run(qSecretPut, o.name, o.value) }
func (o probe) exec(t *tx) error       { return t.run(qProbe) }

// CreateAccount makes an account with its password's keys. ErrExists if there is one.
func (s *Store) CreateAccount(ctx context.Context, bare jid.JID, keys []sasl.Keys) (AccountID, error) {
	if !bare.IsBare() || bare.Local() == "" {
		return 0, fmt.Errorf("store: account %q: %w", bare, ErrInvalid)
	}
	var id AccountID
	if err := s.Commit(ctx, accountCreate{jid: bare, at: s.opt.Now(), keys: keys, id: &id}); err != nil {
		return 0, fmt.Errorf("store: creating %s: %w", bare, err)
	}
	return id, nil
}

// SetKeys replaces all keys of an account, and makes its tokens invalid: its password changed. by is the id of the client that chose it, which from
// then on is the only one that knows it; "" if none did. ErrNotFound.
func (s *Store) SetKeys(ctx context.Context, bare jid.JID, keys []sasl.Keys, by string) error {
	return s.Commit(ctx, keysSet{jid: bare, keys: keys, by: by})
}

// AddKeys adds the keys of one more hash to an account's; its password stays what it is, and so do its tokens. ErrExists if it has keys of that hash,
// ErrNotFound.
func (s *Store) AddKeys(ctx context.Context, bare jid.JID, keys sasl.Keys) error {
	return s.Commit(ctx, keysAdd{jid: bare, keys: keys})
}

// SetDisabled locks an account out, so that Keys does not find it, or lets it in again. ErrNotFound.
func (s *Store) SetDisabled(ctx context.Context, bare jid.JID, disabled bool) error {
	return s.Commit(ctx, accountDisable{jid: bare, disabled: disabled})
}

// RemoveAccount deletes everything of an account. Other people's archives keep what they have; contacts on this server keep it in their rosters,
// without a subscription. The account is gone with the first commit; its
// archive is then deleted in pieces, which Open finishes if the process ends before. ErrNotFound.
func (s *Store) RemoveAccount(ctx context.Context, bare jid.JID) error {
	var id AccountID
	if err := s.Commit(ctx, accountRemove{jid: bare, id: &id}); err != nil {
		return fmt.Errorf("store: removing %s: %w", bare, err)
	}
	return s.finishRemoval(ctx, id)
}

func (s *Store) finishRemoval(ctx context.Context, id AccountID) error {
	for {
		var n int
		if err := s.Commit(ctx, archiveCut{accounts: []AccountID{id}, upTo: maxArchiveID, limit: cutRows, n: &n}); err != nil {
			return fmt.Errorf("store: deleting the archive of account %d: %w", id, err)
		}
		if n == 0 {
			return s.Commit(ctx, removalDone{account: id})
		}
	}
}

func (s *Store) finishRemovals(ctx context.Context) error {
	var ids []AccountID
	err := s.read(ctx, func(c *conn) error {
		return c.each(qRemovalAll, func(r *sqlite.Stmt) error {
			ids = append(ids, AccountID(r.ColInt(0)))
			return nil
		})
	})
	for _, id := range ids {
		if err == nil {
			err = s.finishRemoval(ctx, id)
		}
	}
	return err
}

// noRow is each's fn for a statement that returns no rows.
func noRow(*sqlite.Stmt) error { return nil }

// each runs a query and fn for each of its rows.
func (c *conn) each(query string, fn func(*sqlite.Stmt) error, args ...any) error {
	s, err := c.stmt(query)
	if err != nil {
		return err
	}
	defer s.Reset()
	bind(s, args...)
	for {
		row, err := s.Step()
		if err != nil || !row {
			return err
		}
		if err := fn(s); err != nil {
			return err
		}
	}
}

// Account returns what is known of an account itself. ErrNotFound.
func (s *Store) Account(ctx context.Context, bare jid.JID) (AccountInfo, error) {
	var a AccountInfo
	err := s.read(ctx, func(c *conn) error {
		return c.each(qAccountGet, func(r *sqlite.Stmt) (err error) {
			a, err = readAccount(r)
			return err
		}, bare.String())
	})
	if err == nil && a.ID == 0 {
		err = ErrNotFound
	}
	return a, err
}

// accountsPage is how many accounts Accounts reads at a time.
const accountsPage = 500

// Accounts lists the accounts of a domain, or of every domain for "", ordered by address. It reads page by page, so accounts that come and go
// meanwhile may or may not be listed. An error is the last element.
func (s *Store) Accounts(ctx context.Context, domain string) iter.Seq2[AccountInfo, error] {
	query := qAccountsAll
	if domain != "" {
		query = qAccountsOf
	}
	return func(yield func(AccountInfo, error) bool) {
		after := ""
		for {
			var list []AccountInfo
			err := s.read(ctx, func(c *conn) error {
				q, err := c.stmt(query)
				if err != nil {
					return err
				}
				defer q.Reset()
				q.Text(1, after)
				if domain != "" {
					q.Text(2, domain)
				}
				q.Int(3, accountsPage)
				for {
					row, err := q.Step()
					if err != nil || !row {
						return err
					}
					a, err := readAccount(q)
					if err != nil {
						return err
					}
					list = append(list, a)
				}
			})
			if err != nil {
				yield(AccountInfo{}, err)
				return
			}
			for _, a := range list {
				if !yield(a, nil) {
					return
				}
				after = a.JID.String()
			}
			if len(list) < accountsPage {
				return
			}
		}
	}
}

func readAccount(r *sqlite.Stmt) (AccountInfo, error) {
	j, err := parseJID(r.ColText(1))
	return AccountInfo{ID: AccountID(r.ColInt(0)), JID: j, Created: time.UnixMicro(r.ColInt(2)).UTC(), Disabled: r.ColInt(3) != 0}, err
}

func parseJID(s string) (jid.JID, error) {
	j, err := jid.Parse(s)
	if err != nil {
		return j, fmt.Errorf("store: address %q in the database: %w", s, err)
	}
	return j, nil
}

// Keys returns what is stored of an account's password for one hash. ErrNotFound if there is no such account or no such key, or if it is disabled.
func (s *Store) Keys(ctx context.Context, bare jid.JID, h sasl.Hash) (sasl.Keys, AccountID, error) {
	k := sasl.Keys{Hash: h}
	var id AccountID
	err := s.read(ctx, func(c *conn) error {
		q, err := c.stmt(qKeys)
		if err != nil {
			return err
		}
		defer q.Reset()
		q.Text(1, bare.String())
		q.Int(2, int64(h))
		row, err := q.Step()
		if err != nil {
			return err
		}
		if !row {
			return ErrNotFound
		}
		id = AccountID(q.ColInt(0))
		k.Iterations, k.Salt, k.StoredKey, k.ServerKey = int(q.ColInt(1)), q.ColBlob(2), q.ColBlob(3), q.ColBlob(4)
		return nil
	})
	if err != nil {
		return sasl.Keys{}, 0, err
	}
	return k, id, nil
}

// IterationCount is how many stored keys have a count of iterations.
type IterationCount struct{ Iterations, Keys int }

// Iterations counts the stored keys by their iterations, fewest iterations first.
func (s *Store) Iterations(ctx context.Context) ([]IterationCount, error) {
	var list []IterationCount
	err := s.read(ctx, func(c *conn) error {
		return c.each(qIterations, func(r *sqlite.Stmt) error {
			list = append(list, IterationCount{int(r.ColInt(0)), int(r.ColInt(1))})
			return nil
		})
	})
	return list, err
}

// Hashes returns how many accounts have keys of each hash, and how many have any.
func (s *Store) Hashes(ctx context.Context) (counts map[sasl.Hash]int, accounts int, err error) {
	counts = map[sasl.Hash]int{}
	err = s.read(ctx, func(c *conn) error {
		err := c.each(qHashes, func(r *sqlite.Stmt) error {
			counts[sasl.Hash(r.ColInt(0))] = int(r.ColInt(1))
			return nil
		})
		if err != nil {
			return err
		}
		return c.each(qKeyed, func(r *sqlite.Stmt) error {
			accounts = int(r.ColInt(0))
			return nil
		})
	})
	return counts, accounts, err
}

// LoadAccount reads what an account's owner keeps in memory. ErrNotFound.
func (s *Store) LoadAccount(ctx context.Context, bare jid.JID) (AccountData, error) {
	var d AccountData
	err := s.read(ctx, func(c *conn) error {
		var id AccountID
		err := c.each(qAccountID, func(r *sqlite.Stmt) error {
			id = AccountID(r.ColInt(0))
			return nil
		}, bare.String())
		if err != nil {
			return err
		}
		// Before the tables are read, all in one state of the database: what is moved out of the tail from here on is then found in them.
		tail := s.tail.snapshot(id)
		if err := s.snapshot(c, func() error { return loadAccount(c, bare, &d) }); err != nil {
			return err
		}
		if len(tail) > 0 {
			d.LastArchiveID = max(d.LastArchiveID, tail[len(tail)-1].id)
		}
		return nil
	})
	if err != nil {
		return AccountData{}, err
	}
	return d, nil
}

// snapshot runs fn, which reads with c, in one state of the database.
func (s *Store) snapshot(c *conn, fn func() error) error {
	if s.memory != nil {
		return fn() // nobody writes meanwhile
	}
	if err := c.run(qSnapshot); err != nil {
		return err
	}
	return errors.Join(fn(), c.run(qCommit))
}

func loadAccount(c *conn, bare jid.JID, d *AccountData) error {
	err := c.each(qAccountHead, func(r *sqlite.Stmt) error {
		d.ID, d.RosterVersion, d.RosterFloor = AccountID(r.ColInt(0)), r.ColInt(1), r.ColInt(2)
		d.LastArchiveID, d.Offline, d.Prefs = ArchiveID(r.ColInt(3)), int(r.ColInt(4)), r.ColBlob(5)
		return nil
	}, bare.String())
	if err != nil {
		return err
	}
	if d.ID == 0 {
		return fmt.Errorf("account %s: %w", bare, ErrNotFound)
	}
	err = c.each(qRosterAll, func(r *sqlite.Stmt) error {
		item := RosterItem{Name: r.ColText(1), Subscription: r.ColText(2), Ask: r.ColInt(3) != 0, Approved: r.ColInt(4) != 0, Version: r.ColInt(6)}
		if item.JID, err = parseJID(r.ColText(0)); err != nil {
			return err
		}
		if groups := r.ColRaw(5); string(groups) != "[]" {
			if err := json.Unmarshal(groups, &item.Groups); err != nil {
				return fmt.Errorf("store: roster groups: %w", err)
			}
		}
		d.Roster = append(d.Roster, item)
		return nil
	}, d.ID)
	if err != nil {
		return err
	}
	err = c.each(qRemovedAll, func(r *sqlite.Stmt) error {
		j, err := parseJID(r.ColText(0))
		d.Removed = append(d.Removed, RosterItem{JID: j, Version: r.ColInt(1)})
		return err
	}, d.ID)
	if err != nil {
		return err
	}
	err = c.each(qRequestAll, func(r *sqlite.Stmt) error {
		j, err := parseJID(r.ColText(0))
		d.Requests = append(d.Requests, Request{From: j, Stanza: r.ColBlob(1), At: time.UnixMicro(r.ColInt(2)).UTC()})
		return err
	}, d.ID)
	if err != nil {
		return err
	}
	err = c.each(qBlockedAll, func(r *sqlite.Stmt) error {
		j, err := parseJID(r.ColText(0))
		d.Blocked = append(d.Blocked, j)
		return err
	}, d.ID)
	if err == nil {
		d.Push, err = pushTargets(c, d.ID)
	}
	return err
}

// KVGet returns a value, ErrNotFound if there is none.
func (s *Store) KVGet(ctx context.Context, id AccountID, space, key string) ([]byte, error) {
	var value []byte
	err := s.read(ctx, func(c *conn) error {
		return c.each(qKVGet, func(r *sqlite.Stmt) error {
			value = r.ColBlob(0)
			return nil
		}, id, space, key)
	})
	if err == nil && value == nil {
		err = ErrNotFound
	}
	return value, err
}

// KVList returns a space of an account ordered by key.
func (s *Store) KVList(ctx context.Context, id AccountID, space string) ([]KV, error) {
	var list []KV
	err := s.read(ctx, func(c *conn) error {
		return c.each(qKVList, func(r *sqlite.Stmt) error {
			list = append(list, KV{Key: r.ColText(0), Value: r.ColBlob(1)})
			return nil
		}, id, space)
	})
	return list, err
}

// Sessions returns the resources last seen, the latest first.
func (s *Store) Sessions(ctx context.Context, id AccountID) ([]SessionRow, error) {
	var list []SessionRow
	err := s.read(ctx, func(c *conn) error {
		return c.each(qSessionAll, func(r *sqlite.Stmt) error {
			list = append(list, SessionRow{
				Resource: r.ColText(0), Client: r.ColText(1), Address: r.ColText(2), At: time.UnixMicro(r.ColInt(3)).UTC(), Online: r.ColInt(4) != 0,
			})
			return nil
		}, id)
	})
	return list, err
}

// Offline returns up to limit messages of the offline store above after, in order.
func (s *Store) Offline(ctx context.Context, id AccountID, after ArchiveID, limit int) ([]ArchivedMessage, error) {
	var list []ArchivedMessage
	err := s.read(ctx, func(c *conn) error {
		return c.each(qOfflinePage, func(r *sqlite.Stmt) error {
			list = append(list, ArchivedMessage{ID: ArchiveID(r.ColInt(0)), Stanza: r.ColBlob(1)})
			return nil
		}, id, after, max(limit, 0))
	})
	return list, err
}

// Secret returns n random bytes that belong to the server under a name: made at the first call, the same ever after.
func (s *Store) Secret(ctx context.Context, name string, n int) ([]byte, error) {
	value, err := s.secret(ctx, name)
	if errors.Is(err, ErrNotFound) {
		fresh := make([]byte, n)
		rand.Read(fresh)
		if err := s.Commit(ctx, secretPut{name: name, value: fresh}); err != nil {
			return nil, fmt.Errorf("store: keeping secret %s: %w", name, err)
		}
		// Another call may have been first.
		value, err = s.secret(ctx, name)
	}
	if err != nil {
		return nil, fmt.Errorf("store: reading secret %s: %w", name, err)
	}
	if len(value) != n {
		return nil, fmt.Errorf("store: secret %s has %d bytes, not %d: %w", name, len(value), n, ErrInvalid)
	}
	return value, nil
}

func (s *Store) secret(ctx context.Context, name string) ([]byte, error) {
	var value []byte
	err := s.read(ctx, func(c *conn) error {
		return c.each(qSecretGet, func(r *sqlite.Stmt) error {
			value = r.ColBlob(0)
			return nil
		}, name)
	})
	if err == nil && value == nil {
		err = ErrNotFound
	}
	return value, err
}
