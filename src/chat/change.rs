//! Editing and deleting a message. Accepted as a record of the log like a message is; what cannot happen for good is
//! refused at once, where storage tells. What depends on the log's order, the applier decides.

use std::time::Duration;

use tokio::time::timeout;

use crate::app::App;
use crate::domain::{
    ClientId, Content, ConversationId, Error, ErrorCode, MessageId, Record, RecordBody, rights,
};

/// How long storage is asked before the record is left to the log: it may be away, and accepting goes on.
const LOOK_WITHIN: Duration = Duration::from_millis(500);

/// A message to edit or to delete.
#[derive(Debug, Clone)]
pub struct Change {
    /// The caller's own id of this change; made where absent.
    pub client_id: Option<ClientId>,
    /// Where the message is.
    pub conversation: ConversationId,
    /// The message.
    pub target: MessageId,
    /// Its new text; `None` deletes it.
    pub content: Option<Content>,
}

/// What the record of a change says.
pub fn body(target: MessageId, content: Option<Content>) -> RecordBody {
    match content {
        Some(content) => RecordBody::Edit { target, content },
        None => RecordBody::Delete { target },
    }
}

/// Refuses a change that can never happen. A message that is not stored may be on its way still, and so may an edit
/// that is tried again after its time: both go through the log.
pub async fn look(app: &App, record: &Record) -> Result<(), Error> {
    let (target, change) = match &record.body {
        RecordBody::Message(_) => return Ok(()),
        RecordBody::Edit { target, .. } => (*target, rights::Change::Edit),
        RecordBody::Delete { target } => (*target, rights::Change::Delete),
    };
    let ids = [record.id, target];
    let asked = app.storage.stored(record.conversation, &ids);
    let Ok(Ok(found)) = timeout(LOOK_WITHIN, asked).await else { return Ok(()) };
    match found.get(&record.id) {
        // A retry ends as it did, whatever has become of the message since.
        Some(own) if own.asked.is_for(&record.body) => return Ok(()),
        Some(_) => return Err(reused()),
        None => {}
    }
    match found.get(&target).and_then(|message| message.refuses(change, record.from)) {
        Some(ErrorCode::Forbidden) => Err(Error::new(ErrorCode::Forbidden, "this message is not yours")),
        Some(code) => Err(Error::new(code, "there is no such message in this conversation, or not any more")),
        None => Ok(()),
    }
}

/// The same client_id with something else.
pub fn reused() -> Error {
    Error {
        code: ErrorCode::ClientIdReused,
        message: "this client_id was used for something else".into(),
        field: Some("client_id"),
    }
}
