//! Storage as a whole under load, as several processes use it: two owners apply, two nodes flush receipts and
//! answer devices that come back, two workers tell by mail. Nothing fails, and in the end the books are right.
//! Two seconds; `STORAGE_SECONDS=60` is the long run. What was done is printed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]
#![allow(clippy::print_stdout, reason = "what was done is printed")]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chatd::domain::{ConversationId, LogNumber, MessageId, Outcome, Partition, Record, Seq, UserId};
use chatd::storage::{DuePolicy, Mark, Move, NewUser, Settlement, Since};

use crate::storage_support::{Owner, Store, dm, history, message, on_each_storage, user};

on_each_storage!(the_books_are_right_after_owners_nodes_and_workers_were_at_it_together);

/// Everybody writes to everybody; those with an odd id are away and confirm nothing.
const PEOPLE: i64 = 40;
const PARTITIONS: Partition = 6;
const GRACE: Duration = Duration::from_millis(20);
const HOUR: Duration = Duration::from_secs(3_600);

fn length() -> Duration {
    let seconds = std::env::var("STORAGE_SECONDS").ok();
    Duration::from_secs(seconds.map_or(2, |text| text.parse().expect("STORAGE_SECONDS is a number")))
}

/// A number from 0 up to and without `end`.
fn below(end: i64) -> i64 {
    rand::random_range(0..end)
}

fn somebody() -> i64 {
    1 + below(PEOPLE)
}

/// How far each conversation has come, for the nodes.
type Heads = Arc<Mutex<HashMap<ConversationId, i64>>>;

/// What an owner stored, conversation by conversation.
#[derive(Default)]
struct Books {
    stored: BTreeMap<ConversationId, Vec<MessageId>>,
    rejected: usize,
    duplicates: usize,
}

/// Applies to partitions of its own, some records again or spoiled, and takes its partitions over anew at times.
async fn own(mut owner: Owner, mine: Vec<Partition>, heads: Heads, until: Instant) -> Books {
    let mut books = Books::default();
    let mut sent: Vec<Record> = Vec::new();
    let mut expected_duplicates = 0;
    let began = Instant::now();
    while Instant::now() < until {
        let mut records = Vec::new();
        // A minute passes in 60 ms: places in lists are renewed all the time.
        let at = 1 + 1_000 * i64::try_from(began.elapsed().as_millis()).unwrap();
        for _ in 0..=below(60) {
            let again = usize::try_from(below(1_000)).unwrap();
            let record = match sent.get(again) {
                Some(known) if again % 2 == 0 => {
                    expected_duplicates += 1;
                    known.clone()
                }
                Some(known) if again % 99 == 0 => {
                    let ConversationId::Dm(low, high) = known.conversation else { continue };
                    let to = if known.from == low { high } else { low };
                    message(known.from.get(), to.get(), known.client_id.as_str(), "another content", at)
                }
                _ => {
                    let (from, to) = (somebody(), somebody());
                    if from == to || !mine.contains(&owner.partition(dm(from, to))) {
                        continue;
                    }
                    let record = message(from, to, &format!("{}-{}", mine[0], sent.len()), "a text", at);
                    sent.push(record.clone());
                    record
                }
            };
            records.push(record);
        }
        let (outcomes, duplicates) = owner.apply_records(records).await;
        books.duplicates += duplicates;
        for outcome in outcomes {
            match outcome {
                Outcome::Stored(event) => {
                    heads.lock().unwrap().insert(event.conversation, event.seq.0);
                    books.stored.entry(event.conversation).or_default().push(event.id);
                }
                Outcome::Rejected(_) => books.rejected += 1,
            }
        }
        let mark = |&partition: &Partition| Mark {
            partition,
            epoch: owner.epochs[partition as usize],
            value: owner.next[partition as usize] - 1,
        };
        owner.store.mark_published(owner.log, &mine.iter().map(mark).collect::<Vec<_>>()).await.unwrap();
        if below(20) == 0 {
            for claim in owner.store.claim(owner.log, &mine).await.unwrap() {
                assert_eq!(claim.next_offset, owner.next[claim.partition as usize]);
                owner.epochs[claim.partition as usize] = claim.epoch;
            }
        }
    }
    assert_eq!(books.duplicates, expected_duplicates, "retries, and nothing else");
    books
}

/// The cursors that a node was told of.
type Confirmed = HashMap<(ConversationId, UserId), (Seq, Seq)>;

/// Confirms for those who are there, and answers devices that come back.
async fn serve(store: Store, log: LogNumber, heads: Heads, until: Instant) -> Confirmed {
    let mut confirmed = Confirmed::new();
    while Instant::now() < until {
        let known: Vec<(ConversationId, i64)> = heads.lock().unwrap().iter().map(|(c, s)| (*c, *s)).collect();
        let mut moves = Vec::new();
        for (conversation, head) in known {
            let ConversationId::Dm(low, high) = conversation else { continue };
            let user = if below(2) == 0 { low } else { high };
            if user.get() % 2 == 0 && below(3) > 0 {
                let to = 1 + below(head + 2);
                let (delivered_from, delivered_to) = (Seq(1.max(to - below(30))), Seq(to));
                moves.push(Move { conversation, user, delivered_from, delivered_to, read: Seq(below(to)) });
            }
        }
        let mut moved = store.advance(&moves).await.unwrap();
        let frontier = store.frontier(log).await.unwrap();
        let present = user(2 * (1 + below(PEOPLE / 2)));
        moved.extend(store.confirm_frontier(present, &frontier).await.unwrap());
        for each in moved {
            assert!(each.read <= each.delivered);
            let before = confirmed.insert((each.conversation, each.user), (each.delivered, each.read));
            assert!(before.is_none_or(|(delivered, read)| delivered <= each.delivered && read <= each.read));
        }
        let back = user(somebody());
        let missed = store.missed(back, &Since::Confirmed, &frontier, None, 500).await.unwrap();
        assert!(missed.iter().all(|each| each.from <= each.to && each.receipts.len() == 2));
        let gaps: Vec<_> = missed.iter().take(2).map(|each| (each.conversation, each.from)).collect();
        store.name_gaps(back, &gaps).await.unwrap();
        store.rejections(back, None, &frontier, 10).await.unwrap();
        tokio::time::sleep(Duration::from_millis(u64::try_from(below(20)).unwrap())).await;
    }
    confirmed
}

/// What each mail told: whom, of what, from where to where.
type Told = BTreeMap<i64, (UserId, ConversationId, i64, i64)>;

/// Tells by mail, until nothing is left to tell.
async fn tell(store: Store, log: LogNumber, until: Instant) -> Told {
    let mut told = Told::new();
    loop {
        let is_over = Instant::now() >= until;
        let all = store.frontier(log).await.unwrap();
        let policy = DuePolicy {
            settled: all.clone(),
            published: all,
            min_interval: Duration::ZERO,
            per_day: u32::MAX,
            max_age: HOUR,
            limit: 50,
        };
        let raised = store.raise_due(&policy).await.unwrap();
        assert_eq!(raised.skipped, []);
        let mails = store.lease_mails(HOUR, 5).await.unwrap();
        if is_over && raised.next_due.is_none() && mails.is_empty() {
            return told;
        }
        for mail in mails {
            let settlement = match store.letter(mail.id).await.unwrap() {
                None => Settlement::Withdrawn,
                Some(letter) => {
                    told.insert(mail.id, (mail.user, mail.conversation, letter.from.0, letter.to.0));
                    match below(20) {
                        0 => Settlement::Retry { after: Duration::ZERO, reason: "later".into() },
                        1 => Settlement::Untried { reason: "later".into() },
                        _ => Settlement::Sent,
                    }
                }
            };
            store.settle_mail(mail.id, &settlement).await.unwrap();
        }
    }
}

async fn the_books_are_right_after_owners_nodes_and_workers_were_at_it_together(store: Store) {
    let people: Vec<NewUser> = (1..=PEOPLE)
        .map(|id| NewUser {
            id: user(id),
            name: format!("user{id}"),
            email: Some(format!("user{id}@example.test")),
        })
        .collect();
    store.save(&people).await.unwrap();
    let mut owner = Owner::new(&store, PARTITIONS).await;
    owner.grace = GRACE;
    let (log, heads, began) = (owner.log, Heads::default(), Instant::now());
    let (until, other) = (began + length(), owner.other_hand());
    // Workers outlive the owners, whose last messages are due a grace later.
    let workers_until = until + Duration::from_secs(1);
    let owners = [
        tokio::spawn(own(owner, (0..PARTITIONS / 2).collect(), Arc::clone(&heads), until)),
        tokio::spawn(own(other, (PARTITIONS / 2..PARTITIONS).collect(), Arc::clone(&heads), until)),
    ];
    let node = || tokio::spawn(serve(store.clone(), log, Arc::clone(&heads), until));
    let nodes = [node(), node()];
    let worker = || tokio::spawn(tell(store.clone(), log, workers_until));
    let workers = [worker(), worker()];

    let mut books = Books::default();
    for owner in owners {
        let Books { stored, rejected, duplicates } = owner.await.unwrap();
        books.stored.extend(stored);
        books.rejected += rejected;
        books.duplicates += duplicates;
    }
    let seconds = began.elapsed().as_secs_f64();
    let mut confirmed = Vec::new();
    for node in nodes {
        confirmed.push(node.await.unwrap());
    }
    let mut told = Told::new();
    for worker in workers {
        // A mail that was tried again tells of what is left of it.
        told.extend(worker.await.unwrap());
    }
    let events: usize = books.stored.values().map(Vec::len).sum();
    println!(
        "{events} events ({:.0}/s), {} again, {} rejected, {} cursors, {} mails",
        events as f64 / seconds,
        books.duplicates,
        books.rejected,
        confirmed.iter().map(HashMap::len).sum::<usize>(),
        told.len()
    );
    assert!(events > 0 && !told.is_empty());
    check(&store, &books, &confirmed, told).await;
}

async fn check(store: &Store, books: &Books, confirmed: &[Confirmed], told: Told) {
    let mut told_to: BTreeMap<(UserId, ConversationId), Vec<(i64, i64)>> = BTreeMap::new();
    for (who, conversation, from, to) in told.into_values() {
        told_to.entry((who, conversation)).or_default().push((from, to));
    }
    for (&conversation, ids) in &books.stored {
        let events = history(store, conversation).await;
        assert_eq!(&events.iter().map(|event| event.id).collect::<Vec<_>>(), ids);
        assert!(events.iter().zip(1..).all(|(event, seq)| event.seq == Seq(seq)));
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len(), "stored once");
        assert_eq!(store.due_at(conversation).await.unwrap(), None, "nobody waits to be told");
        for receipt in store.receipts(conversation).await.unwrap() {
            assert!(receipt.read <= receipt.delivered && receipt.delivered.0 <= events.len() as i64);
            for node in confirmed {
                let known = node.get(&(conversation, receipt.user)).copied().unwrap_or_default();
                assert!(known.0 <= receipt.delivered && known.1 <= receipt.read, "cursors only grow");
            }
            let mut ranges = told_to.remove(&(receipt.user, conversation)).unwrap_or_default();
            ranges.sort_unstable();
            assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0), "nothing is told twice: {ranges:?}");
            for event in events.iter().filter(|event| event.from != receipt.user) {
                let is_told = ranges.iter().any(|(from, to)| (*from..=*to).contains(&event.seq.0));
                assert!(is_told || event.seq <= receipt.delivered, "{event:?} is told of or confirmed");
            }
        }
    }
    assert!(told_to.is_empty(), "nobody is told of what is not there");
    for person in (1..=PEOPLE).map(user) {
        let mine = |conversation: &&ConversationId| conversation.peer_of(person).is_some();
        let expected: Vec<ConversationId> = books.stored.keys().filter(mine).copied().collect();
        let mut listed = whole_list(store, person).await;
        listed.sort_unstable();
        assert_eq!(listed, expected, "each conversation stands in the list of {person} once");
    }
}

async fn whole_list(store: &Store, person: UserId) -> Vec<ConversationId> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = store.conversations(person, after, 7).await.unwrap();
        let places = after.into_iter().chain(page.rows.iter().map(|row| row.place));
        assert!(places.is_sorted_by(|one, next| one > next), "from the latest to the earliest");
        found.extend(page.rows.iter().map(|row| row.conversation));
        after = page.rows.last().map(|row| row.place);
        if !page.has_more {
            return found;
        }
    }
}
