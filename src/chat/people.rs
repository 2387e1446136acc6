//! Looking people up, and what one says of oneself.

use std::sync::Arc;

use super::Caller;
use super::wire::UserRef;
use crate::app::App;
use crate::domain::{Error, ErrorCode, NameKey, ProfileChange, Subject, User};

/// People found by name at most.
const FOUND_MAX: u32 = 20;

/// Somebody by number or external id; who is disabled is as unknown as who never was.
pub async fn one(app: &App, caller: &Caller, user: UserRef) -> Result<Arc<User>, Error> {
    let subject = match user {
        UserRef::Id(id) => Subject::Id(id),
        UserRef::External { external_id } => {
            Subject::External { issuer: caller.issuer.clone(), id: external_id }
        }
    };
    let found = app.directory.by_subject(&subject).await?.filter(|user| !user.disabled);
    found.ok_or_else(|| Error::new(ErrorCode::NotFound, "no such user"))
}

/// People whose names begin so, by name, 20 at most.
pub async fn named(app: &App, beginning: &NameKey) -> Result<Vec<User>, Error> {
    Ok(app.directory.named(beginning, FOUND_MAX).await?)
}

/// Changes what the caller says of themselves; returns the caller as they are now. `subject` is that of the
/// caller's token.
pub async fn change(
    app: &App,
    caller: &Caller,
    subject: &Subject,
    change: &ProfileChange,
) -> Result<Arc<User>, Error> {
    let changed = app.directory.change(subject, caller.id(), change).await?;
    changed.ok_or_else(|| Error::new(ErrorCode::Unauthorized, "the token's user is not known here"))
}
