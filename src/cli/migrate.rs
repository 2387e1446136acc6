//! `chatd migrate`: brings the database to this version's schema.

use std::fmt::Write;

use crate::app::open;
use crate::config::Config;

use super::{CliError, output};

/// Runs what is missing; nothing when all is there.
///
/// # Errors
/// The database cannot be used or changed (78).
pub async fn run(config: &Config) -> Result<(), CliError> {
    let ran = open::migrate(config).await?;
    output::print(&told(&open::storage_name(config), &ran))
}

fn told(name: &str, ran: &[String]) -> String {
    if ran.is_empty() {
        return format!("{name} has this version's schema already; nothing to do.\n");
    }
    let plural = if ran.len() == 1 { "" } else { "s" };
    let mut out = format!("{name} has this version's schema now; ran {} migration{plural}:\n", ran.len());
    for version in ran {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "  {version}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_migration_that_ran_is_named() {
        let ran = ["00000000000001".to_owned()];
        let expected = "d/chatd.db has this version's schema now; ran 1 migration:\n  00000000000001\n";
        assert_eq!(told("d/chatd.db", &ran), expected);
        assert!(told("d/chatd.db", &[]).contains("nothing to do"));
    }
}
