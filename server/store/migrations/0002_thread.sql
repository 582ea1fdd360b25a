-- Conversation threads (RFC 6121 5.2.5): the key of <thread/>'s text, for messages that have one. See thread.go.
ALTER TABLE archive ADD COLUMN thread BLOB;
CREATE INDEX archive_thread ON archive (account, thread, id) WHERE thread IS NOT NULL;

-- Work on old rows that a migration leaves to Open: up to which archive entry it has come. The row goes when the work is done.
CREATE TABLE upkeep (
    name    TEXT PRIMARY KEY,
    account INTEGER NOT NULL,
    id      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO upkeep SELECT 'thread', 0, 0 WHERE EXISTS (SELECT 1 FROM archive) OR EXISTS (SELECT 1 FROM tail);
