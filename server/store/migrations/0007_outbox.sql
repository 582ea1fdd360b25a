-- Messages for other servers that are not known to have come (XEP-0198 between servers), in the form in which they leave.
CREATE TABLE outbox (
    id     INTEGER PRIMARY KEY,   -- given by who puts it in; in the order of each sender
    at     INTEGER NOT NULL,
    stanza BLOB    NOT NULL
) STRICT;
