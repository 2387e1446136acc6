//! `chatd config check|show`: what is wrong with the settings, and what is in force.

use std::fmt::Write;

use crate::config::{Config, secrets};

use super::{CliError, output};

/// What to do with the settings.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Tell what is wrong, and exit 78, or that all is well
    Check,
    /// Print every setting and where it came from; secrets are redacted
    Show,
}

/// Does it; whatever makes loading fail has been told before.
///
/// # Errors
/// A server would refuse to start (78).
pub fn run(command: &Command, config: &Config) -> Result<(), CliError> {
    match command {
        Command::Check => {
            secrets::check(config)?;
            output::print(&checked(config))
        }
        Command::Show => output::print(&config.show()),
    }
}

fn checked(config: &Config) -> String {
    let rules = if config.production() { "production" } else { "development" };
    let mut out = format!("The configuration is fine; {rules} rules apply.\n");
    for notice in config.notices() {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "Note: {notice}");
    }
    out
}
