//! The workers of `consume`: the owner of the partitions, and what keeps log and storage small.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::run::RunError;
use super::supervisor::Supervisor;
use crate::app::App;
use crate::app::health::CONSUMER;
use crate::chat::apply::{ApplyError, Owner, Turn};
use crate::config::{Config, EmailContent};
use crate::domain::{EmailAddress, Frontier, Timestamp};
use crate::notify::template::ContentPolicy;
use crate::notify::worker::Worker;
use crate::notify::{Address, Channel, NotifySettings};
use crate::pipeline::Assignment;

/// Owners beat so often (architecture: nodes scan after 3 s of silence).
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// The pause after a failure grows from the first to the last of these.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// What was applied is made durable, and the log trimmed, so often: a write-ahead log that grows for longer
/// takes longer to sync, and whoever commits meanwhile waits for that: at 10,000 messages/s and every 3 s, 60 ms.
const TRIM_EVERY: Duration = Duration::from_millis(500);
/// Rejections and settled mails are kept so long (protocol.md, `rejected`).
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// Old rows are looked for so often.
const PRUNE_EVERY: Duration = Duration::from_secs(3600);

/// How far all partitions have been published, as the owner learns with each beat; none while it is in trouble.
type Published = watch::Sender<Option<Frontier>>;

/// Starts the workers.
///
/// # Errors
/// The sender's address of mails is none.
pub fn start(
    config: &Config,
    app: &Arc<App>,
    channel: &Arc<dyn Channel>,
    supervisor: &mut Supervisor,
) -> Result<(), RunError> {
    let stop = supervisor.stop_signal();
    let published = Published::default();
    let notify = notifier(config, app, channel, published.subscribe())?;
    supervisor.start("apply", own(Arc::clone(app), published, stop.clone()));
    supervisor.start("trim", trim(Arc::clone(app), stop.clone()));
    supervisor.start("notify", notify.run(stop));
    Ok(())
}

/// Mails wait for what the nodes have been told of, and not while owner, fan-out or repair are in trouble:
/// users who are there must not be mailed because we are slow.
fn notifier(
    config: &Config,
    app: &Arc<App>,
    channel: &Arc<dyn Channel>,
    published: watch::Receiver<Option<Frontier>>,
) -> Result<Worker, RunError> {
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
    let watched = Arc::clone(app);
    let published =
        Box::new(move || if watched.health.is_delivering() { published.borrow().clone() } else { None });
    let (storage, story) = (app.storage.clone(), Arc::clone(&app.story));
    Ok(Worker::new(settings, storage, Arc::clone(channel), story, published))
}

/// Why an owner gives its partitions up.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// Others own them, or the group arranges itself anew.
    Reassigned,
    /// The signal came, and nothing is left to apply, or trouble lasts.
    Stopped,
}

/// Owns what the group assigns and applies it; after the signal until nothing is left. Then the group is left.
async fn own(app: Arc<App>, published: Published, stop: CancellationToken) {
    let mut assigned = app.source.assigned();
    let mut pause = PAUSE_MIN;
    while !(stop.is_cancelled() && pause >= PAUSE_MAX) {
        let assignment = assigned.borrow_and_update().clone();
        app.source.drained(assignment.round).await;
        match Owner::claim(&app, &assignment.partitions).await {
            Ok(owner) => {
                let working = Working { app: &app, stop: &stop, published: &published, pause: &mut pause };
                if working.apply(owner, &mut assigned).await == End::Stopped {
                    break;
                }
            }
            Err(error) => failed(&app, &published, &error, &mut pause).await,
        }
    }
    app.source.leave().await;
}

/// An owner at work.
struct Working<'a> {
    app: &'a App,
    stop: &'a CancellationToken,
    published: &'a Published,
    pause: &'a mut Duration,
}

impl Working<'_> {
    async fn apply(mut self, mut owner: Owner, assigned: &mut watch::Receiver<Assignment>) -> End {
        let owns_something = !owner.partitions().is_empty();
        let mut beat: Option<Instant> = None;
        let end = loop {
            match self.step(&mut owner, assigned, &mut beat).await {
                Ok(None) => {
                    *self.pause = PAUSE_MIN;
                    self.app.health.clear(CONSUMER);
                }
                Ok(Some(end)) => break end,
                Err(error) => {
                    failed(self.app, self.published, &error, self.pause).await;
                    if self.stop.is_cancelled() && *self.pause >= PAUSE_MAX {
                        return End::Stopped;
                    }
                    if let Err(error) = owner.reload(self.app).await {
                        failed(self.app, self.published, &error, self.pause).await;
                    }
                }
            }
            if owns_something && owner.partitions().is_empty() {
                return End::Reassigned;
            }
        };
        if let Err(error) = owner.release(self.app).await {
            tracing::warn!(%error, "how far was published could not be written down; it will be repeated");
        }
        end
    }

    /// One turn, and a beat when it is due.
    async fn step(
        &mut self,
        owner: &mut Owner,
        assigned: &mut watch::Receiver<Assignment>,
        beat: &mut Option<Instant>,
    ) -> Result<Option<End>, ApplyError> {
        if assigned.has_changed().unwrap_or(true) {
            return Ok(Some(End::Reassigned));
        }
        let last = match *beat {
            Some(last) if last.elapsed() < BEAT_EVERY => last,
            _ => {
                let published = owner.beat(self.app).await?;
                self.published.send_replace(Some(published));
                *beat.insert(Instant::now())
            }
        };
        let stopping = self.stop.is_cancelled();
        let until_beat = BEAT_EVERY.saturating_sub(last.elapsed());
        let patience = if stopping { Duration::ZERO } else { until_beat };
        let fetched = tokio::select! {
            fetched = owner.read(self.app, patience) => fetched?,
            // Only to come back with less patience, or to give up what others shall have.
            () = self.stop.cancelled(), if !stopping => return Ok(None),
            _ = assigned.changed() => return Ok(Some(End::Reassigned)),
        };
        if fetched.is_empty() {
            return Ok(stopping.then_some(End::Stopped));
        }
        let turn = owner.work(self.app, fetched).await?;
        measured(&turn);
        Ok(None)
    }
}

fn measured(turn: &Turn) {
    metrics::gauge!("chatd_lag_records").set(turn.lag as f64);
    metrics::histogram!("chatd_apply_records").record(turn.records as f64);
    metrics::histogram!("chatd_apply_seconds").record(turn.took);
}

async fn failed(app: &App, published: &Published, error: &ApplyError, pause: &mut Duration) {
    app.health.raise(CONSUMER, &error.to_string());
    published.send_replace(None);
    tokio::time::sleep(*pause).await;
    *pause = (*pause * 2).min(PAUSE_MAX);
}

/// Lets the log forget what storage can no longer lose, and storage what nobody asks for any more.
async fn trim(app: Arc<App>, stop: CancellationToken) {
    let mut pruned: Option<Instant> = None;
    let mut durable: Option<Frontier> = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(TRIM_EVERY) => {}
        }
        if let Err(error) = trim_once(&app, &mut durable).await {
            tracing::warn!(%error, "the log is not trimmed; it will be tried again");
        }
        if pruned.is_none_or(|at| at.elapsed() >= PRUNE_EVERY) {
            pruned = Some(Instant::now());
            if let Err(error) = app.storage.prune(Timestamp::now().minus(KEPT)).await {
                tracing::warn!(%error, "old rows could not be deleted; it will be tried again");
            }
        }
    }
}

/// Nothing to do where nothing was applied since the last time.
async fn trim_once(app: &App, durable: &mut Option<Frontier>) -> Result<(), ApplyError> {
    if durable.as_ref() == Some(&app.storage.frontier(app.log_number).await?) {
        return Ok(());
    }
    let frontier = app.storage.make_durable(app.log_number).await?;
    let below: Vec<_> = (0..).zip(frontier.offsets.iter().map(|offset| offset + 1)).collect();
    app.source.forget(&below).await?;
    *durable = Some(frontier);
    Ok(())
}
