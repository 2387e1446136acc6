//! What handlers ask for: who calls, and a body, query or path that was read and checked. Put
//! `Authenticated` first: arguments are asked in order, so nobody without a token learns what else is wrong.

use actix_web::dev::Payload;
use actix_web::http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use actix_web::web::{BytesMut, Data, Path};
use actix_web::{FromRequest, HttpRequest};
use futures_util::StreamExt;
use futures_util::future::{LocalBoxFuture, Ready, ready};

use super::HttpSettings;
use super::query::Parameters;
use crate::app::App;
use crate::auth::credential::bearer;
use crate::auth::{AuthError, Claims};
use crate::chat::Caller;
use crate::chat::caller::identify;
use crate::chat::wire::UserRef;
use crate::domain::{ConversationId, Error, ErrorCode};

/// Whoever calls with `Authorization: Bearer`; no other way counts for REST.
pub struct Authenticated {
    /// The user.
    pub caller: Caller,
    /// What the token says.
    pub claims: Claims,
}

impl FromRequest for Authenticated {
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let app = app(&request)?;
            let headers: Vec<&[u8]> =
                request.headers().get_all(AUTHORIZATION).map(|value| value.as_bytes()).collect();
            let token = bearer(&headers)?.ok_or(AuthError::Missing)?;
            let claims = app.tokens.verify(token.expose())?;
            let caller = identify(app, &claims).await?;
            Ok(Self { caller, claims })
        })
    }
}

/// A type that is read from a JSON body.
pub trait FromJson: Sized {
    /// Reads the text; an error names the field at fault.
    fn from_json(text: &str, depth_max: usize) -> Result<Self, Error>;
}

/// A body of `application/json`, within the limits of size, time and depth.
pub struct Json<T>(pub T);

impl<T: FromJson + 'static> FromRequest for Json<T> {
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self, Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let (request, payload) = (request.clone(), payload.take());
        Box::pin(async move {
            let settings = settings(&request)?;
            check_media_type(&request)?;
            check_length(&request, settings.body_bytes_max)?;
            let reading = read(payload, settings.body_bytes_max);
            let body = match tokio::time::timeout(settings.body_timeout, reading).await {
                Ok(body) => body?,
                Err(_) => return Err(Error::new(ErrorCode::Timeout, "the body took too long to arrive")),
            };
            let text = std::str::from_utf8(&body)
                .map_err(|_| Error::new(ErrorCode::BadJson, "not JSON: not UTF-8"))?;
            T::from_json(text, settings.json_depth_max).map(Self)
        })
    }
}

fn check_media_type(request: &HttpRequest) -> Result<(), Error> {
    let unsupported = |message| Err(Error::new(ErrorCode::UnsupportedMediaType, message));
    let media_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = media_type.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return unsupported("send the body as Content-Type: application/json");
    }
    match request.headers().get(CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            unsupported("send the body without Content-Encoding")
        }
        Some(_) | None => Ok(()),
    }
}

/// A body that announces too much is refused before any of it is read.
fn check_length(request: &HttpRequest, bytes_max: usize) -> Result<(), Error> {
    let length = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    match length.and_then(|length| length.parse::<u64>().ok()) {
        Some(length) if length > bytes_max as u64 => Err(too_large(bytes_max)),
        Some(_) | None => Ok(()),
    }
}

async fn read(mut payload: Payload, bytes_max: usize) -> Result<BytesMut, Error> {
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk =
            chunk.map_err(|_| Error::new(ErrorCode::BadJson, "not JSON: the body did not arrive whole"))?;
        if body.len() + chunk.len() > bytes_max {
            return Err(too_large(bytes_max));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn too_large(bytes_max: usize) -> Error {
    Error::new(ErrorCode::TooLarge, format!("a body has at most {bytes_max} bytes"))
}

/// A type that is read from the query string.
pub trait FromQuery: Sized {
    /// Takes the parameters; an error names the one at fault.
    fn from_query(parameters: &Parameters) -> Result<Self, Error>;
}

/// The query string; unknown parameters are ignored.
pub struct Query<T>(pub T);

impl<T: FromQuery + 'static> FromRequest for Query<T> {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(T::from_query(&Parameters::parse(request.query_string())).map(Self))
    }
}

/// The conversation that a path names as `{id}`. Whose it is, is another question.
pub struct InPath(pub ConversationId);

impl FromRequest for InPath {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let text = request.match_info().get("id").unwrap_or_default();
        ready(text.parse().map(Self).map_err(|error| crate::chat::wire::bad_conversation(&error)))
    }
}

/// The user that a path names as `{user}`: a number, or `{"external_id":"…"}`, percent-encoded.
pub struct UserInPath(pub UserRef);

impl FromRequest for UserInPath {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        // Unlike the router, this decodes `/` and `%` too.
        let text = Path::<String>::extract(request).into_inner().map(Path::into_inner);
        ready(UserRef::parse(&text.unwrap_or_default(), "user").map(Self))
    }
}

fn app(request: &HttpRequest) -> Result<&Data<App>, Error> {
    request.app_data().ok_or_else(misbuilt)
}

fn settings(request: &HttpRequest) -> Result<&Data<HttpSettings>, Error> {
    request.app_data().ok_or_else(misbuilt)
}

/// Only a server that was put together without `http::create` answers so.
fn misbuilt() -> Error {
    tracing::error!("the server lacks its own parts");
    Error::new(ErrorCode::Internal, "a fault of ours; it has been logged")
}
