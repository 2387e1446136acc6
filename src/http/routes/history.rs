//! Two people's history in pages by number: `GET /messages`.

use actix_web::web::{Data, Json};
use serde::Serialize;

use crate::app::App;
use crate::chat::wire::UserRef;
use crate::chat::{Caller, authorize, history};
use crate::domain::{
    ConversationId, Error, ErrorCode, Event, EventBody, MessageId, Seq, Subject, Timestamp, UserId,
};
use crate::http::extract::{Authenticated, FromQuery, Query};
use crate::http::query::Parameters;
use crate::storage::Page;

/// Beyond this the cursor routes are cheaper for both sides.
const OFFSET_MAX: u32 = 10_000;

/// Whose history, and which part of it.
#[derive(Debug, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct HistoryQuery {
    /// One of the two: a number, or `{"external_id":"…"}`.
    #[param(value_type = String, example = "1")]
    user1: UserRef,
    /// The other one.
    #[param(value_type = String, example = "2")]
    user2: UserRef,
    /// Messages in the answer at most.
    #[param(minimum = 1, maximum = 100, required = false)]
    limit: u32,
    /// How many of the newest to leave out.
    #[param(minimum = 0, maximum = 10_000, required = false)]
    offset: u32,
}

impl FromQuery for HistoryQuery {
    fn from_query(parameters: &Parameters) -> Result<Self, Error> {
        Ok(Self {
            user1: parameters.user("user1")?,
            user2: parameters.user("user2")?,
            limit: parameters.limit(super::PAGE_DEFAULT)?,
            offset: parameters.count("offset", 0..=OFFSET_MAX, 0)?,
        })
    }
}

/// A page of history, newest first.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct History {
    /// The messages.
    messages: Vec<HistoryMessage>,
    /// As asked.
    limit: u32,
    /// As asked.
    offset: u32,
    /// Whether there are older ones.
    has_more: bool,
}

/// A message of history.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct HistoryMessage {
    /// Its id.
    #[schema(value_type = uuid::Uuid)]
    id: MessageId,
    /// Its place in the conversation.
    #[schema(value_type = i64)]
    seq: Seq,
    /// Who wrote it.
    #[schema(value_type = i64)]
    sender_id: UserId,
    /// For whom.
    #[schema(value_type = i64)]
    receiver_id: UserId,
    /// The text, as it was last edited; null once it was deleted.
    content: Option<String>,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

/// Two users' history, newest first.
#[utoipa::path(
    get, path = "/messages", tag = "Messages", operation_id = "get_history",
    description = "The caller has to be one of the two. What was fetched counts as delivered.",
    params(HistoryQuery),
    responses(
        (status = 200, description = "A page", body = History),
        (status = "default", response = crate::http::openapi::ErrorAnswer),
    ),
    security(("token" = [])),
)]
pub async fn messages(
    authenticated: Authenticated,
    Query(query): Query<HistoryQuery>,
    app: Data<App>,
) -> Result<Json<History>, Error> {
    let caller = authenticated.caller;
    let (one, other) =
        (resolve(&app, &caller, query.user1).await?, resolve(&app, &caller, query.user2).await?);
    if one.is_some() && one == other {
        return Err(Error::invalid("user2", "user1 and user2 are the same"));
    }
    if ![one, other].contains(&Some(caller.id())) {
        return Err(Error::new(ErrorCode::Forbidden, "only one of the two may read this"));
    }
    let (Some(one), Some(other)) = (one, other) else {
        return Err(Error::new(ErrorCode::UnknownRecipient, "nobody here has that id"));
    };
    let conversation = ConversationId::dm(one, other).map_err(|error| Error::invalid("user2", error.0))?;
    let member = authorize::member(caller.id(), conversation)?;
    let page = history::messages(&app, member, Page::Newest { skip: query.offset }, query.limit).await?;
    let messages = page.rows.into_iter().filter_map(|event| message(event, conversation, caller.id()));
    let (limit, offset) = (query.limit, query.offset);
    Ok(Json(History { messages: messages.collect(), limit, offset, has_more: page.has_more }))
}

/// `None` for an external id that is nobody's. A number needs no user behind it: its history is empty.
async fn resolve(app: &App, caller: &Caller, user: UserRef) -> Result<Option<UserId>, Error> {
    match user {
        UserRef::Id(id) => Ok(Some(id)),
        UserRef::External { external_id } => {
            let subject = Subject::External { issuer: caller.issuer.clone(), id: external_id };
            Ok(app.directory.by_subject(&subject).await?.map(|user| user.id))
        }
    }
}

fn message(event: Event, conversation: ConversationId, viewer: UserId) -> Option<HistoryMessage> {
    // A page of messages has nothing else in it.
    let EventBody::Message(message) = event.body else { return None };
    Some(HistoryMessage {
        id: event.id,
        seq: event.seq,
        sender_id: event.from,
        // In a conversation of two, who did not write is who reads.
        receiver_id: conversation.peer_of(event.from).unwrap_or(viewer),
        content: message.content.map(|content| content.as_str().to_owned()),
        created_at: event.at,
    })
}
