//! The task of a connection: writes frames, reads frames, and watches the deadlines.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::super::error::KafkaError;

/// The largest answer: a fetch of some MiB, and the record that is larger than what was asked for.
const FRAME_BYTES_MAX: usize = 64 << 20;
/// How much room for reading is made at once: what a broker announces is believed piece by piece.
const READ_BYTES: usize = 64 << 10;
/// Room is made when less than this is left.
const READ_BYTES_MIN: usize = 4 << 10;

/// A request to write, and where its answer goes.
pub(super) struct Outgoing {
    pub(super) frame: Bytes,
    pub(super) correlation: i32,
    pub(super) deadline: Instant,
    pub(super) answer: oneshot::Sender<Result<Bytes, KafkaError>>,
}

struct Waiting {
    correlation: i32,
    deadline: Instant,
    answer: oneshot::Sender<Result<Bytes, KafkaError>>,
}

/// What was written and not answered, oldest first.
#[derive(Default)]
struct Pending {
    waiting: Mutex<VecDeque<Waiting>>,
    came: Notify,
}

impl Pending {
    /// A panic while this is held leaves nothing half done, so poisoning is ignored.
    fn lock(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn deadline(&self) -> Option<Instant> {
        self.lock().front().map(|waiting| waiting.deadline)
    }
}

/// Runs until the first failure, or until it is stopped; then everything that waits is answered with it.
pub(super) async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    address: String,
    stream: S,
    mut requests: mpsc::Receiver<Outgoing>,
    stop: CancellationToken,
) {
    let (reading, writing) = tokio::io::split(stream);
    let pending = Pending::default();
    let closed = |what: String| KafkaError::Closed { address: address.clone(), what };
    let error = tokio::select! {
        what = read(reading, &pending) => closed(what),
        what = write(writing, &mut requests, &pending) => closed(what),
        () = overdue(&pending) => KafkaError::Timeout { address: address.clone() },
        () = stop.cancelled() => closed("it was closed".into()),
    };
    requests.close();
    for waiting in pending.lock().drain(..) {
        // Whoever does not wait any more is not missed.
        let _ = waiting.answer.send(Err(error.clone()));
    }
    while let Ok(outgoing) = requests.try_recv() {
        let _ = outgoing.answer.send(Err(error.clone()));
    }
}

async fn write<S: AsyncWrite>(
    mut stream: WriteHalf<S>,
    requests: &mut mpsc::Receiver<Outgoing>,
    pending: &Pending,
) -> String {
    while let Some(Outgoing { frame, correlation, deadline, answer }) = requests.recv().await {
        pending.lock().push_back(Waiting { correlation, deadline, answer });
        pending.came.notify_one();
        let written = match stream.write_all(&frame).await {
            Ok(()) => stream.flush().await,
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            return error.to_string();
        }
    }
    "nobody needs it".into()
}

async fn read<S: AsyncRead>(mut stream: ReadHalf<S>, pending: &Pending) -> String {
    let mut buffer = BytesMut::new();
    loop {
        while let Some(length) = buffer.first_chunk().map(|bytes| u32::from_be_bytes(*bytes) as usize) {
            if !(4..=FRAME_BYTES_MAX).contains(&length) {
                return format!("it announced an answer of {length} bytes");
            }
            if buffer.len() < 4 + length {
                // A large answer is read into one piece of memory.
                buffer.reserve((4 + length - buffer.len()).min(16 * READ_BYTES));
                break;
            }
            let frame = buffer.split_to(4 + length).freeze().slice(4..);
            if let Err(what) = answer(frame, pending) {
                return what;
            }
        }
        if buffer.capacity() - buffer.len() < READ_BYTES_MIN {
            buffer.reserve(READ_BYTES);
        }
        match stream.read_buf(&mut buffer).await {
            Ok(0) => return "the broker closed it".into(),
            Ok(_) => {}
            Err(error) => return error.to_string(),
        }
    }
}

/// Hands an answer over. Brokers answer the requests of a connection in order.
fn answer(frame: Bytes, pending: &Pending) -> Result<(), String> {
    let correlation = frame.first_chunk().map(|bytes| i32::from_be_bytes(*bytes));
    let waiting = pending.lock().pop_front();
    match waiting {
        Some(waiting) if Some(waiting.correlation) == correlation => {
            let _ = waiting.answer.send(Ok(frame));
            Ok(())
        }
        Some(waiting) => {
            pending.lock().push_front(waiting);
            Err("it answered another request".into())
        }
        None => Err("it answered without being asked".into()),
    }
}

/// Ends when the oldest request is not answered by its deadline.
async fn overdue(pending: &Pending) {
    loop {
        let Some(deadline) = pending.deadline() else {
            pending.came.notified().await;
            continue;
        };
        sleep_until(deadline).await;
        if pending.deadline().is_some_and(|oldest| oldest <= Instant::now()) {
            return;
        }
    }
}
