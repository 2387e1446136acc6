//! Sending without a socket.

use std::sync::Arc;

use actix_web::http::header::{ContentType, HeaderMap};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};

use crate::app::App;
use crate::chat::send::{self, Send};
use crate::chat::wire::{self, AcceptedFrame, SendBody};
use crate::domain::{ClientId, Error};
use crate::http::extract::{Authenticated, FromJson, Json};

/// Another place for the `client_id`, known to HTTP clients that retry.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

impl FromJson for Send {
    fn from_json(text: &str, depth_max: usize) -> Result<Self, Error> {
        wire::parse::<SendBody<'_>>(text, depth_max)?.into_send()
    }
}

/// Send a message.
#[utoipa::path(
    post, path = "/v1/messages", tag = "Messages", operation_id = "send_message",
    description = "As the frame `send`. 202 means: durable in the log; it has exactly one fate, in history once \
        or rejected. Tried again with the same `client_id` it is answered with the same `id` and stores nothing new.",
    params(("Idempotency-Key" = Option<String>, Header,
        description = "In place of `client_id`, of the same characters; both and unequal is `invalid`")),
    request_body = inline(SendBody),
    responses(
        (status = 202, description = "The `accepted` frame", body = AcceptedFrame),
        (status = "default", response = crate::http::openapi::ErrorAnswer),
    ),
    security(("token" = [])),
)]
pub async fn send(
    authenticated: Authenticated,
    Json(mut message): Json<Send>,
    request: HttpRequest,
    app: Data<App>,
) -> Result<HttpResponse, Error> {
    let key = idempotency_key(request.headers())?;
    if let (Some(key), Some(client_id)) = (&key, &message.client_id)
        && key != client_id
    {
        return Err(Error::invalid("client_id", "client_id and Idempotency-Key differ; name one"));
    }
    message.client_id = message.client_id.or(key);
    let app: Arc<App> = app.into_inner();
    let accepted = send::send(&app, &authenticated.caller, message).await?;
    Ok(HttpResponse::Accepted().insert_header(ContentType::json()).body(wire::accepted(&accepted, None)))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<ClientId>, Error> {
    const MESSAGE: &str = "Idempotency-Key stands once and has 1 to 64 characters of A-Z a-z 0-9 . _ : -";
    let refused = || Error::invalid("client_id", MESSAGE);
    let mut values = headers.get_all(IDEMPOTENCY_KEY);
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(refused());
    }
    let text = value.to_str().map_err(|_| refused())?;
    ClientId::new(text).map(Some).map_err(|_| refused())
}
