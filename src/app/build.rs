//! Puts the ports of a server together from the settings.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::backends::{self, Logged, Nodes, OpenError, Stored};
use super::health::Health;
use super::lock::{DataLock, LockError};
use super::{App, Settings, moved};
use crate::auth::jwt::{JwtSettings, JwtVerifier, KeyError};
use crate::chat::batch::check;
use crate::chat::directory::Directory;
use crate::chat::receipts::Pending;
use crate::chat::recent::Recent;
use crate::config::{Config, ConfigError, Provision, VisibleTo, secrets};
use crate::delivery::Hub;
use crate::delivery::hub::Limits;
use crate::domain::history::Rules;
use crate::domain::{Audience, Outcome, Partition, Secret, Timestamp};
use crate::notify::Channel;
use crate::pipeline::LogError;
use crate::presence::Attendance;
use crate::storage::StorageError;
use crate::telemetry::story::Story;

/// What is said when the database is new and the log is not.
const REPLAYED: &str = "the database is new and the message log is not: messages are read back from the log, \
                        but users, addresses and what was read are not in it; restore a backup where there is \
                        one";

/// Why chatd cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A backend cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
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
    /// The database and the log do not belong together, or storage is away.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
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
    moved::refuse(config)?;
    Ok(Built { lock, ..build_here(config, story).await? })
}

/// The same for who holds the data folder already.
pub async fn build_here(config: &Config, story: Story) -> Result<Built, BuildError> {
    let tokens = Arc::new(verifier(config)?);
    let Stored { storage, follows, .. } = backends::storage(config, config.database.pool, true).await?;
    let Logged { log, source, notices } = backends::log(config, follows == Some(true)).await?;
    let mut notices: Vec<String> = config.notices().iter().cloned().chain(notices).collect();
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
    let Nodes { presence, fanout, link, tickets } = backends::nodes(config, &settings.node, &hub)?;
    let app = App {
        directory: Directory::new(storage.clone()),
        storage,
        log,
        source,
        fanout,
        link,
        hub,
        presence,
        attendance: Attendance::new(config.presence.offline_after),
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
    Ok(Built { app: Arc::new(app), channel: backends::channel(config)?, lock: None, notices })
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
        visible_to: match config.presence.visible_to {
            VisibleTo::Everyone => Audience::Everyone,
            VisibleTo::Shared => Audience::Shared,
            VisibleTo::Nobody => Audience::Nobody,
        },
        grace: config.notify.grace,
        rules: Rules { edit_within: Some(config.chat.edit_within).filter(|within| !within.is_zero()) },
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

fn make_folder(path: &Path) -> Result<(), OpenError> {
    use std::os::unix::fs::DirBuilderExt;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| OpenError::Data { path: path.display().to_string(), source })
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
