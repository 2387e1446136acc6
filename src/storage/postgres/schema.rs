//! Schema versions: what is pending, and running it. The table of versions is diesel's own, so that its command
//! line sees the same.
//!
//! Diesel's harness is not used: on a connection like ours it blocks a thread of the runtime, and panics where
//! there is one only.

use std::time::Duration;

use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};

use super::connection::{establish_patient, quoted};
use super::error::OpenError;
use super::statement::statement;
use super::target::Target;
use super::users;

/// Every migration with its version, oldest first.
const MIGRATIONS: [(&str, &str); 4] = [
    ("00000000000001", include_str!("../../../migrations/postgres/00000000000001_history/up.sql")),
    ("00000000000002", include_str!("../../../migrations/postgres/00000000000002_changes/up.sql")),
    (WITH_NAME_KEYS, include_str!("../../../migrations/postgres/00000000000003_lists/up.sql")),
    ("00000000000004", include_str!("../../../migrations/postgres/00000000000004_presence/up.sql")),
];
/// The one that adds the keys of names, which chatd makes.
const WITH_NAME_KEYS: &str = "00000000000003";
/// How long one of several processes that start at once waits for another's migrations.
const TURN_LIMIT: Duration = Duration::from_secs(120);
/// PostgreSQL 13: `gen_random_uuid`, autovacuum of tables that only grow.
const VERSION_MIN: i32 = 130_000;

const VERSIONS: &str = "CREATE TABLE IF NOT EXISTS __diesel_schema_migrations (
    version varchar(50) PRIMARY KEY NOT NULL, run_on timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP)";

/// A connection for schema work on a database that chatd can work with.
pub(super) async fn connect(target: &Target) -> Result<AsyncPgConnection, OpenError> {
    let database = || target.name.clone();
    let conn = establish_patient(target, TURN_LIMIT)
        .await
        .map_err(|error| OpenError::Unreachable { database: database(), reason: error.to_string() })?;
    let unsuitable = |reason: String| Err(OpenError::Unsuitable { database: database(), reason });
    let rows = select_server(&conn).await.map_err(|error| unreachable(target, &error))?;
    match rows.first() {
        Some((version, _)) if *version < VERSION_MIN => {
            unsuitable(format!("PostgreSQL {} is too old: 13 is needed", version / 10_000))
        }
        Some((_, encoding)) if encoding != "UTF8" => {
            unsuitable(format!("its encoding is {encoding}: UTF8 is needed"))
        }
        _ => Ok(conn),
    }
}

/// The versions that the database lacks, oldest first. Changes nothing.
pub(super) async fn pending(target: &Target, conn: &AsyncPgConnection) -> Result<Vec<String>, OpenError> {
    let applied = applied(conn).await.map_err(|error| unreachable(target, &error))?;
    if let Some(found) = applied.iter().find(|found| !MIGRATIONS.iter().any(|(known, _)| known == found)) {
        let known = MIGRATIONS.last().map(|(version, _)| (*version).to_owned()).unwrap_or_default();
        return Err(OpenError::Newer { database: target.name.clone(), found: found.clone(), known });
    }
    let lacking = MIGRATIONS.iter().map(|(version, _)| *version);
    Ok(lacking.filter(|version| !applied.iter().any(|known| known == version)).map(Into::into).collect())
}

/// Runs what is pending, one transaction a migration, behind a lock: of several processes that start at once,
/// one migrates and the others wait. Returns the versions that it ran.
pub(super) async fn run(target: &Target, conn: &mut AsyncPgConnection) -> Result<Vec<String>, OpenError> {
    // The lock ends with the connection.
    lock(conn).await.map_err(|error| failed(target, &error))?;
    if let Some(schema) = &target.schema
        && count_schemas(conn, schema).await.map_err(|error| failed(target, &error))? == [(0,)]
    {
        let create = format!("CREATE SCHEMA {}", quoted(schema));
        conn.batch_execute(&create).await.map_err(|error| failed(target, &error))?;
    }
    let pending = pending(target, conn).await?;
    for version in &pending {
        let sql = MIGRATIONS.iter().find(|(known, _)| known == version).map_or("", |(_, sql)| *sql);
        migrate(conn, version, sql).await.map_err(|error| failed(target, &error))?;
    }
    Ok(pending)
}

async fn migrate(conn: &mut AsyncPgConnection, version: &str, sql: &str) -> diesel::QueryResult<()> {
    conn.batch_execute("BEGIN").await?;
    conn.batch_execute(VERSIONS).await?;
    conn.batch_execute(sql).await?;
    if version == WITH_NAME_KEYS {
        users::fill_name_keys(conn).await?;
    }
    insert_version(conn, version).await?;
    // A connection that fails before this is closed by the caller, which rolls back.
    conn.batch_execute("COMMIT").await
}

/// The versions that the database has, oldest first.
pub(super) async fn applied(conn: &AsyncPgConnection) -> diesel::QueryResult<Vec<String>> {
    if count_version_tables(conn).await? == [(0,)] {
        return Ok(Vec::new());
    }
    Ok(select_versions(conn).await?.into_iter().map(|(version,)| version).collect())
}

fn unreachable(target: &Target, error: &diesel::result::Error) -> OpenError {
    OpenError::Unreachable { database: target.name.clone(), reason: error.to_string() }
}

fn failed(target: &Target, error: &diesel::result::Error) -> OpenError {
    OpenError::Migration { database: target.name.clone(), reason: error.to_string() }
}

statement!(
    fn select_server() -> (i32, String) =
        "SELECT current_setting('server_version_num')::integer, current_setting('server_encoding')"
);

statement!(
    /// The key is "chatd" in ASCII and a byte 1.
    fn lock() -> (i64,) =
        "SELECT count(*) FROM (SELECT pg_advisory_lock(109299962766337)) AS locked"
);

statement!(
    fn count_schemas(name: &'a str) -> (i64,) = "SELECT count(*) FROM pg_namespace WHERE nspname = ?"
);

statement!(
    fn count_version_tables() -> (i64,) =
        "SELECT count(to_regclass('__diesel_schema_migrations'))"
);

statement!(
    fn select_versions() -> (String,) =
        "SELECT version::text FROM __diesel_schema_migrations ORDER BY version"
);

statement!(
    fn insert_version(version: &'a str) = "INSERT INTO __diesel_schema_migrations (version) VALUES (?)"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_migration_of_the_folder_is_carried() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/postgres");
        let mut versions: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().split('_').next().unwrap().to_owned())
            .collect();
        versions.sort_unstable();
        assert_eq!(MIGRATIONS.map(|(version, _)| version.to_owned()).to_vec(), versions);
    }
}
