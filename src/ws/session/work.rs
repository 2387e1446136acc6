//! What a session waits for besides its socket: steps of a resume, receipts, tokens. Each owns what it needs.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;

use crate::app::App;
use crate::auth::AuthError;
use crate::chat::resume::{From, Part, Resume};
use crate::chat::{Caller, authorize, caller, receipts};
use crate::domain::{ConversationId, Error, Secret, Seq, UserId};
use crate::ws::protocol::Ref;

/// The pause before a resume is tried again.
const RESUME_RETRY: Duration = Duration::from_secs(1);

/// A resume and its next parts; none when it is done.
pub type Resuming = LocalBoxFuture<'static, (Option<Resume>, Result<Vec<Part>, Error>)>;
/// What became of a `received` or `read`.
pub type Judged = (Ref, Result<(), Error>);
/// What became of an `auth`.
pub type Renewing = LocalBoxFuture<'static, (Ref, Result<Caller, Error>)>;

/// The next step of a resume, or its beginning; after a failure a while later.
pub fn go_on(app: &Arc<App>, user: UserId, from: From, resume: Option<Resume>, failed: bool) -> Resuming {
    let app = Arc::clone(app);
    Box::pin(async move {
        if failed {
            tokio::time::sleep(RESUME_RETRY).await;
        }
        let mut resume = match resume {
            Some(resume) => resume,
            None => match Resume::begin(&app, user, from).await {
                Ok(resume) => resume,
                Err(error) => return (None, Err(error)),
            },
        };
        let parts = resume.next(&app).await;
        (Some(resume), parts)
    })
}

pub fn judge(
    app: &Arc<App>,
    caller: &Caller,
    mark: Ref,
    (conversation, seq, known): (ConversationId, Seq, Seq),
    read: bool,
) -> LocalBoxFuture<'static, Judged> {
    let (app, user) = (Arc::clone(app), caller.id());
    Box::pin(async move {
        let result = match authorize::member(user, conversation) {
            Ok(member) if read => receipts::read(&app, member, seq, known).await,
            Ok(member) => receipts::received(&app, member, seq, known).await,
            Err(error) => Err(error),
        };
        (mark, result)
    })
}

pub fn renew(app: &Arc<App>, mark: Ref, token: Secret<String>) -> Renewing {
    let app = Arc::clone(app);
    Box::pin(async move {
        let renewed = match app.tokens.verify(token.expose()) {
            Ok(claims) => caller::identify(&app, &claims).await,
            Err(error) => Err(AuthError::into(error)),
        };
        (mark, renewed)
    })
}
