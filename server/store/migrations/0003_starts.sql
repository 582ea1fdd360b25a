-- How many times the store was opened, in one row.
CREATE TABLE starts (n INTEGER NOT NULL) STRICT;
INSERT INTO starts VALUES (0);
