//! The caller's conversations as a list: by last activity, in pages.

use actix_web::HttpResponse;
use actix_web::web::Data;
use serde::Serialize;

use super::conversations::MessageRow;
use crate::app::App;
use crate::chat::{authorize, conversations};
use crate::domain::{ConversationId, Error, Seq, Timestamp, UserId};
use crate::http::extract::{Authenticated, FromQuery, InPath, Query};
use crate::http::query::Parameters;
use crate::storage::{Listed, ListedMember};

/// Which part of the list.
#[derive(Debug, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Where to go on: the `next_cursor` of the page before.
    cursor: Option<String>,
    /// Conversations in the answer at most.
    #[param(minimum = 1, maximum = 100, required = false)]
    limit: u32,
}

impl FromQuery for ListQuery {
    fn from_query(parameters: &Parameters) -> Result<Self, Error> {
        let cursor = parameters.value("cursor")?.map(str::to_owned);
        Ok(Self { cursor, limit: parameters.limit(super::PAGE_DEFAULT)? })
    }
}

/// A page of the list.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Conversations<'a> {
    /// The conversations, those with the latest activity first.
    conversations: Vec<ConversationRow<'a>>,
    /// Where the next page begins; null: this was the last one.
    next_cursor: Option<&'a str>,
}

/// A conversation as the caller sees it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ConversationRow<'a> {
    /// Its id.
    #[schema(value_type = String, example = "dm-1-2")]
    conversation: ConversationId,
    /// Its last event.
    #[schema(value_type = i64)]
    last_seq: Seq,
    /// When that happened.
    #[schema(value_type = String, format = DateTime)]
    last_at: Timestamp,
    /// The last message as it stands now, perhaps deleted; null where there is none among the last 1,000 events.
    last_message: Option<MessageRow<'a>>,
    /// Others' messages after the caller's own `read` that were not deleted; counts to 1,000, among the last 5,000 events.
    unread: u32,
    /// The caller, then others by number, 20 at most.
    members: Vec<MemberRow<'a>>,
    /// How many members there are.
    member_count: u32,
}

/// A member of a conversation.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct MemberRow<'a> {
    /// Who.
    #[schema(value_type = i64)]
    user: UserId,
    /// What others see; empty where none is set.
    name: &'a str,
    /// Confirmed up to here without a hole.
    #[schema(value_type = i64)]
    delivered: Seq,
    /// Read up to here.
    #[schema(value_type = i64)]
    read: Seq,
}

impl<'a> ConversationRow<'a> {
    fn new(listed: &'a Listed, viewer: UserId) -> Self {
        let Listed { conversation, place, last_seq, last_message, unread, members, members_count } = listed;
        let member = |member: &'a ListedMember| {
            let ListedMember { user, name, delivered, read } = member;
            MemberRow { user: *user, name, delivered: *delivered, read: *read }
        };
        Self {
            conversation: *conversation,
            last_seq: *last_seq,
            last_at: place.last_at,
            last_message: last_message.as_ref().and_then(|event| MessageRow::new(event, viewer)),
            unread: *unread,
            members: members.iter().map(member).collect(),
            member_count: *members_count,
        }
    }
}

/// The caller's conversations.
#[utoipa::path(
    get, path = "/v1/conversations", tag = "Conversations", operation_id = "list_conversations",
    description = "By last activity, the latest first. While messages arrive a conversation that did not change \
        stands on exactly one page; one that changed has moved to the front. Nothing is confirmed by this.",
    params(ListQuery),
    responses(
        (status = 200, description = "A page", body = Conversations),
        (status = "default", response = crate::http::openapi::ErrorAnswer),
    ),
    security(("token" = [])),
)]
pub async fn conversations(
    authenticated: Authenticated,
    Query(query): Query<ListQuery>,
    app: Data<App>,
) -> Result<HttpResponse, Error> {
    let viewer = authenticated.caller.id();
    let page = conversations::page(&app, viewer, query.cursor.as_deref(), query.limit).await?;
    Ok(HttpResponse::Ok().json(Conversations {
        conversations: page.conversations.iter().map(|listed| ConversationRow::new(listed, viewer)).collect(),
        next_cursor: page.next_cursor.as_deref(),
    }))
}

/// One of the caller's conversations.
#[utoipa::path(
    get, path = "/v1/conversations/{id}", tag = "Conversations", operation_id = "get_conversation",
    description = "As the list has it. One in which nobody has written is not there.",
    params(("id" = String, Path, description = "The conversation", example = "dm-1-2")),
    responses(
        (status = 200, description = "The conversation", body = ConversationRow),
        (status = "default", response = crate::http::openapi::ErrorAnswer),
    ),
    security(("token" = [])),
)]
pub async fn conversation(
    authenticated: Authenticated,
    InPath(conversation): InPath,
    app: Data<App>,
) -> Result<HttpResponse, Error> {
    let viewer = authenticated.caller.id();
    let listed = conversations::one(&app, authorize::member(viewer, conversation)?).await?;
    Ok(HttpResponse::Ok().json(ConversationRow::new(&listed, viewer)))
}
