//! `Notifications`: due, mail, letter, settled.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::time::Duration;

use chatd::domain::{Seq, Timestamp};
use chatd::storage::{DuePolicy, LeasedMail, Letter, Move, NewUser, Raised, Settlement};

use crate::storage_support::{Owner, Store, delete, dm, edit, id_of, message, on_each_storage, until, user};

on_each_storage!(
    who_is_away_gets_one_mail_with_everything_unconfirmed,
    nobody_is_told_of_own_messages,
    what_was_confirmed_in_time_is_not_told,
    nothing_is_told_before_its_grace_nor_before_it_is_published,
    what_was_published_lately_waits_and_is_told_with_what_is_due,
    what_comes_after_a_mail_begins_anew,
    a_later_message_has_a_grace_of_its_own,
    within_the_interval_a_member_waits,
    who_waits_for_the_interval_does_not_hold_up_the_other,
    more_than_the_daily_number_is_recorded_as_capped,
    who_has_no_address_is_recorded_and_never_mailed,
    what_is_long_overdue_is_recorded_as_too_old,
    one_call_raises_no_more_than_its_limit,
    the_next_work_is_the_nearest,
    an_edit_raises_no_mail_and_neither_does_what_was_deleted,
);

pub const HOUR: Duration = Duration::from_secs(3_600);

/// An owner whose messages are due at once, and two people with addresses.
pub async fn begin(store: &Store) -> Owner {
    let mut owner = Owner::new(store, 6).await;
    owner.grace = Duration::ZERO;
    let person = |id: i64| NewUser {
        id: user(id),
        name: format!("user{id}"),
        email: Some(format!("user{id}@example.test")),
    };
    store.save(&[person(2), person(3)]).await.unwrap();
    owner
}

pub async fn policy(owner: &Owner) -> DuePolicy {
    DuePolicy {
        settled: owner.frontier().await,
        published: owner.frontier().await,
        min_interval: Duration::ZERO,
        per_day: 100,
        max_age: HOUR,
        limit: 100,
    }
}

pub async fn raise(owner: &Owner) -> Raised {
    let policy = policy(owner).await;
    owner.store.raise_due(&policy).await.unwrap()
}

pub async fn lease(store: &Store) -> Vec<LeasedMail> {
    store.lease_mails(HOUR, 100).await.unwrap()
}

pub async fn confirm(store: &Store, a: i64, b: i64, who: i64, to: i64) {
    let each = Move {
        conversation: dm(a, b),
        user: user(who),
        delivered_from: Seq(1),
        delivered_to: Seq(to),
        read: Seq(0),
    };
    assert_eq!(store.advance(&[each]).await.unwrap().len(), 1);
}

pub fn mails(mails: u32) -> Raised {
    Raised { mails, ..Raised::default() }
}

async fn who_is_away_gets_one_mail_with_everything_unconfirmed(store: Store) {
    let mut owner = begin(&store).await;
    assert_eq!(raise(&owner).await, Raised::default());
    for text in ["Hello", "Are you there?", "Well."] {
        owner.say(2, 3, text).await;
    }
    assert!(store.due_at(dm(2, 3)).await.unwrap().unwrap() <= Timestamp::now());
    assert_eq!(raise(&owner).await, mails(1));
    assert_eq!(store.due_at(dm(2, 3)).await.unwrap(), None);
    let leased = lease(&store).await;
    assert_eq!(leased.len(), 1);
    assert_eq!((leased[0].conversation, leased[0].user, leased[0].attempts), (dm(2, 3), user(3), 0));
    let letter = Letter {
        recipient_name: "user3".into(),
        email: "user3@example.test".into(),
        sender_name: "user2".into(),
        count: 3,
        contents: vec!["Hello".into(), "Are you there?".into(), "Well.".into()],
        from: Seq(1),
        to: Seq(3),
    };
    assert_eq!(store.letter(leased[0].id).await.unwrap(), Some(letter));
    store.settle_mail(leased[0].id, &Settlement::Sent).await.unwrap();
    assert_eq!(store.next_work().await.unwrap(), None);
    assert_eq!(raise(&owner).await, Raised::default(), "told once");
}

async fn an_edit_raises_no_mail_and_neither_does_what_was_deleted(store: Store) {
    let mut owner = begin(&store).await;
    let (a, b) = (id_of(2, 3, "a"), id_of(2, 3, "b"));
    owner.apply_records(vec![message(2, 3, "a", "read", 1)]).await;
    confirm(&store, 2, 3, 3, 1).await;
    owner.apply_records(vec![edit(2, 3, "e1", a, "changed"), message(2, 3, "b", "gone", 1)]).await;
    owner.apply_records(vec![edit(2, 3, "e2", b, "still gone"), delete(2, 3, "d", b)]).await;
    assert_eq!(raise(&owner).await, Raised::default());
    assert_eq!(store.due_at(dm(2, 3)).await.unwrap(), None);
    owner.apply_records(vec![message(2, 3, "c", "new", 1)]).await;
    assert_eq!(raise(&owner).await, mails(1));
    let letter = store.letter(lease(&store).await[0].id).await.unwrap().unwrap();
    assert_eq!((letter.count, letter.contents, letter.from), (1, vec!["new".to_owned()], Seq(6)));
}

async fn nobody_is_told_of_own_messages(store: Store) {
    let mut owner = begin(&store).await;
    owner.say(2, 3, "Hello").await;
    confirm(&store, 2, 3, 3, 1).await;
    // 2 has confirmed nothing, and nobody wrote to them.
    assert_eq!(raise(&owner).await, Raised::default());
    assert_eq!(store.due_at(dm(2, 3)).await.unwrap(), None);
}

async fn what_was_confirmed_in_time_is_not_told(store: Store) {
    let mut owner = begin(&store).await;
    owner.say(2, 3, "Hello").await;
    owner.say(2, 3, "again").await;
    confirm(&store, 2, 3, 3, 2).await;
    assert_eq!(raise(&owner).await, Raised::default());
    owner.say(2, 3, "and this").await;
    assert_eq!(raise(&owner).await, mails(1));
    let letter = store.letter(lease(&store).await[0].id).await.unwrap().unwrap();
    assert_eq!((letter.count, letter.from, letter.contents), (1, Seq(3), vec!["and this".to_owned()]));
}

async fn nothing_is_told_before_its_grace_nor_before_it_is_published(store: Store) {
    let mut owner = begin(&store).await;
    owner.grace = HOUR;
    owner.say(2, 3, "early").await;
    let due = store.due_at(dm(2, 3)).await.unwrap().unwrap();
    assert!(due > Timestamp::now().plus(HOUR / 2) && due <= Timestamp::now().plus(HOUR));
    assert_eq!(raise(&owner).await, Raised { next_due: Some(due), ..Raised::default() });
    owner.grace = Duration::ZERO;
    owner.say(3, 2, "due, not published").await;
    owner.say(2, 1_001, "due, not published").await;
    let mut unpublished = policy(&owner).await;
    unpublished.published = owner.nothing();
    let raised = store.raise_due(&unpublished).await.unwrap();
    assert_eq!((raised.mails, raised.skipped.len()), (0, 0));
    let again = store.due_at(dm(2, 1_001)).await.unwrap().unwrap();
    assert_eq!(raised.next_due, Some(again));
    assert!(again > Timestamp::now(), "it is looked at again, and not at once");
    until(again).await;
    let raised = raise(&owner).await;
    assert_eq!(raised.skipped, [(dm(2, 1_001), user(1_001), "no_address")], "1001 is nobody with an address");
}

async fn what_was_published_lately_waits_and_is_told_with_what_is_due(store: Store) {
    let mut owner = begin(&store).await;
    let before = owner.frontier().await;
    owner.say(2, 3, "one").await;
    let lately = DuePolicy { settled: before, ..policy(&owner).await };
    let asked = Timestamp::now();
    let raised = store.raise_due(&lately).await.unwrap();
    let again = raised.next_due.expect("it is looked at again");
    assert_eq!((raised.mails, again > asked), (0, true));
    let after_one = owner.frontier().await;
    owner.say(2, 3, "two").await;
    until(again).await;
    let due = DuePolicy { settled: after_one, ..policy(&owner).await };
    assert_eq!(store.raise_due(&due).await.unwrap(), mails(1));
    let letter = store.letter(lease(&store).await[0].id).await.unwrap().unwrap();
    assert_eq!(letter.contents, ["one", "two"], "everything published by then is in the mail");
}

async fn what_comes_after_a_mail_begins_anew(store: Store) {
    let mut owner = begin(&store).await;
    owner.say(2, 3, "one").await;
    assert_eq!(raise(&owner).await, mails(1));
    owner.grace = HOUR;
    owner.say(2, 3, "two").await;
    let due = store.due_at(dm(2, 3)).await.unwrap();
    assert!(due.unwrap() > Timestamp::now(), "a grace of its own");
    assert_eq!(raise(&owner).await, Raised { next_due: due, ..Raised::default() });
    let letter = store.letter(lease(&store).await[0].id).await.unwrap().unwrap();
    assert_eq!((letter.count, letter.to), (1, Seq(1)), "the first mail says what it was raised for");
}

async fn a_later_message_has_a_grace_of_its_own(store: Store) {
    let mut owner = begin(&store).await;
    owner.grace = Duration::from_secs(1);
    owner.say(2, 3, "first").await;
    let due = store.due_at(dm(2, 3)).await.unwrap().unwrap();
    until(due.minus(Duration::from_millis(300))).await;
    confirm(&store, 2, 3, 3, 1).await;
    owner.say(2, 3, "second").await;
    assert_eq!(store.due_at(dm(2, 3)).await.unwrap(), Some(due), "one row a conversation");
    until(due).await;
    let raised = raise(&owner).await;
    let later = raised.next_due.expect("the second message is waited for");
    assert_eq!((raised.mails, later > due), (0, true));
    until(later).await;
    assert_eq!(raise(&owner).await, mails(1));
}

async fn within_the_interval_a_member_waits(store: Store) {
    let mut owner = begin(&store).await;
    let interval = Duration::from_secs(1);
    let raise = async |owner: &Owner| {
        let policy = DuePolicy { min_interval: interval, ..policy(owner).await };
        owner.store.raise_due(&policy).await.unwrap()
    };
    owner.say(2, 3, "one").await;
    let first = Timestamp::now();
    assert_eq!(raise(&owner).await, mails(1));
    owner.say(2, 3, "two").await;
    owner.say(3, 2, "three").await;
    let raised = raise(&owner).await;
    assert_eq!(raised.mails, 1, "2 has had no mail and does not wait for 3");
    let next = raised.next_due.expect("3 waits");
    assert!(next >= first.plus(interval));
    until(next).await;
    // Nothing else wakes the conversation up: its row was kept.
    assert_eq!(raise(&owner).await, mails(1));
    let letters = lease(&store).await;
    let last = store.letter(letters.last().unwrap().id).await.unwrap().unwrap();
    assert_eq!((last.recipient_name.as_str(), last.contents), ("user3", vec!["two".to_owned()]));
}

async fn who_waits_for_the_interval_does_not_hold_up_the_other(store: Store) {
    let mut owner = begin(&store).await;
    let hourly = DuePolicy { min_interval: HOUR, ..policy(&owner).await };
    owner.say(2, 3, "one").await;
    let raise = async |owner: &Owner| {
        let all = owner.frontier().await;
        let policy = DuePolicy { settled: all.clone(), published: all, ..hourly.clone() };
        owner.store.raise_due(&policy).await.unwrap()
    };
    assert_eq!(raise(&owner).await.mails, 1);
    owner.say(2, 3, "two").await;
    let raised = raise(&owner).await;
    assert!(raised.mails == 0 && raised.next_due.unwrap() > Timestamp::now().plus(HOUR / 2), "3 waits");
    owner.say(3, 2, "three").await;
    assert!(store.due_at(dm(2, 3)).await.unwrap().unwrap() <= Timestamp::now());
    let raised = raise(&owner).await;
    assert_eq!(
        (raised.mails, raised.next_due.is_some()),
        (1, true),
        "2 does not wait for 3, who still waits"
    );
    let mails = lease(&store).await;
    assert_eq!(mails.iter().map(|mail| mail.user).collect::<Vec<_>>(), [user(3), user(2)]);
}

async fn more_than_the_daily_number_is_recorded_as_capped(store: Store) {
    let mut owner = begin(&store).await;
    let raise = async |owner: &Owner| {
        owner.store.raise_due(&DuePolicy { per_day: 1, ..policy(owner).await }).await.unwrap()
    };
    owner.say(2, 3, "one").await;
    assert_eq!(raise(&owner).await, mails(1));
    owner.say(4, 3, "another conversation").await;
    let capped = Raised { skipped: vec![(dm(3, 4), user(3), "capped")], ..Raised::default() };
    assert_eq!(raise(&owner).await, capped);
    assert_eq!(raise(&owner).await, Raised::default(), "recorded once");
    owner.say(3, 2, "2 has had none").await;
    assert_eq!(raise(&owner).await, mails(1));
}

async fn who_has_no_address_is_recorded_and_never_mailed(store: Store) {
    let mut owner = begin(&store).await;
    store.save(&[NewUser { id: user(4), name: "no address".into(), email: None }]).await.unwrap();
    owner.say(2, 4, "hello").await;
    let raised = raise(&owner).await;
    assert_eq!(raised.skipped, [(dm(2, 4), user(4), "no_address")]);
    assert_eq!(lease(&store).await, []);
    assert_eq!(store.next_work().await.unwrap(), None);
}

async fn what_is_long_overdue_is_recorded_as_too_old(store: Store) {
    let mut owner = begin(&store).await;
    owner.say(2, 3, "hello").await;
    until(Timestamp::now().plus(Duration::from_millis(2))).await;
    let policy = DuePolicy { max_age: Duration::from_millis(1), ..policy(&owner).await };
    let raised = store.raise_due(&policy).await.unwrap();
    assert_eq!((raised.mails, raised.skipped), (0, vec![(dm(2, 3), user(3), "too_old")]));
    assert_eq!(raise(&owner).await, Raised::default());
}

async fn one_call_raises_no_more_than_its_limit(store: Store) {
    let mut owner = begin(&store).await;
    for from in 4..9 {
        owner.say(from, 3, "hello").await;
    }
    let policy = DuePolicy { limit: 2, ..policy(&owner).await };
    for expected in [2, 2, 1] {
        let raised = store.raise_due(&policy).await.unwrap();
        assert_eq!(raised.mails, expected);
        assert_eq!(raised.next_due.is_some(), expected == 2, "it says that there is more");
    }
}

async fn the_next_work_is_the_nearest(store: Store) {
    let mut owner = begin(&store).await;
    assert_eq!(store.next_work().await.unwrap(), None);
    owner.grace = HOUR;
    owner.say(2, 4, "later").await;
    let due = store.due_at(dm(2, 4)).await.unwrap();
    assert_eq!(store.next_work().await.unwrap(), due);
    owner.grace = Duration::ZERO;
    owner.say(2, 3, "now").await;
    assert!(store.next_work().await.unwrap().unwrap() <= Timestamp::now());
    raise(&owner).await;
    assert!(store.next_work().await.unwrap().unwrap() <= Timestamp::now(), "a mail waits");
    store.lease_mails(HOUR / 2, 10).await.unwrap();
    let lease_end = store.next_work().await.unwrap().unwrap();
    assert!(lease_end > Timestamp::now() && lease_end < due.unwrap(), "a worker may have died");
}
