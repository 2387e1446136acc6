//! Opening the file: permissions, settings of a connection, schema versions, damage.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::migration::{Migration, MigrationSource};
use diesel::sqlite::{Sqlite, SqliteConnection};
use diesel::{Connection, QueryResult};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::error::{OpenError, is_damage};
use super::statement::statement;
use super::{Migrate, SqliteSettings, users};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
/// `PRAGMA application_id` of the first migration.
const APPLICATION_ID: i64 = 1_667_785_076;
/// How often a database that another process is creating is asked to become a write-ahead one; SQLite has no
/// busy timeout for that. Times 20 ms: 5 s.
const CREATE_TRIES: u32 = 250;
/// A file up to this size is checked whole when it is opened, in at most 10 ms; a larger one at its roots.
const CHECK_BYTES_MAX: u64 = 4 << 20;

/// What each connection runs with. `busy_timeout` comes first, for those that follow.
const FOR_ALL: &str = "
    PRAGMA busy_timeout = 5000;
    PRAGMA temp_store = MEMORY;
    PRAGMA trusted_schema = OFF;
";
/// The checkpoint of 8,192 pages is the last resort; see the module doc of `sqlite`.
const FOR_WRITER: &str = "
    PRAGMA synchronous = NORMAL;
    PRAGMA cache_size = -4096;
    PRAGMA wal_autocheckpoint = 8192;
    PRAGMA journal_size_limit = 67108864;
";
const FOR_READER: &str = "
    PRAGMA cache_size = -1024;
    PRAGMA query_only = ON;
";

/// The connections of an opened database.
pub(super) struct Connections {
    pub(super) writer: SqliteConnection,
    pub(super) readers: Vec<SqliteConnection>,
}

/// Opens everything; blocks.
pub(super) fn connections(settings: &SqliteSettings) -> Result<Connections, OpenError> {
    let path = settings.path.as_path();
    prepare_file(path)?;
    let mut writer = connect(path)?;
    let pending = pending_of(&mut writer, path)?;
    match settings.migrate {
        Migrate::Check if !pending.is_empty() => {
            return Err(OpenError::Pending { path: path.into(), count: pending.len() });
        }
        Migrate::Check => {}
        Migrate::Auto => {
            become_write_ahead(&mut writer).map_err(|error| failed(path, &error))?;
            if !pending.is_empty() {
                run_migrations(&mut writer, path)?;
            }
        }
    }
    become_write_ahead(&mut writer).map_err(|error| failed(path, &error))?;
    look_for_damage(&mut writer, path)?;
    renew_incarnation(&mut writer).map_err(|error| failed(path, &error))?;
    writer.batch_execute(FOR_WRITER).map_err(|error| failed(path, &error))?;
    let readers = (0..settings.readers.clamp(1, 16))
        .map(|_| {
            let mut reader = connect(path)?;
            reader.batch_execute(FOR_READER).map_err(|error| failed(path, &error))?;
            Ok(reader)
        })
        .collect::<Result<_, OpenError>>()?;
    Ok(Connections { writer, readers })
}

/// Creates the database where it is absent and runs what is pending, in one exclusive transaction: of several
/// processes that start at once, one migrates and the others wait. Returns the versions that it ran. Blocks.
pub fn migrate(path: &Path) -> Result<Vec<String>, OpenError> {
    prepare_file(path)?;
    let mut conn = connect(path)?;
    pending_of(&mut conn, path)?;
    become_write_ahead(&mut conn).map_err(|error| failed(path, &error))?;
    run_migrations(&mut conn, path)
}

/// The schema versions that the database lacks, oldest first; all of them where there is no file. Changes
/// nothing. Blocks.
pub fn pending(path: &Path) -> Result<Vec<String>, OpenError> {
    if !path.exists() {
        return Ok(known_versions());
    }
    pending_of(&mut connect(path)?, path)
}

/// A connection to an existing file.
pub(super) fn connect(path: &Path) -> Result<SqliteConnection, OpenError> {
    let unusable = |reason: String| OpenError::Unusable { path: path.into(), reason };
    // Absolute, so that no name is taken for one of SQLite's own forms (`:memory:`, `file:`).
    let absolute = std::path::absolute(path).map_err(|error| unusable(error.to_string()))?;
    let name = absolute.to_str().ok_or_else(|| unusable("its name is not UTF-8".into()))?;
    let mut conn = SqliteConnection::establish(name).map_err(|error| unusable(error.to_string()))?;
    conn.batch_execute(FOR_ALL).map_err(|error| failed(path, &error))?;
    Ok(conn)
}

/// Makes folder and file where they are absent: for the owner alone. SQLite gives its other files the same.
fn prepare_file(path: &Path) -> Result<(), OpenError> {
    let unusable =
        |error: std::io::Error| OpenError::Unusable { path: path.into(), reason: error.to_string() };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(unusable)?;
    }
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(unusable)?;
    Ok(())
}

/// The write-ahead mode stays with the file, so this does something once in its life.
fn become_write_ahead(conn: &mut SqliteConnection) -> QueryResult<()> {
    for _ in 1..CREATE_TRIES {
        if set_write_ahead(conn).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    set_write_ahead(conn)?;
    Ok(())
}

fn known_versions() -> Vec<String> {
    let migrations: Vec<Box<dyn Migration<Sqlite>>> = MIGRATIONS.migrations().unwrap_or_default();
    let mut versions: Vec<String> =
        migrations.iter().map(|migration| migration.name().version().to_string()).collect();
    versions.sort_unstable();
    versions
}

fn pending_of(conn: &mut SqliteConnection, path: &Path) -> Result<Vec<String>, OpenError> {
    let applied = applied_versions(conn, path)?;
    let known = known_versions();
    if let Some(found) = applied.iter().find(|version| !known.contains(version)) {
        let known = known.last().cloned().unwrap_or_default();
        return Err(OpenError::Newer { path: path.into(), found: found.clone(), known });
    }
    Ok(known.into_iter().filter(|version| !applied.contains(version)).collect())
}

/// The versions that the file has; none for one without tables. Another program's file is refused.
fn applied_versions(conn: &mut SqliteConnection, path: &Path) -> Result<Vec<String>, OpenError> {
    let tables = count_tables(conn).map_err(|error| failed(path, &error))?;
    if tables == [(0,)] {
        return Ok(Vec::new());
    }
    let id = select_application_id(conn).map_err(|error| failed(path, &error))?;
    if id != [(APPLICATION_ID,)] {
        let reason = "it holds tables of another program".into();
        return Err(OpenError::Damaged { path: path.into(), reason });
    }
    let versions = select_versions(conn).map_err(|error| failed(path, &error))?;
    Ok(versions.into_iter().map(|(version,)| version).collect())
}

fn run_migrations(conn: &mut SqliteConnection, path: &Path) -> Result<Vec<String>, OpenError> {
    type Failure = Box<dyn std::error::Error + Send + Sync>;
    conn.exclusive_transaction::<_, Failure, _>(|conn| {
        let versions = conn.run_pending_migrations(MIGRATIONS)?.iter().map(ToString::to_string).collect();
        users::fill_name_keys(conn)?;
        Ok(versions)
    })
    .map_err(|error| OpenError::Migration { path: path.into(), reason: error.to_string() })
}

/// Reads a small file whole, and of a large one the first row of each table.
fn look_for_damage(conn: &mut SqliteConnection, path: &Path) -> Result<(), OpenError> {
    let size = fs::metadata(path).map(|file| file.len()).unwrap_or_default();
    if size <= CHECK_BYTES_MAX {
        let rows = quick_check(conn).map_err(|error| failed(path, &error))?;
        return match rows.first() {
            Some((answer,)) if answer != "ok" => {
                Err(OpenError::Damaged { path: path.into(), reason: answer.clone() })
            }
            Some(_) | None => Ok(()),
        };
    }
    probe(conn).map_err(|error| failed(path, &error))?;
    Ok(())
}

/// Gives a restored backup the identity of its own.
fn renew_incarnation(conn: &mut SqliteConnection) -> QueryResult<()> {
    if select_restored(conn)? == [(1,)] {
        // Synced, as no pragma has loosened this connection yet.
        set_incarnation(conn, uuid::Uuid::new_v4().as_bytes())?;
    }
    Ok(())
}

/// What an error of SQLite means for opening.
pub(super) fn failed(path: &Path, error: &diesel::result::Error) -> OpenError {
    let reason = error.to_string();
    if is_damage(&reason) {
        OpenError::Damaged { path: path.into(), reason }
    } else {
        OpenError::Unusable { path: path.into(), reason }
    }
}

statement!(fn set_write_ahead() -> (String,) = "PRAGMA journal_mode = WAL");
statement!(fn count_tables() -> (i64,) = "SELECT count(*) FROM sqlite_schema");
statement!(fn select_application_id() -> (i64,) = "SELECT application_id FROM pragma_application_id");
statement!(fn select_versions() -> (String,) = "SELECT version FROM __diesel_schema_migrations");
statement!(fn quick_check() -> (String,) = "PRAGMA quick_check(1)");
statement!(
    fn probe() -> (i64,) = "
        SELECT count(*) FROM (SELECT 1 FROM deployment LIMIT 1) UNION ALL
        SELECT count(*) FROM (SELECT 1 FROM logs LIMIT 1) UNION ALL
        SELECT count(*) FROM (SELECT 1 FROM log_partitions LIMIT 1) UNION ALL
        SELECT count(*) FROM (SELECT email FROM users LIMIT 1) UNION ALL
        SELECT count(*) FROM (SELECT last_at FROM conversations LIMIT 1) UNION ALL
        SELECT count(*) FROM (SELECT read FROM members LIMIT 1) UNION ALL
        SELECT count(*) FROM (SELECT content FROM events LIMIT 1) UNION ALL
        SELECT count(*) FROM (SELECT code FROM rejections LIMIT 1) UNION ALL
        SELECT count(*) FROM (SELECT due_at FROM notify_due LIMIT 1) UNION ALL
        SELECT count(*) FROM (SELECT reason FROM mails LIMIT 1)"
);
statement!(fn select_restored() -> (i64,) = "SELECT restored_from_backup FROM deployment");
statement!(
    fn set_incarnation(incarnation: &'a [u8]) =
        "UPDATE deployment SET incarnation = ?, restored_from_backup = 0 WHERE restored_from_backup = 1"
);
