//! When mails are sent, tried again and given up. Pure: time and chance are passed in.

use std::time::Duration;

use tokio::time::Instant;

use super::{Address, ContentPolicy};
use crate::domain::{Frontier, Timestamp};
use crate::storage::DuePolicy;

/// The slowest pace at which the worker looks for what is due.
const TICK_MAX: Duration = Duration::from_secs(1);
/// The fastest, for a grace that is very short.
const TICK_MIN: Duration = Duration::from_millis(20);
/// Conversations that become mails in one transaction; storage has other work in between.
const RAISE_LIMIT: u32 = 100;
/// So many mails in a row are put off before the way itself is suspected; one receiver's server that is away
/// or greylists says nothing about the next.
const PUT_OFF_IN_A_ROW: u32 = 3;

/// When somebody is told by mail, and what the mail says.
#[derive(Debug, Clone)]
pub struct NotifySettings {
    /// So long devices have to confirm: from an event's publication, and after a start of chatd.
    pub grace: Duration,
    /// What is overdue by more than this is not mailed any more.
    pub max_age: Duration,
    /// At least so long between two mails to one member of one conversation; zero: no interval.
    pub min_interval: Duration,
    /// At most so many mails to one person in 24 hours; 0: no cap.
    pub per_day: u32,
    /// What of a message a mail shows.
    pub content: ContentPolicy,
    /// Where the chat is opened, where that is known.
    pub public_url: Option<String>,
    /// Whom mails come from; the Message-ID ends in its domain.
    pub from: Address,
    /// Between the tries of one mail.
    pub retry: Backoff,
    /// A mail that could not be sent for so long after it was raised is a dead letter.
    pub give_up_after: Duration,
    /// Between two attempts to connect while the way is closed.
    pub reconnect: Backoff,
}

impl NotifySettings {
    /// Between the tries of one mail: 30 s, 1 min, 2 min … 1 h.
    pub const RETRY: Backoff =
        Backoff { first: Duration::from_secs(30), longest: Duration::from_secs(3_600) };
    /// 24 hours: about 30 tries. Later the message is no news any more.
    pub const GIVE_UP_AFTER: Duration = Duration::from_secs(24 * 3_600);
    /// Between two attempts to connect: 5 s, 10 s … 5 min.
    pub const RECONNECT: Backoff =
        Backoff { first: Duration::from_secs(5), longest: Duration::from_secs(300) };

    /// How often the worker looks whether something is due: once a second, or a quarter of a shorter grace.
    pub(super) fn tick(&self) -> Duration {
        (self.grace / 4).clamp(TICK_MIN, TICK_MAX)
    }

    /// What storage turns into mails.
    pub(super) fn due(&self, settled: Frontier, published: Frontier) -> DuePolicy {
        DuePolicy {
            settled,
            published,
            min_interval: self.min_interval,
            per_day: if self.per_day == 0 { u32::MAX } else { self.per_day },
            max_age: self.max_age,
            limit: RAISE_LIMIT,
        }
    }

    /// Whether a mail has waited so long that it is not sent any more.
    pub(super) fn is_over(&self, created_at: Timestamp, now: Timestamp) -> bool {
        now.since(created_at) >= self.give_up_after
    }

    /// When a mail that was put off is tried again; `None`: never, it is a dead letter.
    pub(super) fn retry_after(
        &self,
        created_at: Timestamp,
        attempts: u32,
        now: Timestamp,
        chance: f64,
    ) -> Option<Duration> {
        let after = self.retry.after(attempts, chance);
        (!self.is_over(created_at, now.plus(after))).then_some(after)
    }
}

/// Waiting times that double from the first to the longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// After many.
    pub longest: Duration,
}

impl Backoff {
    /// How long to wait when it failed `before` times before this time: up to a fifth more or less than the
    /// doubled time, so that many who failed together do not come back together. `chance` is 0 to 1.
    pub(super) fn after(&self, before: u32, chance: f64) -> Duration {
        let doubled = self.first.saturating_mul(2_u32.saturating_pow(before)).min(self.longest);
        doubled.mul_f64(0.8 + 0.4 * chance.clamp(0.0, 1.0))
    }
}

/// Whether the way to the mail server is open, or rests after failures so that they cost neither side much.
#[derive(Debug)]
pub(super) struct Way {
    reconnect: Backoff,
    failures: u32,
    put_off: u32,
    closed_until: Option<Instant>,
}

impl Way {
    /// An open way.
    pub(super) fn new(reconnect: Backoff) -> Self {
        Self { reconnect, failures: 0, put_off: 0, closed_until: None }
    }

    /// How long the way is closed yet; zero: it may be tried.
    pub(super) fn closed_for(&self, now: Instant) -> Duration {
        self.closed_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    /// It could not be opened. Returns how long it rests, and whether it was well before.
    pub(super) fn failed(&mut self, now: Instant, chance: f64) -> (Duration, bool) {
        let pause = self.reconnect.after(self.failures, chance);
        let was_well = self.failures == 0;
        self.failures = self.failures.saturating_add(1);
        self.closed_until = Some(now + pause);
        (pause, was_well)
    }

    /// The server put a mail off: rests when it has done so for several in a row.
    pub(super) fn put_off(&mut self, now: Instant, chance: f64) -> Option<(Duration, bool)> {
        self.put_off = self.put_off.saturating_add(1);
        (self.put_off >= PUT_OFF_IN_A_ROW).then(|| self.failed(now, chance))
    }

    /// The server took a mail, or refused that one for good. Returns whether it was ill before.
    pub(super) fn worked(&mut self) -> bool {
        let was_ill = self.failures > 0;
        *self = Self::new(self.reconnect);
        was_ill
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{EmailAddress, LogNumber};

    fn settings() -> NotifySettings {
        NotifySettings {
            grace: Duration::from_secs(10),
            max_age: NotifySettings::GIVE_UP_AFTER,
            min_interval: Duration::ZERO,
            per_day: 0,
            content: ContentPolicy::Text,
            public_url: None,
            from: EmailAddress::new("chat@example.test").unwrap().into(),
            retry: NotifySettings::RETRY,
            give_up_after: NotifySettings::GIVE_UP_AFTER,
            reconnect: NotifySettings::RECONNECT,
        }
    }

    #[test]
    fn tries_come_less_and_less_often_and_not_all_at_once() {
        let retry = NotifySettings::RETRY;
        for (before, seconds) in [(0, 30), (1, 60), (2, 120), (6, 1_920), (7, 3_600), (40, 3_600)] {
            assert_eq!(retry.after(before, 0.5), Duration::from_secs(seconds), "{before}");
        }
        assert_eq!(retry.after(0, 0.0), Duration::from_secs(24));
        assert_eq!(retry.after(0, 1.0), Duration::from_secs(36));
    }

    #[test]
    fn a_mail_is_given_up_a_day_after_it_was_raised() {
        let raised = Timestamp(1_700_000_000_000);
        let hours = |hours: u64| raised.plus(Duration::from_secs(hours * 3_600));
        let settings = settings();
        for (now, attempts, retry) in [
            (raised, 0, Some(30)),
            (hours(1), 3, Some(240)),
            (hours(22), 30, Some(3_600)),
            (hours(23), 30, None),
            (hours(30), 0, None),
        ] {
            let after = settings.retry_after(raised, attempts, now, 0.5);
            assert_eq!(after, retry.map(Duration::from_secs), "{now}");
        }
        assert!(!settings.is_over(raised, hours(23)));
        assert!(settings.is_over(raised, hours(24)));
        assert!(!settings.is_over(hours(1), raised), "a clock that was set back");
    }

    #[test]
    fn a_closed_way_is_tried_less_and_less_often_until_it_works() {
        let now = Instant::now();
        let mut way = Way::new(NotifySettings::RECONNECT);
        assert_eq!(way.closed_for(now), Duration::ZERO);
        for (seconds, was_well) in [(5, true), (10, false), (20, false), (40, false)] {
            assert_eq!(way.failed(now, 0.5), (Duration::from_secs(seconds), was_well));
            assert_eq!(way.closed_for(now), Duration::from_secs(seconds));
        }
        assert_eq!(way.closed_for(now + Duration::from_secs(39)), Duration::from_secs(1));
        assert_eq!(way.closed_for(now + Duration::from_secs(41)), Duration::ZERO);
        assert!(way.worked());
        assert!(!way.worked());
        assert_eq!(way.failed(now, 0.5).0, Duration::from_secs(5));
    }

    #[test]
    fn mails_that_are_put_off_close_the_way_only_in_a_row() {
        let now = Instant::now();
        let mut way = Way::new(NotifySettings::RECONNECT);
        for _ in 0..3 {
            assert_eq!(way.put_off(now, 0.5), None);
            assert_eq!(way.put_off(now, 0.5), None);
            way.worked();
        }
        way.put_off(now, 0.5);
        way.put_off(now, 0.5);
        assert_eq!(way.put_off(now, 0.5), Some((Duration::from_secs(5), true)));
        assert_eq!(way.put_off(now, 0.5), Some((Duration::from_secs(10), false)));
    }

    #[test]
    fn no_cap_and_a_short_grace_mean_what_they_say() {
        let nothing = Frontier::nothing(LogNumber(1), 1);
        let mut settings = settings();
        assert_eq!(settings.due(nothing.clone(), nothing.clone()).per_day, u32::MAX);
        settings.per_day = 7;
        assert_eq!(settings.due(nothing.clone(), nothing).per_day, 7);
        for (grace, tick) in [(10_000, 1_000), (4_000, 1_000), (200, 50), (0, 20)] {
            settings.grace = Duration::from_millis(grace);
            assert_eq!(settings.tick(), Duration::from_millis(tick), "{grace} ms");
        }
    }
}
