//! `chatd serve`: sockets and REST, beside other processes.

use crate::config::Config;

use super::{CliError, not_in_this_build};

/// Runs the role until it is told to stop.
///
/// # Errors
/// Embedded backends (78), which belong to one process.
pub async fn run(config: &Config) -> Result<(), CliError> {
    config.require_shared("serve")?;
    Err(not_in_this_build("serve"))
}
