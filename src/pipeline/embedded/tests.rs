//! What an operator gets from the file of the log: refusals, backups, space; and what callers get when the
//! disk fails in ways that only this adapter knows.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use diesel::connection::{Connection, SimpleConnection};
use diesel::sqlite::SqliteConnection;
use futures_util::future::join_all;
use tempfile::TempDir;

use super::file::beside;
use super::*;
use crate::domain::{ConversationId, UserId};

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("data #1/log.db")
    }

    fn settings(&self) -> EmbeddedLogSettings {
        EmbeddedLogSettings { path: self.path(), retention: Duration::ZERO, ..Default::default() }
    }

    fn open(&self) -> EmbeddedLog {
        EmbeddedLog::open(&self.settings()).unwrap()
    }

    fn refusal(&self) -> String {
        match EmbeddedLog::open(&self.settings()) {
            Ok(_) => panic!("it was opened"),
            Err(error) => error.to_string(),
        }
    }

    /// Another connection, as an operator's shell would have it.
    fn connect(&self) -> SqliteConnection {
        SqliteConnection::establish(self.path().to_str().unwrap()).unwrap()
    }

    /// A log with some records, as a killed process leaves it: what was written last is in the WAL only.
    async fn killed_with(&self, records: u32) {
        let other = Self::new();
        let log = other.open();
        for n in 0..records {
            append(&log, n % 2, &n.to_string()).await.unwrap();
        }
        fs::create_dir_all(self.path().parent().unwrap()).unwrap();
        for suffix in ["", "-wal"] {
            fs::copy(beside(&other.path(), suffix), beside(&self.path(), suffix)).unwrap();
        }
    }
}

fn entry(partition: Partition, value: &str) -> Entry {
    let key = ConversationId::dm(UserId::new(1).unwrap(), UserId::new(2).unwrap()).unwrap();
    Entry { partition, key, value: value.to_owned().into() }
}

async fn append(log: &EmbeddedLog, partition: Partition, value: &str) -> Result<Offset, LogError> {
    log.append(entry(partition, value), log.generation()).await
}

async fn value_at(log: &EmbeddedLog, offset: Offset) -> Option<String> {
    let record = log.record_at(0, offset).await.unwrap()?;
    Some(String::from_utf8(record.value.to_vec()).unwrap())
}

/// Waits for what happens between commits.
async fn eventually(what: impl Fn() -> bool) {
    let waiting = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap();
}

#[tokio::test]
async fn a_new_log_is_readable_by_its_owner_only() {
    let place = Place::new();
    let log = place.open();
    append(&log, 0, "a").await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(place.path().parent().unwrap()), 0o700);
    for suffix in ["", "-wal", "-shm", ".lock"] {
        assert_eq!(mode(&beside(&place.path(), suffix)), 0o600, "{suffix}");
    }
}

#[test]
fn a_log_keeps_its_partitions_and_says_so() {
    let place = Place::new();
    let log = place.open();
    assert_eq!((log.identity().partitions, log.warning()), (6, None));
    drop(log);
    let log = EmbeddedLog::open(&EmbeddedLogSettings { partitions: 12, ..place.settings() }).unwrap();
    assert_eq!(log.identity().partitions, 6);
    assert!(log.warning().unwrap().contains("made with 6"));
    let none = EmbeddedLogSettings { partitions: 0, ..place.settings() };
    assert!(matches!(EmbeddedLog::open(&none), Err(OpenError::Partitions(0))));
}

#[test]
fn a_log_in_use_is_refused_until_it_is_closed() {
    let place = Place::new();
    let log = place.open();
    assert!(place.refusal().contains("in use by another chatd"));
    log.close();
    place.open();
}

#[test]
fn a_creation_that_was_interrupted_leaves_no_obstacle() {
    let place = Place::new();
    fs::create_dir_all(place.path().parent().unwrap()).unwrap();
    fs::write(beside(&place.path(), ".new"), "half").unwrap();
    fs::write(beside(&place.path(), ".new-wal"), "half").unwrap();
    place.open();
    assert!(!beside(&place.path(), ".new").exists());
}

#[test]
fn a_path_that_cannot_be_written_is_named() {
    let place = Place::new();
    fs::write(place.0.path().join("data #1"), "a file where a folder should be").unwrap();
    let refusal = place.refusal();
    assert!(refusal.contains("data #1/log.db cannot be written (a file lies where its folder"), "{refusal}");
}

#[test]
fn what_the_disk_says_becomes_a_sentence() {
    let sentence = |what: &str| OpenError::of_sqlite(Path::new("data/log.db"), &what).to_string();
    assert!(sentence("database or disk is full").starts_with("the disk of data/log.db is full"));
    assert!(sentence("attempt to write a readonly database").starts_with("data/log.db cannot be written"));
    assert!(sentence("disk I/O error").contains("the disk may be full or failing"));
}

#[tokio::test]
async fn a_file_that_is_no_whole_log_is_refused_and_left_as_it_is() {
    let sql = |place: &Place, sql: &str| {
        fs::remove_file(beside(&place.path(), "-wal")).unwrap();
        place.connect().batch_execute(sql).unwrap();
    };
    type Damage<'a> = &'a dyn Fn(&Place);
    let cases: [(&str, Damage<'_>); 9] = [
        ("it is empty", &|place| fs::write(place.path(), "").unwrap()),
        ("within its header", &|place| fs::write(place.path(), "SQLite format 3\0").unwrap()),
        ("no SQLite file", &|place| fs::write(place.path(), [b'x'; 9000]).unwrap()),
        ("missing, though", &|place| fs::remove_file(place.path()).unwrap()),
        ("shorter than its header", &|place| {
            fs::remove_file(beside(&place.path(), "-wal")).unwrap();
            fs::File::options().write(true).open(place.path()).unwrap().set_len(9000).unwrap();
        }),
        ("a SQLite file of something else", &|place| sql(place, "PRAGMA application_id = 7")),
        ("does not say which log", &|place| sql(place, "DELETE FROM meta")),
        ("no such table", &|place| sql(place, "DROP TABLE records")),
        ("newer chatd", &|place| sql(place, "UPDATE meta SET format = 99")),
    ];
    for (expected, damage) in cases {
        let place = Place::new();
        place.killed_with(4).await;
        damage(&place);
        let before = fs::read(place.path()).ok();
        let refusal = place.refusal();
        assert!(refusal.contains(expected) && refusal.contains("log.db"), "{refusal}");
        assert_eq!(fs::read(place.path()).ok(), before, "{expected}");
    }
}

#[tokio::test]
async fn a_broken_page_is_found_before_anything_is_accepted() {
    let place = Place::new();
    let log = place.open();
    for n in 0..200 {
        append(&log, n % 6, &"x".repeat(100)).await.unwrap();
    }
    drop(log);
    let mut bytes = fs::read(place.path()).unwrap();
    let end = bytes.len();
    bytes[end - 4096..end - 4000].fill(0x5a);
    fs::write(place.path(), bytes).unwrap();
    assert!(place.refusal().contains("is damaged"), "{}", place.refusal());
}

#[tokio::test]
async fn a_write_ahead_log_broken_in_the_middle_is_refused_and_one_cut_short_is_not() {
    let place = Place::new();
    place.killed_with(20).await;
    let wal = beside(&place.path(), "-wal");
    let (database, whole) = (fs::read(place.path()).unwrap(), fs::read(&wal).unwrap());
    let restore = |wal_bytes: &[u8]| {
        fs::write(place.path(), &database).unwrap();
        fs::write(&wal, wal_bytes).unwrap();
    };
    for at in [0, 20, whole.len() / 3, whole.len() / 2] {
        let mut broken = whole.clone();
        broken[at] ^= 1;
        restore(&broken);
        assert!(place.refusal().contains("write-ahead log"), "{at}: {}", place.refusal());
        assert_eq!(fs::read(&wal).unwrap(), broken, "it is left as it is");
    }
    // As a power cut leaves it: the last commit was under way, and nobody was answered.
    restore(&whole[..whole.len() - 100]);
    let log = place.open();
    let ends: Offset = log.bounds().await.unwrap().iter().map(|bounds| bounds.end).sum();
    assert_eq!(ends, 19);
    drop(log);
    restore(&whole);
    let log = place.open();
    assert_eq!(value_at(&log, 9).await.unwrap(), "18");
}

#[tokio::test]
async fn a_backup_of_a_running_log_holds_everything_answered_and_restores() {
    let place = Place::new();
    let log = place.open();
    for n in 0..10 {
        append(&log, 0, &n.to_string()).await.unwrap();
    }
    let restored = Place::new();
    fs::create_dir_all(restored.path().parent().unwrap()).unwrap();
    backup(&place.path(), &restored.path()).unwrap();
    append(&log, 0, "later").await.unwrap();
    assert_eq!(fs::metadata(restored.path()).unwrap().permissions().mode() & 0o777, 0o600);
    let again = backup(&place.path(), &restored.path()).unwrap_err();
    assert!(matches!(again, BackupError::Target { .. }), "nothing is written over: {again}");
    let copy = restored.open();
    assert_eq!(copy.identity(), log.identity());
    assert_eq!(value_at(&copy, 9).await.unwrap(), "9");
    assert_eq!(append(&copy, 0, "on").await, Ok(10));
    let none = backup(&place.0.path().join("none.db"), &restored.0.path().join("copy.db"));
    assert!(matches!(none, Err(BackupError::Source { .. })));
    assert!(!restored.0.path().join("copy.db").exists());
}

#[tokio::test]
async fn closing_writes_what_is_queued() {
    let place = Place::new();
    let log = place.open();
    let generation = log.generation();
    let appending: Vec<_> = (0..100).map(|n| log.append(entry(0, &n.to_string()), generation)).collect();
    log.close();
    assert_eq!(join_all(appending).await, (0..100).map(Ok).collect::<Vec<_>>());
    assert!(matches!(append(&log, 0, "late").await, Err(LogError::Unavailable(_))));
    let limits = FetchLimits { records_max: 1, bytes_max: 1, patience: Duration::from_secs(60) };
    assert!(matches!(log.fetch(&[(0, 100)], limits).await, Err(LogError::Unavailable(_))));
    let names = fs::read_dir(place.path().parent().unwrap()).unwrap().map(|file| file.unwrap().file_name());
    let mut names: Vec<_> = names.collect();
    names.sort();
    assert_eq!(names, ["log.db", "log.db.lock"], "a closed log is one file");
    assert_eq!(value_at(&place.open(), 99).await.unwrap(), "99");
}

#[tokio::test]
async fn what_is_forgotten_is_dropped_once_retention_allows_it() {
    let place = Place::new();
    let log = place.open();
    let generation = log.generation();
    join_all((0..1000).map(|n| log.append(entry(0, &n.to_string()), generation))).await;
    log.forget(&[(0, 900)]).await.unwrap();
    eventually(|| log.durable.bounds_of(0).start == 899).await;
    drop(log);
    let log =
        EmbeddedLog::open(&EmbeddedLogSettings { retention: Duration::from_secs(60), ..place.settings() });
    let log = log.unwrap();
    assert_eq!(log.bounds().await.unwrap()[0], Bounds { start: 899, end: 1000 });
    assert_eq!((value_at(&log, 898).await, value_at(&log, 899).await), (None, Some("899".into())));
    log.forget(&[(0, 1000)]).await.unwrap();
    append(&log, 0, "on").await.unwrap();
    log.close();
    assert_eq!(log.durable.bounds_of(0).start, 899, "younger than a minute");
}

#[tokio::test]
async fn records_of_a_commit_whose_answer_was_an_error_are_read_back() {
    let place = Place::new();
    let log = place.open();
    append(&log, 0, "a").await.unwrap();
    // The file has what the writer does not know of: as after a commit that failed only in its answer.
    let stored = "INSERT INTO records VALUES (0, 1, 'b', 0), (0, 2, 'c', 0)";
    place.connect().batch_execute(stored).unwrap();
    assert!(matches!(append(&log, 0, "refused").await, Err(LogError::Unavailable(_))));
    assert_eq!(append(&log, 0, "d").await, Ok(3));
    for (offset, value) in (0..).zip(["a", "b", "c", "d"]) {
        assert_eq!(value_at(&log, offset).await.unwrap(), value);
    }
}

#[tokio::test]
async fn a_file_that_loses_records_or_is_replaced_stops_the_log() {
    let replaced = "UPDATE meta SET log_id = '00000000-0000-4000-8000-000000000000'";
    for harm in ["DELETE FROM records WHERE log_offset > 0", replaced] {
        let place = Place::new();
        let log = place.open();
        for value in ["a", "b"] {
            append(&log, 0, value).await.unwrap();
        }
        let broken =
            "CREATE TRIGGER broken BEFORE INSERT ON records BEGIN SELECT RAISE(ABORT, 'broken'); END;";
        place.connect().batch_execute(&format!("{broken} {harm};")).unwrap();
        assert!(append(&log, 0, "c").await.is_err());
        place.connect().batch_execute("DROP TRIGGER broken").unwrap();
        assert!(matches!(append(&log, 0, "c").await, Err(LogError::Corrupt(_))), "{harm}");
    }
}

#[tokio::test]
async fn records_missing_in_the_middle_are_never_skipped() {
    let place = Place::new();
    let log = place.open();
    for value in ["a", "b", "c"] {
        append(&log, 0, value).await.unwrap();
    }
    drop(log);
    place.connect().batch_execute("DELETE FROM records WHERE log_offset = 1").unwrap();
    let log = place.open();
    let limits = FetchLimits { records_max: 9, bytes_max: 99, patience: Duration::ZERO };
    for from in [0, 1] {
        assert!(matches!(log.fetch(&[(0, from)], limits).await, Err(LogError::Corrupt(_))));
    }
}

#[tokio::test(start_paused = true)]
async fn an_append_waits_at_most_five_seconds_and_stops_those_behind_it() {
    let place = Place::new();
    let log = place.open();
    let mut other = place.connect();
    other.batch_execute("BEGIN IMMEDIATE").unwrap();
    let begun = Instant::now();
    let generation = log.generation();
    let (one, two) = (log.append(entry(0, "a"), generation), log.append(entry(1, "b"), generation));
    assert_eq!(one.await, Err(LogError::Unavailable(TOO_LONG.into())));
    assert_eq!(begun.elapsed().as_secs(), 5);
    assert!(log.generation() > generation);
    assert_eq!(log.append(entry(1, "c"), generation).await, Err(LogError::Behind));
    other.batch_execute("ROLLBACK").unwrap();
    assert!(matches!(two.await, Err(LogError::Behind | LogError::Unavailable(_))));
}
