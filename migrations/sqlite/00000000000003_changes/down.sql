DROP INDEX rejections_by_id;
ALTER TABLE rejections DROP COLUMN digest;
DROP INDEX events_beside_messages;
ALTER TABLE events DROP COLUMN target;
ALTER TABLE events DROP COLUMN digest;
ALTER TABLE events DROP COLUMN edited_at;
ALTER TABLE events DROP COLUMN deleted_at;
