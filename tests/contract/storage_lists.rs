//! `Conversations`: a user's list by last activity.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use chatd::domain::{ConversationId, EventBody, ListPlace, Seq, Subject};
use chatd::storage::{Listed, Move, NewUser};

use crate::storage_support::{
    Owner, Store, content_of, delete, dm, edit, id_of, message, on_each_storage, user,
};

on_each_storage!(
    who_has_no_conversations_has_an_empty_list,
    a_row_tells_what_a_list_shows,
    only_members_see_a_conversation,
    the_order_is_that_of_the_last_events_however_close_they_lie,
    conversations_of_the_same_moment_stand_on_one_page_each,
    pages_are_stable_while_messages_arrive,
    unread_counts_others_messages_after_the_own_read_to_a_thousand,
    an_earlier_clock_moves_nothing_back,
    what_was_edited_and_deleted_shows_as_it_is_now,
);

async fn list(store: &Store, who: i64) -> Vec<Listed> {
    store.conversations(user(who), None, 100).await.unwrap().rows
}

fn names(rows: &[Listed]) -> Vec<ConversationId> {
    rows.iter().map(|row| row.conversation).collect()
}

/// A message at a moment.
async fn at(owner: &mut Owner, from: i64, to: i64, moment: i64) {
    let client_id = format!("at-{from}-{to}-{moment}");
    owner.apply_records(vec![message(from, to, &client_id, &client_id, moment)]).await;
}

async fn who_has_no_conversations_has_an_empty_list(store: Store) {
    let mut owner = Owner::new(&store, 6).await;
    owner.say(1, 2, "hello").await;
    let page = store.conversations(user(3), None, 10).await.unwrap();
    assert_eq!((page.rows, page.has_more), (vec![], false));
    assert_eq!(store.conversation(user(3), dm(3, 4)).await.unwrap(), None);
}

async fn a_row_tells_what_a_list_shows(store: Store) {
    let ana = NewUser { id: user(1), name: "Ana \"A\" 李".into(), email: None };
    store.save(&[ana]).await.unwrap();
    let mut owner = Owner::new(&store, 6).await;
    for n in 1..=3 {
        owner.say(1, 2, &format!("message {n}")).await;
    }
    let last = owner.say(2, 1, "the last").await;
    let read = |who: i64, to: i64| Move {
        conversation: dm(1, 2),
        user: user(who),
        delivered_from: Seq(1),
        delivered_to: Seq(to),
        read: Seq(to - 1),
    };
    store.advance(&[read(1, 2), read(2, 3)]).await.unwrap();
    for (who, other, unread) in [(1, 2, 1), (2, 1, 1)] {
        let rows = list(&store, who).await;
        let [row] = rows.as_slice() else { panic!("{rows:?}") };
        assert_eq!((row.conversation, row.last_seq, row.unread), (dm(1, 2), Seq(4), unread));
        assert_eq!(row.place.last_at, last.at);
        assert_eq!(row.last_message.as_ref(), Some(&last));
        assert_eq!(row.members_count, 2);
        let members: Vec<_> = row
            .members
            .iter()
            .map(|member| (member.user.get(), member.name.as_str(), member.delivered.0, member.read.0))
            .collect();
        let of = |who: i64| if who == 1 { (1, "Ana \"A\" 李", 2, 1) } else { (2, "", 3, 2) };
        assert_eq!(members, [of(who), of(other)], "the user first");
        assert_eq!(store.conversation(user(who), dm(1, 2)).await.unwrap().as_ref(), Some(row));
    }
}

async fn only_members_see_a_conversation(store: Store) {
    let mut owner = Owner::new(&store, 6).await;
    owner.say(1, 2, "hello").await;
    assert!(store.conversation(user(1), dm(1, 2)).await.unwrap().is_some());
    assert_eq!(store.conversation(user(3), dm(1, 2)).await.unwrap(), None);
    assert_eq!(list(&store, 3).await, []);
}

/// Whatever lies between two messages, less than a minute or more, and whoever is asked for how much at a time.
async fn the_order_is_that_of_the_last_events_however_close_they_lie(store: Store) {
    let mut owner = Owner::new(&store, 6).await;
    let (mut dice, mut now) = (7u64, 1_000_000);
    let mut below = |end: i64| {
        // Knuth's constants (MMIX): the same numbers in every run.
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i64::try_from(dice >> 33).unwrap() % end
    };
    let mut expected: Vec<ConversationId> = Vec::new();
    for round in 0..120 {
        now += [1, 900, 20_000, 59_999, 60_000, 200_000][usize::try_from(below(6)).unwrap()];
        let other = 2 + below(12);
        at(&mut owner, 1, other, now).await;
        expected.retain(|each| *each != dm(1, other));
        expected.insert(0, dm(1, other));
        if round % 10 == 0 {
            for limit in [1, 2, 5, 100] {
                assert_eq!(walk(&store, limit).await, expected, "round {round}, {limit} at a time");
            }
        }
    }
}

/// User 1's whole list.
async fn walk(store: &Store, limit: u32) -> Vec<ConversationId> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = store.conversations(user(1), after, limit).await.unwrap();
        assert!(page.rows.len() <= limit as usize);
        assert!(!page.has_more || page.rows.len() == limit as usize);
        found.extend(names(&page.rows));
        after = page.rows.last().map(|row| row.place);
        if !page.has_more {
            return found;
        }
    }
}

async fn conversations_of_the_same_moment_stand_on_one_page_each(store: Store) {
    let mut owner = Owner::new(&store, 6).await;
    let records = (2..=30).map(|other| message(1, other, &format!("c{other}"), "x", 5_000)).collect();
    owner.apply_records(records).await;
    let mut found = walk(&store, 4).await;
    assert_eq!(found.len(), 29);
    found.sort();
    found.dedup();
    assert_eq!(found.len(), 29);
}

async fn pages_are_stable_while_messages_arrive(store: Store) {
    let mut owner = Owner::new(&store, 6).await;
    for other in 2..=10 {
        at(&mut owner, 1, other, other * 10_000).await;
    }
    let first = store.conversations(user(1), None, 3).await.unwrap();
    assert_eq!(names(&first.rows), [dm(1, 10), dm(1, 9), dm(1, 8)]);
    // One that was seen and one that was not move to the front, and a new one begins.
    at(&mut owner, 9, 1, 100_500).await;
    at(&mut owner, 4, 1, 200_000).await;
    at(&mut owner, 11, 1, 200_001).await;
    let mut rest = Vec::new();
    let mut after = first.rows.last().map(|row| row.place);
    while let Some(place) = after {
        let page = store.conversations(user(1), Some(place), 2).await.unwrap();
        rest.extend(names(&page.rows));
        after = page.rows.last().map(|row| row.place).filter(|_| page.has_more);
    }
    let unchanged = [7, 6, 5, 3, 2].map(|other| dm(1, other));
    assert_eq!(rest, unchanged, "nothing missed and nothing twice");
    let front = store.conversations(user(1), None, 3).await.unwrap();
    assert_eq!(names(&front.rows), [dm(1, 11), dm(1, 4), dm(1, 9)]);
    let end = ListPlace { last_at: chatd::domain::Timestamp(0), ..first.rows[0].place };
    assert_eq!(store.conversations(user(1), Some(end), 5).await.unwrap().rows, []);
}

async fn unread_counts_others_messages_after_the_own_read_to_a_thousand(store: Store) {
    let mut owner = Owner::new(&store, 6).await;
    let unread = async |who: i64| list(&store, who).await[0].unread;
    let mine = |from: i64, to: i64, which: std::ops::Range<i64>| {
        which.map(|n| message(from, to, &format!("c{n}"), "x", 1)).collect::<Vec<_>>()
    };
    owner.apply_records(mine(1, 2, 0..5)).await;
    owner.apply_records(mine(2, 1, 5..8)).await;
    assert_eq!((unread(1).await, unread(2).await), (3, 5));
    let read = |who: i64, read: i64| Move {
        conversation: dm(1, 2),
        user: user(who),
        delivered_from: Seq(0),
        delivered_to: Seq(0),
        read: Seq(read),
    };
    store.advance(&[read(1, 7), read(2, 4)]).await.unwrap();
    assert_eq!((unread(1).await, unread(2).await), (1, 1));
    store.advance(&[read(1, 8), read(2, 8)]).await.unwrap();
    assert_eq!((unread(1).await, unread(2).await), (0, 0));
    owner.apply_records(mine(1, 2, 8..1_107)).await;
    assert_eq!((unread(1).await, unread(2).await), (0, 1_000), "and no further");
    let row = store.conversation(user(2), dm(1, 2)).await.unwrap().unwrap();
    assert_eq!((row.unread, row.last_seq), (1_000, Seq(1_107)));
    assert_eq!(content_of(row.last_message.as_ref().unwrap()), "x");
}

async fn what_was_edited_and_deleted_shows_as_it_is_now(store: Store) {
    let mut owner = Owner::new(&store, 6).await;
    let row = async || list(&store, 2).await.into_iter().next().unwrap();
    let body = |row: &Listed| match &row.last_message.as_ref().unwrap().body {
        EventBody::Message(message) => message.content.as_ref().map(|content| content.as_str().to_owned()),
        other => panic!("{other:?}"),
    };
    owner.apply_records(vec![message(1, 2, "a", "first", 1), message(1, 2, "b", "second", 2)]).await;
    let [a, b] = ["a", "b"].map(|client_id| id_of(1, 2, client_id));
    owner.apply_records(vec![edit(1, 2, "e1", b, "edited")]).await;
    let now = row().await;
    assert_eq!((now.last_seq, now.unread, body(&now)), (Seq(3), 2, Some("edited".to_owned())));
    owner.apply_records(vec![delete(1, 2, "d1", b)]).await;
    let now = row().await;
    assert_eq!((now.last_seq, now.unread, body(&now)), (Seq(4), 1, None), "a tombstone is not unread");
    assert_eq!(now.last_message.unwrap().seq, Seq(2));
    // However many events lie behind it, so far is looked and no further.
    let edits = |from: i64, to: i64| (from..to).map(|n| edit(1, 2, &format!("m{n}"), a, "x")).collect();
    owner.apply_records(edits(0, 997)).await;
    let now = row().await;
    assert_eq!((now.last_seq, now.unread), (Seq(1_001), 1));
    assert_eq!(now.last_message.unwrap().seq, Seq(2), "the 1,000th from the end");
    owner.apply_records(edits(997, 998)).await;
    assert_eq!(row().await.last_message, None);
}

async fn an_earlier_clock_moves_nothing_back(store: Store) {
    let mut owner = Owner::new(&store, 6).await;
    at(&mut owner, 1, 2, 10).await;
    at(&mut owner, 1, 3, 20).await;
    at(&mut owner, 2, 1, 100_000).await;
    // The clock of another node lies behind: the moment stays, and so does the order.
    at(&mut owner, 2, 1, 50_000).await;
    assert_eq!(names(&list(&store, 1).await), [dm(1, 2), dm(1, 3)]);
    let [row] = list(&store, 2).await.try_into().unwrap();
    assert_eq!((row.place.last_at.0, row.last_seq), (100_000, Seq(3)));
    assert!(store.user(&Subject::Id(user(2))).await.unwrap().is_none(), "nobody has to be known for it");
}
