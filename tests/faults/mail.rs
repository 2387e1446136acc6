//! Mail from end to end: one to somebody who is away, none to somebody who is there, and still one when the
//! process dies in between.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use chatd::cli::bench::client::{Client, Incoming};
use serde_json::Value;

use crate::history;
use crate::mail_server::MailServer;
use crate::process::{free_port, run};
use crate::support::{self, Log, Server, Setup};

/// How long somebody has to confirm.
const GRACE: Duration = Duration::from_millis(500);
/// A mail comes so long after that; a debug build on a busy machine may take longer.
const AFTER_GRACE: Duration = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 3 });

fn setup(data: &Path) -> Setup {
    Setup::new(data).env("CHATD_NOTIFY__GRACE", "500ms")
}

/// The mails that were captured, by whom they are for.
fn mails(data: &Path) -> BTreeMap<String, Vec<String>> {
    let mut mails: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let Ok(entries) = std::fs::read_dir(data.join("mail")) else { return mails };
    for entry in entries.map(Result::unwrap) {
        if entry.path().extension().is_some_and(|extension| extension == "eml") {
            let text = std::fs::read_to_string(entry.path()).unwrap().replace("\r\n", "\n");
            let to = text.lines().find_map(|line| line.strip_prefix("To: ")).unwrap();
            let address = to.rsplit(['<', ' ']).next().unwrap().trim_end_matches('>');
            mails.entry(address.to_owned()).or_default().push(text);
        }
    }
    mails
}

async fn until(what: &str, within: Duration, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + within;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what} did not come within {within:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn send(server: &Server, from: i64, to: i64, content: &str) {
    assert_eq!(history::send(&server.address, &support::token(from), to, content).await, "accepted");
}

/// Adds somebody with an address.
fn add(setup: &Setup, id: i64) {
    let (id, name, email) = (id.to_string(), format!("user{id}"), format!("user{id}@example.test"));
    let added = run(setup, &["user", "add", "--id", &id, "--name", &name, "--email", &email]);
    assert_eq!(added.code, Some(0), "{added:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_who_is_away_gets_one_mail_and_somebody_who_is_there_none() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let server = tokio::task::block_in_place(|| {
        let server = setup(data).start();
        (2..=4).for_each(|id| add(&setup(data), id));
        server
    });
    // User 4 is there: the client answers pings, as every client does.
    let mut there = Client::connect(&server.ws(&support::token(4)), &[]).await.unwrap();
    while there.recv_json().await.unwrap()["type"] != "resumed" {}
    send(&server, 2, 4, "Are you there?").await;
    let listening = tokio::spawn(async move {
        let mut got = Vec::new();
        while let Ok(incoming) = there.recv().await {
            match incoming {
                Incoming::Text(text) => got.push(serde_json::from_str::<Value>(&text).unwrap()),
                Incoming::Close(..) => break,
                _ => {}
            }
        }
        got
    });
    let sent = Instant::now();
    send(&server, 2, 3, "Hello").await;
    until("a mail", GRACE + AFTER_GRACE, || mails(data).contains_key("user3@example.test")).await;
    println!("  a mail {:?} after its message, {GRACE:?} of it grace", sent.elapsed());
    let mail = mails(data).remove("user3@example.test").unwrap().remove(0);
    assert!(mail.contains("\nSubject: New message from user2\n"), "{mail}");
    let text = "Hi user3,\n\nYou have a new message from user2:\n\n\"Hello\"\n\nOpen the chat to reply.";
    let body = mail.split_once("\n\n").unwrap().1;
    assert!(body.starts_with(text), "{mail}");

    // What comes later begins anew, and several are one.
    send(&server, 2, 3, "Still there?").await;
    send(&server, 2, 3, "Good night").await;
    let of_3 = || mails(data).get("user3@example.test").map_or(0, Vec::len);
    until("a second mail", GRACE + AFTER_GRACE, || of_3() == 2).await;
    let second = mails(data)["user3@example.test"]
        .iter()
        .any(|mail| mail.contains("You have 2 new messages from user2:") && mail.contains("\"Good night\""));
    assert!(second, "{:?}", mails(data));
    // By now the time of everything before has come.
    assert_eq!(mails(data).keys().collect::<Vec<_>>(), ["user3@example.test"]);
    drop(server);
    let got = listening.await.unwrap();
    assert_eq!(got.iter().filter(|frame| frame["type"] == "message").count(), 1, "{got:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_comes_once_however_the_process_dies() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let port = free_port().to_string();
    let log = Log::default();
    let start = || tokio::task::block_in_place(|| setup(data).env("PORT", &port).log_to(&log).start());
    let mut server = start();
    tokio::task::block_in_place(|| (2..=10).for_each(|id| add(&setup(data), id)));
    // Before it is due, about when it is due, and about when it is sent.
    for (to, after) in (3..).zip([100, 450, 490, 500, 510, 530, 560, 620]) {
        send(&server, 2, to, "Hello").await;
        // The moment of the fault is what is varied.
        tokio::time::sleep(Duration::from_millis(after)).await;
        server.kill();
        server = start();
    }
    let addresses: Vec<String> = (3..=10).map(|id| format!("user{id}@example.test")).collect();
    until("all mails", GRACE + AFTER_GRACE, || addresses.iter().all(|to| mails(data).contains_key(to))).await;
    // One more message, whose mail can only come after all that were due before.
    send(&server, 3, 2, "Thank you").await;
    until("the last mail", GRACE + AFTER_GRACE, || mails(data).contains_key("user2@example.test")).await;
    for (to, mails) in mails(data) {
        assert_eq!(mails.len(), 1, "{to}: {mails:#?}");
        assert!(to == "user2@example.test" || addresses.contains(&to), "{to}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_in_hand_when_the_process_dies_is_sent_again_under_the_same_name() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let smtp = MailServer::silent().await;
    let url = format!("smtp://127.0.0.1:{}", smtp.port);
    let start = || tokio::task::block_in_place(|| setup(data).env("SMTP_URL", &url).start());
    let server = start();
    send(&server, 1001, 1002, "Hello").await;
    until("a mail", GRACE + AFTER_GRACE, || smtp.mails().len() == 1).await;
    // The mail server has it, and nobody here knows.
    server.kill();
    smtp.answer();
    let server = start();
    until("the mail again", GRACE + AFTER_GRACE, || smtp.mails().len() == 2).await;
    send(&server, 1002, 1001, "Thank you").await;
    until("the last mail", GRACE + AFTER_GRACE, || smtp.mails().len() > 2).await;
    let names: Vec<String> = smtp.mails().iter().map(|mail| message_id(mail).to_owned()).collect();
    assert!(names.len() == 3 && names[0] == names[1] && names[1] != names[2], "{names:?}");
}

fn message_id(mail: &str) -> &str {
    mail.lines().find_map(|line| line.strip_prefix("Message-ID: ")).unwrap()
}
