-- Rooms. A room has a row in account too, whose domain is empty, so that it has an archive and is no account that anybody lists or counts.
CREATE TABLE room (
    account    INTEGER PRIMARY KEY REFERENCES account ON DELETE CASCADE,
    domain     TEXT    NOT NULL,
    jid        TEXT    NOT NULL UNIQUE,
    creator    TEXT    NOT NULL,  -- bare address
    persistent INTEGER NOT NULL,
    public     INTEGER NOT NULL,
    name       TEXT    NOT NULL,
    options    BLOB    NOT NULL,  -- as server/room writes them
    subject    BLOB    NOT NULL   -- the message that set it, empty for none
) STRICT;
CREATE INDEX room_listed ON room (domain, jid) WHERE public;
CREATE INDEX room_creator ON room (creator);

CREATE TABLE room_member (
    account     INTEGER NOT NULL REFERENCES account ON DELETE CASCADE,
    jid         TEXT    NOT NULL,
    affiliation TEXT    NOT NULL CHECK (affiliation IN ('owner', 'admin', 'member', 'outcast')),
    nick        TEXT    NOT NULL,  -- reserved, or empty
    reason      TEXT    NOT NULL,
    PRIMARY KEY (account, jid)
) STRICT, WITHOUT ROWID;
