//! The caller's own account.

use actix_web::HttpResponse;
use serde::Serialize;

use crate::domain::{Error, UserId};
use crate::http::extract::Authenticated;

/// The caller.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Me<'a> {
    /// chatd's number for the caller.
    #[schema(value_type = i64)]
    id: UserId,
    /// The host application's own id, where a token's `sub` made this user.
    #[serde(skip_serializing_if = "Option::is_none")]
    external_id: Option<&'a str>,
    /// What others see; empty until a token or the operator gave one.
    name: &'a str,
    /// Where mail goes; null: nowhere.
    email: Option<&'a str>,
}

/// Who the caller is.
#[utoipa::path(
    get, path = "/v1/me", tag = "Account", operation_id = "get_me",
    responses(
        (status = 200, description = "The caller", body = Me),
        (status = "default", response = crate::http::openapi::ErrorAnswer),
    ),
    security(("token" = [])),
)]
pub async fn me(authenticated: Authenticated) -> Result<HttpResponse, Error> {
    let user = &authenticated.caller.user;
    Ok(HttpResponse::Ok().json(Me {
        id: user.id,
        external_id: user.external_id.as_deref(),
        name: &user.name,
        email: user.email.as_deref(),
    }))
}
