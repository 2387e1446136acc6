//! `Sightings`: when users were there last, who may see it, and who shares a conversation.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use chatd::domain::{Audience, Timestamp};
use chatd::storage::Sighting;

use crate::storage_support::{Owner, Store, on_each_storage, user};

on_each_storage!(
    who_was_never_seen_has_said_nothing,
    what_is_kept_never_goes_back,
    an_audience_is_kept_beside_and_may_change,
    two_share_a_conversation_once_there_is_an_event_in_it,
    many_at_once,
    nodes_that_write_at_once_do_not_stand_in_each_others_way,
);

fn seen(at: i64) -> Sighting {
    Sighting { last_seen: Some(Timestamp(at)), audience: None }
}

async fn who_was_never_seen_has_said_nothing(store: Store) {
    assert_eq!(store.sightings(&[]).await.unwrap(), []);
    assert_eq!(store.sightings(&[user(1), user(2)]).await.unwrap(), [Sighting::default(); 2]);
    store.saw(&[]).await.unwrap();
    assert_eq!(store.sharing(&[]).await.unwrap(), [false; 0]);
}

async fn what_is_kept_never_goes_back(store: Store) {
    for (at, kept) in [(60_000, 60_000), (180_000, 180_000), (120_000, 180_000), (180_000, 180_000)] {
        store.saw(&[(user(1), Timestamp(at))]).await.unwrap();
        assert_eq!(store.sightings(&[user(2), user(1)]).await.unwrap(), [Sighting::default(), seen(kept)]);
    }
}

async fn an_audience_is_kept_beside_and_may_change(store: Store) {
    for audience in [Audience::Nobody, Audience::Shared, Audience::Everyone, Audience::Everyone] {
        store.show_to(user(1), audience).await.unwrap();
        let kept = Sighting { last_seen: None, audience: Some(audience) };
        assert_eq!(store.sightings(&[user(1)]).await.unwrap(), [kept]);
    }
    store.saw(&[(user(1), Timestamp(60_000))]).await.unwrap();
    let both = Sighting { audience: Some(Audience::Everyone), ..seen(60_000) };
    assert_eq!(store.sightings(&[user(1)]).await.unwrap(), [both]);
}

async fn two_share_a_conversation_once_there_is_an_event_in_it(store: Store) {
    let pairs = [(1, 2), (2, 1), (1, 3), (3, 2), (1, 1), (4, 4)].map(|(a, b)| (user(a), user(b)));
    assert_eq!(store.sharing(&pairs).await.unwrap(), [false; 6]);
    let mut owner = Owner::new(&store, 6).await;
    owner.say(1, 2, "hello").await;
    owner.say(3, 9, "elsewhere").await;
    assert_eq!(store.sharing(&pairs).await.unwrap(), [true, true, false, false, true, false]);
}

async fn many_at_once(store: Store) {
    let all: Vec<_> = (1..=1_500).map(|id| (user(id), Timestamp(id * 60_000))).collect();
    store.saw(&all).await.unwrap();
    let users: Vec<_> = all.iter().rev().map(|(user, _)| *user).collect();
    let kept = store.sightings(&users).await.unwrap();
    assert_eq!(kept, (1..=1_500).rev().map(|id| seen(id * 60_000)).collect::<Vec<_>>());
}

async fn nodes_that_write_at_once_do_not_stand_in_each_others_way(store: Store) {
    let mut tasks = tokio::task::JoinSet::new();
    for node in 1..=8 {
        let store = store.clone();
        tasks.spawn(async move {
            for round in 1..=5 {
                let mut all: Vec<_> =
                    (1..=200).map(|id| (user(id), Timestamp((node * 10 + round) * 60_000))).collect();
                if node % 2 == 0 {
                    all.reverse();
                }
                store.saw(&all).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let users: Vec<_> = (1..=200).map(user).collect();
    assert_eq!(store.sightings(&users).await.unwrap(), vec![seen(85 * 60_000); 200]);
}
