//! The embedded log under the suite of the port, and under `kill -9`.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use chatd::domain::{Offset, Partition};
use chatd::pipeline::EventLog;
use chatd::pipeline::embedded::{EmbeddedLog, EmbeddedLogSettings};
use diesel::connection::{Connection, SimpleConnection};
use diesel::sqlite::SqliteConnection;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tempfile::TempDir;

use crate::event_log::{Handle, Rig, contract, entry};

struct EmbeddedRig(TempDir);

impl EmbeddedRig {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("log.db")
    }

    fn alter(&self, sql: &str) {
        let mut connection = SqliteConnection::establish(self.path().to_str().unwrap()).unwrap();
        connection.batch_execute("PRAGMA busy_timeout = 5000").unwrap();
        connection.batch_execute(sql).unwrap();
    }
}

fn open(path: &Path) -> EmbeddedLog {
    let settings =
        EmbeddedLogSettings { path: path.to_owned(), retention: Duration::ZERO, ..Default::default() };
    EmbeddedLog::open(&settings).unwrap()
}

impl Rig for EmbeddedRig {
    fn open(&self) -> Handle {
        let log = Arc::new(open(&self.path()));
        Handle { log: log.clone(), source: log }
    }

    fn break_writes(&self) {
        self.alter("CREATE TRIGGER broken BEFORE INSERT ON records BEGIN SELECT RAISE(ABORT, 'broken'); END");
    }

    fn mend_writes(&self) {
        self.alter("DROP TRIGGER broken");
    }
}

contract!(EmbeddedRig::new() =>
    appends_keep_the_order_of_the_calls,
    concurrent_appenders_keep_their_own_order_without_gaps,
    what_is_answered_survives_a_restart_and_offsets_continue,
    all_partitions_are_assigned_and_empty_at_first,
    a_fetch_waits_for_a_record_and_wakes_at_once,
    a_fetch_that_is_given_up_loses_nothing,
    an_append_that_is_given_up_is_stored,
    a_fetch_keeps_to_its_limits_and_starves_no_partition,
    a_huge_record_is_stored_and_read_whole,
    offsets_out_of_range_are_told_apart_from_the_end,
    forgetting_keeps_the_record_below_and_whatever_was_not_forgotten,
    offsets_continue_after_everything_was_forgotten,
    a_failed_append_stops_its_generation_and_the_next_one_works,
    an_old_generation_stays_behind,
);

/// Names the log that the child appends to; unset in an ordinary run.
const CHILD_LOG: &str = "CHATD_TEST_KILLED_LOG";

/// The child of the next test: appends, and prints each answered append, until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_appends_until_killed() {
    let Ok(path) = std::env::var(CHILD_LOG) else { return };
    let log = open(Path::new(&path));
    let partitions = log.identity().partitions;
    let append = |n: u32| {
        let partition = n % partitions;
        let value = format!("{} {n}", std::process::id());
        let appending = log.append(entry(partition, value.clone()), log.generation());
        async move { (partition, appending.await.unwrap(), value) }
    };
    let mut under_way: FuturesUnordered<_> = (0..50).map(append).collect();
    for n in 50.. {
        let (partition, offset, value) = under_way.next().await.unwrap();
        writeln!(std::io::stdout(), "answered,{partition},{offset},{value}").unwrap();
        under_way.push(append(n));
    }
}

#[tokio::test]
async fn kill_9_loses_nothing_that_was_answered_and_stores_nothing_twice() {
    let rig = EmbeddedRig::new();
    let mut answered: Vec<(Partition, Offset, String)> = Vec::new();
    for round in 1..=4 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "event_log_embedded::child_that_appends_until_killed", "--nocapture"])
            .env(CHILD_LOG, rig.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let before = answered.len();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for line in lines.map_while(Result::ok) {
            let mut parts = line.split(',').skip_while(|part| !part.ends_with("answered")).skip(1);
            let (Some(partition), Some(offset), Some(value)) = (parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            answered.push((partition.parse().unwrap(), offset.parse().unwrap(), value.to_owned()));
            if answered.len() == before + 150 * round {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(answered.len() >= before + 150 * round, "the child ended by itself");

        let log = rig.open();
        let (mut stored, mut distinct) = (0, HashSet::new());
        for partition in 0..log.log.identity().partitions {
            let limits = chatd::pipeline::FetchLimits {
                records_max: 1000,
                bytes_max: 1 << 20,
                patience: Duration::from_secs(30),
            };
            let records = log.read(partition, 0, limits).await;
            stored += records.len();
            distinct.extend(records.iter().map(|record| record.value.clone()));
            for (_, offset, value) in answered.iter().filter(|(of, ..)| *of == partition) {
                assert_eq!(records[*offset as usize].value, value.as_bytes(), "of what was answered");
            }
        }
        assert_eq!(distinct.len(), stored, "nothing is there twice");
        assert!(stored >= answered.len());
    }
}
