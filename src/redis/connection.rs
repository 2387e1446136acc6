//! One connection: the commands that the adapters need, each with an answer within a second or an error. It is
//! never connected again: whoever finds that it does not answer ends it, and `reconnect` makes another.

use std::fs::File;
use std::future::Future;
use std::io::BufReader;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use fred::clients::Client;
use fred::error::{Error as FredError, ErrorKind};
use fred::interfaces::{
    ClientLike, EventInterface, KeysInterface, LuaInterface, PubsubInterface, SetsInterface,
};
use fred::types::config::{
    Config, ConnectionConfig, PerformanceConfig, TcpConfig, TlsConfig, TlsConnector, UnresponsiveConfig,
};
use fred::types::{Expiration, FromValue, Message, RespVersion, SetOptions, Value};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::{RedisError, RedisSettings, RedisSetupError};

/// An answer comes within this time, or the connection is given up.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// To connect and to greet; with Sentinels each of them may take as long as an answer.
pub(super) const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Commands that may wait for the socket.
const COMMANDS_MAX: usize = 4_096;
/// Messages that may wait for this node; it reads again from storage what is dropped.
const MESSAGES_MAX: usize = 512;

/// A connection that stood when it was handed out.
#[derive(Clone)]
pub struct Connection {
    client: Client,
    ended: CancellationToken,
}

/// The task that reads and writes the socket; the socket closes when this is dropped.
pub(super) type Driver = AbortOnDropHandle<Result<(), FredError>>;

/// What the settings come to.
pub(super) fn config(settings: &RedisSettings) -> Result<Config, RedisSetupError> {
    let mut config = Config::from_url(settings.url.expose())
        .map_err(|error| RedisSetupError::Url(error.kind().to_str().to_lowercase()))?;
    // The client of one connection: pushed messages and answers come in the order in which Redis did things.
    config.version = RespVersion::RESP3;
    config.fail_fast = true;
    if config.tls.is_some() {
        config.tls = Some(tls(settings.ca_file.as_deref())?);
    }
    Ok(config)
}

fn tls(ca_file: Option<&Path>) -> Result<TlsConfig, RedisSetupError> {
    let place = ca_file.map_or("the system".to_owned(), |path| path.display().to_string());
    let unreadable = |reason: String| RedisSetupError::Authorities { place: place.clone(), reason };
    let Some(path) = ca_file else {
        let connector = TlsConnector::default_rustls().map_err(|error| unreadable(error.to_string()))?;
        return Ok(connector.into());
    };
    let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_reader_iter(BufReader::new(file)) {
        let certificate = certificate.map_err(|error| unreadable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unreadable(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unreadable("no certificate is in it".to_owned()));
    }
    let client = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(client).into())
}

impl Connection {
    /// Connects, and subscribes to a channel before anything else.
    pub(super) async fn open(config: &Config, channel: &str) -> Result<(Self, Driver), RedisError> {
        let performance = PerformanceConfig {
            default_command_timeout: ANSWER_WITHIN,
            broadcast_channel_capacity: MESSAGES_MAX,
            ..PerformanceConfig::default()
        };
        let limits = ConnectionConfig {
            connection_timeout: ANSWER_WITHIN,
            internal_command_timeout: ANSWER_WITHIN,
            max_command_attempts: 1,
            max_command_buffer_len: COMMANDS_MAX,
            tcp: TcpConfig { nodelay: Some(true), ..TcpConfig::default() },
            unresponsive: UnresponsiveConfig::default(),
            ..ConnectionConfig::default()
        };
        // Without a policy it ends where it would have connected again.
        let client = Client::new(config.clone(), Some(performance), Some(limits), None);
        let mut up = client.reconnect_rx();
        let mut driver = AbortOnDropHandle::new(client.connect());
        tokio::select! {
            _ = up.recv() => {}
            ended = &mut driver => {
                let why = ended.map_or_else(|error| error.to_string(), |end| match end {
                    Ok(()) => "closed".to_owned(),
                    Err(error) => error.to_string(),
                });
                return Err(RedisError(why));
            }
        }
        let connection = Self { client, ended: CancellationToken::new() };
        connection.subscribe(channel).await?;
        Ok((connection, driver))
    }

    /// The client below takes no notice of the answer to SUBSCRIBE; a refusal would be taken for the answer to
    /// the command after it, and so on for all that follow. One question that only has one answer finds out.
    async fn subscribe(&self, channel: &str) -> Result<(), RedisError> {
        self.ask(self.client.subscribe(channel)).await?;
        let question = format!("{:016x}", rand::random::<u64>());
        let answer: String = self.ask(self.client.ping(Some(question.clone()))).await?;
        if answer == question {
            Ok(())
        } else {
            Err(RedisError("it did not answer what it was asked".into()))
        }
    }

    /// The client below, for what only an inspection asks.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// What is told on the channel from now on.
    pub fn messages(&self) -> Messages {
        Messages(self.client.message_rx())
    }

    /// Waits until it is of no use any more.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// It is of no use any more.
    pub(super) fn end(&self) {
        self.ended.cancel();
    }

    /// Finds out whether Redis answers.
    ///
    /// # Errors
    /// It does not.
    pub async fn ping(&self) -> Result<(), RedisError> {
        self.ask(self.client.ping::<Value>(None)).await.map(drop)
    }

    /// Puts a message into each channel, in order, in one round trip.
    ///
    /// # Errors
    /// Redis does not answer, or refuses. Some may have been told.
    pub async fn publish(&self, messages: Vec<(String, Bytes)>) -> Result<(), RedisError> {
        let pipeline = self.client.pipeline();
        for (channel, message) in messages {
            self.queued(pipeline.publish(channel, message).await)?;
        }
        self.ask(pipeline.all::<Value>()).await.map(drop)
    }

    /// Sets a key that is not there, for a time of at least a millisecond; false when it is there.
    ///
    /// # Errors
    /// Redis does not answer, or refuses.
    pub async fn set_new(&self, key: String, value: String, life: Duration) -> Result<bool, RedisError> {
        let life = Expiration::PX(i64::try_from(life.as_millis()).unwrap_or(i64::MAX));
        let set = self.client.set::<Value, _, _>(key, value, Some(life), Some(SetOptions::NX), false);
        Ok(!self.ask(set).await?.is_null())
    }

    /// Takes a key out: of all who ask, one gets it.
    ///
    /// # Errors
    /// Redis does not answer, or refuses.
    pub async fn take(&self, key: String) -> Result<Option<String>, RedisError> {
        self.ask(self.client.getdel(key)).await
    }

    /// For each key in turn whether these are members of its set, in one round trip.
    pub(super) async fn members(
        &self,
        keys: impl Iterator<Item = String>,
        of: &[Value],
    ) -> Result<Vec<Vec<i64>>, RedisError> {
        let pipeline = self.client.pipeline();
        for key in keys {
            self.queued(pipeline.smismember(key, of.to_vec()).await)?;
        }
        let mut answers = Vec::new();
        for answer in pipeline.try_all::<Vec<i64>>().await {
            answers.push(self.ask(std::future::ready(answer)).await?);
        }
        Ok(answers)
    }

    /// Puts members into a set and takes others out, and lets the set live for a time, in one round trip.
    pub(super) async fn change_set(
        &self,
        key: String,
        enter: Vec<Value>,
        leave: Vec<Value>,
        life: Duration,
    ) -> Result<(), RedisError> {
        let pipeline = self.client.pipeline();
        if !enter.is_empty() {
            self.queued(pipeline.sadd(&key, enter).await)?;
        }
        if !leave.is_empty() {
            self.queued(pipeline.srem(&key, leave).await)?;
        }
        self.queued(pipeline.pexpire(&key, i64::try_from(life.as_millis()).unwrap_or(i64::MAX), None).await)?;
        self.ask(pipeline.all::<Value>()).await.map(drop)
    }

    /// Forgets a key.
    pub(super) async fn unlink(&self, key: String) -> Result<(), RedisError> {
        self.ask(self.client.unlink::<Value, _>(key)).await.map(drop)
    }

    /// Runs a script. Redis knows it again by its text.
    pub(super) async fn eval<T: FromValue>(
        &self,
        script: &'static str,
        keys: Vec<String>,
        arguments: Vec<Value>,
    ) -> Result<T, RedisError> {
        self.ask(self.client.eval(script, keys, arguments)).await
    }

    fn queued(&self, result: Result<(), FredError>) -> Result<(), RedisError> {
        result.map_err(|error| self.failed(&error))
    }

    pub(super) async fn ask<T>(
        &self,
        command: impl Future<Output = Result<T, FredError>>,
    ) -> Result<T, RedisError> {
        command.await.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &FredError) -> RedisError {
        if is_fatal(error) {
            self.end();
        }
        RedisError(error.to_string())
    }
}

/// Whether the connection is of no use any more. A command that Redis refuses says nothing about the next one,
/// unless it refuses because it is starting, or another has become the primary.
fn is_fatal(error: &FredError) -> bool {
    match error.kind() {
        ErrorKind::Backpressure | ErrorKind::InvalidArgument | ErrorKind::NotFound | ErrorKind::Parse => {
            false
        }
        ErrorKind::Unknown => {
            let fatal = ["READONLY", "LOADING", "MASTERDOWN"];
            fatal.iter().any(|prefix| error.details().starts_with(prefix))
        }
        _ => true,
    }
}

/// What this process is told.
pub struct Messages(broadcast::Receiver<Message>);

/// Messages were dropped, because they came faster than they were taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed(pub u64);

impl Messages {
    /// The next message; none when there will be no more.
    pub async fn next(&mut self) -> Option<Result<Bytes, Missed>> {
        loop {
            match self.0.recv().await {
                Ok(message) => {
                    if let Some(bytes) = message.value.into_bytes() {
                        return Some(Ok(bytes));
                    }
                }
                Err(broadcast::error::RecvError::Lagged(count)) => return Some(Err(Missed(count))),
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}
