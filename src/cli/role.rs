//! `chatd all`, `chatd serve`, `chatd consume`: a role until it is told to stop.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::{CliError, Exit, output, token};
use crate::app::build::BuildError;
use crate::config::{Config, LogBackend, MailBackend, PresenceBackend, StorageBackend, secrets};
use crate::domain::{Timestamp, UserId};
use crate::roles::run::{Ready, Role, RunError};
use crate::storage::StorageError;
use crate::telemetry::logs;

/// Runs a role until it is told to stop.
///
/// # Errors
/// A data folder that cannot be used or is in use, embedded backends of a role that shares its work (78), a port
/// in use or a dependency that is away (69), a drain that took too long (75).
pub async fn run(config: &Config, role: Role) -> Result<(), CliError> {
    match role {
        Role::All => {}
        Role::Serve => config.require_shared("serve")?,
        Role::Consume => config.require_shared("consume")?,
    }
    let json = config.telemetry.format == crate::config::LogFormat::Json;
    logs::init(&config.telemetry.filter, json).map_err(|e| CliError::new(Exit::Config, e.to_string()))?;
    let ended = crate::roles::run::run(config, role, |ready| {
        for notice in &ready.notices {
            tracing::warn!("{notice}");
        }
        match banner(config, role, ready) {
            // A closed stdout is no reason to stop serving.
            Ok(text) => drop(output::print(&text)),
            Err(error) => tracing::warn!("{error}"),
        }
    });
    ended.await.map_err(Into::into)
}

impl From<RunError> for CliError {
    fn from(error: RunError) -> Self {
        let exit = match &error {
            // Not away, but another one's.
            RunError::Build(BuildError::Storage(StorageError::ForeignLog { .. })) => Exit::Config,
            RunError::Build(BuildError::Open(error)) if error.is_away() => Exit::Dependency,
            RunError::Build(BuildError::Log(_)) => Exit::Dependency,
            RunError::Build(BuildError::Storage(_)) | RunError::Bind(_) | RunError::Storage(_) => {
                Exit::Dependency
            }
            RunError::Build(_) | RunError::Sender(_) => Exit::Config,
            RunError::Signals(_) | RunError::Worker(_) => Exit::Fault,
            RunError::DrainDeadline => Exit::DrainDeadline,
        };
        Self::new(exit, error.to_string())
    }
}

/// What the first minute needs: what runs, where it lies, where to connect, how to try it, stop it, reset it.
fn banner(config: &Config, role: Role, ready: &Ready) -> Result<String, CliError> {
    let port = ready.addresses.first().map_or(config.http.port, SocketAddr::port);
    let base = config.http.base_url(port);
    let mut text = format!("\nchatd {} is running\n\n", env!("CARGO_PKG_VERSION"));
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:<10} {value}");
    };
    if role == Role::Consume {
        row("health", format!("{base}/ready"));
    } else {
        row("open", base.clone());
        row("sockets", format!("{}/ws", base.replacen("http", "ws", 1)));
    }
    row("listens", ready.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
    if let Some(admin) = ready.admin.first() {
        row("admin", format!("http://{admin}"));
    }
    row("storage", storage(config));
    row("log", log(config));
    row("presence", presence(config));
    row("mail", mail(config));
    if config.keeps_data() {
        row("data", format!("{}   (everything that is kept)", config.data.display()));
    }
    let example = if config.production() || role != Role::All { "" } else { &example(config, &base)? };
    text.push_str(example);
    text.push_str("\nStop with Ctrl-C.");
    if config.keeps_data() {
        let _ = write!(text, " Begin anew: stop, then remove {}.", config.data.display());
    }
    text.push_str("\n\n");
    Ok(text)
}

/// A token and commands to paste; not under production rules, where the host application signs tokens.
fn example(config: &Config, base: &str) -> Result<String, CliError> {
    if secrets::jwt_secret(config)?.is_none() || !config.http.is_loopback() {
        return Ok(String::new());
    }
    let id = |id| UserId::new(id).map_err(|error| CliError::new(Exit::Fault, error.0));
    let token = token::sign(config, id(1001)?, "Ana", None, Timestamp::now())?;
    Ok(format!(
        "\nTry it as Ana (1001), who writes to Ben (1002):\n\n  \
         TOKEN={token}\n  \
         curl -s {base}/v1/messages -H \"Authorization: Bearer $TOKEN\" \\\n    \
         -H 'Content-Type: application/json' -d '{{\"to\":1002,\"content\":\"Hello Ben\"}}'\n  \
         curl -s '{base}/messages?user1=1001&user2=1002' -H \"Authorization: Bearer $TOKEN\"\n\n\
         Tokens for others: chatd token --user 1002 --name Ben\n"
    ))
}

fn storage(config: &Config) -> String {
    match &config.database.backend {
        StorageBackend::Sqlite { path } => format!("SQLite, {}", path.display()),
        StorageBackend::Postgres { .. } => "PostgreSQL".to_owned(),
    }
}

fn log(config: &Config) -> String {
    match &config.log.backend {
        LogBackend::Embedded { path } => format!("embedded, {}", path.display()),
        LogBackend::Kafka(kafka) => format!("Kafka, {}", kafka.brokers.join(", ")),
    }
}

fn presence(config: &Config) -> String {
    match &config.presence.backend {
        PresenceBackend::Memory => "in memory".to_owned(),
        PresenceBackend::Redis(_) => "Redis".to_owned(),
    }
}

fn mail(config: &Config) -> String {
    match &config.mail.backend {
        MailBackend::Capture { dir } => format!("captured in {}", dir.display()),
        MailBackend::Smtp(smtp) => format!("{}:{}", smtp.host, smtp.port),
    }
}
