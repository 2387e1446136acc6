//! Whole messages out of any chunks.

use super::*;
use crate::ws::wire_tests::frame;

/// What comes out of these chunks.
fn said(chunks: &[&[u8]]) -> Vec<Result<Incoming, Violation>> {
    let (mut inbound, mut said) = (Inbound::new(GuardLimits::default()), Vec::new());
    for chunk in chunks {
        inbound.feed(chunk, Instant::now());
        said.extend(std::iter::from_fn(|| inbound.next_message()));
    }
    said
}

fn text(text: &str) -> Result<Incoming, Violation> {
    Ok(Incoming::Text(text.into()))
}

#[test]
fn messages_come_out_whole_however_they_were_cut() {
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
    let expected = [
        text("plain"),
        Ok(Incoming::Ping("are you there".into())),
        text("€!"),
        Ok(Incoming::Pong("yes".into())),
        Ok(Incoming::Close(Some(4000))),
    ];
    for size in [1, 2, 3, 7, 4_096] {
        assert_eq!(said(&frames.chunks(size).collect::<Vec<_>>()), expected, "{size}");
    }
}

#[test]
fn a_message_of_the_full_size_passes_and_leaves_no_memory_behind() {
    let large = "x".repeat(65_536);
    let mut inbound = Inbound::new(GuardLimits::default());
    inbound.feed(&frame(0x81, large.as_bytes()), Instant::now());
    assert_eq!(inbound.next_message(), Some(text(&large)));
    assert_eq!((inbound.next_message(), inbound.buffer.capacity()), (None, 0));
    inbound.feed(&frame(0x81, b"a"), Instant::now());
    assert_eq!(inbound.next_message(), Some(text("a")));
}

#[test]
fn a_breach_comes_after_the_messages_before_it_and_is_the_last() {
    let frames = [frame(0x81, b"good"), frame(0x82, b"bad"), frame(0x81, b"late")].concat();
    assert_eq!(said(&[&frames, &frame(0x81, b"later")]), [text("good"), Err(Violation::Binary)]);
}

#[test]
fn the_time_of_a_message_runs_while_it_is_midway() {
    let (mut inbound, began) = (Inbound::new(GuardLimits::default()), Instant::now());
    assert_eq!(inbound.whole_until(), None);
    let whole = frame(0x81, b"ab");
    inbound.feed(&whole[..3], began);
    let limit = std::time::Duration::from_secs(10);
    assert_eq!(inbound.whole_until(), Some(began + limit));
    inbound.feed(&whole[3..5], began + limit / 2);
    assert_eq!(inbound.whole_until(), Some(began + limit), "a byte is no end");
    // The end of one and the begin of the next come together, so that one is always under way.
    inbound.feed(&[&whole[5..], &whole[..3]].concat(), began + limit);
    assert_eq!(inbound.whole_until(), Some(began + 2 * limit));
    inbound.feed(&whole[3..], began + limit);
    assert_eq!(inbound.whole_until(), None);
}
