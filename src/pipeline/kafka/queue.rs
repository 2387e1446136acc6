//! What waits for the brokers: bounded, in the order of the calls within each partition, and fail-stop.
//!
//! Everything that was taken in counts until it is answered, in flight or not, so that memory stays bounded
//! whatever the brokers do. At most one batch of a partition is in flight; one that has to be sent again goes
//! back to the head of its partition. When a record is given up, those behind it in its partition fail with it,
//! and a new generation begins: what comes later of an old one is refused, in every partition.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Duration, Instant};

use super::error::KafkaError;
use crate::domain::{ConversationId, Offset, Partition};
use crate::pipeline::{Entry, Generation, LogError};

/// When a record is given up: just before the 5 s of the port, so that its answer is there in time.
const GIVEN_UP_AFTER: Duration = Duration::from_millis(4_900);
/// The most bytes of values in a batch of a partition, but for a record that is larger: brokers take 1 MiB by
/// default (`max.message.bytes`).
const BATCH_BYTES_MAX: usize = 512 << 10;
/// The most bytes of values in a request, but for a record that is larger.
const REQUEST_BYTES_MAX: usize = 4 << 20;

/// Where the offset, or the failure, of an append goes.
pub(super) type Answer = oneshot::Sender<Result<Offset, LogError>>;

/// A record that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) key: ConversationId,
    pub(super) value: Bytes,
    /// When it is given up.
    pub(super) deadline: Instant,
    answer: Answer,
}

/// Records of one partition that are in flight.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) partition: Partition,
    pub(super) records: Vec<Waiting>,
}

/// What the queue holds at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Capacity {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

/// What a look at partitions found.
#[derive(Debug, Default)]
pub(super) struct Ready {
    /// Those that have something to send now.
    pub(super) partitions: Vec<Partition>,
    /// Bytes of values that wait in them.
    pub(super) bytes: usize,
    /// When the next of them that was put off may be tried again.
    pub(super) retry_at: Option<Instant>,
}

#[derive(Debug, Default)]
struct Part {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    in_flight: bool,
    /// After a failed attempt: not before this, and why.
    put_off: Option<(Instant, KafkaError)>,
    /// The producer sleeps until something comes for this partition.
    wake: bool,
}

#[derive(Debug)]
struct State {
    parts: Vec<Part>,
    /// Everything that is not answered, in flight or not.
    records: usize,
    bytes: usize,
    generation: u64,
    closed: bool,
}

/// The queue between the callers and the producer.
#[derive(Debug)]
pub(super) struct Queue {
    capacity: Capacity,
    state: Mutex<State>,
    /// Wakes the producer.
    pub(super) wake: Notify,
    /// Closed, and everything is answered.
    emptied: Notify,
}

impl Queue {
    pub(super) fn new(partitions: Partition, capacity: Capacity) -> Self {
        let parts = (0..partitions).map(|_| Part { wake: true, ..Part::default() }).collect();
        let state = State { parts, records: 0, bytes: 0, generation: 0, closed: false };
        Self { capacity, state: Mutex::new(state), wake: Notify::new(), emptied: Notify::new() }
    }

    /// A panic while this is held leaves nothing half done, so poisoning is ignored.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn generation(&self) -> Generation {
        Generation(self.lock().generation)
    }

    /// Takes a record in; its answer comes within 5 s.
    pub(super) fn push(
        &self,
        entry: Entry,
        generation: Generation,
        now: Instant,
    ) -> Result<oneshot::Receiver<Result<Offset, LogError>>, LogError> {
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.closed {
            return Err(LogError::Unavailable("it is closed".into()));
        }
        if generation.0 < state.generation {
            return Err(LogError::Behind);
        }
        let Some(part) = state.parts.get_mut(entry.partition as usize) else {
            state.generation += 1;
            return Err(LogError::Unavailable(format!("it has no partition {}", entry.partition)));
        };
        let size = entry.value.len();
        let crowded = state.records > 0 && state.bytes + size > self.capacity.bytes;
        if crowded || state.records >= self.capacity.records {
            state.generation += 1;
            return Err(LogError::Overloaded);
        }
        let (answer, answered) = oneshot::channel();
        let deadline = now + GIVEN_UP_AFTER;
        part.waiting.push_back(Waiting { key: entry.key, value: entry.value, deadline, answer });
        part.bytes += size;
        (state.records, state.bytes) = (state.records + 1, state.bytes + size);
        if std::mem::take(&mut part.wake) {
            drop(guard);
            self.wake.notify_one();
        }
        Ok(answered)
    }

    /// Which of these partitions have something to send now. Where none has, the next record wakes the producer.
    pub(super) fn ready(&self, of: impl Iterator<Item = Partition> + Clone, now: Instant) -> Ready {
        let mut state = self.lock();
        let mut ready = Ready::default();
        for partition in of.clone() {
            let Some(part) = state.parts.get(partition as usize) else { continue };
            if part.waiting.is_empty() || part.in_flight {
                continue;
            }
            match &part.put_off {
                Some((until, _)) if *until > now => {
                    ready.retry_at = Some(ready.retry_at.map_or(*until, |at| at.min(*until)));
                }
                _ => {
                    ready.partitions.push(partition);
                    ready.bytes += part.bytes;
                }
            }
        }
        for partition in of {
            if let Some(part) = state.parts.get_mut(partition as usize) {
                part.wake = ready.partitions.is_empty();
            }
        }
        ready
    }

    /// Takes what one request may carry of these partitions.
    pub(super) fn take(&self, partitions: &[Partition]) -> Vec<Batch> {
        let mut state = self.lock();
        let mut left = REQUEST_BYTES_MAX;
        let mut batches = Vec::with_capacity(partitions.len());
        for &partition in partitions {
            let Some(part) = state.parts.get_mut(partition as usize) else { continue };
            let fitting = part.fitting(left.min(BATCH_BYTES_MAX), batches.is_empty());
            if fitting == 0 {
                continue;
            }
            let records: Vec<_> = part.waiting.drain(..fitting).collect();
            let bytes = bytes_of(&records);
            part.bytes -= bytes;
            part.in_flight = true;
            left = left.saturating_sub(bytes);
            batches.push(Batch { partition, records });
        }
        batches
    }

    /// A batch is durable from this offset on.
    pub(super) fn succeed(&self, batch: Batch, base: Offset) {
        self.landed(&batch, None);
        self.release(batch.records.len(), bytes_of(&batch.records));
        for (offset, waiting) in (base..).zip(batch.records) {
            // Whoever dropped the future does not want to know.
            let _ = waiting.answer.send(Ok(offset));
        }
    }

    /// A batch did not get through: it is the first to be sent again, not before `at`.
    pub(super) fn put_back(&self, batch: Batch, at: Instant, error: KafkaError) {
        self.landed(&batch, Some((at, error)));
        let mut state = self.lock();
        let Some(part) = state.parts.get_mut(batch.partition as usize) else { return };
        part.bytes += bytes_of(&batch.records);
        for waiting in batch.records.into_iter().rev() {
            part.waiting.push_front(waiting);
        }
    }

    /// A batch is given up, and what is behind it too.
    pub(super) fn fail(&self, batch: Batch, error: &LogError) {
        self.landed(&batch, None);
        let behind = self.condemn(batch.partition);
        self.answer_all(batch.records, error);
        self.answer_all(behind, &LogError::Behind);
    }

    /// Gives up everything in partitions whose oldest record has waited too long. Answers when that is the case
    /// next. A batch in flight ends by itself in time.
    pub(super) fn expire(&self, now: Instant) -> Option<Instant> {
        let (mut next, mut expired) = (None::<Instant>, Vec::new());
        for (partition, part) in (0..).zip(&self.lock().parts) {
            let Some(oldest) = part.waiting.front().filter(|_| !part.in_flight) else { continue };
            if oldest.deadline <= now {
                let why = part.put_off.as_ref().map(|(_, error)| error.to_string());
                expired
                    .push((partition, why.unwrap_or_else(|| "its brokers did not take it in time".into())));
            } else {
                next = Some(next.map_or(oldest.deadline, |at| at.min(oldest.deadline)));
            }
        }
        for (partition, why) in expired {
            let mut records = self.condemn(partition);
            let first = records.pop_front();
            self.answer_all(first, &LogError::Unavailable(why));
            self.answer_all(records, &LogError::Behind);
        }
        next
    }

    /// Gives up everything that waits.
    pub(super) fn fail_all(&self, error: &LogError) {
        let partitions = self.lock().parts.len();
        for partition in 0..partitions as Partition {
            let waits =
                self.lock().parts.get(partition as usize).is_some_and(|part| !part.waiting.is_empty());
            if waits {
                let records = self.condemn(partition);
                self.answer_all(records, error);
            }
        }
    }

    /// Takes nothing more in, and waits until everything is answered.
    pub(super) async fn close(&self) {
        let mut emptied = std::pin::pin!(self.emptied.notified());
        emptied.as_mut().enable();
        let is_empty = {
            let mut state = self.lock();
            state.closed = true;
            state.records == 0
        };
        self.wake.notify_one();
        if !is_empty {
            emptied.await;
        }
    }

    /// Closed, and everything is answered.
    pub(super) fn is_done(&self) -> bool {
        let state = self.lock();
        state.closed && state.records == 0
    }

    /// Closes, and gives up everything: nobody is left to send it.
    pub(super) fn abandon(&self) {
        self.lock().closed = true;
        self.fail_all(&LogError::Unavailable("its producer has ended".into()));
        let mut state = self.lock();
        (state.records, state.bytes) = (0, 0);
        self.emptied.notify_waiters();
    }

    fn landed(&self, batch: &Batch, put_off: Option<(Instant, KafkaError)>) {
        if let Some(part) = self.lock().parts.get_mut(batch.partition as usize) {
            (part.in_flight, part.put_off) = (false, put_off);
        }
    }

    /// Begins a new generation and hands over what waits in the partition.
    fn condemn(&self, partition: Partition) -> VecDeque<Waiting> {
        let mut state = self.lock();
        state.generation += 1;
        let Some(part) = state.parts.get_mut(partition as usize) else { return VecDeque::new() };
        (part.bytes, part.put_off) = (0, None);
        std::mem::take(&mut part.waiting)
    }

    fn answer_all(&self, records: impl IntoIterator<Item = Waiting>, error: &LogError) {
        let (mut count, mut bytes) = (0, 0);
        for waiting in records {
            (count, bytes) = (count + 1, bytes + waiting.value.len());
            let _ = waiting.answer.send(Err(error.clone()));
        }
        self.release(count, bytes);
    }

    fn release(&self, records: usize, bytes: usize) {
        let mut state = self.lock();
        state.records = state.records.saturating_sub(records);
        state.bytes = state.bytes.saturating_sub(bytes);
        if state.closed && state.records == 0 {
            self.emptied.notify_waiters();
        }
    }
}

impl Part {
    /// How many records from the head fit; the first of a request does whatever its size.
    fn fitting(&self, bytes_max: usize, is_first: bool) -> usize {
        let mut bytes = 0;
        let fits = |waiting: &&Waiting| {
            bytes += waiting.value.len();
            bytes <= bytes_max
        };
        let fitting = self.waiting.iter().take_while(fits).count();
        if is_first { fitting.max(self.waiting.len().min(1)) } else { fitting }
    }
}

fn bytes_of(records: &[Waiting]) -> usize {
    records.iter().map(|waiting| waiting.value.len()).sum()
}

#[cfg(test)]
#[path = "queue_tests.rs"]
pub(super) mod tests;
