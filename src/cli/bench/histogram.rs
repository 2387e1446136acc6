//! A log-linear histogram of durations, after HdrHistogram: fixed memory, below 1 % of error at any size.

use std::time::Duration;

/// Bits of a value that are kept: 128 steps a power of two, so an error of at most 1/128.
const STEP_BITS: u32 = 7;
const STEPS: usize = 1 << STEP_BITS;
/// Values up to 2^42 microseconds (50 days) have a bucket; larger ones share the last.
const POWERS: usize = 42;
const BUCKETS: usize = STEPS + (POWERS - STEP_BITS as usize) * STEPS;

/// Counts of durations in microseconds.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max_us: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, max_us: 0 }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&mut self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.counts[bucket(us)] += 1;
        self.total += 1;
        self.max_us = self.max_us.max(us);
    }

    /// Counts what another one has counted.
    pub fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(own, theirs)| *own += theirs);
        self.total += other.total;
        self.max_us = self.max_us.max(other.max_us);
    }

    /// How many durations were counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The longest one, exactly.
    pub fn max(&self) -> Duration {
        Duration::from_micros(self.max_us)
    }

    /// The duration that a share `quantile` (0 to 1) does not exceed; zero when nothing was counted.
    pub fn quantile(&self, quantile: f64) -> Duration {
        let rank = ((self.total as f64 * quantile).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_micros(highest(index).min(self.max_us));
            }
        }
        Duration::ZERO
    }
}

fn bucket(us: u64) -> usize {
    if us < STEPS as u64 {
        return us as usize;
    }
    let power = 63 - us.leading_zeros();
    let shift = power - STEP_BITS;
    let step = (us >> shift) as usize - STEPS;
    (STEPS + shift as usize * STEPS + step).min(BUCKETS - 1)
}

/// The largest value of a bucket, so that a quantile is never told too small.
fn highest(index: usize) -> u64 {
    if index < STEPS {
        return index as u64;
    }
    let shift = (index - STEPS) / STEPS;
    let step = (index - STEPS) % STEPS;
    (((STEPS + step + 1) as u64) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::default();
        values.into_iter().for_each(|us| histogram.record(Duration::from_micros(us)));
        histogram
    }

    #[test]
    fn quantiles_are_at_most_one_percent_above_the_truth() {
        let histogram = of(1..=1_000_000);
        for (quantile, truth) in [(0.5, 500_000.0), (0.99, 990_000.0), (0.999, 999_000.0)] {
            let got = histogram.quantile(quantile).as_micros() as f64;
            assert!(got >= truth && got <= truth * 1.01, "{quantile}: {got}");
        }
        assert_eq!(histogram.max(), Duration::from_secs(1));
        assert_eq!(histogram.quantile(1.0), Duration::from_secs(1));
    }

    #[test]
    fn two_histograms_are_one() {
        let mut both = of(1..=500);
        both.add(&of(501..=1_000));
        assert_eq!((both.total(), both.quantile(0.5)), (1_000, of(1..=1_000).quantile(0.5)));
        assert_eq!(both.max(), Duration::from_millis(1));
    }

    #[test]
    fn one_slow_message_in_a_hundred_shows_above_p99_only() {
        let histogram = of(std::iter::repeat_n(10, 99).chain([5_000]));
        assert_eq!(histogram.quantile(0.99), Duration::from_micros(10));
        assert_eq!(histogram.quantile(0.999), Duration::from_micros(5_000));
    }

    #[test]
    fn nothing_counted_is_zero_and_the_longest_is_kept_exactly() {
        assert_eq!(Histogram::default().quantile(0.99), Duration::ZERO);
        assert_eq!(of([123_457]).max(), Duration::from_micros(123_457));
        assert_eq!(of([u64::MAX]).total(), 1);
    }

    #[test]
    fn every_value_lies_in_its_bucket() {
        for us in (0..2_000).chain((8..41).flat_map(|p| [(1 << p) - 1, 1 << p, (1 << p) + 1])) {
            let index = bucket(us);
            assert!(us <= highest(index), "{us}");
            assert!(index == 0 || us > highest(index - 1), "{us}");
        }
    }
}
