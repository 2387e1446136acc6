//! What every message log must do, whatever it stands on. An adapter gives a [`Rig`] and names the cases.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chatd::domain::{ConversationId, Offset, Partition, UserId};
use chatd::pipeline::{
    Assignment, Bounds, Entry, EventLog, EventSource, FetchLimits, Generation, LogError, LogRecord,
};
use futures_util::future::join_all;
use tokio::time::timeout;

/// A log that can be opened again and again, and broken.
pub trait Rig: Send + Sync {
    /// Opens the log; the same one each time. The former handle has been dropped by then.
    fn open(&self) -> Handle;
    /// From now on every write of the open log fails.
    fn break_writes(&self);
    /// And now they succeed again.
    fn mend_writes(&self);
}

/// An open log.
pub struct Handle {
    pub log: Arc<dyn EventLog>,
    pub source: Arc<dyn EventSource>,
}

/// Runs the cases on an adapter: `contract!(EmbeddedRig::new() => case, case, …)`.
macro_rules! contract {
    ($rig:expr => $($case:ident),* $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            $crate::event_log::$case(&$rig).await;
        })*
    };
}
pub(crate) use contract;

/// Long enough for any machine; only a failing test waits so long.
const LONG: Duration = Duration::from_secs(30);
const NO_LIMITS: FetchLimits = FetchLimits { records_max: 10_000, bytes_max: 1 << 30, patience: LONG };
const AT_ONCE: FetchLimits = FetchLimits { patience: Duration::ZERO, ..NO_LIMITS };

pub fn entry(partition: Partition, value: impl Into<Bytes>) -> Entry {
    let key = ConversationId::dm(UserId::new(1).unwrap(), UserId::new(2).unwrap()).unwrap();
    Entry { partition, key, value: value.into() }
}

impl Handle {
    async fn append(&self, partition: Partition, value: impl Into<Bytes>) -> Result<Offset, LogError> {
        self.log.append(entry(partition, value), self.log.generation()).await
    }

    /// Appends values in turn and returns their offsets.
    pub async fn append_all(&self, partition: Partition, values: &[&'static str]) -> Vec<Offset> {
        let appending: Vec<_> = values.iter().map(|value| self.append(partition, *value)).collect();
        join_all(appending).await.into_iter().map(Result::unwrap).collect()
    }

    pub async fn bounds(&self, partition: Partition) -> Bounds {
        self.source.bounds().await.unwrap()[partition as usize]
    }

    /// Everything of a partition from an offset on, by as many fetches as it takes.
    pub async fn read(&self, partition: Partition, from: Offset, limits: FetchLimits) -> Vec<LogRecord> {
        let (mut records, mut next) = (Vec::new(), from);
        let end = self.bounds(partition).await.end;
        while next < end {
            let mut fetched = self.source.fetch(&[(partition, next)], limits).await.unwrap();
            let batch = fetched.pop().expect("there is more");
            assert_eq!((batch.partition, batch.end, fetched.len()), (partition, end, 0));
            let offsets: Vec<_> = batch.records.iter().map(|record| record.offset).collect();
            next += batch.records.len() as Offset;
            assert_eq!(offsets, (next - offsets.len() as Offset..next).collect::<Vec<_>>(), "without a gap");
            records.extend(batch.records);
        }
        records
    }

    async fn values(&self, partition: Partition) -> Vec<String> {
        let start = self.bounds(partition).await.start;
        let records = self.read(partition, start, AT_ONCE).await;
        records.into_iter().map(|record| String::from_utf8(record.value.to_vec()).unwrap()).collect()
    }
}

pub async fn appends_keep_the_order_of_the_calls(rig: &impl Rig) {
    let log = rig.open();
    let generation = log.log.generation();
    // Awaited backwards: the order is that of the calls.
    let appending: Vec<_> =
        (0..200).map(|n| log.log.append(entry(n % 2, n.to_string()), generation)).collect();
    let mut offsets = join_all(appending.into_iter().rev()).await;
    offsets.reverse();
    for (n, offset) in offsets.into_iter().enumerate() {
        assert_eq!(offset, Ok(n as Offset / 2));
    }
    let odd: Vec<_> = (0..200).filter(|n| n % 2 == 1).map(|n| n.to_string()).collect();
    assert_eq!(log.values(1).await, odd);
}

pub async fn concurrent_appenders_keep_their_own_order_without_gaps(rig: &impl Rig) {
    let log = rig.open();
    let partitions = log.log.identity().partitions;
    let appenders = (0..8).map(|appender| {
        let log = log.log.clone();
        tokio::spawn(async move {
            let mut placed = Vec::new();
            for n in 0..60u32 {
                let partition = (n + appender) % partitions;
                let value = format!("{appender} {n}");
                let appending = log.append(entry(partition, value.clone()), log.generation());
                placed.push((partition, appending.await.unwrap(), value));
            }
            placed
        })
    });
    let mut expected: HashMap<_, _> = HashMap::new();
    for placed in join_all(appenders).await {
        expected.extend(placed.unwrap().into_iter().map(|(p, offset, value)| ((p, offset), value)));
    }
    assert_eq!(expected.len(), 480, "no offset is given twice");
    for partition in 0..partitions {
        let mut last = [-1; 8];
        for (offset, value) in (0..).zip(log.values(partition).await) {
            assert_eq!(expected.remove(&(partition, offset)), Some(value.clone()));
            let (appender, n) = value.split_once(' ').unwrap();
            let last = &mut last[appender.parse::<usize>().unwrap()];
            assert!(*last < n.parse().unwrap(), "{value} came after {last}");
            *last = n.parse().unwrap();
        }
    }
    assert!(expected.is_empty(), "answered, but not there: {expected:?}");
}

pub async fn what_is_answered_survives_a_restart_and_offsets_continue(rig: &impl Rig) {
    let log = rig.open();
    let identity = log.log.identity();
    assert_eq!(identity, log.source.identity());
    assert_eq!(log.append_all(1, &["a", "b", "c"]).await, [0, 1, 2]);
    drop(log);
    let log = rig.open();
    assert_eq!(log.log.identity(), identity, "a log keeps its id for life");
    assert_eq!(log.bounds(1).await, Bounds { start: 0, end: 3 });
    assert_eq!(log.append_all(1, &["d", "e"]).await, [3, 4]);
    assert_eq!(log.values(1).await, ["a", "b", "c", "d", "e"]);
    assert_eq!(log.read(1, 4, AT_ONCE).await[0].value, "e");
}

pub async fn all_partitions_are_assigned_and_empty_at_first(rig: &impl Rig) {
    let log = rig.open();
    let partitions = log.log.identity().partitions;
    let mut assigned = log.source.assigned();
    // A group takes a moment to agree.
    let all = |assignment: &Assignment| assignment.partitions == (0..partitions).collect::<Vec<_>>();
    timeout(LONG, assigned.wait_for(all)).await.unwrap().unwrap();
    assert_eq!(log.source.bounds().await.unwrap(), vec![Bounds { start: 0, end: 0 }; partitions as usize]);
    let everywhere: Vec<_> = (0..partitions).map(|partition| (partition, 0)).collect();
    assert_eq!(log.source.fetch(&everywhere, AT_ONCE).await, Ok(vec![]));
}

pub async fn a_fetch_waits_for_a_record_and_wakes_at_once(rig: &impl Rig) {
    let log = rig.open();
    let begun = Instant::now();
    let short = FetchLimits { patience: Duration::from_millis(50), ..NO_LIMITS };
    assert_eq!(log.source.fetch(&[(0, 0), (1, 0)], short).await, Ok(vec![]));
    assert!(begun.elapsed() >= short.patience);

    let source = log.source.clone();
    let fetching = tokio::spawn(async move { source.fetch(&[(0, 0), (1, 0)], NO_LIMITS).await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!fetching.is_finished());
    let begun = Instant::now();
    log.append_all(1, &["a"]).await;
    let fetched = fetching.await.unwrap().unwrap();
    assert!(begun.elapsed() < LONG / 3, "it was woken, not timed out");
    assert_eq!(fetched.len(), 1);
    assert_eq!((fetched[0].partition, fetched[0].end), (1, 1));
    assert_eq!(fetched[0].records, [LogRecord { offset: 0, value: "a".into() }]);
}

pub async fn a_fetch_that_is_given_up_loses_nothing(rig: &impl Rig) {
    let log = rig.open();
    for _ in 0..3 {
        let given_up = log.source.fetch(&[(0, 0)], NO_LIMITS);
        assert!(timeout(Duration::from_millis(5), given_up).await.is_err());
    }
    log.append_all(0, &["a", "b"]).await;
    assert_eq!(log.values(0).await, ["a", "b"]);
    assert_eq!(log.values(0).await, ["a", "b"], "reading takes nothing away");
}

pub async fn an_append_that_is_given_up_is_stored(rig: &impl Rig) {
    let log = rig.open();
    drop(log.log.append(entry(0, "a"), log.log.generation()));
    assert_eq!(log.append_all(0, &["b"]).await, [1]);
    assert_eq!(log.values(0).await, ["a", "b"]);
}

pub async fn a_fetch_keeps_to_its_limits_and_starves_no_partition(rig: &impl Rig) {
    for restart in [false, true] {
        let mut log = rig.open();
        let base = log.bounds(0).await.end;
        for partition in [0, 1] {
            log.append_all(partition, &["0123456789"; 10]).await;
        }
        if restart {
            drop(log);
            log = rig.open();
        }
        let both = [(0, base), (1, base)];
        let count = |fetched: Vec<chatd::pipeline::Fetched>| -> usize {
            fetched.iter().map(|part| part.records.len()).sum()
        };
        let few = FetchLimits { records_max: 3, ..NO_LIMITS };
        assert_eq!(count(log.source.fetch(&both, few).await.unwrap()), 3);
        let small = FetchLimits { bytes_max: 45, ..NO_LIMITS };
        assert_eq!(count(log.source.fetch(&both, small).await.unwrap()), 4);
        let tiny = FetchLimits { bytes_max: 1, ..NO_LIMITS };
        let mut seen = [false; 2];
        for _ in 0..10 {
            let fetched = log.source.fetch(&both, tiny).await.unwrap();
            seen[fetched[0].partition as usize] = true;
            assert_eq!(count(fetched), 1, "one record comes whatever its size");
        }
        assert_eq!(seen, [true; 2], "a partition with much to read leaves room for the others");
        assert_eq!(count(log.source.fetch(&both, NO_LIMITS).await.unwrap()), 20);
    }
}

pub async fn a_huge_record_is_stored_and_read_whole(rig: &impl Rig) {
    let huge: Bytes = (0..900_000u32).map(|n| (n % 251) as u8).collect::<Vec<_>>().into();
    let log = rig.open();
    log.append(0, huge.clone()).await.unwrap();
    log.append_all(0, &["next"]).await;
    let small = FetchLimits { bytes_max: 100, ..NO_LIMITS };
    assert!(log.read(0, 0, small).await[0].value == huge);
    drop(log);
    let log = rig.open();
    let records = log.read(0, 0, small).await;
    assert!(records[0].value == huge);
    assert_eq!(records[1].value, "next");
}

pub async fn offsets_out_of_range_are_told_apart_from_the_end(rig: &impl Rig) {
    let log = rig.open();
    log.append_all(0, &["a", "b"]).await;
    assert_eq!(log.source.fetch(&[(0, 2)], AT_ONCE).await, Ok(vec![]));
    for offset in [-1, 3] {
        let outside = LogError::OutOfRange { partition: 0, offset, start: 0, end: 2 };
        assert_eq!(log.source.fetch(&[(1, 0), (0, offset)], AT_ONCE).await, Err(outside));
    }
    let at = async |offset| log.source.record_at(0, offset).await.unwrap().map(|record| record.value);
    assert_eq!(at(1).await, Some("b".into()));
    for outside in [-1, 2, 99] {
        assert_eq!(at(outside).await, None);
    }
}

pub async fn forgetting_keeps_the_record_below_and_whatever_was_not_forgotten(rig: &impl Rig) {
    let log = rig.open();
    log.append_all(0, &["a", "b", "c", "d", "e"]).await;
    log.append_all(1, &["x"]).await;
    for below in [3, 3, 1, 0] {
        log.source.forget(&[(0, below)]).await.unwrap();
    }
    // It may drop them at once, later or never; what it must not drop is looked at over a while.
    for _ in 0..20 {
        let bounds = log.bounds(0).await;
        assert!(bounds.start <= 2 && bounds.end == 5, "{bounds:?}");
        assert_eq!(log.read(0, 3, AT_ONCE).await[0].value, "d");
        assert_eq!(log.source.record_at(0, 2).await.unwrap().unwrap().value, "c");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(log.values(1).await, ["x"]);
}

pub async fn offsets_continue_after_everything_was_forgotten(rig: &impl Rig) {
    let log = rig.open();
    assert_eq!(log.append_all(0, &["a", "b", "c"]).await, [0, 1, 2]);
    log.source.forget(&[(0, 3), (1, 0)]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(log);
    let log = rig.open();
    assert_eq!(log.bounds(0).await.end, 3);
    assert_eq!(log.source.record_at(0, 2).await.unwrap().unwrap().value, "c");
    assert_eq!(log.append_all(0, &["d"]).await, [3]);
    assert_eq!(log.append_all(1, &["x"]).await, [0]);
    assert_eq!(log.read(0, 3, AT_ONCE).await[0].value, "d");
}

pub async fn a_failed_append_stops_its_generation_and_the_next_one_works(rig: &impl Rig) {
    let log = rig.open();
    log.append_all(0, &["a"]).await;
    rig.break_writes();
    let old = log.log.generation();
    let mut appending: Vec<_> = (0..10).map(|n| log.log.append(entry(0, format!("lost {n}")), old)).collect();
    let behind = appending.split_off(1);
    assert!(matches!(appending.remove(0).await, Err(LogError::Unavailable(_))));
    assert_eq!(log.log.append(entry(1, "late"), old).await, Err(LogError::Behind));
    for behind in behind {
        assert!(matches!(behind.await, Err(LogError::Behind | LogError::Unavailable(_))));
    }
    assert!(log.log.generation() > old);
    assert!(log.append(0, "still broken").await.is_err());

    rig.mend_writes();
    assert_eq!(log.log.append(entry(0, "never"), old).await, Err(LogError::Behind), "mended or not");
    let begun = Instant::now();
    let placed = loop {
        match log.append(0, "b").await {
            Ok(offset) => break offset,
            Err(error) => assert!(begun.elapsed() < LONG, "{error}"),
        }
    };
    let values = log.values(0).await;
    assert_eq!(values[0], "a");
    assert_eq!(values[placed as usize], "b");
    assert!(!values.contains(&"never".to_owned()));
    assert!(log.values(1).await.is_empty());
    // The fate of what failed is open, its order is not.
    let lost: Vec<_> = values.iter().filter_map(|value| value.strip_prefix("lost ")).collect();
    assert!(lost.is_sorted(), "{values:?}");
}

pub async fn an_old_generation_stays_behind(rig: &impl Rig) {
    let log = rig.open();
    let nowhere = log.log.identity().partitions;
    let old = log.log.generation();
    assert!(matches!(log.log.append(entry(nowhere, "a"), old).await, Err(LogError::Unavailable(_))));
    assert_eq!(log.log.append(entry(0, "b"), old).await, Err(LogError::Behind));
    assert!(log.log.generation() > old && old >= Generation(0));
    assert_eq!(log.append_all(0, &["c"]).await, [0]);
}
