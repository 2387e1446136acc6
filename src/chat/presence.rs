//! Who is there: sockets that come and go, who watches whom, and what may be seen.
//!
//! Who is there is known to the presence port, which counts the last socket of a user for `offline_after` longer than
//! it was there (`presence::Attendance`). A node that is told of a change (`Fanout::presence`) looks at those whom its
//! sockets watch, and tells what it finds.

use std::collections::{HashMap, HashSet};

use tokio::time::Instant;

use super::Caller;
use super::wire::UserRef;
use crate::app::App;
use crate::delivery::Hint;
use crate::delivery::watchers::{Found, Look};
use crate::domain::{Audience, Error, Relation, Seen, Subject, Timestamp, UserId, Whereabouts};
use crate::presence::PresenceError;
use crate::storage::StorageError;

/// Users that are written down, and pairs that are asked for, at a time.
const BATCH_MAX: usize = 1_000;

impl From<PresenceError> for Error {
    fn from(_: PresenceError) -> Self {
        Self::unavailable("who is online cannot be known now")
    }
}

/// A socket of this user came.
pub async fn came(app: &App, user: UserId) {
    let is_kept = app.attendance.came(user);
    if let Err(error) = app.presence.joined(user).await {
        tracing::warn!(%error, "a socket could not be announced");
    }
    if is_kept {
        left(app, user).await;
    }
}

/// A socket of this user went.
pub async fn went(app: &App, user: UserId) {
    if app.attendance.went(user, Instant::now(), Timestamp::now()) {
        left(app, user).await;
    }
}

/// Gives up the places that were kept long enough.
pub async fn expire(app: &App) {
    for user in app.attendance.expired(Instant::now()) {
        left(app, user).await;
    }
}

async fn left(app: &App, user: UserId) {
    if let Err(error) = app.presence.left(user).await {
        tracing::warn!(%error, "the end of a socket could not be announced");
    }
}

/// Writes down who was seen, a batch of them; whether there may be more.
pub async fn write_down(app: &App) -> Result<bool, StorageError> {
    let seen = app.attendance.unwritten(Timestamp::now(), BATCH_MAX);
    if seen.is_empty() {
        return Ok(false);
    }
    app.storage.saw(&seen).await?;
    app.attendance.written(&seen);
    Ok(seen.len() == BATCH_MAX)
}

/// Who these are, as `watch` names them. An `external_id` that nobody came with yet is nobody to be seen.
pub async fn named(app: &App, caller: &Caller, users: &[UserRef]) -> Result<Vec<UserId>, Error> {
    let mut named = Vec::with_capacity(users.len());
    for user in users {
        match user {
            UserRef::Id(id) => named.push(*id),
            UserRef::External { external_id } => {
                let subject = Subject::External { issuer: caller.issuer.clone(), id: external_id.clone() };
                named.extend(app.directory.by_subject(&subject).await?.map(|user| user.id));
            }
        }
    }
    Ok(named)
}

/// Looks at those who are to be looked at now, and tells the sockets what was found; false where there are none.
pub async fn look(app: &App) -> bool {
    let watchers = app.hub.watchers();
    let Some(look) = watchers.next() else { return false };
    metrics::counter!("chatd_presence_looks_total").increment(1);
    match find(app, &look).await {
        Ok((found, asked)) => watchers.learned(&look, &found, &asked, Timestamp::now()),
        Err(error) => {
            tracing::debug!(
                code = error.code.as_str(),
                "who is online cannot be known now: {}",
                error.message
            );
            watchers.failed(look);
        }
    }
    true
}

/// What was found of a look, and of which pairs it was asked whether they share a conversation.
async fn find(app: &App, look: &Look) -> Result<(Found, Vec<(UserId, UserId)>), Error> {
    let whereabouts = whereabouts(app, &look.users).await?;
    let depends = |user| whereabouts.get(&user).is_some_and(|found| found.audience == Audience::Shared);
    let asked = app.hub.watchers().unsure(look, depends);
    let sharing = sharing(app, &asked).await?;
    Ok((Found { whereabouts, sharing }, asked))
}

async fn whereabouts(app: &App, users: &[UserId]) -> Result<HashMap<UserId, Whereabouts>, Error> {
    let online = app.presence.online(users).await?;
    let kept = app.storage.sightings(users).await?;
    let one = |((user, is_online), kept): ((&UserId, bool), crate::storage::Sighting)| {
        let audience = kept.audience.unwrap_or(app.settings.visible_to);
        (*user, Whereabouts { user: *user, is_online, last_seen: kept.last_seen, audience })
    };
    Ok(users.iter().zip(online).zip(kept).map(one).collect())
}

async fn sharing(app: &App, pairs: &[(UserId, UserId)]) -> Result<HashSet<(UserId, UserId)>, Error> {
    let mut sharing = HashSet::new();
    for batch in pairs.chunks(BATCH_MAX) {
        let shares = app.storage.sharing(batch).await?;
        sharing.extend(batch.iter().zip(shares).filter(|(_, shares)| *shares).map(|(pair, _)| *pair));
    }
    Ok(sharing)
}

/// How one user is seen by another, now.
pub async fn seen_by(app: &App, viewer: UserId, user: UserId) -> Result<Seen, Error> {
    let found = whereabouts(app, &[user]).await?;
    let relation = if viewer == user {
        Relation::Oneself
    } else if sharing(app, &[(viewer, user)]).await?.is_empty() {
        Relation::Stranger
    } else {
        Relation::Shares
    };
    let seen = found.get(&user).and_then(|found| found.seen_by(relation, Timestamp::now()));
    Ok(seen.unwrap_or(Seen::nothing_of(user)))
}

/// A user shows to these from now on whether they are there. Who watches them is told at once.
pub async fn show_to(app: &App, user: UserId, audience: Audience) -> Result<(), Error> {
    app.storage.show_to(user, audience).await?;
    if let Err(error) = app.fanout.presence(&[Hint { user, is_about_views: false }]).await {
        // A node that loses Redis registers anew, and every node looks at everybody again then.
        tracing::warn!(%error, "other nodes will find out later to whom a user shows their presence");
    }
    Ok(())
}

/// To whom a user shows whether they are there.
pub async fn shown_to(app: &App, user: UserId) -> Result<Audience, Error> {
    let kept = app.storage.sightings(&[user]).await?;
    Ok(kept.first().and_then(|kept| kept.audience).unwrap_or(app.settings.visible_to))
}
