//! What callers get from the queue without any disk.

use std::time::Duration;

use super::*;
use crate::domain::{ConversationId, UserId};

type Answered = oneshot::Receiver<Result<Offset, LogError>>;

fn queue(records: usize, bytes: usize) -> Queue {
    Queue::new(Capacity { records, bytes })
}

fn push(queue: &Queue, generation: Generation, size: usize) -> Result<(u64, Answered), LogError> {
    let key = ConversationId::dm(UserId::new(1).unwrap(), UserId::new(2).unwrap()).unwrap();
    let (answer, answered) = oneshot::channel();
    let entry = Entry { partition: 0, key, value: vec![0; size].into() };
    queue.push(entry, generation, answer).map(|ticket| (ticket, answered))
}

fn take(queue: &Queue) -> Batch {
    match queue.next(Pace::from(Instant::now()), None) {
        Next::Commit(batch) => batch,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_full_queue_refuses_at_once_and_stops_the_generation() {
    let queue = queue(2, 1000);
    let first = queue.generation();
    let (_, mut one) = push(&queue, first, 1).unwrap();
    push(&queue, first, 1).unwrap();
    assert_eq!(push(&queue, first, 1).unwrap_err(), LogError::Overloaded);
    assert_eq!(take(&queue).records.len(), 2);
    assert_eq!(push(&queue, first, 1).unwrap_err(), LogError::Behind, "it would overtake the refused one");
    assert!(one.try_recv().is_err(), "what was taken before is not failed");
    push(&queue, queue.generation(), 1).unwrap();
}

#[test]
fn bytes_are_bounded_but_a_huge_record_goes_through_alone() {
    let queue = queue(10, 100);
    push(&queue, queue.generation(), 1000).unwrap();
    assert_eq!(push(&queue, queue.generation(), 1).unwrap_err(), LogError::Overloaded);
    assert_eq!(take(&queue).records.len(), 1);
    push(&queue, queue.generation(), 100).unwrap();
}

#[test]
fn a_batch_is_bounded_in_bytes_and_in_records() {
    let queue = queue(10_000, 100 << 20);
    for _ in 0..BATCH_RECORDS_MAX + 1 {
        push(&queue, queue.generation(), 1).unwrap();
    }
    assert_eq!(take(&queue).records.len(), BATCH_RECORDS_MAX);
    assert_eq!(take(&queue).records.len(), 1);
    for _ in 0..3 {
        push(&queue, queue.generation(), BATCH_BYTES_MAX / 2).unwrap();
    }
    assert_eq!(take(&queue).records.len(), 2);
    assert_eq!(take(&queue).records.len(), 1);
}

#[test]
fn a_batch_waits_for_its_time_unless_it_is_full() {
    let queue = queue(10_000, 100 << 20);
    push(&queue, queue.generation(), 1).unwrap();
    let start = Instant::now();
    let not_before = start + Duration::from_millis(20);
    assert!(matches!(queue.next(Pace::from(not_before), None), Next::Commit(_)));
    assert!(Instant::now() >= not_before);
    push(&queue, queue.generation(), BATCH_BYTES_MAX).unwrap();
    assert!(matches!(queue.next(Pace::from(start + Duration::from_secs(60)), None), Next::Commit(_)));
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_batch_that_is_worth_its_commit_waits_no_longer() {
    let queue = queue(10_000, 100 << 20);
    let start = Instant::now();
    let pace = Pace { earliest: start, latest: start + Duration::from_secs(60) };
    for _ in 0..BATCH_RECORDS_WORTH {
        push(&queue, queue.generation(), 1).unwrap();
    }
    let Next::Commit(batch) = queue.next(pace, None) else { panic!("nothing to commit") };
    assert_eq!(batch.records.len(), BATCH_RECORDS_WORTH);
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_failed_batch_fails_all_behind_it_until_the_new_generation() {
    let queue = queue(10, 1000);
    let old = queue.generation();
    let (_, mut failed) = push(&queue, old, 1).unwrap();
    let batch = take(&queue);
    let (_, mut behind) = push(&queue, old, 1).unwrap();
    queue.fail(batch, &LogError::Unavailable("no disk".into()));
    assert_eq!(failed.try_recv().unwrap(), Err(LogError::Unavailable("no disk".into())));
    assert_eq!(behind.try_recv().unwrap(), Err(LogError::Behind));
    assert_eq!(push(&queue, old, 1).unwrap_err(), LogError::Behind);
    let (_, _next) = push(&queue, queue.generation(), 1).unwrap();
    let batch = take(&queue);
    assert_eq!(batch.records.len(), 1);
    assert!(queue.settle(&batch));
}

#[test]
fn an_append_that_expires_takes_all_later_ones_with_it_even_those_being_written() {
    let queue = queue(10, 1000);
    let old = queue.generation();
    let (first, _first) = push(&queue, old, 1).unwrap();
    push(&queue, old, 1).unwrap();
    let batch = take(&queue);
    let (_, mut behind) = push(&queue, old, 1).unwrap();
    assert_eq!(queue.expire(first), Expiry::Failed);
    assert_eq!(behind.try_recv().unwrap(), Err(LogError::Behind));
    let new = queue.generation();
    assert!(new > old);
    let (later, _later) = push(&queue, new, 1).unwrap();
    assert_eq!(queue.expire(first + 1), Expiry::Failed);
    assert_eq!(queue.generation(), new, "what is condemned already does not fail the new generation");
    assert!(!queue.settle(&batch), "its second record must not succeed after its first failed");
    let batch = take(&queue);
    assert!(queue.settle(&batch));
    assert_eq!(queue.expire(later), Expiry::Settled);
}

#[test]
fn closing_hands_out_what_waits_and_takes_nothing_more() {
    let queue = queue(10, 1000);
    push(&queue, queue.generation(), 1).unwrap();
    queue.close();
    assert!(matches!(push(&queue, queue.generation(), 1), Err(LogError::Unavailable(_))));
    assert_eq!(take(&queue).records.len(), 1);
    assert!(matches!(queue.next(Pace::from(Instant::now()), None), Next::Closed));
}
