//! How many frames and bytes came within the last second.

use std::time::Duration;

use tokio::time::Instant;

/// What a peer may send in a second; more is a flood (protocol.md section 3, 4429).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimits {
    /// Frames of any kind, each fragment and each control frame.
    pub frames_max: u32,
    /// Bytes on the wire, headers included.
    pub bytes_max: u32,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self { frames_max: 200, bytes_max: 2 * 1024 * 1024 }
    }
}

const BUCKETS: usize = 16;
const BUCKET: Duration = Duration::from_micros(1_000_000 / BUCKETS as u64);

/// The last second in sixteen buckets: 128 bytes, whatever the traffic.
///
/// The window spans between 15/16 of a second and a whole one, so who keeps within the limits in every second is
/// never refused, and who exceeds them by more than a sixteenth always is.
#[derive(Debug, Clone)]
pub struct RateWindow {
    limits: RateLimits,
    began: Option<Instant>,
    newest: u64,
    buckets: [(u32, u32); BUCKETS],
}

impl RateWindow {
    /// An empty window.
    pub fn new(limits: RateLimits) -> Self {
        Self { limits, began: None, newest: 0, buckets: [(0, 0); BUCKETS] }
    }

    /// Counts `frames` and `bytes` that came at `now`; false when the second holds more than the limits.
    #[must_use]
    pub fn count(&mut self, frames: u32, bytes: u64, now: Instant) -> bool {
        self.advance(now);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let bucket = &mut self.buckets[slot(self.newest)];
        bucket.0 = bucket.0.saturating_add(frames);
        bucket.1 = bucket.1.saturating_add(bytes);
        let total =
            |sum: (u32, u32), one: &(u32, u32)| (sum.0.saturating_add(one.0), sum.1.saturating_add(one.1));
        let (frames, bytes) = self.buckets.iter().fold((0, 0), total);
        frames <= self.limits.frames_max && bytes <= self.limits.bytes_max
    }

    fn advance(&mut self, now: Instant) {
        let since = now.saturating_duration_since(*self.began.get_or_insert(now));
        let current = u64::try_from(since.as_micros() / BUCKET.as_micros()).unwrap_or(u64::MAX);
        let passed = current.saturating_sub(self.newest).min(BUCKETS as u64);
        for back in 0..passed {
            self.buckets[slot(current - back)] = (0, 0);
        }
        self.newest = self.newest.max(current);
    }
}

fn slot(bucket: u64) -> usize {
    (bucket % BUCKETS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window() -> RateWindow {
        RateWindow::new(RateLimits::default())
    }

    #[test]
    fn two_hundred_frames_at_once_pass_and_one_more_does_not() {
        let (mut window, now) = (window(), Instant::now());
        assert!((0..200).all(|_| window.count(1, 6, now)));
        assert!(!window.count(1, 6, now));
    }

    #[test]
    fn two_mebibytes_pass_and_one_byte_more_does_not() {
        let (mut window, now) = (window(), Instant::now());
        assert!((0..32).all(|_| window.count(1, 65_536, now)));
        assert!(!window.count(0, 1, now));
    }

    #[test]
    fn who_keeps_to_the_limit_in_every_second_is_never_refused() {
        let (mut window, start) = (window(), Instant::now());
        for second in 0..20 {
            let now = start + Duration::from_secs(second);
            assert!((0..200).all(|_| window.count(1, 6, now)), "second {second}");
        }
    }

    #[test]
    fn a_steady_stream_above_the_limit_is_noticed_within_two_seconds() {
        let (mut window, start) = (window(), Instant::now());
        let every = Duration::from_micros(1_000_000 / 220);
        let refused = (0..440).find(|n| !window.count(1, 6, start + every * *n));
        assert!(refused.is_some_and(|n| (200..=440).contains(&n)), "{refused:?}");
    }

    #[test]
    fn a_burst_across_the_turn_of_a_second_is_noticed() {
        let (mut window, start) = (window(), Instant::now());
        assert!(window.count(1, 6, start));
        assert!(window.count(150, 6, start + Duration::from_millis(900)));
        assert!(!window.count(60, 6, start + Duration::from_millis(1_100)));
    }

    #[test]
    fn a_long_silence_forgives_everything() {
        let (mut window, start) = (window(), Instant::now());
        assert!(window.count(200, 6, start));
        assert!(window.count(200, 6, start + Duration::from_secs(3_600)));
    }
}
