//! What somebody sees who opens the server's address in a browser, or whose proxy drops `Upgrade`.

use actix_web::http::header::{HeaderValue, UPGRADE};
use actix_web::web::{Data, Json};
use actix_web::{HttpResponse, Responder};
use serde::Serialize;

use crate::domain::{Error, ErrorCode};
use crate::http::HttpSettings;

/// What this is.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct About {
    /// `chatd`.
    #[schema(example = "chatd")]
    name: &'static str,
    /// Its version.
    version: &'static str,
    /// Where sockets are opened; `/` does it too.
    #[schema(example = "/ws")]
    websocket: &'static str,
    /// Where REST is described.
    #[schema(example = "/openapi.json")]
    openapi: &'static str,
}

/// What this server is.
#[utoipa::path(
    get, path = "/", tag = "Operations", operation_id = "about",
    description = "With `Upgrade: websocket` this opens a socket, as `/ws` does.",
    responses((status = 200, description = "What this is", body = About)),
)]
pub async fn about(settings: Data<HttpSettings>) -> impl Responder {
    Json(About { name: "chatd", version: settings.version, websocket: "/ws", openapi: "/openapi.json" })
}

/// Open a socket.
#[utoipa::path(
    get, path = "/ws", tag = "Socket", operation_id = "open_socket",
    description = "Opens a socket with `Upgrade: websocket`; without it this answers 422.",
    params(
        ("ticket" = Option<String>, Query, description = "A one-use ticket of `POST /v1/auth/tickets`"),
        ("token" = Option<String>, Query, description = "A token, where the operator allows it here"),
        ("device" = Option<String>, Query, description = "Up to 64 characters: replaces the socket of the same device"),
        ("acks" = Option<String>, Query, description = "`app`: this client confirms with `received`"),
    ),
    responses(
        (status = 101, description = "The socket is open; the first frame is `hello`"),
        (status = "default", response = crate::http::openapi::ErrorAnswer),
    ),
)]
pub async fn not_upgraded() -> HttpResponse {
    let message =
        "this path speaks WebSocket: send Upgrade: websocket (a proxy in between may have dropped it)";
    let mut answer = HttpResponse::from_error(Error::new(ErrorCode::Invalid, message));
    answer.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
    answer
}
