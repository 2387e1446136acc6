//! Puts the ports together from the settings. With `open.rs` the only place that names adapters.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::health::Health;
use super::lock::{DataLock, LockError};
use super::{App, Settings};
use crate::auth::Tickets;
use crate::auth::jwt::{JwtSettings, JwtVerifier, KeyError};
use crate::auth::redis::RedisTickets;
use crate::auth::tickets::MemoryTickets;
use crate::chat::batch::check;
use crate::chat::directory::Directory;
use crate::chat::receipts::Pending;
use crate::chat::recent::Recent;
use crate::config::{Config, ConfigError, MailBackend, Migrate, Provision, SmtpSecurity, secrets};
use crate::config::{LogBackend, PresenceBackend, StorageBackend};
use crate::delivery::hub::Limits;
use crate::delivery::memory::MemoryFanout;
use crate::delivery::redis::RedisFanout;
use crate::delivery::{Fanout, Hub, Link};
use crate::domain::{Outcome, Partition, Secret, Timestamp};
use crate::notify::Channel;
use crate::notify::capture::CaptureChannel;
use crate::notify::smtp::{SmtpChannel, SmtpSettings, SmtpSetupError, SmtpTls};
use crate::pipeline::embedded::{EmbeddedLog, EmbeddedLogSettings, OpenError as LogOpenError};
use crate::pipeline::{EventLog, EventSource, LogError};
use crate::presence::Presence;
use crate::presence::memory::MemoryPresence;
use crate::presence::redis::RedisPresence;
use crate::redis::{Redis, RedisSettings, RedisSetupError};
use crate::storage::sqlite::{self, OpenError as StorageOpenError, SqliteSettings, SqliteStore};
use crate::storage::{Ledger, Storage, StorageError};
use crate::telemetry::story::Story;

/// What is said when the database is new and the log is not.
const REPLAYED: &str = "the database is new and the message log is not: messages are read back from the log, \
                        but users, addresses and what was read are not in it; restore a backup where there is \
                        one";

/// Why chatd cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The data folder cannot be made or used.
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
    /// A setting.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A key for tokens.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The public key's file.
    #[error("auth.jwt_public_key_file cannot be read: {0}")]
    KeyFile(std::io::Error),
    /// The database's file.
    #[error(transparent)]
    StorageOpen(#[from] StorageOpenError),
    /// The log's file.
    #[error(transparent)]
    LogOpen(#[from] LogOpenError),
    /// The database follows a log that is not there; none is begun in its place.
    #[error(
        "the message log {path} is missing, and the database beside it goes on from it: restore both from \
         one backup, or move the database away too to begin anew"
    )]
    LogLost {
        /// Where it has to be.
        path: String,
    },
    /// The database and the log do not belong together, or storage is away.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The mail server's settings.
    #[error(transparent)]
    Smtp(#[from] SmtpSetupError),
    /// Redis' settings.
    #[error(transparent)]
    Redis(#[from] RedisSetupError),
    /// A backend that this release has no adapter for.
    #[error("{0} is not in this release")]
    Missing(&'static str),
}

/// A chatd that is put together and not yet running.
pub struct Built {
    /// The ports.
    pub app: Arc<App>,
    /// Where mails go.
    pub channel: Arc<dyn Channel>,
    /// Held as long as the process uses the data folder.
    pub lock: Option<DataLock>,
    /// What an operator should know, in sentences.
    pub notices: Vec<String>,
}

/// Opens everything that the settings name. Makes what a first start needs.
pub async fn build(config: &Config, story: Story) -> Result<Built, BuildError> {
    make_folder(&config.data)?;
    // What lies in the data folder is one process's own.
    let lock = config.keeps_data().then(|| DataLock::take(&config.data)).transpose()?;
    let tokens = Arc::new(verifier(config)?);
    let mut notices: Vec<String> = config.notices().to_vec();
    let (storage, follows) = open_storage(config).await?;
    let (log, source) = open_log(config, follows, &mut notices)?;
    let identity = log.identity();
    let log_number = storage.attach_log(identity).await?;
    let incarnation = storage.incarnation().await?;
    let health = Health::default();
    // Looked at before anything is accepted; the owner of the partitions looks again.
    let partitions: Vec<Partition> = (0..identity.partitions).collect();
    let halted = check(source.as_ref(), &storage.claims(log_number, &partitions).await?).await?;
    health.stand_still(halted.iter().map(|(partition, halt)| (*partition, halt.into())).collect());
    if follows == Some(false) && source.bounds().await.is_ok_and(|bounds| bounds.iter().any(|b| b.end > 0)) {
        notices.push(REPLAYED.to_owned());
    }
    let story = Arc::new(story);
    let recent = Recent::default();
    let limits = Limits { devices: config.limits.devices, mailbox_bytes: config.ws.queue_bytes };
    let hub = Hub::new(&storage.frontier(log_number).await?, limits, observer(&recent, &story));
    let settings = settings(config);
    let Nodes { presence, fanout, link, tickets } = open_nodes(config, &settings.node, &hub)?;
    let app = App {
        directory: Directory::new(storage.clone()),
        storage,
        log,
        source,
        fanout,
        link,
        hub,
        presence,
        tokens,
        tickets,
        recent,
        pending: Pending::default(),
        health,
        story,
        log_number,
        incarnation,
        settings,
    };
    Ok(Built { app: Arc::new(app), channel: channel(config)?, lock, notices })
}

/// What the hub tells of each event: the seq of a message that this node accepted, a line of the story, and
/// how long it took from being accepted to being handed to the sockets.
fn observer(recent: &Recent, story: &Arc<Story>) -> crate::delivery::hub::Observer {
    let (recent, story) = (recent.clone(), Arc::clone(story));
    let delivery = metrics::histogram!("chatd_delivery_seconds");
    Box::new(move |outcome, reached| match outcome {
        Outcome::Stored(event) => {
            recent.stored(event);
            story.stored(event, reached);
            if reached > 0 {
                delivery.record(Timestamp::now().since(event.at).as_secs_f64());
            }
        }
        Outcome::Rejected(rejection) => recent.rejected(rejection.id),
    })
}

fn settings(config: &Config) -> Settings {
    Settings {
        node: format!("n-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]),
        provision: config.auth.provision == Provision::Create,
        grace: config.notify.grace,
        pong_confirms: config.delivery.pong_confirms,
        heartbeat: config.ws.heartbeat,
        stall: config.ws.stall_timeout,
        bad_json_per_minute: config.limits.bad_json_per_minute,
        message_bytes_max: config.limits.message_bytes,
        content_bytes_max: config.limits.content_bytes,
        data_bytes_max: config.limits.data_bytes,
        sockets_max: config.limits.sockets,
        gap_per_conversation: i64::try_from(config.delivery.gap_per_conversation).unwrap_or(i64::MAX),
        gap_total: i64::try_from(config.delivery.gap_total).unwrap_or(i64::MAX),
    }
}

fn make_folder(path: &Path) -> Result<(), BuildError> {
    use std::os::unix::fs::DirBuilderExt;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| BuildError::Data { path: path.display().to_string(), source })
}

fn verifier(config: &Config) -> Result<JwtVerifier, BuildError> {
    let secret = secrets::jwt_secret(config)?;
    let public_key_pem = match &config.auth.jwt_public_key_file {
        Some(path) => Some(fs::read_to_string(path).map_err(BuildError::KeyFile)?),
        None => None,
    };
    Ok(JwtVerifier::new(JwtSettings {
        secret: secret.map(|secret| Secret::new(secret.expose().clone().into_bytes())),
        public_key_pem,
        require_expiry: config.auth.require_expiry,
        audience: config.auth.audience.clone(),
        issuer: config.auth.issuer.clone(),
    })?)
}

/// Opens storage. Of one that belongs to this process alone it is known whether it has met a log, which then has
/// to be there.
async fn open_storage(config: &Config) -> Result<(Arc<dyn Storage>, Option<bool>), BuildError> {
    let StorageBackend::Sqlite { path } = &config.database.backend else {
        return Err(BuildError::Missing("PostgreSQL"));
    };
    let migrate = match config.database.migrate {
        Migrate::Auto => sqlite::Migrate::Auto,
        Migrate::Check => sqlite::Migrate::Check,
    };
    let readers = u32::try_from(config.database.pool).unwrap_or(1);
    let settings = SqliteSettings { path: path.clone(), readers, migrate };
    let store = SqliteStore::open(settings).await?;
    let follows = store.followed().await?.is_some();
    // The lock says that nobody else is at work here: these are of a process that has ended.
    store.end_leases().await?;
    Ok((Arc::new(store), Some(follows)))
}

/// The two sides of the message log.
type LogPorts = (Arc<dyn EventLog>, Arc<dyn EventSource>);

/// Opens the log; makes it, unless there has to be one already.
fn open_log(
    config: &Config,
    follows: Option<bool>,
    notices: &mut Vec<String>,
) -> Result<LogPorts, BuildError> {
    let LogBackend::Embedded { path } = &config.log.backend else {
        return Err(BuildError::Missing("Kafka"));
    };
    if follows == Some(true) && !path.exists() {
        return Err(BuildError::LogLost { path: path.display().to_string() });
    }
    let log = Arc::new(EmbeddedLog::open(&EmbeddedLogSettings {
        path: path.clone(),
        partitions: config.log.partitions,
        linger: config.log.linger,
        ..EmbeddedLogSettings::default()
    })?);
    notices.extend(log.warning().map(str::to_owned));
    Ok((log.clone(), log))
}

/// What nodes have to do with each other.
struct Nodes {
    presence: Arc<dyn Presence>,
    fanout: Arc<dyn Fanout>,
    link: Arc<dyn Link>,
    tickets: Arc<dyn Tickets>,
}

fn open_nodes(config: &Config, node: &str, hub: &Arc<Hub>) -> Result<Nodes, BuildError> {
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
            let redis = Redis::open(RedisSettings {
                url: backend.url.clone(),
                ca_file: backend.ca_file.clone(),
                prefix: backend.prefix.clone(),
                node: node.to_owned(),
                heartbeat: RedisSettings::HEARTBEAT,
            })?;
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

fn channel(config: &Config) -> Result<Arc<dyn Channel>, BuildError> {
    match &config.mail.backend {
        MailBackend::Capture { dir } => {
            let made = CaptureChannel::new(dir.clone());
            Ok(Arc::new(made.map_err(|source| BuildError::Data { path: dir.display().to_string(), source })?))
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
