//! What is SQLite's own: the file, its damage, its limits. What every storage does is in `tests/contract`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use diesel::connection::SimpleConnection;
use futures_util::FutureExt;

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

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_named() {
    let path = Path::new("/dev/null/data/chatd.db");
    let error = open(path).await.err().unwrap();
    assert!(matches!(error, OpenError::Unusable { .. }));
    assert!(error.to_string().contains("/dev/null/data/chatd.db"), "{error}");
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let folder = Folder::new();
    let path = folder.database();
    drop(open(&path).await.unwrap());
    let newer = "INSERT INTO __diesel_schema_migrations (version) VALUES ('99990101000000')";
    open::connect(&path).unwrap().batch_execute(newer).unwrap();
    for error in [open(&path).await.err().unwrap(), migrate(&path).unwrap_err(), pending(&path).unwrap_err()]
    {
        let OpenError::Newer { found, known, .. } = error else { panic!("{error}") };
        assert_eq!((found.as_str(), known.as_str()), ("99990101000000", "00000000000005"));
    }
}

#[tokio::test]
async fn an_older_schema_is_migrated_or_refused_as_asked() {
    let folder = Folder::new();
    let path = folder.database();
    let check = SqliteSettings { migrate: Migrate::Check, ..SqliteSettings::new(&path) };
    let all = ["00000000000001", "00000000000002", "00000000000003", "00000000000004", "00000000000005"];
    assert_eq!(pending(&path).unwrap(), all);
    assert!(!path.exists(), "asking makes no file");
    let refused = SqliteStore::open(check.clone()).await.err();
    assert!(matches!(refused, Some(OpenError::Pending { count, .. }) if count == all.len()));
    assert_eq!(migrate(&path).unwrap(), all);
    assert_eq!(migrate(&path).unwrap(), [""; 0]);
    assert_eq!(pending(&path).unwrap(), [""; 0]);
    assert!(SqliteStore::open(check).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_start_at_once_make_one_database() {
    let folder = Folder::new();
    let mut starts = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let path = folder.database();
        starts.spawn(async move { open(&path).await.unwrap().incarnation().await.unwrap() });
    }
    let incarnations = starts.join_all().await;
    assert!(incarnations.iter().all(|each| *each == incarnations[0]), "{incarnations:?}");
}

#[tokio::test]
async fn a_full_disk_is_unavailable_and_nothing_is_lost_when_there_is_room_again() {
    let folder = Folder::new();
    let store = open(&folder.database()).await.unwrap();
    let number = store.attach_log(log(1)).await.unwrap();
    let epoch = store.claim(number, &[0]).await.unwrap()[0].epoch;
    let limit = |pages: &'static str| store.write(move |conn| Ok(conn.batch_execute(pages)?));
    limit("PRAGMA max_page_count = 1").await.unwrap();
    let batch = samples::batch(number, epoch, 0, 2_000);
    let full = store.apply(batch.clone()).await.unwrap_err();
    assert_eq!(full, StorageError::Unavailable("database or disk is full".into()));
    assert_eq!(store.claims(number, &[0]).await.unwrap()[0].next_offset, 0);
    limit("PRAGMA max_page_count = 1073741823").await.unwrap();
    let applied = store.apply(batch).await.unwrap();
    let crate::storage::Applied::Done { outcomes, .. } = &applied[0] else { panic!("{applied:?}") };
    assert_eq!(outcomes.len(), 2_000);
}

#[tokio::test]
async fn a_caller_who_goes_away_disturbs_nobody() {
    // On a runtime of one thread, as actix has them.
    let folder = Folder::new();
    let store = open(&folder.database()).await.unwrap();
    let number = store.attach_log(log(1)).await.unwrap();
    let epoch = store.claim(number, &[0]).await.unwrap()[0].epoch;
    for _ in 0..20 {
        let _ = store.incarnation().now_or_never();
    }
    let _ = store.apply(samples::batch(number, epoch, 0, 2_000)).now_or_never();
    store.incarnation().await.unwrap();
    // What was abandoned is done nevertheless.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while store.claims(number, &[0]).await.unwrap()[0].next_offset != 2_000 {
        assert!(std::time::Instant::now() < deadline, "it never ended");
    }
    let fenced = store.apply(samples::batch(number, epoch, 0, 1)).await.unwrap();
    assert_eq!(fenced, [crate::storage::Applied::Fenced { partition: 0 }]);
}

#[tokio::test]
async fn a_panic_in_a_transaction_leaves_the_connection_usable() {
    let folder = Folder::new();
    let store = open(&folder.database()).await.unwrap();
    let lost = store.write::<()>(|conn| connection::immediately(conn, |_| panic!("a fault"))).await;
    assert!(matches!(lost, Err(StorageError::Unavailable(_))));
    // The first to come ends what was left open; from the second on all is well.
    let _ = store.attach_log(log(1)).await;
    store.attach_log(log(1)).await.unwrap();
}

#[tokio::test]
async fn a_restored_backup_is_the_same_history_in_a_new_incarnation() {
    let folder = Folder::new();
    let store = open(&folder.database()).await.unwrap();
    let number = store.attach_log(log(1)).await.unwrap();
    let epoch = store.claim(number, &[0]).await.unwrap()[0].epoch;
    store.apply(samples::batch(number, epoch, 0, 300)).await.unwrap();
    let target = folder.0.path().join("backup.db");
    backup(&folder.database(), &target).unwrap();
    assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(matches!(backup(&folder.database(), &target), Err(OpenError::Backup { .. })), "it exists");
    assert!(backup(&folder.0.path().join("nothing.db"), &folder.0.path().join("b.db")).is_err());
    store.apply(samples::batch(number, epoch, 300, 1)).await.unwrap();

    let restored = open(&target).await.unwrap();
    let incarnation = restored.incarnation().await.unwrap();
    assert_ne!(incarnation, store.incarnation().await.unwrap());
    assert_eq!(restored.frontier(number).await.unwrap().offsets.as_ref(), [299]);
    drop(restored);
    assert_eq!(open(&target).await.unwrap().incarnation().await.unwrap(), incarnation, "once");
}

#[tokio::test]
async fn people_who_look_into_the_database_find_messages() {
    let folder = Folder::new();
    let store = open(&folder.database()).await.unwrap();
    let number = store.attach_log(log(1)).await.unwrap();
    let epoch = store.claim(number, &[0]).await.unwrap()[0].epoch;
    store.apply(samples::batch(number, epoch, 0, 1)).await.unwrap();
    let rows = store.read(|conn| Ok(select_messages(conn)?)).await.unwrap();
    let id = "1ba04d0a-f5b1-834e-870a-1336a013b369".to_owned();
    assert_eq!(rows, [(id, 2, 3, "text 1".to_owned(), "2023-11-14T22:13:20.120Z".to_owned())]);
}

statement::statement!(
    fn select_messages() -> (String, i64, i64, String, String) =
        "SELECT id, sender_id, receiver_id, content, created_at FROM messages"
);

mod samples {
    //! Messages of 2 to 3; the first is that of the protocol's vectors.

    use std::time::Duration;

    use crate::domain::history::Rules;
    use crate::domain::{
        ClientId, Content, ConversationId, LogNumber, MessageBody, MessageId, Offset, Record, RecordBody,
        Timestamp, UserId,
    };
    use crate::storage::{Batch, PartitionBatch};

    fn record(n: i64) -> Record {
        let (from, to) = (UserId::new(2).unwrap(), UserId::new(3).unwrap());
        let conversation = ConversationId::dm(from, to).unwrap();
        let client_id = ClientId::new(format!("c{n}")).unwrap();
        let content = Content::new(format!("text {n}")).unwrap();
        Record {
            id: MessageId::derive(conversation, from, &client_id),
            client_id,
            conversation,
            from,
            at: Timestamp(1_700_000_000_120),
            body: RecordBody::Message(MessageBody { content, data: None, reply_to: None }),
        }
    }

    pub(super) fn batch(log: LogNumber, epoch: i64, expected: Offset, count: i64) -> Batch {
        let next = expected + count;
        let partition = PartitionBatch {
            partition: 0,
            epoch,
            expected,
            next,
            last_digest: uuid::Uuid::nil(),
            published: -1,
            records: (expected..next).map(|offset| (offset, record(offset + 1))).collect(),
            dead: Vec::new(),
        };
        let (grace, rules) = (Duration::from_secs(10), Rules::default());
        Batch { log, partitions: vec![partition], grace, rules }
    }
}
