-- A user's devices, by the id of their <user-agent/> (XEP-0388 2.3.1).
CREATE TABLE client (
    account    INTEGER NOT NULL REFERENCES account ON DELETE CASCADE,
    id         TEXT    NOT NULL,
    software   TEXT    NOT NULL,
    device     TEXT    NOT NULL,
    address    TEXT    NOT NULL,
    mechanism  TEXT    NOT NULL,
    sasl2      INTEGER NOT NULL,
    password   INTEGER NOT NULL,              -- whether it ever logged in with one
    tag        TEXT    NOT NULL,
    resource   TEXT    NOT NULL,
    first_seen INTEGER NOT NULL,
    last_seen  INTEGER NOT NULL,
    cursor     INTEGER NOT NULL DEFAULT 0,    -- it acknowledged everything in the archive up to here
    PRIMARY KEY (account, id)
) STRICT, WITHOUT ROWID;

-- A client's FAST tokens (XEP-0484 5.1): the one in use, and the one that takes its place when it is used. An empty value is no token.
CREATE TABLE token (
    account       INTEGER NOT NULL,
    client        TEXT    NOT NULL,
    mechanism     TEXT    NOT NULL DEFAULT '',
    value         BLOB    NOT NULL DEFAULT x'',
    issued        INTEGER NOT NULL DEFAULT 0,
    expires       INTEGER NOT NULL DEFAULT 0,
    counter       INTEGER NOT NULL DEFAULT 0,
    new_mechanism TEXT    NOT NULL,
    new_value     BLOB    NOT NULL,
    new_issued    INTEGER NOT NULL,
    new_expires   INTEGER NOT NULL,
    PRIMARY KEY (account, client),
    FOREIGN KEY (account, client) REFERENCES client (account, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- Sessions that a client may resume although the server was away (XEP-0198 5).
CREATE TABLE resumable (
    account  INTEGER NOT NULL REFERENCES account ON DELETE CASCADE,
    key      BLOB    NOT NULL,                -- hash of the resumption id
    resource TEXT    NOT NULL,
    client   TEXT    NOT NULL,
    ends     INTEGER NOT NULL,                -- 0: connected
    window   INTEGER NOT NULL,                -- microseconds
    handled  INTEGER NOT NULL,
    acked    INTEGER NOT NULL,
    sent     INTEGER NOT NULL,                -- entries of the queue
    up_to    INTEGER NOT NULL,
    state    BLOB    NOT NULL,
    bytes    INTEGER NOT NULL,                -- of the queue
    PRIMARY KEY (account, key)
) STRICT, WITHOUT ROWID;

-- What its client is owed, in order.
CREATE TABLE resumable_queue (
    account INTEGER NOT NULL,
    key     BLOB    NOT NULL,
    n       INTEGER NOT NULL,
    entry   INTEGER NOT NULL,                 -- of the archive, 0 for none
    tag     BLOB    NOT NULL,
    stanza  BLOB    NOT NULL,                 -- empty if it is the archive's
    PRIMARY KEY (account, key, n),
    FOREIGN KEY (account, key) REFERENCES resumable (account, key) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
