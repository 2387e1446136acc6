//! Closing the holes in what this node was told: it reads storage by log offset, the one repair path.

use crate::app::App;
use crate::delivery::Publication;
use crate::domain::{Offset, Partition};
use crate::storage::StorageError;

/// Outcomes of one step of a scan; a few hundred KiB at most in practice.
const SCAN_STEP: u32 = 500;

/// Brings this node's hub up to what is stored, in every partition. Where nothing is missing it costs one read.
pub async fn repair(app: &App) -> Result<(), StorageError> {
    let known = app.hub.heard();
    let stored = app.storage.frontier(app.hub.log()).await?;
    for (partition, known) in (0..).zip(known.offsets.iter().copied()) {
        if stored.offset(partition) > known {
            repair_partition(app, partition, known).await?;
        }
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
        app.hub.scanned(&Publication { log, partition, prev, through, outcomes: scanned.outcomes.into() });
        if found < SCAN_STEP as usize {
            return Ok(());
        }
        prev = through;
    }
}
