//! What a comparison finds, on records made by hand.

use bytes::Bytes;

use super::*;
use crate::domain::history::Asked;
use crate::domain::{ClientId, Content, MessageBody, RecordBody, Timestamp, UserId};

fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

fn message(client_id: &str, content: &str) -> Record {
    let (from, conversation) = (user(1), ConversationId::dm(user(1), user(2)).unwrap());
    let client_id = ClientId::new(client_id).unwrap();
    let content = Content::new(content).unwrap();
    Record {
        id: MessageId::derive(conversation, from, &client_id),
        client_id,
        conversation,
        from,
        at: Timestamp(7),
        body: RecordBody::Message(MessageBody { content, data: None, reply_to: None }),
    }
}

fn event(record: &Record) -> Kept {
    let Record { conversation, id, from, body, .. } = record.clone();
    Kept::Event { conversation, id, from, asked: Some(Asked::Body(body)), erased: false }
}

fn log(values: &[Bytes]) -> Vec<LogRecord> {
    (0..).zip(values).map(|(offset, value)| LogRecord { offset, value: value.clone() }).collect()
}

fn compared(values: &[Bytes], kept: Vec<(Offset, Kept)>) -> Compared {
    compare((0, 1), &log(values), kept)
}

fn told(compared: &Compared) -> Vec<String> {
    compared.differences.iter().map(ToString::to_string).collect()
}

#[test]
fn every_fate_is_counted_once() {
    let [stored, erased, rejected, retried] = ["a", "b", "c", "d"].map(|id| message(id, "hello"));
    let values = [&stored, &erased, &rejected, &retried].map(record::encode);
    let values: Vec<Bytes> = values.into_iter().chain([Bytes::from_static(b"?")]).collect();
    let Kept::Event { conversation, id, from, .. } = event(&erased) else { unreachable!() };
    let kept = vec![
        (0, event(&stored)),
        (1, Kept::Event { conversation, id, from, asked: None, erased: true }),
        (2, Kept::Rejection(rejected.id)),
        (4, Kept::DeadLetter),
    ];
    let compared = compared(&values, kept);
    assert_eq!(told(&compared), [""; 0]);
    let counts = (compared.stored, compared.erased, compared.rejected, compared.dead_letters);
    assert_eq!(counts, (2, 1, 1, 1));
    assert_eq!(compared.elsewhere, [(3, retried)]);
}

#[test]
fn edits_and_deletions_make_no_difference() {
    let [edited, deleted] = ["a", "b"].map(|id| message(id, "hello"));
    let target = edited.id;
    let edit = Record {
        body: RecordBody::Edit { target, content: Content::new("x").unwrap() },
        ..message("e", "x")
    };
    let delete = Record { body: RecordBody::Delete { target: deleted.id }, ..message("d", "x") };
    let by_digest = |record: &Record, gone: bool| {
        let Record { conversation, id, from, body, .. } = record;
        let (conversation, id, from) = (*conversation, *id, *from);
        Kept::Event { conversation, id, from, asked: Some(Asked::Digest(body.digest())), erased: gone }
    };
    let values = [&edited, &deleted, &edit, &delete].map(record::encode);
    let kept = vec![
        (0, by_digest(&edited, false)),
        (1, by_digest(&deleted, true)),
        (2, by_digest(&edit, false)),
        (3, event(&delete)),
    ];
    let compared = compared(&values, kept);
    assert_eq!(told(&compared), [""; 0]);
    assert_eq!((compared.stored, compared.erased), (4, 1));
    let other = vec![(0, by_digest(&Record { body: message("a", "other").body, ..edited.clone() }, true))];
    let told = told(&super::compare((0, 1), &log(&values[..1]), other));
    assert!(told.len() == 1 && told[0].contains("another content"), "{told:?}");
}

#[test]
fn what_history_has_otherwise_is_told() {
    let record = message("a", "hello");
    let values = [record::encode(&record)];
    for (kept, word) in [
        (vec![(0, event(&message("a", "changed")))], "another content"),
        (vec![(0, event(&message("b", "hello")))], "another record"),
        (vec![(0, Kept::Rejection(message("b", "hello").id))], "a rejection of another"),
        (vec![(0, event(&record)), (0, Kept::DeadLetter)], "more than one fate"),
        (vec![(0, event(&record)), (1, event(&message("b", "x")))], "the log has nothing there"),
    ] {
        let told = told(&compared(&values, kept));
        assert!(told.len() == 1 && told[0].contains(word), "{word}: {told:?}");
        assert!(!told[0].contains("hello") && !told[0].contains("changed"), "no content: {told:?}");
    }
}

#[test]
fn what_is_no_record_must_be_a_dead_letter() {
    let newer = Bytes::from_static(br#"{"v":9,"kind":"message"}"#);
    for (value, kept, word) in [
        (Bytes::from_static(b"?"), vec![], "its dead letter is missing"),
        (newer, vec![], "a newer release"),
        (Bytes::from_static(b"?"), vec![(0, event(&message("a", "x")))], "the value is no record"),
    ] {
        let told = told(&compared(&[value], kept));
        assert!(told.len() == 1 && told[0].contains(word), "{word}: {told:?}");
    }
}
