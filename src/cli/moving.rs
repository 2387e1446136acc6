//! `chatd move --to postgres://…`: everything of one process into PostgreSQL, for many.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::app::build::BuildError;
use crate::app::moving::{MoveError, Moved, NextLog, move_to};
use crate::app::open::TargetError;
use crate::chat::transfer::Progress;
use crate::config::{Config, LogBackend, secrets};
use crate::domain::Secret;
use crate::storage::StorageError;

use super::{CliError, Exit, output};

/// A line of progress is told so often.
const TOLD_EVERY: Duration = Duration::from_secs(5);

/// Arguments of `chatd move`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to: postgres://USER:PASSWORD@HOST/DATABASE, an empty database [default: DATABASE_URL, which no list
    /// of processes shows]
    #[arg(long, value_name = "URL")]
    pub to: Option<String>,
    /// Print the result as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Moves, tells on stderr how far it is where that takes long, and at the end what is there and what to do next.
///
/// # Errors
/// The URL is none (2); the data folder, the new database or the topic cannot be used, hold something else, or a
/// server runs (78); a database or Kafka is away (69); what was copied is not the same (1).
pub async fn run(args: &Args, config: &Config) -> Result<(), CliError> {
    let to = target(args, config)?;
    let began = Instant::now();
    let mut told = began;
    let mut tell = |progress: Progress| {
        if told.elapsed() >= TOLD_EVERY {
            told = Instant::now();
            complain(&line(progress));
        }
    };
    let moved = move_to(config, &to, &mut tell).await?;
    for notice in &moved.notices {
        complain(&format!("chatd: {notice}"));
    }
    let secret = secret(config);
    if !args.json {
        return output::print(&text(config, &moved, secret.as_deref(), began.elapsed()));
    }
    let result = serde_json::json!({
        "moved": moved,
        "secret_file": secret.map(|path| path.display().to_string()),
        "seconds": began.elapsed().as_secs_f64(),
    });
    output::print(&format!("{result}\n"))
}

/// The database to move to. No sentence holds it, as it holds a password.
fn target(args: &Args, config: &Config) -> Result<Secret<String>, CliError> {
    let wrong = |sentence: &str| Err(CliError::new(Exit::Usage, sentence));
    let Some(url) = &args.to else {
        return match config.postgres_url() {
            Some(url) => Ok(url.clone()),
            None => {
                wrong("name the new database: --to postgres://USER:PASSWORD@HOST/DATABASE, or DATABASE_URL")
            }
        };
    };
    match url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase()).as_deref() {
        Some("postgres" | "postgresql") => Ok(Secret::new(url.clone())),
        _ => wrong("--to: expected postgres://USER:PASSWORD@HOST/DATABASE"),
    }
}

/// Where the secret lies that the old server signed tokens with, if it made one of its own.
fn secret(config: &Config) -> Option<PathBuf> {
    let path = secrets::own_secret_path(config);
    (config.auth.jwt_secret.is_none() && path.exists()).then_some(path)
}

fn complain(line: &str) {
    use std::io::Write as _;
    // Nobody is left to tell when stderr is closed.
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn line(Progress { table, rows, is_proof }: Progress) -> String {
    let what = if is_proof { "compared" } else { "copied" };
    format!("{table}: {rows} rows {what}")
}

fn text(config: &Config, moved: &Moved, secret: Option<&Path>, took: Duration) -> String {
    let mut out = format!("Moved to {} in {:.1} s:\n", moved.database, took.as_secs_f64());
    for copied in &moved.tables {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{:>12}  {:<14} sha256 {}", copied.rows, copied.table, &copied.sha256[..16]);
    }
    out.push_str("Counts and hashes of what was read and of what is there agree.\n");
    if moved.applied > 0 {
        let _ = writeln!(out, "{} accepted messages became history first.", moved.applied);
    }
    let on_kafka = matches!(config.log.backend, LogBackend::Kafka(_));
    out.push_str(match moved.log {
        NextLog::Any => "It follows the first message log that a server meets with it.\n",
        NextLog::Same => "It follows the message log that the old server followed.\n",
        NextLog::Kafka { .. } => "It follows Kafka's topic from here on.\n",
    });
    out.push_str("Clients' cursors and tokens stay good.\n\nOn each new server, set\n");
    let mut set = |name: &str, value: &str| {
        let _ = writeln!(out, "  {name:<16} {value}");
    };
    set("DATABASE_URL", "that database");
    if let Some(schema) = &config.database.schema {
        set("CHATD_DATABASE__SCHEMA", schema);
    }
    if on_kafka {
        set("KAFKA_BROKERS", "as now, and whatever else of Kafka is set now");
        set("REDIS_URL", "redis://HOST:PORT");
    }
    match secret {
        Some(path) => {
            set("JWT_SECRET_FILE", &format!("a copy of {}, which signed tokens so far", path.display()));
        }
        None if config.auth.jwt_secret.is_some() => set("JWT_SECRET", "as now"),
        None => {}
    }
    out.push_str(match (on_kafka, moved.log) {
        (true, _) => {
            "\nThen `chatd doctor`, and start `chatd serve` and `chatd consume`, as many as you need.\n"
        }
        (false, NextLog::Any) => "\nThen `chatd doctor`, and start `chatd all`.\n",
        (false, _) => {
            "\nThen `chatd doctor`, and start `chatd all` on this data folder: the message log stays in it.\n"
        }
    });
    let _ = writeln!(
        out,
        "The old history in {} is unchanged, and no server starts on it any more.",
        config.data.display()
    );
    out
}

impl From<MoveError> for CliError {
    fn from(error: MoveError) -> Self {
        use crate::chat::transfer::TransferError as Transfer;
        let away = |error: &StorageError| matches!(error, StorageError::Unavailable(_));
        let exit = match &error {
            MoveError::Target(TargetError::Url(_)) => Exit::Usage,
            MoveError::Source(BuildError::Open(open)) | MoveError::Target(TargetError::Open(open))
                if open.is_away() =>
            {
                Exit::Dependency
            }
            MoveError::Source(BuildError::Storage(storage)) if away(storage) => Exit::Dependency,
            MoveError::Source(BuildError::Log(_)) | MoveError::Apply(_) | MoveError::Open(_) => {
                Exit::Dependency
            }
            MoveError::Transfer(
                Transfer::Source { source, .. } | Transfer::Target { source, .. } | Transfer::Begin(source),
            ) if away(source) => Exit::Dependency,
            MoveError::Transfer(_) => Exit::Fault,
            MoveError::Source(_)
            | MoveError::Target(_)
            | MoveError::Nothing(_)
            | MoveError::AlreadyThere { .. }
            | MoveError::Occupied { .. }
            | MoveError::TopicInUse(_)
            | MoveError::StandsStill { .. } => Exit::Config,
        };
        Self::new(exit, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::lock::LockError;
    use crate::chat::transfer::{Copied, TransferError};
    use crate::config::Sources;

    fn config(env: &[(&str, &str)]) -> Config {
        let sources = env.iter().fold(Sources::new("d"), |s, (name, value)| s.with(name, value));
        Config::load(&sources).unwrap()
    }

    fn to(url: Option<&str>, config: &Config) -> Result<Secret<String>, CliError> {
        target(&Args { to: url.map(str::to_owned), json: false }, config)
    }

    #[test]
    fn only_postgresql_is_moved_to_and_no_sentence_holds_the_url() {
        let plain = config(&[]);
        for good in ["postgres://u:hush@db/chat", "POSTGRESQL://db/chat"] {
            assert_eq!(to(Some(good), &plain).unwrap().expose(), good);
        }
        for bad in [Some(""), Some("db/chat"), Some("sqlite://hush"), Some("mysql://u:hush@db/chat"), None] {
            let error = to(bad, &plain).unwrap_err();
            assert_eq!(error.exit, Exit::Usage);
            assert!(error.sentence.contains("postgres://") && !error.sentence.contains("hush"), "{error}");
        }
        let set = config(&[("DATABASE_URL", "postgres://u:hush@db/chat")]);
        assert_eq!(to(None, &set).unwrap().expose(), "postgres://u:hush@db/chat");
        assert_eq!(to(Some("postgres://other/chat"), &set).unwrap().expose(), "postgres://other/chat");
    }

    #[test]
    fn what_is_wrong_decides_the_exit_code() {
        let away = || StorageError::Unavailable("away".into());
        let differs = TransferError::Differs { table: "events", here: 2, there: 1 };
        let unread = TransferError::Source { table: "events", source: away() };
        let newer = TransferError::Target { table: "users", source: StorageError::Refused("NUL".into()) };
        for (error, exit) in [
            (MoveError::Source(LockError::InUse("d".into()).into()), Exit::Config),
            (MoveError::Source(away().into()), Exit::Dependency),
            (MoveError::Target(TargetError::Url("a host is missing".into())), Exit::Usage),
            (MoveError::TopicInUse(3), Exit::Config),
            (MoveError::Transfer(differs), Exit::Fault),
            (MoveError::Transfer(unread), Exit::Dependency),
            (MoveError::Transfer(newer), Exit::Fault),
            (MoveError::Open(away()), Exit::Dependency),
        ] {
            let sentence = error.to_string();
            assert_eq!(CliError::from(error).exit, exit, "{sentence}");
        }
    }

    #[test]
    fn what_to_set_and_to_start_is_told() {
        let copied = |table, rows| Copied { table, rows, sha256: "0123456789abcdef0123".into() };
        let mut moved = Moved {
            database: "db:5432/chat".into(),
            applied: 3,
            tables: vec![copied("users", 7), copied("events", 100_000)],
            log: NextLog::Kafka { number: 2 },
            notices: Vec::new(),
        };
        let secret = Some(Path::new("d/secrets/jwt"));
        let told = text(&config(&[("KAFKA_BROKERS", "k:9092")]), &moved, secret, Duration::from_secs(1));
        for words in
            ["100000  events", "3 accepted messages", "JWT_SECRET_FILE", "KAFKA_BROKERS", "chatd serve"]
        {
            assert!(told.contains(words), "{words}: {told}");
        }
        moved.log = NextLog::Same;
        let with_secret = config(&[("JWT_SECRET", "0123456789abcdef0123456789abcdef")]);
        let told = text(&with_secret, &moved, None, Duration::from_secs(1));
        assert!(
            told.contains("JWT_SECRET ") && told.contains("chatd all") && !told.contains("_FILE"),
            "{told}"
        );
    }
}
