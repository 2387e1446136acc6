//! A ticket opens one socket, so that no token need stand in a URL.

use actix_web::HttpResponse;
use actix_web::web::Data;
use serde::Serialize;

use crate::app::App;
use crate::domain::Error;
use crate::http::extract::Authenticated;

/// A ticket for `GET /ws?ticket=…`.
#[derive(Serialize, utoipa::ToSchema)]
pub struct TicketAnswer<'a> {
    /// To be used once.
    ticket: &'a str,
    /// How long it can be used, in seconds.
    #[schema(example = 30)]
    expires_in: u64,
}

/// Make a ticket for one socket.
#[utoipa::path(
    post, path = "/v1/auth/tickets", tag = "Account", operation_id = "create_ticket",
    responses(
        (status = 201, description = "The ticket", body = TicketAnswer),
        (status = "default", response = crate::http::openapi::ErrorAnswer),
    ),
    security(("token" = [])),
)]
pub async fn issue(authenticated: Authenticated, app: Data<App>) -> Result<HttpResponse, Error> {
    let ticket = app.tickets.issue(authenticated.claims).await?;
    let answer = TicketAnswer { ticket: ticket.text.expose(), expires_in: ticket.expires_in.as_secs() };
    Ok(HttpResponse::Created().json(answer))
}
