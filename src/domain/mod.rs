//! What exists, without I/O: knows nothing of storage, sockets or settings.

pub mod content;
pub mod cursor;
pub mod email;
pub mod error;
pub mod event;
pub mod history;
pub mod ids;
pub mod position;
pub mod presence;
pub mod profile;
pub mod record;
pub mod rights;
pub mod secret;
pub mod time;
pub mod user;

pub use content::{Content, Data};
pub use cursor::{CursorScope, ListPlace};
pub use email::{EmailAddress, EmailAddressError};
pub use error::{Error, ErrorCode};
pub use event::{Event, EventBody, Message, Outcome, Rejection};
pub use ids::{ClientId, ConversationId, ConversationKey, MessageId, Seq, UserId};
pub use position::{Frontier, LogNumber, Offset, Partition, Position};
pub use presence::{Audience, Relation, Seen, Status, Whereabouts};
pub use profile::{NameKey, ProfileChange};
pub use record::{Digest, MessageBody, Record, RecordBody};
pub use secret::Secret;
pub use time::Timestamp;
pub use user::{Subject, User};
