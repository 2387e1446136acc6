//! Accepting a message, or a change of one: checked, given its id, and durable in the log before anybody is told so. No
//! row is written here; `apply` does that.

use std::future::Future;
use std::sync::Arc;

use tokio::time::Instant;

use super::change::{self, Change};
use super::{Caller, authorize};
use crate::app::App;
use crate::app::health::LOG;
use crate::chat::recent::Recall;
use crate::domain::Subject;
use crate::domain::{
    ClientId, Content, ConversationId, Data, Error, ErrorCode, MessageBody, MessageId, Offset, Record,
    RecordBody, Seq, Timestamp, UserId,
};
use crate::pipeline::partitioner::partition_of;
use crate::pipeline::{Entry, Generation, LogError, record};

/// Whom a message is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A user by id.
    User(UserId),
    /// A user of the caller's issuer by the host application's id.
    External(String),
    /// A conversation.
    Conversation(ConversationId),
}

/// A message to send.
#[derive(Debug, Clone)]
pub struct Send {
    /// The sender's own id; made here where absent.
    pub client_id: Option<ClientId>,
    /// For whom.
    pub target: Target,
    /// What.
    pub body: MessageBody,
}

/// Something that becomes a record of the log.
#[derive(Debug, Clone)]
pub enum Command {
    /// A message.
    Send(Send),
    /// An edit or a deletion.
    Change(Change),
}

impl Command {
    /// The caller's own id of it, where it has one.
    pub fn client_id(&self) -> Option<&ClientId> {
        match self {
            Self::Send(send) => send.client_id.as_ref(),
            Self::Change(change) => change.client_id.as_ref(),
        }
    }
}

/// The answer to an accepted message or change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The sender's own id.
    pub client_id: ClientId,
    /// The record's id: the message's, or that of the change.
    pub id: MessageId,
    /// The conversation.
    pub conversation: ConversationId,
    /// When it was accepted.
    pub at: Timestamp,
    /// Its seq, where it is known to be stored already.
    pub seq: Option<Seq>,
}

/// A message or a change that passed every check.
pub enum Prepared {
    /// To be appended.
    New {
        /// The answer once it is durable.
        accepted: Accepted,
        /// What to append.
        entry: Entry,
        /// Tells its body from another of the same id.
        fingerprint: u64,
        /// When it came.
        since: Instant,
    },
    /// Durable already.
    Retry(Accepted),
}

/// Checks a command and gives it its id. For a message it reads at most one user, mostly from the cache; for a change
/// the message, from storage.
pub async fn prepare(app: &App, caller: &Caller, command: Command) -> Result<Prepared, Error> {
    let since = Instant::now();
    let (conversation, client_id, body) = match command {
        Command::Send(send) => {
            check_size(app, &send.body.content, send.body.data.as_ref())?;
            let conversation = conversation_of(app, caller, &send.target).await?;
            (conversation, send.client_id, RecordBody::Message(send.body))
        }
        Command::Change(change) => {
            change.content.as_ref().map_or(Ok(()), |content| check_size(app, content, None))?;
            let member = authorize::member(caller.id(), change.conversation)?;
            let Change { client_id, target, content, .. } = change;
            (member.conversation(), client_id, change::body(target, content))
        }
    };
    let client_id = client_id.unwrap_or_else(ClientId::random);
    let id = MessageId::derive(conversation, caller.id(), &client_id);
    let at = Timestamp::now();
    let mut accepted = Accepted { client_id: client_id.clone(), id, conversation, at, seq: None };
    match app.recent.recall(id, &body) {
        Recall::Unknown => {}
        Recall::Retry { at, seq } => {
            (accepted.at, accepted.seq) = (at, seq);
            return Ok(Prepared::Retry(accepted));
        }
        Recall::Reused => return Err(change::reused()),
    }
    app.hub.typers().wrote(caller.id(), conversation);
    let partition = partition_of(conversation, app.log.identity().partitions);
    if app.health.is_closed(partition) {
        let message = "this conversation stands still until its history is restored; try again then";
        return Err(Error::new(ErrorCode::Unavailable, message));
    }
    let fingerprint = app.recent.fingerprint(&body);
    let record = Record { id, client_id, conversation, from: caller.id(), at, body };
    if !matches!(record.body, RecordBody::Message(_)) {
        // Apart, since messages have no use for its room.
        Box::pin(change::look(app, &record)).await?;
    }
    let entry = Entry { partition, key: conversation, value: record::encode(&record) };
    Ok(Prepared::New { accepted, entry, fingerprint, since })
}

/// Appends a prepared message; the future ends when it is durable. Calls keep their order.
pub fn append(
    app: &Arc<App>,
    prepared: Prepared,
    generation: Generation,
) -> impl Future<Output = Result<Accepted, Error>> + use<> {
    let app = Arc::clone(app);
    let (accepted, appending) = match prepared {
        Prepared::Retry(accepted) => (accepted, None),
        Prepared::New { accepted, entry, fingerprint, since } => {
            app.recent.sent(accepted.id, fingerprint, accepted.at);
            (accepted, Some((app.log.append(entry, generation), fingerprint, since)))
        }
    };
    async move {
        if let Some((appending, fingerprint, since)) = appending {
            let appended = appending.await;
            tell_health(&app, &appended);
            appended?;
            app.recent.accepted(accepted.id, fingerprint, accepted.at);
            app.story.accepted(accepted.id, since);
            metrics::counter!("chatd_accepted_total").increment(1);
            metrics::histogram!("chatd_accept_seconds").record(since.elapsed());
        }
        Ok(accepted)
    }
}

/// A log that takes nothing is an operator's matter too, and ends with the next message that it takes.
fn tell_health(app: &App, appended: &Result<Offset, LogError>) {
    match appended {
        Ok(_) => app.health.clear(LOG),
        Err(error @ (LogError::Unavailable(_) | LogError::Corrupt(_))) => {
            app.health.raise(LOG, &error.to_string());
        }
        Err(_) => {}
    }
}

/// Both at once, for a caller with one message.
pub async fn send(app: &Arc<App>, caller: &Caller, message: Send) -> Result<Accepted, Error> {
    let generation = app.log.generation();
    let prepared = prepare(app, caller, Command::Send(message)).await?;
    append(app, prepared, generation).await
}

fn check_size(app: &App, content: &Content, data: Option<&Data>) -> Result<(), Error> {
    let too_large = |field: &'static str, found: usize, max: usize| Error {
        code: ErrorCode::TooLarge,
        message: format!("{field} has {found} bytes, {max} at most"),
        field: Some(field),
    };
    let (found, max) = (content.as_str().len(), app.settings.content_bytes_max);
    if found > max {
        return Err(too_large("content", found, max));
    }
    let (found, max) = (data.map_or(0, |data| data.as_str().len()), app.settings.data_bytes_max);
    if found > max {
        return Err(too_large("data", found, max));
    }
    Ok(())
}

/// Where a message for this target goes, if the caller may write there.
pub(super) async fn conversation_of(
    app: &App,
    caller: &Caller,
    target: &Target,
) -> Result<ConversationId, Error> {
    let recipient = match target {
        Target::User(id) => app.directory.recipient(*id).await?,
        Target::External(id) => {
            let subject = Subject::External { issuer: caller.issuer.clone(), id: id.clone() };
            app.directory.by_subject(&subject).await?
        }
        Target::Conversation(conversation) => {
            let member = authorize::member(caller.id(), *conversation)?;
            match conversation.peer_of(member.user()) {
                Some(peer) => app.directory.recipient(peer).await?,
                None => return Err(Error::not_found()),
            }
        }
    };
    let unknown = || Error::new(ErrorCode::UnknownRecipient, "nobody here has that id");
    let recipient = recipient.filter(|user| !user.disabled).ok_or_else(unknown)?;
    ConversationId::dm(caller.id(), recipient.id).map_err(|error| Error::invalid("to", error.0))
}
