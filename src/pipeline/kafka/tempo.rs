//! How long to wait for company: pure.
//!
//! A request costs nearly the same whatever is in it, so under load it is worth a wait that more records share it.
//! While little comes there is little to save, and a wait is only late.

use tokio::time::{Duration, Instant};

/// Over so long records are counted.
const WINDOW: Duration = Duration::from_millis(100);
/// Up to so many records a second the wait is the shortest.
const LITTLE: f64 = 1_000.0;
/// From so many on it is the longest: some 20 records then share 10 ms.
const MUCH: f64 = 1_800.0;

/// The rate of records, and the wait that it is worth.
#[derive(Debug, Clone)]
pub(super) struct Tempo {
    shortest: Duration,
    longest: Duration,
    began: Instant,
    counted: usize,
    per_second: f64,
}

impl Tempo {
    /// Nothing has come yet.
    pub(super) fn new(shortest: Duration, longest: Duration, now: Instant) -> Self {
        Self { shortest, longest, began: now, counted: 0, per_second: 0.0 }
    }

    /// So many more came; how long to wait now.
    pub(super) fn count(&mut self, records: usize, now: Instant) -> Duration {
        self.counted += records;
        let age = now.saturating_duration_since(self.began);
        if age >= WINDOW {
            self.per_second = self.counted as f64 / age.as_secs_f64();
            (self.began, self.counted) = (now, 0);
        }
        let part = ((self.per_second - LITTLE) / (MUCH - LITTLE)).clamp(0.0, 1.0);
        self.shortest + self.longest.saturating_sub(self.shortest).mul_f64(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// The wait after a second of this rate, in batches 10 ms apart.
    fn at(tempo: &mut Tempo, now: &mut Instant, per_batch: usize) -> Duration {
        let mut wait = Duration::ZERO;
        for _ in 0..100 {
            *now += 10 * MS;
            wait = tempo.count(per_batch, *now);
        }
        wait
    }

    #[test]
    fn the_wait_grows_with_the_rate_and_falls_with_it() {
        let mut now = Instant::now();
        let mut tempo = Tempo::new(2 * MS, 10 * MS, now);
        assert_eq!(tempo.count(1, now), 2 * MS);
        assert_eq!(at(&mut tempo, &mut now, 8), 2 * MS, "800 a second");
        assert_eq!(at(&mut tempo, &mut now, 14), 6 * MS);
        assert_eq!(at(&mut tempo, &mut now, 20), 10 * MS, "2,000 a second");
        assert_eq!(at(&mut tempo, &mut now, 500), 10 * MS);
        now += 1_000 * MS;
        assert_eq!(tempo.count(1, now), 2 * MS, "after a pause");
    }
}
