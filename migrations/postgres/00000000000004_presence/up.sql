-- When users were there last, and who may see it. A table of its own: a row changes once a minute while its user is
-- there, which users and their indexes should not.
CREATE TABLE presence (
    user_id   bigint NOT NULL PRIMARY KEY,
    -- To the minute; NULL: never.
    last_seen bigint,
    -- NULL: as presence.visible_to says.
    audience  text   CHECK (audience IN ('everyone', 'shared', 'nobody'))
) WITH (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000
);
