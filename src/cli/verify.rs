//! `chatd verify`: compares what the log still holds with history, and tells each difference.

use std::fmt::Write as _;

use crate::app::open;
use crate::chat::verify::{Report, VerifyError, verify};
use crate::config::Config;

use super::{CliError, Exit, output};

/// Arguments of `chatd verify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Compares; differences are told as they are found, on stderr, and the counts at the end.
///
/// # Errors
/// There are differences (1), or storage or the log cannot be read (69).
pub async fn run(args: &Args, config: &Config) -> Result<(), CliError> {
    let books = open::books(config).await?;
    let number = books.storage.attach_log(books.source.identity()).await?;
    let mut tell = |difference: &_| complain(&format!("{difference}"));
    let report = verify(books.storage.as_ref(), books.source.as_ref(), number, &mut tell).await?;
    if args.json {
        let json = serde_json::to_string(&report)
            .map_err(|error| CliError::new(Exit::Fault, format!("the result cannot be written: {error}")))?;
        output::print(&format!("{json}\n"))?;
    } else {
        output::print(&told(&report))?;
    }
    match report.differences {
        0 => Ok(()),
        1 => Err(CliError::new(Exit::Fault, "log and history differ in one place".to_owned())),
        n => Err(CliError::new(Exit::Fault, format!("log and history differ in {n} places"))),
    }
}

impl From<VerifyError> for CliError {
    fn from(error: VerifyError) -> Self {
        Self::new(Exit::Dependency, error.to_string())
    }
}

fn complain(line: &str) {
    use std::io::Write as _;
    // Nobody is left to tell when stderr is closed.
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn told(report: &Report) -> String {
    let Report { records, stored, erased, retries, rejected, dead_letters, .. } = report;
    let mut out = String::new();
    let mut row = |count: &u64, what: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{count:>12}  {what}");
    };
    row(records, "records of the log compared, of which");
    row(stored, "are in history once, as the log has them");
    row(erased, "  (their content erased since)");
    row(retries, "were retries of those");
    row(rejected, "were rejected");
    row(dead_letters, "are dead letters");
    row(&report.aged_out, "events whose record the log does not hold any more");
    row(&report.waiting, "records that are not applied yet");
    row(&report.conversations, "conversations looked at for order");
    row(&report.differences, "differences");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_are_told_in_rows() {
        let report = Report { records: 12, stored: 10, retries: 2, conversations: 3, ..Report::default() };
        let text = told(&report);
        assert!(text.starts_with("          12  records of the log compared"), "{text}");
        assert!(text.ends_with("           0  differences\n"), "{text}");
    }
}
