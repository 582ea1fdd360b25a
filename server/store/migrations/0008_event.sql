-- Personal events (XEP-0163): an account's nodes and their items.
CREATE TABLE event_node (
    account INTEGER NOT NULL REFERENCES account ON DELETE CASCADE,
    node    TEXT    NOT NULL,
    config  BLOB    NOT NULL,
    bytes   INTEGER NOT NULL DEFAULT 0,       -- of its items; the triggers below count
    PRIMARY KEY (account, node)
) STRICT, WITHOUT ROWID;

CREATE TABLE event_item (
    account INTEGER NOT NULL,
    node    TEXT    NOT NULL,
    id      TEXT    NOT NULL,
    seq     INTEGER NOT NULL,                 -- the order of publication in the node
    at      INTEGER NOT NULL,
    payload BLOB    NOT NULL,
    PRIMARY KEY (account, node, id),
    FOREIGN KEY (account, node) REFERENCES event_node (account, node) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX event_item_seq ON event_item (account, node, seq);

CREATE TRIGGER event_item_put AFTER INSERT ON event_item BEGIN
    UPDATE event_node SET bytes = bytes + length(CAST(NEW.id AS BLOB)) + length(NEW.payload) WHERE account = NEW.account AND node = NEW.node;
END;
CREATE TRIGGER event_item_change AFTER UPDATE ON event_item BEGIN
    UPDATE event_node SET bytes = bytes - length(OLD.payload) + length(NEW.payload) WHERE account = NEW.account AND node = NEW.node;
END;
CREATE TRIGGER event_item_del AFTER DELETE ON event_item BEGIN
    UPDATE event_node SET bytes = bytes - length(CAST(OLD.id AS BLOB)) - length(OLD.payload) WHERE account = OLD.account AND node = OLD.node;
END;
