//! `Notifications`: what becomes of a mail that was raised: leased, read, settled.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::time::Duration;

use chatd::domain::{Record, Seq, Timestamp};
use chatd::storage::Settlement;

use crate::storage_notifications::{HOUR, begin, confirm, lease, mails, raise};
use crate::storage_support::{Owner, Store, delete, dm, edit, id_of, message, on_each_storage, user};

on_each_storage!(
    a_leased_mail_belongs_to_one_worker_until_the_lease_ends,
    a_failed_try_comes_again_later_with_the_same_message_id,
    an_untried_mail_keeps_its_place_and_its_count,
    a_settled_mail_stays_settled,
    a_letter_leaves_out_what_was_confirmed_meanwhile,
    a_letter_quotes_twenty_and_counts_all,
    a_letter_has_the_last_words_and_leaves_out_what_was_deleted,
    settled_mails_are_pruned,
);

async fn a_leased_mail_belongs_to_one_worker_until_the_lease_ends(store: Store) {
    let mut owner = begin(&store).await;
    owner.say(2, 3, "hello").await;
    owner.say(3, 2, "hello").await;
    assert_eq!(raise(&owner).await, mails(2));
    let one = store.lease_mails(HOUR, 1).await.unwrap();
    let other = store.lease_mails(Duration::ZERO, 10).await.unwrap();
    assert_eq!((one.len(), other.len()), (1, 1));
    assert_ne!(one[0].id, other[0].id);
    let again = store.lease_mails(HOUR, 10).await.unwrap();
    assert_eq!(again.iter().map(|mail| (mail.id, mail.attempts)).collect::<Vec<_>>(), [(other[0].id, 1)]);
    assert_eq!(store.lease_mails(HOUR, 10).await.unwrap(), []);
}

async fn a_failed_try_comes_again_later_with_the_same_message_id(store: Store) {
    let mut owner = begin(&store).await;
    owner.say(2, 3, "hello").await;
    raise(&owner).await;
    let first = lease(&store).await.remove(0);
    let later = Settlement::Retry { after: Duration::ZERO, reason: "421 try later".into() };
    store.settle_mail(first.id, &later).await.unwrap();
    let second = lease(&store).await.remove(0);
    assert_eq!((second.id, second.message_id, second.attempts), (first.id, first.message_id, 1));
    assert_eq!(second.created_at, first.created_at);
    let later = Settlement::Retry { after: HOUR, reason: "421 try later".into() };
    store.settle_mail(first.id, &later).await.unwrap();
    assert_eq!(lease(&store).await, []);
    assert!(store.next_work().await.unwrap().unwrap() > Timestamp::now().plus(HOUR / 2));
    assert!(store.letter(first.id).await.unwrap().is_some());
}

async fn an_untried_mail_keeps_its_place_and_its_count(store: Store) {
    let mut owner = begin(&store).await;
    owner.say(2, 3, "hello").await;
    raise(&owner).await;
    owner.say(3, 2, "hello").await;
    raise(&owner).await;
    let mut first = None;
    for _ in 0..3 {
        let mail = store.lease_mails(HOUR, 1).await.unwrap().remove(0);
        assert_eq!((*first.get_or_insert(mail.id), 0), (mail.id, mail.attempts));
        store.settle_mail(mail.id, &Settlement::Untried { reason: "no way".into() }).await.unwrap();
    }
}

async fn a_settled_mail_stays_settled(store: Store) {
    let mut owner = begin(&store).await;
    let failed = || Settlement::Failed { reason: "550 no such mailbox".into() };
    for settlement in [Settlement::Sent, failed(), Settlement::Withdrawn] {
        owner.say(2, 3, "hello").await;
        raise(&owner).await;
        let mail = lease(&store).await.remove(0);
        store.settle_mail(mail.id, &settlement).await.unwrap();
        let late = Settlement::Retry { after: Duration::ZERO, reason: "a worker whose lease ended".into() };
        store.settle_mail(mail.id, &late).await.unwrap();
        assert_eq!(lease(&store).await, [], "{settlement:?}");
        assert_eq!(store.letter(mail.id).await.unwrap(), None);
        assert_eq!(store.next_work().await.unwrap(), None);
    }
}

async fn a_letter_leaves_out_what_was_confirmed_meanwhile(store: Store) {
    let mut owner = begin(&store).await;
    for text in ["one", "two", "three"] {
        owner.say(2, 3, text).await;
    }
    owner.say(3, 2, "own").await;
    assert_eq!(raise(&owner).await, mails(2));
    owner.say(2, 3, "after the mail").await;
    let mail = lease(&store).await.into_iter().find(|mail| mail.user == user(3)).unwrap();
    confirm(&store, 2, 3, 3, 2).await;
    let letter = store.letter(mail.id).await.unwrap().unwrap();
    assert_eq!((letter.count, letter.from, letter.to), (1, Seq(3), Seq(3)));
    assert_eq!(letter.contents, ["three"]);
    confirm(&store, 2, 3, 3, 3).await;
    assert_eq!(store.letter(mail.id).await.unwrap(), None);
    assert_eq!(store.letter(mail.id + 1_000).await.unwrap(), None, "no such mail");
}

async fn a_letter_quotes_twenty_and_counts_all(store: Store) {
    let mut owner = begin(&store).await;
    for n in 1..=25 {
        owner.say(4, 3, &format!("text {n}")).await;
    }
    raise(&owner).await;
    let letter = store.letter(lease(&store).await[0].id).await.unwrap().unwrap();
    assert_eq!((letter.count, letter.contents.len(), letter.to), (25, 20, Seq(25)));
    assert_eq!((letter.contents[0].as_str(), letter.contents[19].as_str()), ("text 1", "text 20"));
    assert_eq!(letter.sender_name, "user4", "somebody without a row has a name too");
}

async fn a_letter_has_the_last_words_and_leaves_out_what_was_deleted(store: Store) {
    let mut owner = begin(&store).await;
    for client_id in ["a", "b", "c"] {
        owner.apply_records(vec![message(2, 3, client_id, client_id, 1)]).await;
    }
    assert_eq!(raise(&owner).await, mails(1));
    let mail = lease(&store).await.remove(0);
    let change = async |owner: &mut Owner, record: Record| {
        owner.apply_records(vec![record]).await;
        store.letter(mail.id).await.unwrap().map(|letter| (letter.count, letter.contents, letter.from.0))
    };
    let told = |texts: &[&str], from: i64| {
        Some((texts.len() as u32, texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>(), from))
    };
    let ids = ["a", "b", "c"].map(|client_id| id_of(2, 3, client_id));
    assert_eq!(change(&mut owner, edit(2, 3, "e1", ids[1], "x")).await, told(&["a", "x", "c"], 1));
    assert_eq!(change(&mut owner, delete(2, 3, "d1", ids[0])).await, told(&["x", "c"], 2));
    assert_eq!(change(&mut owner, edit(2, 3, "e2", ids[1], "y")).await, told(&["y", "c"], 2));
    assert_eq!(change(&mut owner, delete(2, 3, "d2", ids[2])).await, told(&["y"], 2));
    assert_eq!(change(&mut owner, delete(2, 3, "d3", ids[1])).await, None, "nothing is left to tell");
    assert_eq!(raise(&owner).await, mails(0), "nor does any of that raise another");
    assert_eq!(store.due_at(dm(2, 3)).await.unwrap(), None);
}

async fn settled_mails_are_pruned(store: Store) {
    let mut owner = begin(&store).await;
    owner.say(2, 3, "one").await;
    raise(&owner).await;
    let mail = lease(&store).await.remove(0);
    let later = Timestamp::now().plus(HOUR);
    assert_eq!(store.prune(later).await.unwrap(), 0, "it is not settled");
    store.settle_mail(mail.id, &Settlement::Sent).await.unwrap();
    assert_eq!(store.prune(Timestamp::now().minus(HOUR)).await.unwrap(), 0);
    assert_eq!(store.prune(later).await.unwrap(), 1);
}
