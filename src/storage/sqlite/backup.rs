//! A consistent copy of a database that others go on writing.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::error::OpenError;
use super::open::connect;
use super::statement::statement;

/// Copies the database `source`, as it is at one moment and beside running servers, to the new file `target`
/// (0600, synced). The copy gets a new incarnation when it is first opened, see the module doc. An existing
/// `target` is refused. Blocks for as long as the copy takes.
pub fn backup(source: &Path, target: &Path) -> Result<(), OpenError> {
    let refused = |reason: String| OpenError::Backup { path: source.into(), reason };
    if !source.exists() {
        return Err(refused("there is no such file".into()));
    }
    if target.exists() {
        return Err(refused(format!("{} exists", target.display())));
    }
    // Under another name until it is whole, so that a broken copy is never taken for a backup.
    let partial = target.with_extension("partial");
    let copied = copy(source, &partial).and_then(|()| {
        fs::rename(&partial, target)
            .and_then(|()| sync_folder(target))
            .map_err(|error| refused(format!("{}: {error}", target.display())))
    });
    if copied.is_err() {
        let _ = fs::remove_file(&partial);
    }
    copied
}

fn copy(source: &Path, target: &Path) -> Result<(), OpenError> {
    let refused = |reason: String| OpenError::Backup { path: source.into(), reason };
    let unusable = |error: std::io::Error| refused(format!("{}: {error}", target.display()));
    // VACUUM INTO takes an empty file that is there; so it is nobody else's to read from the start.
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(target).map_err(unusable)?;
    let name = target.to_str().ok_or_else(|| refused("the name of the copy is not UTF-8".into()))?;
    let mut live = connect(source)?;
    vacuum_into(&mut live, name).map_err(|error| refused(error.to_string()))?;
    mark_copy(&mut connect(target)?).map_err(|error| refused(error.to_string()))?;
    File::open(target).and_then(|file| file.sync_all()).map_err(unusable)
}

fn sync_folder(file: &Path) -> std::io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

statement!(fn vacuum_into(target: &'a str) = "VACUUM INTO ?");
statement!(fn mark_copy() = "UPDATE deployment SET restored_from_backup = 1");
