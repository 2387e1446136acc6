//! The commands of the executable: one file each, which takes its arguments and the settings.
//!
//! Stdout belongs to what a command prints, stderr to its error in a sentence and to the logs.

mod backup;
pub mod bench;
mod completions;
mod config;
mod doctor;
mod exit;
mod health;
mod help;
mod log;
mod migrate;
mod moving;
mod output;
mod role;
mod token;
mod user;
mod verify;

use std::ffi::OsString;
use std::future::Future;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{FromArgMatches, Parser, Subcommand};

pub use exit::{CliError, Exit};

use crate::config::{Config, Sources};
use crate::roles::run::Role;

/// A chat server: messages in one order on every device, and a mail to who was away
#[derive(Debug, Parser)]
#[command(name = "chatd", version, after_help = help::EXAMPLES, arg_required_else_help = true)]
pub struct Cli {
    /// Folder of everything that is kept
    #[arg(long, global = true, display_order = 100, value_name = "DIR", default_value = "./data")]
    pub data: PathBuf,
    /// Configuration file [default: $CHATD_CONFIG, else ./chatd.toml where present]
    #[arg(long, global = true, display_order = 101, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a whole server in one process
    All,
    /// Run sockets and REST only, beside `consume`, on shared backends
    Serve,
    /// Turn the log into history, live events and mails only, on shared backends
    Consume,
    /// Add, import or list users
    #[command(subcommand)]
    User(user::User),
    /// Print a token for a user
    Token(token::Args),
    /// Check or show the settings
    #[command(subcommand)]
    Config(config::Command),
    /// Bring the database to this version's schema
    Migrate,
    /// Copy a server's files, also of a running one
    Backup(backup::Args),
    /// Move a stopped server's users and history to PostgreSQL, for many servers
    Move(moving::Args),
    /// Look at every backend and setting, and say what to do
    Doctor(doctor::Args),
    /// Compare what the message log holds with history, and tell each difference
    Verify(verify::Args),
    /// Replay the message log where it and the database do not go together any more
    #[command(subcommand)]
    Log(log::Command),
    /// Ask the server of these settings whether it is alive
    Health(health::Args),
    /// Measure a running server
    Bench(bench::BenchArgs),
    /// Print a script that completes commands in your shell
    Completions(completions::Args),
}

/// Parses the process's arguments and runs the command.
pub fn main() -> ExitCode {
    match parse(std::env::args_os()) {
        Ok(cli) => run(cli).into(),
        Err(error) => {
            // Nobody is left to tell when stdout or stderr is closed.
            let _ = error.print();
            if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() }
        }
    }
}

/// Reads a command line.
///
/// # Errors
/// It is wrong, or asks for help or the version: clap's text to print.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    Cli::from_arg_matches(&help::command().try_get_matches_from(arguments)?)
}

/// Runs a command to its end, and tells on stderr why it failed.
pub fn run(cli: Cli) -> Exit {
    match dispatch(&cli) {
        Ok(()) => Exit::Done,
        Err(error) => {
            // Nobody is left to tell when stderr is closed.
            let _ = writeln!(std::io::stderr(), "chatd: {error}");
            error.exit
        }
    }
}

fn dispatch(cli: &Cli) -> Result<(), CliError> {
    // A package is built without any settings around.
    if let Command::Completions(args) = &cli.command {
        return completions::run(args);
    }
    // The driver measures a server that may run elsewhere, with other settings.
    if let Command::Bench(args) = &cli.command {
        return bench::run(args, &cli.data);
    }
    let settings = Config::load(&Sources::of_process(&cli.data, cli.config.as_deref())?)?;
    match &cli.command {
        Command::All => block_on(role::run(&settings, Role::All)),
        Command::Serve => block_on(role::run(&settings, Role::Serve)),
        Command::Consume => block_on(role::run(&settings, Role::Consume)),
        Command::User(user) => block_on(user::run(user, &settings)),
        Command::Token(args) => token::run(args, &settings),
        Command::Config(command) => config::run(command, &settings),
        Command::Migrate => block_on(migrate::run(&settings)),
        Command::Move(args) => block_on(moving::run(args, &settings)),
        Command::Doctor(args) => block_on(doctor::run(args, &settings)),
        Command::Verify(args) => block_on(verify::run(args, &settings)),
        Command::Log(command) => block_on(log::run(command, &settings)),
        Command::Health(args) => health::run(args, &settings),
        Command::Backup(args) => block_on(backup::run(args, &settings)),
        Command::Completions(_) | Command::Bench(_) => Ok(()),
    }
}

fn block_on(command: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let failed = |error| CliError::new(Exit::Fault, format!("cannot start the async runtime: {error}"));
    runtime.map_err(failed)?.block_on(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Cli, clap::Error> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn the_folder_and_the_file_go_with_every_command() {
        for line in [
            "chatd --data d --config c all",
            "chatd all --data d --config c",
            "chatd user list --data d --config c",
            "chatd user add --id 101 --name user101 --email user101@example.test --data d --config c",
            "chatd user import users.jsonl --config c --data d",
            "chatd token --user 2 --name gargi --expires 1h --data d --config c",
            "chatd config check --data d --config c",
            "chatd config --config c show --data d",
            "chatd migrate --data d --config c",
            "chatd backup copy --data d --config c",
        ] {
            let cli = parsed(line).unwrap();
            assert_eq!((cli.data, cli.config), (PathBuf::from("d"), Some(PathBuf::from("c"))), "{line}");
        }
        assert_eq!(parsed("chatd all").unwrap().data, PathBuf::from("./data"));
    }

    #[test]
    fn the_version_and_help_are_no_errors_and_mistakes_are() {
        let version = parsed("chatd --version").unwrap_err();
        assert!(!version.use_stderr());
        assert_eq!(version.to_string(), format!("chatd {}\n", env!("CARGO_PKG_VERSION")));
        assert!(!parsed("chatd --help").unwrap_err().use_stderr());
        for line in [
            "chatd",
            "chatd al",
            "chatd token --user 0 --name x",
            "chatd token --user 1 --name x --expires 0s",
            "chatd user add --id 1099511627776 --name x",
            "chatd backup",
        ] {
            assert!(parsed(line).unwrap_err().use_stderr(), "{line}");
        }
    }

    #[tokio::test]
    async fn roles_that_share_say_what_to_set() {
        let config = Config::load(&Sources::new("data")).unwrap();
        for (role, name) in [(Role::Serve, "serve"), (Role::Consume, "consume")] {
            let error = role::run(&config, role).await.unwrap_err();
            assert_eq!(error.exit, Exit::Config);
            for word in [name, "DATABASE_URL", "KAFKA_BROKERS", "REDIS_URL", "chatd all"] {
                assert!(error.sentence.contains(word), "{error}");
            }
        }
    }

    #[test]
    fn several_mistakes_are_told_line_by_line() {
        let sources = Sources::new("data").with("PORT", "x").with("HOST", "y");
        let error = CliError::from(Config::load(&sources).unwrap_err());
        assert_eq!(error.exit, Exit::Config);
        let lines: Vec<_> = error.sentence.lines().collect();
        assert_eq!(lines[0], "2 settings are wrong:");
        assert!(lines[1].starts_with("  HOST: ") && lines[2].starts_with("  PORT: "));
    }
}
