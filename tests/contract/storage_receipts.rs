//! `Receipts`: cursors that only grow, without holes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use chatd::domain::{ConversationId, Frontier, Seq};
use chatd::storage::{Move, Receipt};

use crate::storage_support::{Owner, Store, dm, on_each_storage, user};

on_each_storage!(
    a_new_conversation_has_both_members_at_the_start,
    a_confirmation_moves_and_says_where_to,
    a_cursor_never_moves_back_nor_over_a_hole_nor_beyond_the_end,
    reading_confirms,
    moves_of_strangers_do_nothing,
    many_moves_at_once_end_where_the_last_would,
    moves_of_one_member_count_together_whatever_their_order,
    a_frontier_confirms_what_it_covers,
    a_named_gap_holds_a_frontier_back_until_it_is_confirmed,
    a_frontier_of_an_earlier_log_confirms_nothing_new,
);

fn step(conversation: ConversationId, who: i64, from: i64, to: i64, read: i64) -> Move {
    Move { conversation, user: user(who), delivered_from: Seq(from), delivered_to: Seq(to), read: Seq(read) }
}

fn receipt(conversation: ConversationId, who: i64, delivered: i64, read: i64) -> Receipt {
    Receipt { conversation, user: user(who), delivered: Seq(delivered), read: Seq(read) }
}

/// Five messages of 1 to 2.
async fn five(store: &Store) -> Owner {
    let mut owner = Owner::new(store, 6).await;
    for n in 1..=5 {
        owner.say(1, 2, &format!("text {n}")).await;
    }
    owner
}

async fn a_new_conversation_has_both_members_at_the_start(store: Store) {
    assert_eq!(store.receipts(dm(1, 2)).await.unwrap(), []);
    five(&store).await;
    let start = [receipt(dm(1, 2), 1, 0, 0), receipt(dm(1, 2), 2, 0, 0)];
    assert_eq!(store.receipts(dm(1, 2)).await.unwrap(), start, "sending moves no cursor");
}

async fn a_confirmation_moves_and_says_where_to(store: Store) {
    five(&store).await;
    let moved = store.advance(&[step(dm(1, 2), 2, 1, 3, 0)]).await.unwrap();
    assert_eq!(moved, [receipt(dm(1, 2), 2, 3, 0)]);
    assert_eq!(store.advance(&[step(dm(1, 2), 2, 1, 3, 0)]).await.unwrap(), [], "again moves nothing");
    assert_eq!(store.receipts(dm(1, 2)).await.unwrap()[1], receipt(dm(1, 2), 2, 3, 0));
    assert_eq!(store.advance(&[]).await.unwrap(), []);
}

async fn a_cursor_never_moves_back_nor_over_a_hole_nor_beyond_the_end(store: Store) {
    five(&store).await;
    for (from, to, after) in [(2, 3, 0), (1, 2, 2), (4, 5, 2), (1, 1, 2), (3, 3, 3), (2, 4, 4), (5, 99, 5)] {
        store.advance(&[step(dm(1, 2), 2, from, to, 0)]).await.unwrap();
        let receipts = store.receipts(dm(1, 2)).await.unwrap();
        assert_eq!(receipts[1].delivered, Seq(after), "after {from}..{to}");
    }
}

async fn reading_confirms(store: Store) {
    five(&store).await;
    let moved = store.advance(&[step(dm(1, 2), 2, 0, 0, 3)]).await.unwrap();
    assert_eq!(moved, [receipt(dm(1, 2), 2, 3, 3)]);
    assert_eq!(store.advance(&[step(dm(1, 2), 2, 0, 0, 2)]).await.unwrap(), []);
    let moved = store.advance(&[step(dm(1, 2), 2, 4, 5, 99)]).await.unwrap();
    assert_eq!(moved, [receipt(dm(1, 2), 2, 5, 5)]);
}

async fn moves_of_strangers_do_nothing(store: Store) {
    five(&store).await;
    let strangers = [step(dm(1, 2), 3, 1, 5, 5), step(dm(1, 9), 1, 1, 5, 5), step(dm(2, 3), 3, 0, 0, 1)];
    assert_eq!(store.advance(&strangers).await.unwrap(), []);
    assert_eq!(store.receipts(dm(1, 2)).await.unwrap().len(), 2);
    assert_eq!(store.receipts(dm(1, 9)).await.unwrap(), []);
}

async fn many_moves_at_once_end_where_the_last_would(store: Store) {
    let mut owner = five(&store).await;
    owner.say(3, 1, "hi").await;
    let moved = store
        .advance(&[
            step(dm(1, 3), 1, 1, 1, 1),
            step(dm(1, 2), 2, 1, 2, 0),
            step(dm(1, 2), 1, 1, 5, 0),
            step(dm(1, 2), 2, 3, 5, 0),
            step(dm(1, 2), 2, 0, 0, 1),
        ])
        .await
        .unwrap();
    let expected = [receipt(dm(1, 2), 1, 5, 0), receipt(dm(1, 2), 2, 5, 1), receipt(dm(1, 3), 1, 1, 1)];
    assert_eq!(moved, expected, "one of each member, by conversation and user");
}

async fn moves_of_one_member_count_together_whatever_their_order(store: Store) {
    five(&store).await;
    let moved = store.advance(&[step(dm(1, 2), 2, 3, 3, 0), step(dm(1, 2), 2, 1, 2, 0)]).await.unwrap();
    assert_eq!(moved, [receipt(dm(1, 2), 2, 3, 0)]);
    // What was read was received: the range behind it joins.
    let moved = store
        .advance(&[step(dm(1, 2), 1, 5, 5, 0), step(dm(1, 2), 1, 3, 3, 0), step(dm(1, 2), 1, 0, 0, 2)])
        .await
        .unwrap();
    assert_eq!(moved, [receipt(dm(1, 2), 1, 3, 2)], "4 is a hole");
}

async fn a_frontier_confirms_what_it_covers(store: Store) {
    let mut owner = five(&store).await;
    let early = owner.frontier().await;
    owner.say(3, 2, "other conversation").await;
    for n in 0..20 {
        owner.say(2, 1, &format!("more {n}")).await;
    }
    assert_eq!(store.confirm_frontier(user(2), &early).await.unwrap(), [receipt(dm(1, 2), 2, 5, 0)]);
    assert_eq!(store.confirm_frontier(user(2), &early).await.unwrap(), []);
    let mut moved = store.confirm_frontier(user(2), &owner.frontier().await).await.unwrap();
    moved.sort_by_key(|each| each.conversation);
    assert_eq!(moved, [receipt(dm(1, 2), 2, 25, 0), receipt(dm(2, 3), 2, 1, 0)]);
    // An old cursor takes nothing back, and others' cursors are their own.
    assert_eq!(store.confirm_frontier(user(2), &early).await.unwrap(), []);
    assert_eq!(store.receipts(dm(1, 2)).await.unwrap()[0], receipt(dm(1, 2), 1, 0, 0));
}

async fn a_named_gap_holds_a_frontier_back_until_it_is_confirmed(store: Store) {
    let mut owner = five(&store).await;
    owner.say(3, 2, "other conversation").await;
    let all = owner.frontier().await;
    store.name_gaps(user(2), &[(dm(1, 2), Seq(4))]).await.unwrap();
    store.name_gaps(user(2), &[(dm(1, 2), Seq(3)), (dm(7, 8), Seq(1))]).await.unwrap();
    assert_eq!(store.confirm_frontier(user(2), &all).await.unwrap(), [receipt(dm(2, 3), 2, 1, 0)]);
    store.advance(&[step(dm(1, 2), 2, 1, 3, 0)]).await.unwrap();
    assert_eq!(store.confirm_frontier(user(2), &all).await.unwrap(), [], "3 of 4 is not the whole gap");
    store.advance(&[step(dm(1, 2), 2, 4, 4, 0)]).await.unwrap();
    assert_eq!(store.confirm_frontier(user(2), &all).await.unwrap(), [receipt(dm(1, 2), 2, 5, 0)]);
}

async fn a_frontier_of_an_earlier_log_confirms_nothing_new(store: Store) {
    let owner = five(&store).await;
    let earlier = Frontier { log: chatd::domain::LogNumber(owner.log.0 - 1), offsets: [99; 6].into() };
    assert_eq!(store.confirm_frontier(user(2), &earlier).await.unwrap(), []);
    assert_eq!(store.confirm_frontier(user(2), &owner.nothing()).await.unwrap(), []);
    let later = Frontier { log: chatd::domain::LogNumber(owner.log.0 + 1), offsets: [-1; 6].into() };
    assert_eq!(store.confirm_frontier(user(2), &later).await.unwrap(), [receipt(dm(1, 2), 2, 5, 0)]);
}
