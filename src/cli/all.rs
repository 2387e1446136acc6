//! `chatd all`: everything in one process.

use crate::config::Config;

use super::{CliError, not_in_this_build};

/// Runs a whole server until it is told to stop.
///
/// # Errors
/// A data folder that cannot be used or is in use (78), a port in use (69), a drain that took too long (75).
pub async fn run(_config: &Config) -> Result<(), CliError> {
    Err(not_in_this_build("all"))
}
