//! Who may open a socket: origin, room, credential, user; then the handshake and the session's task.

use std::sync::Arc;

use actix_web::http::header::{self, HeaderMap};
use actix_web::{HttpRequest, HttpResponse, web};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::guard::GuardLimits;
use super::handover::Upgraded;
use super::handshake;
use super::relay::relayed;
use super::session::{Session, Visitor};
use crate::app::App;
use crate::app::health::Readiness;
use crate::auth::AuthError;
use crate::auth::credential::{self, Credential, Offered};
use crate::chat::{Caller, caller, presence};
use crate::domain::{Error, ErrorCode};

/// The longest device name, in characters (protocol.md section 3).
const DEVICE_CHARS_MAX: usize = 64;

/// What upgrades need of the configuration, and where sessions run.
#[derive(Clone)]
pub struct Upgrades {
    /// Origins that browsers may come from, as `scheme://host[:port]`.
    pub origins: Arc<[String]>,
    /// Whether `?token=` is taken.
    pub query_token: bool,
    /// What a peer may send.
    pub guard: GuardLimits,
    /// Cancelled when the server stops: sessions end with 1001.
    pub drain: CancellationToken,
    /// All sessions, for who waits for their end.
    pub sessions: TaskTracker,
}

/// Opens a socket.
///
/// # Errors
/// What the client is told before the upgrade, as an HTTP answer: `forbidden` for a foreign origin,
/// `unauthorized` without a good credential, `invalid` for a bad parameter or handshake, `overloaded` or
/// `unavailable` when there is no room or the server stops.
pub async fn upgrade(
    app: &Arc<App>,
    upgrades: &Upgrades,
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Error> {
    check_origin(request.headers(), &upgrades.origins)?;
    check_room(app)?;
    let parameters = Parameters::read(request.query_string())?;
    let caller = authenticate(app, upgrades, request).await?;
    let (response, taken) = handshake::open(request, payload.into_inner())
        .map_err(|error| Error::new(ErrorCode::Invalid, format!("no WebSocket handshake: {error}")))?;
    let attachment = app.hub.attach(caller.id(), parameters.device);
    let visitor = Visitor { caller, acks_by_app: parameters.acks_by_app, attachment };
    let session = run(Arc::clone(app), visitor, taken, upgrades.guard, upgrades.drain.clone());
    actix_web::rt::spawn(upgrades.sessions.track_future(relayed(session)));
    Ok(response)
}

async fn run(
    app: Arc<App>,
    visitor: Visitor,
    taken: oneshot::Receiver<Upgraded>,
    guard: GuardLimits,
    drain: CancellationToken,
) {
    // The peer left before it was answered.
    let Ok(upgraded) = taken.await else { return };
    metrics::gauge!("chatd_sockets").increment(1.0);
    let user = visitor.caller.id();
    // What happens once is boxed: for the rest of its life a socket has no use for its room.
    let session = Box::pin(Session::open(Arc::clone(&app), visitor, upgraded, guard, drain)).await;
    presence::came(&app, user).await;
    let rest = session.run().await;
    presence::went(&app, user).await;
    metrics::gauge!("chatd_sockets").decrement(1.0);
    if let Some(wire) = rest {
        Box::pin(wire.linger()).await;
    }
}

/// Programs send no `Origin`; browsers always do, and theirs must be known.
fn check_origin(headers: &HeaderMap, allowed: &[String]) -> Result<(), Error> {
    let foreign = || Error::new(ErrorCode::Forbidden, "this origin is not in http.allowed_origins");
    for origin in headers.get_all(header::ORIGIN) {
        let origin = origin.to_str().map_err(|_| foreign())?;
        if !allowed.iter().any(|known| known.eq_ignore_ascii_case(origin)) {
            return Err(foreign());
        }
    }
    Ok(())
}

fn check_room(app: &App) -> Result<(), Error> {
    match app.health.readiness() {
        Readiness::Starting | Readiness::Draining => {
            Err(Error::unavailable("this server is starting or stopping; try another, or again"))
        }
        Readiness::Ok | Readiness::Degraded if app.hub.sockets() >= app.settings.sockets_max => {
            Err(Error::new(ErrorCode::Overloaded, "this server holds as many sockets as it may"))
        }
        Readiness::Ok | Readiness::Degraded => Ok(()),
    }
}

async fn authenticate(app: &Arc<App>, upgrades: &Upgrades, request: &HttpRequest) -> Result<Caller, Error> {
    let values = |name| request.headers().get_all(name).map(|value| value.as_bytes()).collect::<Vec<_>>();
    let authorization = values(header::AUTHORIZATION);
    let subprotocols = values(header::SEC_WEBSOCKET_PROTOCOL);
    let query = request.query_string();
    let offered = Offered { authorization: &authorization, subprotocols: &subprotocols, query };
    let claims = match credential::presented(offered, upgrades.query_token)? {
        Credential::Token(token, _) => app.tokens.verify(token.expose())?,
        Credential::Ticket(ticket) => {
            app.tickets.redeem(ticket.expose()).await?.ok_or(AuthError::TicketRefused)?
        }
        Credential::None => return Err(AuthError::Missing.into()),
    };
    caller::identify(app, &claims).await
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Parameters {
    device: Option<String>,
    acks_by_app: bool,
}

impl Parameters {
    fn read(query: &str) -> Result<Self, Error> {
        let pairs = web::Query::<Vec<(String, String)>>::from_query(query)
            .map_err(|_| Error::new(ErrorCode::Invalid, "the query string cannot be read"))?;
        let mut parameters = Self::default();
        for (name, value) in pairs.into_inner() {
            match (name.as_str(), value.as_str()) {
                ("device", device) if (1..=DEVICE_CHARS_MAX).contains(&device.chars().count()) => {
                    parameters.device = Some(value);
                }
                ("device", _) => return Err(Error::invalid("device", "a device has 1 to 64 characters")),
                ("acks", "app") => parameters.acks_by_app = true,
                ("acks", _) => return Err(Error::invalid("acks", "the one value of acks is app")),
                _ => {}
            }
        }
        Ok(parameters)
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderMap, HeaderValue, ORIGIN};

    use super::*;

    #[test]
    fn a_browser_of_an_unknown_origin_is_refused() {
        let allowed = ["http://localhost:3000".to_owned()];
        let with = |origin: &'static str| {
            let mut headers = HeaderMap::new();
            headers.append(ORIGIN, HeaderValue::from_static(origin));
            check_origin(&headers, &allowed).map_err(|error| error.code)
        };
        assert_eq!(check_origin(&HeaderMap::new(), &allowed), Ok(()), "a program");
        assert_eq!(with("http://localhost:3000"), Ok(()));
        for foreign in ["null", "http://localhost:3001", "https://localhost:3000", "http://evil.test", ""] {
            assert_eq!(with(foreign), Err(ErrorCode::Forbidden), "{foreign}");
        }
    }

    #[test]
    fn parameters_are_bounded_and_others_ignored() {
        let read = |query: &str| Parameters::read(query).map_err(|error| error.field);
        assert_eq!(read("token=a.b.c&x=1"), Ok(Parameters::default()));
        let both = Parameters { device: Some("my phone".into()), acks_by_app: true };
        assert_eq!(read("device=my%20phone&acks=app"), Ok(both));
        assert_eq!(read("device="), Err(Some("device")));
        assert_eq!(read(&format!("device={}", "d".repeat(65))), Err(Some("device")));
        assert_eq!(read("acks=none"), Err(Some("acks")));
    }
}
