//! How far this node has heard of a partition: the pure part of noticing a hole.

use std::time::Duration;

use tokio::time::Instant;

use crate::domain::Offset;

/// Owners beat every second; after three silent ones something is wrong.
pub const SILENCE_MAX: Duration = Duration::from_secs(3);

/// What to do with a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It goes on from what is known: deliver what lies above this offset.
    Above(Offset),
    /// All of it is known already.
    Old,
    /// Something between what is known and its beginning was never heard: scan storage.
    Hole,
}

/// One partition as this node knows it.
#[derive(Debug, Clone, Copy)]
pub struct Track {
    known: Offset,
    heard: Instant,
}

impl Track {
    /// Everything up to `known` needs no delivery on this node.
    pub fn new(known: Offset, now: Instant) -> Self {
        Self { known, heard: now }
    }

    /// Everything up to here has been delivered to this node's sockets.
    pub fn known(&self) -> Offset {
        self.known
    }

    /// Judges a publication `(prev, through]` of the owner; nothing moves before `delivered`.
    pub fn hear(&mut self, prev: Offset, through: Offset, now: Instant) -> Heard {
        let heard = self.read(prev, through);
        if heard != Heard::Hole {
            // Only what fits shows that the owner is well; a hole must not keep the scan from being due.
            self.heard = now;
        }
        heard
    }

    /// Judges what was read from storage. It says nothing about the owner: while that is silent, storage is read
    /// again and again.
    pub fn read(&self, prev: Offset, through: Offset) -> Heard {
        match (prev, through) {
            (prev, _) if prev > self.known => Heard::Hole,
            (_, through) if through > self.known => Heard::Above(self.known),
            _ => Heard::Old,
        }
    }

    /// Everything up to `through` has been delivered.
    pub fn delivered(&mut self, through: Offset) {
        self.known = self.known.max(through);
    }

    /// Whether the owner has been silent for too long.
    pub fn is_silent(&self, now: Instant) -> bool {
        now.duration_since(self.heard) >= SILENCE_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publications_go_on_repeat_or_leave_a_hole() {
        let now = Instant::now();
        let mut track = Track::new(4, now);
        assert_eq!(track.hear(4, 6, now), Heard::Above(4));
        track.delivered(6);
        assert_eq!(track.hear(4, 6, now), Heard::Old);
        assert_eq!(track.hear(6, 6, now), Heard::Old, "a beat");
        assert_eq!(track.hear(2, 9, now), Heard::Above(6), "a new owner repeats from what was published");
        assert_eq!(track.hear(7, 9, now), Heard::Hole);
        assert_eq!(track.known(), 6);
    }

    #[test]
    fn silence_is_noticed_and_a_hole_is_no_news() {
        let now = Instant::now();
        let mut track = Track::new(4, now);
        assert!(!track.is_silent(now + SILENCE_MAX / 2));
        track.hear(9, 9, now + SILENCE_MAX / 2);
        assert!(track.is_silent(now + SILENCE_MAX));
        assert_eq!(track.read(4, 6), Heard::Above(4));
        track.delivered(6);
        assert!(track.is_silent(now + SILENCE_MAX), "what storage says is not the owner's voice");
        track.hear(6, 6, now + SILENCE_MAX);
        assert!(!track.is_silent(now + SILENCE_MAX));
    }
}
