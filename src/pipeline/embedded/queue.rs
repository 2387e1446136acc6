//! What waits to be written: bounded, in the order of the calls, and fail-stop.
//!
//! Every record gets a ticket, a number that grows. A batch is a run of tickets that the writer takes; once it
//! is on the disk the batch is *settled* and its answers are due. Where an append has waited too long instead,
//! everything taken so far is *condemned*: its answers will be failures, even if it reaches the disk later.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::domain::{Offset, Partition};
use crate::pipeline::{Entry, Generation, LogError};

/// The most records of a commit; more wait for the next, so that a commit's time is bounded.
const BATCH_RECORDS_MAX: usize = 2_000;
/// A commit is worth its cost from so many records on: it then adds about 5 µs of CPU to each.
const BATCH_RECORDS_WORTH: usize = 64;
/// The most bytes of values in a commit, but for a single record that is larger.
const BATCH_BYTES_MAX: usize = 4 << 20;

/// Where the offset, or the failure, of an append goes.
pub(super) type Answer = oneshot::Sender<Result<Offset, LogError>>;

/// When the next commit may begin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// With a batch that is worth it.
    pub(super) earliest: Instant,
    /// With whatever waits.
    pub(super) latest: Instant,
}

impl Pace {
    /// With whatever waits, from this moment on.
    pub(super) fn from(moment: Instant) -> Self {
        Self { earliest: moment, latest: moment }
    }
}

/// A record that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) partition: Partition,
    pub(super) value: Bytes,
    pub(super) answer: Answer,
}

/// What the queue holds at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Capacity {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

/// Records taken to be committed together.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) records: Vec<Waiting>,
    tickets_end: u64,
    first_ticket: u64,
}

/// What the writer does next.
#[derive(Debug)]
pub(super) enum Next {
    Commit(Batch),
    /// Nothing waits, and there is time for something else.
    Housekeeping,
    /// Closed, and everything that waited was handed out.
    Closed,
}

/// Whether an append that has run out of patience is to be answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    /// It is on the disk; its answer comes at once.
    Settled,
    /// It failed.
    Failed,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    generation: u64,
    next_ticket: u64,
    /// Tickets below this were committed.
    settled: u64,
    /// Tickets below this are answered with failures.
    condemned: u64,
    closed: bool,
    nudged: bool,
    /// The writer sleeps until something comes.
    idle: bool,
}

/// The queue between the callers and the writer.
#[derive(Debug)]
pub(super) struct Queue {
    capacity: Capacity,
    state: Mutex<State>,
    wake: Condvar,
}

impl Queue {
    pub(super) fn new(capacity: Capacity) -> Self {
        Self { capacity, state: Mutex::default(), wake: Condvar::new() }
    }

    /// A panic while this is held leaves nothing half done, so poisoning is ignored.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn generation(&self) -> Generation {
        Generation(self.lock().generation)
    }

    /// Takes a record in, and gives it its ticket.
    pub(super) fn push(&self, entry: Entry, generation: Generation, answer: Answer) -> Result<u64, LogError> {
        let mut state = self.lock();
        if state.closed {
            return Err(LogError::Unavailable("it is closed".into()));
        }
        if generation.0 < state.generation {
            return Err(LogError::Behind);
        }
        let bytes = state.bytes + entry.value.len();
        let crowded = !state.waiting.is_empty() && bytes > self.capacity.bytes;
        if crowded || state.waiting.len() >= self.capacity.records {
            state.generation += 1;
            return Err(LogError::Overloaded);
        }
        state.bytes = bytes;
        state.waiting.push_back(Waiting { partition: entry.partition, value: entry.value, answer });
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        if state.idle || state.batch_is_full() || state.waiting.len() == BATCH_RECORDS_WORTH {
            state.idle = false;
            drop(state);
            self.wake.notify_one();
        }
        Ok(ticket)
    }

    /// Fails an append that was not taken, and so all of its generation that follow.
    pub(super) fn refuse(&self, error: LogError) -> LogError {
        self.lock().generation += 1;
        error
    }

    /// Waits for work: a batch at the pace given, unless it is full; or, where nothing waits,
    /// housekeeping when it is due or asked for.
    pub(super) fn next(&self, pace: Pace, housekeeping_due: Option<Instant>) -> Next {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            let until = if state.waiting.is_empty() {
                if state.closed {
                    return Next::Closed;
                }
                if state.nudged || housekeeping_due.is_some_and(|due| due <= now) {
                    state.nudged = false;
                    return Next::Housekeeping;
                }
                state.idle = true;
                housekeeping_due
            } else {
                let due =
                    if state.waiting.len() >= BATCH_RECORDS_WORTH { pace.earliest } else { pace.latest };
                if state.closed || now >= due || state.batch_is_full() {
                    return Next::Commit(state.take());
                }
                Some(due)
            };
            state = match until {
                Some(until) => {
                    let wait = self.wake.wait_timeout(state, until.saturating_duration_since(now));
                    wait.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
            state.idle = false;
        }
    }

    /// Marks a batch as on the disk. False: it was condemned meanwhile, and its answers are failures.
    pub(super) fn settle(&self, batch: &Batch) -> bool {
        let mut state = self.lock();
        let good = batch.first_ticket >= state.condemned;
        if good {
            state.settled = batch.tickets_end;
        }
        good
    }

    /// A batch failed: everything queued behind it fails too, and a new generation begins.
    pub(super) fn fail(&self, batch: Batch, error: &LogError) {
        let behind = self.lock().condemn();
        answer_all(batch.records, error);
        answer_all(behind, &LogError::Behind);
    }

    /// An append has waited too long.
    pub(super) fn expire(&self, ticket: u64) -> Expiry {
        let mut state = self.lock();
        if ticket < state.settled {
            return Expiry::Settled;
        }
        if ticket >= state.condemned {
            let behind = state.condemn();
            drop(state);
            answer_all(behind, &LogError::Behind);
        }
        Expiry::Failed
    }

    /// Wakes an idle writer for housekeeping.
    pub(super) fn nudge(&self) {
        self.lock().nudged = true;
        self.wake.notify_one();
    }

    /// Takes nothing more in; what waits is still written.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
    }

    /// Closes, and fails what waits: nobody is left to write it.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        state.closed = true;
        let left = state.condemn();
        drop(state);
        answer_all(left, &LogError::Unavailable("its writer has ended".into()));
    }
}

impl State {
    fn batch_is_full(&self) -> bool {
        self.waiting.len() >= BATCH_RECORDS_MAX || self.bytes >= BATCH_BYTES_MAX
    }

    /// The next batch: from the head of the queue as much as a commit may hold, at least one record.
    fn take(&mut self) -> Batch {
        let (mut records, mut bytes) = (0, 0);
        for waiting in self.waiting.iter().take(BATCH_RECORDS_MAX) {
            bytes += waiting.value.len();
            if records > 0 && bytes > BATCH_BYTES_MAX {
                break;
            }
            records += 1;
        }
        let first_ticket = self.next_ticket - self.waiting.len() as u64;
        let records: Vec<_> = self.waiting.drain(..records).collect();
        self.bytes -= records.iter().map(|waiting| waiting.value.len()).sum::<usize>();
        Batch { first_ticket, tickets_end: first_ticket + records.len() as u64, records }
    }

    /// Begins a new generation: nothing of what has a ticket by now and is not settled will succeed.
    fn condemn(&mut self) -> VecDeque<Waiting> {
        self.generation += 1;
        self.condemned = self.next_ticket;
        self.bytes = 0;
        std::mem::take(&mut self.waiting)
    }
}

/// Answers with a failure; whoever no longer waits is not missed.
pub(super) fn answer_all(records: impl IntoIterator<Item = Waiting>, error: &LogError) {
    for waiting in records {
        let _ = waiting.answer.send(Err(error.clone()));
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
