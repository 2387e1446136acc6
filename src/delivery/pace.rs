//! Whether this node is busy: the pure part of waiting with what nobody waits for.

use std::time::Duration;

use tokio::time::Instant;

/// Over so long outcomes are counted.
const WINDOW: Duration = Duration::from_millis(100);
/// So many in a window make a busy node: 500 messages a second.
const BUSY: usize = 50;

/// A count of outcomes.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    began: Instant,
    seen: usize,
    was_busy: bool,
}

impl Pace {
    /// Nothing seen yet.
    pub fn new(now: Instant) -> Self {
        Self { began: now, seen: 0, was_busy: false }
    }

    /// Counts so many more, and says whether the node is busy.
    pub fn count(&mut self, outcomes: usize, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.began);
        if age >= WINDOW {
            *self = Self { began: now, seen: 0, was_busy: self.seen >= BUSY && age < 2 * WINDOW };
        }
        self.seen += outcomes;
        self.was_busy || self.seen >= BUSY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_busy_while_much_comes_and_a_little_longer() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut pace = Pace::new(start);
        assert!(!pace.count(1, at(0)));
        assert!(!pace.count(48, at(50)));
        assert!(pace.count(1, at(90)), "50 in a window");
        assert!(pace.count(1, at(110)), "so it was a moment ago");
        assert!(!pace.count(1, at(220)), "2 in a window");
        assert!(pace.count(50, at(230)));
        assert!(!pace.count(1, at(1_000)), "long ago");
    }
}
