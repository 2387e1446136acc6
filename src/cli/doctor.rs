//! `chatd doctor`: looks at everything that a deployment stands on, and says of each what to do.

use std::fmt::Write as _;

use crate::app::doctor::{Finding, Severity, examine};
use crate::config::Config;

use super::{CliError, Exit, output};

/// Arguments of `chatd doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print the findings as a JSON array
    #[arg(long)]
    pub json: bool,
    /// Look as if production rules were on
    #[arg(long)]
    pub production: bool,
}

/// Looks, and prints what it finds.
///
/// # Errors
/// There are problems (1).
pub async fn run(args: &Args, config: &Config) -> Result<(), CliError> {
    let findings = examine(config, args.production).await;
    if args.json {
        let json = serde_json::to_string_pretty(&findings).map_err(|error| {
            CliError::new(Exit::Fault, format!("the findings cannot be written: {error}"))
        })?;
        output::print(&format!("{json}\n"))?;
    } else {
        output::print(&told(&findings))?;
    }
    match findings.iter().filter(|finding| finding.severity == Severity::Problem).count() {
        0 => Ok(()),
        1 => Err(CliError::new(Exit::Fault, "there is a problem")),
        n => Err(CliError::new(Exit::Fault, format!("there are {n} problems"))),
    }
}

fn told(findings: &[Finding]) -> String {
    let mut out = String::new();
    for Finding { area, severity, what, remedy } in findings {
        let mark = match severity {
            Severity::Ok => "ok",
            Severity::Notice => "note",
            Severity::Warning => "warning",
            Severity::Problem => "PROBLEM",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{mark:<8} {area:<8} {what}");
        if let Some(remedy) = remedy {
            let _ = writeln!(out, "{:<17} → {remedy}", "");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_stands_below_what_was_found() {
        let fine = Finding { area: "log", severity: Severity::Ok, what: "reached".into(), remedy: None };
        let remedy = Some("start it".to_owned());
        let bad = Finding { area: "redis", severity: Severity::Problem, what: "away".into(), remedy };
        let expected = "ok       log      reached\n\
                        PROBLEM  redis    away\n                  → start it\n";
        assert_eq!(told(&[fine, bad]), expected);
    }
}
