//! The caller's own account.

use actix_web::HttpResponse;
use actix_web::web::Data;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::app::App;
use crate::chat::wire::{optional, parse};
use crate::chat::{people, presence};
use crate::domain::user::normalized_name;
use crate::domain::{Audience, Error, ProfileChange, User, UserId, profile};
use crate::http::extract::{Authenticated, FromJson, Json};

/// The caller.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Me<'a> {
    /// chatd's number for the caller.
    #[schema(value_type = i64)]
    id: UserId,
    /// The host application's own id, where a token's `sub` made this user.
    #[serde(skip_serializing_if = "Option::is_none")]
    external_id: Option<&'a str>,
    /// What others see; empty until a token, the operator or the caller gave one.
    name: &'a str,
    /// Where mail goes; null: nowhere.
    email: Option<&'a str>,
    /// Where the caller's clock is, as the time zone database names it; null: not known.
    #[schema(example = "Europe/Berlin")]
    time_zone: Option<&'a str>,
    /// What the caller reads (BCP 47); null: not known.
    #[schema(example = "de")]
    language: Option<&'a str>,
    /// Who may see whether the caller is online: `everyone`, `shared` (who shares a conversation) or `nobody`.
    #[schema(value_type = String, example = "everyone")]
    presence: Audience,
}

impl<'a> Me<'a> {
    fn new(user: &'a User, presence: Audience) -> Self {
        Self {
            id: user.id,
            external_id: user.external_id.as_deref(),
            name: &user.name,
            email: user.email.as_deref(),
            time_zone: user.time_zone.as_deref(),
            language: user.language.as_deref(),
            presence,
        }
    }
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
pub async fn me(authenticated: Authenticated, app: Data<App>) -> Result<HttpResponse, Error> {
    let user = &authenticated.caller.user;
    Ok(HttpResponse::Ok().json(Me::new(user, presence::shown_to(&app, user.id).await?)))
}

/// What the caller changes; what is absent or null stays as it is.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub struct MeBody<'a> {
    /// What others see: 1 to 64 characters.
    #[serde(borrow)]
    #[schema(value_type = Option<String>, example = "Ana")]
    name: Option<&'a RawValue>,
    /// Where the caller's clock is: `UTC`, or a name of the time zone database.
    #[serde(borrow)]
    #[schema(value_type = Option<String>, example = "Europe/Berlin")]
    time_zone: Option<&'a RawValue>,
    /// What the caller reads (BCP 47).
    #[serde(borrow)]
    #[schema(value_type = Option<String>, example = "de")]
    language: Option<&'a RawValue>,
    #[serde(borrow)]
    #[schema(ignore)]
    email: Option<&'a RawValue>,
    /// Who may see whether the caller is online: `everyone`, `shared` (who shares a conversation) or `nobody`.
    #[serde(borrow)]
    #[schema(value_type = Option<String>, example = "shared")]
    presence: Option<&'a RawValue>,
    #[serde(borrow)]
    #[schema(ignore)]
    notify: Option<&'a RawValue>,
}

/// What the caller changes, read.
pub struct MeChange {
    profile: ProfileChange,
    presence: Option<Audience>,
}

impl FromJson for MeChange {
    fn from_json(text: &str, depth_max: usize) -> Result<Self, Error> {
        let body: MeBody<'_> = parse(text, depth_max)?;
        if body.email.is_some() {
            const MESSAGE: &str =
                "an address has to be verified, which this release cannot do: the operator adds it";
            return Err(Error::invalid("email", MESSAGE));
        }
        // To pass over it would look as if it were in force.
        if body.notify.is_some() {
            return Err(Error::invalid("notify", "notify cannot be changed in this release"));
        }
        let text = |raw, field| optional::<String>(raw, field, "a text is expected");
        let profile = ProfileChange {
            name: text(body.name, "name")?.map(|name| normalized_name(&name)).transpose()?,
            time_zone: text(body.time_zone, "time_zone")?.map(profile::time_zone).transpose()?,
            language: text(body.language, "language")?.map(profile::language).transpose()?,
        };
        let presence = optional(body.presence, "presence", "presence is everyone, shared or nobody")?;
        Ok(Self { profile, presence })
    }
}

/// Change what the caller says of themselves.
#[utoipa::path(
    patch, path = "/v1/me", tag = "Account", operation_id = "change_me",
    description = "What is absent or null stays as it is. In force at once on this server, within 5 s on others.",
    request_body = inline(MeBody),
    responses(
        (status = 200, description = "The caller as they are now", body = Me),
        (status = "default", response = crate::http::openapi::ErrorAnswer),
    ),
    security(("token" = [])),
)]
pub async fn change(
    authenticated: Authenticated,
    Json(change): Json<MeChange>,
    app: Data<App>,
) -> Result<HttpResponse, Error> {
    let Authenticated { caller, claims } = authenticated;
    let user = people::change(&app, &caller, &claims.subject, &change.profile).await?;
    if let Some(audience) = change.presence {
        presence::show_to(&app, user.id, audience).await?;
    }
    Ok(HttpResponse::Ok().json(Me::new(&user, presence::shown_to(&app, user.id).await?)))
}
