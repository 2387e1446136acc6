//! What an operator asks of a database beside running servers.

use diesel_async::AsyncPgConnection;
use uuid::Uuid;

use super::PostgresSettings;
use super::error::OpenError;
use super::schema;
use super::statement::{Id, statement};
use super::target::Target;
use crate::domain::Timestamp;

/// A database as `chatd doctor` finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// `HOST:PORT/NAME`, without credentials.
    pub database: String,
    /// The server's version, such as "15.18".
    pub version: String,
    /// The protocol and the cipher of this connection, such as "TLSv1.3 TLS_AES_256_GCM_SHA384"; `None`: it is
    /// not encrypted.
    pub tls: Option<String>,
    /// The newest schema version; `None`: the tables are not there yet.
    pub schema: Option<String>,
    /// The schema versions that it lacks, oldest first.
    pub pending: Vec<String>,
    /// It follows another server and cannot be written.
    pub is_standby: bool,
    /// The server's `max_connections`, for all who use it.
    pub connections_max: u32,
    /// Its `synchronous_commit` for this role. With "off" a crash of the server takes back what was committed in
    /// its last moments.
    pub synchronous_commit: String,
    /// Its clock when it was asked.
    pub clock: Timestamp,
}

/// Looks at a database; changes nothing.
///
/// # Errors
/// The URL or the database cannot be used.
pub async fn inspect(settings: &PostgresSettings) -> Result<Inspection, OpenError> {
    let target = Target::new(settings)?;
    let conn = schema::connect(&target).await?;
    let pending = schema::pending(&target, &conn).await?;
    let (rows, schema) = read(&conn).await.map_err(|error| OpenError::Unreachable {
        database: target.name.clone(),
        reason: error.to_string(),
    })?;
    let (version, tls, is_standby, connections, synchronous_commit, clock) = rows;
    Ok(Inspection {
        database: target.name,
        version,
        tls,
        schema,
        pending,
        is_standby,
        connections_max: u32::try_from(connections).unwrap_or_default(),
        synchronous_commit,
        clock: Timestamp(clock),
    })
}

/// Gives the database a new incarnation, after it was restored from a backup: clients' cursors of the lost
/// history then count as foreign, and they read everything again. Every server is to be started anew.
///
/// # Errors
/// The URL or the database cannot be used.
pub async fn renew_incarnation(settings: &PostgresSettings) -> Result<Uuid, OpenError> {
    let target = Target::new(settings)?;
    let conn = schema::connect(&target).await?;
    let rows = set_incarnation(&conn, Id(Uuid::new_v4())).await;
    match rows.map(|rows| rows.first().copied()) {
        Ok(Some((Id(incarnation),))) => Ok(incarnation),
        Ok(None) => {
            Err(OpenError::Unsuitable { database: target.name, reason: "it has lost its identity".into() })
        }
        Err(error) => Err(OpenError::Unsuitable { database: target.name, reason: error.to_string() }),
    }
}

/// Version, TLS, whether it is a standby, connections, synchronous_commit, clock.
type ServerRow = (String, Option<String>, bool, i32, String, i64);

async fn read(conn: &AsyncPgConnection) -> diesel::QueryResult<(ServerRow, Option<String>)> {
    let server = select_server(conn).await?.into_iter().next().ok_or(diesel::result::Error::NotFound)?;
    Ok((server, schema::applied(conn).await?.pop()))
}

statement!(
    fn select_server() -> ServerRow =
        "SELECT split_part(current_setting('server_version'), ' ', 1),
                (SELECT s.version || ' ' || s.cipher FROM pg_stat_ssl AS s
                 WHERE s.pid = pg_backend_pid() AND s.ssl),
                pg_is_in_recovery(), current_setting('max_connections')::integer,
                current_setting('synchronous_commit'),
                floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
);

statement!(
    fn set_incarnation(incarnation: Id) -> (Id,) =
        "UPDATE deployment SET incarnation = ? RETURNING incarnation"
);
