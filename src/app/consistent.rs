//! Whether a copy of storage and a copy of the log belong together: a server that starts on the two has to
//! find every record that storage has not applied, and the last one that it has. Pure.

use uuid::Uuid;

use crate::domain::{Offset, Partition};
use crate::pipeline::{Bounds, LogIdentity};

/// Why no server could go on from the two.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Inconsistent {
    /// They are copies of different logs.
    #[error("the backup is no good: its database follows the message log {followed}, its log is {copied}")]
    Foreign {
        /// The log that storage follows.
        followed: Uuid,
        /// The log that was copied.
        copied: Uuid,
    },
    /// The log has forgotten what storage needs.
    #[error(
        "the backup is no good: its database needs partition {partition} of the log from offset {needed} on, \
         and the copy of the log begins at {start}; copying took longer than the log keeps records (an \
         hour): try again when less is going on, or onto a faster disk"
    )]
    Late {
        /// The partition.
        partition: Partition,
        /// The first offset that storage needs.
        needed: Offset,
        /// The first offset of the copy.
        start: Offset,
    },
    /// The log ends before what storage has applied.
    #[error(
        "the backup is no good: its database has applied partition {partition} of the log up to offset \
         {next}, and the log ends at {end}: the log has lost records, or is another server's"
    )]
    Short {
        /// The partition.
        partition: Partition,
        /// The offset of the next record that storage would apply.
        next: Offset,
        /// The offset after the last one of the copy.
        end: Offset,
    },
}

/// Checks the two. `followed` is the log that storage follows with its next offset of each partition, if it has
/// met a log; storage that has not begins at 0.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(
    followed: Option<(Uuid, &[Offset])>,
    identity: LogIdentity,
    bounds: &[Bounds],
) -> Result<(), Inconsistent> {
    let (log, next) = followed.unwrap_or((identity.id, &[]));
    if log != identity.id {
        return Err(Inconsistent::Foreign { followed: log, copied: identity.id });
    }
    for (place, (partition, bounds)) in (0..).zip(bounds).enumerate() {
        let next = next.get(place).copied().unwrap_or(0);
        // The record below the next one is read too, to see whether it is the one that was applied.
        let needed = (next - 1).max(0);
        if bounds.start > needed {
            return Err(Inconsistent::Late { partition, needed, start: bounds.start });
        }
        if bounds.end < next {
            return Err(Inconsistent::Short { partition, next, end: bounds.end });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: Uuid = Uuid::from_u128(7);

    fn checked(next: &[Offset], bounds: &[(Offset, Offset)]) -> Result<(), Inconsistent> {
        let identity = LogIdentity { id: LOG, partitions: 2 };
        let bounds: Vec<_> = bounds.iter().map(|&(start, end)| Bounds { start, end }).collect();
        check(Some((LOG, next)), identity, &bounds)
    }

    #[test]
    fn a_log_that_is_ahead_and_reaches_back_far_enough_is_good() {
        assert_eq!(checked(&[0, 0], &[(0, 0), (0, 9)]), Ok(()));
        assert_eq!(checked(&[5, 1], &[(4, 5), (0, 900)]), Ok(()));
    }

    #[test]
    fn a_log_that_forgot_what_storage_needs_is_refused() {
        let late = Inconsistent::Late { partition: 1, needed: 4, start: 5 };
        assert_eq!(checked(&[0, 5], &[(0, 0), (5, 9)]), Err(late));
        let late = Inconsistent::Late { partition: 0, needed: 0, start: 1 };
        assert_eq!(
            check(None, LogIdentity { id: LOG, partitions: 1 }, &[Bounds { start: 1, end: 2 }]),
            Err(late)
        );
    }

    #[test]
    fn a_log_that_ends_before_what_was_applied_is_refused() {
        assert_eq!(
            checked(&[0, 5], &[(0, 0), (0, 4)]),
            Err(Inconsistent::Short { partition: 1, next: 5, end: 4 })
        );
    }

    #[test]
    fn the_log_of_another_server_is_refused() {
        let identity = LogIdentity { id: Uuid::from_u128(8), partitions: 1 };
        let found = check(Some((LOG, &[0])), identity, &[Bounds { start: 0, end: 0 }]);
        assert_eq!(found, Err(Inconsistent::Foreign { followed: LOG, copied: identity.id }));
    }
}
