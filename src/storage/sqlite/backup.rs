//! A consistent copy of a database that others go on writing.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use diesel::QueryResult;
use diesel::result::Error::DeserializationError;
use diesel::sqlite::SqliteConnection;
use uuid::Uuid;

use super::error::OpenError;
use super::open::connect;
use super::statement::statement;
use crate::domain::Offset;

/// Where in a message log a copy stands: what the log has to hold so that a server can go on from the copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// The log.
    pub log: Uuid,
    /// The offset of the next record to apply, of each partition in order.
    pub next: Vec<Offset>,
}

/// Copies the database `source`, as it is at one moment and beside running servers, to the new file `target`
/// (0600, synced), and says which log the copy follows, if it met one. The copy gets a new incarnation when it
/// is first opened, see the module doc. An existing `target` is refused. Blocks for as long as the copy takes.
pub fn backup(source: &Path, target: &Path) -> Result<Option<Followed>, OpenError> {
    let refused = |reason: String| OpenError::Backup { path: source.into(), reason };
    if !source.exists() {
        return Err(refused("there is no such file".into()));
    }
    if target.exists() {
        return Err(refused(format!("{} exists", target.display())));
    }
    // Under another name until it is whole, so that a broken copy is never taken for a backup.
    let partial = target.with_extension("partial");
    let copied = copy(source, &partial).and_then(|followed| {
        fs::rename(&partial, target)
            .and_then(|()| sync_folder(target))
            .map(|()| followed)
            .map_err(|error| refused(format!("{}: {error}", target.display())))
    });
    if copied.is_err() {
        let _ = fs::remove_file(&partial);
    }
    copied
}

fn copy(source: &Path, target: &Path) -> Result<Option<Followed>, OpenError> {
    let refused = |reason: String| OpenError::Backup { path: source.into(), reason };
    let unusable = |error: std::io::Error| refused(format!("{}: {error}", target.display()));
    // VACUUM INTO takes an empty file that is there; so it is nobody else's to read from the start.
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(target).map_err(unusable)?;
    let name = target.to_str().ok_or_else(|| refused("the name of the copy is not UTF-8".into()))?;
    let mut live = connect(source)?;
    vacuum_into(&mut live, name).map_err(|error| refused(error.to_string()))?;
    let mut copy = connect(target)?;
    mark_copy(&mut copy).map_err(|error| refused(error.to_string()))?;
    let followed = followed(&mut copy).map_err(|error| refused(error.to_string()))?;
    File::open(target).and_then(|file| file.sync_all()).map_err(unusable)?;
    Ok(followed)
}

/// Does not go through `SqliteStore`, whose opening would give the copy its new incarnation now.
fn followed(copy: &mut SqliteConnection) -> QueryResult<Option<Followed>> {
    let Some((number, log)) = select_log(copy)?.pop() else { return Ok(None) };
    let log = Uuid::from_slice(&log).map_err(|error| DeserializationError(error.into()))?;
    let next = select_next_offsets(copy, number)?.into_iter().map(|(next,)| next).collect();
    Ok(Some(Followed { log, next }))
}

fn sync_folder(file: &Path) -> std::io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

statement!(fn vacuum_into(target: &'a str) = "VACUUM INTO ?");
statement!(fn mark_copy() = "UPDATE deployment SET restored_from_backup = 1");
statement!(
    fn select_log() -> (i64, Vec<u8>) = "SELECT number, log_id FROM logs ORDER BY number DESC LIMIT 1"
);
statement!(
    fn select_next_offsets(log: i64) -> (i64,) =
        "SELECT next_offset FROM log_partitions WHERE log_number = ? ORDER BY partition"
);
