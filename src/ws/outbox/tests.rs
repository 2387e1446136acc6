//! What goes out in which pieces, and what the sender knows of it.

use futures_util::FutureExt;
use proptest::prelude::*;

use super::*;

/// Polls the body once, without a task behind it.
fn poll(body: &mut OutboxBody) -> Poll<Option<Result<Bytes, Aborted>>> {
    Pin::new(body).poll_next(&mut Context::from_waker(Waker::noop()))
}

fn chunk(body: &mut OutboxBody) -> Bytes {
    match poll(body) {
        Poll::Ready(Some(Ok(chunk))) => chunk,
        other => panic!("no chunk but {other:?}"),
    }
}

fn text(length: usize) -> Frame {
    Frame::text(&"x".repeat(length))
}

#[tokio::test]
async fn many_small_frames_go_out_in_one_write() {
    let (sender, mut body) = pair(OutboxLimits::default());
    let frames: Vec<Frame> = ["one", "two", "three"].map(Frame::text).into();
    for frame in &frames {
        sender.push(frame.clone()).unwrap();
    }
    assert_eq!(sender.queued_bytes(), 5 + 5 + 7);
    let expected: Vec<u8> = frames.into_iter().flat_map(Frame::into_bytes).collect();
    assert_eq!(chunk(&mut body), expected);
    assert!(sender.is_drained());
    assert!(poll(&mut body).is_pending());
}

#[tokio::test]
async fn a_large_frame_goes_out_in_slices_that_are_not_copied() {
    let (sender, mut body) = pair(OutboxLimits::default());
    let frame = text(10_000);
    let whole = frame.clone().into_bytes();
    sender.push(frame).unwrap();
    for at in [0, CHUNK_BYTES_MAX] {
        let slice = chunk(&mut body);
        assert_eq!(slice.len(), CHUNK_BYTES_MAX);
        assert_eq!(slice.as_ptr(), whole[at..].as_ptr());
    }
    assert_eq!(chunk(&mut body), whole[2 * CHUNK_BYTES_MAX..]);
    assert_eq!(sender.queued_bytes(), 0);
}

#[tokio::test]
async fn beyond_the_limits_nothing_is_queued_but_the_last_frame() {
    let (sender, mut body) = pair(OutboxLimits { queued_bytes_max: 20, queued_frames_max: 2 });
    sender.push(text(10)).unwrap();
    assert_eq!(sender.push(text(10)), Err(PushError::Full), "24 bytes");
    sender.push(text(0)).unwrap();
    assert_eq!(sender.push(text(0)), Err(PushError::Full), "three frames");
    sender.finish(Frame::close(4430, "too slow"));
    assert_eq!(sender.push(text(0)), Err(PushError::Closed));
    assert_eq!(chunk(&mut body).len(), 12 + 2 + 12);
    assert!(matches!(poll(&mut body), Poll::Ready(None)));
}

#[tokio::test]
async fn what_is_sent_at_its_own_pace_makes_no_socket_too_slow() {
    let (sender, mut body) = pair(OutboxLimits { queued_bytes_max: 20, queued_frames_max: 9 });
    sender.push_at_pace(text(10_000));
    sender.push(text(10)).unwrap();
    assert_eq!(sender.push(text(10)), Err(PushError::Full), "24 bytes besides");
    while !sender.is_drained() {
        chunk(&mut body);
    }
    sender.push(text(10)).unwrap();
    assert_eq!(sender.push(text(10)), Err(PushError::Full), "the limit is as before");
    sender.finish(Frame::close(1000, ""));
    sender.push_at_pace(text(10));
    assert_eq!(chunk(&mut body).len(), 12 + 4, "nothing goes out behind the close");
}

#[tokio::test]
async fn a_stall_is_counted_from_the_moment_something_waits() {
    let second = Duration::from_secs(1);
    let (sender, mut body) = pair(OutboxLimits::default());
    let made = sender.last_progress();
    assert_eq!(sender.stalled_for(made + 100 * second), Duration::ZERO, "nothing waits");
    tokio::time::sleep(Duration::from_millis(2)).await;
    sender.push(text(10_000)).unwrap();
    let pushed = sender.last_progress();
    assert!(pushed > made, "it waits since the push");
    assert_eq!(sender.stalled_for(pushed + 4 * second), 4 * second);
    tokio::time::sleep(Duration::from_millis(2)).await;
    sender.push(text(1)).unwrap();
    assert_eq!(sender.last_progress(), pushed, "more in the queue is no progress");
    chunk(&mut body);
    assert!(sender.last_progress() > pushed, "a part that was handed over is");
    assert_eq!(sender.stalled_for(sender.last_progress() + second), second);
}

#[tokio::test]
async fn what_waits_can_be_discarded_but_never_half_a_frame() {
    let (sender, mut body) = pair(OutboxLimits::default());
    let (begun, whole) = (text(5_000), text(5_000).into_bytes());
    sender.push(begun).unwrap();
    sender.push(text(7)).unwrap();
    let mut sent = chunk(&mut body).to_vec();
    sender.discard();
    assert_eq!(sender.queued_bytes(), whole.len() - sent.len());
    sender.push(Frame::ping(b"after")).unwrap();
    sent.extend(chunk(&mut body));
    assert_eq!(sent, [&whole[..], &Frame::ping(b"after").into_bytes()].concat());

    sender.push(text(7)).unwrap();
    sender.discard();
    assert!(sender.is_drained(), "nothing of it was sent, so nothing of it is left");
}

#[tokio::test]
async fn room_waits_for_the_body_until_there_is_enough_or_nothing_waits() {
    let (sender, mut body) = pair(OutboxLimits::default());
    sender.room(0).now_or_never().unwrap();
    sender.push(text(9_000)).unwrap();
    assert!(sender.room(5_000).now_or_never().is_none());
    let waiter = async {
        sender.room(5_000).await;
        assert!(sender.queued_bytes() <= 5_000);
        sender.room(0).await;
        assert!(sender.is_drained());
    };
    let reader = async {
        while sender.queued_bytes() > 0 {
            chunk(&mut body);
            tokio::task::yield_now().await;
        }
    };
    let joined = async { futures_util::join!(waiter, reader) };
    tokio::time::timeout(Duration::from_secs(5), joined).await.unwrap();
}

#[tokio::test]
async fn a_push_wakes_a_body_that_waited() {
    let (sender, mut body) = pair(OutboxLimits::default());
    let reader = poll_fn(|cx| Pin::new(&mut body).poll_next(cx));
    let writer = async { sender.push(Frame::text("hi")) };
    let joined = async { futures_util::join!(reader, writer) };
    let (read, _) = tokio::time::timeout(Duration::from_secs(5), joined).await.unwrap();
    assert_eq!(read.unwrap().unwrap(), Frame::text("hi").into_bytes());
}

#[tokio::test]
async fn a_sender_that_is_dropped_sends_what_it_had_and_ends() {
    let (sender, mut body) = pair(OutboxLimits::default());
    sender.push(Frame::text("last")).unwrap();
    drop(sender);
    assert_eq!(chunk(&mut body), Frame::text("last").into_bytes());
    assert!(matches!(poll(&mut body), Poll::Ready(None)));
}

#[tokio::test]
async fn an_abort_ends_the_body_with_an_error_whatever_waits() {
    let (sender, mut body) = pair(OutboxLimits::default());
    sender.push(text(100)).unwrap();
    sender.abort();
    assert!(matches!(poll(&mut body), Poll::Ready(Some(Err(Aborted)))));
    assert_eq!(sender.push(text(1)), Err(PushError::Closed));
}

#[tokio::test]
async fn the_sender_notices_that_the_peer_is_gone() {
    let (sender, body) = pair(OutboxLimits::default());
    sender.push(text(100)).unwrap();
    assert!(!sender.is_closed());
    let joined = async { futures_util::join!(sender.closed(), async { drop(body) }) };
    tokio::time::timeout(Duration::from_secs(5), joined).await.unwrap();
    assert!(sender.is_closed());
    assert_eq!(sender.queued_bytes(), 0);
    sender.room(0).now_or_never().unwrap();
    assert_eq!(sender.push(text(1)), Err(PushError::Closed));
}

#[tokio::test]
async fn after_a_burst_the_queue_gives_its_memory_back() {
    let (sender, mut body) = pair(OutboxLimits::default());
    for _ in 0..1_000 {
        sender.push(text(50)).unwrap();
    }
    while !sender.is_drained() {
        chunk(&mut body);
    }
    assert!(sender.0.borrow().queue.capacity() <= QUEUE_KEPT);
}

proptest! {
    #[test]
    fn every_byte_goes_out_once_and_in_order(
        lengths in prop::collection::vec(prop_oneof![0..200usize, 3_900..4_200usize, 0..9_000usize], 1..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _inside = runtime.enter();
        let (sender, mut body) = pair(OutboxLimits::default());
        let frames: Vec<Frame> = lengths.iter().map(|length| text(*length)).collect();
        for frame in &frames {
            sender.push(frame.clone()).unwrap();
        }
        let (mut sent, mut chunks) = (Vec::new(), 0);
        while !sender.is_drained() {
            let chunk = chunk(&mut body);
            prop_assert!((1..=CHUNK_BYTES_MAX).contains(&chunk.len()));
            sent.extend(chunk);
            chunks += 1;
            let left: usize = frames.iter().map(Frame::len).sum::<usize>() - sent.len();
            prop_assert_eq!(sender.queued_bytes(), left);
        }
        prop_assert!(chunks <= 2 * (sent.len() / CHUNK_BYTES_MAX + 1), "{} bytes in {} chunks", sent.len(), chunks);
        let expected: Vec<u8> = frames.into_iter().flat_map(Frame::into_bytes).collect();
        prop_assert!(sent == expected);
    }
}
