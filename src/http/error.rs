//! Error answers of REST: one table from code to status and title, and the shape of RFC 9457.
//!
//! `domain::Error` answers by itself, so a handler returns it and nothing else. The envelope (`middleware`)
//! completes every answer that came from one: with the request's id, and with what the status asks for.

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;

use crate::domain::{Error, ErrorCode};

/// The media type of every error answer (RFC 9457).
pub const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// The table: what each code is in HTTP.
pub const fn row(code: ErrorCode) -> (StatusCode, &'static str) {
    match code {
        ErrorCode::BadJson => (StatusCode::BAD_REQUEST, "Not JSON"),
        ErrorCode::Unauthorized => (StatusCode::UNAUTHORIZED, "No valid token"),
        ErrorCode::Forbidden => (StatusCode::FORBIDDEN, "Not allowed"),
        ErrorCode::NotFound => (StatusCode::NOT_FOUND, "Not found"),
        ErrorCode::UnknownRecipient => (StatusCode::NOT_FOUND, "Unknown recipient"),
        ErrorCode::ClientIdReused => (StatusCode::CONFLICT, "client_id used for another message"),
        ErrorCode::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "Too large"),
        ErrorCode::Invalid => (StatusCode::UNPROCESSABLE_ENTITY, "Invalid value"),
        ErrorCode::Conflict => (StatusCode::CONFLICT, "Conflict"),
        ErrorCode::RateLimited => (StatusCode::TOO_MANY_REQUESTS, "Too many requests"),
        ErrorCode::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "Unavailable"),
        ErrorCode::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "Overloaded"),
        ErrorCode::UnknownType => (StatusCode::BAD_REQUEST, "Unknown type"),
        ErrorCode::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "Method not allowed"),
        ErrorCode::Timeout => (StatusCode::REQUEST_TIMEOUT, "Request too slow"),
        ErrorCode::UnsupportedMediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported media type"),
        ErrorCode::Misdirected => (StatusCode::MISDIRECTED_REQUEST, "Wrong host"),
        ErrorCode::HeadTooLarge => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "Request head too large"),
        ErrorCode::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "Fault of the server"),
    }
}

/// An error answer (RFC 9457).
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Problem<'a> {
    /// `urn:chatd:error:` and the code: names the kind of error, leads nowhere.
    #[serde(rename = "type")]
    #[schema(example = "urn:chatd:error:invalid")]
    kind: String,
    /// The same for every error of this code.
    #[schema(example = "Invalid value")]
    title: &'static str,
    /// The HTTP status once more.
    #[schema(example = 422)]
    status: u16,
    /// What programs look at.
    #[schema(example = "invalid")]
    code: &'static str,
    /// A sentence for the developer of a client.
    #[schema(example = "content is blank")]
    detail: &'a str,
    /// The id of the request, as in the header `x-request-id`; the server's log has it too.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String)]
    request_id: Option<&'a str>,
    /// What is at fault, where it has a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<[FieldProblem<'a>; 1]>,
}

/// A field of the body, a parameter of the query or of the path that is at fault.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct FieldProblem<'a> {
    /// A JSON pointer (RFC 6901): `/` and the name.
    #[schema(example = "/content")]
    pointer: String,
    /// What is wrong with it.
    detail: &'a str,
}

impl<'a> Problem<'a> {
    /// What is told about an error.
    pub fn new(error: &'a Error, request_id: Option<&'a str>) -> Self {
        let (status, title) = row(error.code);
        let pointed = |field| [FieldProblem { pointer: format!("/{field}"), detail: &error.message }];
        Self {
            kind: format!("urn:chatd:error:{}", error.code.as_str()),
            title,
            status: status.as_u16(),
            code: error.code.as_str(),
            detail: &error.message,
            request_id,
            errors: error.field.map(pointed),
        }
    }

    /// The JSON text. Strings and a number: nothing in it fails.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        row(self.code).0
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        response.insert_header((CONTENT_TYPE, PROBLEM_JSON));
        // What was not read of a body is not worth reading, and what is slow or large would go on.
        if matches!(self.code, ErrorCode::TooLarge | ErrorCode::Timeout | ErrorCode::HeadTooLarge) {
            response.force_close();
        }
        response.body(Problem::new(self, None).encode())
    }
}

/// The error that an answer of somebody else's making (a status without our shape) stands for.
pub fn of_status(status: StatusCode) -> Error {
    let (code, message) = match status {
        StatusCode::UNAUTHORIZED => (ErrorCode::Unauthorized, "no valid token was presented"),
        StatusCode::FORBIDDEN => (ErrorCode::Forbidden, "this is not allowed"),
        StatusCode::NOT_FOUND => (ErrorCode::NotFound, "no such path"),
        StatusCode::METHOD_NOT_ALLOWED => (ErrorCode::MethodNotAllowed, "this path has no such method"),
        StatusCode::REQUEST_TIMEOUT => (ErrorCode::Timeout, "the request took too long to arrive"),
        StatusCode::PAYLOAD_TOO_LARGE => (ErrorCode::TooLarge, "the body is too large"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            (ErrorCode::UnsupportedMediaType, "the body is not application/json")
        }
        StatusCode::TOO_MANY_REQUESTS => (ErrorCode::RateLimited, "too many requests; try again"),
        StatusCode::SERVICE_UNAVAILABLE => (ErrorCode::Unavailable, "unavailable; try again"),
        status if status.is_server_error() => (ErrorCode::Internal, "a fault of ours; it has been logged"),
        _ => (ErrorCode::Invalid, "the request makes no sense here"),
    };
    Error::new(code, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [ErrorCode; 19] = [
        ErrorCode::BadJson,
        ErrorCode::Unauthorized,
        ErrorCode::Forbidden,
        ErrorCode::NotFound,
        ErrorCode::UnknownRecipient,
        ErrorCode::ClientIdReused,
        ErrorCode::TooLarge,
        ErrorCode::Invalid,
        ErrorCode::Conflict,
        ErrorCode::RateLimited,
        ErrorCode::Unavailable,
        ErrorCode::Overloaded,
        ErrorCode::UnknownType,
        ErrorCode::MethodNotAllowed,
        ErrorCode::Timeout,
        ErrorCode::UnsupportedMediaType,
        ErrorCode::Misdirected,
        ErrorCode::HeadTooLarge,
        ErrorCode::Internal,
    ];

    #[test]
    fn the_table_is_that_of_the_protocol() {
        let rows = ALL.map(|code| format!("{} {}", code.as_str(), row(code).0.as_u16()));
        let expected = "bad_json 400, unauthorized 401, forbidden 403, not_found 404, unknown_recipient 404, \
             client_id_reused 409, too_large 413, invalid 422, conflict 409, rate_limited 429, \
             unavailable 503, overloaded 503, unknown_type 400, method_not_allowed 405, timeout 408, \
             unsupported_media_type 415, misdirected 421, head_too_large 431, internal 500";
        assert_eq!(rows.join(", "), expected);
    }

    #[test]
    fn a_problem_points_to_the_field() {
        let error = Error::invalid("content", "content is blank");
        let json: serde_json::Value =
            serde_json::from_slice(&Problem::new(&error, Some("r1")).encode()).unwrap();
        let expected = serde_json::json!({
            "type": "urn:chatd:error:invalid", "title": "Invalid value", "status": 422, "code": "invalid",
            "detail": "content is blank", "request_id": "r1",
            "errors": [{"pointer": "/content", "detail": "content is blank"}],
        });
        assert_eq!(json, expected);
        let json = Problem::new(&Error::not_found(), None).encode();
        assert!(!String::from_utf8(json).unwrap().contains("errors"));
    }
}
