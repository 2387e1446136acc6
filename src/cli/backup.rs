//! `chatd backup DIR`: a consistent copy of a server's files, also of a running one.

use std::path::PathBuf;

use crate::config::Config;

use super::{CliError, not_in_this_build};

/// Arguments of `chatd backup`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A folder for the copy; it is made, and must be empty where it exists
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

/// Copies the database and the log.
///
/// # Errors
/// The folder cannot be used, or a file cannot be read.
pub async fn run(_args: &Args, _config: &Config) -> Result<(), CliError> {
    Err(not_in_this_build("backup"))
}
