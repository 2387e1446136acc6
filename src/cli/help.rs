//! `chatd --help`: the commands in groups, by what somebody wants to do.

use std::fmt::Write;

use clap::{Command, CommandFactory};

use super::Cli;

/// Headings and their commands; what is in no group comes last.
const GROUPS: &[(&str, &[&str])] = &[
    ("Run a server", &["all", "serve", "consume"]),
    ("Users and tokens", &["user", "token"]),
    ("Care for it", &["doctor", "config", "migrate", "backup", "move", "verify", "log", "health", "bench"]),
];

/// Lines of at most 80 characters, so that no terminal wraps them.
pub(super) const EXAMPLES: &str = "\
Examples:
  chatd all                          a whole server on http://localhost:3000
  chatd user add --id 7 --name Mia --email mia@example.com
  chatd token --user 7 --name Mia    for ws://localhost:3000?token=…
  chatd config show                  every setting, and where it came from
  JWT_SECRET=… HOST=0.0.0.0 chatd all        reachable for others

Settings come from chatd.toml, then from variables such as
CHATD_WS__HEARTBEAT=10s, then from well-known names such as JWT_SECRET, PORT,
HOST, SMTP_URL and RUST_LOG. `chatd help COMMAND` tells more of a command.";

/// The command line with its grouped help.
pub(super) fn command() -> Command {
    let command = Cli::command();
    let template = format!(
        "{{about}}\n\n{{usage-heading}} {{usage}}\n{}\nOptions:\n{{options}}{{after-help}}",
        groups(&command)
    );
    command.help_template(template)
}

fn groups(command: &Command) -> String {
    let line = |out: &mut String, sub: &Command| {
        let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = writeln!(out, "  {:<13}{about}", sub.get_name());
    };
    let mut out = String::new();
    for (heading, names) in GROUPS {
        let _ = writeln!(out, "\n{heading}:");
        for sub in names.iter().filter_map(|name| command.find_subcommand(name)) {
            line(&mut out, sub);
        }
    }
    let grouped = |sub: &&Command| GROUPS.iter().any(|(_, names)| names.contains(&sub.get_name()));
    out.push_str("\nMore:\n");
    for sub in command.get_subcommands().filter(|sub| !grouped(sub)) {
        line(&mut out, sub);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verify_cli() {
        command().debug_assert();
    }

    #[test]
    fn help_names_every_command_once() {
        let help = command().render_help().to_string();
        for sub in Cli::command().get_subcommands() {
            let lines = help.lines().filter(|line| line.starts_with(&format!("  {} ", sub.get_name())));
            assert_eq!(lines.count(), 1, "{}\n{help}", sub.get_name());
            assert!(sub.get_about().is_some(), "{}", sub.get_name());
        }
        for (_, names) in GROUPS {
            for name in *names {
                assert!(Cli::command().find_subcommand(name).is_some(), "{name}");
            }
        }
        assert!(help.contains("--data <DIR>") && help.contains("Examples:"), "{help}");
    }
}
