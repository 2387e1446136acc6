//! What messages hold: text of chosen lengths that does not compress to nothing.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// The longest content that a server takes (docs/protocol.md).
const BYTES_MAX: usize = 16_384;
/// A prime, so that lengths that follow each other are spread over the range.
const STRIDE: usize = 7_919;

/// Bytes of content: one length, or all lengths of a range in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    min: usize,
    max: usize,
}

/// The contents of a run.
#[derive(Debug)]
pub(super) struct Contents {
    text: String,
    min: usize,
}

impl Sizes {
    /// Every message has this many bytes.
    pub fn exactly(bytes: usize) -> Self {
        Self { min: bytes, max: bytes }
    }

    /// Whether a server takes such messages.
    pub(super) fn are_legal(self) -> bool {
        (1..=BYTES_MAX).contains(&self.min) && (self.min..=BYTES_MAX).contains(&self.max)
    }

    /// The contents; the same ones in each run.
    pub(super) fn contents(self) -> Contents {
        let mut state = 1u64;
        let mut letter = || {
            // Knuth's MMIX generator: its high bits are random enough for letters.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'a' + ((state >> 33) % 26) as u8)
        };
        Contents { text: (0..self.max).map(|_| letter()).collect(), min: self.min }
    }
}

impl Contents {
    /// What message `index` holds.
    pub(super) fn of(&self, index: usize) -> &str {
        &self.text[..self.min + index.wrapping_mul(STRIDE) % (self.text.len() - self.min + 1)]
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.min == self.max {
            true => write!(f, "{}", self.min),
            false => write!(f, "{}-{}", self.min, self.max),
        }
    }
}

impl Serialize for Sizes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Sizes {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (min, max) = text.split_once('-').unwrap_or((text, text));
        let sizes = min.parse().ok().zip(max.parse().ok()).map(|(min, max)| Self { min, max });
        sizes.filter(|sizes| sizes.are_legal()).ok_or("a content has 1 to 16,384 bytes: 120, or 100-200")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_cover_the_range_and_contents_differ_from_a_run_of_one_letter() {
        let contents = "100-200".parse::<Sizes>().unwrap().contents();
        let mut lengths: Vec<_> = (0..101).map(|index| contents.of(index).len()).collect();
        lengths.sort_unstable();
        assert_eq!(lengths, (100..=200).collect::<Vec<_>>());
        let letters: std::collections::BTreeSet<_> = contents.of(0).chars().collect();
        assert!(letters.len() > 20, "{letters:?}");
        assert_eq!("120".parse::<Sizes>().unwrap().contents().of(7).len(), 120);
    }

    #[test]
    fn impossible_sizes_are_refused() {
        for bad in ["", "0", "200-100", "1-16385", "a", "1-"] {
            assert!(bad.parse::<Sizes>().is_err(), "{bad}");
        }
    }
}
