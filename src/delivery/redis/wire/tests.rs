//! What one side writes the other reads, and what neither could have written does no harm.

use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;
use crate::domain::{
    ClientId, Content, ConversationId, Data, ErrorCode, Event, EventBody, Message, MessageId, Position,
    Rejection, Timestamp,
};

fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

fn event(offset: Offset, content: &str, data: Option<&str>, reply_to: Option<MessageId>) -> Outcome {
    let conversation = ConversationId::dm(user(7), user(UserId::MAX)).unwrap();
    let client_id = ClientId::new(format!("c-{offset}")).unwrap();
    Outcome::Stored(Event {
        conversation,
        seq: Seq(offset + 1),
        position: Position { log: LogNumber(3), partition: 5, offset },
        id: MessageId::derive(conversation, user(7), &client_id),
        client_id,
        from: user(7),
        at: Timestamp(1_700_000_000_123),
        body: EventBody::Message(Message {
            content: Some(Content::new(content).unwrap()),
            data: data.map(|data| Data::new(RawValue::from_string(data.to_owned()).unwrap()).unwrap()),
            reply_to,
            edited_at: None,
            deleted_at: None,
        }),
    })
}

/// The same place with something else in it.
fn instead(outcome: Outcome, body: EventBody) -> Outcome {
    let Outcome::Stored(event) = outcome else { panic!("{outcome:?}") };
    Outcome::Stored(Event { body, ..event })
}

fn rejection(offset: Offset, code: ErrorCode) -> Outcome {
    let conversation = ConversationId::Group(uuid::Uuid::from_u128(9));
    let client_id = ClientId::new("c").unwrap();
    let id = MessageId::derive(conversation, user(2), &client_id);
    let position = Position { log: LogNumber(3), partition: 5, offset };
    Outcome::Rejected(Rejection { conversation, position, id, client_id, from: user(2), code, digest: None })
}

fn publication(prev: Offset, through: Offset, outcomes: Vec<Outcome>) -> Publication {
    Publication { log: LogNumber(3), partition: 5, prev, through, outcomes: outcomes.into() }
}

/// A publication without its type, so that it can be compared.
type Plain = (Partition, Offset, Offset, Vec<Outcome>);

fn plain(publication: &Publication) -> Plain {
    (publication.partition, publication.prev, publication.through, publication.outcomes.to_vec())
}

fn read_all(messages: &[Bytes]) -> (Vec<Option<Generation>>, Vec<Plain>) {
    let (mut generations, mut read_back) = (Vec::new(), Vec::new());
    for message in messages {
        let Ok(Told::Publications { generation, publications }) = read(message) else { panic!("unreadable") };
        generations.push(generation);
        read_back.extend(publications.iter().map(plain));
    }
    (generations, read_back)
}

#[test]
fn publications_are_read_as_they_were_written() {
    let generation = Generation::new(0x0102_0304_0506_0708).unwrap();
    let reply_to = Some(MessageId(uuid::Uuid::from_u128(77)));
    let written = [
        publication(
            -1,
            4,
            vec![event(0, "Grüße 😀", Some(r#"{"a":1.50}"#), reply_to), rejection(2, ErrorCode::Conflict)],
        ),
        publication(9, 9, vec![]),
        publication(Offset::MAX - 3, Offset::MAX - 1, vec![event(Offset::MAX - 2, "x", None, None)]),
    ];
    let messages = Written::new(&written).messages(Some(generation), |_| true);
    let (generations, read_back) = read_all(&messages);
    assert_eq!(generations, [Some(generation)]);
    assert_eq!(read_back, written.iter().map(plain).collect::<Vec<_>>());
}

#[test]
fn edits_and_deletions_are_read_as_they_were_written() {
    let target = MessageId(uuid::Uuid::from_u128(77));
    let edited = |content: Option<&str>| EventBody::Edited {
        target,
        content: content.map(|text| Content::new(text).unwrap()),
    };
    let message =
        Message { content: None, data: None, reply_to: Some(target), edited_at: None, deleted_at: None };
    let bodies =
        [edited(Some("Grüße")), edited(None), EventBody::Deleted { target }, EventBody::Message(message)];
    let outcomes = (1..).zip(bodies).map(|(offset, body)| instead(event(offset, "x", None, None), body));
    let written = [publication(0, 9, outcomes.collect())];
    let messages = Written::new(&written).messages(None, |_| true);
    assert_eq!(read_all(&messages).1, written.iter().map(plain).collect::<Vec<_>>());
    for end in BEGINNING + 1..messages[0].len() {
        assert!(read(&messages[0][..end]).is_err(), "{end}");
    }
}

#[test]
fn every_code_that_a_rejection_can_have_is_read_back() {
    for code in [ErrorCode::ClientIdReused, ErrorCode::NotFound, ErrorCode::Forbidden, ErrorCode::Conflict] {
        let written = [publication(0, 1, vec![rejection(1, code)])];
        let (_, read_back) = read_all(&Written::new(&written).messages(None, |_| true));
        assert_eq!(read_back, written.iter().map(plain).collect::<Vec<_>>());
    }
}

#[test]
fn a_node_is_told_how_far_everything_is_and_of_the_outcomes_only_its_own() {
    let written = [
        publication(0, 3, vec![event(1, "a", None, None), event(2, "b", None, None)]),
        publication(3, 5, vec![event(4, "c", None, None)]),
    ];
    let (_, read_back) = read_all(&Written::new(&written).messages(None, |number| number == 1));
    let told =
        vec![plain(&publication(0, 3, vec![event(2, "b", None, None)])), plain(&publication(3, 5, vec![]))];
    assert_eq!(read_back, told);
}

#[test]
fn what_is_large_is_cut_into_messages_that_go_on_from_each_other() {
    let long = "x".repeat(60_000);
    let outcomes: Vec<_> = (1..=40).map(|offset| event(offset * 2, &long, None, None)).collect();
    let messages = Written::new(&[publication(0, 99, outcomes)]).messages(None, |number| number % 3 != 0);
    assert!(messages.len() > 4 && messages.iter().all(|message| message.len() < MESSAGE_BYTES + 70_000));
    let (_, parts) = read_all(&messages);
    let mut at = 0;
    let mut offsets = Vec::new();
    for (_, prev, through, outcomes) in parts {
        assert_eq!(prev, at, "no hole");
        assert!(outcomes.iter().all(|one| prev < one.position().offset && one.position().offset <= through));
        offsets.extend(outcomes.iter().map(|one| one.position().offset));
        at = through;
    }
    assert_eq!(at, 99);
    assert_eq!(offsets, (1..=40).filter(|n| (n - 1) % 3 != 0).map(|n| n * 2).collect::<Vec<_>>());
}

#[test]
fn receipts_are_read_as_they_were_written() {
    let conversation = ConversationId::dm(user(1), user(2)).unwrap();
    let receipt = |read: i64| Receipt { conversation, user: user(2), delivered: Seq(9), read: Seq(read) };
    let written = [receipt(0), receipt(4), receipt(9)];
    let messages = receipts(&written, |number| number != 1);
    let Ok(Told::Receipts(read_back)) = read(&messages[0]) else { panic!("unreadable") };
    assert_eq!((messages.len(), read_back), (1, vec![receipt(0), receipt(9)]));
    assert!(receipts(&written, |_| false).is_empty());
}

#[test]
fn typing_is_read_as_it_was_written() {
    let conversation = ConversationId::dm(user(1), user(2)).unwrap();
    let written = [true, false, true].map(|active| Typing { conversation, user: user(2), active });
    let messages = typing(&written, |number| number != 0);
    let Ok(Told::Typing(read_back)) = read(&messages[0]) else { panic!("unreadable") };
    assert_eq!((messages.len(), read_back), (1, written[1..].to_vec()));
    assert!(read(&messages[0][..messages[0].len() - 1]).is_err());
}

#[test]
fn hints_are_read_as_they_were_written() {
    let hints = [(1, true), (2, false)].map(|(id, is_about_views)| Hint { user: user(id), is_about_views });
    let messages = presence(&hints);
    let Ok(Told::Presence(read_back)) = read(&messages[0]) else { panic!("unreadable") };
    assert_eq!((messages.len(), read_back), (1, hints.to_vec()));
}

#[test]
fn another_version_and_damage_are_told_apart() {
    let message =
        Written::new(&[publication(0, 1, vec![event(1, "a", None, None)])]).messages(None, |_| true);
    let mut newer = message[0].to_vec();
    newer[0] = 2;
    assert_eq!(read(&newer).unwrap_err(), Unreadable::Version(2));
    for end in 0..message[0].len() {
        // Cut where the first publication begins it is a message that tells nothing.
        let is_empty = end == BEGINNING;
        assert_eq!(read(&message[0][..end]).is_ok(), is_empty, "{end}");
    }
}

proptest! {
    #[test]
    fn nothing_that_comes_makes_reading_fail_otherwise(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&bytes);
        let mut message = vec![VERSION, PUBLICATIONS, 0, 0, 0, 0, 0, 0, 0, 0];
        message.extend(&bytes);
        let _ = read(&message);
    }

    #[test]
    fn numbers_are_read_as_they_were_written(signed in any::<i64>(), unsigned in any::<u64>()) {
        let mut bytes = BytesMut::new();
        put_signed(&mut bytes, signed);
        put_unsigned(&mut bytes, unsigned);
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!((reader.signed(), reader.unsigned(), reader.len()), (Ok(signed), Ok(unsigned), 0));
    }
}
