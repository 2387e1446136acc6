-- Each user's conversations by last activity, people by name, and what people say of themselves.

-- A list is not moved by every message: that would be a row a member each time. A conversation's place is renewed when
-- its last event lies a minute or more behind it, so that listed_at <= last_at < listed_at + 60,000. Whoever reads a list
-- looks a minute further and has the right order. A server of the release before does not know of it: what is begun
-- there meanwhile is listed with its next message here.
ALTER TABLE conversations ADD COLUMN listed_at bigint NOT NULL DEFAULT 0;
UPDATE conversations SET listed_at = last_at;

-- One row a member, at the conversation's listed_at; any other counts for nothing. Written by whoever applies to the
-- conversation and by nobody else, apart from members, so that nobody waits for a receipt there.
CREATE TABLE listings (
    user_id          bigint NOT NULL,
    listed_at        bigint NOT NULL,
    conversation_key bigint NOT NULL,
    PRIMARY KEY (user_id, listed_at, conversation_key)
) WITH (
    autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000
);

-- A user can have any number of conversations. So a list is read in its order, and never as a whole, whatever the average.
ALTER TABLE listings ALTER COLUMN user_id SET (n_distinct = 100);

INSERT INTO listings
SELECT m.user_id, c.listed_at, c.conversation_key
FROM members AS m JOIN conversations AS c ON c.conversation_key = m.conversation_key;

-- name_key is the name as it is compared, made by chatd, the same in every database; NULL where it was not made yet.
ALTER TABLE users
    ADD COLUMN name_key  text COLLATE "C",
    ADD COLUMN time_zone text CHECK (length(time_zone) BETWEEN 1 AND 64),
    ADD COLUMN language  text CHECK (length(language) BETWEEN 1 AND 35);

CREATE INDEX users_by_name ON users (name_key, id) WHERE NOT disabled;
CREATE INDEX users_without_key ON users (id) WHERE name_key IS NULL;
