-- Each user's conversations by last activity, people by name, and what people say of themselves.

-- A list is not moved by every message: that would be a row a member each time. A conversation's place is renewed when
-- its last event lies a minute or more behind it, so that listed_at <= last_at < listed_at + 60,000. Whoever reads a list
-- looks a minute further and has the right order.
ALTER TABLE conversations ADD COLUMN listed_at INTEGER NOT NULL DEFAULT 0;
UPDATE conversations SET listed_at = last_at;

-- One row a member, at the conversation's listed_at; any other counts for nothing.
CREATE TABLE listings (
    user_id          INTEGER NOT NULL,
    listed_at        INTEGER NOT NULL,
    conversation_key INTEGER NOT NULL,
    PRIMARY KEY (user_id, listed_at, conversation_key)
) STRICT, WITHOUT ROWID;

INSERT INTO listings
SELECT m.user_id, c.listed_at, c.conversation_key
FROM members AS m JOIN conversations AS c ON c.conversation_key = m.conversation_key;

-- The name as it is compared, made by chatd, the same in every database; NULL where it was not made yet.
ALTER TABLE users ADD COLUMN name_key TEXT;
ALTER TABLE users ADD COLUMN time_zone TEXT CHECK (length(time_zone) BETWEEN 1 AND 64);
ALTER TABLE users ADD COLUMN language TEXT CHECK (length(language) BETWEEN 1 AND 35);

CREATE INDEX users_by_name ON users (name_key, id) WHERE disabled = 0;
CREATE INDEX users_without_key ON users (id) WHERE name_key IS NULL;
