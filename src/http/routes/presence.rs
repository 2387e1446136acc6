//! Whether somebody is there.

use actix_web::HttpResponse;
use actix_web::web::{Data, Path};
use serde::Serialize;

use crate::app::App;
use crate::chat::presence;
use crate::chat::wire::UserRef;
use crate::domain::{Error, Seen, Status, Timestamp, UserId};
use crate::http::extract::Authenticated;

/// How somebody is seen by the caller.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Presence {
    /// Who.
    #[schema(value_type = i64, example = 1002)]
    user: UserId,
    /// Whether they are there.
    #[schema(value_type = String, example = "online")]
    status: Status,
    /// To the minute; null: never, or the caller may not know.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_seen: Option<Timestamp>,
}

/// Whether a user is online.
#[utoipa::path(
    get, path = "/v1/users/{user}/presence", tag = "People", operation_id = "get_presence",
    description = "One of the frame `presence`. Somebody whom the caller may not see looks like somebody who was never \
        there.",
    params(("user" = String, Path, description = "A user: `1002`, or `{\"external_id\":\"ana\"}`, percent-encoded")),
    responses(
        (status = 200, description = "As the caller may see it now", body = Presence),
        (status = "default", response = crate::http::openapi::ErrorAnswer),
    ),
    security(("token" = [])),
)]
pub async fn presence(
    authenticated: Authenticated,
    user: Path<String>,
    app: Data<App>,
) -> Result<HttpResponse, Error> {
    let caller = &authenticated.caller;
    let named = [UserRef::parse(&user, "user")?];
    let user = presence::named(&app, caller, &named).await?.first().copied().ok_or_else(Error::not_found)?;
    let Seen { user, status, last_seen } = presence::seen_by(&app, caller.id(), user).await?;
    Ok(HttpResponse::Ok().json(Presence { user, status, last_seen }))
}
