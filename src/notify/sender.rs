//! Sends the mails that wait: one after the other over one connection, each leased for itself, so that what a
//! crash leaves leased is one mail, and several workers share a burst.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::compose::compose;
use super::policy::Way;
use super::{Channel, ChannelError, Connection, Mail, NotifySettings, tell};
use crate::domain::Timestamp;
use crate::storage::{LeasedMail, Notifications, Settlement, StorageError};
use crate::telemetry::story::Story;

/// Mails over one connection at most: servers end long ones (Gmail after 100), and what has become due
/// meanwhile is raised in between.
const BURST_MAX: u32 = 50;
/// A lease is longer than the longest sending by this, for what storage needs before and after.
const LEASE_MARGIN: Duration = Duration::from_secs(30);
/// Of that, for recording what became of the mail.
const SETTLE_MARGIN: Duration = Duration::from_secs(10);
/// Stopping waits so long for the mail in hand, and for recording what became of it: the sockets take 6 s of
/// the 9 s before.
const STOP_WITHIN: Duration = Duration::from_secs(2);
/// The pause while storage is away grows from the first to the second.
const STORAGE_PAUSE_MIN: Duration = Duration::from_millis(100);
const STORAGE_PAUSE_MAX: Duration = Duration::from_secs(5);

/// The open connection of a burst, where there is one.
type Line = Option<Box<dyn Connection>>;

/// Sends mails and records what became of them.
pub(super) struct Sender {
    pub(super) settings: Arc<NotifySettings>,
    pub(super) storage: Arc<dyn Notifications>,
    pub(super) channel: Arc<dyn Channel>,
    pub(super) story: Arc<Story>,
    pub(super) way: Way,
}

/// A leased mail, and until when it is this worker's alone.
struct InHand {
    mail: LeasedMail,
    until: Instant,
}

/// How a try ended, and what the story says of it.
struct Fate {
    settlement: Settlement,
    outcome: Option<&'static str>,
    told: String,
}

impl Fate {
    fn failed(reason: String) -> Self {
        let told = format!("not sent: {reason}");
        Self { settlement: Settlement::Failed { reason }, outcome: Some("failed"), told }
    }

    fn untried(reason: String, told: String) -> Self {
        Self { settlement: Settlement::Untried { reason }, outcome: None, told }
    }
}

impl Sender {
    /// Sends what waits, until nothing does, the way is closed, or it is told to stop. Returns how many mails
    /// it had in hand.
    ///
    /// # Errors
    /// Storage is away. Whatever was in hand by then is settled, or comes again when its lease ends.
    pub(super) async fn burst(&mut self, stop: &CancellationToken) -> Result<u32, StorageError> {
        let mut line: Line = None;
        let mut handled = 0;
        while handled < BURST_MAX && !stop.is_cancelled() && self.way.closed_for(Instant::now()).is_zero() {
            // By this clock the lease ends no later than by storage's.
            let lease = self.channel.longest_send() + LEASE_MARGIN;
            let until = Instant::now() + lease.saturating_sub(SETTLE_MARGIN);
            let Some(mail) = self.storage.lease_mails(lease, 1).await?.pop() else { break };
            handled += 1;
            let hand = InHand { mail, until };
            let fate = match self.deliver(&hand, &mut line, stop).await {
                Ok(fate) => fate,
                Err(error) => {
                    let reason = "storage did not answer".to_owned();
                    self.settle(&hand, &Settlement::Untried { reason }, stop).await;
                    return Err(error);
                }
            };
            self.settle(&hand, &fate.settlement, stop).await;
            if let Some(outcome) = fate.outcome {
                tell::count(outcome);
            }
            self.story.mail(hand.mail.user, || fate.told);
        }
        if let Some(connection) = line
            && !stop.is_cancelled()
        {
            connection.close().await;
        }
        Ok(handled)
    }

    async fn deliver(
        &mut self,
        hand: &InHand,
        line: &mut Line,
        stop: &CancellationToken,
    ) -> Result<Fate, StorageError> {
        if self.settings.is_over(hand.mail.created_at, Timestamp::now()) {
            return Ok(self.dead_letter(hand, "it could not be sent in time".to_owned()));
        }
        if line.is_none() {
            match self.connect(hand, stop).await {
                Ok(connection) => *line = Some(connection),
                Err(fate) => return Ok(fate),
            }
        }
        // Looked at once more now that the way stands: connecting may have taken a while.
        let letter = match self.storage.letter(hand.mail.id).await {
            Ok(Some(letter)) => letter,
            Ok(None) => {
                let told = "withdrawn: confirmed meanwhile".to_owned();
                return Ok(Fate { settlement: Settlement::Withdrawn, outcome: Some("withdrawn"), told });
            }
            Err(error @ StorageError::Unavailable(_)) => return Err(error),
            Err(error) => {
                // Something of this one mail: the others need not wait for it.
                tracing::error!(mail = hand.mail.id, %error, "what a mail is to say cannot be read");
                return Ok(self.put_off(hand, "what it is to say cannot be read".to_owned()));
            }
        };
        let (sender_name, count) = (letter.sender_name.clone(), letter.count);
        let mail = match compose(&self.settings, &hand.mail, letter) {
            Ok(mail) => mail,
            Err(error) => return Ok(self.dead_letter(hand, error.to_string())),
        };
        Ok(match self.send(hand, line, &mail, stop).await {
            Ok(()) => {
                self.way_works();
                let kept_at = self.channel.kept_at(&mail);
                let told = tell::sent(&sender_name, count, kept_at.as_deref(), self.channel.name());
                Fate { settlement: Settlement::Sent, outcome: Some("sent"), told }
            }
            Err(ChannelError::Permanent { reason }) => {
                self.way_works();
                self.dead_letter(hand, reason)
            }
            Err(ChannelError::Temporary { reason }) => {
                *line = None;
                if let Some((_, was_well)) = self.way.put_off(Instant::now(), rand::random()) {
                    self.warn_once(was_well, &reason);
                }
                self.put_off(hand, reason)
            }
        })
    }

    /// Opens the way; a failure costs the mail nothing, and closes the way for a while.
    async fn connect(
        &mut self,
        hand: &InHand,
        stop: &CancellationToken,
    ) -> Result<Box<dyn Connection>, Fate> {
        let opened = tokio::select! {
            opened = timeout_at(hand.until, self.channel.connect()) => opened,
            () = stop.cancelled() => {
                let reason = "chatd was stopped".to_owned();
                return Err(Fate::untried(reason, "put off: chatd is stopping".to_owned()));
            }
        };
        let reason = match opened {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => error.reason().to_owned(),
            Err(_) => "connecting took too long".to_owned(),
        };
        let (pause, was_well) = self.way.failed(Instant::now(), rand::random());
        self.warn_once(was_well, &reason);
        let told = tell::put_off(pause, &reason);
        Err(Fate::untried(reason, told))
    }

    /// Sends within the lease, and within what stopping allows.
    async fn send(
        &self,
        hand: &InHand,
        line: &mut Line,
        mail: &Mail,
        stop: &CancellationToken,
    ) -> Result<(), ChannelError> {
        let Some(connection) = line else { return Err(ChannelError::temporary("no connection")) };
        let began = Instant::now();
        let answer = tokio::select! {
            answer = timeout_at(hand.until, connection.send(mail)) => {
                answer.unwrap_or_else(|_| Err(ChannelError::temporary("no answer in time")))
            }
            () = stopped(stop) => Err(ChannelError::temporary("chatd was stopped")),
        };
        metrics::histogram!("chatd_mail_seconds").record(began.elapsed());
        answer
    }

    fn put_off(&self, hand: &InHand, reason: String) -> Fate {
        let LeasedMail { created_at, attempts, .. } = hand.mail;
        match self.settings.retry_after(created_at, attempts, Timestamp::now(), rand::random()) {
            Some(after) => {
                let told = tell::put_off(after, &reason);
                let settlement = Settlement::Retry { after, reason };
                Fate { settlement, outcome: Some("retried"), told }
            }
            None => self.dead_letter(hand, reason),
        }
    }

    fn dead_letter(&self, hand: &InHand, reason: String) -> Fate {
        tracing::warn!(mail = hand.mail.id, user = %hand.mail.user, reason, "a mail is given up");
        Fate::failed(reason)
    }

    fn warn_once(&self, was_well: bool, reason: &str) {
        if was_well {
            let channel = self.channel.name();
            tracing::warn!(channel, reason, "mails wait: {reason}; it is tried again, less and less often");
        }
    }

    fn way_works(&mut self) {
        if self.way.worked() {
            tracing::info!(channel = self.channel.name(), "mails are sent again");
        }
    }

    /// Records what became of a mail. While storage is away it waits: a mail that was sent and not recorded
    /// would be sent again.
    async fn settle(&self, hand: &InHand, settlement: &Settlement, stop: &CancellationToken) {
        let over = stopped(stop);
        tokio::pin!(over);
        let is_final = !matches!(settlement, Settlement::Retry { .. } | Settlement::Untried { .. });
        let mut pause = STORAGE_PAUSE_MIN;
        loop {
            let error = match self.storage.settle_mail(hand.mail.id, settlement).await {
                Ok(()) => return,
                Err(error) => error,
            };
            let is_refused = !matches!(error, StorageError::Unavailable(_));
            // After the lease the mail may be another worker's, who need not be disturbed.
            let is_pointless = !is_final && Instant::now() >= hand.until;
            if is_refused || is_pointless {
                tracing::error!(mail = hand.mail.id, %error, "what became of a mail is not recorded");
                return;
            }
            if pause == STORAGE_PAUSE_MIN {
                tracing::warn!(mail = hand.mail.id, %error, "what became of a mail cannot be recorded yet");
            }
            tokio::select! {
                () = sleep(pause) => pause = (pause * 2).min(STORAGE_PAUSE_MAX),
                () = &mut over => {
                    tracing::error!(mail = hand.mail.id, %error, "what became of a mail is not recorded");
                    return;
                }
            }
        }
    }
}

/// Ends when stopping has no more time.
async fn stopped(stop: &CancellationToken) {
    stop.cancelled().await;
    sleep(STOP_WITHIN).await;
}
