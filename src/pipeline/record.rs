//! The versioned record: JSON on the log (protocol.md section 5), `domain::Record` inside.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::partitioner::partition_of;
use crate::domain::{
    ClientId, Content, ConversationId, Data, MessageBody, MessageId, Partition, Record, RecordBody,
    Timestamp, UserId,
};

/// The version that this release writes.
const VERSION: u32 = 1;
/// What a record takes beside content and data, mostly.
const FIELDS_BYTES: usize = 320;

/// Why a value of the log is no record for this release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// It can never become one: a dead letter, and the partition moves on.
    #[error("not a record: {0}")]
    Malformed(String),
    /// A newer release wrote it: the partition stops until that release reads it.
    #[error("a record of version {version} and kind {kind:?}, newer than this release")]
    Newer {
        /// Its `v`.
        version: u32,
        /// Its `kind`.
        kind: String,
    },
}

#[derive(Deserialize)]
struct Header<'a> {
    v: u32,
    #[serde(borrow)]
    kind: Cow<'a, str>,
}

/// What a record can be of, as `kind` names it.
const MESSAGE: &str = "message";
const EDIT: &str = "edit";
const DELETE: &str = "delete";

/// A record as it is written, borrowed from the domain's.
#[derive(Serialize)]
struct Written<'a> {
    v: u32,
    kind: &'static str,
    id: MessageId,
    client_id: &'a ClientId,
    conversation: ConversationId,
    from: UserId,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<UserId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<MessageId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a Content>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Data>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<MessageId>,
    at: Timestamp,
}

/// A record as it is read.
#[derive(Deserialize)]
struct Read {
    id: MessageId,
    client_id: ClientId,
    conversation: ConversationId,
    from: UserId,
    to: Option<UserId>,
    target: Option<MessageId>,
    content: Option<Content>,
    data: Option<Data>,
    reply_to: Option<MessageId>,
    at: Timestamp,
}

/// The value to append for a record.
pub fn encode(record: &Record) -> Bytes {
    let (kind, target, content, data, reply_to) = match &record.body {
        RecordBody::Message(MessageBody { content, data, reply_to }) => {
            (MESSAGE, None, Some(content), data.as_ref(), *reply_to)
        }
        RecordBody::Edit { target, content } => (EDIT, Some(*target), Some(content), None, None),
        RecordBody::Delete { target } => (DELETE, Some(*target), None, None, None),
    };
    let wire = Written {
        v: VERSION,
        kind,
        id: record.id,
        client_id: &record.client_id,
        conversation: record.conversation,
        from: record.from,
        to: record.conversation.peer_of(record.from),
        target,
        content,
        data,
        reply_to,
        at: record.at,
    };
    let content_bytes = content.map_or(0, |content| content.as_str().len());
    let data_bytes = data.map_or(0, |data| data.as_str().len());
    let mut bytes = Vec::with_capacity(content_bytes + data_bytes + FIELDS_BYTES);
    // Strings, integers and JSON that was parsed before: there is nothing in it that cannot be written.
    match serde_json::to_writer(&mut bytes, &wire) {
        Ok(()) => Bytes::from(bytes),
        Err(_) => Bytes::new(),
    }
}

/// Reads a value found in `partition` of a log with `partitions`, and checks that its id and its place
/// follow from its fields.
pub fn decode(value: &[u8], partition: Partition, partitions: Partition) -> Result<Record, Undecodable> {
    let malformed = |error: serde_json::Error| Undecodable::Malformed(error.to_string());
    let header: Header<'_> = serde_json::from_slice(value).map_err(malformed)?;
    if header.v != VERSION || ![MESSAGE, EDIT, DELETE].contains(&&*header.kind) {
        return Err(Undecodable::Newer { version: header.v, kind: header.kind.into_owned() });
    }
    let wire: Read = serde_json::from_slice(value).map_err(malformed)?;
    if wire.id != MessageId::derive(wire.conversation, wire.from, &wire.client_id) {
        return Err(Undecodable::Malformed("its id does not follow from its fields".into()));
    }
    if partition != partition_of(wire.conversation, partitions) {
        return Err(Undecodable::Malformed("it lies in another partition than its conversation".into()));
    }
    if matches!(wire.conversation, ConversationId::Dm(..)) && wire.to != wire.conversation.peer_of(wire.from)
    {
        return Err(Undecodable::Malformed("its sender and recipient are not its conversation's".into()));
    }
    if wire.conversation.peer_of(wire.from).is_none() {
        return Err(Undecodable::Malformed("its sender is not of its conversation".into()));
    }
    let missing = |field: &str| Undecodable::Malformed(format!("it has no {field}"));
    let content = wire.content.ok_or_else(|| missing("content"));
    let target = wire.target.ok_or_else(|| missing("target"));
    let body = match &*header.kind {
        EDIT => RecordBody::Edit { target: target?, content: content? },
        DELETE => RecordBody::Delete { target: target? },
        _ => RecordBody::Message(MessageBody { content: content?, data: wire.data, reply_to: wire.reply_to }),
    };
    let Read { id, client_id, conversation, from, at, .. } = wire;
    Ok(Record { id, client_id, conversation, from, at, body })
}

/// What the identity check of a log compares: the first 16 bytes of SHA-256 of a value, as a UUID.
pub fn digest(value: &[u8]) -> uuid::Uuid {
    let hash = Sha256::digest(value);
    let mut bytes = [0u8; 16];
    bytes.copy_from_slice(&hash[..16]);
    uuid::Uuid::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Record {
        let (from, to) = (UserId::new(2).unwrap(), UserId::new(3).unwrap());
        let conversation = ConversationId::dm(from, to).unwrap();
        let client_id = ClientId::new("c1").unwrap();
        Record {
            id: MessageId::derive(conversation, from, &client_id),
            client_id,
            conversation,
            from,
            at: Timestamp(1_700_000_000_120),
            body: RecordBody::Message(MessageBody {
                content: Content::new("Grüße \"you\"").unwrap(),
                data: Some(serde_json::from_str(r#"{"a":1.50}"#).unwrap()),
                reply_to: None,
            }),
        }
    }

    #[test]
    fn a_record_has_the_fields_of_the_protocol() {
        let text = String::from_utf8(encode(&sample()).to_vec()).unwrap();
        assert_eq!(
            text,
            r#"{"v":1,"kind":"message","id":"1ba04d0a-f5b1-834e-870a-1336a013b369","client_id":"c1","conversation":"dm-2-3","from":2,"to":3,"content":"Grüße \"you\"","data":{"a":1.50},"at":"2023-11-14T22:13:20.120Z"}"#
        );
    }

    fn changes() -> [Record; 2] {
        let target = sample().id;
        let edit = RecordBody::Edit { target, content: Content::new("Hallo").unwrap() };
        [edit, RecordBody::Delete { target }].map(|body| Record { body, ..sample() })
    }

    #[test]
    fn an_edit_and_a_deletion_name_the_message_that_they_change() {
        let texts = changes().map(|record| String::from_utf8(encode(&record).to_vec()).unwrap());
        let begins = r#"{"v":1,"kind":"KIND","id":"1ba04d0a-f5b1-834e-870a-1336a013b369","client_id":"c1","conversation":"dm-2-3","from":2,"to":3,"target":"1ba04d0a-f5b1-834e-870a-1336a013b369","#;
        let edit = begins.replace("KIND", "edit") + r#""content":"Hallo","at":"2023-11-14T22:13:20.120Z"}"#;
        let delete = begins.replace("KIND", "delete") + r#""at":"2023-11-14T22:13:20.120Z"}"#;
        assert_eq!(texts, [edit.clone(), delete.clone()]);
        for bad in [
            edit.replace("target", "goal"),
            edit.replace("content", "text"),
            edit.replace("Hallo", " "),
            delete.replace("target", "goal"),
            delete.replace("\"delete\"", "\"edit\""),
            delete.replace("\"delete\"", "\"message\""),
        ] {
            assert!(matches!(decode(bad.as_bytes(), 2, 6), Err(Undecodable::Malformed(_))), "{bad}");
        }
    }

    #[test]
    fn what_is_encoded_is_decoded_in_its_own_partition_only() {
        for record in [sample()].into_iter().chain(changes()) {
            let value = encode(&record);
            assert_eq!(decode(&value, 2, 6), Ok(record));
            assert!(matches!(decode(&value, 3, 6), Err(Undecodable::Malformed(_))));
        }
    }

    #[test]
    fn foreign_values_are_malformed_and_newer_ones_are_not() {
        let text = String::from_utf8(encode(&sample()).to_vec()).unwrap();
        for bad in [
            "".to_owned(),
            "[]".into(),
            "{}".into(),
            text.replace("\"client_id\":\"c1\"", "\"client_id\":\"c2\""),
            text.replace("\"to\":3", "\"to\":4"),
            text.replace("\"from\":2", "\"from\":4"),
            text.replace("Grüße", "\\u0000"),
        ] {
            assert!(matches!(decode(bad.as_bytes(), 2, 6), Err(Undecodable::Malformed(_))), "{bad}");
        }
        for newer in [text.replace("\"v\":1", "\"v\":2"), text.replace("\"message\"", "\"reaction\"")] {
            assert!(matches!(decode(newer.as_bytes(), 2, 6), Err(Undecodable::Newer { .. })), "{newer}");
        }
    }
}
