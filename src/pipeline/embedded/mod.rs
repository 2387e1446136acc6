//! The embedded message log: one SQLite file, one writer on a thread of its own, group commit.
//!
//! An append waits in a bounded queue. The writer takes everything that waits, up to a bound, writes it in one
//! transaction that is synced to the disk (WAL, `synchronous=FULL`), and answers all of it: the dearest thing,
//! the sync, is shared by whatever came while the last one ran. What is durable is kept in memory as well, up to
//! a bound, so that a reader that keeps up never asks the file.
//!
//! After a commit that failed, everything queued behind it fails too, the file is opened again, and what it
//! holds is read back before anything more is written: offsets are neither given twice nor left out.
//!
//! Space: what the reader has forgotten and `retention` allows is deleted between commits in small pieces. Its
//! pages are used again by later records; the file keeps its largest size (a backup is compact). Returning them
//! to the system would cost a write of the page map at most commits.
//!
//! Metrics: histogram `chatd_log_commit_records` (records a commit), histogram `chatd_log_commit_seconds` (the
//! time of a commit, sync included), counter `chatd_log_appended_total` (records made durable).

mod backup;
mod durable;
mod error;
mod file;
mod queue;
mod reader;
mod settings;
mod table;
mod wal;
mod writer;

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout_at};

pub use backup::{BackupError, Copied, backup};
pub use error::OpenError;
pub use settings::{EmbeddedLogSettings, PARTITIONS_MAX};

use super::{
    Appending, Assignment, Bounds, Entry, EventLog, EventSource, FetchLimits, Fetched, Generation, LogError,
    LogIdentity, LogRecord,
};
use crate::domain::{Offset, Partition};
use durable::{Budget, Durable, Place};
use queue::{Capacity, Expiry, Queue};
use reader::Reader;
use table::Range;
use writer::Writer;

/// How long an append waits for its answer, as the port promises.
const PATIENCE: Duration = Duration::from_secs(5);
const TOO_LONG: &str = "it took longer than 5 s";

const COMMIT_RECORDS: &str = "chatd_log_commit_records";
const COMMIT_SECONDS: &str = "chatd_log_commit_seconds";
const APPENDED_TOTAL: &str = "chatd_log_appended_total";

/// The log of a single process. Closed when dropped; see [`close`](Self::close).
pub struct EmbeddedLog {
    path: PathBuf,
    identity: LogIdentity,
    warning: Option<String>,
    queue: Arc<Queue>,
    durable: Arc<Durable>,
    reader: Reader,
    assigned: watch::Sender<Assignment>,
    /// The partition that the next fetch begins with, so that a busy one does not starve the others.
    turn: AtomicUsize,
    /// The writer's thread, and the lock on the file; none once closed.
    running: Mutex<Option<(JoinHandle<()>, File)>>,
}

impl EmbeddedLog {
    /// Opens the log, or makes it where there is none. Blocks for some milliseconds: a file up to 8 MiB is
    /// checked whole.
    pub fn open(settings: &EmbeddedLogSettings) -> Result<Self, OpenError> {
        let file::Opened { connection, identity, bounds, lock } = file::open(settings)?;
        let queue = Arc::new(Queue::new(Capacity {
            records: settings.queue_records_max,
            bytes: settings.queue_bytes_max,
        }));
        let durable = Arc::new(Durable::new(&bounds));
        let writer = Writer {
            queue: queue.clone(),
            durable: durable.clone(),
            path: settings.path.clone(),
            identity,
            linger: settings.linger,
            retention: settings.retention,
            connection: Some(connection),
            broken: false,
            ends: bounds.iter().map(|bounds| bounds.end).collect(),
        };
        let thread = thread::Builder::new()
            .name("chatd-log".into())
            .spawn(|| writer.run())
            .map_err(|error| OpenError::of_io(&settings.path, &error))?;
        let warning = (identity.partitions != settings.partitions).then(|| {
            format!(
                "log.partitions is {}, but {} was made with {} and keeps them",
                settings.partitions,
                settings.path.display(),
                identity.partitions
            )
        });
        Ok(Self {
            path: settings.path.clone(),
            identity,
            warning,
            queue,
            durable,
            reader: Reader::new(settings.path.clone()),
            assigned: watch::Sender::new(Assignment {
                round: 1,
                partitions: (0..identity.partitions).collect(),
            }),
            turn: AtomicUsize::new(0),
            running: Mutex::new(Some((thread, lock))),
        })
    }

    /// Which log this is.
    pub fn identity(&self) -> LogIdentity {
        self.identity
    }

    /// What the operator should know about the settings and the file, in a sentence.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// Takes nothing more in, writes what is queued, and lets go of the file. Blocks until then: about as long
    /// as a commit takes. Appends and reads from then on are `Unavailable`.
    pub fn close(&self) {
        self.queue.close();
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((thread, lock)) = running.take() else { return };
        if thread.join().is_err() {
            tracing::error!(log.path = %self.path.display(), "the writer of the message log panicked");
        }
        self.durable.close();
        self.reader.close();
        drop(lock);
    }

    /// What there is from `from` on, without waiting.
    async fn gather(
        &self,
        from: &[(Partition, Offset)],
        limits: FetchLimits,
    ) -> Result<Vec<Fetched>, LogError> {
        let mut budget =
            Budget { records: limits.records_max.max(1), bytes: limits.bytes_max, untouched: true };
        let first = self.turn.fetch_add(1, Ordering::Relaxed) % from.len().max(1);
        let mut gathered = Vec::new();
        for &(partition, offset) in from.iter().cycle().skip(first).take(from.len()) {
            let (place, end) = self.durable.look(partition, offset, &mut budget)?;
            let records = match place {
                Place::Nowhere => continue,
                Place::Memory(records) => records,
                Place::File(_) if budget.is_spent() => continue,
                Place::File(to) => self.read(partition, offset..to, &mut budget).await?,
            };
            if !records.is_empty() {
                gathered.push(Fetched { partition, records, end });
            }
        }
        Ok(gathered)
    }

    /// Records from the file: as many of `offsets` as fit, without a gap.
    async fn read(
        &self,
        partition: Partition,
        offsets: std::ops::Range<Offset>,
        budget: &mut Budget,
    ) -> Result<Vec<LogRecord>, LogError> {
        let range = Range {
            partition,
            from: offsets.start,
            to: offsets.end,
            records_max: budget.records,
            bytes_max: budget.bytes,
        };
        let mut records = self.reader.read(range).await?;
        let whole = records.iter().map(|record| record.offset).eq(offsets.take(records.len()));
        if records.is_empty() || !whole {
            // It may have been forgotten since it was looked for.
            self.durable.look(partition, range.from, &mut budget.clone())?;
            return Err(LogError::Corrupt(format!(
                "records of partition {partition} from offset {} on are missing",
                range.from
            )));
        }
        let fitting = records.iter().take_while(|record| budget.take(record.value.len())).count();
        records.truncate(fitting);
        Ok(records)
    }
}

impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        self.close();
    }
}

impl EventLog for EmbeddedLog {
    fn identity(&self) -> LogIdentity {
        self.identity
    }

    fn generation(&self) -> Generation {
        self.queue.generation()
    }

    fn append(&self, entry: Entry, generation: Generation) -> Appending {
        if entry.partition >= self.identity.partitions {
            let what = format!("it has no partition {}", entry.partition);
            return ready(Err(self.queue.refuse(LogError::Unavailable(what)))).boxed();
        }
        let deadline = Instant::now() + PATIENCE;
        let (answer, mut answered) = oneshot::channel();
        let ticket = match self.queue.push(entry, generation, answer) {
            Ok(ticket) => ticket,
            Err(error) => return ready(Err(error)).boxed(),
        };
        let queue = self.queue.clone();
        async move {
            let answer = match timeout_at(deadline, &mut answered).await {
                Ok(answer) => answer,
                Err(_) if queue.expire(ticket) == Expiry::Settled => answered.await,
                Err(_) => Ok(Err(LogError::Unavailable(TOO_LONG.into()))),
            };
            answer.unwrap_or_else(|_| Err(LogError::Unavailable("its writer has ended".into())))
        }
        .boxed()
    }

    /// Blocks the thread for about as long as a commit takes.
    fn close(&self) -> BoxFuture<'_, ()> {
        async move { Self::close(self) }.boxed()
    }
}

#[async_trait]
impl EventSource for EmbeddedLog {
    fn identity(&self) -> LogIdentity {
        self.identity
    }

    fn assigned(&self) -> watch::Receiver<Assignment> {
        self.assigned.subscribe()
    }

    /// There is nobody else to take anything over.
    async fn drained(&self, _round: u64) {}

    async fn leave(&self) {}

    async fn fetch(
        &self,
        from: &[(Partition, Offset)],
        limits: FetchLimits,
    ) -> Result<Vec<Fetched>, LogError> {
        let deadline = Instant::now() + limits.patience;
        loop {
            let mut grew = std::pin::pin!(self.durable.grew.notified());
            grew.as_mut().enable();
            let gathered = self.gather(from, limits).await?;
            if !gathered.is_empty() || timeout_at(deadline, grew).await.is_err() {
                return Ok(gathered);
            }
        }
    }

    async fn bounds(&self) -> Result<Vec<Bounds>, LogError> {
        Ok(self.durable.bounds())
    }

    async fn record_at(&self, partition: Partition, offset: Offset) -> Result<Option<LogRecord>, LogError> {
        let Bounds { start, end } = self.durable.bounds_of(partition);
        if !(start..end).contains(&offset) {
            return Ok(None);
        }
        let limits = FetchLimits { records_max: 1, bytes_max: 0, patience: Duration::ZERO };
        match self.gather(&[(partition, offset)], limits).await {
            Ok(gathered) => {
                Ok(gathered.into_iter().next().and_then(|found| found.records.into_iter().next()))
            }
            // Dropped since its bounds were looked at.
            Err(LogError::OutOfRange { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn forget(&self, below: &[(Partition, Offset)]) -> Result<(), LogError> {
        if self.durable.forget(below) {
            self.queue.nudge();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
