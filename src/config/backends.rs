//! Which technology does what: chosen by URLs, embedded where none is set.

use std::path::PathBuf;

use crate::domain::Secret;

use super::Config;
use super::error::ConfigError;
use super::kafka::Kafka;
use super::reader::Reader;
use super::redis::Redis;

/// Where users, conversations and history are kept.
#[derive(Debug, Clone)]
pub enum StorageBackend {
    /// One SQLite file.
    Sqlite {
        /// The file.
        path: PathBuf,
    },
    /// PostgreSQL.
    Postgres {
        /// `postgres://…`.
        url: Secret<String>,
    },
}

/// Where a message is durable before it is accepted.
#[derive(Debug, Clone)]
pub enum LogBackend {
    /// A second SQLite file.
    Embedded {
        /// The file.
        path: PathBuf,
    },
    /// Kafka.
    Kafka(Kafka),
}

/// Who knows which user is connected where.
#[derive(Debug, Clone)]
pub enum PresenceBackend {
    /// This process alone.
    Memory,
    /// Redis.
    Redis(Redis),
}

/// Where mail goes.
#[derive(Debug, Clone)]
pub enum MailBackend {
    /// A file for each mail.
    Capture {
        /// Their folder.
        dir: PathBuf,
    },
    /// A mail server.
    Smtp(Smtp),
}

/// A mail server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Smtp {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// When TLS begins.
    pub security: SmtpSecurity,
    /// User and password, decoded.
    pub credentials: Option<(String, Secret<String>)>,
}

/// When TLS begins on a connection to a mail server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpSecurity {
    /// At once (`smtps://`).
    Implicit,
    /// By STARTTLS, or not at all: `smtp://` with credentials.
    StartTlsRequired,
    /// By STARTTLS where the server offers it: `smtp://` without credentials.
    StartTlsIfOffered,
}

/// Refuses what this release has no adapter for.
pub(super) fn refuse_missing(r: &mut Reader<'_>, config: &Config) {
    if config.auth.jwks_url.is_some() {
        let sentence = "this build reads no key sets; they come with a later release: set \
                        auth.jwt_public_key_file to the key's PEM in place of auth.jwks_url";
        r.problem("auth.jwks_url", sentence);
    }
}

impl Config {
    /// The variables that would replace an embedded storage, log or presence by one that processes share.
    pub fn embedded(&self) -> Vec<&'static str> {
        let storage = matches!(self.database.backend, StorageBackend::Sqlite { .. });
        let log = matches!(self.log.backend, LogBackend::Embedded { .. });
        let presence = matches!(self.presence.backend, PresenceBackend::Memory);
        let all = [(storage, "DATABASE_URL"), (log, "KAFKA_BROKERS"), (presence, "REDIS_URL")];
        all.into_iter().filter(|(embedded, _)| *embedded).map(|(_, variable)| variable).collect()
    }

    /// Whether history or log lie in the data folder, which then belongs to one process.
    pub fn keeps_data(&self) -> bool {
        matches!(self.database.backend, StorageBackend::Sqlite { .. })
            || matches!(self.log.backend, LogBackend::Embedded { .. })
    }

    /// The same settings with everything in the data folder and everybody on this node: as `chatd all` has it
    /// where nothing else is set. A file of storage that is named stays.
    #[must_use]
    pub fn alone(&self) -> Self {
        let mut config = self.clone();
        config.log.backend = LogBackend::Embedded { path: self.data.join(super::log::EMBEDDED_FILE) };
        config.presence.backend = PresenceBackend::Memory;
        if self.postgres_url().is_some() {
            let path = self.data.join(super::database::EMBEDDED_FILE);
            config.database.backend = StorageBackend::Sqlite { path };
        }
        config
    }

    /// The URL of PostgreSQL, where storage is there.
    pub fn postgres_url(&self) -> Option<&Secret<String>> {
        match &self.database.backend {
            StorageBackend::Postgres { url } => Some(url),
            StorageBackend::Sqlite { .. } => None,
        }
    }

    /// Refuses a role that shares its work with other processes (`serve`, `consume`) on embedded backends.
    ///
    /// # Errors
    /// Names the variables to set.
    pub fn require_shared(&self, role: &str) -> Result<(), ConfigError> {
        let missing = self.embedded();
        if missing.is_empty() {
            return Ok(());
        }
        let variables = missing.join(", ");
        Err(ConfigError::Refused(format!(
            "`chatd {role}` shares its work with other processes, and embedded backends belong to one: set \
             {variables}, or run `chatd all`, which does everything in one process"
        )))
    }
}
