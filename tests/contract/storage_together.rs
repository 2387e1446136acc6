//! Storage with several at work on the same rows: nodes that flush receipts, owners that apply, workers that
//! raise and lease. None waits for another in a circle, and nothing is done twice or forgotten.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chatd::domain::{ConversationId, Frontier, Seq, UserId};
use chatd::storage::{DuePolicy, LeasedMail, Move, NewUser, Settlement};

use crate::storage_support::{Owner, Store, dm, message, on_each_storage, user};

on_each_storage!(
    two_nodes_that_flush_the_same_members_never_block_each_other,
    receipts_and_cursors_move_beside_an_owner_that_applies,
    two_workers_make_each_mail_once_and_lease_it_once,
    two_workers_keep_the_daily_number_of_each_person,
    whoever_is_written_to_while_workers_raise_is_told_of_all_of_it,
);

const HOUR: Duration = Duration::from_secs(3_600);

fn step(conversation: ConversationId, who: i64, to: i64, read: i64) -> Move {
    let (user, delivered_from) = (user(who), Seq(1));
    Move { conversation, user, delivered_from, delivered_to: Seq(to), read: Seq(read) }
}

/// The nth message from 1 to each of these.
async fn write_once(owner: &mut Owner, peers: std::ops::Range<i64>, n: i64) {
    owner.apply_records(peers.map(|peer| message(1, peer, &format!("c{n}"), "text", n)).collect()).await;
}

async fn two_nodes_that_flush_the_same_members_never_block_each_other(store: Store) {
    const ROUNDS: i64 = 20;
    let peers = 2..202;
    let mut owner = Owner::new(&store, 6).await;
    for n in 1..=ROUNDS {
        write_once(&mut owner, peers.clone(), n).await;
    }
    let all = owner.frontier().await;
    let flush = |backwards: bool| {
        let (store, peers) = (store.clone(), peers.clone());
        tokio::spawn(async move {
            for to in 1..=ROUNDS {
                let mut moves: Vec<Move> = peers
                    .clone()
                    .flat_map(|peer| [step(dm(1, peer), peer, to, to / 2), step(dm(1, peer), 1, to, to)])
                    .collect();
                if backwards {
                    moves.reverse();
                }
                store.advance(&moves).await.unwrap();
            }
        })
    };
    let resume = {
        let (store, peers) = (store.clone(), peers.clone());
        tokio::spawn(async move {
            for who in peers {
                store.name_gaps(user(who), &[(dm(1, who), Seq(1))]).await.unwrap();
                store.confirm_frontier(user(1), &all).await.unwrap();
            }
        })
    };
    let (one, other) = (flush(false), flush(true));
    one.await.unwrap();
    other.await.unwrap();
    resume.await.unwrap();
    for peer in peers {
        let cursors: Vec<_> = store.receipts(dm(1, peer)).await.unwrap();
        let cursors: Vec<_> = cursors.iter().map(|each| (each.delivered.0, each.read.0)).collect();
        assert_eq!(cursors, [(ROUNDS, ROUNDS), (ROUNDS, ROUNDS / 2)]);
    }
}

async fn receipts_and_cursors_move_beside_an_owner_that_applies(store: Store) {
    let peers = 2..52;
    let mut owner = Owner::new(&store, 6).await;
    write_once(&mut owner, peers.clone(), 1).await;
    let done = Arc::new(AtomicBool::new(false));
    let node = || {
        let (store, done, peers, log) = (store.clone(), Arc::clone(&done), peers.clone(), owner.log);
        tokio::spawn(async move {
            // A round more after the end, with everything there.
            loop {
                let last_round = done.load(Ordering::SeqCst);
                let moves: Vec<Move> =
                    peers.clone().map(|peer| step(dm(1, peer), peer, i64::MAX / 2, 0)).collect();
                store.advance(&moves).await.unwrap();
                let frontier = store.frontier(log).await.unwrap();
                store.confirm_frontier(user(1), &frontier).await.unwrap();
                if last_round {
                    return;
                }
            }
        })
    };
    let nodes = [node(), node()];
    for n in 2..=40 {
        write_once(&mut owner, peers.clone(), n).await;
    }
    done.store(true, Ordering::SeqCst);
    for node in nodes {
        node.await.unwrap();
    }
    for peer in peers {
        let cursors: Vec<_> = store.receipts(dm(1, peer)).await.unwrap();
        assert_eq!(cursors.iter().map(|each| each.delivered.0).collect::<Vec<_>>(), [40, 40]);
    }
}

async fn with_addresses(store: &Store, people: std::ops::Range<i64>) {
    let people: Vec<NewUser> = people
        .map(|id| NewUser {
            id: user(id),
            name: format!("user{id}"),
            email: Some(format!("user{id}@example.test")),
        })
        .collect();
    store.save(&people).await.unwrap();
}

fn policy(all: &Frontier, limit: u32) -> DuePolicy {
    DuePolicy {
        settled: all.clone(),
        published: all.clone(),
        min_interval: Duration::ZERO,
        per_day: 1_000,
        max_age: HOUR,
        limit,
    }
}

/// Raises and leases until nothing is left to do. Returns what it leased and how many it raised.
fn worker(store: &Store, policy: DuePolicy) -> tokio::task::JoinHandle<(Vec<LeasedMail>, u32)> {
    let store = store.clone();
    tokio::spawn(async move {
        let (mut leased, mut raised) = (Vec::new(), 0);
        loop {
            let now = store.raise_due(&policy).await.unwrap();
            let mails = store.lease_mails(HOUR, 3).await.unwrap();
            raised += now.mails;
            if now.next_due.is_none() && mails.is_empty() {
                return (leased, raised);
            }
            leased.extend(mails);
        }
    })
}

async fn two_workers_make_each_mail_once_and_lease_it_once(store: Store) {
    let peers = 2..152;
    let mut owner = Owner::new(&store, 6).await;
    owner.grace = Duration::ZERO;
    with_addresses(&store, peers.clone()).await;
    for n in 1..=3 {
        write_once(&mut owner, peers.clone(), n).await;
    }
    let all = owner.frontier().await;
    let workers = [worker(&store, policy(&all, 7)), worker(&store, policy(&all, 7))];
    let (mut people, mut ids, mut raised) = (HashSet::new(), HashSet::new(), 0);
    for worker in workers {
        let (leased, mine) = worker.await.unwrap();
        raised += mine;
        for mail in leased {
            assert!(ids.insert(mail.id), "leased twice: {mail:?}");
            assert!(people.insert(mail.user), "told twice: {mail:?}");
            assert_eq!((mail.attempts, mail.conversation), (0, dm(1, mail.user.get())));
            let letter = store.letter(mail.id).await.unwrap().unwrap();
            assert_eq!((letter.from, letter.to), (Seq(1), Seq(3)));
            store.settle_mail(mail.id, &Settlement::Sent).await.unwrap();
        }
    }
    assert_eq!(
        (raised as usize, people),
        (peers.clone().count(), peers.map(user).collect::<HashSet<UserId>>())
    );
}

async fn two_workers_keep_the_daily_number_of_each_person(store: Store) {
    let (people, others) = (1..11, 11..41);
    let mut owner = Owner::new(&store, 6).await;
    owner.grace = Duration::ZERO;
    with_addresses(&store, people.clone()).await;
    let each = |to: i64| others.clone().map(move |from| message(from, to, "a", "text", from));
    owner.apply_records(people.clone().flat_map(each).collect()).await;
    let all = owner.frontier().await;
    let policy = DuePolicy { per_day: 20, ..policy(&all, 3) };
    let workers = [worker(&store, policy.clone()), worker(&store, policy)];
    let mut told: BTreeMap<UserId, usize> = BTreeMap::new();
    for worker in workers {
        for mail in worker.await.unwrap().0 {
            *told.entry(mail.user).or_default() += 1;
        }
    }
    assert_eq!(told, people.map(|id| (user(id), 20)).collect());
}

async fn whoever_is_written_to_while_workers_raise_is_told_of_all_of_it(store: Store) {
    // Few messages to each, so that nothing later wakes up a conversation that was forgotten.
    const ROUNDS: i64 = 3;
    let peers = 2..182;
    let mut owner = Owner::new(&store, 1).await;
    owner.grace = Duration::ZERO;
    with_addresses(&store, peers.clone()).await;
    let done = Arc::new(AtomicBool::new(false));
    let log = owner.log;
    let worker = || {
        let (store, done) = (store.clone(), Arc::clone(&done));
        tokio::spawn(async move {
            let mut leased = Vec::new();
            loop {
                let last_round = done.load(Ordering::SeqCst);
                let all = store.frontier(log).await.unwrap();
                let raised = store.raise_due(&policy(&all, 100)).await.unwrap();
                assert_eq!(raised.skipped, []);
                leased.extend(store.lease_mails(HOUR, 100).await.unwrap());
                if last_round && raised.next_due.is_none() {
                    return leased;
                }
            }
        })
    };
    let workers = [worker(), worker()];
    for first in peers.clone().step_by(3) {
        for n in 1..=ROUNDS {
            write_once(&mut owner, first..first + 3, n).await;
        }
    }
    done.store(true, Ordering::SeqCst);
    let mut told: BTreeMap<ConversationId, Vec<(i64, i64)>> = BTreeMap::new();
    for worker in workers {
        for mail in worker.await.unwrap() {
            let letter = store.letter(mail.id).await.unwrap().unwrap();
            told.entry(mail.conversation).or_default().push((letter.from.0, letter.to.0));
        }
    }
    for peer in peers {
        let mut ranges = told.remove(&dm(1, peer)).expect("told of something");
        ranges.sort_unstable();
        let mut next = 1;
        for (from, to) in ranges {
            assert_eq!(from, next, "user {peer} was told once of each message");
            next = to + 1;
        }
        assert_eq!(next, ROUNDS + 1, "user {peer} was told of all");
    }
}
