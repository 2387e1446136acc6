//! What a session waits for of frames that the log knows nothing of: `typing` and `watch`.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;

use super::work::Judged;
use crate::app::App;
use crate::chat::send::Target;
use crate::chat::wire::UserRef;
use crate::chat::{Caller, presence, typing};
use crate::delivery::watchers::{Full, Request};
use crate::delivery::{Attachment, Item, Place};
use crate::domain::{Error, ErrorCode};
use crate::ws::protocol::{self, Ref};

/// Between two tries to find out who is named, while storage is away.
const RETRY: Duration = Duration::from_secs(1);

/// `typing`.
pub fn say_typing(
    app: &Arc<App>,
    caller: &Caller,
    place: Place,
    mark: Ref,
    (target, is_active): (Target, bool),
) -> LocalBoxFuture<'static, Judged> {
    let (app, caller) = (Arc::clone(app), caller.clone());
    Box::pin(async move { (mark, typing::say(&app, &caller, target, is_active, place).await) })
}

/// `watch`. What cannot be answered now is answered when it can be; until then an error tells so, once.
pub fn watch(
    app: &Arc<App>,
    caller: &Caller,
    attachment: &Attachment,
    mut mark: Ref,
    users: Vec<UserRef>,
) -> LocalBoxFuture<'static, Judged> {
    let (app, caller, place) = (Arc::clone(app), caller.clone(), attachment.place());
    let mailbox = Arc::clone(attachment.mailbox());
    let turn = app.hub.watchers().turn(place);
    let error = Error::unavailable("who is online cannot be known now; it is told as soon as it is known");
    let mut unavailable = Some(protocol::error(&error, &mark, None));
    Box::pin(async move {
        while app.hub.watchers().is_newest(place, turn) {
            match presence::named(&app, &caller, &users).await {
                Ok(users) => {
                    let (viewer, answered) = (caller.id(), mark.clone());
                    let request =
                        Request { place, mailbox, viewer, turn, users, mark: answered, unavailable };
                    let watched = app.hub.watchers().watch(request);
                    return (mark, watched.map_err(|Full| full()));
                }
                Err(error) if error.code == ErrorCode::Unavailable => {
                    if let Some(unavailable) = unavailable.take() {
                        // The error has answered; what comes later comes by itself.
                        mailbox.push(Item::Signal(unavailable));
                        mark = None;
                    }
                    tokio::time::sleep(RETRY).await;
                }
                Err(error) => return (mark, Err(error)),
            }
        }
        (mark, Ok(()))
    })
}

fn full() -> Error {
    Error::new(ErrorCode::Overloaded, "this server watches as many users as it can; try again later")
}
