//! `Ledger`: fences, duplicates, order, replay, the books.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use chatd::domain::{ErrorCode, Outcome, Seq, Timestamp};
use chatd::pipeline::LogIdentity;
use chatd::storage::{Applied, DeadLetter, Mark, Standstill, StorageError};
use uuid::Uuid;

use crate::storage_support::{
    Owner, Store, content_of, dm, history, log_identity, message, on_each_storage, seqs, sqlite,
};

on_each_storage!(
    a_database_follows_one_log_with_a_fixed_number_of_partitions,
    a_claim_ends_the_former_owner,
    seqs_have_no_gap_and_time_never_decreases,
    a_fence_with_an_old_epoch_stores_nothing,
    a_fence_with_another_offset_stores_nothing,
    a_fenced_partition_does_not_hold_up_another,
    a_batch_whose_answer_was_lost_is_not_applied_again,
    a_retry_is_stored_once_within_and_across_batches,
    a_reused_client_id_is_rejected_and_the_first_stands,
    dead_letters_let_the_partition_move_on,
    what_is_published_never_moves_back_and_only_by_the_owner,
    every_owner_reads_how_far_all_partitions_are_published,
    a_standstill_is_seen_by_all_until_its_owner_takes_it_back,
    a_log_that_takes_over_ends_the_owners_of_the_one_before,
    a_log_followed_anew_stores_only_what_is_missing,
    the_digest_of_the_last_value_is_kept,
    what_was_made_durable_is_the_applied_frontier,
    replaying_the_log_gives_the_same_rows,
    a_thousand_conversations_fit_one_batch,
    pruning_takes_old_rejections_and_leaves_history,
    an_incarnation_stays,
);

async fn a_database_follows_one_log_with_a_fixed_number_of_partitions(store: Store) {
    assert_eq!(store.followed().await, Ok(None));
    let first = store.attach_log(log_identity(6)).await.unwrap();
    assert_eq!(store.followed().await, Ok(Some((first, log_identity(6)))));
    assert_eq!(store.attach_log(log_identity(6)).await.unwrap(), first);
    let other = LogIdentity { id: Uuid::from_u128(99), partitions: 6 };
    let foreign = StorageError::ForeignLog { expected: log_identity(6).id, found: other.id };
    assert_eq!(store.attach_log(other).await, Err(foreign));
    assert!(matches!(store.attach_log(log_identity(7)).await, Err(StorageError::Refused(_))));
    assert_eq!(store.frontier(first).await.unwrap().offsets.as_ref(), [-1; 6]);
}

async fn a_claim_ends_the_former_owner(store: Store) {
    let log = store.attach_log(log_identity(3)).await.unwrap();
    let first = store.claim(log, &[0, 2]).await.unwrap();
    assert_eq!(first.iter().map(|claim| claim.partition).collect::<Vec<_>>(), [0, 2]);
    assert!(first.iter().all(|claim| claim.next_offset == 0 && claim.published == -1));
    let second = store.claim(log, &[2]).await.unwrap();
    assert!(second[0].epoch > first[1].epoch);
    assert_eq!(store.claims(log, &[0, 2]).await.unwrap(), [first[0].clone(), second[0].clone()]);
    assert!(store.claim(log, &[3]).await.is_err(), "there is no such partition");
}

async fn seqs_have_no_gap_and_time_never_decreases(store: Store) {
    let mut owner = Owner::new(&store, 1).await;
    owner.apply_records(vec![message(1, 2, "a", "one", 50), message(2, 1, "a", "two", 40)]).await;
    owner.apply_records(vec![message(3, 4, "a", "elsewhere", 1), message(1, 2, "b", "three", 45)]).await;
    owner.apply_records(vec![message(1, 2, "c", "four", 60)]).await;
    let events = history(&store, dm(1, 2)).await;
    assert_eq!(seqs(&events), [1, 2, 3, 4]);
    assert_eq!(events.iter().map(content_of).collect::<Vec<_>>(), ["one", "two", "three", "four"]);
    assert_eq!(events.iter().map(|event| event.at.0).collect::<Vec<_>>(), [50, 50, 50, 60]);
    assert_eq!(events[3].position, owner.at(0, 4));
    assert_eq!(store.last_seq(dm(1, 2)).await.unwrap(), Seq(4));
}

async fn a_fence_with_an_old_epoch_stores_nothing(store: Store) {
    let owner = Owner::new(&store, 1).await;
    let mut newer = Owner::new(&store, 1).await;
    let stale = owner.batch(vec![message(1, 2, "a", "late", 1)]);
    assert_eq!(store.apply(stale).await.unwrap(), [Applied::Fenced { partition: 0 }]);
    assert_eq!(history(&store, dm(1, 2)).await, []);
    assert_eq!(store.frontier(owner.log).await.unwrap().offsets.as_ref(), [-1]);
    newer.say(1, 2, "mine").await;
    assert_eq!(history(&store, dm(1, 2)).await.len(), 1);
}

async fn a_fence_with_another_offset_stores_nothing(store: Store) {
    let mut owner = Owner::new(&store, 1).await;
    owner.say(1, 2, "first").await;
    for wrong in [0, 2] {
        let mut ahead = owner.batch(vec![message(1, 2, "x", "no", 1)]);
        ahead.partitions[0].expected = wrong;
        ahead.partitions[0].next = wrong + 1;
        assert_eq!(store.apply(ahead).await.unwrap(), [Applied::Fenced { partition: 0 }]);
    }
    assert_eq!(history(&store, dm(1, 2)).await.len(), 1);
    assert_eq!(owner.frontier().await.offsets.as_ref(), [0]);
}

async fn a_fenced_partition_does_not_hold_up_another(store: Store) {
    let mut owner = Owner::new(&store, 6).await;
    // dm-2-3 and dm-1-2 are in partition 2, dm-1001-1002 in 4 (the vectors of the protocol).
    let lost = owner.partition(dm(2, 3));
    store.claim(owner.log, &[lost]).await.unwrap();
    let batch = owner.batch(vec![message(2, 3, "a", "lost", 1), message(1001, 1002, "a", "kept", 1)]);
    let applied = store.apply(batch).await.unwrap();
    assert!(applied.contains(&Applied::Fenced { partition: lost }));
    assert_eq!(applied.len(), 2);
    assert_eq!(history(&store, dm(2, 3)).await, []);
    assert_eq!(history(&store, dm(1001, 1002)).await.len(), 1);
    let kept = owner.partition(dm(1001, 1002));
    owner.next[kept as usize] += 1;
    assert_eq!(owner.frontier().await.offset(kept), 0);
    assert_eq!(owner.frontier().await.offset(lost), -1);
}

async fn a_batch_whose_answer_was_lost_is_not_applied_again(store: Store) {
    let mut owner = Owner::new(&store, 1).await;
    let batch = owner.batch(vec![message(1, 2, "a", "once", 1)]);
    owner.apply(batch.clone()).await;
    assert_eq!(store.apply(batch).await.unwrap(), [Applied::Fenced { partition: 0 }]);
    let claims = store.claims(owner.log, &[0]).await.unwrap();
    assert_eq!((claims[0].epoch, claims[0].next_offset), (owner.epochs[0], 1), "it reads that it was");
    assert_eq!(history(&store, dm(1, 2)).await.len(), 1);
}

async fn a_retry_is_stored_once_within_and_across_batches(store: Store) {
    let mut owner = Owner::new(&store, 1).await;
    let first = message(1, 2, "a", "hello", 10);
    let (outcomes, retries) = owner.apply_records(vec![first.clone(), first.clone()]).await;
    assert_eq!((outcomes.len(), retries), (1, 1));
    let later = message(1, 2, "a", "hello", 99);
    let (outcomes, retries) = owner.apply_records(vec![later, message(1, 2, "b", "new", 11)]).await;
    assert_eq!((outcomes.len(), retries), (1, 1));
    let events = history(&store, dm(1, 2)).await;
    assert_eq!(seqs(&events), [1, 2]);
    assert_eq!(events[1].at, Timestamp(11), "a retry moves no time");
    // The same client_id of the other person, and in another conversation, is another message.
    let (outcomes, retries) =
        owner.apply_records(vec![message(2, 1, "a", "hello", 12), message(1, 3, "a", "hello", 12)]).await;
    assert_eq!((outcomes.len(), retries), (2, 0));
}

async fn a_reused_client_id_is_rejected_and_the_first_stands(store: Store) {
    let mut owner = Owner::new(&store, 1).await;
    owner.apply_records(vec![message(1, 2, "a", "hello", 1)]).await;
    let reuse = message(1, 2, "a", "something else", 2);
    let (outcomes, retries) = owner.apply_records(vec![reuse, message(1, 2, "b", "next", 3)]).await;
    assert_eq!(retries, 0);
    let Outcome::Rejected(rejection) = &outcomes[0] else { panic!("{outcomes:?}") };
    assert_eq!(rejection.code, ErrorCode::ClientIdReused);
    let events = history(&store, dm(1, 2)).await;
    assert_eq!(events.iter().map(content_of).collect::<Vec<_>>(), ["hello", "next"]);
    assert_eq!(seqs(&events), [1, 2], "a rejection takes no seq");
    let scanned = store.scan(owner.log, 0, -1, 10).await.unwrap();
    assert_eq!(scanned.outcomes[1], outcomes[0], "a node that missed it finds it");
}

async fn dead_letters_let_the_partition_move_on(store: Store) {
    let mut owner = Owner::new(&store, 1).await;
    let mut batch = owner.batch(vec![message(1, 2, "a", "good", 1)]);
    let value = bytes::Bytes::from_static(b"\xff no record");
    batch.partitions[0].dead.push(DeadLetter { offset: 1, reason: "not a record".into(), value });
    batch.partitions[0].next = 2;
    let (outcomes, _) = owner.apply(batch).await;
    assert_eq!(outcomes.len(), 1);
    assert_eq!(owner.frontier().await.offsets.as_ref(), [1]);
    let scanned = store.scan(owner.log, 0, -1, 10).await.unwrap();
    assert_eq!((scanned.outcomes.len(), scanned.through), (1, 1), "nodes hear nothing of it");
}

async fn what_is_published_never_moves_back_and_only_by_the_owner(store: Store) {
    let mut owner = Owner::new(&store, 1).await;
    for text in ["a", "b", "c"] {
        owner.say(1, 2, text).await;
    }
    let published = || async { store.claims(owner.log, &[0]).await.unwrap()[0].published };
    assert_eq!(published().await, -1);
    let mark = async |epoch, value| {
        let marked = store.mark_published(owner.log, &[Mark { partition: 0, epoch, value }]).await.unwrap();
        assert_eq!(marked.offset(0), published().await);
        marked.offset(0)
    };
    assert_eq!(mark(owner.epochs[0] - 1, 2).await, -1, "a former owner says nothing");
    assert_eq!(mark(owner.epochs[0], 1).await, 1);
    assert_eq!(mark(owner.epochs[0], 0).await, 1);
    assert_eq!(mark(owner.epochs[0], 99).await, 2, "what is not applied was not published");
    assert_eq!(store.mark_published(owner.log, &[]).await.unwrap().offset(0), 2);
    let mut batch = owner.batch(vec![message(1, 2, "d", "d", 4)]);
    batch.partitions[0].published = 0;
    owner.apply(batch).await;
    let claim = store.claims(owner.log, &[0]).await.unwrap().remove(0);
    assert_eq!((claim.published, claim.next_offset), (2, 4));
}

async fn every_owner_reads_how_far_all_partitions_are_published(store: Store) {
    let mut owner = Owner::new(&store, 6).await;
    owner.say(1, 2, "hello").await;
    owner.say(1001, 1002, "hello").await;
    let (a, b) = (owner.partition(dm(1, 2)), owner.partition(dm(1001, 1002)));
    let mark = |partition: u32| Mark { partition, epoch: owner.epochs[partition as usize], value: 0 };
    store.mark_published(owner.log, &[mark(a)]).await.unwrap();
    let published = store.mark_published(owner.log, &[mark(b)]).await.unwrap();
    assert_eq!((published.log, published.offsets.len()), (owner.log, 6));
    assert_eq!((published.offset(a), published.offset(b)), (0, 0));
    assert_eq!(published.offsets.iter().sum::<i64>(), -4, "nothing of the other four");
}

async fn a_standstill_is_seen_by_all_until_its_owner_takes_it_back(store: Store) {
    let owner = Owner::new(&store, 3).await;
    let say = async |partition: u32, epoch: i64, is_breach: Option<bool>| {
        let value =
            is_breach.map(|is_breach| Standstill { reason: "the log was replaced".into(), is_breach });
        store.mark_standstills(owner.log, &[Mark { partition, epoch, value }]).await.unwrap();
        let found = store.standstills(owner.log).await.unwrap();
        found.into_iter().map(|(partition, standstill)| (partition, standstill.is_breach)).collect::<Vec<_>>()
    };
    assert_eq!(say(1, owner.epochs[1], Some(true)).await, [(1, true)]);
    assert_eq!(say(2, owner.epochs[2], Some(false)).await, [(1, true), (2, false)]);
    let reason = store.standstills(owner.log).await.unwrap().remove(0).1.reason;
    assert_eq!(reason, "the log was replaced");
    assert_eq!(say(1, owner.epochs[1] - 1, None).await.len(), 2, "a former owner takes nothing back");
    assert_eq!(say(1, owner.epochs[1], None).await, [(2, false)]);
    assert_eq!(say(0, owner.epochs[0], None).await, [(2, false)]);
}

async fn a_log_that_takes_over_ends_the_owners_of_the_one_before(store: Store) {
    let mut owner = Owner::new(&store, 3).await;
    owner.say(1, 2, "hello").await;
    let late = owner.batch(vec![message(1, 2, "late", "late", 9)]);
    let next = LogIdentity { id: Uuid::from_u128(99), partitions: 2 };
    assert!(store.hand_over(next, &[0]).await.is_err(), "an offset for each partition");
    let number = store.hand_over(next, &[7, 0]).await.unwrap();
    assert!(number > owner.log);
    let partition = late.partitions[0].partition;
    assert_eq!(store.apply(late).await.unwrap(), [Applied::Fenced { partition }]);
    assert_eq!(store.claim(owner.log, &[0]).await, Err(StorageError::Superseded));
    assert_eq!(store.standstills(owner.log).await, Err(StorageError::Superseded));
    assert_eq!(store.attach_log(next).await.unwrap(), number);
    let foreign = StorageError::ForeignLog { expected: next.id, found: log_identity(3).id };
    assert_eq!(store.attach_log(log_identity(3)).await, Err(foreign));
    let claims = store.claim(number, &[0, 1]).await.unwrap();
    let places = claims.iter().map(|claim| (claim.next_offset, claim.published, claim.last_digest));
    assert_eq!(places.collect::<Vec<_>>(), [(7, 6, None), (0, -1, None)]);
    assert_eq!(history(&store, dm(1, 2)).await.len(), 1);
}

async fn a_log_followed_anew_stores_only_what_is_missing(store: Store) {
    let mut first = Owner::new(&store, 1).await;
    let records: Vec<_> = (0..9).map(|n| message(1, 2, &format!("c{n}"), "hello", n)).collect();
    first.apply_records(records[..6].to_vec()).await;
    let before = first.frontier().await;
    store.hand_over(log_identity(1), &[0]).await.unwrap();
    let mut second = Owner::new(&store, 1).await;
    let (outcomes, duplicates) = second.apply_records(records).await;
    assert_eq!((outcomes.len(), duplicates), (3, 6));
    let events = history(&store, dm(1, 2)).await;
    assert_eq!(seqs(&events), (1..=9).collect::<Vec<_>>());
    assert!(before.covers(events[5].position) && !before.covers(events[6].position));
}

async fn the_digest_of_the_last_value_is_kept(store: Store) {
    let mut owner = Owner::new(&store, 1).await;
    assert_eq!(store.claims(owner.log, &[0]).await.unwrap()[0].last_digest, None);
    let mut batch = owner.batch(vec![message(1, 2, "a", "a", 1)]);
    batch.partitions[0].last_digest = Uuid::from_u128(0xd19e57);
    owner.apply(batch).await;
    let claim = store.claim(owner.log, &[0]).await.unwrap().remove(0);
    assert_eq!((claim.last_digest, claim.next_offset), (Some(Uuid::from_u128(0xd19e57)), 1));
}

async fn what_was_made_durable_is_the_applied_frontier(store: Store) {
    let mut owner = Owner::new(&store, 6).await;
    for peer in 2..20 {
        owner.say(1, peer, "hello").await;
        assert_eq!(store.make_durable(owner.log).await.unwrap(), owner.frontier().await);
    }
}

async fn replaying_the_log_gives_the_same_rows(store: Store) {
    let again = sqlite().await;
    let records: Vec<_> = (0..200)
        .map(|n| {
            // Pairs of 7 people; every tenth repeats an earlier message, every thirteenth its client_id only.
            let k = if n % 10 == 9 || n % 13 == 12 { n - 7 } else { n };
            let text = if n % 13 == 12 { "other".to_owned() } else { format!("text {k}") };
            message(1 + k % 7, 1 + (k + 1 + k % 5) % 7, &format!("c{k}"), &text, 1_000 - n)
        })
        .collect();
    let mut first = Owner::new(&store, 6).await;
    for record in records.clone() {
        first.apply_records(vec![record]).await;
    }
    let mut second = Owner::new(&again, 6).await;
    for some in records.chunks(33) {
        second.apply_records(some.to_vec()).await;
    }
    assert_eq!(first.frontier().await, second.frontier().await);
    let mut outcomes = 0;
    for partition in 0..6 {
        let rows = store.scan(first.log, partition, -1, 1_000).await.unwrap();
        assert_eq!(rows, again.scan(second.log, partition, -1, 1_000).await.unwrap());
        outcomes += rows.outcomes.len();
    }
    assert!((150..200).contains(&outcomes), "{outcomes} of 200 are new");
    for (low, high) in (1..8).flat_map(|low| (low + 1..8).map(move |high| (low, high))) {
        assert_eq!(history(&store, dm(low, high)).await, history(&again, dm(low, high)).await);
    }
}

async fn a_thousand_conversations_fit_one_batch(store: Store) {
    let mut owner = Owner::new(&store, 6).await;
    let records = |name: &str| (2..1_002).map(|peer| message(1, peer, name, "to all", 1)).collect::<Vec<_>>();
    assert_eq!(owner.apply_records(records("a")).await.0.len(), 1_000);
    assert_eq!(owner.apply_records(records("a")).await, (vec![], 1_000));
    assert_eq!(owner.apply_records(records("b")).await.0.len(), 1_000);
    assert_eq!(store.last_seq(dm(1, 500)).await.unwrap(), Seq(2));
}

async fn pruning_takes_old_rejections_and_leaves_history(store: Store) {
    let mut owner = Owner::new(&store, 1).await;
    let before = Timestamp::now().minus(std::time::Duration::from_secs(60));
    owner.apply_records(vec![message(1, 2, "a", "hello", 1), message(1, 2, "a", "reused", 2)]).await;
    assert_eq!(store.prune(before).await.unwrap(), 0, "it is not old yet");
    let after = Timestamp::now().plus(std::time::Duration::from_secs(60));
    assert_eq!(store.prune(after).await.unwrap(), 1);
    assert_eq!(store.prune(after).await.unwrap(), 0);
    assert_eq!(store.scan(owner.log, 0, -1, 10).await.unwrap().outcomes.len(), 1);
    assert_eq!(history(&store, dm(1, 2)).await.len(), 1);
}

async fn an_incarnation_stays(store: Store) {
    let incarnation = store.incarnation().await.unwrap();
    assert_eq!(store.incarnation().await.unwrap(), incarnation);
    assert_ne!(sqlite().await.incarnation().await.unwrap(), incarnation);
}
