//! When each message of an open loop is due, whatever the server does, and the thread that keeps the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// Messages due within the same millisecond go out together: the grid of intended times.
const GRID: Duration = Duration::from_millis(1);

/// An open loop: `rate` messages a second, first uncounted ones, then counted ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// Messages a second, above 0.
    pub rate: f64,
    /// Before the measured window.
    pub warm_up: Duration,
    /// The measured window.
    pub window: Duration,
    /// How long messages are waited for after the last one was due; what is missing then is lost.
    pub stragglers_max: Duration,
}

impl Plan {
    /// How many messages there are in all.
    pub fn total(&self) -> usize {
        (self.rate * (self.warm_up + self.window).as_secs_f64()).round() as usize
    }

    /// When message `index` is due, counted from the start.
    pub fn due(&self, index: usize) -> Duration {
        let exact = Duration::from_secs_f64(index as f64 / self.rate);
        let steps = exact.as_micros().div_ceil(GRID.as_micros());
        GRID * u32::try_from(steps).unwrap_or(u32::MAX)
    }

    /// Whether what is due then counts.
    pub fn counts(&self, due: Duration) -> bool {
        due >= self.warm_up
    }
}

/// A thread that wakes the driver on the grid. The runtime's own timers are coarser by a millisecond, which
/// would be counted as the server's.
#[derive(Debug)]
pub(super) struct Pacer {
    wake: Arc<Notify>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pacer {
    /// Starts the thread; its grid begins at `start`.
    pub(super) fn start(start: Instant) -> std::io::Result<Self> {
        let (wake, stop) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
        let (its_wake, its_stop) = (Arc::clone(&wake), Arc::clone(&stop));
        let beat = move || {
            let mut step = 0;
            while !its_stop.load(Ordering::Relaxed) {
                std::thread::sleep((start + GRID * step).saturating_duration_since(Instant::now()));
                its_wake.notify_one();
                let passed = Instant::now().saturating_duration_since(start).as_micros() / GRID.as_micros();
                step = (step + 1).max(u32::try_from(passed).unwrap_or(u32::MAX));
            }
        };
        let thread = std::thread::Builder::new().name("bench-pacer".to_owned()).spawn(beat)?;
        Ok(Self { wake, stop, thread: Some(thread) })
    }

    /// The next step of the grid; at once when it has passed already.
    pub(super) async fn tick(&self) {
        self.wake.notified().await;
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It ends within a step; a panic in it would have been printed already.
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_spread_evenly_on_the_grid() {
        let (warm_up, window) = (Duration::from_secs(1), Duration::from_secs(3));
        let plan = Plan { rate: 2_500.0, warm_up, window, stragglers_max: Duration::ZERO };
        assert_eq!(plan.total(), 10_000);
        let due: Vec<_> = (0..5).map(|index| plan.due(index).as_micros()).collect();
        assert_eq!(due, [0, 1_000, 1_000, 2_000, 2_000]);
        let counted = (0..plan.total()).filter(|index| plan.counts(plan.due(*index))).count();
        assert!((7_498..=7_502).contains(&counted), "{counted}");
    }

    #[tokio::test]
    async fn the_pacer_beats_in_time() {
        let start = Instant::now();
        let pacer = Pacer::start(start).unwrap();
        for _ in 0..50 {
            pacer.tick().await;
        }
        // The permits of missed steps are one, so that it may be late but never early.
        assert!(start.elapsed() >= GRID * 49, "{:?}", start.elapsed());
    }
}
