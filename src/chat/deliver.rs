//! Telling the nodes what was stored, and, on each node, closing the holes in what it was told. Both read
//! storage by log offset: the one repair path.

use std::sync::Arc;

use crate::app::App;
use crate::delivery::{FanoutError, Publication};
use crate::domain::{LogNumber, Offset, Partition};
use crate::storage::StorageError;

/// Outcomes of one step of a scan; a few hundred KiB at most in practice.
const SCAN_STEP: u32 = 500;

/// Why the nodes do not know everything yet; trying again is safe.
#[derive(Debug, thiserror::Error)]
pub enum DeliverError {
    /// Storage did not answer.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The nodes could not be told.
    #[error(transparent)]
    Fanout(#[from] FanoutError),
}

/// Publishes what is stored of a partition above `published`, up to `until`; for an owner who does not know
/// whether the nodes were told. Returns how far they have been told now.
pub async fn republish(
    app: &App,
    log: LogNumber,
    partition: Partition,
    published: Offset,
    until: Offset,
) -> Result<Offset, DeliverError> {
    let mut prev = published;
    while prev < until {
        let scanned = app.storage.scan(log, partition, prev, SCAN_STEP).await?;
        if scanned.through <= prev {
            break;
        }
        let through = scanned.through;
        let outcomes: Arc<[_]> = scanned.outcomes.into();
        app.fanout.publish(vec![Publication { log, partition, prev, through, outcomes }]).await?;
        prev = through;
    }
    Ok(prev)
}

/// Brings this node's hub up to what is stored, in every partition.
pub async fn repair(app: &App) -> Result<(), StorageError> {
    let known = app.hub.frontier();
    for (partition, offset) in (0..).zip(known.offsets.iter().copied()) {
        repair_partition(app, partition, offset).await?;
    }
    Ok(())
}

/// Brings this node's hub up to what is stored in one partition, from `known` on.
pub async fn repair_partition(app: &App, partition: Partition, known: Offset) -> Result<(), StorageError> {
    let log = app.hub.log();
    let mut prev = known;
    loop {
        let scanned = app.storage.scan(log, partition, prev, SCAN_STEP).await?;
        let through = scanned.through.max(prev);
        let found = scanned.outcomes.len();
        app.hub.receive(&Publication { log, partition, prev, through, outcomes: scanned.outcomes.into() });
        if found < SCAN_STEP as usize {
            return Ok(());
        }
        prev = through;
    }
}
