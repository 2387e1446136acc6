//! What a session waits for of frames that the log knows nothing of: `typing`.

use std::sync::Arc;

use futures_util::future::LocalBoxFuture;

use super::work::Judged;
use crate::app::App;
use crate::chat::send::Target;
use crate::chat::{Caller, typing};
use crate::delivery::Place;
use crate::ws::protocol::Ref;

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
