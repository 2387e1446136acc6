//! What every process keeps an eye on: partitions that stand still, as their owners say, and whether the
//! database still follows the log that this process was started on.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::app::health::STORAGE;
use crate::storage::StorageError;

/// One small read each.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks until it is told to stop; ends by itself when the database was handed over to another log.
pub async fn watch(app: Arc<App>, stop: CancellationToken) {
    loop {
        match app.storage.standstills(app.log_number).await {
            Ok(standstills) => {
                app.health.clear(STORAGE);
                app.health.stand_still(standstills.into_iter().collect());
            }
            Err(error @ StorageError::Superseded) => {
                tracing::error!("{error}");
                return;
            }
            Err(error) => app.health.raise(STORAGE, &error.to_string()),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}
