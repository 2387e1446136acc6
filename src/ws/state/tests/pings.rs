//! Pings: the heartbeat, and the question what has arrived.

use super::*;

/// After this time a ping for confirmation goes out, whatever else does.
const ASKED: Duration = Duration::from_millis(1_250);

impl Bench {
    /// The payload of the one ping that is due now.
    fn pinged(&mut self) -> [u8; 8] {
        self.pinged_by(Input::Tick)
    }

    fn fenced(&mut self) -> [u8; 8] {
        self.pinged_by(Input::Fence)
    }

    fn pinged_by(&mut self, input: Input<'_>) -> [u8; 8] {
        let actions = self.actions(input);
        let payload = actions.iter().find_map(|action| match action {
            Action::Ping(payload) => Some(*payload),
            _ => None,
        });
        payload.unwrap_or_else(|| panic!("no ping but {actions:?}"))
    }

    fn pongs(&mut self, payload: [u8; 8]) -> Vec<String> {
        let mut confirmed = self.step(Input::Pong(&payload));
        confirmed.sort();
        confirmed
    }
}

#[test]
fn a_pong_confirms_what_was_written_before_its_ping_and_nothing_else() {
    let mut bench = Bench::live(opening(), 0);
    bench.mail([item(1), item(2), item_of(&event_of(dm(2, 3), 7, at(3)))]);
    bench.now += ASKED;
    let payload = bench.pinged();
    bench.mail([item(4)]);
    assert_eq!(bench.pongs(*b"another!"), [""; 0], "a foreign pong");
    assert_eq!(bench.step(Input::Pong(b"")), [""; 0]);
    assert_eq!(bench.pongs(payload), ["delivered dm-1-2 1-2", "delivered dm-2-3 7-7"]);
    assert_eq!(bench.pongs(payload), [""; 0], "once");
}

#[test]
fn confirmations_are_asked_for_once_a_second_and_one_at_a_time() {
    let mut bench = Bench::live(opening(), 0);
    let start = bench.now;
    bench.mail([item(1)]);
    assert_eq!(bench.state.deadline(), start + ASKED);
    assert_eq!(bench.after(ASKED - MS), [""; 0]);
    assert_eq!(bench.after(MS), ["ping"]);
    bench.mail([item(2)]);
    assert_eq!(bench.after(5 * SECOND), ["cursor"], "no second ping before the first is answered");
}

#[test]
fn a_ping_goes_out_with_what_is_written_after_a_second_and_not_with_what_is_read() {
    let mut bench = Bench::live(opening(), 0);
    bench.mail([item(1)]);
    bench.now += SECOND - MS;
    assert_eq!(bench.mail([item(2)]), ["message 2"], "too early");
    bench.now += MS;
    assert_eq!(bench.step(Input::Pong(b"")), [""; 0], "nothing to go with");
    assert_eq!(bench.mail([item(3)]), ["message 3", "ping"]);
    assert_eq!(bench.mail([item(4)]), ["message 4"], "one at a time");
}

#[test]
fn each_ping_has_a_payload_that_cannot_be_guessed() {
    let mut payloads = std::collections::HashSet::new();
    for seq in 1..=20 {
        let mut bench = Bench::live(opening(), 0);
        bench.mail([item(seq)]);
        bench.now += ASKED;
        assert!(payloads.insert(bench.pinged()));
    }
}

#[test]
fn a_late_pong_lets_the_next_ping_ask_for_what_came_meanwhile() {
    let mut bench = Bench::live(opening(), 0);
    bench.mail([item(1)]);
    bench.now += ASKED;
    let first = bench.pinged();
    bench.mail([item(2), item(3)]);
    bench.now += 3 * SECOND;
    let mut answered = bench.pongs(first);
    assert_eq!(answered.pop().as_deref(), Some("ping"), "a second has passed");
    assert_eq!(answered, ["delivered dm-1-2 1-1"]);
}

#[test]
fn a_gap_is_confirmed_by_the_pong_behind_it() {
    let mut bench = Bench::new(opening());
    bench.says(r#"{"type":"resume"}"#);
    bench.step(Input::Part(Part::Gap { conversation: dm(1, 2), from: Seq(1), to: Seq(4) }));
    bench.step(Input::Part(Part::Event(event(5))));
    bench.step(Input::ResumeEnded(up_to(5)));
    bench.now += ASKED;
    let payload = bench.pinged();
    assert_eq!(bench.pongs(payload), ["delivered dm-1-2 1-5"]);
}

#[test]
fn with_acks_by_the_app_pongs_confirm_nothing_and_heartbeats_go_on() {
    let mut bench = Bench::live(Opening { pong_confirms: false, ..opening() }, 0);
    let start = bench.now;
    bench.mail([item(1)]);
    assert_eq!(bench.after(5 * SECOND), ["cursor"], "no ping after a second");
    bench.now = start + HEARTBEAT;
    let payload = bench.pinged();
    assert_eq!(bench.pongs(payload), [""; 0]);
}

#[test]
fn what_was_not_written_in_one_stretch_is_not_confirmed_as_one() {
    // Live 10 to 12, then a resume goes back to 1, and a ping goes out before it has got to 9.
    let mut bench = Bench::live(opening(), 0);
    bench.mail([item(10), item(11), item(12)]);
    bench.says(r#"{"type":"resume","cursor":"damaged"}"#);
    bench.step(Input::Part(Part::Event(event(1))));
    bench.step(Input::Part(Part::Event(event(2))));
    bench.now += ASKED;
    let payload = bench.pinged();
    assert_eq!(bench.pongs(payload), ["delivered dm-1-2 1-2"]);
    // The same forwards: what lies between was never written here.
    bench.step(Input::Part(Part::Event(event(3))));
    bench.step(Input::Part(Part::Event(event(7))));
    bench.now += ASKED;
    let payload = bench.pinged();
    assert_eq!(bench.pongs(payload), ["delivered dm-1-2 7-7"]);
}

#[test]
fn a_quiet_socket_is_pinged_at_each_heartbeat() {
    let mut bench = Bench::live(opening(), 0);
    for _ in 0..3 {
        assert_eq!(bench.state.deadline(), bench.now + HEARTBEAT);
        assert_eq!(bench.after(HEARTBEAT - MS), [""; 0]);
        bench.now += MS;
        let payload = bench.pinged();
        assert_eq!(bench.pongs(payload), [""; 0]);
    }
}

#[test]
fn no_pong_within_two_heartbeats_is_the_end() {
    let mut bench = Bench::live(opening(), 0);
    bench.now += HEARTBEAT;
    bench.pinged();
    assert_eq!(bench.says(r#"{"type":"ping"}"#), ["pong"], "what else is said is no pong");
    assert_eq!(bench.after(2 * HEARTBEAT - MS), [""; 0]);
    assert_eq!(bench.after(MS), ["close 4408"]);
}

#[test]
fn a_foreign_pong_keeps_no_socket() {
    let mut bench = Bench::live(opening(), 0);
    bench.now += HEARTBEAT;
    bench.pinged();
    assert_eq!(bench.pongs(*b"another!"), [""; 0]);
    assert_eq!(bench.after(2 * HEARTBEAT), ["close 4408"]);
}

#[test]
fn a_fence_is_lifted_by_its_own_pong_alone_and_once() {
    let mut bench = Bench::live(opening(), 0);
    bench.mail([item(1)]);
    bench.now += ASKED;
    let ping = bench.pinged();
    let fence = bench.fenced();
    assert_ne!(ping, fence);
    assert_eq!(bench.step(Input::Fence), [""; 0], "one at a time");
    assert_eq!(bench.pongs(*b"another!"), [""; 0]);
    assert_eq!(bench.pongs(ping), ["delivered dm-1-2 1-1"]);
    assert_eq!(bench.pongs(fence), ["lift the fence"]);
    assert_eq!(bench.pongs(fence), [""; 0]);
    assert_ne!(bench.fenced(), fence, "the next is another one");
}

#[test]
fn a_client_that_answers_only_the_last_of_two_pings_has_answered_both() {
    let mut bench = Bench::live(opening(), 0);
    bench.mail([item(1)]);
    bench.now += ASKED;
    bench.pinged();
    bench.mail([item(2)]);
    let fence = bench.fenced();
    bench.mail([item(3)]);
    assert_eq!(bench.pongs(fence), ["delivered dm-1-2 1-1", "delivered dm-1-2 2-2", "lift the fence"]);
    assert_eq!(bench.after(ASKED), ["ping"], "for the third; nothing is missed");
}

#[test]
fn no_ping_goes_out_beside_a_fence_and_one_without_an_answer_is_the_end() {
    let mut bench = Bench::live(opening(), 0);
    bench.fenced();
    bench.mail([item(1)]);
    assert_eq!(bench.after(HEARTBEAT), ["cursor"]);
    assert_eq!(bench.after(HEARTBEAT - MS), [""; 0]);
    assert_eq!(bench.after(MS), ["close 4408"]);
    let mut bench = Bench::live(opening(), 0);
    bench.now += HEARTBEAT;
    let ping = bench.pinged();
    bench.now += HEARTBEAT;
    bench.fenced();
    assert_eq!(bench.pongs(ping), [""; 0]);
    assert_eq!(bench.after(2 * HEARTBEAT - MS), [""; 0]);
    assert_eq!(bench.after(MS), ["close 4408"], "whatever other ping was answered");
}

#[test]
fn with_acks_by_the_app_a_fence_confirms_nothing() {
    let mut bench = Bench::live(Opening { pong_confirms: false, ..opening() }, 0);
    bench.mail([item(1)]);
    let fence = bench.fenced();
    assert_eq!(bench.pongs(fence), ["lift the fence"]);
}
