//! Which pages of other origins may call (Fetch Standard, "CORS protocol"): those of the list, without
//! credentials, since a token in a header is no ambient authority.

use actix_cors::Cors;
use actix_web::http::header::{
    ALLOW, AUTHORIZATION, CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE,
};

use super::request_id::X_REQUEST_ID;

/// `Idempotency-Key`, in place of a `client_id` in the body.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// How long a browser may keep a preflight's answer, in seconds.
const MAX_AGE_SECONDS: usize = 600;

/// The rules for a list of origins; an empty list allows none.
pub fn cors(origins: &[String]) -> Cors {
    let rules = Cors::default()
        .allowed_methods(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
        .allowed_headers([AUTHORIZATION, CONTENT_TYPE, IDEMPOTENCY_KEY, X_REQUEST_ID])
        .expose_headers([X_REQUEST_ID, RETRY_AFTER, ALLOW, WWW_AUTHENTICATE])
        .max_age(MAX_AGE_SECONDS);
    origins.iter().fold(rules, |rules, origin| rules.allowed_origin(origin))
}
