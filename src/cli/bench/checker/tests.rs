//! Each kind of fault is put into an otherwise good run, and found; what the protocol allows is not.

use super::*;
use crate::domain::{ClientId, UserId};

const ANA: Device = Device(0);
const BEN: Device = Device(1);
const BENS_PHONE: Device = Device(2);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Seen {
    Sent(Device, u8),
    Accepted(u8),
    Failed(u8),
    Rejected(u8),
    Delivered(Device, i64, u8),
    Event(Device, i64),
    Gap(Device, i64, i64),
    Fetched(Device, i64, u8),
    Reconnected(Device),
}
use Seen::*;

fn conversation() -> ConversationId {
    "dm-1-2".parse().unwrap()
}

fn id(message: u8) -> MessageId {
    let client_id = ClientId::new(format!("m{message}")).unwrap();
    MessageId::derive(conversation(), UserId::new(1).unwrap(), &client_id)
}

fn judge(run: &[Seen]) -> (Verdict, bool) {
    let mut checker = Checker::default();
    let c = conversation();
    [ANA, BEN, BENS_PHONE].into_iter().for_each(|device| checker.watch(device, c));
    for seen in run {
        match *seen {
            Sent(device, m) => drop(checker.sent(device, c, id(m))),
            Accepted(m) => drop(checker.accepted(id(m), None)),
            Failed(m) => checker.failed(id(m)),
            Rejected(m) => checker.rejected(id(m)),
            Delivered(device, seq, m) => drop(checker.delivered(device, c, Seq(seq), id(m))),
            Event(device, seq) => drop(checker.event(device, c, Seq(seq))),
            Gap(device, from, to) => checker.gap(device, c, Seq(from), Seq(to)),
            Fetched(device, seq, m) => checker.fetched(device, c, Seq(seq), id(m)),
            Reconnected(device) => checker.reconnected(device),
        }
    }
    (checker.verdict(), checker.is_settled())
}

/// Messages 1 to 5 of Ana, stored as seq 11 to 15, on three devices.
fn good_run() -> Vec<Seen> {
    (1..=5)
        .flat_map(|m| {
            let seq = 10 + i64::from(m);
            let to = |device| Delivered(device, seq, m);
            [Sent(ANA, m), Accepted(m), to(ANA), to(BEN), to(BENS_PHONE)]
        })
        .collect()
}

/// A good run in which `old` is replaced by `new`.
fn run_with(old: Seen, new: &[Seen]) -> Vec<Seen> {
    let run = good_run();
    assert!(run.contains(&old));
    run.into_iter().flat_map(|seen| if seen == old { new.to_vec() } else { vec![seen] }).collect()
}

#[track_caller]
fn assert_found(run: &[Seen], expected: &[(Fault, u64)]) {
    let (verdict, _) = judge(run);
    let found: Vec<_> =
        Fault::ALL.into_iter().map(|f| (f, verdict.count(f))).filter(|(_, count)| *count > 0).collect();
    assert_eq!(found, expected, "{verdict}");
    assert_eq!(verdict.is_clean(), expected.iter().all(|(fault, _)| *fault == Fault::Foreign));
}

#[test]
fn a_good_run_is_clean_and_settled() {
    let (verdict, settled) = judge(&good_run());
    assert!(verdict.is_clean() && settled, "{verdict}");
    assert_eq!((verdict.sent, verdict.accepted, verdict.delivered), (5, 5, 15));
}

#[test]
fn a_message_lost_on_one_device_is_found() {
    let run = run_with(Delivered(BEN, 13, 3), &[]);
    assert_found(&run, &[(Fault::Lost, 1), (Fault::Skipped, 1), (Fault::Hole, 1)]);
    assert!(!judge(&run).1);
}

#[test]
fn the_last_message_lost_is_found_though_nothing_came_after_it() {
    assert_found(&run_with(Delivered(BENS_PHONE, 15, 5), &[]), &[(Fault::Lost, 1)]);
}

#[test]
fn a_message_lost_everywhere_is_found_though_seqs_go_on_without_a_hole() {
    let mut run = good_run();
    run.extend([Sent(ANA, 6), Accepted(6)]);
    assert_found(&run, &[(Fault::Lost, 1)]);
}

#[test]
fn a_message_delivered_twice_is_found() {
    let twice = [Delivered(BEN, 13, 3), Delivered(BEN, 13, 3)];
    assert_found(&run_with(Delivered(BEN, 13, 3), &twice), &[(Fault::Duplicated, 1)]);
    let later = [Delivered(BEN, 15, 5), Delivered(BEN, 12, 2)];
    assert_found(&run_with(Delivered(BEN, 15, 5), &later), &[(Fault::Duplicated, 1)]);
}

#[test]
fn a_socket_that_swaps_two_messages_is_found() {
    let mut run = run_with(Delivered(BEN, 13, 3), &[]);
    let after = run.iter().position(|seen| *seen == Delivered(BEN, 14, 4)).unwrap() + 1;
    run.insert(after, Delivered(BEN, 13, 3));
    assert_found(&run, &[(Fault::OutOfOrder, 1), (Fault::Skipped, 1)]);
}

#[test]
fn a_message_stored_twice_is_found() {
    let mut run = good_run();
    run.extend([ANA, BEN, BENS_PHONE].map(|device| Delivered(device, 16, 3)));
    assert_found(&run, &[(Fault::TwoSeqs, 3)]);
}

#[test]
fn devices_that_disagree_on_the_order_are_found() {
    let swapped = [Delivered(BENS_PHONE, 13, 4), Delivered(BENS_PHONE, 14, 3), Delivered(BENS_PHONE, 15, 5)];
    let of_phone = |seen: &Seen| matches!(seen, Delivered(BENS_PHONE, 13.., _));
    let run: Vec<_> = good_run().into_iter().filter(|seen| !of_phone(seen)).chain(swapped).collect();
    let (verdict, _) = judge(&run);
    assert_eq!((verdict.count(Fault::TwoIds), verdict.count(Fault::TwoSeqs)), (2, 2), "{verdict}");
}

#[test]
fn sends_stored_in_another_order_are_found() {
    let mut run: Vec<_> = (1..=2).map(|m| Sent(ANA, m)).collect();
    for (seq, m) in [(11, 2), (12, 1)] {
        run.push(Accepted(m));
        run.extend([ANA, BEN, BENS_PHONE].map(|device| Delivered(device, seq, m)));
    }
    assert_found(&run, &[(Fault::SendsReordered, 1)]);
}

#[test]
fn a_send_without_an_answer_is_found_and_an_error_is_an_answer() {
    let mut run = good_run();
    run.push(Sent(ANA, 6));
    assert_found(&run, &[(Fault::Unanswered, 1)]);
    run.push(Failed(6));
    assert_found(&run, &[]);
    assert!(judge(&run).1);
    // Tried again, its fate is open again.
    run.push(Sent(ANA, 6));
    assert_found(&run, &[(Fault::Unanswered, 1)]);
}

#[test]
fn two_answers_to_one_send_are_found_and_to_a_retry_are_not() {
    assert_found(&run_with(Accepted(3), &[Accepted(3), Accepted(3)]), &[(Fault::AnsweredTwice, 1)]);
    assert_found(&run_with(Accepted(3), &[Sent(ANA, 3), Accepted(3), Accepted(3)]), &[]);
}

#[test]
fn a_rejected_message_need_not_come_and_must_not() {
    let mut run = good_run();
    run.extend([Sent(ANA, 6), Accepted(6), Rejected(6)]);
    assert_found(&run, &[]);
    assert!(judge(&run).1);
    run.extend([ANA, BEN, BENS_PHONE].map(|device| Delivered(device, 16, 6)));
    assert_found(&run, &[(Fault::RejectedYetStored, 1)]);
}

#[test]
fn a_message_that_nobody_sent_is_counted() {
    let mut run = good_run();
    run.extend([Delivered(BEN, 16, 99), Accepted(99)]);
    assert_found(&run, &[(Fault::Foreign, 2)]);
}

#[test]
fn a_new_socket_may_repeat_what_the_device_holds_but_leave_nothing_out() {
    let resume = |from: u8| {
        let again = (from..=5).map(|m| Delivered(BEN, 10 + i64::from(m), m));
        let start = run_with(Delivered(BEN, 15, 5), &[]).into_iter().chain([Reconnected(BEN)]);
        start.chain(again).collect::<Vec<_>>()
    };
    assert_found(&resume(2), &[]);
    assert_eq!(judge(&resume(2)).0.repeated, 3);
    assert_found(&resume(5), &[]);
    assert_found(&resume(6), &[(Fault::Lost, 1)]);
    let twice: Vec<_> = resume(3).into_iter().chain([Delivered(BEN, 14, 4)]).collect();
    assert_found(&twice, &[(Fault::Duplicated, 1)]);
}

#[test]
fn a_gap_is_not_lost_but_to_be_fetched() {
    let run = run_with(Delivered(BEN, 12, 2), &[Gap(BEN, 12, 13)]);
    let run: Vec<_> = run.into_iter().filter(|seen| *seen != Delivered(BEN, 13, 3)).collect();
    assert_found(&run, &[]);
    assert_eq!(judge(&run).0.unfetched, 2);
    let fetched: Vec<_> = run.into_iter().chain([Fetched(BEN, 12, 2), Fetched(BEN, 13, 3)]).collect();
    assert_found(&fetched, &[]);
    assert_eq!(judge(&fetched).0.unfetched, 0);
    assert!(judge(&fetched).1);
}

#[test]
fn an_event_that_is_no_message_takes_a_seq() {
    let mut run = good_run();
    run.push(Sent(ANA, 6));
    run.push(Accepted(6));
    for device in [ANA, BEN, BENS_PHONE] {
        run.extend([Event(device, 16), Delivered(device, 17, 6)]);
    }
    assert_found(&run, &[]);
    let without: Vec<_> = run.into_iter().filter(|seen| *seen != Event(BEN, 16)).collect();
    assert_found(&without, &[(Fault::Skipped, 1), (Fault::Hole, 1)]);
}
