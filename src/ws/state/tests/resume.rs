//! Catching up: each event once, in order, none missing, whatever comes between.

use super::*;
use crate::chat::resume::Changed;

#[test]
fn a_client_that_says_nothing_is_resumed_after_a_second() {
    let mut bench = Bench::new(opening());
    assert_eq!(bench.state.deadline(), bench.now + SECOND);
    assert_eq!(bench.after(SECOND - MS), [""; 0]);
    assert_eq!(bench.after(MS), ["resume from what was confirmed"]);
    assert_eq!(bench.after(SECOND), [""; 0], "once");
}

#[test]
fn who_resumes_itself_is_not_resumed_by_the_server() {
    let mut bench = Bench::new(opening());
    assert_eq!(bench.says(r#"{"type":"resume","cursor":"c"}"#), ["resume from c"]);
    assert_eq!(bench.after(2 * SECOND), [""; 0]);
}

#[test]
fn the_parts_of_a_resume_are_frames_and_its_end_repeats_the_ref() {
    let mut bench = Bench::new(opening());
    bench.says(r#"{"type":"resume","ref":"r"}"#);
    let conversations = vec![Changed { conversation: dm(1, 2), last_seq: Seq(5), unread: 2 }];
    let parts = [
        (Part::Gap { conversation: dm(1, 2), from: Seq(1), to: Seq(4) }, "gap 1 4"),
        (Part::Event(event(5)), "message 5"),
        (Part::Rejected(rejection(6)), "rejected client_id_reused"),
        (Part::Receipt(receipt()), "receipt"),
        (Part::Resumed { frontier: up_to(6), conversations }, "resumed (ref r)"),
    ];
    for (part, told) in parts {
        let actions = bench.actions(Input::Part(part));
        assert!(matches!(actions[..], [Action::WriteAtPace(_)]), "{actions:?}");
        assert_eq!(words(&actions[0]), told);
    }
}

#[test]
fn no_event_is_taken_from_the_mailbox_before_the_first_resume_has_ended() {
    let mut bench = Bench::new(opening());
    assert!(!bench.state.is_live());
    let signal = || Item::Signal(frame::receipt(&receipt()));
    assert_eq!(bench.mail([signal()]), ["receipt"], "receipts do not wait");
    bench.says(r#"{"type":"resume"}"#);
    assert!(!bench.state.is_live());
    assert_eq!(bench.mail([signal()]), ["receipt"]);
    bench.step(Input::ResumeEnded(up_to(3)));
    assert!(bench.state.is_live());
}

#[test]
fn what_a_resume_gave_does_not_come_again_and_what_came_live_comes_once() {
    let mut bench = Bench::live(opening(), 5);
    assert_eq!(bench.mail([item(5), item(6)]), ["message 6"]);
    assert_eq!(bench.mail([item(6), item(7)]), ["message 7"]);
    let rejected =
        |offset| Item::Rejected { position: at(offset), frame: frame::rejected(&rejection(offset)) };
    assert_eq!(bench.mail([rejected(7), rejected(8)]), ["rejected client_id_reused"]);
    assert_eq!(bench.mail([rejected(8), item(9)]), ["message 9"]);
}

#[test]
fn what_this_node_has_heard_counts_as_given_once_the_mailbox_is_empty() {
    let mut bench = Bench::live(opening(), 0);
    let mut hear = |emptied, heard| {
        let contents = Contents { emptied, ..Contents::default() };
        bench.step(Input::Mail { contents, heard: up_to(heard) });
        bench.mail([item(heard)])
    };
    assert_eq!(hear(true, 9), [""; 0], "it was in the mailbox before, for others");
    assert_eq!(hear(false, 12), ["message 12"], "it may still be in there");
}

#[test]
fn events_of_a_later_log_are_given() {
    let mut bench = Bench::live(opening(), 5);
    let position = Position { log: LogNumber(2), partition: 0, offset: 0 };
    assert_eq!(bench.mail([item_of(&event_of(dm(1, 2), 6, position))]), ["message 6"]);
}

#[test]
fn what_overflows_while_a_socket_catches_up_is_read_from_storage() {
    let mut bench = Bench::live(opening(), 3);
    assert_eq!(bench.overflows(), ["resume after [3]"]);
    assert!(!bench.state.is_live());
    assert_eq!(bench.step(Input::Part(Part::Event(event(4)))), ["message 4"]);
    assert_eq!(bench.step(Input::ResumeEnded(up_to(4))), [""; 0], "without another `resumed`");
    assert_eq!(bench.mail([item(4), item(5)]), ["message 5"]);
    assert_eq!(bench.overflows(), ["close 4430"], "it had caught up");
}

#[test]
fn who_has_caught_up_once_is_too_slow_when_the_mailbox_overflows_until_the_next_resume() {
    let mut bench = Bench::live(opening(), 3);
    let contents = Contents { items: [item(4)].into(), emptied: false, ..Contents::default() };
    assert_eq!(bench.step(Input::Mail { contents, heard: up_to(9) }), ["message 4"]);
    assert_eq!(bench.overflows(), ["resume after [4]"], "more was waiting: it had not caught up");
    bench.step(Input::ResumeEnded(up_to(4)));
    bench.mail([]);
    bench.says(r#"{"type":"resume"}"#);
    bench.step(Input::ResumeEnded(up_to(4)));
    assert_eq!(bench.overflows(), ["resume after [4]"], "a resume begins anew");
    bench.step(Input::ResumeEnded(up_to(4)));
    bench.mail([]);
    assert_eq!(bench.overflows(), ["close 4430"]);
}

#[test]
fn a_second_resume_waits_for_the_first_and_a_third_takes_its_place() {
    let mut bench = Bench::new(opening());
    assert_eq!(bench.says(r#"{"type":"resume","ref":"1"}"#), ["resume from what was confirmed"]);
    assert_eq!(bench.says(r#"{"type":"resume","ref":"2","cursor":"b"}"#), [""; 0]);
    assert_eq!(bench.says(r#"{"type":"resume","ref":"3","cursor":"c"}"#), ["error conflict (ref 2)"]);
    let resumed = || Part::Resumed { frontier: up_to(1), conversations: Vec::new() };
    assert_eq!(bench.step(Input::Part(resumed())), ["resumed (ref 1)"]);
    assert_eq!(bench.step(Input::ResumeEnded(up_to(1))), ["resume from c"]);
    assert_eq!(bench.step(Input::Part(resumed())), ["resumed (ref 3)"]);
    assert_eq!(bench.step(Input::ResumeEnded(up_to(1))), [""; 0]);
    assert!(bench.state.is_live());
}

#[test]
fn a_resume_that_fails_is_told_with_its_ref_and_ends_with_it_all_the_same() {
    let mut bench = Bench::new(opening());
    bench.says(r#"{"type":"resume","ref":"r"}"#);
    let away = || Input::ResumeFailed(Error::unavailable("away"));
    assert_eq!(bench.step(away()), ["error unavailable (ref r)"]);
    assert!(!bench.state.is_live());
    let resumed = Part::Resumed { frontier: up_to(1), conversations: Vec::new() };
    assert_eq!(bench.step(Input::Part(resumed)), ["resumed (ref r)"]);
}

#[test]
fn a_resume_in_the_middle_repeats_and_live_events_go_on_after_it() {
    let mut bench = Bench::live(opening(), 0);
    bench.mail([item(1), item(2), item(3)]);
    bench.says(r#"{"type":"resume","cursor":"old"}"#);
    assert_eq!(bench.step(Input::Part(Part::Event(event(1)))), ["message 1"]);
    bench.step(Input::ResumeEnded(up_to(2)));
    assert_eq!(bench.mail([item(3), item(4)]), ["message 4"], "3 was given before");
}

#[test]
fn a_resume_without_a_cursor_on_a_live_socket_ends_where_that_socket_is() {
    // Beyond it, other devices may have confirmed what this one still has to be given.
    let mut bench = Bench::live(opening(), 3);
    bench.mail([item(4)]);
    assert_eq!(bench.says(r#"{"type":"resume"}"#), ["resume again, given [4]"]);
    bench.step(Input::ResumeEnded(up_to(4)));
    assert_eq!(bench.mail([item(5)]), ["message 5"]);
}
