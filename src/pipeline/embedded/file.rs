//! The file of the log: made once, and from then on opened only when it is whole.
//!
//! Nothing here ever creates a log where one should have been. A new file is finished under another name and
//! renamed into place, so that a crash leaves either no log or a whole one.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{Integer, Text};
use diesel::sqlite::SqliteConnection;
use uuid::Uuid;

use super::error::OpenError;
use super::settings::{EmbeddedLogSettings, PARTITIONS_MAX};
use super::table::{self, meta};
use super::wal;
use crate::domain::{Partition, Timestamp};
use crate::pipeline::{Bounds, LogIdentity};

/// "chlg", in the header of the file, so that no other SQLite file is taken for a log.
pub(super) const APPLICATION_ID: i32 = 0x6368_6c67;
/// The format that this release reads and writes.
const FORMAT: i32 = 1;
/// Files up to this size are checked page by page when opened: some 10 ms. In larger ones the edges are read,
/// and what is in between is checked as it is read.
const CHECKED_BYTES_MAX: u64 = 8 << 20;

/// A log that was found whole.
pub(super) struct Opened {
    pub(super) connection: SqliteConnection,
    pub(super) identity: LogIdentity,
    pub(super) bounds: Vec<Bounds>,
    /// Held as long as the log is open: no second process writes it.
    pub(super) lock: File,
}

/// Opens the log, or makes it where there is none.
pub(super) fn open(settings: &EmbeddedLogSettings) -> Result<Opened, OpenError> {
    let path = &settings.path;
    if !(1..=PARTITIONS_MAX).contains(&settings.partitions) {
        return Err(OpenError::Partitions(settings.partitions));
    }
    let io = |error: io::Error| OpenError::of_io(path, &error);
    DirBuilder::new().recursive(true).mode(0o700).create(folder(path)).map_err(io)?;
    let lock = lock(path)?;
    let wal = beside(path, "-wal");
    match fs::metadata(path) {
        Ok(found) => check_files(path, &wal, found.len())?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if wal.exists() {
                return Err(OpenError::damaged(path, "it is missing, though its write-ahead log is there"));
            }
            create(path, settings.partitions)?;
        }
        Err(error) => return Err(io(error)),
    }
    let (connection, identity, bounds) = open_whole(path)?;
    Ok(Opened { connection, identity, bounds, lock })
}

/// A connection of the log, set up for durable commits.
pub(super) fn connect(path: &Path) -> ConnectionResult<SqliteConnection> {
    let mut connection = SqliteConnection::establish(&uri(path))?;
    connection
        .batch_execute(
            "PRAGMA busy_timeout = 1000;
             PRAGMA synchronous = FULL;
             PRAGMA cell_size_check = ON;
             PRAGMA journal_size_limit = 8388608;",
        )
        .map_err(ConnectionError::CouldntSetupConfiguration)?;
    Ok(connection)
}

/// Moves what is in the write-ahead log into the file and empties it: from then on nothing unfinished is left
/// in it. False where another connection is in the way.
pub(super) fn settle(connection: &mut SqliteConnection) -> QueryResult<bool> {
    let (busy, _, _) =
        sql::<(Integer, Integer, Integer)>("PRAGMA wal_checkpoint(TRUNCATE)")
            .get_result::<(i32, i32, i32)>(connection)?;
    Ok(busy == 0)
}

/// Which log an open file is, and its format.
pub(super) fn read_identity(connection: &mut SqliteConnection) -> QueryResult<Option<(LogIdentity, i32)>> {
    let row =
        meta::table.select((meta::log_id, meta::partitions, meta::format)).first(connection).optional()?;
    Ok(row.and_then(|(id, partitions, format): (String, i32, i32)| {
        let partitions = Partition::try_from(partitions).ok().filter(|n| (1..=PARTITIONS_MAX).contains(n))?;
        Some((LogIdentity { id: Uuid::try_parse(&id).ok()?, partitions }, format))
    }))
}

/// The name of a file that SQLite, or the lock, keeps beside the log's.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The folder of a file; a bare name lies in the current one.
pub(super) fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// SQLite's name of an existing file. `mode=rw` so that it is never made by being opened.
fn uri(path: &Path) -> String {
    let mut uri = String::from("file:");
    for character in path.to_string_lossy().chars() {
        match character {
            '%' => uri.push_str("%25"),
            '?' => uri.push_str("%3f"),
            '#' => uri.push_str("%23"),
            other => uri.push(other),
        }
    }
    uri + "?mode=rw"
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let io = |error: io::Error| OpenError::of_io(path, &error);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(beside(path, ".lock")).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(io(error)),
    }
}

fn create(path: &Path, partitions: Partition) -> Result<(), OpenError> {
    let io = |error: io::Error| OpenError::of_io(path, &error);
    let unfinished = beside(path, ".new");
    for suffix in ["", "-wal", "-shm", "-journal"] {
        match fs::remove_file(beside(&unfinished, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished).map_err(io)?;
    let mut connection = connect(&unfinished).map_err(|error| OpenError::of_sqlite(path, &error))?;
    fill(&mut connection, partitions).map_err(|error| OpenError::of_sqlite(path, &error))?;
    drop(connection);
    File::open(&unfinished).and_then(|file| file.sync_all()).map_err(io)?;
    fs::rename(&unfinished, path).map_err(io)?;
    File::open(folder(path)).and_then(|folder| folder.sync_all()).map_err(io)
}

fn fill(connection: &mut SqliteConnection, partitions: Partition) -> QueryResult<()> {
    // Nothing has to survive a crash before the whole file is synced and renamed.
    connection.batch_execute("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")?;
    connection.batch_execute(&format!("PRAGMA application_id = {APPLICATION_ID};"))?;
    connection.batch_execute(table::SCHEMA)?;
    diesel::insert_into(meta::table)
        .values((
            meta::only.eq(1),
            meta::format.eq(FORMAT),
            meta::log_id.eq(Uuid::new_v4().to_string()),
            meta::partitions.eq(i32::try_from(partitions).unwrap_or(i32::MAX)),
            meta::opened_at.eq(Timestamp::now().0),
        ))
        .execute(connection)?;
    Ok(())
}

/// Looks at the bytes of the file and its WAL before SQLite does, which takes an empty file for a new one and
/// the good start of a broken WAL for all of it.
///
/// The lock must be held: closing a file drops SQLite's own locks of this process on it.
fn check_files(path: &Path, wal: &Path, length: u64) -> Result<(), OpenError> {
    let io = |error: io::Error| OpenError::of_io(path, &error);
    let foreign = |what: &str| OpenError::Foreign { path: path.to_owned(), what: what.to_owned() };
    if length == 0 {
        return Err(OpenError::damaged(path, "it is empty"));
    }
    let mut header = [0; 100];
    match File::open(path).map_err(io)?.read_exact(&mut header) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(OpenError::damaged(path, "it ends within its header"));
        }
        other => other.map_err(io)?,
    }
    if &header[..16] != b"SQLite format 3\0" {
        return Err(foreign("it is no SQLite file"));
    }
    let pages_written = match File::open(wal) {
        Ok(file) => match wal::check(BufReader::new(file)).map_err(io)? {
            wal::Verdict::Whole(pages) => pages,
            wal::Verdict::Damaged(what) => return Err(OpenError::damaged(path, what)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => HashSet::new(),
        Err(error) => return Err(io(error)),
    };
    check_length(&header, length, &pages_written).map_err(|what| OpenError::damaged(path, what))
}

/// Whether a file of this length holds all the pages that its header counts, or the WAL has them: a checkpoint
/// writes the header first, and may have been interrupted.
fn check_length(header: &[u8; 100], length: u64, in_wal: &HashSet<u32>) -> Result<(), &'static str> {
    // The header of <https://www.sqlite.org/fileformat2.html#the_database_header>: the page size at 16, where 1
    // stands for 65,536; the number of pages at 28.
    let page_size = match u64::from(u16::from_be_bytes([header[16], header[17]])) {
        1 => 65536,
        size if size >= 512 => size,
        _ => return Err("its header is broken"),
    };
    let pages = u32::from_be_bytes([header[28], header[29], header[30], header[31]]);
    let present = u32::try_from(length / page_size).unwrap_or(u32::MAX);
    if (present.saturating_add(1)..=pages).all(|page| in_wal.contains(&page)) {
        Ok(())
    } else {
        Err("it is shorter than its header says")
    }
}

fn open_whole(path: &Path) -> Result<(SqliteConnection, LogIdentity, Vec<Bounds>), OpenError> {
    let sqlite = |error: diesel::result::Error| OpenError::of_sqlite(path, &error);
    let mut connection = connect(path).map_err(|error| OpenError::of_sqlite(path, &error))?;
    let application: i32 =
        sql::<Integer>("PRAGMA application_id").get_result(&mut connection).map_err(sqlite)?;
    if application != APPLICATION_ID {
        let what = "it is a SQLite file of something else".into();
        return Err(OpenError::Foreign { path: path.to_owned(), what });
    }
    let Some((identity, format)) = read_identity(&mut connection).map_err(sqlite)? else {
        return Err(OpenError::damaged(path, "it does not say which log it is"));
    };
    if format > FORMAT {
        return Err(OpenError::Newer { path: path.to_owned(), format });
    }
    // A backup made by VACUUM INTO comes without a write-ahead log.
    connection.batch_execute("PRAGMA journal_mode = WAL").map_err(sqlite)?;
    // What another process reads just now, a backup perhaps, may stay in the WAL.
    settle(&mut connection).map_err(sqlite)?;
    if fs::metadata(path).is_ok_and(|file| file.len() <= CHECKED_BYTES_MAX) {
        let found: String =
            sql::<Text>("PRAGMA quick_check(1)").get_result(&mut connection).map_err(sqlite)?;
        if found != "ok" {
            return Err(OpenError::damaged(path, found.replace('\n', " ")));
        }
    }
    let bounds = table::bounds(&mut connection, identity.partitions).map_err(sqlite)?;
    // A write that a full disk or a read-only mount refuses now rather than at the first message.
    diesel::update(meta::table)
        .set(meta::opened_at.eq(Timestamp::now().0))
        .execute(&mut connection)
        .map_err(sqlite)?;
    Ok((connection, identity, bounds))
}
