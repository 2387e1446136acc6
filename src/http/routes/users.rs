//! The directory: people by number, by external id, and by the beginning of their names. Never by address.

use actix_web::HttpResponse;
use actix_web::web::Data;
use serde::Serialize;

use crate::app::App;
use crate::chat::people;
use crate::domain::{Error, NameKey, User, UserId};
use crate::http::extract::{Authenticated, FromQuery, Query, UserInPath};
use crate::http::query::Parameters;

/// Whose name.
#[derive(Debug, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct NamedQuery {
    /// What the name begins with: 3 characters or more; in Chinese, Japanese and Korean, 1. Capitals and the width
    /// of characters make no difference.
    #[param(value_type = String, example = "ana")]
    query: NameKey,
}

impl FromQuery for NamedQuery {
    fn from_query(parameters: &Parameters) -> Result<Self, Error> {
        match parameters.value("query")? {
            Some(text) => Ok(Self { query: NameKey::beginning(text)? }),
            None => Err(Error::invalid("query", "query is missing")),
        }
    }
}

/// Somebody, as everybody sees them.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Person<'a> {
    /// chatd's number.
    #[schema(value_type = i64)]
    id: UserId,
    /// The host application's own id, where a token's `sub` made this user.
    #[serde(skip_serializing_if = "Option::is_none")]
    external_id: Option<&'a str>,
    /// What others see; empty where none is set.
    name: &'a str,
}

impl<'a> Person<'a> {
    fn new(user: &'a User) -> Self {
        Self { id: user.id, external_id: user.external_id.as_deref(), name: &user.name }
    }
}

/// People who were found.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct People<'a> {
    /// By name, 20 at most.
    users: Vec<Person<'a>>,
}

/// People by the beginning of their names.
#[utoipa::path(
    get, path = "/v1/users", tag = "People", operation_id = "find_users",
    description = "20 at most, by name; nobody who is disabled.",
    params(NamedQuery),
    responses(
        (status = 200, description = "Who was found", body = People),
        (status = "default", response = crate::http::openapi::ErrorAnswer),
    ),
    security(("token" = [])),
)]
pub async fn named(
    _: Authenticated,
    Query(NamedQuery { query }): Query<NamedQuery>,
    app: Data<App>,
) -> Result<HttpResponse, Error> {
    let found = people::named(&app, &query).await?;
    Ok(HttpResponse::Ok().json(People { users: found.iter().map(Person::new).collect() }))
}

/// Somebody.
#[utoipa::path(
    get, path = "/v1/users/{user}", tag = "People", operation_id = "get_user",
    description = "Who is disabled is not there.",
    params(("user" = String, Path, example = "2",
        description = "A number, or `{\"external_id\":\"…\"}`, percent-encoded")),
    responses(
        (status = 200, description = "The user", body = Person),
        (status = "default", response = crate::http::openapi::ErrorAnswer),
    ),
    security(("token" = [])),
)]
pub async fn user(
    authenticated: Authenticated,
    UserInPath(user): UserInPath,
    app: Data<App>,
) -> Result<HttpResponse, Error> {
    let user = people::one(&app, &authenticated.caller, user).await?;
    Ok(HttpResponse::Ok().json(Person::new(&user)))
}
