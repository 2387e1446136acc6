//! The worker: from what is due and unconfirmed to mails that were sent.
//!
//! It sleeps until something is due, at most a second, as what is due changes underneath: at rest that is one
//! cheap query. Several workers may share one storage; a mail belongs to one of them until its lease ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::policy::Way;
use super::sender::Sender;
use super::settling::Settling;
use super::{Channel, NotifySettings, tell};
use crate::domain::{Frontier, Timestamp};
use crate::storage::{Notifications, StorageError};
use crate::telemetry::story::Story;

/// How far events have been published to the nodes, as this process knows it; `None` while the fan-out is
/// not well. Called about once a second.
pub type Published = Box<dyn Fn() -> Option<Frontier> + Send + Sync>;

/// The shortest pause when something is due and nothing can be done about it yet.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause while storage is away.
const STORAGE_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Tells those who are away.
pub struct Worker {
    settings: Arc<NotifySettings>,
    storage: Arc<dyn Notifications>,
    story: Arc<Story>,
    published: Published,
    settling: Settling,
    sender: Sender,
}

impl Worker {
    /// A worker that counts graces from the first moment of `run`.
    pub fn new(
        settings: NotifySettings,
        storage: Arc<dyn Notifications>,
        channel: Arc<dyn Channel>,
        story: Arc<Story>,
        published: Published,
    ) -> Self {
        let settings = Arc::new(settings);
        let sender = Sender {
            settings: Arc::clone(&settings),
            storage: Arc::clone(&storage),
            channel,
            story: Arc::clone(&story),
            way: Way::new(settings.reconnect),
        };
        let settling = Settling::new(settings.grace);
        Self { settings, storage, story, published, settling, sender }
    }

    /// Runs until it is told to stop. The mail in hand is then finished within 2 s, or put off; one whose end
    /// could not be recorded comes again when its lease ends, with the same Message-ID.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut failures = 0_u32;
        while !stop.is_cancelled() {
            let pause = match self.turn(&stop).await {
                Ok(pause) => {
                    if failures > 0 {
                        tracing::info!("storage answers again: notifications go on");
                    }
                    failures = 0;
                    pause
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    if failures.is_power_of_two() {
                        tracing::warn!(%error, failures, "notifications wait for storage");
                    }
                    self.settings.tick().saturating_mul(failures).min(STORAGE_PAUSE_MAX)
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Raises and sends what is due. Returns how long nothing is to be done.
    async fn turn(&mut self, stop: &CancellationToken) -> Result<Duration, StorageError> {
        let published = (self.published)();
        let now = Instant::now();
        self.settling.observe(now, published.as_ref());
        let tick = self.settings.tick();
        let Some(next) = self.storage.next_work().await? else { return Ok(tick) };
        let wait = next.since(Timestamp::now());
        if !wait.is_zero() {
            return Ok(wait.min(tick));
        }
        let raised = match (self.settling.settled(now).cloned(), published) {
            (Some(settled), Some(published)) => self.raise(settled, published).await,
            // Not yet a grace since the start, or since the fan-out was not well.
            _ => Ok((0, None)),
        };
        // Mails that exist already wait for nothing, least of all for a conversation that cannot be raised.
        let handled = self.sender.burst(stop).await?;
        let (raised, next_due) = raised?;
        if raised > 0 || handled > 0 {
            return Ok(Duration::ZERO);
        }
        let next_due = next_due.map_or(tick, |due| due.since(Timestamp::now()));
        Ok(next_due.clamp(PAUSE_MIN, tick.max(PAUSE_MIN)))
    }

    /// Turns what is due into mails. Returns how many, those with a reason against it included, and when
    /// the next conversation is due.
    async fn raise(
        &self,
        settled: Frontier,
        published: Frontier,
    ) -> Result<(u64, Option<Timestamp>), StorageError> {
        let raised = self.storage.raise_due(&self.settings.due(settled, published)).await?;
        for (conversation, user, reason) in &raised.skipped {
            tracing::debug!(%conversation, %user, reason, "no mail");
            tell::count("skipped");
            self.story.mail(*user, || tell::skipped(reason));
        }
        Ok((u64::from(raised.mails) + raised.skipped.len() as u64, raised.next_due))
    }
}

#[cfg(test)]
mod tests;
