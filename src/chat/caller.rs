//! From a credential to the person who calls.

use std::sync::Arc;

use crate::app::App;
use crate::auth::Claims;
use crate::domain::user::normalized_name;
use crate::domain::{Error, ErrorCode, Timestamp, User, UserId};

/// Somebody whose token was verified.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The user.
    pub user: Arc<User>,
    /// The issuer of the token, for external ids in requests; empty where it had none.
    pub issuer: String,
    /// When the token ends, where it does.
    pub expires_at: Option<Timestamp>,
}

impl Caller {
    /// The user's id.
    pub fn id(&self) -> UserId {
        self.user.id
    }
}

/// The user of verified claims, made where absent and allowed. A disabled user is `unauthorized`.
pub async fn identify(app: &App, claims: &Claims) -> Result<Caller, Error> {
    let name = claims.name.as_deref().and_then(|name| normalized_name(name).ok());
    let known = app.directory.by_subject(&claims.subject).await?;
    let user = match known {
        Some(user) if !user.name.is_empty() || name.is_none() => user,
        Some(_) => app.directory.provision(&claims.subject, name.as_deref()).await?,
        None if app.settings.provision => app.directory.provision(&claims.subject, name.as_deref()).await?,
        None => return Err(Error::new(ErrorCode::Unauthorized, "the token's user is not known here")),
    };
    if user.disabled {
        return Err(Error::new(ErrorCode::Unauthorized, "this user is disabled"));
    }
    Ok(Caller { user, issuer: claims.issuer.clone(), expires_at: claims.expires_at })
}
