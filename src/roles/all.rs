//! Everything in one process: build, run, drain.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::supervisor::Supervisor;
use super::{consume, listen, serve};
use crate::app::App;
use crate::app::build::{BuildError, Built, build};
use crate::config::{Config, EmailContent};
use crate::domain::{EmailAddress, UserId};
use crate::notify::template::ContentPolicy;
use crate::notify::worker::Worker;
use crate::notify::{Address, NotifySettings};

use crate::storage::{NewUser, StorageError};
use crate::telemetry;
use crate::telemetry::story::{Line, Story, Teller};

/// Stopping takes so long at most.
const STOP_WITHIN: Duration = Duration::from_secs(9);
/// Of that, for the sockets.
const SOCKETS_WITHIN: Duration = Duration::from_secs(6);

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
pub async fn run(config: &Config, ready: impl FnOnce(&Ready)) -> Result<(), RunError> {
    // Begins to count before anything is counted.
    telemetry::metrics::handle();
    let (mut terminate, mut interrupt) = (on(SignalKind::terminate())?, on(SignalKind::interrupt())?);
    let (story, teller) = if config.production() { (Story::default(), None) } else { told() };
    let built = build(config, story).await?;
    let listeners =
        listen::bind(&config.http.binds(), config.ws.send_buffer_bytes).map_err(RunError::Bind)?;
    let admin: Vec<SocketAddr> = config.http.admin_bind.into_iter().collect();
    let admin = listen::bind(&admin, config.ws.send_buffer_bytes).map_err(RunError::Bind)?;
    let of = |listeners: &[std::net::TcpListener]| {
        listeners.iter().map(std::net::TcpListener::local_addr).collect::<Result<Vec<_>, _>>()
    };
    let told_ready = Ready {
        addresses: of(&listeners).map_err(RunError::Bind)?,
        admin: of(&admin).map_err(RunError::Bind)?,
        notices: built.notices.clone(),
    };
    if !config.production() && config.http.is_loopback() {
        add_demo_users(&built.app).await?;
    }
    let mut supervisor = Supervisor::new();
    consume::start(&built.app, notifier(config, &built)?, &mut supervisor);
    if let Some(teller) = teller {
        supervisor.start("story", tell(Arc::clone(&built.app), teller, supervisor.stop_signal()));
    }
    let serving =
        serve::start(&built.app, config, listeners, admin, &mut supervisor).map_err(RunError::Bind)?;
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
    let log = Arc::clone(&built.log);
    if tokio::task::spawn_blocking(move || log.close()).await.is_err() {
        tracing::error!("the message log was not closed in order");
    }
}

/// Mails wait for what this node has heard of, and not while owner or repair are in trouble: users who are
/// there must not be mailed because we are slow.
fn notifier(config: &Config, built: &Built) -> Result<Worker, RunError> {
    let from = EmailAddress::new(&config.mail.from).map_err(|error| RunError::Sender(error.to_string()))?;
    let settings = NotifySettings {
        grace: config.notify.grace,
        max_age: config.notify.max_age,
        min_interval: config.notify.email.min_interval,
        per_day: config.notify.email.per_day,
        content: match config.notify.email.content {
            EmailContent::Text => ContentPolicy::Text,
            EmailContent::None => ContentPolicy::None,
        },
        public_url: config.http.public_url.clone(),
        from: Address::from(from),
        retry: NotifySettings::RETRY,
        give_up_after: NotifySettings::GIVE_UP_AFTER,
        reconnect: NotifySettings::RECONNECT,
    };
    let app = Arc::clone(&built.app);
    let published = Box::new(move || app.health.is_delivering().then(|| app.hub.frontier()));
    let (storage, story) = (built.app.storage.clone(), Arc::clone(&built.app.story));
    Ok(Worker::new(settings, storage, Arc::clone(&built.channel), story, published))
}

fn on(kind: SignalKind) -> Result<Signal, RunError> {
    signal(kind).map_err(RunError::Signals)
}

fn told() -> (Story, Option<Teller>) {
    let (story, teller) = Story::told();
    (story, Some(teller))
}

/// Ana and Ben, for the first minute; never over existing users.
async fn add_demo_users(app: &App) -> Result<(), StorageError> {
    let demo = [(1001, "Ana", "ana@example.test"), (1002, "Ben", "ben@example.test")];
    let users: Vec<NewUser> = demo
        .iter()
        .filter_map(|(id, name, email)| {
            let (name, email) = ((*name).to_owned(), Some((*email).to_owned()));
            UserId::new(*id).ok().map(|id| NewUser { id, name, email })
        })
        .collect();
    app.storage.add_missing(&users).await
}

/// Tells the story with names in place of ids.
async fn tell(app: Arc<App>, mut teller: Teller, stop: tokio_util::sync::CancellationToken) {
    loop {
        let line = tokio::select! {
            line = teller.next() => line,
            () = stop.cancelled() => return,
        };
        let Some(line) = line else { return stop.cancelled().await };
        let text = sentence(&app, line).await;
        tracing::info!(target: "chatd::story", "{text}");
    }
}

async fn sentence(app: &App, line: Line) -> String {
    match line {
        Line::More(count) => format!("… and {count} more"),
        Line::Mail { user, what } => format!("mail > {} {what}", name(app, user).await),
        Line::Message { from, to, seq, accepted, delivered } => {
            let sender = name(app, from).await;
            let recipient = match to {
                Some(to) => name(app, to).await,
                None => "the group".to_owned(),
            };
            let accepted =
                accepted.map_or_else(|| "accepted".to_owned(), |took| format!("accepted {}", ms(took)));
            let fate = match delivered {
                Some(took) => format!("delivered {}", ms(took)),
                None => {
                    let due = crate::domain::Timestamp::now().plus(app.settings.grace).to_string();
                    format!("{recipient} has no device, mail due {}", due.get(11..19).unwrap_or(&due))
                }
            };
            format!("{sender} > {recipient} #{seq} {accepted}, {fate}")
        }
    }
}

async fn name(app: &App, user: UserId) -> String {
    let known = app.directory.by_id(user).await.ok().flatten();
    known.map_or_else(|| format!("user{user}"), |user| user.display_name().to_lowercase())
}

fn ms(took: Duration) -> String {
    format!("{:.1} ms", took.as_secs_f64() * 1_000.0)
}
