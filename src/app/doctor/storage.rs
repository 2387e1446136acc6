//! The database: reached, its version, TLS, schema.

use super::{Findings, clock};
use crate::app::backends::postgres_settings;
use crate::config::{Config, StorageBackend};
use crate::storage::postgres::{self, Inspection};
use crate::storage::sqlite;

/// The oldest major version that chatd is tested with.
const POSTGRES_OLDEST: u32 = 13;

pub(super) async fn examine(config: &Config, mut found: Findings) -> Findings {
    match &config.database.backend {
        StorageBackend::Sqlite { path } => {
            if !path.exists() {
                found.fine(format!("SQLite, {}: it is made by the first start", path.display()));
                return found;
            }
            match sqlite::pending(path) {
                Ok(pending) => schema(&mut found, &format!("SQLite, {}", path.display()), &pending),
                Err(error) => {
                    found.problem(error.to_string(), "restore it from a backup (docs/operations.md)")
                }
            }
        }
        StorageBackend::Postgres { url } => {
            let inspected = postgres::inspect(&postgres_settings(config, url, 1)).await;
            match inspected {
                Ok(inspection) => judge(&mut found, config, &inspection),
                Err(error) => found.problem(
                    error.to_string(),
                    "check DATABASE_URL, that the server runs, and that its pg_hba.conf lets chatd in",
                ),
            }
        }
    }
    found
}

fn schema(found: &mut Findings, name: &str, pending: &[String]) {
    match pending.len() {
        0 => found.fine(format!("{name}: reached, with this release's schema")),
        count => found.warn(
            format!("{name}: migrations of this release that are missing: {count}"),
            "run `chatd migrate`, or let a server do it (database.migrate = \"auto\")",
        ),
    }
}

/// What follows from an inspection. Pure.
pub(super) fn judge(found: &mut Findings, config: &Config, is: &Inspection) {
    schema(found, &format!("PostgreSQL {} at {}", is.version, is.database), &is.pending);
    let major = is.version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major < POSTGRES_OLDEST) {
        found.problem(
            format!("PostgreSQL {} is older than {POSTGRES_OLDEST}", is.version),
            "upgrade the server: PostgreSQL's own support has ended too",
        );
    }
    match &is.tls {
        Some(tls) => found.fine(format!("encrypted: {tls}")),
        None => found.in_production(
            "the connection is not encrypted",
            "add sslmode=verify-full (and sslrootcert=FILE) to DATABASE_URL",
        ),
    }
    if is.is_standby {
        found.problem("the server is a standby and cannot be written", "name the primary in DATABASE_URL");
    }
    if is.synchronous_commit == "off" {
        found.problem(
            "synchronous_commit is off: a crash of the server takes back receipts and mails just recorded",
            "ALTER ROLE … SET synchronous_commit = on",
        );
    }
    let pool = u32::try_from(config.database.pool).unwrap_or(u32::MAX);
    if pool.saturating_mul(4) > is.connections_max {
        found.warn(
            format!("database.pool is {pool} a process, and the server allows {} in all", is.connections_max),
            "make database.pool smaller, or max_connections larger: pool times processes must fit",
        );
    }
    clock(found, "the database", is.clock);
}
