//! What goes out in which order, and what is known of it.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn text(length: usize) -> Frame {
    Frame::text(&"x".repeat(length))
}

/// Takes the next bytes, at most so many, as a kernel does with one write.
fn take(outbox: &mut Outbox, most: usize) -> Vec<u8> {
    let mut slices = [IoSlice::new(&[]); SLICES_MAX];
    let count = outbox.offer(&mut slices);
    let mut bytes = slices[..count].iter().map(|slice| &**slice).collect::<Vec<_>>().concat();
    bytes.truncate(most);
    outbox.taken(bytes.len());
    bytes
}

#[test]
fn many_small_frames_go_out_in_one_write() {
    let mut outbox = Outbox::new(OutboxLimits::default());
    let frames = ["one", "two", "three"].map(Frame::text);
    for frame in &frames {
        outbox.push(frame.clone()).unwrap();
    }
    assert_eq!(outbox.queued_bytes(), 5 + 5 + 7);
    let expected: Vec<u8> = frames.into_iter().flat_map(Frame::into_bytes).collect();
    assert_eq!(take(&mut outbox, usize::MAX), expected);
    assert!(outbox.is_drained());
    assert_eq!(take(&mut outbox, usize::MAX), b"");
}

#[test]
fn a_frame_is_not_copied() {
    let mut outbox = Outbox::new(OutboxLimits::default());
    let frame = text(10_000);
    let whole = frame.clone().into_bytes();
    outbox.push(frame).unwrap();
    outbox.taken(4_000);
    let mut slices = [IoSlice::new(&[]); SLICES_MAX];
    assert_eq!(outbox.offer(&mut slices), 1);
    assert_eq!((slices[0].len(), slices[0].as_ptr()), (whole.len() - 4_000, whole[4_000..].as_ptr()));
}

#[test]
fn beyond_the_limits_nothing_is_queued_but_the_last_frame() {
    let mut outbox = Outbox::new(OutboxLimits { queued_bytes_max: 20, queued_frames_max: 2 });
    outbox.push(text(10)).unwrap();
    assert_eq!(outbox.push(text(10)), Err(Full), "24 bytes");
    outbox.push(text(0)).unwrap();
    assert_eq!(outbox.push(text(0)), Err(Full), "three frames");
    outbox.finish(Frame::close(4430, "too slow"));
    outbox.push_at_pace(text(0));
    assert_eq!(take(&mut outbox, usize::MAX).len(), 12 + 2 + 12, "nothing goes out behind the close");
}

#[test]
fn what_is_sent_at_its_own_pace_makes_no_socket_too_slow() {
    let mut outbox = Outbox::new(OutboxLimits { queued_bytes_max: 20, queued_frames_max: 9 });
    outbox.push_at_pace(text(10_000));
    outbox.push(text(10)).unwrap();
    assert_eq!(outbox.push(text(10)), Err(Full), "24 bytes besides");
    while !outbox.is_drained() {
        take(&mut outbox, 4_096);
    }
    outbox.push(text(10)).unwrap();
    assert_eq!(outbox.push(text(10)), Err(Full), "the limit is as before");
}

#[test]
fn a_stall_is_counted_from_the_moment_nothing_more_is_taken() {
    let mut outbox = Outbox::new(OutboxLimits::default());
    let began = Instant::now();
    outbox.push(text(10_000)).unwrap();
    assert_eq!(outbox.stalled_for(began + 100 * SECOND), Duration::ZERO, "nobody has tried");
    outbox.refused(began);
    outbox.push(text(1)).unwrap();
    outbox.refused(began + SECOND);
    assert_eq!(outbox.stalled_for(began + 4 * SECOND), 4 * SECOND, "more in the queue is no progress");
    take(&mut outbox, 1);
    outbox.refused(began + 4 * SECOND);
    assert_eq!(outbox.stalled_for(began + 5 * SECOND), SECOND, "a part that was taken is");
    take(&mut outbox, usize::MAX);
    assert_eq!(outbox.stalled_for(began + 100 * SECOND), Duration::ZERO, "nothing waits");
}

#[test]
fn what_waits_can_be_discarded_but_never_half_a_frame() {
    let mut outbox = Outbox::new(OutboxLimits::default());
    let (begun, whole) = (text(5_000), text(5_000).into_bytes());
    outbox.push(begun).unwrap();
    outbox.push(text(7)).unwrap();
    let mut sent = take(&mut outbox, 4_096);
    outbox.discard();
    assert_eq!(outbox.queued_bytes(), whole.len() - sent.len());
    outbox.push(Frame::ping(b"after")).unwrap();
    sent.extend(take(&mut outbox, usize::MAX));
    assert_eq!(sent, [&whole[..], &Frame::ping(b"after").into_bytes()].concat());

    outbox.push(text(7)).unwrap();
    outbox.discard();
    assert!(outbox.is_drained(), "nothing of it was sent, so nothing of it is left");
}

#[test]
fn after_a_burst_the_queue_gives_its_memory_back() {
    let mut outbox = Outbox::new(OutboxLimits::default());
    for _ in 0..1_000 {
        outbox.push(text(50)).unwrap();
    }
    while !outbox.is_drained() {
        take(&mut outbox, usize::MAX);
    }
    assert!(outbox.queue.capacity() <= QUEUE_KEPT);
}

proptest! {
    #[test]
    fn every_byte_goes_out_once_and_in_order(
        lengths in prop::collection::vec(prop_oneof![0..200usize, 3_900..4_200usize, 0..9_000usize], 1..80),
        writes in prop::collection::vec(1..20_000usize, 1..20),
    ) {
        let mut outbox = Outbox::new(OutboxLimits { queued_bytes_max: usize::MAX, ..OutboxLimits::default() });
        let frames: Vec<Frame> = lengths.iter().map(|length| text(*length)).collect();
        for frame in &frames {
            outbox.push(frame.clone()).unwrap();
        }
        let mut left: usize = frames.iter().map(Frame::len).sum();
        let mut sent = Vec::new();
        for most in writes.into_iter().cycle() {
            if outbox.is_drained() {
                break;
            }
            let taken = take(&mut outbox, most);
            prop_assert!(!taken.is_empty());
            left -= taken.len();
            prop_assert_eq!(outbox.queued_bytes(), left);
            sent.extend(taken);
        }
        let expected: Vec<u8> = frames.into_iter().flat_map(Frame::into_bytes).collect();
        prop_assert!(sent == expected);
    }
}
