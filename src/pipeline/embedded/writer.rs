//! The one writer: a thread that drains what waits, commits it, and answers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::sqlite::SqliteConnection;

use super::durable::Durable;
use super::error::log_error;
use super::queue::{Batch, Next, Pace, Queue, answer_all};
use super::table::{self, Placed};
use super::{APPENDED_TOTAL, COMMIT_RECORDS, COMMIT_SECONDS, TOO_LONG, file};
use crate::domain::{Offset, Partition, Timestamp};
use crate::pipeline::{LogError, LogIdentity};

/// The least time between two looks for what can be dropped, unless there is much of it.
const TRIM_PAUSE: Duration = Duration::from_secs(1);
/// How long a broken file is left alone before it is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// What the thread owns.
pub(super) struct Writer {
    pub(super) queue: Arc<Queue>,
    pub(super) durable: Arc<Durable>,
    pub(super) path: PathBuf,
    pub(super) identity: LogIdentity,
    pub(super) linger: Duration,
    pub(super) retention: Duration,
    /// None after a failure, until the file could be opened again.
    pub(super) connection: Option<SqliteConnection>,
    /// The last commit failed; so that this is logged once, and its end too.
    pub(super) broken: bool,
    /// The offset that the next record of each partition gets.
    pub(super) ends: Vec<Offset>,
}

/// Under load a commit begins a linger after the last one, if it has become worth its cost by then, or so many
/// lingers after it. A commit and the transaction that applies it cost some 0.3 ms of CPU together, whatever
/// their size (docs/benchmarks.md): 16 ms apart that is 2% of a core, and nobody notices 16 ms. An idle log
/// does not wait.
const PATIENCE: u32 = 16;

/// However the thread ends, nobody waits for it any longer.
struct Abandon(Arc<Queue>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

impl Writer {
    /// Runs until the queue is closed and empty.
    pub(super) fn run(mut self) {
        let _abandon = Abandon(self.queue.clone());
        let mut pace = Pace::from(Instant::now());
        let mut trim_at = Instant::now();
        loop {
            let trim_due = (!self.durable.droppable().is_empty()).then_some(trim_at);
            match self.queue.next(pace, trim_due) {
                Next::Commit(batch) => {
                    let written = self.write(batch);
                    let now = Instant::now();
                    pace = if written {
                        Pace { earliest: now + self.linger, latest: now + PATIENCE * self.linger }
                    } else {
                        Pace::from(now + RETRY_PAUSE)
                    };
                }
                Next::Housekeeping => {}
                Next::Closed => return,
            }
            if trim_at <= Instant::now() {
                let much = self.trim();
                trim_at = Instant::now() + if much { Duration::ZERO } else { TRIM_PAUSE };
            }
        }
    }

    /// Commits a batch and answers it; false where that failed.
    fn write(&mut self, batch: Batch) -> bool {
        let begun = Instant::now();
        let offsets = match self.commit(&batch) {
            Ok(offsets) => offsets,
            Err(error) => {
                if !std::mem::replace(&mut self.broken, true) {
                    tracing::error!(%error, log.path = %self.path.display(), "the message log cannot be written");
                }
                self.queue.fail(batch, &error);
                return false;
            }
        };
        if std::mem::take(&mut self.broken) {
            tracing::info!(log.path = %self.path.display(), "the message log can be written again");
        }
        self.durable.extend(batch.records.iter().map(|waiting| (waiting.partition, waiting.value.clone())));
        metrics::histogram!(COMMIT_SECONDS).record(begun.elapsed());
        metrics::histogram!(COMMIT_RECORDS).record(batch.records.len() as f64);
        metrics::counter!(APPENDED_TOTAL).increment(batch.records.len() as u64);
        if self.queue.settle(&batch) {
            for (waiting, offset) in batch.records.into_iter().zip(offsets) {
                // Whoever dropped the future does not want to know.
                let _ = waiting.answer.send(Ok(offset));
            }
        } else {
            answer_all(batch.records, &LogError::Unavailable(TOO_LONG.into()));
        }
        true
    }

    /// Stores a batch and says at which offsets.
    fn commit(&mut self, batch: &Batch) -> Result<Vec<Offset>, LogError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.reopen()?,
        };
        let mut ends = self.ends.clone();
        let mut place = |partition: Partition| {
            let end = &mut ends[partition as usize];
            *end += 1;
            *end - 1
        };
        let offsets: Vec<_> = batch.records.iter().map(|waiting| place(waiting.partition)).collect();
        let placed = batch.records.iter().zip(&offsets).map(|(waiting, &offset)| Placed {
            partition: waiting.partition,
            offset,
            value: &waiting.value,
        });
        // A failure drops the connection, and with it whatever it had begun.
        table::insert(&mut connection, placed, Timestamp::now()).map_err(|error| log_error(&error))?;
        self.connection = Some(connection);
        self.ends = ends;
        Ok(offsets)
    }

    /// Opens the file again after a failure and reads back what is in it: a commit whose answer was an error
    /// may be stored all the same. The checkpoint makes what is read durable before anything builds on it, and
    /// clears the write-ahead log of what is not.
    fn reopen(&mut self) -> Result<SqliteConnection, LogError> {
        let mut connection =
            file::connect(&self.path).map_err(|error| LogError::Unavailable(error.to_string()))?;
        let read = |error| log_error(&error);
        if !file::settle(&mut connection).map_err(read)? {
            return Err(LogError::Unavailable("another process is reading its file".into()));
        }
        match file::read_identity(&mut connection).map_err(read)? {
            Some((identity, _)) if identity == self.identity => {}
            _ => return Err(LogError::Corrupt("its file was replaced by another log's".into())),
        }
        let bounds = table::bounds(&mut connection, self.identity.partitions).map_err(read)?;
        self.durable.renew(&bounds)?;
        self.ends = bounds.iter().map(|bounds| bounds.end).collect();
        Ok(connection)
    }

    /// Drops a piece of what the reader has forgotten and retention allows; true where there is much more.
    fn trim(&mut self) -> bool {
        let trims = self.durable.droppable();
        let Some(connection) = self.connection.as_mut().filter(|_| !trims.is_empty()) else { return false };
        match table::trim(connection, &trims, Timestamp::now().minus(self.retention)) {
            Ok(dropped) => self.durable.dropped(&dropped),
            Err(error) => {
                tracing::warn!(%error, log.path = %self.path.display(), "old records of the message log cannot be dropped");
                self.connection = None;
                false
            }
        }
    }
}
