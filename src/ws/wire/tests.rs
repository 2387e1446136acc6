//! A socket whose peer is slow, silent, or does not read.

use std::future::poll_fn;

use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::ws::frame::Frame;
use crate::ws::wire_tests::{frame, recv};

/// A wire with so much time for a message, and its peer.
async fn wire(message_time_max: Duration) -> (Wire, TcpStream) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let (peer, accepted) =
        tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let upgraded = Upgraded { stream: accepted.unwrap().0, early: bytes::Bytes::new() };
    let guard = GuardLimits { message_time_max, ..GuardLimits::default() };
    let outbox = OutboxLimits { queued_bytes_max: 100 << 20, ..OutboxLimits::default() };
    (Wire::new(upgraded, guard, outbox), peer.unwrap())
}

async fn next(wire: &mut Wire) -> Option<Result<Incoming, Violation>> {
    tokio::time::timeout(Duration::from_secs(60), recv(wire)).await.expect("nothing came")
}

fn text(text: &str) -> Option<Result<Incoming, Violation>> {
    Some(Ok(Incoming::Text(text.into())))
}

#[tokio::test]
async fn a_message_that_is_not_ended_in_time_is_refused() {
    let limit = Duration::from_millis(50);
    let (mut wire, mut peer) = wire(limit).await;
    let began = Instant::now();
    let said = [frame(0x81, b"good"), frame(0x01, b"never"), frame(0x89, b"")].concat();
    peer.write_all(&said).await.unwrap();
    assert_eq!(next(&mut wire).await, text("good"));
    assert_eq!(next(&mut wire).await, Some(Ok(Incoming::Ping("".into()))));
    assert_eq!(next(&mut wire).await, Some(Err(Violation::Slow)));
    assert!(began.elapsed() >= limit);
    assert_eq!(next(&mut wire).await, None);
}

#[tokio::test]
async fn a_message_byte_by_byte_is_too_slow_though_something_always_comes() {
    let (mut wire, mut peer) = wire(Duration::from_millis(200)).await;
    let dripping = async {
        for byte in frame(0x81, &[b'x'; 100]) {
            peer.write_all(&[byte]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        next = next(&mut wire) => assert_eq!(next, Some(Err(Violation::Slow))),
        () = dripping => panic!("a message of two seconds passed"),
    }
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_noticed_and_dropped() {
    let (mut wire, mut peer) = wire(Duration::from_secs(10)).await;
    let part = Frame::text(&"x".repeat(65_000));
    for _ in 0..1_000 {
        wire.outbox.push(part.clone()).unwrap();
    }
    let stalled = poll_fn(|cx| {
        assert!(wire.poll_send(cx).is_pending(), "65 MB cannot be in the kernel");
        let stalled = wire.outbox.stalled_for(Instant::now());
        cx.waker().wake_by_ref();
        if stalled >= Duration::from_millis(300) { Poll::Ready(()) } else { Poll::Pending }
    });
    tokio::time::timeout(Duration::from_secs(30), stalled).await.unwrap();
    assert!(wire.outbox.queued_bytes() > 10 << 20, "{} bytes wait", wire.outbox.queued_bytes());
    wire.abort();
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), peer.read_to_end(&mut rest)).await;
    assert_eq!(read.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn who_reads_again_gets_everything_in_order() {
    let (mut wire, mut peer) = wire(Duration::from_secs(10)).await;
    let frames: Vec<Frame> = (0..500).map(|number| Frame::text(&format!("{number:020000}"))).collect();
    for frame in &frames {
        wire.outbox.push(frame.clone()).unwrap();
    }
    assert!(poll_fn(|cx| wire.poll_send(cx)).now_or_never().is_none(), "10 MB cannot be in the kernel");
    let expected: Vec<u8> = frames.into_iter().flat_map(Frame::into_bytes).collect();
    let mut heard = vec![0; expected.len()];
    let both = async { tokio::join!(poll_fn(|cx| wire.poll_send(cx)), peer.read_exact(&mut heard)) };
    let (sent, read) = tokio::time::timeout(Duration::from_secs(30), both).await.unwrap();
    assert!(sent.is_ok() && read.is_ok() && heard == expected);
}

#[tokio::test]
async fn the_last_frame_reaches_who_sends_on_and_on() {
    let (mut wire, mut peer) = wire(Duration::from_secs(10)).await;
    peer.write_all(&vec![0; 1 << 20]).await.unwrap();
    let last = Frame::close(1002, "unmasked");
    wire.outbox.finish(last.clone());
    poll_fn(|cx| wire.poll_send(cx)).await.unwrap();
    let ended = tokio::spawn(async move {
        let mut heard = Vec::new();
        peer.write_all(&vec![0; 8 << 20]).await.unwrap();
        peer.read_to_end(&mut heard).await.map(|_| heard)
    });
    wire.linger().await;
    let heard = tokio::time::timeout(Duration::from_secs(30), ended).await.unwrap().unwrap();
    assert_eq!(heard.unwrap(), last.into_bytes());
}
