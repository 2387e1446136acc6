//! Whole messages out of any chunks, and slow peers.

use std::time::Duration;

use futures_util::stream;

use super::*;
use crate::ws::wire_tests::frame;

/// What comes out of these chunks, after which the peer says nothing more but stays.
fn inbound(chunks: Vec<Vec<u8>>) -> Inbound {
    let chunks = stream::iter(chunks.into_iter().map(|chunk| Ok(Bytes::from(chunk))));
    let silent = futures_util::StreamExt::chain(chunks, stream::pending());
    Inbound::new(Payload::Stream { payload: Box::pin(silent) }, GuardLimits::default())
}

async fn next(inbound: &mut Inbound) -> Option<Result<Incoming, Violation>> {
    tokio::time::timeout(Duration::from_secs(60), inbound.recv()).await.expect("nothing came")
}

fn text(text: &str) -> Option<Result<Incoming, Violation>> {
    Some(Ok(Incoming::Text(text.into())))
}

#[tokio::test]
async fn messages_come_out_whole_however_they_were_cut() {
    let frames = [
        frame(0x81, b"plain"),
        frame(0x01, b"\xe2\x82"),
        frame(0x89, b"are you there"),
        frame(0x00, b"\xac"),
        frame(0x80, b"!"),
        frame(0x8a, b"yes"),
        frame(0x88, b"\x0f\xa0bye"),
        frame(0x81, b"never read"),
    ]
    .concat();
    for size in [1, 2, 3, 7, 4_096] {
        let mut inbound = inbound(frames.chunks(size).map(Vec::from).collect());
        assert_eq!(next(&mut inbound).await, text("plain"));
        assert_eq!(next(&mut inbound).await, Some(Ok(Incoming::Ping("are you there".into()))));
        assert_eq!(next(&mut inbound).await, text("€!"));
        assert_eq!(next(&mut inbound).await, Some(Ok(Incoming::Pong("yes".into()))));
        assert_eq!(next(&mut inbound).await, Some(Ok(Incoming::Close(Some(4000)))));
        assert_eq!(next(&mut inbound).await, None);
    }
}

#[tokio::test]
async fn a_message_of_the_full_size_passes_and_leaves_no_memory_behind() {
    let large = "x".repeat(65_536);
    let mut inbound = inbound(vec![frame(0x81, large.as_bytes()), frame(0x81, b"a")]);
    assert_eq!(next(&mut inbound).await, text(&large));
    assert_eq!(inbound.buffer.capacity(), 0);
    assert_eq!(next(&mut inbound).await, text("a"));
}

#[tokio::test]
async fn a_breach_comes_after_the_messages_before_it_and_is_the_last() {
    let mut inbound =
        inbound(vec![[frame(0x81, b"good"), frame(0x82, b"bad"), frame(0x81, b"late")].concat()]);
    assert_eq!(next(&mut inbound).await, text("good"));
    assert_eq!(next(&mut inbound).await, Some(Err(Violation::Binary)));
    assert_eq!(next(&mut inbound).await, None);
    assert_eq!(next(&mut inbound).await, None);
}

/// Chunks that come one after the other, `every` so often, from a peer with so much time for a message.
fn paced(chunks: Vec<Vec<u8>>, every: Duration, message_time_max: Duration) -> Inbound {
    let chunks = stream::unfold(chunks.into_iter(), move |mut chunks| async move {
        tokio::time::sleep(every).await;
        Some((Ok(Bytes::from(chunks.next()?)), chunks))
    });
    let limits = GuardLimits { message_time_max, ..GuardLimits::default() };
    Inbound::new(Payload::Stream { payload: Box::pin(chunks) }, limits)
}

#[tokio::test]
async fn a_message_that_is_not_ended_in_time_is_refused() {
    let limits = GuardLimits { message_time_max: Duration::from_millis(50), ..GuardLimits::default() };
    let chunks =
        [frame(0x81, b"good"), frame(0x01, b"never"), frame(0x89, b"")].map(|chunk| Ok(Bytes::from(chunk)));
    let silent = futures_util::StreamExt::chain(stream::iter(chunks), stream::pending());
    let mut inbound = Inbound::new(Payload::Stream { payload: Box::pin(silent) }, limits);
    let began = Instant::now();
    assert_eq!(next(&mut inbound).await, text("good"));
    assert_eq!(next(&mut inbound).await, Some(Ok(Incoming::Ping("".into()))));
    assert_eq!(next(&mut inbound).await, Some(Err(Violation::Slow)));
    assert!(began.elapsed() >= limits.message_time_max);
    assert_eq!(GuardLimits::default().message_time_max.as_secs(), 10);
}

#[tokio::test]
async fn a_message_byte_by_byte_is_too_slow_though_something_always_comes() {
    let drip = frame(0x81, &[b'x'; 100]).into_iter().map(|byte| vec![byte]).collect();
    let mut inbound = paced(drip, Duration::from_millis(20), Duration::from_millis(200));
    assert_eq!(next(&mut inbound).await, Some(Err(Violation::Slow)));
}

#[tokio::test]
async fn the_time_is_counted_for_each_message_anew() {
    let whole = frame(0x81, b"ab");
    // The end of one and the begin of the next come together, so that one is always under way.
    let overlapping = [&whole[3..], &whole[..3]].concat();
    let mut chunks = vec![overlapping; 20];
    chunks[0] = whole[..3].to_vec();
    let mut inbound = paced(chunks, Duration::from_millis(50), Duration::from_millis(500));
    for _ in 0..19 {
        assert_eq!(next(&mut inbound).await, text("ab"));
    }
}
