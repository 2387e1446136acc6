-- The first schema.
--
-- Rules for every migration here: it runs in one transaction, beside servers of the release before. So it
-- expands only (a table, a column with a default, an index); what a release no longer uses is dropped by a
-- later one (contract). A file that has been released is never edited.
--
-- Tables are STRICT: a value of another type is refused, not converted. Times are Unix milliseconds. There
-- are no foreign keys: parents and children are written in one transaction by one module, and a check for
-- each event would cost another probe of an index.

-- "chat" in ASCII: tells this file from other programs' databases.
PRAGMA application_id = 1667785076;

-- One row: what this database is.
CREATE TABLE deployment (
    only_row             INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    -- Names this history; cursors carry it. A restored backup gets another one, as its history may go on
    -- otherwise than the one that was lost.
    incarnation          BLOB    NOT NULL CHECK (length(incarnation) = 16),
    -- Set in the copy that a backup makes, and consumed when that copy is first opened.
    restored_from_backup INTEGER NOT NULL DEFAULT 0 CHECK (restored_from_backup IN (0, 1)),
    -- The id of the next user who comes with an external id, from 2^40 on. A counter, so that the id of
    -- somebody who was erased is never given to another.
    next_user_id         INTEGER NOT NULL DEFAULT 1099511627776 CHECK (next_user_id >= 1099511627776),
    -- Written by make_durable, whose commit needs something to write.
    durable_at           INTEGER NOT NULL DEFAULT 0,
    created_at           INTEGER NOT NULL
) STRICT;

INSERT INTO deployment (only_row, incarnation, created_at)
VALUES (1, randomblob(16), CAST(unixepoch('subsec') * 1000 AS INTEGER));

-- The message logs that this database has followed, in order; the last one is the one it follows.
CREATE TABLE logs (
    number      INTEGER NOT NULL PRIMARY KEY CHECK (number >= 1),
    log_id      BLOB    NOT NULL UNIQUE CHECK (length(log_id) = 16),
    partitions  INTEGER NOT NULL CHECK (partitions >= 1),
    attached_at INTEGER NOT NULL
) STRICT;

-- Who owns a partition, and how far it has come. next_offset moves in the transaction that stores the
-- records below it: that is the whole of "exactly once".
CREATE TABLE log_partitions (
    log_number  INTEGER NOT NULL,
    partition   INTEGER NOT NULL CHECK (partition >= 0),
    epoch       INTEGER NOT NULL DEFAULT 0 CHECK (epoch >= 0),
    next_offset INTEGER NOT NULL DEFAULT 0 CHECK (next_offset >= 0),
    published   INTEGER NOT NULL DEFAULT -1 CHECK (published >= -1),
    last_digest BLOB             CHECK (length(last_digest) = 16),
    PRIMARY KEY (log_number, partition),
    CHECK (published < next_offset)
) STRICT, WITHOUT ROWID;

CREATE TABLE users (
    id             INTEGER NOT NULL PRIMARY KEY CHECK (id BETWEEN 1 AND 9007199254740991),
    issuer         TEXT,
    external_id    TEXT             CHECK (length(external_id) BETWEEN 1 AND 255),
    name           TEXT    NOT NULL DEFAULT '',
    email          TEXT             CHECK (length(email) BETWEEN 3 AND 320),
    email_verified INTEGER NOT NULL DEFAULT 0 CHECK (email_verified IN (0, 1)),
    disabled       INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1)),
    created_at     INTEGER NOT NULL,
    UNIQUE (issuer, external_id),
    CHECK ((issuer IS NULL) = (external_id IS NULL)),
    CHECK (email_verified = 0 OR email IS NOT NULL)
) STRICT;

-- A conversation and its head: the last event, and where in the log that came from.
CREATE TABLE conversations (
    conversation_key INTEGER NOT NULL PRIMARY KEY,
    id               TEXT    NOT NULL UNIQUE,
    last_seq         INTEGER NOT NULL CHECK (last_seq >= 0),
    last_at          INTEGER NOT NULL,
    last_log         INTEGER NOT NULL,
    last_partition   INTEGER NOT NULL,
    last_offset      INTEGER NOT NULL
) STRICT;

-- How far each member has got. Cursors only grow.
CREATE TABLE members (
    conversation_key INTEGER NOT NULL,
    user_id          INTEGER NOT NULL,
    delivered        INTEGER NOT NULL DEFAULT 0 CHECK (delivered >= 0),
    read             INTEGER NOT NULL DEFAULT 0 CHECK (read >= 0),
    -- Everything up to here has been told of by mail, or there is a recorded reason why not.
    notified         INTEGER NOT NULL DEFAULT 0 CHECK (notified >= 0),
    -- A gap up to here was named to a device; while delivered is below, no cursor confirms anything.
    gap_to           INTEGER NOT NULL DEFAULT 0 CHECK (gap_to >= 0),
    PRIMARY KEY (conversation_key, user_id),
    CHECK (read <= delivered)
) STRICT, WITHOUT ROWID;

CREATE INDEX members_by_user ON members (user_id, conversation_key);

-- History. A row never changes; edits and deletions are events of their own. With a rowid, so that contents
-- are appended and only small index pages are written here and there: 13 µs a record in batches of 50,
-- against 16 µs without.
CREATE TABLE events (
    conversation_key INTEGER NOT NULL,
    seq              INTEGER NOT NULL CHECK (seq >= 1),
    log_number       INTEGER NOT NULL,
    partition        INTEGER NOT NULL,
    log_offset       INTEGER NOT NULL CHECK (log_offset >= 0),
    message_id       BLOB    NOT NULL CHECK (length(message_id) = 16),
    client_id        TEXT    NOT NULL,
    kind             TEXT    NOT NULL,
    sender_id        INTEGER NOT NULL,
    content          TEXT,
    data             TEXT,
    reply_to         BLOB             CHECK (length(reply_to) = 16),
    at               INTEGER NOT NULL,
    stored_at        INTEGER NOT NULL,
    PRIMARY KEY (conversation_key, seq)
) STRICT;

-- A record is in history once, whatever reads the log twice.
CREATE UNIQUE INDEX events_by_id ON events (conversation_key, message_id);
CREATE UNIQUE INDEX events_by_offset ON events (log_number, partition, log_offset);

-- Records that were accepted and then proved impossible; told to their sender for 30 days, in the order of
-- their ids.
CREATE TABLE rejections (
    id               INTEGER NOT NULL PRIMARY KEY,
    log_number       INTEGER NOT NULL,
    partition        INTEGER NOT NULL,
    log_offset       INTEGER NOT NULL,
    conversation     TEXT    NOT NULL,
    message_id       BLOB    NOT NULL CHECK (length(message_id) = 16),
    client_id        TEXT    NOT NULL,
    sender_id        INTEGER NOT NULL,
    code             TEXT    NOT NULL,
    stored_at        INTEGER NOT NULL,
    UNIQUE (log_number, partition, log_offset)
) STRICT;

CREATE INDEX rejections_by_sender ON rejections (sender_id, id);

-- Values of the log that can never become history, kept for the operator.
CREATE TABLE dead_letters (
    log_number INTEGER NOT NULL,
    partition  INTEGER NOT NULL,
    log_offset INTEGER NOT NULL,
    reason     TEXT    NOT NULL,
    value      BLOB    NOT NULL,
    stored_at  INTEGER NOT NULL,
    PRIMARY KEY (log_number, partition, log_offset)
) STRICT;

-- When a conversation is looked at next for members who did not confirm. One row a conversation, made with
-- its first event since nobody was waiting; grace_ms is what it was made with.
CREATE TABLE notify_due (
    conversation_key INTEGER NOT NULL PRIMARY KEY,
    due_at           INTEGER NOT NULL,
    grace_ms         INTEGER NOT NULL CHECK (grace_ms >= 0)
) STRICT;

CREATE INDEX notify_due_by_time ON notify_due (due_at);

-- One mail, or the reason why there is none: from_seq to to_seq of a conversation, told to one member.
-- AUTOINCREMENT, so that a worker which settles late never meets another mail under its number.
CREATE TABLE mails (
    id               INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    conversation_key INTEGER NOT NULL,
    user_id          INTEGER NOT NULL,
    from_seq         INTEGER NOT NULL CHECK (from_seq >= 1),
    to_seq           INTEGER NOT NULL,
    message_id       BLOB    NOT NULL UNIQUE CHECK (length(message_id) = 16),
    state            TEXT    NOT NULL CHECK (state IN ('waiting', 'sent', 'failed', 'withdrawn', 'skipped')),
    reason           TEXT,
    attempts         INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    next_attempt_at  INTEGER NOT NULL,
    lease_until      INTEGER NOT NULL DEFAULT 0,
    created_at       INTEGER NOT NULL,
    settled_at       INTEGER,
    CHECK (from_seq <= to_seq),
    CHECK ((state = 'waiting') = (settled_at IS NULL)),
    CHECK (state NOT IN ('failed', 'skipped') OR reason IS NOT NULL)
) STRICT;

CREATE INDEX mails_waiting ON mails (next_attempt_at) WHERE state = 'waiting';
CREATE INDEX mails_settled ON mails (settled_at) WHERE settled_at IS NOT NULL;
CREATE INDEX mails_by_member ON mails (conversation_key, user_id, created_at);
CREATE INDEX mails_by_user ON mails (user_id, created_at);

-- For people who look into the database: the messages of two-person conversations. Nothing of chatd reads it.
CREATE VIEW messages AS
SELECT
    lower(substr(hex(e.message_id), 1, 8) || '-' || substr(hex(e.message_id), 9, 4) || '-'
        || substr(hex(e.message_id), 13, 4) || '-' || substr(hex(e.message_id), 17, 4) || '-'
        || substr(hex(e.message_id), 21)) AS id,
    e.sender_id,
    m.user_id AS receiver_id,
    e.content,
    strftime('%Y-%m-%dT%H:%M:%fZ', e.at / 1000.0, 'unixepoch') AS created_at
FROM events AS e
JOIN conversations AS c ON c.conversation_key = e.conversation_key AND c.id LIKE 'dm-%'
JOIN members AS m ON m.conversation_key = e.conversation_key AND m.user_id <> e.sender_id
WHERE e.kind = 'message';
