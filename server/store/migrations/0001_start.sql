-- Accounts. Ids are never given twice (AUTOINCREMENT): the archive of a removed account may still be there for a while.
CREATE TABLE account (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    jid            TEXT    NOT NULL UNIQUE,
    domain         TEXT    NOT NULL,
    created        INTEGER NOT NULL,           -- microseconds since the Unix epoch, as every time here
    disabled       INTEGER NOT NULL DEFAULT 0,
    roster_version INTEGER NOT NULL DEFAULT 0,
    roster_floor   INTEGER NOT NULL DEFAULT 0,
    last_id        INTEGER NOT NULL DEFAULT 0  -- highest archive or offline id among the entries that were deleted
) STRICT;
CREATE INDEX account_domain ON account (domain, jid);

CREATE TABLE credential (
    account    INTEGER NOT NULL REFERENCES account ON DELETE CASCADE,
    hash       INTEGER NOT NULL,              -- sasl.Hash
    iterations INTEGER NOT NULL,
    salt       BLOB    NOT NULL,
    stored_key BLOB    NOT NULL,
    server_key BLOB    NOT NULL,
    PRIMARY KEY (account, hash)
) STRICT, WITHOUT ROWID;

CREATE TABLE roster (
    account      INTEGER NOT NULL REFERENCES account ON DELETE CASCADE,
    contact      TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    subscription TEXT    NOT NULL CHECK (subscription IN ('none', 'to', 'from', 'both')),
    ask          INTEGER NOT NULL,
    approved     INTEGER NOT NULL,
    groups       TEXT    NOT NULL,             -- JSON array of strings
    version      INTEGER NOT NULL,
    PRIMARY KEY (account, contact)
) STRICT, WITHOUT ROWID;

CREATE TABLE roster_removed (
    account INTEGER NOT NULL REFERENCES account ON DELETE CASCADE,
    contact TEXT    NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (account, contact)
) STRICT, WITHOUT ROWID;

CREATE TABLE request (
    account INTEGER NOT NULL REFERENCES account ON DELETE CASCADE,
    sender  TEXT    NOT NULL,
    stanza  BLOB    NOT NULL,
    at      INTEGER NOT NULL,
    PRIMARY KEY (account, sender)
) STRICT, WITHOUT ROWID;

CREATE TABLE blocked (
    account INTEGER NOT NULL REFERENCES account ON DELETE CASCADE,
    jid     TEXT    NOT NULL,
    PRIMARY KEY (account, jid)
) STRICT, WITHOUT ROWID;

CREATE TABLE kv (
    account INTEGER NOT NULL REFERENCES account ON DELETE CASCADE,
    space   TEXT    NOT NULL,
    key     TEXT    NOT NULL,
    value   BLOB    NOT NULL,
    PRIMARY KEY (account, space, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE session (
    account  INTEGER NOT NULL REFERENCES account ON DELETE CASCADE,
    resource TEXT    NOT NULL,
    client   TEXT    NOT NULL,
    address  TEXT    NOT NULL,
    at       INTEGER NOT NULL,
    online   INTEGER NOT NULL,
    PRIMARY KEY (account, resource)
) STRICT, WITHOUT ROWID;

CREATE TABLE offline (
    account INTEGER NOT NULL REFERENCES account ON DELETE CASCADE,
    id      INTEGER NOT NULL,
    stanza  BLOB    NOT NULL,
    PRIMARY KEY (account, id)
) STRICT, WITHOUT ROWID;

-- The archive: clustered by account and id, so that a page of history is a few neighbouring database pages. No foreign key: it would cost a
-- look-up per row, and the writer knows which accounts exist.
CREATE TABLE archive (
    account   INTEGER NOT NULL,
    id        INTEGER NOT NULL,
    peer_hash INTEGER NOT NULL,                -- 64-bit FNV-1a of the peer's bare JID: makes index entries small
    peer      TEXT    NOT NULL,
    stanza    BLOB    NOT NULL,
    PRIMARY KEY (account, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX archive_peer ON archive (account, peer_hash, id);

-- The archive's newest entries of all accounts in order of commit, one row per transaction; see DESIGN.md.
CREATE TABLE tail (
    seq  INTEGER PRIMARY KEY,
    data BLOB NOT NULL
) STRICT;

-- Removed accounts whose archive is not yet deleted.
CREATE TABLE removal (account INTEGER PRIMARY KEY) STRICT;

CREATE TABLE secret (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
