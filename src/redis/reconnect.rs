//! One connection after another, for as long as the process wants one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fred::types::config::Config;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::connection::{CONNECT_WITHIN, Connection, Driver};
use super::routes::FRESH;
use super::{Keys, RedisError};

/// The pause before another try grows from the first to the second: Redis is found again within a second.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// A connection that held for so long is no failed try.
const HELD: Duration = Duration::from_secs(10);

/// How long nodes may need to register again: after what was lost once, those who did not notice yet do so with
/// their next heartbeat.
#[derive(Debug)]
pub struct Unsettled {
    heartbeat: Duration,
    until: Mutex<Option<Instant>>,
}

impl Unsettled {
    pub(super) fn new(heartbeat: Duration) -> Self {
        Self { heartbeat, until: Mutex::default() }
    }

    /// Something was lost: others may have lost it too.
    pub(super) fn lost(&self) {
        // What was listed before is gone by then, too.
        *self.lock() = Some(Instant::now() + self.heartbeat + self.heartbeat / 2 + FRESH);
    }

    pub(super) fn is_unsettled(&self) -> bool {
        self.lock().is_some_and(|until| Instant::now() < until)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the task that connects; it ends with the token.
pub(super) fn keep_connected(
    config: Config,
    keys: &Arc<Keys>,
    unsettled: &Arc<Unsettled>,
    ends: CancellationToken,
) -> watch::Receiver<Option<Connection>> {
    let (sender, receiver) = watch::channel(None);
    let channel = keys.channel(keys.node());
    let connecting = run(config, channel, Arc::clone(unsettled), sender);
    tokio::spawn(async move { ends.run_until_cancelled(connecting).await });
    receiver
}

async fn run(
    config: Config,
    channel: String,
    unsettled: Arc<Unsettled>,
    current: watch::Sender<Option<Connection>>,
) {
    let mut pause = PAUSE_MIN;
    let mut told: Option<String> = None;
    // It was away, as far as this process knows.
    let mut is_back = false;
    loop {
        match open(&config, &channel).await {
            Ok((connection, driver)) => {
                let since = Instant::now();
                tracing::info!("connected to Redis");
                if std::mem::replace(&mut is_back, true) {
                    // Others may be about to come back too: until then their users are not found.
                    unsettled.lost();
                }
                told = None;
                current.send_replace(Some(connection.clone()));
                let why = until_lost(&connection, driver).await;
                connection.end();
                current.send_replace(None);
                unsettled.lost();
                tracing::warn!(error = %why, "the connection to Redis is lost: connecting again");
                if since.elapsed() >= HELD {
                    pause = PAUSE_MIN;
                }
            }
            Err(error) => {
                is_back = true;
                // Said once for each reason, not with every try.
                if told.as_ref() != Some(&error.0) {
                    tracing::warn!(%error, "Redis cannot be reached: trying again and again");
                    told = Some(error.0);
                }
            }
        }
        // Not all nodes at the same moment.
        tokio::time::sleep(pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

async fn open(config: &Config, channel: &str) -> Result<(Connection, Driver), RedisError> {
    let opening = tokio::time::timeout(CONNECT_WITHIN, Connection::open(config, channel));
    opening.await.unwrap_or_else(|_| Err(RedisError("no answer in 5 s".to_owned())))
}

async fn until_lost(connection: &Connection, mut driver: Driver) -> String {
    tokio::select! {
        () = connection.ended() => "it did not answer".to_owned(),
        ended = &mut driver => match ended {
            Ok(Err(error)) => error.to_string(),
            Ok(Ok(())) => "closed".to_owned(),
            Err(error) => error.to_string(),
        }
    }
}
