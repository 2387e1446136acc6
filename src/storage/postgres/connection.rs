//! Connections: how one is made, what it runs with, and how a port call borrows one.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use diesel::{ConnectionError, ConnectionResult, QueryResult};
use diesel_async::pooled_connection::deadpool::{Object, Pool, PoolError};
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, PoolError as ManagerError, RecyclingMethod,
};
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use futures_util::FutureExt;
use tokio::time::{Instant, timeout, timeout_at};

use super::error::Fault;
use super::target::{Target, UNACKNOWLEDGED_LIMIT, reasons};
use crate::storage::StorageError;

/// How long a connection may take until it is ready: TCP, TLS, the password, settings.
const ESTABLISH_LIMIT: Duration = Duration::from_secs(5);
/// How long a call waits for a connection, a new one included.
const TAKE_LIMIT: Duration = Duration::from_secs(5);
/// How long a call takes, waiting included. Above the server's own limits, so that its answer is heard.
const CALL_LIMIT: Duration = Duration::from_secs(9);
/// How long a call may take that reads all there is.
const LONG_LIMIT: Duration = Duration::from_secs(600);
/// The server ends a transaction whose client is silent for this long: a paused owner's locks go with it.
const SILENT_OWNER_MS: u32 = 5_000;
/// The server gives up a wait for a lock: a little longer than a paused owner can hold one.
const LOCK_MS: u32 = 6_000;
/// How long a move waits for servers that use the database.
const MOVER_LOCK_MS: u32 = 10_000;
/// How long a move may be silent, while it reads a page.
const MOVER_SILENT_MS: u32 = 120_000;
/// The server gives up a statement.
const STATEMENT_MS: u32 = 7_000;

/// What every connection runs with. Plans: all statements are look-ups by index of a few rows, so one generic
/// plan each serves every array size, and never the table scan that looks cheap while a table is new.
fn session(schema: Option<&str>, statement_ms: u32, lock_ms: u32, silent_ms: u32) -> String {
    let mut sql = format!(
        "SET statement_timeout = {statement_ms}; SET lock_timeout = {lock_ms};
         SET idle_in_transaction_session_timeout = {silent_ms};
         SET tcp_user_timeout = {}; SET tcp_keepalives_idle = 15; SET tcp_keepalives_interval = 5;
         SET default_transaction_isolation = 'read committed';
         SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_hashjoin = off;
         SET enable_mergejoin = off; SET jit = off;",
        UNACKNOWLEDGED_LIMIT.as_millis()
    );
    if let Some(schema) = schema {
        sql.push_str(&format!("SET search_path = {};", quoted(schema)));
    }
    sql
}

/// A name as SQL takes it whatever it holds.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Makes a connection for port calls.
async fn establish(target: &Target) -> ConnectionResult<AsyncPgConnection> {
    connect(target, session(target.schema.as_deref(), STATEMENT_MS, LOCK_MS, SILENT_OWNER_MS)).await
}

/// Makes a connection for work that takes its time; it waits for locks up to `lock`.
pub(super) async fn establish_patient(
    target: &Target,
    lock: Duration,
) -> ConnectionResult<AsyncPgConnection> {
    let lock_ms = u32::try_from(lock.as_millis()).unwrap_or(u32::MAX);
    connect(target, session(target.schema.as_deref(), 0, lock_ms, lock_ms)).await
}

/// Makes a connection that moves a history in: what it waits for is bounded by its user, its locks are not given
/// up while the other database is read.
pub(super) async fn establish_mover(target: &Target) -> ConnectionResult<AsyncPgConnection> {
    connect(target, session(target.schema.as_deref(), 0, MOVER_LOCK_MS, MOVER_SILENT_MS)).await
}

async fn connect(target: &Target, settings: String) -> ConnectionResult<AsyncPgConnection> {
    let connecting = async {
        let (client, connection) =
            target.config.connect(target.tls.clone()).await.map_err(|error| bad(reasons(&error)))?;
        let mut conn = AsyncPgConnection::try_from_client_and_connection(client, connection).await?;
        conn.batch_execute(&settings).await.map_err(ConnectionError::CouldntSetupConfiguration)?;
        Ok(conn)
    };
    let late = || bad(format!("no answer within {} s", ESTABLISH_LIMIT.as_secs()));
    timeout(ESTABLISH_LIMIT, connecting).await.unwrap_or_else(|_| Err(late()))
}

fn bad(reason: String) -> ConnectionError {
    ConnectionError::BadConnection(reason)
}

/// The connections of a store.
pub(super) struct Connections {
    pool: Pool<AsyncPgConnection>,
}

impl Connections {
    pub(super) fn new(target: Arc<Target>, size: usize) -> Result<Self, String> {
        let mut config = ManagerConfig::default();
        config.recycling_method = RecyclingMethod::Fast;
        config.custom_setup = Box::new(move |_| {
            let target = Arc::clone(&target);
            async move { establish(&target).await }.boxed()
        });
        let manager = AsyncDieselConnectionManager::new_with_config("", config);
        let pool = Pool::builder(manager).max_size(size.max(1)).build();
        Ok(Self { pool: pool.map_err(|error| error.to_string())? })
    }

    /// Borrows a connection for one port call, whose time begins to run.
    pub(super) async fn take(&self) -> Result<Loan, StorageError> {
        let deadline = Instant::now() + CALL_LIMIT;
        let object = match timeout(TAKE_LIMIT, self.pool.get()).await {
            Ok(Ok(object)) => object,
            Ok(Err(PoolError::Backend(ManagerError::ConnectionError(error)))) => {
                return Err(StorageError::Unavailable(error.to_string()));
            }
            Ok(Err(error)) => return Err(StorageError::Unavailable(error.to_string())),
            Err(_) => return Err(StorageError::Unavailable("no connection was free in time".into())),
        };
        Ok(Loan { object: Some(object), idle: AtomicBool::new(true), deadline })
    }
}

/// A connection on loan. It goes back to the others unless its work was abandoned half-way or out of time: then
/// nobody knows what it is doing, and it is closed.
pub(super) struct Loan {
    object: Option<Object<AsyncPgConnection>>,
    /// Whether no work is under way, and no transaction open.
    idle: AtomicBool,
    deadline: Instant,
}

impl Loan {
    /// Runs statements, each in a transaction of its own.
    pub(super) async fn run<T>(
        &self,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, StorageError> {
        self.bounded(work).await
    }

    /// Runs `work` in one transaction (read committed), rolled back where it fails. BEGIN travels with the
    /// first statement.
    pub(super) async fn transaction<T>(
        &self,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, StorageError> {
        self.self_committing(async {
            let (begun, done) = futures_util::join!(self.command("BEGIN"), work);
            begun?;
            let value = done?;
            self.command("COMMIT").await?;
            Ok(value)
        })
        .await
    }

    /// Runs statements in one snapshot, with 10 minutes of time: for commands that read all there is, beside
    /// which nobody waits.
    pub(super) async fn long_snapshot<T>(
        mut self,
        work: impl AsyncFnOnce(&AsyncPgConnection) -> Result<T, Fault>,
    ) -> Result<T, StorageError> {
        self.deadline = Instant::now() + LONG_LIMIT;
        self.self_committing(async {
            let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL statement_timeout = 0";
            self.command(begin).await?;
            let value = work(&self).await?;
            self.command("COMMIT").await?;
            Ok(value)
        })
        .await
    }

    /// Runs `work` that begins and commits a transaction itself, and rolls back where it fails.
    pub(super) async fn self_committing<T>(
        &self,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, StorageError> {
        self.bounded(async {
            let done = work.await;
            if done.is_err() {
                // Where this fails too, the connection is lost, and with it the transaction.
                let _ = self.command("ROLLBACK").await;
            }
            done
        })
        .await
    }

    /// BEGIN, COMMIT and the like.
    pub(super) async fn command(&self, sql: &'static str) -> QueryResult<()> {
        let mut conn: &AsyncPgConnection = self;
        conn.batch_execute(sql).await
    }

    async fn bounded<T>(&self, work: impl Future<Output = Result<T, Fault>>) -> Result<T, StorageError> {
        self.idle.store(false, Ordering::Relaxed);
        match timeout_at(self.deadline, work).await {
            Ok(done) => {
                self.idle.store(true, Ordering::Relaxed);
                done.map_err(|fault| fault.0)
            }
            Err(_) => Err(StorageError::Unavailable("the database did not answer in time".into())),
        }
    }
}

impl Deref for Loan {
    type Target = AsyncPgConnection;
    fn deref(&self) -> &AsyncPgConnection {
        match &self.object {
            Some(object) => object,
            None => unreachable!("only dropping takes it out"),
        }
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if let Some(object) = self.object.take()
            && !self.idle.load(Ordering::Relaxed)
        {
            drop(Object::take(object));
        }
    }
}
