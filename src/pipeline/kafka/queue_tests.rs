//! What callers get from the queue without any broker.

use super::*;
use crate::domain::UserId;

type Answered = oneshot::Receiver<Result<Offset, LogError>>;

fn key() -> ConversationId {
    ConversationId::dm(UserId::new(1).unwrap(), UserId::new(2).unwrap()).unwrap()
}

/// A record that nobody waits for.
pub(in super::super) fn waiting(value: impl Into<Bytes>) -> Waiting {
    Waiting { key: key(), value: value.into(), deadline: Instant::now(), answer: oneshot::channel().0 }
}

fn queue(records: usize, bytes: usize) -> Queue {
    Queue::new(2, Capacity { records, bytes })
}

fn push(queue: &Queue, partition: Partition, size: usize) -> Result<Answered, LogError> {
    let entry = Entry { partition, key: key(), value: vec![0; size].into() };
    queue.push(entry, queue.generation(), Instant::now())
}

fn sizes(batches: &[Batch]) -> Vec<(Partition, Vec<usize>)> {
    let of = |batch: &Batch| batch.records.iter().map(|record| record.value.len()).collect();
    batches.iter().map(|batch| (batch.partition, of(batch))).collect()
}

fn ready(queue: &Queue) -> Vec<Partition> {
    queue.ready(0..2, Instant::now()).partitions
}

const GONE: KafkaError = KafkaError::NoLeader(0);

#[test]
fn a_partition_has_one_batch_in_flight_and_keeps_its_order_when_it_comes_back() {
    let queue = queue(10, 1000);
    for size in [1, 2] {
        push(&queue, 0, size).unwrap();
    }
    assert_eq!(ready(&queue), [0]);
    let mut batches = queue.take(&[0]);
    push(&queue, 0, 3).unwrap();
    push(&queue, 1, 4).unwrap();
    assert_eq!(ready(&queue), [1], "the first one is under way");
    queue.put_back(batches.remove(0), Instant::now() + Duration::from_secs(60), GONE);
    assert_eq!(ready(&queue), [1]);
    let later = queue.ready(0..2, Instant::now() + Duration::from_secs(61));
    assert_eq!((later.partitions, later.bytes), (vec![0, 1], 10));
    assert_eq!(sizes(&queue.take(&[1, 0])), [(1, vec![4]), (0, vec![1, 2, 3])]);
}

#[test]
fn what_is_in_flight_counts_until_it_is_answered() {
    let queue = queue(2, 1000);
    let mut answered = push(&queue, 0, 1).unwrap();
    push(&queue, 0, 1).unwrap();
    let mut batches = queue.take(&[0]);
    let old = queue.generation();
    assert_eq!(push(&queue, 1, 1).unwrap_err(), LogError::Overloaded);
    assert!(queue.generation() > old, "what is called later must not overtake the refused one");
    queue.succeed(batches.remove(0), 7);
    assert_eq!(answered.try_recv().unwrap(), Ok(7));
    push(&queue, 1, 1).unwrap();
}

#[test]
fn bytes_are_bounded_but_a_huge_record_goes_through_alone() {
    let queue = queue(10, 100);
    push(&queue, 0, 1000).unwrap();
    assert_eq!(push(&queue, 0, 1).unwrap_err(), LogError::Overloaded);
    let mut batches = queue.take(&[0, 1]);
    assert_eq!(sizes(&batches), [(0, vec![1000])]);
    queue.succeed(batches.remove(0), 0);
    push(&queue, 0, 100).unwrap();
}

#[test]
fn batches_and_requests_are_bounded_in_bytes() {
    let queue = Queue::new(12, Capacity { records: 1000, bytes: 100 << 20 });
    for partition in 0..12 {
        for _ in 0..3 {
            push(&queue, partition, BATCH_BYTES_MAX / 2).unwrap();
        }
    }
    let all: Vec<_> = (0..12).collect();
    let batches = queue.take(&all);
    assert!(batches.iter().all(|batch| batch.records.len() == 2));
    assert_eq!(batches.len(), REQUEST_BYTES_MAX / BATCH_BYTES_MAX);
}

#[test]
fn a_failed_batch_fails_what_is_behind_it_in_its_partition_and_the_old_generation() {
    let queue = queue(10, 1000);
    let old = queue.generation();
    let mut failed = push(&queue, 0, 1).unwrap();
    let batch = queue.take(&[0]).remove(0);
    let mut behind = push(&queue, 0, 1).unwrap();
    let mut elsewhere = push(&queue, 1, 1).unwrap();
    queue.fail(batch, &LogError::Unavailable("gone".into()));
    assert_eq!(failed.try_recv().unwrap(), Err(LogError::Unavailable("gone".into())));
    assert_eq!(behind.try_recv().unwrap(), Err(LogError::Behind));
    assert!(elsewhere.try_recv().is_err(), "another partition goes on");
    let late = Entry { partition: 1, key: key(), value: Bytes::new() };
    assert_eq!(queue.push(late, old, Instant::now()).unwrap_err(), LogError::Behind);
    push(&queue, 0, 1).unwrap();
    assert_eq!(ready(&queue), [0, 1]);
}

#[test]
fn a_record_that_waited_too_long_is_given_up_with_what_is_behind_it() {
    let queue = queue(10, 1000);
    let mut first = push(&queue, 0, 1).unwrap();
    let mut second = push(&queue, 0, 1).unwrap();
    let batch = queue.take(&[0]).remove(0);
    let late = Instant::now() + GIVEN_UP_AFTER;
    assert_eq!(queue.expire(late), None, "what is in flight ends by itself");
    queue.put_back(batch, late, GONE);
    let due = queue.expire(late - Duration::from_secs(1)).unwrap();
    assert!(due <= late);
    assert_eq!(queue.expire(late), None);
    assert_eq!(first.try_recv().unwrap(), Err(LogError::Unavailable(GONE.to_string())));
    assert_eq!(second.try_recv().unwrap(), Err(LogError::Behind));
    assert_eq!(queue.generation(), Generation(1));
    assert!(ready(&queue).is_empty());
}

#[tokio::test]
async fn the_producer_is_woken_by_the_first_record_only() {
    let queue = queue(10, 1000);
    let woken =
        || async { tokio::time::timeout(Duration::from_millis(20), queue.wake.notified()).await.is_ok() };
    push(&queue, 0, 1).unwrap();
    assert!(woken().await);
    assert_eq!(ready(&queue), [0]);
    push(&queue, 0, 1).unwrap();
    push(&queue, 1, 1).unwrap();
    assert!(!woken().await, "it knows that there is something to do");
    queue.take(&[0, 1]);
    assert!(ready(&queue).is_empty());
    push(&queue, 1, 1).unwrap();
    assert!(woken().await);
}

#[tokio::test]
async fn closing_waits_for_the_last_answer() {
    let queue = std::sync::Arc::new(queue(10, 1000));
    let mut answered = push(&queue, 0, 1).unwrap();
    let batch = queue.take(&[0]).remove(0);
    let closing = tokio::spawn({
        let queue = queue.clone();
        async move { queue.close().await }
    });
    tokio::task::yield_now().await;
    assert!(!closing.is_finished() && !queue.is_done());
    queue.succeed(batch, 3);
    closing.await.unwrap();
    assert_eq!(answered.try_recv().unwrap(), Ok(3));
    assert!(matches!(push(&queue, 0, 1), Err(LogError::Unavailable(_))));
    queue.close().await;
}
