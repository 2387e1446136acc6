//! `Catchup`: what a device missed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use chatd::domain::{ErrorCode, Frontier, Outcome, Rejection, Seq};
use chatd::storage::{Missed, Move, Receipt, Since};

use crate::storage_support::{Owner, Store, dm, message, on_each_storage, user};

on_each_storage!(
    nothing_is_missed_by_who_knows_all,
    a_cursor_misses_what_came_after_it,
    without_a_cursor_it_is_what_was_not_confirmed,
    a_damaged_cursor_misses_everything,
    nothing_beyond_the_frontier_asked_for_is_named,
    a_frontier_in_the_middle_of_a_long_conversation_is_found,
    conversations_come_in_pages,
    unread_counts_others_messages_up_to_a_thousand,
    every_members_cursors_come_along,
    rejections_come_after_the_cursor_to_their_sender_only,
);

/// Conversation, from, to; sorted.
fn ranges(missed: &[Missed]) -> Vec<(String, i64, i64)> {
    let mut ranges: Vec<_> =
        missed.iter().map(|each| (each.conversation.to_string(), each.from.0, each.to.0)).collect();
    ranges.sort();
    ranges
}

async fn missed(owner: &Owner, who: i64, since: &Since, until: &Frontier) -> Vec<Missed> {
    owner.store.missed(user(who), since, until, None, 1_000).await.unwrap()
}

fn range(a: i64, b: i64, from: i64, to: i64) -> (String, i64, i64) {
    (dm(a, b).to_string(), from, to)
}

async fn confirm(store: &Store, a: i64, b: i64, who: i64, to: i64, read: i64) {
    let each = Move {
        conversation: dm(a, b),
        user: user(who),
        delivered_from: Seq(1),
        delivered_to: Seq(to),
        read: Seq(read),
    };
    assert_eq!(store.advance(&[each]).await.unwrap().len(), 1);
}

async fn nothing_is_missed_by_who_knows_all(store: Store) {
    let mut owner = Owner::new(&store, 6).await;
    let nothing = owner.nothing();
    assert_eq!(missed(&owner, 1, &Since::Beginning, &nothing).await, []);
    owner.say(1, 2, "a").await;
    let all = owner.frontier().await;
    assert_eq!(missed(&owner, 1, &Since::Frontier(all.clone()), &all).await, []);
    assert_eq!(missed(&owner, 3, &Since::Beginning, &all).await, [], "a stranger misses nothing");
}

async fn a_cursor_misses_what_came_after_it(store: Store) {
    let mut owner = Owner::new(&store, 6).await;
    owner.say(1, 2, "a").await;
    owner.say(1, 2, "b").await;
    owner.say(3, 1, "c").await;
    let then = Since::Frontier(owner.frontier().await);
    owner.say(2, 1, "d").await;
    owner.say(4, 1, "e").await;
    owner.say(2, 3, "not for 1").await;
    owner.say(1, 2, "f").await;
    let all = owner.frontier().await;
    assert_eq!(ranges(&missed(&owner, 1, &then, &all).await), [range(1, 2, 3, 4), range(1, 4, 1, 1)]);
    let nothing = Since::Frontier(owner.nothing());
    let everything = [range(1, 2, 1, 4), range(1, 3, 1, 1), range(1, 4, 1, 1)];
    assert_eq!(ranges(&missed(&owner, 1, &nothing, &all).await), everything);
    // A cursor of a former log lies before everything in this one; one of a later log knows all of it.
    let former = Frontier { log: chatd::domain::LogNumber(owner.log.0 - 1), offsets: [99; 3].into() };
    assert_eq!(ranges(&missed(&owner, 1, &Since::Frontier(former), &all).await), everything);
    let short = Frontier { log: owner.log, offsets: [].into() };
    assert_eq!(ranges(&missed(&owner, 1, &Since::Frontier(short), &all).await), everything);
}

async fn without_a_cursor_it_is_what_was_not_confirmed(store: Store) {
    let mut owner = Owner::new(&store, 6).await;
    for n in 0..4 {
        owner.say(1, 2, &format!("text {n}")).await;
    }
    owner.say(3, 2, "hi").await;
    confirm(&store, 1, 2, 2, 3, 0).await;
    let all = owner.frontier().await;
    let found = missed(&owner, 2, &Since::Confirmed, &all).await;
    assert_eq!(ranges(&found), [range(1, 2, 4, 4), range(2, 3, 1, 1)]);
    confirm(&store, 2, 3, 2, 1, 0).await;
    confirm(&store, 1, 2, 2, 4, 0).await;
    assert_eq!(missed(&owner, 2, &Since::Confirmed, &all).await, []);
    // A gap that was named and not fetched is still missed: naming confirms nothing.
    owner.say(1, 2, "later").await;
    store.name_gaps(user(2), &[(dm(1, 2), Seq(5))]).await.unwrap();
    let all = owner.frontier().await;
    assert_eq!(ranges(&missed(&owner, 2, &Since::Confirmed, &all).await), [range(1, 2, 5, 5)]);
}

async fn a_damaged_cursor_misses_everything(store: Store) {
    let mut owner = Owner::new(&store, 6).await;
    owner.say(1, 2, "a").await;
    owner.say(1, 2, "b").await;
    confirm(&store, 1, 2, 2, 2, 2).await;
    let all = owner.frontier().await;
    assert_eq!(ranges(&missed(&owner, 2, &Since::Beginning, &all).await), [range(1, 2, 1, 2)]);
}

async fn nothing_beyond_the_frontier_asked_for_is_named(store: Store) {
    let mut owner = Owner::new(&store, 6).await;
    owner.say(1, 2, "a").await;
    let early = owner.frontier().await;
    owner.say(1, 2, "b").await;
    owner.say(1, 3, "c").await;
    for since in [Since::Beginning, Since::Confirmed, Since::Frontier(owner.nothing())] {
        assert_eq!(ranges(&missed(&owner, 1, &since, &early).await), [range(1, 2, 1, 1)], "{since:?}");
    }
    // Whoever knows more than that misses nothing.
    let now = Since::Frontier(owner.frontier().await);
    assert_eq!(missed(&owner, 1, &now, &early).await, []);
}

async fn a_frontier_in_the_middle_of_a_long_conversation_is_found(store: Store) {
    let mut owner = Owner::new(&store, 1).await;
    let records = (0..300).map(|n| message(1, 2 + n % 2, &format!("c{n}"), "x", n)).collect();
    owner.apply_records(records).await;
    let all = owner.frontier().await;
    for known in [-1, 0, 1, 2, 150, 151, 297, 298, 299] {
        let since = Frontier { log: owner.log, offsets: [known].into() };
        // dm-1-2 has the even offsets: offset 2n is seq n + 1.
        let first = (known + 2) / 2 + 1;
        let expected = if first <= 150 { vec![range(1, 2, first, 150)] } else { vec![] };
        let found = missed(&owner, 2, &Since::Frontier(since.clone()), &all).await;
        assert_eq!(ranges(&found), expected, "since {known}");
        let found = missed(&owner, 2, &Since::Beginning, &since).await;
        let expected = if first > 1 { vec![range(1, 2, 1, first - 1)] } else { vec![] };
        assert_eq!(ranges(&found), expected, "until {known}");
    }
}

async fn conversations_come_in_pages(store: Store) {
    let mut owner = Owner::new(&store, 6).await;
    owner.apply_records((2..1_202).map(|peer| message(1, peer, "a", "x", 1)).collect()).await;
    let early = owner.frontier().await;
    owner.apply_records((1_202..1_210).map(|peer| message(1, peer, "a", "x", 1)).collect()).await;
    let mut pages = Vec::new();
    let mut after = None;
    loop {
        let page = store.missed(user(1), &Since::Beginning, &early, after, 500).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.key);
        pages.push(ranges(&page));
    }
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [500, 500, 200]);
    let mut all: Vec<_> = pages.concat();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 1_200);
}

async fn unread_counts_others_messages_up_to_a_thousand(store: Store) {
    let mut owner = Owner::new(&store, 1).await;
    owner.say(1, 2, "one").await;
    owner.say(2, 1, "own").await;
    owner.say(1, 2, "two").await;
    let early = owner.frontier().await;
    confirm(&store, 1, 2, 2, 1, 1).await;
    let unread = |until: Frontier| {
        let owner = &owner;
        async move { missed(owner, 2, &Since::Beginning, &until).await[0].unread }
    };
    assert_eq!(unread(early.clone()).await, 1);
    let records = (0..1_005).map(|n| message(1, 2, &format!("c{n}"), "x", n)).collect::<Vec<_>>();
    let mut other = Owner::new(&store, 1).await;
    other.apply_records(records).await;
    assert_eq!(unread(early).await, 1, "only what it is told of");
    assert_eq!(unread(other.frontier().await).await, 1_000);
}

async fn every_members_cursors_come_along(store: Store) {
    let mut owner = Owner::new(&store, 6).await;
    owner.say(1, 2, "a").await;
    owner.say(1, 2, "b").await;
    confirm(&store, 1, 2, 2, 2, 1).await;
    let all = owner.frontier().await;
    let found = missed(&owner, 1, &Since::Beginning, &all).await;
    let receipt = |who, delivered, read| Receipt {
        conversation: dm(1, 2),
        user: user(who),
        delivered: Seq(delivered),
        read: Seq(read),
    };
    assert_eq!(found[0].receipts, [receipt(1, 0, 0), receipt(2, 2, 1)]);
}

async fn rejections_come_after_the_cursor_to_their_sender_only(store: Store) {
    let mut owner = Owner::new(&store, 6).await;
    let mut reuse = async |from: i64, to: i64, n: i64| -> (Rejection, Frontier) {
        let first = message(from, to, "a", "x", 1);
        let (outcomes, _) =
            owner.apply_records(vec![first, message(from, to, "a", &format!("other {n}"), 2)]).await;
        let Some(Outcome::Rejected(rejection)) = outcomes.last().cloned() else { panic!() };
        (rejection, owner.frontier().await)
    };
    let (first, early) = reuse(1, 2, 1).await;
    let (second, middle) = reuse(1, 3, 2).await;
    let (third, late) = reuse(1, 2, 3).await;
    let (others, all) = reuse(2, 1, 4).await;
    assert_eq!(first.code, ErrorCode::ClientIdReused);
    let told = |who: i64, since: Option<Frontier>, until: Frontier, limit: u32| {
        let store = &store;
        async move { store.rejections(user(who), since.as_ref(), &until, limit).await.unwrap() }
    };
    assert_eq!(told(1, None, all.clone(), 10).await, [first.clone(), second.clone(), third.clone()]);
    assert_eq!(told(2, None, all.clone(), 10).await, [others]);
    assert_eq!(told(1, Some(early.clone()), all.clone(), 10).await, [second.clone(), third.clone()]);
    assert_eq!(told(1, None, middle.clone(), 10).await, [first, second.clone()]);
    assert_eq!(told(1, Some(early), middle, 10).await, vec![second.clone()]);
    assert_eq!(told(1, None, all.clone(), 2).await, [second, third], "the newest, in order");
    assert_eq!(told(1, Some(late), all, 10).await, []);
}
