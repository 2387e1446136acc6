-- Edits and deletions. Each is an event with a seq of its own, and changes the row of its message: content is the last
-- text, and gone with data once the message was deleted. An edit's own row has no text.

ALTER TABLE events ADD COLUMN target BLOB CHECK (length(target) = 16);
-- Of the record, where the other columns do not say (any more) what it asked for: a retry is known by it.
ALTER TABLE events ADD COLUMN digest BLOB CHECK (length(digest) = 16);
ALTER TABLE events ADD COLUMN edited_at INTEGER;
ALTER TABLE events ADD COLUMN deleted_at INTEGER;

-- Which conversations have events that are no messages, and where: a page of messages by number counts seqs where
-- there are none.
CREATE INDEX events_beside_messages ON events (conversation_key, seq) WHERE kind <> 'message';

-- Of a record that was rejected for what it refers to: a retry of it ends the same way.
ALTER TABLE rejections ADD COLUMN digest BLOB CHECK (length(digest) = 16);
CREATE INDEX rejections_by_id ON rejections (message_id) WHERE digest IS NOT NULL;
