//! Messages to those who are away: the port `Channel`, policy and worker. Adapters: `smtp`, `capture`.
//!
//! A channel is used in two steps, so that a mail can be looked at once more when the way stands: the
//! worker connects, asks again whether the mail is still due, then sends; a burst goes over one connection.

pub mod capture;
mod compose;
mod mime;
pub mod policy;
mod sender;
mod settling;
pub mod smtp;
mod tell;
pub mod template;
pub mod worker;

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;

use crate::domain::{EmailAddress, Timestamp};

pub use policy::{Backoff, NotifySettings};
pub use template::{ContentPolicy, Letter, Quote};
pub use worker::{Published, Worker};

/// A way to reach somebody who has no device here. Cheap to share; holds no open connection.
#[async_trait]
pub trait Channel: Send + Sync {
    /// A short name for logs and metrics: `smtp`, `capture`.
    fn name(&self) -> &'static str;

    /// The longest that `connect` and one `send` take together; a lease on a mail is longer.
    fn longest_send(&self) -> Duration {
        Duration::from_secs(60)
    }

    /// The file in which a mail lies that was sent, where this channel keeps it on this machine.
    fn kept_at(&self, _mail: &Mail) -> Option<PathBuf> {
        None
    }

    /// Opens the way.
    ///
    /// # Errors
    /// Only [`ChannelError::Temporary`]: nothing is known about any mail yet.
    async fn connect(&self) -> Result<Box<dyn Connection>, ChannelError>;
}

/// An open way. Mails go one after the other.
///
/// After [`ChannelError::Permanent`] it takes the next mail; after [`ChannelError::Temporary`] drop it and
/// connect again (used once more all the same, it sends or answers `Temporary`, never the wrong mail).
#[async_trait]
pub trait Connection: Send {
    /// Hands one mail over; `Ok` means that the other side has taken the responsibility for it.
    ///
    /// When the future is dropped or ends in `Temporary`, the other side may have taken the mail all the
    /// same: the next try carries the same Message-ID, by which it can be known.
    ///
    /// # Errors
    /// [`ChannelError::Permanent`] when this mail will never be taken, else [`ChannelError::Temporary`].
    async fn send(&mut self, mail: &Mail) -> Result<(), ChannelError>;

    /// Says goodbye, for the sake of the other side's logs. To drop the connection instead does no harm.
    async fn close(self: Box<Self>) {}
}

/// Why a mail was not taken. The reason is a reply's class (`550 5.1.1`) or a few fixed words: it holds no
/// address, no content and nothing else that the other side wrote, so it can be logged and stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// The way or its set-up is at fault (network, time-out, 4xx, a wrong password): try again later.
    #[error("not now: {reason}")]
    Temporary {
        /// The reply's class, or a few fixed words.
        reason: String,
    },
    /// The mail or its receiver was refused for good: another try would get the same answer.
    #[error("refused: {reason}")]
    Permanent {
        /// The reply's class, or a few fixed words.
        reason: String,
    },
}

impl ChannelError {
    /// A fault of the way.
    pub fn temporary(reason: impl Into<String>) -> Self {
        Self::Temporary { reason: reason.into() }
    }

    /// A refusal of this mail.
    pub fn permanent(reason: impl Into<String>) -> Self {
        Self::Permanent { reason: reason.into() }
    }

    /// The reply's class, or a few fixed words.
    pub fn reason(&self) -> &str {
        match self {
            Self::Temporary { reason } | Self::Permanent { reason } => reason,
        }
    }
}

/// One mail, ready to go. The same values give the same bytes, however often it is tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// `left@right` without the angle brackets; the same at each try, so that duplicates can be known.
    pub message_id: String,
    /// Who it comes from, in the envelope as well.
    pub from: Address,
    /// Who it goes to.
    pub to: Address,
    /// The subject, in Unicode; line ends in it become spaces.
    pub subject: String,
    /// The text, in Unicode, with `\n` as line end.
    pub text: String,
    /// The moment of the Date header; the same at each try.
    pub date: Timestamp,
}

/// A checked address and the name that is shown with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    email: EmailAddress,
    name: Option<String>,
}

impl Address {
    /// An address with a name to show: control and formatting characters are taken out of it, and a name
    /// of which nothing is left is none.
    pub fn new(email: EmailAddress, name: Option<&str>) -> Self {
        let name = name.map(template::plain_name).filter(|name| !name.is_empty());
        Self { email, name }
    }

    /// The address itself.
    pub fn email(&self) -> &EmailAddress {
        &self.email
    }

    /// The name to show, where there is one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

impl From<EmailAddress> for Address {
    fn from(email: EmailAddress) -> Self {
        Self { email, name: None }
    }
}
