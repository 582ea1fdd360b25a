-- Push services that an account's devices have named (XEP-0357).
CREATE TABLE push (
    account   INTEGER NOT NULL REFERENCES account ON DELETE CASCADE,
    service   TEXT    NOT NULL,
    node      TEXT    NOT NULL,
    options   TEXT    NOT NULL,               -- the form of publish options, '' for none
    client    TEXT    NOT NULL,               -- the device's, by the id of its user-agent; '' if it has none
    resource  TEXT    NOT NULL,               -- from which it was named last
    at        INTEGER NOT NULL,               -- when
    failures  INTEGER NOT NULL DEFAULT 0,     -- in a row
    retry     INTEGER NOT NULL DEFAULT 0,     -- not before; 0: at any time
    condition TEXT    NOT NULL DEFAULT '',    -- of the last failure
    off       INTEGER NOT NULL DEFAULT 0,     -- for good, until it is named again
    PRIMARY KEY (account, service, node)
) STRICT, WITHOUT ROWID;

-- Messages of which a device has yet to be notified, by their ids in the archive.
CREATE TABLE push_held (
    account INTEGER NOT NULL,
    service TEXT    NOT NULL,
    node    TEXT    NOT NULL,
    id      INTEGER NOT NULL,
    PRIMARY KEY (account, service, node, id),
    FOREIGN KEY (account, service, node) REFERENCES push (account, service, node) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
