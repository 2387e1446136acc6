//! What every answer gets, whoever made it.

mod cors;
mod envelope;
mod request_id;

pub use cors::cors;
pub use envelope::envelope;
