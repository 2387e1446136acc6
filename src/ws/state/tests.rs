//! The machine in tables: what happened and when, and what is to be done.

mod pings; // heartbeats, and what their pongs confirm
mod resume; // catching up, and what comes live

use serde_json::Value;

use super::*;
use crate::domain::{
    ClientId, Content, Event, LogNumber, MessageBody, MessageId, Offset, Position, RecordBody, Rejection,
};
use crate::storage::Receipt;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HEARTBEAT: Duration = Duration::from_secs(25);

fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

fn dm(low: i64, high: i64) -> ConversationId {
    ConversationId::dm(user(low), user(high)).unwrap()
}

fn at(offset: Offset) -> Position {
    Position { log: LogNumber(1), partition: 0, offset }
}

fn up_to(offset: Offset) -> Frontier {
    Frontier { log: LogNumber(1), offsets: vec![offset].into() }
}

fn opening() -> Opening {
    Opening {
        scope: CursorScope { incarnation: uuid::Uuid::from_u128(7), user: user(2) },
        pong_confirms: true,
        heartbeat: HEARTBEAT,
        expires_at: None,
        bad_json_per_minute: 20,
    }
}

fn event_of(conversation: ConversationId, seq: i64, position: Position) -> Event {
    let ConversationId::Dm(from, _) = conversation else { panic!("a dm") };
    let client_id = ClientId::new(seq.to_string()).unwrap();
    let content = Content::new("x").unwrap();
    Event {
        conversation,
        seq: Seq(seq),
        position,
        id: MessageId::derive(conversation, from, &client_id),
        client_id,
        from,
        at: Timestamp(0),
        body: RecordBody::Message(MessageBody { content, data: None, reply_to: None }).into(),
    }
}

/// A message of dm-1-2 whose offset is its seq.
fn event(seq: i64) -> Event {
    event_of(dm(1, 2), seq, at(seq))
}

fn item_of(event: &Event) -> Item {
    let Event { position, conversation, seq, .. } = *event;
    Item::Event { position, conversation, seq, frame: frame::event(event, user(2)) }
}

fn item(seq: i64) -> Item {
    item_of(&event(seq))
}

fn rejection(offset: Offset) -> Rejection {
    let client_id = ClientId::new("mine").unwrap();
    Rejection {
        conversation: dm(1, 2),
        position: at(offset),
        id: MessageId::derive(dm(1, 2), user(2), &client_id),
        client_id,
        from: user(2),
        code: ErrorCode::ClientIdReused,
        digest: None,
    }
}

fn receipt() -> Receipt {
    Receipt { conversation: dm(1, 2), user: user(1), delivered: Seq(4), read: Seq(3) }
}

/// A session and its clock.
struct Bench {
    state: State,
    now: Instant,
}

impl Bench {
    fn new(opening: Opening) -> Self {
        let now = Instant::now();
        Self { state: State::new(opening, now), now }
    }

    /// One whose first resume has ended, and gave everything up to this offset.
    fn live(opening: Opening, until: Offset) -> Self {
        let mut bench = Self::new(opening);
        assert_eq!(bench.says(r#"{"type":"resume"}"#), ["resume from what was confirmed"]);
        let resumed = Part::Resumed { frontier: up_to(until), conversations: Vec::new() };
        assert_eq!(bench.step(Input::Part(resumed)), ["resumed"]);
        assert_eq!(bench.step(Input::ResumeEnded(up_to(until))), [""; 0]);
        bench
    }

    fn actions(&mut self, input: Input<'_>) -> Vec<Action> {
        let mut actions = Vec::new();
        self.state.step(input, self.now, &mut actions);
        actions
    }

    /// What is to be done, in words.
    fn step(&mut self, input: Input<'_>) -> Vec<String> {
        self.actions(input).iter().map(words).collect()
    }

    fn says(&mut self, text: &str) -> Vec<String> {
        self.step(Input::Text(text))
    }

    fn after(&mut self, time: Duration) -> Vec<String> {
        self.now += time;
        self.step(Input::Tick)
    }

    /// Items come; the mailbox is empty then, and nothing was heard beyond them.
    fn mail(&mut self, items: impl IntoIterator<Item = Item>) -> Vec<String> {
        let contents = Contents { items: items.into_iter().collect(), emptied: true, ..Contents::default() };
        self.step(Input::Mail { contents, heard: up_to(-1) })
    }

    fn overflows(&mut self) -> Vec<String> {
        let contents = Contents { overflowed: true, emptied: true, ..Contents::default() };
        self.step(Input::Mail { contents, heard: up_to(-1) })
    }
}

fn words(action: &Action) -> String {
    match action {
        Action::Write(text) | Action::WriteAtPace(text) => frame_in_words(text),
        Action::Ping(_) => "ping".into(),
        Action::Send(..) => "send".into(),
        Action::LiftFence => "lift the fence".into(),
        Action::Typing(_, target, is_active) => format!("typing {target:?} {is_active}"),
        Action::Watch(_, users) => format!("watch {users:?}"),
        Action::Received(_, conversation, seq, known) => format!("received {conversation} {seq} of {known}"),
        Action::Read(_, conversation, seq, known) => format!("read {conversation} {seq} of {known}"),
        Action::Delivered(conversation, from, to) => format!("delivered {conversation} {from}-{to}"),
        Action::Resume(From::Confirmed) => "resume from what was confirmed".into(),
        Action::Resume(From::Cursor(cursor)) => format!("resume from {cursor}"),
        Action::Resume(From::Again(frontier)) => format!("resume again, given {:?}", frontier.offsets),
        Action::Resume(From::Given(frontier)) => format!("resume after {:?}", frontier.offsets),
        Action::Renew(_, token) => format!("renew {}", token.expose()),
        Action::Close(close) => format!("close {}", close.code),
    }
}

/// The type, and what tells one of a type from another.
fn frame_in_words(text: &Bytes) -> String {
    let frame: Value = serde_json::from_slice(text).unwrap();
    let kind = frame["type"].as_str().unwrap();
    let detail = ["code", "field", "seq", "from", "to", "ref"].map(|name| match (kind, name, &frame[name]) {
        ("message", "from" | "to", _) | (_, _, Value::Null) => String::new(),
        (_, "ref", Value::String(mark)) => format!(" (ref {mark})"),
        (_, _, Value::String(text)) => format!(" {text}"),
        (_, _, value) => format!(" {value}"),
    });
    format!("{kind}{}", detail.concat())
}

#[test]
fn each_frame_of_a_client_is_done_or_answered_with_its_ref() {
    let table = [
        (r#"{"type":"send","to":1,"content":"x"}"#, "send"),
        (r#"{"type":"received","conversation":"dm-1-2","seq":3}"#, "received dm-1-2 3 of 0"),
        (r#"{"type":"read","conversation":"dm-1-2","seq":3}"#, "read dm-1-2 3 of 0"),
        (r#"{"type":"auth","token":"t","ref":"a"}"#, "renew t"),
        (r#"{"type":"ping","ref":"p"}"#, "pong (ref p)"),
        (r#"{"type":"send","to":1,"ref":"s"}"#, "error invalid content (ref s)"),
        (r#"{"type":"dance","ref":"d"}"#, "error unknown_type (ref d)"),
        ("{", "error bad_json"),
        (r#"{"type":"resume","cursor":"c"}"#, "resume from c"),
    ];
    let mut bench = Bench::new(opening());
    for (said, done) in table {
        assert_eq!(bench.says(said), [done], "{said}");
    }
}

#[test]
fn what_is_confirmed_is_compared_with_what_this_socket_was_given() {
    let mut bench = Bench::live(opening(), 0);
    bench.mail([item(1), item(2), item_of(&event_of(dm(2, 3), 7, at(3)))]);
    let received = r#"{"type":"received","conversation":"dm-1-2","seq":2}"#;
    assert_eq!(bench.says(received), ["received dm-1-2 2 of 2"]);
    let read = r#"{"type":"read","conversation":"dm-2-3","seq":8}"#;
    assert_eq!(bench.says(read), ["read dm-2-3 8 of 7"], "storage is asked");
    let mut other = opening();
    other.pong_confirms = false;
    let mut bench = Bench::live(other, 0);
    bench.mail([item(1)]);
    assert_eq!(bench.says(received), ["received dm-1-2 2 of 1"], "with acks=app too");
}

#[test]
fn what_is_remembered_of_conversations_is_bounded() {
    let mut bench = Bench::live(opening(), 0);
    for n in 3..203 {
        bench.mail([item_of(&event_of(dm(2, n), 1, at(n)))]);
    }
    let last = r#"{"type":"received","conversation":"dm-2-202","seq":1}"#;
    assert_eq!(bench.says(last), ["received dm-2-202 1 of 1"]);
    let first = r#"{"type":"received","conversation":"dm-2-3","seq":1}"#;
    assert_eq!(bench.says(first), ["received dm-2-3 1 of 0"], "forgotten: storage is asked");
}

#[test]
fn a_cursor_comes_at_most_every_five_seconds_and_only_when_events_came() {
    let mut bench = Bench::live(Opening { pong_confirms: false, ..opening() }, 0);
    assert_eq!(bench.after(6 * SECOND), [""; 0], "nothing came since `resumed`");
    assert_eq!(bench.mail([item(1)]), ["message 1", "cursor"], "five seconds are over");
    let start = bench.now;
    assert_eq!(bench.mail([item(2)]), ["message 2"]);
    bench.after(SECOND);
    assert_eq!(bench.after(4 * SECOND - MS), [""; 0]);
    assert_eq!(bench.state.deadline(), start + 5 * SECOND);
    assert_eq!(bench.after(MS), ["cursor"]);
    assert_eq!(bench.after(6 * SECOND), [""; 0]);
    assert_eq!(bench.mail([Item::Signal(frame::receipt(&receipt()))]), ["receipt"], "a receipt moves none");
}

#[test]
fn a_cursor_stands_for_everything_written() {
    let mut bench = Bench::live(opening(), 4);
    bench.mail([item(5), item(6)]);
    bench.now += 5 * SECOND;
    let actions = bench.actions(Input::Tick);
    let text = actions.iter().find_map(|action| match action {
        Action::Write(text) => Some(text),
        _ => None,
    });
    let frame: Value = serde_json::from_slice(text.unwrap()).unwrap();
    let frontier = opening().scope.decode(frame["cursor"].as_str().unwrap());
    assert_eq!(frontier, Some(up_to(6)));
}

#[test]
fn a_pong_has_a_cursor_after_the_first_resume_only() {
    let has_cursor = |bench: &mut Bench| {
        let actions = bench.actions(Input::Text(r#"{"type":"ping"}"#));
        let [Action::Write(text)] = &actions[..] else { panic!("{actions:?}") };
        let frame: Value = serde_json::from_slice(text).unwrap();
        assert!(frame["server_time"].is_string());
        frame["cursor"].as_str().map(|cursor| opening().scope.decode(cursor).unwrap())
    };
    let mut bench = Bench::new(opening());
    assert_eq!(has_cursor(&mut bench), None);
    bench.says(r#"{"type":"resume"}"#);
    assert_eq!(has_cursor(&mut bench), None, "it has not ended");
    bench.step(Input::ResumeEnded(up_to(3)));
    assert_eq!(has_cursor(&mut bench), Some(up_to(3)));
}

#[test]
fn twenty_frames_in_a_minute_may_be_no_json_and_one_more_may_not() {
    let mut bench = Bench::new(opening());
    for _ in 0..20 {
        assert_eq!(bench.says("{"), ["error bad_json"]);
    }
    assert_eq!(bench.says(r#"{"type":"ping"}"#), ["pong"], "good ones do not count");
    assert_eq!(bench.says(r#"{"type":"send"}"#), ["error invalid to"], "nor do wrong ones");
    assert_eq!(bench.says("nonsense"), ["error bad_json", "close 4400"]);
}

#[test]
fn the_minute_of_bad_frames_goes_with_the_clock() {
    let mut bench = Bench::live(opening(), 0);
    for wait in [50, 19] {
        bench.now += wait * SECOND;
        for _ in 0..10 {
            assert_eq!(bench.says("{").first().map(String::as_str), Some("error bad_json"));
        }
    }
    assert_eq!(bench.says("{"), ["error bad_json", "close 4400"], "21 within 19 seconds");
    let mut bench = Bench::live(opening(), 0);
    for _ in 0..4 {
        for _ in 0..20 {
            assert!(!bench.says("{").contains(&"close 4400".to_owned()));
        }
        bench.now += 60 * SECOND;
    }
}

#[test]
fn a_socket_ends_with_its_token() {
    let ends = |at| Bench::new(Opening { expires_at: Some(at), ..opening() });
    let now = Timestamp::now();
    assert_eq!(ends(now.plus(60 * SECOND)).after(MS), [""; 0]);
    assert_eq!(ends(now).after(MS), [""; 0], "a token is taken a little beyond its end");
    assert_eq!(ends(now.minus(LEEWAY)).after(MS), ["close 4401"]);
    let mut bench = ends(now.plus(60 * SECOND));
    assert_eq!(bench.state.ends_at(), Some(now.plus(60 * SECOND + LEEWAY)));
    let renewed = now.plus(120 * SECOND);
    let later = Some(renewed.plus(LEEWAY));
    assert_eq!(bench.step(Input::Renewed(Some("r".into()), Ok(Some(renewed)))), ["authenticated (ref r)"]);
    assert_eq!(bench.state.ends_at(), later, "a renewal counts");
    let refused = Error::new(ErrorCode::Unauthorized, "no");
    assert_eq!(bench.step(Input::Renewed(None, Err(refused))), ["error unauthorized"]);
    assert_eq!(bench.state.ends_at(), later, "a refused one does not");
    assert_eq!(bench.step(Input::Renewed(None, Ok(None))), ["authenticated"]);
    assert_eq!(bench.state.ends_at(), None);
}

#[test]
fn who_was_replaced_is_told_so_and_gets_nothing_more() {
    let evicted = Some(crate::delivery::mailbox::Eviction::Replaced);
    for mut bench in [Bench::new(opening()), Bench::live(opening(), 0)] {
        let contents = Contents { items: [item(1)].into(), evicted, ..Contents::default() };
        assert_eq!(bench.step(Input::Mail { contents, heard: up_to(1) }), ["close 4409"]);
    }
}
