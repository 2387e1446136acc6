//! How far events have been published for a whole grace. Pure: time is passed in.
//!
//! An event counts as long as its devices could confirm it: from its publication, not from its storing, since
//! an outage may lie between the two. So the worker remembers how far publishing was known to be at moments
//! of the last grace, and trusts the newest of them that is a whole grace old. A start, or a fan-out that is
//! not well, begins anew: whoever comes back has a grace to confirm what was missed.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::Frontier;

/// A grace is divided into so many steps: no more frontiers are kept, and no event waits longer for its step
/// to be complete than this part of the grace (160 ms of 10 s).
const STEPS: u32 = 64;

/// What was known to be published, and since when.
#[derive(Debug)]
pub(super) struct Settling {
    grace: Duration,
    /// Oldest first; the first one may be older than a grace.
    known: VecDeque<(Instant, Frontier)>,
}

impl Settling {
    /// Knows nothing yet.
    pub(super) fn new(grace: Duration) -> Self {
        Self { grace, known: VecDeque::new() }
    }

    /// Remembers how far publishing is now; `None`: the fan-out is not well, and what was remembered does not
    /// count any more.
    pub(super) fn observe(&mut self, now: Instant, published: Option<&Frontier>) {
        let Some(published) = published else {
            self.known.clear();
            return;
        };
        let fresh = self.known.back().is_none_or(|(at, last)| {
            // What has not moved has been published since then.
            last != published && now.duration_since(*at) >= self.grace / STEPS
        });
        if fresh {
            self.known.push_back((now, published.clone()));
        }
        while self.known.get(1).is_some_and(|(at, _)| self.is_settled(*at, now)) {
            self.known.pop_front();
        }
    }

    /// What has been published for a whole grace; `None` before a grace of observing.
    pub(super) fn settled(&self, now: Instant) -> Option<&Frontier> {
        let settled = self.known.iter().rev().find(|(at, _)| self.is_settled(*at, now));
        settled.map(|(_, frontier)| frontier)
    }

    fn is_settled(&self, at: Instant, now: Instant) -> bool {
        now.duration_since(at) >= self.grace
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::LogNumber;

    const GRACE: Duration = Duration::from_secs(64);

    fn upto(offset: i64) -> Frontier {
        Frontier { log: LogNumber(1), offsets: vec![offset].into() }
    }

    fn offset(settling: &Settling, now: Instant) -> Option<i64> {
        settling.settled(now).map(|frontier| frontier.offset(0))
    }

    #[test]
    fn an_event_is_settled_a_whole_grace_after_its_publication() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut settling = Settling::new(GRACE);
        assert_eq!(offset(&settling, start), None);
        for (seconds, published, settled) in [
            (0, 4, None),
            (63, 5, None),
            (64, 5, Some(4)),
            (126, 6, Some(4)),
            (127, 6, Some(5)),
            (189, 6, Some(5)),
            (190, 6, Some(6)),
            (900, 6, Some(6)),
        ] {
            settling.observe(at(seconds), Some(&upto(published)));
            assert_eq!(offset(&settling, at(seconds)), settled, "{seconds} s");
        }
    }

    #[test]
    fn an_outage_of_the_fan_out_begins_a_new_grace() {
        let start = Instant::now();
        let mut settling = Settling::new(GRACE);
        settling.observe(start, Some(&upto(4)));
        settling.observe(start + GRACE, None);
        assert_eq!(offset(&settling, start + GRACE), None);
        settling.observe(start + GRACE * 2, Some(&upto(4)));
        assert_eq!(offset(&settling, start + GRACE * 2), None);
        assert_eq!(offset(&settling, start + GRACE * 3), Some(4));
    }

    #[test]
    fn a_busy_server_is_remembered_in_steps() {
        let start = Instant::now();
        let mut settling = Settling::new(GRACE);
        for tenth in 0..10_000 {
            let now = start + Duration::from_millis(tenth * 100);
            settling.observe(now, Some(&upto(i64::try_from(tenth).unwrap())));
            assert!(settling.known.len() <= STEPS as usize + 2);
            if let Some(settled) = offset(&settling, now) {
                let age = i64::try_from(tenth).unwrap() - settled;
                assert!((640..=650).contains(&age), "{age} tenths of a second");
            }
        }
    }

    #[test]
    fn without_a_grace_everything_published_is_settled() {
        let now = Instant::now();
        let mut settling = Settling::new(Duration::ZERO);
        for n in 0..3 {
            settling.observe(now, Some(&upto(n)));
            assert_eq!(offset(&settling, now), Some(n));
        }
        assert_eq!(settling.known.len(), 1);
    }
}
