//! `chatd migrate`: brings the database to this version's schema.

use crate::config::Config;

use super::{CliError, not_in_this_build};

/// Runs what is missing; nothing when all is there.
///
/// # Errors
/// The database is away (69) or cannot be changed.
pub async fn run(_config: &Config) -> Result<(), CliError> {
    Err(not_in_this_build("migrate"))
}
