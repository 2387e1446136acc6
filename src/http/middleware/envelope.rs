//! Around every request: its id, the limit of its head, one line in the log, one observation in the metrics;
//! around every answer: its headers, and for an error the one shape that all errors have.
//!
//! Whatever answers with a `domain::Error` (the WebSocket upgrade too) is completed here with the request's
//! id and, for 401, the challenge; headers that it set stay.

use actix_cors::CorsError;
use actix_web::body::{BoxBody, EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_PROTOCOL,
    UPGRADE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{HttpRequest, ResponseError};
use tokio::time::Instant;
use tracing::Instrument;

use super::request_id::{RequestId, X_REQUEST_ID};
use crate::auth::credential::{Credential, Offered, presented};
use crate::domain::{Error, ErrorCode};
use crate::http::error::{PROBLEM_JSON, Problem, of_status};

/// The largest request head (protocol.md section 1): request line and headers.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// When to try again what was refused for a moment, where the answer does not know better.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// See the module.
pub async fn envelope<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, actix_web::Error> {
    let started = Instant::now();
    let id = RequestId::of(request.headers());
    let answer = if head_bytes(&request) > HEAD_BYTES_MAX {
        let message = format!("a request head has at most {HEAD_BYTES_MAX} bytes");
        request.error_response(Error::new(ErrorCode::HeadTooLarge, message)).map_into_right_body()
    } else {
        let span = tracing::info_span!("request", request_id = id.as_str());
        next.call(request).instrument(span).await?.map_into_left_body()
    };
    let mut answer = match error_of(&answer) {
        Some(error) => complete(answer, &error, &id),
        None => answer,
    };
    add_headers(&mut answer, &id);
    observe(&answer, &id, started);
    Ok(answer)
}

/// Request line and headers as they came, give or take the spaces around a value.
fn head_bytes(request: &ServiceRequest) -> usize {
    const LINE: usize = "  HTTP/1.1\r\n".len();
    const HEADER: usize = ": \r\n".len();
    let path = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    let headers = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + HEADER);
    LINE + request.method().as_str().len() + path + headers.sum::<usize>()
}

/// The error that an answer stands for: ours, that of a crate, or only its status.
fn error_of<B>(answer: &ServiceResponse<B>) -> Option<Error> {
    let status = answer.status();
    let error = answer.response().error();
    if let Some(error) = error.and_then(|error| error.as_error::<Error>()) {
        return Some(error.clone());
    }
    if let Some(error) = error.and_then(|error| error.as_error::<CorsError>()) {
        return Some(Error::new(ErrorCode::Forbidden, error.to_string()));
    }
    let speaks_json = answer.headers().get(CONTENT_TYPE).is_some_and(|value| value == "application/json");
    let is_error = status.is_client_error() || status.is_server_error();
    (is_error && !speaks_json).then(|| of_status(status))
}

fn complete<B>(
    mut answer: ServiceResponse<EitherBody<B>>,
    error: &Error,
    id: &RequestId,
) -> ServiceResponse<EitherBody<B>> {
    let status = error.status_code();
    *answer.response_mut().status_mut() = status;
    if status == StatusCode::UNAUTHORIZED && !answer.headers().contains_key(WWW_AUTHENTICATE) {
        let challenge = challenge(answer.request());
        answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    let come_back = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    if come_back && !answer.headers().contains_key(RETRY_AFTER) {
        answer.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
    }
    answer.headers_mut().insert(CONTENT_TYPE, PROBLEM_JSON);
    let body = Problem::new(error, Some(id.as_str())).encode();
    answer.map_body(|_, _| EitherBody::Right { body: BoxBody::new(body) })
}

/// RFC 6750 section 3: a request without a credential is not told that its token is invalid.
fn challenge(request: &HttpRequest) -> HeaderValue {
    let headers = request.headers();
    let all = |name: HeaderName| headers.get_all(name).map(HeaderValue::as_bytes).collect::<Vec<_>>();
    let (authorization, subprotocols) = (all(AUTHORIZATION), all(SEC_WEBSOCKET_PROTOCOL));
    let offered = if headers.contains_key(UPGRADE) {
        Offered { authorization: &authorization, subprotocols: &subprotocols, query: request.query_string() }
    } else {
        Offered { authorization: &authorization, ..Offered::default() }
    };
    match presented(offered, true) {
        Ok(Credential::None) => HeaderValue::from_static("Bearer"),
        Ok(Credential::Token(..) | Credential::Ticket(_)) | Err(_) => {
            HeaderValue::from_static(r#"Bearer error="invalid_token""#)
        }
    }
}

fn add_headers<B>(answer: &mut ServiceResponse<B>, id: &RequestId) {
    let upgraded = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(X_REQUEST_ID, id.header());
    if upgraded {
        return;
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}

/// By route, never by path: a path or query may hold ids, and links of mails hold tokens.
fn observe<B>(answer: &ServiceResponse<B>, id: &RequestId, started: Instant) {
    let route = answer.request().match_pattern().unwrap_or_else(|| "unmatched".to_owned());
    let method = method_label(answer.request().method());
    let (status, took, request_id) = (answer.status(), started.elapsed(), id.as_str());
    let ms = took.as_secs_f64() * 1000.0;
    let code = status.as_u16();
    if status.is_server_error() {
        tracing::info!(request_id, method, route, status = code, ms, "{method} {route} {code}");
    } else {
        tracing::debug!(request_id, method, route, status = code, ms, "{method} {route} {code}");
    }
    let labels = [("route", route), ("method", method.to_owned()), ("status", status.as_str().to_owned())];
    metrics::histogram!("chatd_http_request_seconds", &labels).record(took);
}

/// A method that nobody knows must not become a label of its own.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests;
