//! Edits, deletions and answers: what becomes of them by the log's order, within a batch and across batches, and what
//! is read afterwards. Each story is told twice, a record at a time and in one batch: both end the same.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::time::Duration;

use chatd::domain::history::Rules;
use chatd::domain::{
    Content, Data, ErrorCode, Event, EventBody, Message, Outcome, Record, RecordBody, Seq, Timestamp,
};
use chatd::storage::Page;

use crate::storage_support::{
    Owner, Store, answer, delete, dm, edit, history, id_of, message, on_each_storage, seqs,
};

on_each_storage!(
    an_edited_message_has_its_last_text_wherever_it_is_read,
    a_deleted_message_leaves_a_tombstone_and_no_words,
    every_fate_of_a_change_is_the_same_in_one_batch_and_in_many,
    a_message_that_comes_edited_and_deleted_in_one_batch,
    what_is_done_again_changes_nothing,
    a_client_id_is_one_of_messages_edits_and_deletions_together,
    what_was_rejected_is_rejected_again_though_its_message_has_come,
    changes_of_many_conversations_and_partitions_fit_one_batch,
    a_time_limit_is_judged_by_the_two_records,
    replaying_the_log_gives_the_same_words,
);

/// What became of a record, in short.
fn fates(outcomes: &[Outcome]) -> Vec<Result<i64, ErrorCode>> {
    let fate = |outcome: &Outcome| match outcome {
        Outcome::Stored(event) => Ok(event.seq.0),
        Outcome::Rejected(rejection) => Err(rejection.code),
    };
    outcomes.iter().map(fate).collect()
}

async fn apply_each(owner: &mut Owner, records: &[Record]) -> (Vec<Outcome>, usize) {
    let (mut all, mut retries) = (Vec::new(), 0);
    for record in records {
        let (outcomes, duplicates) = owner.apply_records(vec![record.clone()]).await;
        all.extend(outcomes);
        retries += duplicates;
    }
    (all, retries)
}

/// Text, seq of it, and when it was edited and deleted, of each message, oldest first.
async fn texts(store: &Store) -> Vec<(Option<String>, i64, Option<i64>, Option<i64>)> {
    let rows = store.messages(dm(1, 2), Page::After(Seq(0)), 100).await.unwrap().rows;
    let told = |event: &Event| {
        let EventBody::Message(message) = &event.body else { panic!("{event:?}") };
        let text = message.content.as_ref().map(|content| content.as_str().to_owned());
        (text, event.seq.0, message.edited_at.map(|at| at.0), message.deleted_at.map(|at| at.0))
    };
    rows.iter().map(told).collect()
}

fn text(text: &str) -> Option<Content> {
    Some(Content::new(text).unwrap())
}

fn with_data(mut record: Record) -> Record {
    let raw = serde_json::value::RawValue::from_string(r#"{"map":1}"#.to_owned()).unwrap();
    let RecordBody::Message(message) = &mut record.body else { panic!("no message") };
    message.data = Some(Data::new(raw).unwrap());
    record
}

async fn an_edited_message_has_its_last_text_wherever_it_is_read(store: Store) {
    let mut owner = Owner::new(&store, 1).await;
    let a = id_of(1, 2, "a");
    let original = with_data(message(1, 2, "a", "first", 10));
    let changes = [edit(1, 2, "e1", a, "second"), edit(1, 2, "e2", a, "third")];
    let (first, _) = owner.apply_records(vec![original.clone(), message(2, 1, "b", "other", 11)]).await;
    let (told, _) = apply_each(&mut owner, &changes).await;
    let Outcome::Stored(live) = &told[0] else { panic!("{told:?}") };
    assert_eq!(live.body, EventBody::Edited { target: a, content: text("second") }, "as it happens");
    assert_eq!((live.seq, live.at), (Seq(3), Timestamp(11)));

    let now = Message {
        content: text("third"),
        data: match &original.body {
            RecordBody::Message(message) => message.data.clone(),
            _ => None,
        },
        reply_to: None,
        edited_at: Some(Timestamp(11)),
        deleted_at: None,
    };
    let events = history(&store, dm(1, 2)).await;
    assert_eq!(seqs(&events), [1, 2, 3, 4], "every seq");
    assert_eq!(events[0].body, EventBody::Message(now));
    for event in &events[2..] {
        assert_eq!(event.body, EventBody::Edited { target: a, content: text("third") });
    }
    let scanned = store.scan(owner.log, 0, -1, 10).await.unwrap();
    let found = scanned.outcomes.into_iter().map(|outcome| match outcome {
        Outcome::Stored(event) => event,
        Outcome::Rejected(rejection) => panic!("{rejection:?}"),
    });
    assert_eq!(found.collect::<Vec<_>>(), events);
    let expected = [(Some("third".into()), 1, Some(11), None), (Some("other".into()), 2, None, None)];
    assert_eq!(texts(&store).await, expected);
    assert_eq!(first.len(), 2);
}

async fn a_deleted_message_leaves_a_tombstone_and_no_words(store: Store) {
    let mut owner = Owner::new(&store, 1).await;
    let a = id_of(1, 2, "a");
    let records = [
        with_data(message(1, 2, "a", "first", 10)),
        edit(1, 2, "e", a, "second"),
        answer(2, 1, "r", a),
        delete(1, 2, "d", a),
    ];
    apply_each(&mut owner, &records).await;
    let events = history(&store, dm(1, 2)).await;
    assert_eq!(seqs(&events), [1, 2, 3, 4]);
    let tombstone = Message {
        content: None,
        data: None,
        reply_to: None,
        edited_at: Some(Timestamp(10)),
        deleted_at: Some(Timestamp(10)),
    };
    assert_eq!(events[0].body, EventBody::Message(tombstone));
    assert_eq!(events[1].body, EventBody::Edited { target: a, content: None });
    assert_eq!(events[3].body, EventBody::Deleted { target: a });
    let EventBody::Message(reply) = &events[2].body else { panic!() };
    assert_eq!(reply.reply_to, Some(a), "whoever answered it keeps the answer");
}

/// Every kind of record that is judged by another, in an order in which each fate occurs.
fn story() -> Vec<(Record, Result<i64, ErrorCode>)> {
    let (a, b, never) = (id_of(1, 2, "a"), id_of(2, 1, "b"), id_of(1, 2, "never"));
    let elsewhere = id_of(1, 3, "c");
    let (gone, not_mine) = (Err(ErrorCode::NotFound), Err(ErrorCode::Forbidden));
    vec![
        (message(1, 2, "a", "first", 1), Ok(1)),
        (message(2, 1, "b", "of 2", 1), Ok(2)),
        (message(1, 3, "c", "elsewhere", 1), Ok(1)),
        (edit(1, 2, "e1", a, "second"), Ok(3)),
        (edit(2, 1, "e2", a, "not mine"), not_mine),
        (delete(2, 1, "d1", a), not_mine),
        (edit(1, 2, "e3", never, "x"), gone),
        (delete(1, 2, "d2", never), gone),
        (answer(1, 2, "r1", never), gone),
        (edit(1, 2, "e4", elsewhere, "x"), gone),
        (delete(1, 2, "d3", elsewhere), gone),
        (answer(2, 1, "r2", elsewhere), gone),
        (edit(1, 2, "e5", id_of(1, 2, "e1"), "an edit of an edit"), gone),
        (delete(1, 2, "d4", id_of(1, 2, "e1")), gone),
        (answer(2, 1, "r3", id_of(1, 2, "e1")), gone),
        (answer(2, 1, "r4", a), Ok(4)),
        (edit(1, 2, "e6", a, "third"), Ok(5)),
        (delete(1, 2, "d5", a), Ok(6)),
        (edit(1, 2, "e7", a, "too late"), gone),
        (delete(1, 2, "d6", a), gone),
        (delete(2, 1, "d7", a), gone),
        (answer(2, 1, "r5", a), Ok(7)),
        (delete(2, 1, "d8", b), Ok(8)),
        (edit(2, 1, "e8", id_of(2, 1, "r5"), "another answer"), Ok(9)),
    ]
}

async fn every_fate_of_a_change_is_the_same_in_one_batch_and_in_many(store: Store) {
    let (records, expected): (Vec<_>, Vec<_>) = story().into_iter().unzip();
    let mut owner = Owner::new(&store, 1).await;
    let (outcomes, retries) = apply_each(&mut owner, &records).await;
    assert_eq!((fates(&outcomes), retries), (expected.clone(), 0), "one by one");
    let after: Vec<_> = history(&store, dm(1, 2)).await;

    let (outcomes, retries) = apply_each(&mut owner, &records).await;
    let rejected: Vec<_> = expected.iter().filter(|fate| fate.is_err()).copied().collect();
    let stored = expected.len() - rejected.len();
    assert_eq!((fates(&outcomes), retries), (rejected.clone(), stored), "all of it again");
    let (outcomes, retries) = owner.apply_records(records).await;
    assert_eq!((fates(&outcomes), retries), (rejected, stored), "and again in one batch");
    assert_eq!(history(&store, dm(1, 2)).await, after);
}

async fn a_message_that_comes_edited_and_deleted_in_one_batch(store: Store) {
    let (records, expected): (Vec<_>, Vec<_>) = story().into_iter().unzip();
    let mut owner = Owner::new(&store, 1).await;
    // Each record twice: the second is a retry of it, whether it was stored or rejected.
    let twice = records.iter().flat_map(|record| [record.clone(), record.clone()]).collect();
    let (outcomes, retries) = owner.apply_records(twice).await;
    let stored = expected.iter().filter(|fate| fate.is_ok()).count();
    let told: Vec<_> = expected
        .iter()
        .flat_map(|fate| std::iter::repeat_n(*fate, if fate.is_ok() { 1 } else { 2 }))
        .collect();
    assert_eq!((fates(&outcomes), retries), (told, stored));
    let expected = [
        (None, 1, Some(1), Some(1)),
        (None, 2, None, Some(1)),
        (Some("an answer".into()), 4, None, None),
        (Some("another answer".into()), 7, Some(1), None),
    ];
    assert_eq!(texts(&store).await, expected);
    let Outcome::Stored(first) = &outcomes[0] else { panic!() };
    let EventBody::Message(live) = &first.body else { panic!() };
    assert_eq!(live.content, text("first"), "nodes are told what happened, in order");
}

async fn what_is_done_again_changes_nothing(store: Store) {
    let mut owner = Owner::new(&store, 1).await;
    let a = id_of(1, 2, "a");
    let original = message(1, 2, "a", "first", 1);
    let (e1, e2) = (edit(1, 2, "e1", a, "second"), edit(1, 2, "e2", a, "third"));
    apply_each(&mut owner, &[original.clone(), e1.clone(), e2.clone()]).await;
    // The older edit, tried again, does not bring its text back; nor does the message.
    let (outcomes, retries) = owner.apply_records(vec![e1.clone(), original.clone()]).await;
    assert_eq!((outcomes, retries), (vec![], 2));
    assert_eq!(texts(&store).await[0].0.as_deref(), Some("third"));
    let gone = delete(1, 2, "d", a);
    owner.apply_records(vec![gone.clone()]).await;
    let (outcomes, retries) = owner.apply_records(vec![e2, gone, original, e1]).await;
    assert_eq!((outcomes, retries), (vec![], 4), "also after the end");
    assert_eq!(texts(&store).await[0].0, None);
    let (outcomes, _) = owner.apply_records(vec![message(1, 2, "b", "next", 1)]).await;
    assert_eq!(fates(&outcomes), [Ok(5)]);
}

async fn a_client_id_is_one_of_messages_edits_and_deletions_together(store: Store) {
    let mut owner = Owner::new(&store, 1).await;
    let (a, b) = (id_of(1, 2, "a"), id_of(1, 2, "b"));
    let before = [
        message(1, 2, "a", "first", 1),
        message(1, 2, "b", "other", 1),
        edit(1, 2, "e", a, "second"),
        delete(1, 2, "d", b),
    ];
    let reuses = vec![
        message(1, 2, "e", "second", 1),
        delete(1, 2, "e", a),
        edit(1, 2, "e", b, "second"),
        edit(1, 2, "e", a, "another"),
        edit(1, 2, "d", b, "x"),
        delete(1, 2, "d", a),
        message(1, 2, "a", "second", 1),
        message(1, 2, "b", "another", 1),
        answer(1, 2, "a", b),
        edit(1, 2, "a", a, "first"),
    ];
    let expected = vec![Err(ErrorCode::ClientIdReused); reuses.len()];
    apply_each(&mut owner, &before).await;
    let after = history(&store, dm(1, 2)).await;
    let (outcomes, retries) = apply_each(&mut owner, &reuses).await;
    assert_eq!((fates(&outcomes), retries), (expected.clone(), 0), "one by one");
    let (outcomes, retries) = owner.apply_records(reuses).await;
    assert_eq!((fates(&outcomes), retries), (expected, 0), "in one batch");
    assert_eq!(history(&store, dm(1, 2)).await, after);
}

async fn what_was_rejected_is_rejected_again_though_its_message_has_come(store: Store) {
    let mut owner = Owner::new(&store, 1).await;
    let a = id_of(1, 2, "a");
    let early = [edit(1, 2, "e", a, "early"), delete(1, 2, "d", a), answer(2, 1, "r", a)];
    let gone = vec![Err(ErrorCode::NotFound); 3];
    let (outcomes, _) = owner.apply_records(early.to_vec()).await;
    assert_eq!(fates(&outcomes), gone);
    owner.apply_records(vec![message(1, 2, "a", "first", 1)]).await;
    let (outcomes, _) = owner.apply_records(early.to_vec()).await;
    assert_eq!(fates(&outcomes), gone);
    let (outcomes, _) = apply_each(&mut owner, &early).await;
    assert_eq!(fates(&outcomes), gone);
    let scanned = store.scan(owner.log, 0, -1, 20).await.unwrap();
    assert_eq!(scanned.outcomes.last(), outcomes.last(), "a node that missed it finds it");
    let (outcomes, _) = owner.apply_records(vec![edit(1, 2, "e", a, "another edit")]).await;
    assert_eq!(fates(&outcomes), [Ok(2)], "which no record was before");
    let (outcomes, _) = owner.apply_records(vec![early[0].clone()]).await;
    assert_eq!(fates(&outcomes), [Err(ErrorCode::ClientIdReused)]);
}

async fn changes_of_many_conversations_and_partitions_fit_one_batch(store: Store) {
    let mut owner = Owner::new(&store, 6).await;
    let peers = 2..202;
    let messages = |peer: i64| [message(1, peer, "a", "first", 1), message(1, peer, "b", "gone", 1)];
    owner.apply_records(peers.clone().flat_map(messages).collect()).await;
    let changes = |peer: i64| {
        let (a, b) = (id_of(1, peer, "a"), id_of(1, peer, "b"));
        [
            edit(1, peer, "e1", a, "second"),
            delete(1, peer, "d", b),
            edit(1, peer, "e2", a, &format!("last {peer}")),
        ]
    };
    let (outcomes, _) = owner.apply_records(peers.clone().flat_map(changes).collect()).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Stored(_))));
    for peer in peers {
        let rows = store.messages(dm(1, peer), Page::After(Seq(0)), 10).await.unwrap().rows;
        let contents: Vec<_> = rows
            .into_iter()
            .map(|row| match row.body {
                EventBody::Message(message) => message.content.map(|content| content.as_str().to_owned()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(contents, [Some(format!("last {peer}")), None]);
    }
}

async fn a_time_limit_is_judged_by_the_two_records(store: Store) {
    let mut owner = Owner::new(&store, 1).await;
    owner.rules = Rules { edit_within: Some(Duration::from_secs(1)) };
    let a = id_of(1, 2, "a");
    // Its time in history is that of the one before: the clock that accepted it was behind.
    owner.apply_records(vec![message(2, 1, "b", "x", 5_000), message(1, 2, "a", "first", 4_000)]).await;
    let at = |record: Record, at: i64| Record { at: Timestamp(at), ..record };
    let (in_time, late) = (edit(1, 2, "e1", a, "second"), edit(1, 2, "e2", a, "third"));
    let records =
        vec![at(in_time.clone(), 6_000), at(late.clone(), 6_001), at(late, 5_500), at(in_time, 9_000)];
    let (outcomes, retries) = owner.apply_records(records).await;
    let too_late = Err(ErrorCode::Forbidden);
    assert_eq!((fates(&outcomes), retries), (vec![Ok(3), too_late, too_late], 1), "a retry ends as it did");
    let (outcomes, _) = owner.apply_records(vec![at(delete(1, 2, "d", a), 90_000)]).await;
    assert_eq!(fates(&outcomes), [Ok(4)], "deleting has no limit");
}

async fn replaying_the_log_gives_the_same_words(store: Store) {
    let (records, _): (Vec<_>, Vec<_>) = story().into_iter().unzip();
    let mut owner = Owner::new(&store, 1).await;
    apply_each(&mut owner, &records).await;
    let again = crate::storage_support::sqlite().await;
    let mut other = Owner::new(&again, 1).await;
    other.apply_records(records).await;
    assert_eq!(history(&again, dm(1, 2)).await, history(&store, dm(1, 2)).await);
    let scan = async |store: &Store| store.scan(owner.log, 0, -1, 100).await.unwrap();
    assert_eq!(scan(&again).await, scan(&store).await, "events and rejections");
}
