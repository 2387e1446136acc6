//! What chatd does, one verb a file. Free functions, context first; knows ports, no adapter.

pub mod apply;
pub mod authorize;
pub mod batch;
pub mod caller;
pub mod change;
pub mod conversations;
pub mod deliver;
pub mod directory;
pub mod history;
pub mod people;
pub mod presence;
pub mod receipts;
pub mod recent;
pub mod resume;
pub mod send;
pub mod transfer;
pub mod typing;
pub mod verify;
pub mod wire;

use crate::domain::{Error, ErrorCode};
use crate::pipeline::LogError;
use crate::storage::StorageError;

pub use authorize::Member;
pub use caller::Caller;

impl From<StorageError> for Error {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Unavailable(_) | StorageError::Superseded => {
                Self::unavailable("storage is away; try again")
            }
            StorageError::Refused(_) | StorageError::ForeignLog { .. } => {
                tracing::error!(%error, "storage refused a request");
                Self::new(ErrorCode::Internal, "a fault of ours; it has been logged")
            }
        }
    }
}

impl From<LogError> for Error {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Unavailable(_) => {
                Self::unavailable("the message log is away; try again with the same client_id")
            }
            LogError::Behind => {
                Self::unavailable("a message sent before this one failed; try both again, in order")
            }
            LogError::Overloaded => Self::new(ErrorCode::Overloaded, "too much is waiting; try again"),
            LogError::OutOfRange { .. } | LogError::Corrupt(_) => {
                tracing::error!(%error, "the message log is damaged");
                Self::unavailable("the message log is damaged; its operator has been told")
            }
        }
    }
}
