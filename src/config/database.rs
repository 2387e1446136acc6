//! `[database]`: where users, conversations and history are kept.

use std::path::PathBuf;

use super::backends::StorageBackend;
use super::reader::Reader;
use super::urls;
use super::value::Choice;

/// Embedded storage, in the data folder.
pub(super) const EMBEDDED_FILE: &str = "chatd.db";

/// Whether a server changes the schema when it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Migrate {
    /// It runs what `chatd migrate` would run.
    Auto,
    /// It refuses to start on an older schema; `chatd migrate` is run by hand.
    Check,
}

impl Choice for Migrate {
    const ALL: &'static [(&'static str, Self)] = &[("auto", Self::Auto), ("check", Self::Check)];
}

/// Settings of storage.
#[derive(Debug, Clone)]
pub struct Database {
    /// `database.url`, `DATABASE_URL`: SQLite under the data folder by default.
    pub backend: StorageBackend,
    /// `database.migrate`: `auto` or `check`.
    pub migrate: Migrate,
    /// `database.pool`: connections that read; to PostgreSQL, all connections. 4.
    pub pool: usize,
    /// `database.schema`: the PostgreSQL schema that holds the tables, so that deployments share a database. The
    /// connection's own search path by default.
    pub schema: Option<String>,
}

impl Database {
    pub(super) fn read(r: &mut Reader<'_>) -> Self {
        Self {
            backend: backend(r),
            migrate: r.get("database.migrate", Migrate::Auto),
            pool: r.within("database.pool", 4, 1..=1_000),
            schema: schema(r),
        }
    }
}

fn schema(r: &mut Reader<'_>) -> Option<String> {
    let schema: Option<String> = r.optional("database.schema");
    let legal = |name: &str| {
        name.len() <= 63
            && name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    if schema.as_deref().is_some_and(|name| !legal(name)) {
        let sentence = "database.schema: up to 63 lower-case letters, digits and underscores, no digit first";
        r.problem("database.schema", sentence);
    }
    schema
}

fn backend(r: &mut Reader<'_>) -> StorageBackend {
    let embedded = StorageBackend::Sqlite { path: r.data(EMBEDDED_FILE) };
    let Some(url) = r.secret_url("database.url") else { return embedded };
    let path = url.expose().strip_prefix("sqlite://").map(PathBuf::from);
    match urls::scheme(url.expose()).as_deref() {
        Some("sqlite") => match path.filter(|path| path.file_name().is_some()) {
            Some(path) => return StorageBackend::Sqlite { path },
            None => {
                r.problem("database.url", "database.url: expected sqlite://FILE, with the name of a file")
            }
        },
        Some("postgres" | "postgresql") => return StorageBackend::Postgres { url },
        _ => r.problem(
            "database.url",
            "database.url: expected sqlite://FILE or postgres://USER:PASSWORD@HOST/DATABASE",
        ),
    }
    embedded
}
