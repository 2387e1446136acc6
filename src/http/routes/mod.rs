//! The paths, a file for each part of protocol.md section 4.

pub mod conversations;
pub mod health;
pub mod history;
pub mod lists;
pub mod me;
pub mod messages;
pub mod metrics;
pub mod presence;
pub mod root;
pub mod tickets;
pub mod users;

use super::endpoint::Endpoint;
use super::query::Parameters;
use crate::domain::Error;

/// Rows of a page where the caller names no limit.
const PAGE_DEFAULT: u32 = 20;
/// Rows of a page at most: at 16 KiB each, 1.6 MB.
const PAGE_MAX: u32 = 100;

impl Parameters {
    /// `limit`, 1 to 100.
    fn limit(&self, default: u32) -> Result<u32, Error> {
        self.count("limit", 1..=PAGE_MAX, default)
    }
}

/// For whoever operates the server.
pub fn operations() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/health", health::health),
        Endpoint::get("/livez", health::health),
        Endpoint::get("/healthz", health::health),
        Endpoint::get("/ready", health::ready),
        Endpoint::get("/readyz", health::ready),
        Endpoint::get("/metrics", metrics::metrics),
    ]
}

/// For clients.
pub fn clients() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/", root::about),
        Endpoint::get("/ws", root::not_upgraded),
        Endpoint::get("/openapi.json", super::openapi::document),
        Endpoint::get("/messages", history::messages),
        Endpoint::get("/v1/me", me::me).and_patch(me::change),
        Endpoint::get("/v1/users", users::named),
        Endpoint::get("/v1/users/{user}", users::user),
        Endpoint::get("/v1/users/{user}/presence", presence::presence),
        Endpoint::get("/v1/conversations", lists::conversations),
        Endpoint::get("/v1/conversations/{id}", lists::conversation),
        Endpoint::get("/v1/conversations/{id}/messages", conversations::messages),
        Endpoint::get("/v1/conversations/{id}/events", conversations::events),
        Endpoint::post("/v1/conversations/{id}/read", conversations::read),
        Endpoint::post("/v1/messages", messages::send),
        Endpoint::post("/v1/auth/tickets", tickets::issue),
    ]
}
