//! `chatd consume`: the log into history, live events and mails.

use crate::config::Config;

use super::{CliError, not_in_this_build};

/// Runs the role until it is told to stop.
///
/// # Errors
/// Embedded backends (78), which belong to one process.
pub async fn run(config: &Config) -> Result<(), CliError> {
    config.require_shared("consume")?;
    Err(not_in_this_build("consume"))
}
