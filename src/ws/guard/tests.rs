//! What a peer may send and what it may not, and that no way to cut its bytes changes that.

use proptest::prelude::*;

use super::*;
use crate::ws::wire_tests::{announce, frame};

fn feed(bytes: &[u8]) -> Fed {
    Guard::new(GuardLimits::default()).feed(bytes, Instant::now())
}

fn verdict(frames: &[Vec<u8>]) -> Verdict {
    feed(&frames.concat()).verdict
}

fn close(payload: &[u8]) -> Vec<Vec<u8>> {
    vec![frame(0x88, payload)]
}

/// Each way to break the rules: its name, the frames, the violation, its close code.
fn table() -> Vec<(&'static str, Vec<Vec<u8>>, Violation, u16)> {
    use Violation::*;
    let fragments = |count: usize| {
        let mut frames = vec![frame(0x01, b"a")];
        frames.resize(count, frame(0x00, b"a"));
        frames
    };
    let unmasked = vec![vec![0x81, 0x01, b'a']];
    vec![
        ("unmasked", unmasked, Unmasked, 1002),
        ("rsv1", vec![frame(0xc1, b"a")], ReservedBits, 1002),
        ("rsv2", vec![frame(0xa1, b"a")], ReservedBits, 1002),
        ("rsv3", vec![frame(0x91, b"a")], ReservedBits, 1002),
        ("opcode 3", vec![frame(0x83, b"")], ReservedOpcode, 1002),
        ("opcode 7 inside a message", vec![frame(0x01, b"a"), frame(0x87, b"")], ReservedOpcode, 1002),
        ("opcode 11", vec![frame(0x8b, b"")], ReservedOpcode, 1002),
        ("opcode 15", vec![frame(0x8f, b"")], ReservedOpcode, 1002),
        ("fragmented ping", vec![frame(0x09, b"")], ControlFragmented, 1002),
        ("fragmented close", vec![frame(0x08, b"")], ControlFragmented, 1002),
        ("ping of 126", vec![announce(0x89, 126)], ControlTooLong, 1002),
        ("pong of 8 GiB", vec![announce(0x8a, 8 << 30)], ControlTooLong, 1002),
        ("continuation first", vec![frame(0x80, b"a")], ContinuationWithoutStart, 1002),
        (
            "continuation after the end",
            vec![frame(0x81, b"a"), frame(0x80, b"")],
            ContinuationWithoutStart,
            1002,
        ),
        ("text inside text", vec![frame(0x01, b"a"), frame(0x81, b"b")], MessageInsideMessage, 1002),
        ("binary inside text", vec![frame(0x01, b"a"), frame(0x82, b"b")], MessageInsideMessage, 1002),
        ("16 bits for 125", vec![vec![0x81, 0xfe, 0, 125]], LengthEncoding, 1002),
        ("64 bits for 65535", vec![vec![0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff]], LengthEncoding, 1002),
        ("top bit", vec![vec![0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0]], LengthEncoding, 1002),
        ("close of one byte", close(&[3]), CloseFrame, 1002),
        ("close 999", close(&999u16.to_be_bytes()), CloseFrame, 1002),
        ("close 1004", close(&1004u16.to_be_bytes()), CloseFrame, 1002),
        ("close 1005", close(&1005u16.to_be_bytes()), CloseFrame, 1002),
        ("close 1006", close(&1006u16.to_be_bytes()), CloseFrame, 1002),
        ("close 1015", close(&1015u16.to_be_bytes()), CloseFrame, 1002),
        ("close 2999", close(&2999u16.to_be_bytes()), CloseFrame, 1002),
        ("close 5000", close(&5000u16.to_be_bytes()), CloseFrame, 1002),
        ("close with a bad reason", close(&[0x03, 0xe8, 0xff]), NotUtf8, 1007),
        ("close with half a character", close(&[0x03, 0xe8, 0xe2, 0x82]), NotUtf8, 1007),
        ("binary", vec![announce(0x82, 1)], Binary, 1003),
        ("fragmented binary", vec![announce(0x02, 1)], Binary, 1003),
        ("bad byte", vec![frame(0x81, b"ab\xff")], NotUtf8, 1007),
        ("half a character", vec![frame(0x81, "€".as_bytes()[..2].into())], NotUtf8, 1007),
        ("bad across fragments", vec![frame(0x01, b"\xe2"), frame(0x80, b"a")], NotUtf8, 1007),
        ("one byte too large", vec![announce(0x81, 65_537)], MessageTooLarge, 1009),
        ("8 GiB", vec![announce(0x81, 8 << 30)], MessageTooLarge, 1009),
        (
            "too large in sum",
            vec![frame(0x01, &[b'a'; 65_000]), frame(0x89, b"ping"), announce(0x80, 537)],
            MessageTooLarge,
            1009,
        ),
        ("65 fragments", fragments(65), TooManyFragments, 1009),
        ("201 pings", vec![frame(0x89, b""); 201], Flood, 4429),
        ("2 MiB and a bit", vec![frame(0x81, &[b'a'; 65_536]); 32], Flood, 4429),
    ]
}

#[test]
fn every_breach_is_named_and_has_its_close_code() {
    for (name, frames, violation, code) in table() {
        assert_eq!(verdict(&frames), Verdict::Violation(violation), "{name}");
        assert_eq!(violation.close_code(), code, "{name}");
    }
}

#[test]
fn what_is_allowed_passes_whole() {
    let mut fragments = vec![frame(0x01, b"a")];
    fragments.resize(63, frame(0x00, b"a"));
    fragments.push(frame(0x80, b"a"));
    let allowed = [
        vec![frame(0x81, b"")],
        vec![frame(0x81, &[b'a'; 125]), frame(0x81, &[b'a'; 126])],
        vec![frame(0x81, &[b'a'; 65_535]), frame(0x81, &[b'a'; 65_536])],
        vec![frame(0x01, &[b'a'; 65_000]), frame(0x89, &[1; 125]), frame(0x80, &[b'a'; 536])],
        vec![frame(0x01, b"\xe2"), frame(0x8a, b"\xff"), frame(0x00, b""), frame(0x80, b"\x82\xac")],
        vec![frame(0x01, b""), frame(0x80, b"")],
        vec![frame(0x81, b"a"), frame(0x81, b"b")],
        fragments,
        vec![frame(0x89, b""); 200],
    ];
    for frames in allowed {
        let bytes = frames.concat();
        assert_eq!(feed(&bytes), Fed { pass: bytes.len(), verdict: Verdict::Pass });
    }
}

#[test]
fn nothing_behind_a_close_frame_is_read() {
    for payload in [&b""[..], &[0x03, 0xe8], b"\x0f\xa0\xe2\x82\xac", &[0x13, 0x87]] {
        let first = frame(0x88, payload);
        let mut guard = Guard::new(GuardLimits::default());
        let fed = guard.feed(&[first.clone(), frame(0x82, b"x")].concat(), Instant::now());
        assert_eq!(fed, Fed { pass: first.len(), verdict: Verdict::Closed });
        assert_eq!(guard.feed(b"more", Instant::now()), Fed { pass: 0, verdict: Verdict::Closed });
    }
}

#[test]
fn a_close_frame_inside_a_message_is_a_close() {
    let frames = [frame(0x01, b"\xe2"), frame(0x88, b"\x03\xe8bye")];
    assert_eq!(verdict(&frames), Verdict::Closed);
}

#[test]
fn of_an_announced_8_gib_nothing_passes() {
    let mut bytes = announce(0x81, 8 << 30);
    bytes.extend([0; 4_096]);
    assert_eq!(feed(&bytes), Fed { pass: 0, verdict: Verdict::Violation(Violation::MessageTooLarge) });
    let mut guard = Guard::new(GuardLimits::default());
    let passed: usize = bytes.iter().map(|byte| guard.feed(&[*byte], Instant::now()).pass).sum();
    assert_eq!(passed, 9, "byte by byte, all of the header but the last byte of the length");
}

#[test]
fn a_whole_message_before_a_breach_still_passes() {
    let good = frame(0x81, b"good");
    let bytes = [good.clone(), frame(0x82, b"bad")].concat();
    assert_eq!(feed(&bytes), Fed { pass: good.len(), verdict: Verdict::Violation(Violation::Binary) });
}

#[test]
fn bad_text_is_refused_at_the_bad_byte_not_at_the_end_of_its_message() {
    let mut bytes = announce(0x81, 60_000);
    let mask = bytes[4];
    bytes.push(0xff ^ mask);
    assert_eq!(feed(&bytes).verdict, Verdict::Violation(Violation::NotUtf8));
}

#[test]
fn without_rate_limits_nothing_is_a_flood() {
    let mut guard = Guard::new(GuardLimits { rate: None, ..GuardLimits::default() });
    let bytes = vec![frame(0x89, b""); 5_000].concat();
    assert_eq!(guard.feed(&bytes, Instant::now()).verdict, Verdict::Pass);
}

#[test]
fn a_message_is_midway_from_its_first_byte_to_its_last() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut guard = Guard::new(GuardLimits::default());
    assert_eq!(guard.midway_since(), None);
    guard.feed(&[0x01], at(1));
    assert_eq!(guard.midway_since(), Some(at(1)));
    guard.feed(&frame(0x01, b"a")[1..], at(2));
    guard.feed(&frame(0x89, b"ping"), at(3));
    assert_eq!(guard.midway_since(), Some(at(1)), "a ping in between does not end it");
    guard.feed(&[frame(0x80, b""), vec![0x81]].concat(), at(4));
    assert_eq!(guard.midway_since(), Some(at(4)), "the next one began");
    guard.feed(&frame(0x81, b"")[1..], at(5));
    assert_eq!(guard.midway_since(), None);
    guard.feed(&frame(0x89, b"ping")[..3], at(6));
    assert_eq!(guard.midway_since(), Some(at(6)), "a lone ping counts too");
}

/// Feeds `bytes` cut at `cuts`, and says how much of it lies in whole frames that passed, and the verdict.
fn feed_cut(bytes: &[u8], cuts: &[usize]) -> Verdict {
    let mut guard = Guard::new(GuardLimits::default());
    let (now, mut from) = (Instant::now(), 0);
    let mut last = Verdict::Pass;
    for to in cuts.iter().copied().chain([bytes.len()]) {
        let fed = guard.feed(&bytes[from..to], now);
        assert!(fed.pass <= to - from);
        if last == Verdict::Pass {
            assert!(fed.verdict != Verdict::Pass || fed.pass == to - from);
        } else {
            assert_eq!(fed, Fed { pass: 0, verdict: last });
        }
        (last, from) = (fed.verdict, to);
    }
    last
}

#[test]
fn byte_by_byte_every_verdict_of_the_table_is_the_same() {
    for (name, frames, violation, _) in table() {
        let bytes = frames.concat();
        let cuts: Vec<usize> = (1..bytes.len()).collect();
        assert_eq!(feed_cut(&bytes, &cuts), Verdict::Violation(violation), "{name}");
    }
}

/// Frames that are mostly valid, now and then not.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof![9 => "\\PC{0,40}".prop_map(String::into_bytes), 1 => any::<[u8; 3]>().prop_map(Vec::from)];
    let first = prop_oneof![
        4 => Just(0x81u8), 3 => Just(0x01u8), 3 => Just(0x00u8), 3 => Just(0x80u8),
        3 => Just(0x89u8), 2 => Just(0x8au8), 1 => Just(0x88u8), 1 => any::<u8>(),
    ];
    prop_oneof![
        19 => (first, text).prop_map(|(first, text)| frame(first, &text)),
        1 => prop::collection::vec(any::<u8>(), 1..20),
    ]
}

proptest! {
    #[test]
    fn no_way_to_cut_the_bytes_changes_the_verdict(
        frames in prop::collection::vec(any_frame(), 1..12),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let bytes = frames.concat();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.sort_unstable();
        prop_assert_eq!(feed_cut(&bytes, &cuts), feed(&bytes).verdict);
    }
}
