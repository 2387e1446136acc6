//! Opens each backend that the settings name. The only file that names adapters.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::lock::LockError;
use crate::auth::Tickets;
use crate::auth::redis::RedisTickets;
use crate::auth::tickets::MemoryTickets;
use crate::config::{
    Config, LogBackend, MailBackend, Migrate, PresenceBackend, SaslMechanism, SecurityProtocol, SmtpSecurity,
    StorageBackend,
};
use crate::delivery::memory::MemoryFanout;
use crate::delivery::redis::RedisFanout;
use crate::delivery::{Fanout, Hub, Link};
use crate::domain::Secret;
use crate::notify::Channel;
use crate::notify::capture::CaptureChannel;
use crate::notify::smtp::{SmtpChannel, SmtpSettings, SmtpSetupError, SmtpTls};
use crate::pipeline::embedded::{self, EmbeddedLog, EmbeddedLogSettings};
use crate::pipeline::kafka::{self, KafkaError, KafkaLog, KafkaSettings, SaslSettings, TopicError};
use crate::pipeline::{EventLog, EventSource};
use crate::presence::Presence;
use crate::presence::memory::MemoryPresence;
use crate::presence::redis::RedisPresence;
use crate::redis::{Redis, RedisSettings, RedisSetupError};
use crate::storage::postgres::{self, PostgresSettings, PostgresStore};
use crate::storage::sqlite::{self, SqliteSettings, SqliteStore};
use crate::storage::{Audited, Ledger, Storage, StorageError};

/// The topic, behind `kafka.topic_prefix` (protocol.md section 5).
const TOPIC: &str = "chat.messages";

/// Why a backend cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A folder of the data cannot be made or used.
    #[error("the data folder {path} cannot be used: {source}")]
    Data {
        /// The folder.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Another server uses the data folder.
    #[error(transparent)]
    Locked(#[from] LockError),
    /// There is no database, and the command makes none.
    #[error("there is no database {path} yet: `chatd all`, `chatd user add` or `chatd migrate` makes it")]
    Absent {
        /// The file.
        path: PathBuf,
    },
    /// What was here lives elsewhere by now.
    #[error(
        "the history of this folder was {what}: start chatd with DATABASE_URL set to that database. To go back \
         to what it was at that moment, remove {path}; whatever came in since is not here"
    )]
    Moved {
        /// Where to and when.
        what: String,
        /// The mark.
        path: PathBuf,
    },
    /// The database follows a log that is not there; none is begun in its place.
    #[error(
        "the message log {path} is missing, and the database beside it goes on from it: restore both from \
         one backup, or move the database away too to begin anew"
    )]
    LogLost {
        /// Where it has to be.
        path: String,
    },
    /// There is no log, and the command makes none.
    #[error("there is no message log {path} yet: `chatd all` makes it")]
    NoLog {
        /// The file.
        path: PathBuf,
    },
    /// SQLite.
    #[error(transparent)]
    Sqlite(#[from] sqlite::OpenError),
    /// PostgreSQL.
    #[error(transparent)]
    Postgres(#[from] postgres::OpenError),
    /// What was opened does not answer as it should.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The embedded log.
    #[error(transparent)]
    Embedded(#[from] embedded::OpenError),
    /// Kafka.
    #[error("the message log is away: {0}")]
    Kafka(#[from] KafkaError),
    /// Kafka's topic.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// Redis' settings.
    #[error(transparent)]
    Redis(#[from] RedisSetupError),
    /// The mail server's settings.
    #[error(transparent)]
    Smtp(#[from] SmtpSetupError),
}

impl OpenError {
    /// Whether a server that chatd needs is away: trying again later may do.
    pub fn is_away(&self) -> bool {
        matches!(
            self,
            Self::Postgres(postgres::OpenError::Unreachable { .. })
                | Self::Storage(StorageError::Unavailable(_))
                | Self::Kafka(_)
                | Self::Topic(TopicError::Kafka(_))
        )
    }
}

/// Storage, as those who serve and those who audit know it.
pub struct Stored {
    /// Everything that is kept.
    pub storage: Arc<dyn Storage>,
    /// The books.
    pub audited: Arc<dyn Audited>,
    /// Whether it has met a log, which then has to be there; known of storage that belongs to one process.
    pub follows: Option<bool>,
}

impl Stored {
    fn new<T: Storage + Audited + 'static>(store: Arc<T>, follows: Option<bool>) -> Self {
        Self { storage: store.clone(), audited: store, follows }
    }
}

/// Opens storage with so many connections; makes and migrates it where the settings allow. `serving`: this is the
/// one server of storage that belongs to one process.
///
/// # Errors
/// It cannot be reached or used.
pub async fn storage(config: &Config, connections: usize, serving: bool) -> Result<Stored, OpenError> {
    match &config.database.backend {
        StorageBackend::Sqlite { path } => {
            let migrate = match config.database.migrate {
                Migrate::Auto => sqlite::Migrate::Auto,
                Migrate::Check => sqlite::Migrate::Check,
            };
            let readers = u32::try_from(connections).unwrap_or(1);
            let store = SqliteStore::open(SqliteSettings { path: path.clone(), readers, migrate }).await?;
            let follows = store.followed().await?.is_some();
            if serving {
                // The lock says that nobody else is at work here: these are of a process that has ended.
                store.end_leases().await?;
            }
            Ok(Stored::new(Arc::new(store), Some(follows)))
        }
        StorageBackend::Postgres { url } => {
            let settings = postgres_settings(config, url, connections);
            Ok(Stored::new(Arc::new(PostgresStore::open(settings).await?), None))
        }
    }
}

/// What PostgreSQL is opened with.
pub(super) fn postgres_settings(config: &Config, url: &Secret<String>, pool: usize) -> PostgresSettings {
    PostgresSettings {
        url: url.clone(),
        pool,
        schema: config.database.schema.clone(),
        migrate: match config.database.migrate {
            Migrate::Auto => postgres::Migrate::Auto,
            Migrate::Check => postgres::Migrate::Check,
        },
        verify_tls: config.production(),
    }
}

/// The two sides of the message log, and what an operator should know of it.
pub struct Logged {
    /// Written.
    pub log: Arc<dyn EventLog>,
    /// Read.
    pub source: Arc<dyn EventSource>,
    /// In sentences.
    pub notices: Vec<String>,
}

/// Opens the log; makes it, unless there has to be one already.
///
/// # Errors
/// It cannot be reached or used, or it lacks what the promise needs.
pub async fn log(config: &Config, exists: bool) -> Result<Logged, OpenError> {
    match &config.log.backend {
        LogBackend::Embedded { path } => {
            if exists && !path.exists() {
                return Err(OpenError::LogLost { path: path.display().to_string() });
            }
            let log = Arc::new(EmbeddedLog::open(&EmbeddedLogSettings {
                path: path.clone(),
                partitions: config.log.partitions,
                linger: config.log.linger,
                ..EmbeddedLogSettings::default()
            })?);
            let notices = log.warning().map(str::to_owned).into_iter().collect();
            Ok(Logged { log: log.clone(), source: log, notices })
        }
        LogBackend::Kafka(backend) => {
            let settings = kafka_settings(config, backend);
            let notices = kafka::ensure_topic(&settings, config.production()).await?;
            let log = KafkaLog::connect(settings).await?;
            Ok(Logged { log: log.clone(), source: log, notices })
        }
    }
}

/// What Kafka is reached with.
pub(super) fn kafka_settings(config: &Config, backend: &crate::config::Kafka) -> KafkaSettings {
    let sasl = backend.sasl.as_ref().map(|sasl| SaslSettings {
        mechanism: match sasl.mechanism {
            SaslMechanism::Plain => kafka::SaslMechanism::Plain,
            SaslMechanism::ScramSha256 => kafka::SaslMechanism::ScramSha256,
            SaslMechanism::ScramSha512 => kafka::SaslMechanism::ScramSha512,
        },
        username: sasl.username.clone(),
        password: sasl.password.clone(),
    });
    KafkaSettings {
        brokers: backend.brokers.clone(),
        tls: matches!(backend.security_protocol, SecurityProtocol::Ssl | SecurityProtocol::SaslSsl),
        ca_file: backend.ca_file.clone(),
        sasl,
        topic: format!("{}{TOPIC}", backend.topic_prefix),
        group: backend.group.clone(),
        partitions: config.log.partitions,
        linger: config.log.linger.saturating_mul(LINGER_UNDER_LOAD),
        ..KafkaSettings::default()
    }
}

/// Under load the first record of a request to Kafka waits for so many times `log.linger`.
const LINGER_UNDER_LOAD: u32 = 5;

/// What nodes have to do with each other.
pub struct Nodes {
    /// Who is connected.
    pub presence: Arc<dyn Presence>,
    /// To the nodes.
    pub fanout: Arc<dyn Fanout>,
    /// This node's end.
    pub link: Arc<dyn Link>,
    /// One-use tickets.
    pub tickets: Arc<dyn Tickets>,
}

/// Opens what nodes have to do with each other. That Redis is away is no error.
///
/// # Errors
/// Its settings can never work.
pub fn nodes(config: &Config, node: &str, hub: &Arc<Hub>) -> Result<Nodes, OpenError> {
    match &config.presence.backend {
        PresenceBackend::Memory => {
            let fanout = Arc::new(MemoryFanout::new(Arc::clone(hub)));
            Ok(Nodes {
                presence: Arc::new(MemoryPresence::default()),
                fanout: fanout.clone(),
                link: fanout,
                tickets: Arc::new(MemoryTickets::new()),
            })
        }
        PresenceBackend::Redis(backend) => {
            let settings =
                RedisSettings { linger: config.presence.offline_after, ..redis_settings(backend, node) };
            let redis = Redis::open(settings)?;
            let fanout = Arc::new(RedisFanout::new(Arc::clone(&redis), Arc::clone(hub)));
            Ok(Nodes {
                presence: Arc::new(RedisPresence::new(Arc::clone(&redis))),
                fanout: fanout.clone(),
                link: fanout,
                tickets: Arc::new(RedisTickets::new(redis)),
            })
        }
    }
}

/// What Redis is reached with.
pub(super) fn redis_settings(backend: &crate::config::Redis, node: &str) -> RedisSettings {
    RedisSettings {
        url: backend.url.clone(),
        ca_file: backend.ca_file.clone(),
        prefix: backend.prefix.clone(),
        node: node.to_owned(),
        heartbeat: RedisSettings::HEARTBEAT,
        linger: Duration::ZERO,
    }
}

/// Opens the way that mails go.
///
/// # Errors
/// The folder cannot be made, or the settings can never work.
pub fn channel(config: &Config) -> Result<Arc<dyn Channel>, OpenError> {
    match &config.mail.backend {
        MailBackend::Capture { dir } => {
            let made = CaptureChannel::new(dir.clone());
            Ok(Arc::new(made.map_err(|source| OpenError::Data { path: dir.display().to_string(), source })?))
        }
        MailBackend::Smtp(smtp) => Ok(Arc::new(SmtpChannel::new(SmtpSettings {
            host: smtp.host.clone(),
            port: smtp.port,
            tls: match smtp.security {
                SmtpSecurity::Implicit => SmtpTls::Implicit,
                SmtpSecurity::StartTlsRequired => SmtpTls::Required,
                SmtpSecurity::StartTlsIfOffered => SmtpTls::Opportunistic,
            },
            credentials: smtp.credentials.clone(),
            ca_file: config.mail.ca_file.clone(),
            hello_name: config.mail.hello_name.clone(),
            limit: SmtpSettings::LIMIT,
        })?)),
    }
}
