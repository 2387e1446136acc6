//! What is SQLite's own: the file, its damage, its limits. What every storage does is in `tests/contract`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::*;
use crate::domain::Partition;
use crate::pipeline::LogIdentity;
use crate::storage::{Ledger, StorageError};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn database(&self) -> PathBuf {
        self.0.path().join("data/chatd.db")
    }
}

async fn open(path: &Path) -> Result<SqliteStore, OpenError> {
    SqliteStore::open(SqliteSettings::new(path)).await
}

fn log(partitions: Partition) -> LogIdentity {
    LogIdentity { id: uuid::Uuid::from_u128(7), partitions }
}

#[tokio::test]
async fn folder_and_files_are_the_owners_alone() {
    let folder = Folder::new();
    let path = folder.database();
    let store = open(&path).await.unwrap();
    store.attach_log(log(1)).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    for name in ["chatd.db", "chatd.db-wal", "chatd.db-shm"] {
        assert_eq!(mode(&path.with_file_name(name)), 0o600, "{name}");
    }
}

#[tokio::test]
async fn a_reopened_database_is_the_same_history() {
    let folder = Folder::new();
    let first = open(&folder.database()).await.unwrap();
    let (incarnation, number) = (first.incarnation().await.unwrap(), first.attach_log(log(2)).await.unwrap());
    drop(first);
    let second = open(&folder.database()).await.unwrap();
    assert_eq!(second.incarnation().await.unwrap(), incarnation);
    assert_eq!(second.attach_log(log(2)).await.unwrap(), number);
    assert!(matches!(second.attach_log(log(3)).await, Err(StorageError::Refused(_))));
}

#[tokio::test]
async fn another_programs_database_and_a_damaged_one_are_refused_and_left_alone() {
    let folder = Folder::new();
    let path = folder.0.path().join("notes.db");
    fs::write(&path, "my notes, which are no database but long enough to look like a header").unwrap();
    assert!(matches!(open(&path).await, Err(OpenError::Damaged { .. })));
    assert!(fs::read_to_string(&path).unwrap().starts_with("my notes"));

    let path = folder.database();
    drop(open(&path).await.unwrap());
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0x5a);
    fs::write(&path, &bytes).unwrap();
    assert!(matches!(open(&path).await, Err(OpenError::Damaged { .. })));
    assert_eq!(fs::read(&path).unwrap(), bytes);
}
