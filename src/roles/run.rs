//! A process from start to end, whatever its role: build, run the role's workers, drain.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::supervisor::Supervisor;
use super::{consume, listen, serve, story, watch};
use crate::app::build::{BuildError, Built, build};
use crate::config::Config;
use crate::http::Surface;
use crate::storage::StorageError;
use crate::telemetry;
use crate::telemetry::story::Story;

/// Stopping takes so long at most.
const STOP_WITHIN: Duration = Duration::from_secs(9);
/// Of that, for the sockets.
const SOCKETS_WITHIN: Duration = Duration::from_secs(6);

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    All,
    /// Sockets and REST.
    Serve,
    /// The log into history, live events and mails. Listens for health and metrics only.
    Consume,
}

impl Role {
    fn serves(self) -> bool {
        self != Self::Consume
    }

    fn consumes(self) -> bool {
        self != Self::Serve
    }
}

/// Why a server did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Something of its data or settings.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// An address is in use.
    #[error("{0}")]
    Bind(std::io::Error),
    /// Signals cannot be received.
    #[error("signals cannot be received: {0}")]
    Signals(std::io::Error),
    /// Storage is away.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The sender of mails.
    #[error("notify.email.from is no address that mail can come from: {0}")]
    Sender(String),
    /// A worker failed.
    #[error("{0}; what was accepted is kept, start chatd again")]
    Worker(String),
    /// It did not stop in time.
    #[error("stopping took longer than 9 s; what was accepted is kept")]
    DrainDeadline,
}

/// A server that answers.
pub struct Ready {
    /// Where it listens.
    pub addresses: Vec<SocketAddr>,
    /// Where the operator's address listens.
    pub admin: Vec<SocketAddr>,
    /// What an operator should know.
    pub notices: Vec<String>,
}

/// Runs until SIGTERM or SIGINT, then stops in order. `ready` is told once it answers.
pub async fn run(config: &Config, role: Role, ready: impl FnOnce(&Ready)) -> Result<(), RunError> {
    // Begins to count before anything is counted.
    telemetry::metrics::handle();
    let (mut terminate, mut interrupt) = (on(SignalKind::terminate())?, on(SignalKind::interrupt())?);
    let (story, teller) = match (config.production(), role) {
        (false, Role::All) => {
            let (story, teller) = Story::told();
            (story, Some(teller))
        }
        _ => (Story::default(), None),
    };
    let built = build(config, story).await?;
    let bind = |addresses: &[SocketAddr]| {
        listen::bind(addresses, config.ws.send_buffer_bytes).map_err(RunError::Bind)
    };
    let listeners = bind(&config.http.binds())?;
    let admin = bind(config.http.admin_bind.as_slice())?;
    let told_ready =
        Ready { addresses: bound(&listeners)?, admin: bound(&admin)?, notices: built.notices.clone() };
    if role == Role::All && !config.production() && config.http.is_loopback() {
        story::add_demo_users(&built.app).await?;
    }
    let mut supervisor = Supervisor::new();
    supervisor.start("watch", watch::watch(Arc::clone(&built.app), supervisor.stop_signal()));
    if role.consumes() {
        consume::start(config, &built.app, &built.channel, &mut supervisor)?;
    }
    if let Some(teller) = teller {
        supervisor.start("story", story::tell(Arc::clone(&built.app), teller, supervisor.stop_signal()));
    }
    let surface = if role.serves() { Surface::Public } else { Surface::Admin };
    let serving = serve::start(&built.app, config, surface, (listeners, admin), &mut supervisor)
        .map_err(RunError::Bind)?;
    built.app.health.serving();
    ready(&told_ready);
    let outcome = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        fault = supervisor.failed() => Err(RunError::Worker(fault)),
    };
    tracing::info!("stopping: sockets are told to come back, what was accepted is stored");
    built.app.health.draining();
    tokio::select! {
        stopped = tokio::time::timeout(STOP_WITHIN, stop(&built, &serving, &mut supervisor)) => {
            stopped.map_err(|_| RunError::DrainDeadline)?;
        }
        // A second one ends at once: what was accepted is durable already.
        _ = interrupt.recv() => {}
    }
    outcome
}

async fn stop(built: &Built, serving: &serve::Serving, supervisor: &mut Supervisor) {
    serving.drain(SOCKETS_WITHIN).await;
    supervisor.stop().await;
    built.app.log.close().await;
}

fn bound(listeners: &[TcpListener]) -> Result<Vec<SocketAddr>, RunError> {
    let addresses = listeners.iter().map(TcpListener::local_addr);
    addresses.collect::<Result<_, _>>().map_err(RunError::Bind)
}

fn on(kind: SignalKind) -> Result<Signal, RunError> {
    signal(kind).map_err(RunError::Signals)
}
