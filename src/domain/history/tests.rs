//! Every fate that a record can have, in the order of the log.

use super::*;
use crate::domain::content::Content;
use crate::domain::record::MessageBody;
use crate::domain::{ClientId, EventBody, LogNumber};

const ANA: i64 = 2;
const BEN: i64 = 3;

fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

fn dm() -> ConversationId {
    ConversationId::dm(user(ANA), user(BEN)).unwrap()
}

fn id(from: i64, client_id: &str) -> MessageId {
    MessageId::derive(dm(), user(from), &ClientId::new(client_id).unwrap())
}

fn content(text: &str) -> Content {
    Content::new(text).unwrap()
}

fn record(from: i64, client_id: &str, at: i64, body: RecordBody) -> Record {
    let (conversation, from) = (dm(), user(from));
    let client_id = ClientId::new(client_id).unwrap();
    let id = MessageId::derive(conversation, from, &client_id);
    Record { id, client_id, conversation, from, at: Timestamp(at), body }
}

fn text(content: &str, reply_to: Option<MessageId>) -> RecordBody {
    RecordBody::Message(MessageBody { content: Content::new(content).unwrap(), data: None, reply_to })
}

/// A history that records are added to, one offset after the other.
#[derive(Default)]
struct Story {
    past: Past,
    rules: Rules,
    next: i64,
}

/// What became of a record, in short.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Seq(i64),
    Rejected(ErrorCode),
    Retry,
}

use Fate::{Rejected, Retry};

impl Story {
    fn outcome(&mut self, record: Record) -> Option<Outcome> {
        let position = Position { log: LogNumber(1), partition: 0, offset: self.next };
        self.next += 1;
        decide(&mut self.past, &self.rules, record, position)
    }

    fn fate(&mut self, record: Record) -> Fate {
        match self.outcome(record) {
            None => Retry,
            Some(Outcome::Stored(event)) => Fate::Seq(event.seq.0),
            Some(Outcome::Rejected(rejection)) => Rejected(rejection.code),
        }
    }

    fn says(&mut self, from: i64, client_id: &str, what: &str) -> Fate {
        self.fate(record(from, client_id, 1, text(what, None)))
    }

    fn answers(&mut self, from: i64, client_id: &str, to: MessageId) -> Fate {
        self.fate(record(from, client_id, 1, text("an answer", Some(to))))
    }

    fn edits(&mut self, from: i64, client_id: &str, target: MessageId, what: &str) -> Fate {
        self.fate(record(from, client_id, 1, RecordBody::Edit { target, content: content(what) }))
    }

    fn deletes(&mut self, from: i64, client_id: &str, target: MessageId) -> Fate {
        self.fate(record(from, client_id, 1, RecordBody::Delete { target }))
    }
}

#[test]
fn seqs_grow_by_one_and_time_never_decreases() {
    let mut story = Story::default();
    let Some(Outcome::Stored(first)) = story.outcome(record(ANA, "a", 50, text("x", None))) else { panic!() };
    let Some(Outcome::Stored(second)) = story.outcome(record(ANA, "b", 40, text("x", None))) else {
        panic!()
    };
    assert_eq!((first.seq, second.seq), (Seq(1), Seq(2)));
    assert_eq!((first.at, second.at), (Timestamp(50), Timestamp(50)));
}

#[test]
fn a_retry_stores_nothing_and_a_reuse_is_rejected() {
    let mut story = Story::default();
    story.says(ANA, "a", "x");
    assert_eq!(story.says(ANA, "a", "x"), Retry);
    let Some(Outcome::Rejected(rejection)) = story.outcome(record(ANA, "a", 3, text("y", None))) else {
        panic!()
    };
    assert_eq!((rejection.code, rejection.position.offset), (ErrorCode::ClientIdReused, 2));
    assert_eq!(story.says(ANA, "b", "x"), Fate::Seq(2), "neither took a seq");
}

#[test]
fn an_edit_and_a_deletion_are_events_of_their_own() {
    let mut story = Story::default();
    story.says(ANA, "a", "x");
    let target = id(ANA, "a");
    let edit = record(ANA, "e", 1, RecordBody::Edit { target, content: content("y") });
    let Some(Outcome::Stored(edited)) = story.outcome(edit) else { panic!() };
    assert_eq!((edited.seq, edited.id), (Seq(2), id(ANA, "e")));
    assert_eq!(edited.body, EventBody::Edited { target, content: Some(content("y")) });
    let Some(Outcome::Stored(deleted)) = story.outcome(record(ANA, "d", 1, RecordBody::Delete { target }))
    else {
        panic!()
    };
    assert_eq!((deleted.seq, deleted.body), (Seq(3), EventBody::Deleted { target }));
}

#[test]
fn two_edits_both_happen_and_a_retried_one_happens_once() {
    let mut story = Story::default();
    story.says(ANA, "a", "x");
    assert_eq!(story.edits(ANA, "e1", id(ANA, "a"), "y"), Fate::Seq(2));
    assert_eq!(story.edits(ANA, "e2", id(ANA, "a"), "z"), Fate::Seq(3));
    assert_eq!(story.edits(ANA, "e1", id(ANA, "a"), "y"), Retry, "it does not bring the older text back");
    assert_eq!(story.says(ANA, "a", "x"), Retry, "the message asked for what it asked for");
    assert_eq!(story.says(ANA, "a", "z"), Rejected(ErrorCode::ClientIdReused));
}

#[test]
fn what_is_not_there_cannot_be_changed_or_answered() {
    let mut story = Story::default();
    story.says(ANA, "a", "x");
    story.edits(ANA, "e", id(ANA, "a"), "y");
    for (number, nothing) in [id(ANA, "never"), id(ANA, "e")].into_iter().enumerate() {
        for (kind, fate) in [
            ("edit", story.edits(ANA, &format!("x{number}"), nothing, "y")),
            ("delete", story.deletes(ANA, &format!("y{number}"), nothing)),
            ("answer", story.answers(BEN, &format!("z{number}"), nothing)),
        ] {
            assert_eq!(fate, Rejected(ErrorCode::NotFound), "{kind} of {nothing}: an edit is no message");
        }
    }
    assert_eq!(story.says(BEN, "b", "x"), Fate::Seq(3), "none of them took a seq");
}

#[test]
fn what_lies_in_another_conversation_is_not_there() {
    let mut story = Story::default();
    let elsewhere = ConversationId::dm(user(ANA), user(9)).unwrap();
    let client_id = ClientId::new("a").unwrap();
    let target = MessageId::derive(elsewhere, user(ANA), &client_id);
    let (from, at, body) = (user(ANA), Timestamp(1), text("x", None));
    story.fate(Record { id: target, client_id, conversation: elsewhere, from, at, body });
    assert_eq!(story.edits(ANA, "e", target, "y"), Rejected(ErrorCode::NotFound));
    assert_eq!(story.deletes(ANA, "d", target), Rejected(ErrorCode::NotFound));
    assert_eq!(story.answers(ANA, "r", target), Rejected(ErrorCode::NotFound));
}

#[test]
fn only_the_author_changes_a_message_and_anybody_answers_it() {
    let mut story = Story::default();
    story.says(ANA, "a", "x");
    assert_eq!(story.edits(BEN, "e", id(ANA, "a"), "y"), Rejected(ErrorCode::Forbidden));
    assert_eq!(story.deletes(BEN, "d", id(ANA, "a")), Rejected(ErrorCode::Forbidden));
    assert_eq!(story.answers(BEN, "r", id(ANA, "a")), Fate::Seq(2));
}

#[test]
fn a_deleted_message_is_gone_for_changes_but_keeps_its_answers() {
    let mut story = Story::default();
    story.says(ANA, "a", "x");
    let target = id(ANA, "a");
    story.edits(ANA, "e", target, "y");
    assert_eq!(story.deletes(ANA, "d", target), Fate::Seq(3));
    assert_eq!(story.edits(ANA, "e2", target, "z"), Rejected(ErrorCode::NotFound));
    assert_eq!(story.edits(BEN, "e3", target, "z"), Rejected(ErrorCode::NotFound), "whoever asks");
    assert_eq!(story.deletes(ANA, "d2", target), Rejected(ErrorCode::NotFound), "a second time");
    assert_eq!(story.deletes(ANA, "d", target), Retry, "the same again");
    assert_eq!(story.edits(ANA, "e", target, "y"), Retry, "one that came in time");
    assert_eq!(story.answers(BEN, "r", target), Fate::Seq(4), "whoever answered did not know");
}

#[test]
fn an_id_is_one_of_messages_edits_and_deletions_together() {
    let mut story = Story::default();
    story.says(ANA, "a", "x");
    story.says(ANA, "b", "x");
    story.edits(ANA, "e", id(ANA, "a"), "y");
    let reused = Rejected(ErrorCode::ClientIdReused);
    assert_eq!(story.says(ANA, "e", "y"), reused, "another kind");
    assert_eq!(story.deletes(ANA, "e", id(ANA, "a")), reused, "another kind");
    assert_eq!(story.edits(ANA, "e", id(ANA, "b"), "y"), reused, "another target");
    assert_eq!(story.edits(ANA, "e", id(ANA, "a"), "z"), reused, "another content");
    assert_eq!(story.edits(ANA, "a", id(ANA, "a"), "x"), reused, "an edit under the message's own name");
    assert_eq!(story.answers(ANA, "a", id(ANA, "b")), reused, "another reply_to");
}

#[test]
fn a_retry_of_what_was_rejected_is_rejected_again_though_its_message_has_come() {
    let mut story = Story::default();
    let target = id(ANA, "a");
    assert_eq!(story.edits(ANA, "early", target, "y"), Rejected(ErrorCode::NotFound));
    assert_eq!(story.answers(BEN, "r", target), Rejected(ErrorCode::NotFound));
    story.says(ANA, "a", "x");
    assert_eq!(story.edits(ANA, "early", target, "y"), Rejected(ErrorCode::NotFound));
    assert_eq!(story.answers(BEN, "r", target), Rejected(ErrorCode::NotFound));
    assert_eq!(story.edits(ANA, "early", target, "another"), Fate::Seq(2), "that is another edit");
    assert_eq!(story.edits(ANA, "early", target, "y"), Rejected(ErrorCode::ClientIdReused), "which stands");
}

#[test]
fn an_edit_comes_too_late_by_the_times_of_the_two_records() {
    let rules = Rules { edit_within: Some(Duration::from_millis(100)) };
    let mut story = Story { rules, ..Story::default() };
    story.fate(record(BEN, "b", 1_000, text("x", None)));
    // Accepted at 900 by a clock that is behind: it has the time of the one before.
    story.fate(record(ANA, "a", 900, text("x", None)));
    let target = id(ANA, "a");
    let edit = |client_id: &str, at: i64| {
        record(ANA, client_id, at, RecordBody::Edit { target, content: content(client_id) })
    };
    assert_eq!(story.fate(edit("in-time", 1_100)), Fate::Seq(3));
    assert_eq!(story.fate(edit("late", 1_101)), Rejected(ErrorCode::Forbidden));
    assert_eq!(story.fate(edit("in-time", 2_000)), Retry, "a retry is not judged by its own time");
    assert_eq!(story.fate(edit("late", 1_100)), Rejected(ErrorCode::Forbidden), "nor is this one");
    let delete = record(ANA, "d", 9_000, RecordBody::Delete { target });
    assert_eq!(story.fate(delete), Fate::Seq(4), "deleting is possible for ever");
}
