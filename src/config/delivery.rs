//! `[delivery]`: how messages count as delivered, and how much a resume pushes.

use super::reader::Reader;

/// Settings of delivery.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// `delivery.pong_confirms`: a pong confirms what was written before its ping. Switch it off where a
    /// gateway answers pings itself.
    pub pong_confirms: bool,
    /// `delivery.gap_per_conversation`: a resume with more events than this in one conversation names a
    /// `gap` instead. 500.
    pub gap_per_conversation: usize,
    /// `delivery.gap_total`: the same over all conversations of one resume. 5,000.
    pub gap_total: usize,
}

impl Delivery {
    pub(super) fn read(r: &mut Reader<'_>) -> Self {
        Self {
            pong_confirms: r.get("delivery.pong_confirms", true),
            gap_per_conversation: r.within("delivery.gap_per_conversation", 500, 1..=100_000),
            gap_total: r.within("delivery.gap_total", 5_000, 1..=1_000_000),
        }
    }
}
