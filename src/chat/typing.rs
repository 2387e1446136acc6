//! Who is typing: checked like a message, told to the other members, never kept.

use super::Caller;
use super::send::{Target, conversation_of};
use crate::app::App;
use crate::delivery::hub::members;
use crate::delivery::typing::MEMBERS_MAX;
use crate::delivery::{FanoutError, Place};
use crate::domain::Error;
use tokio::time::Instant;

/// Somebody says on a socket that they type, or no more. Whom they may write to is asked as for a message.
pub async fn say(
    app: &App,
    caller: &Caller,
    target: Target,
    is_active: bool,
    place: Place,
) -> Result<(), Error> {
    let conversation = conversation_of(app, caller, &target).await?;
    if members(conversation).count() <= MEMBERS_MAX {
        app.hub.typers().say(place, caller.id(), conversation, is_active, Instant::now());
    }
    Ok(())
}

/// Tells the members what there is to tell. What does not arrive is not told again.
pub async fn tell(app: &App) -> Result<(), FanoutError> {
    let typing = app.hub.typers().take(Instant::now());
    if typing.is_empty() { Ok(()) } else { app.fanout.typing(typing).await }
}
