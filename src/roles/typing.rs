//! The worker that tells who is typing, and who is no more.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::chat::typing;
use crate::delivery::typing::LOOK_EVERY;

/// Tells until the signal comes; once more then, since the sockets have ended.
pub async fn tell(app: Arc<App>, stop: CancellationToken) {
    let mut is_idle = true;
    loop {
        let stopping = tokio::select! {
            () = stop.cancelled() => true,
            () = app.hub.typers().some() => false,
            () = tokio::time::sleep(LOOK_EVERY), if !is_idle => false,
        };
        if let Err(error) = typing::tell(&app).await {
            // Not an alarm of its own: that Redis is away is told elsewhere, and typing is worth nothing later.
            tracing::debug!(%error, "who types was told on this node only");
            metrics::counter!("chatd_typing_lost_total").increment(1);
        }
        if stopping {
            return;
        }
        let more_shown = app.hub.end_typing();
        is_idle = !more_shown && app.hub.typers().is_empty();
    }
}
