//! The workers of `serve`: the listeners with REST and sockets, receipts on their way to storage, and the
//! repair of what this node was not told.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_server::{Server, ServerHandle};
use actix_web::{HttpRequest, HttpResponse, web};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::presence;
use super::supervisor::Supervisor;
use super::typing;
use crate::app::App;
use crate::app::health::{HEARING, RECEIPTS, REPAIR};
use crate::chat::{deliver, receipts};
use crate::config::Config;
use crate::domain::Error;
use crate::http::{self, HttpSettings, Surface};
use crate::telemetry;
use crate::ws::connection::{ConnectionLimits, listen};
use crate::ws::guard::GuardLimits;
use crate::ws::rate::RateLimits;
use crate::ws::upgrade::{Upgrades, upgrade};

/// Receipts are flushed so often (architecture section 3).
const FLUSH_EVERY: Duration = Duration::from_millis(250);
/// So long many receipts may wait to be written with something else.
const HURRY_AFTER: Duration = Duration::from_millis(250);
/// What this node says while it cannot vouch for what it is told.
const DOUBT: &str = "this node is not registered in Redis: live events are read from storage each second";
/// Silent owners are looked for so often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A connection without a request is kept so long.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// Requests that run when the server stops may take so long, in seconds.
const REQUESTS_WITHIN_SECONDS: u64 = 2;

/// The listeners of a running server.
pub struct Serving {
    handle: ServerHandle,
    drain: CancellationToken,
    sessions: TaskTracker,
}

impl Serving {
    /// No new sockets, `closing` and 1001 to all; ends when they have gone, or after `within`.
    pub async fn drain(&self, within: Duration) {
        self.handle.pause().await;
        self.drain.cancel();
        self.sessions.close();
        if tokio::time::timeout(within, self.sessions.wait()).await.is_err() {
            tracing::warn!(sockets = self.sessions.len(), "some sockets did not close in time");
        }
        self.handle.stop(true).await;
    }
}

/// Starts the workers and the listeners, which were bound before.
///
/// # Errors
/// A listener cannot be used.
pub fn start(
    app: &Arc<App>,
    config: &Config,
    surface: Surface,
    (listeners, admin): (Vec<TcpListener>, Vec<TcpListener>),
    supervisor: &mut Supervisor,
) -> io::Result<Serving> {
    let stop = supervisor.stop_signal();
    if surface == Surface::Public {
        let (node, until) = (Arc::clone(app), stop.clone());
        supervisor.start("link", async move { node.link.run(until).await });
        supervisor.start("receipts", flush(Arc::clone(app), stop.clone()));
        supervisor.start("hurry", hurry(Arc::clone(app), stop.clone()));
        supervisor.start("typing", typing::tell(Arc::clone(app), stop.clone()));
        supervisor.start("comings", presence::tell(Arc::clone(app), stop.clone()));
        supervisor.start("attendance", presence::attend(Arc::clone(app), stop.clone()));
        supervisor.start("watchers", presence::look(Arc::clone(app), stop.clone()));
        supervisor.start("repair", repair(Arc::clone(app), stop.clone()));
    }
    supervisor.start("upkeep", upkeep(stop));
    let port = port(&listeners)?;
    let upgrades = Upgrades {
        origins: config.http.origins(port).into(),
        query_token: config.auth.query_token,
        guard: guard_limits(config),
        drain: CancellationToken::new(),
        sessions: TaskTracker::new(),
    };
    let (drain, sessions) = (upgrades.drain.clone(), upgrades.sessions.clone());
    let server = server(app, config, surface, (listeners, admin), upgrades)?;
    let handle = server.handle();
    // It ends when it is stopped through its handle, after the workers' own signal.
    supervisor.start("listeners", async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "the listeners ended");
        }
    });
    Ok(Serving { handle, drain, sessions })
}

fn port(listeners: &[TcpListener]) -> io::Result<u16> {
    Ok(listeners.first().map(TcpListener::local_addr).transpose()?.map_or(0, |a: SocketAddr| a.port()))
}

fn server(
    app: &Arc<App>,
    config: &Config,
    surface: Surface,
    (listeners, admin): (Vec<TcpListener>, Vec<TcpListener>),
    upgrades: Upgrades,
) -> io::Result<Server> {
    let port = port(&listeners)?;
    let times = ConnectionLimits {
        head_within: config.limits.head_timeout,
        idle_max: IDLE_MAX,
        ..ConnectionLimits::default()
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    // Of each worker, while they speak HTTP: sockets have left actix by then and are counted by the upgrade. Each
    // user may have a connection for REST beside the socket; what is left is for the answers that say "full".
    let connections_max = config.limits.sockets + 5_000;
    let mut server = Server::build()
        .workers(workers)
        .max_concurrent_connections(connections_max)
        .shutdown_timeout(REQUESTS_WITHIN_SECONDS)
        .disable_signals();
    let open = settings(config, port, !config.production());
    for listener in listeners {
        let (app, settings, upgrades) = (Arc::clone(app), open.clone(), upgrades.clone());
        server = listen(server, listener, times, move || {
            let upgrades = upgrades.clone();
            let sockets = move |service: &mut web::ServiceConfig| {
                if surface == Surface::Public {
                    register_sockets(service, &upgrades);
                }
            };
            http::create(Arc::clone(&app), settings.clone(), surface, sockets)
        })?;
    }
    let details = settings(config, port, true);
    for listener in admin {
        let (app, settings) = (Arc::clone(app), details.clone());
        server = listen(server, listener, times, move || {
            http::create(Arc::clone(&app), settings.clone(), Surface::Admin, |_| {})
        })?;
    }
    Ok(server.run())
}

/// `GET /` and `GET /ws` with `Upgrade`.
fn register_sockets(service: &mut web::ServiceConfig, upgrades: &Upgrades) {
    service.app_data(web::Data::new(upgrades.clone()));
    for path in ["/", "/ws"] {
        let is_upgrade = actix_web::guard::fn_guard(|context| {
            context.head().headers.contains_key(actix_web::http::header::UPGRADE)
        });
        service.service(web::resource(path).guard(is_upgrade).route(web::get().to(open_socket)));
    }
}

async fn open_socket(
    app: web::Data<App>,
    upgrades: web::Data<Upgrades>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Error> {
    upgrade(&app.into_inner(), &upgrades, &request, payload).await
}

fn settings(config: &Config, port: u16, details: bool) -> HttpSettings {
    let render = || telemetry::metrics::handle().map(|handle| handle.render()).unwrap_or_default();
    HttpSettings {
        allowed_origins: config.http.origins(port),
        details,
        metrics: details.then(|| Arc::new(render) as http::Metrics),
        body_bytes_max: config.limits.body_bytes,
        body_timeout: config.limits.body_timeout,
        json_depth_max: config.limits.json_depth,
        version: env!("CARGO_PKG_VERSION"),
    }
}

fn guard_limits(config: &Config) -> GuardLimits {
    let rate = RateLimits {
        frames_max: config.limits.frames_per_second,
        bytes_max: u32::try_from(config.limits.inbound_bytes_per_second).unwrap_or(u32::MAX),
    };
    GuardLimits {
        message_bytes_max: config.limits.message_bytes,
        fragments_max: u32::try_from(config.limits.message_fragments).unwrap_or(u32::MAX),
        message_time_max: config.limits.message_timeout,
        rate: config.limits.enabled.then_some(rate),
    }
}

/// Writes receipts down; once more when the signal comes.
async fn flush(app: Arc<App>, stop: CancellationToken) {
    loop {
        let stopping = tokio::select! {
            () = app.pending.some() => false,
            () = stop.cancelled() => true,
        };
        if !stopping {
            tokio::time::sleep(FLUSH_EVERY).await;
        }
        match receipts::flush(&app).await {
            Ok(()) => app.health.clear(RECEIPTS),
            Err(error) => app.health.raise(RECEIPTS, &error.to_string()),
        }
        if stopping {
            return;
        }
    }
}

/// Wakes sockets for receipts that have waited long enough for something else.
async fn hurry(app: Arc<App>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = app.hub.unhurried() => {}
        }
        tokio::time::sleep(HURRY_AFTER).await;
        app.hub.hurry();
    }
}

/// Reads from storage what this node was not told.
async fn repair(app: Arc<App>, stop: CancellationToken) {
    loop {
        let all = tokio::select! {
            () = stop.cancelled() => return,
            () = app.hub.doubted() => true,
            () = tokio::time::sleep(LOOK_EVERY) => {
                // A doubt that lasts: each start begins with one.
                let doubtful = app.hub.is_doubtful();
                if doubtful {
                    app.health.raise(HEARING, DOUBT);
                }
                doubtful
            }
        };
        if !app.hub.is_doubtful() {
            app.health.clear(HEARING);
        }
        let repaired = if all { deliver::repair(&app).await } else { repair_silent(&app).await };
        match repaired {
            Ok(()) => app.health.clear(REPAIR),
            Err(error) => app.health.raise(REPAIR, &error.to_string()),
        }
    }
}

async fn repair_silent(app: &App) -> Result<(), crate::storage::StorageError> {
    for (partition, known) in app.hub.silent() {
        deliver::repair_partition(app, partition, known).await?;
    }
    Ok(())
}

/// Moves what metrics have collected into their histograms.
async fn upkeep(stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(Duration::from_secs(5)) => {}
        }
        if let Some(handle) = telemetry::metrics::handle() {
            handle.run_upkeep();
        }
    }
}
