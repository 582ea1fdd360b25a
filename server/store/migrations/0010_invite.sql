-- Invitations that can still be taken (XEP-0401). The token itself is known to who has the link alone.
CREATE TABLE invite (
    hash      BLOB    PRIMARY KEY,   -- SHA-256 of the token
    domain    TEXT    NOT NULL,
    inviter   TEXT    NOT NULL,      -- bare address, empty for the operator
    name      TEXT    NOT NULL,      -- localpart that it is for, empty for any
    account   INTEGER NOT NULL,      -- whether an account can be made with it
    ends      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX invite_inviter ON invite (inviter);
CREATE INDEX invite_name ON invite (domain, name) WHERE name <> '';
