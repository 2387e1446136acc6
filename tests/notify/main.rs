//! From stored messages to mails, over a real database: who is told, once, and of what.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

mod people;

use std::sync::Arc;
use std::time::Duration;

use chatd::domain::Timestamp;
use chatd::notify::ChannelError;
use chatd::storage::Notifications;
use people::{GRACE, House, Server, user};
use tokio::time::sleep;

/// Long enough for a mail that should not be.
const QUIET: Duration = Duration::from_millis(1_500);

/// Header lines and text of a captured mail, as a reader sees them.
fn parts(eml: &str) -> (Vec<String>, String) {
    let (header, body) = eml.split_once("\r\n\r\n").unwrap();
    (header.split("\r\n").map(str::to_owned).collect(), body.trim_end().replace("\r\n", "\n"))
}

#[tokio::test]
async fn who_is_away_gets_the_mail_that_the_protocol_describes() {
    let mut house = House::open().await;
    let mut worker = house.capturing();
    house.say(2, 3, "Hello").await;
    let (who, what) = worker.told().await;
    assert_eq!(who, user(3));
    let path = what.strip_prefix("user2's message, ").unwrap();
    let (header, text) = parts(&std::fs::read_to_string(path).unwrap());
    assert_eq!(
        text,
        "Hi user3,\n\nYou have a new message from user2:\n\n\"Hello\"\n\nOpen the chat to reply."
    );
    assert!(header.contains(&"Subject: New message from user2".to_owned()), "{header:?}");
    assert!(header.iter().any(|line| line.starts_with("To: ") && line.contains("<user3@example.test>")));
    assert!(header.iter().any(|line| line.starts_with("Message-ID: <") && line.ends_with("@example.test>")));
    sleep(QUIET).await;
    assert_eq!(house.captured().len(), 1);
    assert_eq!(house.store.next_work().await.unwrap(), None);
    worker.stop().await;
}

#[tokio::test]
async fn who_confirms_in_time_gets_none() {
    let mut house = House::open().await;
    let worker = house.capturing();
    house.say(2, 3, "Hello").await;
    house.confirm(3, 2, 1).await;
    sleep(QUIET).await;
    assert_eq!(house.captured().len(), 0);
    assert_eq!(house.store.next_work().await.unwrap(), None);
    worker.stop().await;
}

#[tokio::test]
async fn a_mail_has_the_last_words_and_none_of_what_was_deleted() {
    let mut house = House::open().await;
    let mut worker = house.capturing();
    let kept = house.say(2, 3, "Helo").await;
    let gone = house.say(2, 3, "Oops").await;
    house.edit(2, 3, kept, "Hello").await;
    house.edit(2, 3, gone, "Oops again").await;
    house.delete(2, 3, gone).await;
    assert_eq!(worker.told().await.0, user(3));
    let mails = house.captured();
    let (_, text) = parts(&mails[0]);
    assert_eq!(
        text,
        "Hi user3,\n\nYou have a new message from user2:\n\n\"Hello\"\n\nOpen the chat to reply."
    );
    // What happens to it afterwards is no news by mail.
    house.edit(2, 3, kept, "Hello!").await;
    house.delete(2, 3, kept).await;
    sleep(QUIET).await;
    assert_eq!(house.captured().len(), 1);
    worker.stop().await;
}

#[tokio::test]
async fn what_was_deleted_in_time_is_mailed_to_nobody() {
    let mut house = House::open().await;
    let worker = house.capturing();
    let gone = house.say(2, 3, "Oops").await;
    house.delete(2, 3, gone).await;
    sleep(QUIET).await;
    assert_eq!(house.captured().len(), 0);
    assert_eq!(house.store.next_work().await.unwrap(), None);
    worker.stop().await;
}

#[tokio::test]
async fn three_messages_are_one_mail_of_three() {
    let mut house = House::open().await;
    let mut worker = house.capturing();
    for text in ["One", "Two", "Three"] {
        house.say(2, 3, text).await;
    }
    assert!(worker.told().await.1.starts_with("3 messages of user2, "));
    assert_eq!(
        parts(&house.captured()[0]).1,
        "Hi user3,\n\nYou have 3 new messages from user2:\n\n\"One\"\n\n\"Two\"\n\n\"Three\"\n\n\
         Open the chat to reply."
    );
    // What comes later begins anew.
    house.say(2, 3, "Four").await;
    assert!(worker.told().await.1.starts_with("user2's message, "));
    assert_eq!(house.captured().len(), 2);
    worker.stop().await;
}

#[tokio::test]
async fn a_reason_is_told_when_there_is_no_address() {
    let mut house = House::open().await;
    let mut worker = house.capturing();
    house.say(2, 4, "Hello").await;
    assert_eq!(worker.told().await, (user(4), "not sent: no address".to_owned()));
    assert_eq!(house.captured().len(), 0);
    worker.stop().await;
}

#[tokio::test]
async fn nobody_is_mailed_before_devices_had_a_grace_from_the_publication() {
    let mut house = House::open().await;
    let mut worker = house.capturing();
    house.store_only(2, 3, "Hello").await;
    sleep(GRACE * 3).await;
    assert_eq!(house.captured().len(), 0, "it was never published");
    let published = Timestamp::now();
    house.publish();
    worker.told().await;
    assert!(Timestamp::now().since(published) >= GRACE);
    worker.stop().await;
}

#[tokio::test]
async fn a_mail_that_was_put_off_comes_with_the_same_message_id() {
    let mut house = House::open().await;
    let server = Server::default();
    server.answer(ChannelError::temporary("421 4.3.2"));
    let mut worker = house.work(Arc::new(server.clone()));
    house.say(2, 3, "Hello").await;
    let told = worker.told().await.1;
    assert!(told.starts_with("put off ") && told.ends_with(": 421 4.3.2"), "{told}");
    assert_eq!(worker.told().await.1, "user2's message, by server");
    let tried = server.tried();
    assert_eq!((tried.len(), server.taken().len()), (2, 1));
    assert_eq!(tried[0], tried[1]);
    worker.stop().await;
}

#[tokio::test]
async fn a_refused_mail_is_not_tried_again() {
    let mut house = House::open().await;
    let server = Server::default();
    server.answer(ChannelError::permanent("550 5.1.1"));
    let mut worker = house.work(Arc::new(server.clone()));
    house.say(2, 3, "Hello").await;
    assert_eq!(worker.told().await.1, "not sent: 550 5.1.1");
    sleep(QUIET).await;
    assert_eq!(house.store.next_work().await.unwrap(), None);
    assert_eq!(server.taken().len(), 0);
    worker.stop().await;
}

#[tokio::test]
async fn what_is_confirmed_while_the_way_opens_is_withdrawn() {
    let mut house = House::open().await;
    let server = Server::default();
    server.connecting(GRACE * 2);
    let mut worker = house.work(Arc::new(server.clone()));
    house.say(2, 3, "Hello").await;
    while server.connects() == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    house.confirm(3, 2, 1).await;
    assert_eq!(worker.told().await.1, "withdrawn: confirmed meanwhile");
    assert_eq!(server.taken().len(), 0);
    assert_eq!(house.store.next_work().await.unwrap(), None);
    worker.stop().await;
}

#[tokio::test]
async fn mails_wait_for_a_server_that_is_down() {
    let mut house = House::open().await;
    let server = Server::default();
    server.is_down(true);
    let mut worker = house.work(Arc::new(server.clone()));
    for to in [2, 3] {
        house.say(5 - to, to, "Hello").await;
        house.say(7, to, "Hello").await;
    }
    for _ in 0..3 {
        assert!(worker.told().await.1.contains("connect: connection refused"));
    }
    server.is_down(false);
    while server.taken().len() < 4 {
        worker.told().await;
    }
    sleep(QUIET).await;
    assert_eq!(server.taken().len(), 4);
    assert_eq!(house.store.next_work().await.unwrap(), None);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_on_one_storage_send_each_mail_once() {
    let mut house = House::open().await;
    let server = Server::default();
    server.takes(Duration::from_millis(5));
    let workers = [house.work(Arc::new(server.clone())), house.work(Arc::new(server.clone()))];
    for from in 10..40 {
        house.say(from, 3, "Hello").await;
    }
    sleep(GRACE).await;
    while house.store.next_work().await.unwrap().is_some() {
        sleep(Duration::from_millis(20)).await;
    }
    let mut ids: Vec<String> = server.taken().into_iter().map(|mail| mail.message_id).collect();
    assert_eq!(ids.len(), 30);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 30);
    for worker in workers {
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_restart_in_between_sends_once_and_gives_a_new_grace() {
    let mut house = House::open().await;
    let first = house.capturing();
    house.say(2, 3, "Hello").await;
    house.say(3, 2, "Hello").await;
    first.kill().await;
    sleep(GRACE).await;
    let mut second = house.capturing();
    // user2 came back and confirmed in time.
    house.confirm(2, 3, 2).await;
    assert_eq!(second.told().await.0, user(3));
    second.stop().await;
    let third = house.capturing();
    sleep(QUIET).await;
    assert_eq!(house.captured().len(), 1);
    third.stop().await;
}

#[tokio::test]
async fn a_mail_whose_worker_died_comes_again_when_its_lease_ends_with_the_same_message_id() {
    let mut house = House::open().await;
    house.say(2, 3, "Hello").await;
    let server = Server::default();
    let mut worker = house.work(Arc::new(server.clone()));
    server.answer(ChannelError::temporary("421 4.3.2"));
    worker.told().await;
    worker.stop().await;
    sleep(GRACE * 2).await;
    // A worker that dies right after it took the mail.
    let leased = house.store.lease_mails(GRACE, 1).await.unwrap().remove(0);
    let mut worker = house.work(Arc::new(server.clone()));
    worker.told().await;
    assert_eq!(server.taken()[0].message_id, format!("{}@example.test", leased.message_id));
    assert_eq!(server.taken()[0].date, leased.created_at);
    worker.stop().await;
}
