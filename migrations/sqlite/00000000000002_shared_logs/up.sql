-- Several logs, one after the other, and partitions that stand still.

-- A log may be followed again, from other offsets, under a new number: its id is not unique any more.
CREATE TABLE followed_logs (
    number      INTEGER NOT NULL PRIMARY KEY CHECK (number >= 1),
    log_id      BLOB    NOT NULL CHECK (length(log_id) = 16),
    partitions  INTEGER NOT NULL CHECK (partitions >= 1),
    attached_at INTEGER NOT NULL
) STRICT;

INSERT INTO followed_logs SELECT number, log_id, partitions, attached_at FROM logs;
DROP TABLE logs;
ALTER TABLE followed_logs RENAME TO logs;

-- Why a partition stands still, as its owner says; read by every process.
ALTER TABLE log_partitions ADD COLUMN standstill TEXT;
ALTER TABLE log_partitions ADD COLUMN is_breach INTEGER NOT NULL DEFAULT 0 CHECK (is_breach IN (0, 1));
