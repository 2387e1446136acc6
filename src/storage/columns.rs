//! What the columns of an event say, the same for every database. What was checked when it came in is checked again
//! here: a database can be changed by others.

use serde_json::value::RawValue;
use uuid::Uuid;

use super::StorageError;
use crate::domain::history::{Asked, Kind, Stored};
use crate::domain::{
    Content, ConversationId, Data, Digest, EventBody, Message, MessageBody, MessageId, RecordBody, Timestamp,
    UserId,
};

/// A message, as `kind` names it.
pub(super) const MESSAGE: &str = "message";
/// An edit. It has no content: that of its message is the last one, and the only one that is kept.
pub(super) const EDIT: &str = "edit";
/// A deletion.
pub(super) const DELETE: &str = "delete";

/// The columns that say what an event is.
#[derive(Debug)]
pub(super) struct Columns {
    pub(super) kind: String,
    /// Of a message its text, `None` once it was deleted. Of an edit, where it is read for somebody, that of the
    /// message.
    pub(super) content: Option<String>,
    pub(super) data: Option<String>,
    pub(super) reply_to: Option<Uuid>,
    pub(super) target: Option<Uuid>,
    /// What the record asked for, where the other columns do not say it (any more).
    pub(super) digest: Option<Uuid>,
    pub(super) edited_at: Option<i64>,
    pub(super) deleted_at: Option<i64>,
}

impl Columns {
    /// The event as it is told.
    pub(super) fn event(self) -> Result<EventBody, StorageError> {
        let content = self.content.map(Content::new).transpose().map_err(refused)?;
        match self.kind.as_str() {
            MESSAGE => {
                if content.is_none() && self.deleted_at.is_none() {
                    return Err(refused("a message without content"));
                }
                Ok(EventBody::Message(Message {
                    content,
                    data: self.data.map(data).transpose()?,
                    reply_to: self.reply_to.map(MessageId),
                    edited_at: self.edited_at.map(Timestamp),
                    deleted_at: self.deleted_at.map(Timestamp),
                }))
            }
            EDIT => Ok(EventBody::Edited { target: target(self.target)?, content }),
            DELETE => Ok(EventBody::Deleted { target: target(self.target)? }),
            kind => Err(unknown(kind)),
        }
    }

    /// Whether it is a message whose content is gone.
    pub(super) fn is_erased(&self) -> bool {
        self.kind == MESSAGE && self.content.is_none()
    }

    /// What the record asked for; `None` where that was erased.
    pub(super) fn asked(self) -> Result<Option<Asked>, StorageError> {
        if let Some(digest) = self.digest {
            return Ok(Some(Asked::Digest(Digest(digest))));
        }
        match (self.kind.as_str(), self.content) {
            (MESSAGE, Some(content)) => {
                let body = MessageBody {
                    content: Content::new(content).map_err(refused)?,
                    data: self.data.map(data).transpose()?,
                    reply_to: self.reply_to.map(MessageId),
                };
                Ok(Some(Asked::Body(RecordBody::Message(body))))
            }
            (MESSAGE | EDIT, _) => Ok(None),
            (DELETE, _) => Ok(Some(Asked::Body(RecordBody::Delete { target: target(self.target)? }))),
            (kind, _) => Err(unknown(kind)),
        }
    }

    /// The record as later ones are judged by it.
    pub(super) fn stored(
        self,
        conversation: ConversationId,
        from: UserId,
        at: Timestamp,
    ) -> Result<Stored, StorageError> {
        let kind = match (self.kind.as_str(), self.deleted_at) {
            (MESSAGE, None) => Kind::Message,
            (MESSAGE, Some(_)) => Kind::Tombstone,
            _ => Kind::Change,
        };
        let asked = self.asked()?.ok_or_else(|| refused("an event without its content"))?;
        Ok(Stored { conversation, from, at, asked, kind })
    }
}

fn data(text: String) -> Result<Data, StorageError> {
    let raw = RawValue::from_string(text).map_err(refused)?;
    Data::new(raw).map_err(refused)
}

fn target(column: Option<Uuid>) -> Result<MessageId, StorageError> {
    column.map(MessageId).ok_or_else(|| refused("a change without its message"))
}

fn unknown(kind: &str) -> StorageError {
    refused(format_args!("an event of kind {kind}, newer than this release"))
}

fn refused(what: impl std::fmt::Display) -> StorageError {
    StorageError::Refused(what.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(kind: &str, content: Option<&str>) -> Columns {
        Columns {
            kind: kind.into(),
            content: content.map(Into::into),
            data: None,
            reply_to: None,
            target: None,
            digest: None,
            edited_at: None,
            deleted_at: None,
        }
    }

    #[test]
    fn what_no_release_could_have_written_is_refused() {
        for wrong in [
            columns("message", None),
            columns("message", Some(" ")),
            columns("edit", Some("x")),
            columns("delete", None),
            columns("reaction", Some("x")),
            Columns { data: Some("[]".into()), ..columns("message", Some("x")) },
        ] {
            let what = format!("{wrong:?}");
            assert!(matches!(wrong.event(), Err(StorageError::Refused(_))), "{what}");
        }
    }

    #[test]
    fn a_message_whose_words_have_changed_is_known_by_its_digest() {
        let body = RecordBody::Message(MessageBody {
            content: Content::new("x").unwrap(),
            data: None,
            reply_to: None,
        });
        let digest = Some(body.digest().0);
        for later in [
            Columns { digest, edited_at: Some(5), ..columns("message", Some("y")) },
            Columns { digest, deleted_at: Some(5), ..columns("message", None) },
        ] {
            assert!(later.asked().unwrap().unwrap().is_for(&body));
        }
        assert_eq!(columns("message", None).asked().unwrap(), None, "erased");
    }
}
