//! One conversation by seq: its messages, its raw events, and how far it was read.

use actix_web::HttpResponse;
use actix_web::http::header::ContentType;
use actix_web::web::Data;
use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::app::App;
use crate::chat::wire::{parse, required};
use crate::chat::{authorize, history, receipts};
use crate::delivery::frame::{self, DeletedFrame, EditedFrame, MessageFrame};
use crate::domain::{Error, Event, EventBody, Seq, Timestamp, UserId};
use crate::http::extract::{Authenticated, FromJson, FromQuery, InPath, Json, Query};
use crate::http::query::Parameters;
use crate::storage::Page;

/// Which part of a conversation.
#[derive(Debug, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct MessagesQuery {
    /// Rows before this seq, newest first; without `before` and `after` the newest ones.
    #[param(minimum = 1)]
    before: Option<i64>,
    /// Rows after this seq, oldest first; not together with `before`.
    #[param(minimum = 0)]
    after: Option<i64>,
    /// Rows in the answer at most.
    #[param(minimum = 1, maximum = 100, required = false)]
    limit: u32,
}

impl FromQuery for MessagesQuery {
    fn from_query(parameters: &Parameters) -> Result<Self, Error> {
        let before = parameters.number("before", 1..=i64::MAX)?;
        let after = parameters.number("after", 0..=i64::MAX)?;
        if before.is_some() && after.is_some() {
            return Err(Error::invalid("after", "name `before` or `after`, not both"));
        }
        Ok(Self { before, after, limit: parameters.limit(super::PAGE_DEFAULT)? })
    }
}

/// A page of messages.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Messages<'a> {
    /// The messages: newest first, after `after` oldest first.
    messages: Vec<MessageRow<'a>>,
    /// Whether there are more in that direction.
    has_more: bool,
}

/// A message as it stands now.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct MessageRow<'a> {
    #[serde(flatten)]
    frame: MessageFrame<'a>,
    /// When its content was last changed; null: never.
    #[schema(value_type = Option<String>, format = DateTime)]
    edited_at: Option<Timestamp>,
    /// When it was deleted; null: it was not.
    #[schema(value_type = Option<String>, format = DateTime)]
    deleted_at: Option<Timestamp>,
}

impl<'a> MessageRow<'a> {
    /// A page of messages has nothing else in it.
    pub(super) fn new(event: &'a Event, viewer: UserId) -> Option<Self> {
        let EventBody::Message(message) = &event.body else { return None };
        let frame = MessageFrame::new(event, message, viewer);
        Some(Self { frame, edited_at: message.edited_at, deleted_at: message.deleted_at })
    }
}

/// A conversation's messages.
#[utoipa::path(
    get, path = "/v1/conversations/{id}/messages", tag = "Conversations", operation_id = "list_messages",
    description = "As they are now: with the last text, and as a tombstone without content once deleted. What was \
        fetched counts as delivered.",
    params(("id" = String, Path, description = "The conversation", example = "dm-1-2"), MessagesQuery),
    responses(
        (status = 200, description = "A page", body = Messages),
        (status = "default", response = crate::http::openapi::ErrorAnswer),
    ),
    security(("token" = [])),
)]
pub async fn messages(
    authenticated: Authenticated,
    InPath(conversation): InPath,
    Query(query): Query<MessagesQuery>,
    app: Data<App>,
) -> Result<HttpResponse, Error> {
    let viewer = authenticated.caller.id();
    let member = authorize::member(viewer, conversation)?;
    let page = match (query.before, query.after) {
        (Some(before), _) => Page::Before(Seq(before)),
        (None, Some(after)) => Page::After(Seq(after)),
        (None, None) => Page::Newest { skip: 0 },
    };
    let page = history::messages(&app, member, page, query.limit).await?;
    let messages = page.rows.iter().filter_map(|event| MessageRow::new(event, viewer)).collect();
    Ok(HttpResponse::Ok().json(Messages { messages, has_more: page.has_more }))
}

/// Which events.
#[derive(Debug, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// Events after this seq.
    #[param(minimum = 0, required = false)]
    after: i64,
    /// Events in the answer at most.
    #[param(minimum = 1, maximum = 100, required = false)]
    limit: u32,
}

impl FromQuery for EventsQuery {
    fn from_query(parameters: &Parameters) -> Result<Self, Error> {
        let after = parameters.number("after", 0..=i64::MAX)?.unwrap_or(0);
        Ok(Self { after, limit: parameters.limit(super::PAGE_MAX)? })
    }
}

/// An event's frame.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum Frame<'a> {
    /// `message`.
    Message(MessageFrame<'a>),
    /// `edited`.
    Edited(EditedFrame<'a>),
    /// `deleted`.
    Deleted(DeletedFrame),
}

/// A page of raw frames, oldest first.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Events<'a> {
    /// The frames, exactly as a socket gets them in a resume, every seq.
    events: Vec<Frame<'a>>,
    /// Whether there are later ones.
    has_more: bool,
}

/// A conversation's events.
#[utoipa::path(
    get, path = "/v1/conversations/{id}/events", tag = "Conversations", operation_id = "list_events",
    description = "What a `gap` points to: raw frames, every seq, oldest first. Fetching confirms.",
    params(("id" = String, Path, description = "The conversation", example = "dm-1-2"), EventsQuery),
    responses(
        (status = 200, description = "A page", body = Events),
        (status = "default", response = crate::http::openapi::ErrorAnswer),
    ),
    security(("token" = [])),
)]
pub async fn events(
    authenticated: Authenticated,
    InPath(conversation): InPath,
    Query(query): Query<EventsQuery>,
    app: Data<App>,
) -> Result<HttpResponse, Error> {
    let viewer = authenticated.caller.id();
    let member = authorize::member(viewer, conversation)?;
    let page = history::events(&app, member, Seq(query.after), query.limit).await?;
    let body = frames(&page.rows, viewer, page.has_more);
    Ok(HttpResponse::Ok().insert_header(ContentType::json()).body(body))
}

/// The frames as the socket's own encoder writes them, put together without reading them again.
fn frames(events: &[Event], viewer: UserId, has_more: bool) -> Bytes {
    let mut body = BytesMut::from(r#"{"events":["#);
    for (index, event) in events.iter().enumerate() {
        if index > 0 {
            body.put_u8(b',');
        }
        body.extend_from_slice(&frame::event(event, viewer));
    }
    body.extend_from_slice(format!(r#"],"has_more":{has_more}}}"#).as_bytes());
    body.freeze()
}

/// How far the caller has read.
#[derive(Debug, utoipa::ToSchema)]
pub struct Read {
    /// Everything up to here; never moves back.
    #[schema(value_type = i64, minimum = 1)]
    seq: Seq,
}

impl FromJson for Read {
    fn from_json(text: &str, depth_max: usize) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Raw<'a> {
            #[serde(borrow)]
            seq: Option<&'a RawValue>,
        }
        let raw: Raw<'_> = parse(text, depth_max)?;
        Ok(Self { seq: required(raw.seq, "seq", "seq is a whole number")? })
    }
}

/// Say how far the caller has read.
#[utoipa::path(
    post, path = "/v1/conversations/{id}/read", tag = "Conversations", operation_id = "mark_read",
    description = "Cumulative, and implies received, gaps included. Answered once it is stored.",
    params(("id" = String, Path, description = "The conversation", example = "dm-1-2")),
    request_body = Read,
    responses(
        (status = 204, description = "Noted"),
        (status = "default", response = crate::http::openapi::ErrorAnswer),
    ),
    security(("token" = [])),
)]
pub async fn read(
    authenticated: Authenticated,
    InPath(conversation): InPath,
    Json(Read { seq }): Json<Read>,
    app: Data<App>,
) -> Result<HttpResponse, Error> {
    let member = authorize::member(authenticated.caller.id(), conversation)?;
    receipts::read_now(&app, member, seq).await?;
    Ok(HttpResponse::NoContent().finish())
}
