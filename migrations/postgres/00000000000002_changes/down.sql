DROP INDEX rejections_by_id;
ALTER TABLE rejections DROP COLUMN digest;
DROP INDEX events_beside_messages;
ALTER TABLE events
    DROP COLUMN target,
    DROP COLUMN digest,
    DROP COLUMN edited_at,
    DROP COLUMN deleted_at;
