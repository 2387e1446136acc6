//! The workers of presence: who came and went is told to the nodes, places are given up in time, who was seen is
//! written down, and those who are watched are looked at.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::app::health::SIGHTINGS;
use crate::chat::presence;
use crate::delivery::Hint;

/// Between two tellings, so that many who come at once are told together; and before one is tried again.
const TELL_EVERY: Duration = Duration::from_millis(100);
const RETRY: Duration = Duration::from_secs(1);
/// Places that were kept long enough are looked for so often.
const EXPIRE_EVERY: Duration = Duration::from_millis(250);
/// A batch of those who were seen is written down so often, and whether nodes came or went is asked for.
const SECOND: Duration = Duration::from_secs(1);

/// Tells every node of the users who came to this one, or went.
pub async fn tell(app: Arc<App>, stop: CancellationToken) {
    let mut waiting: BTreeSet<Hint> = BTreeSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            users = app.presence.changed() => {
                waiting.extend(users.into_iter().map(|user| Hint { user, is_about_views: false }));
            }
            () = tokio::time::sleep(RETRY), if !waiting.is_empty() => {}
        }
        let hints: Vec<Hint> = waiting.iter().copied().collect();
        match app.fanout.presence(&hints).await {
            Ok(()) => waiting.clear(),
            // Not an alarm of its own: that Redis is away is told elsewhere.
            Err(error) => tracing::debug!(%error, "who came and went is told again"),
        }
        tokio::time::sleep(TELL_EVERY).await;
    }
}

/// Gives up the places of who left, and writes down who was seen; once more when the signal comes.
pub async fn attend(app: Arc<App>, stop: CancellationToken) {
    let [mut expire, mut write] = [EXPIRE_EVERY, SECOND].map(|period| {
        let mut interval = interval(period);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        interval
    });
    loop {
        let stopping = tokio::select! {
            () = stop.cancelled() => true,
            _ = expire.tick() => {
                presence::expire(&app).await;
                continue;
            }
            _ = write.tick() => false,
        };
        let mut written = presence::write_down(&app).await;
        while stopping && written == Ok(true) {
            written = presence::write_down(&app).await;
        }
        match written {
            Ok(_) => app.health.clear(SIGHTINGS),
            Err(error) => app.health.raise(SIGHTINGS, &error.to_string()),
        }
        if stopping {
            return;
        }
    }
}

/// Looks at whom sockets watch: at those who ask anew, at those of whom something was told, and at all of them when
/// something may have happened without a word.
pub async fn look(app: Arc<App>, stop: CancellationToken) {
    let mut outlook = None;
    let mut second = interval(SECOND);
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = app.hub.watchers().due() => while presence::look(&app).await {},
            _ = second.tick() => {
                if app.hub.watchers().is_empty() {
                    outlook = None;
                    continue;
                }
                let now = app.presence.outlook().await.ok();
                if now.is_some() && now != outlook {
                    app.hub.watchers().hint_all();
                }
                outlook = now;
            }
        }
    }
}
