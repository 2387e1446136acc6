//! What exists, without I/O: knows nothing of storage, sockets or settings.

pub mod email;
pub mod error;
pub mod ids;
pub mod secret;
pub mod time;

pub use email::{EmailAddress, EmailAddressError};
pub use error::{Error, ErrorCode};
pub use ids::{ClientId, ConversationId, ConversationKey, MessageId, Seq, UserId};
pub use secret::Secret;
pub use time::Timestamp;
