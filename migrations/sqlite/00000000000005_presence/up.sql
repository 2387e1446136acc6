-- When users were there last, and who may see it. A table of its own: a row changes once a minute while its user is
-- there, which users and their indexes should not.
CREATE TABLE presence (
    user_id   INTEGER NOT NULL PRIMARY KEY,
    -- To the minute; NULL: never.
    last_seen INTEGER,
    -- NULL: as presence.visible_to says.
    audience  TEXT    CHECK (audience IN ('everyone', 'shared', 'nobody'))
) STRICT;
