//! The answer to a handshake (RFC 6455 section 4.2).

use actix_http::ws::HandshakeError;
use actix_web::body::BoxBody;
use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse};
use tokio::sync::oneshot;

use super::handover::{Handover, Upgraded};

/// The one subprotocol that is spoken here.
pub const SUBPROTOCOL: &str = "chatd.v1";

/// Answers the handshake, and gives where the stream comes out when the answer is written. No extension is
/// negotiated; [`SUBPROTOCOL`] is answered where it was offered.
///
/// # Errors
/// Where the request is no handshake (section 4.2.1), or brings a body.
pub fn open(
    request: &HttpRequest,
    payload: Payload,
) -> Result<(HttpResponse<BoxBody>, oneshot::Receiver<Upgraded>), HandshakeError> {
    let mut response = actix_http::ws::handshake(request.head())?;
    // With a body, its bytes and not the first frames would lie behind the head.
    let has_body =
        [header::CONTENT_LENGTH, header::TRANSFER_ENCODING].map(|name| request.headers().get(name));
    let has_body = has_body.into_iter().flatten().any(|value| value.as_bytes() != b"0");
    // Any other payload: actix-http takes what follows the head for the next request.
    let (Payload::H1 { .. }, false, Some(handover)) = (&payload, has_body, request.conn_data::<Handover>())
    else {
        return Err(HandshakeError::NoWebsocketUpgrade);
    };
    if offered_subprotocols(request).any(|offered| offered == SUBPROTOCOL) {
        response.insert_header((header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL));
    }
    let (answer, taken) = handover.answer(payload);
    Ok((HttpResponse::from(response.finish()).set_body(answer).map_into_boxed_body(), taken))
}

/// What the client offers in `Sec-WebSocket-Protocol`, in its order.
fn offered_subprotocols(request: &HttpRequest) -> impl Iterator<Item = &str> {
    let lines = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL);
    lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(',')).map(str::trim)
}
