//! The workers of `consume`: the owner of the partitions, and what keeps log and storage small.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::supervisor::Supervisor;
use crate::app::App;
use crate::app::health::CONSUMER;
use crate::chat::apply::{ApplyError, Owner, Turn};
use crate::domain::{Frontier, Timestamp};
use crate::notify::worker::Worker;

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
/// Starts the workers.
pub fn start(app: &Arc<App>, notify: Worker, supervisor: &mut Supervisor) {
    let stop = supervisor.stop_signal();
    supervisor.start("apply", own(Arc::clone(app), stop.clone()));
    supervisor.start("trim", trim(Arc::clone(app), stop.clone()));
    supervisor.start("notify", notify.run(stop));
}

/// Owns the partitions and applies them; after the signal until nothing is left.
async fn own(app: Arc<App>, stop: CancellationToken) {
    let mut assigned = app.source.assigned();
    let mut pause = PAUSE_MIN;
    while !(stop.is_cancelled() && pause >= PAUSE_MAX) {
        let partitions = assigned.borrow_and_update().clone();
        match Owner::claim(&app, &partitions).await {
            Ok(owner) => {
                if apply(&app, owner, &stop, &mut pause).await {
                    return;
                }
            }
            Err(error) => failed(&app, &error, &mut pause).await,
        }
    }
}

/// Applies until the partitions have another owner (false), or the signal came and nothing is left (true).
async fn apply(app: &App, mut owner: Owner, stop: &CancellationToken, pause: &mut Duration) -> bool {
    let mut beat = Instant::now();
    loop {
        match step(app, &mut owner, stop, &mut beat).await {
            Ok(Some(_)) => recovered(app, pause),
            Ok(None) => {
                recovered(app, pause);
                if let Err(error) = owner.release(app).await {
                    tracing::warn!(%error, "how far was published could not be written down; it will be repeated");
                }
                return true;
            }
            Err(error) => {
                failed(app, &error, pause).await;
                if stop.is_cancelled() && *pause >= PAUSE_MAX {
                    return true;
                }
                if let Err(error) = owner.reload(app).await {
                    failed(app, &error, pause).await;
                }
            }
        }
        tell_halted(app, &owner);
        if owner.partitions().is_empty() {
            return false;
        }
    }
}

/// One turn, and a beat when it is due. `None`: stopping, and nothing was left to apply.
async fn step(
    app: &App,
    owner: &mut Owner,
    stop: &CancellationToken,
    beat: &mut Instant,
) -> Result<Option<Turn>, ApplyError> {
    if beat.elapsed() >= BEAT_EVERY {
        owner.beat(app).await?;
        *beat = Instant::now();
    }
    let stopping = stop.is_cancelled();
    let patience = if stopping { Duration::ZERO } else { BEAT_EVERY.saturating_sub(beat.elapsed()) };
    let turn = tokio::select! {
        turn = owner.turn(app, patience) => turn?,
        // Only to come back with less patience; a turn may be given up at any point.
        () = stop.cancelled(), if !stopping => return Ok(Some(Turn::default())),
    };
    if turn.records == 0 {
        return Ok((!stopping).then_some(turn));
    }
    metrics::gauge!("chatd_lag_records").set(turn.lag as f64);
    metrics::histogram!("chatd_apply_records").record(turn.records as f64);
    metrics::histogram!("chatd_apply_seconds").record(turn.took);
    Ok(Some(turn))
}

fn tell_halted(app: &App, owner: &Owner) {
    app.health
        .stand_still(owner.halted().iter().map(|(partition, halt)| (*partition, halt.into())).collect());
}

fn recovered(app: &App, pause: &mut Duration) {
    *pause = PAUSE_MIN;
    app.health.clear(CONSUMER);
}

async fn failed(app: &App, error: &ApplyError, pause: &mut Duration) {
    app.health.raise(CONSUMER, &error.to_string());
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
