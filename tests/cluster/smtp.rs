//! A mail server that refuses for now, refuses for good, or says nothing any more, with two consumers that share
//! the mails.

use std::time::{Duration, Instant};

use crate::cluster::{Cluster, GRACE};
use crate::history;
use crate::mail_server::{MailServer, Reply};
use crate::support;

/// A mail is tried again after 30 s, and one whose server says nothing is given up after 30 s (and tried again 30
/// s later); the rest is the lease, and a debug build on a busy machine.
const RETRIED_WITHIN: Duration = Duration::from_secs(100);

fn headers<'a>(mails: &'a [String], name: &str) -> Vec<&'a str> {
    let header = |mail: &'a String| mail.lines().find_map(|line| line.strip_prefix(name));
    mails.iter().filter_map(header).map(str::trim).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_mail_comes_once_however_the_mail_server_answers() {
    let is_for = |receiver: &str, user: i64| receiver.starts_with(&format!("user{user}@"));
    let server = MailServer::with(move |step, receiver, nth| match (step, nth) {
        ("RCPT", 0) if is_for(receiver, 901) => Some(Reply::Say("450 4.2.1 come again later")),
        ("RCPT", _) if is_for(receiver, 902) => Some(Reply::Say("550 5.1.1 nobody of that name")),
        (".", 0) if is_for(receiver, 903) => Some(Reply::Say("451 4.3.0 not now")),
        // Before it has the mail: nobody can say that it came twice.
        ("RCPT", 0) if is_for(receiver, 904) => Some(Reply::Nothing),
        _ => None,
    })
    .await;
    let cluster = Cluster::start_beside_others(Some(format!("smtp://127.0.0.1:{}", server.port))).await;
    let began = Instant::now();
    // Nobody waits for the mail of somebody else for long: the well ones come first and last.
    for to in [905, 901, 902, 903, 904, 906, 907] {
        let node = &cluster.serves[usize::from(to % 2 == 0)];
        assert_eq!(history::send(node.address(), &support::token(800), to, "Hello").await, "accepted");
    }
    let receivers = |mails: &[String]| {
        let mut receivers: Vec<i64> = Vec::new();
        for to in headers(mails, "To: ") {
            let name = to.rsplit(['<', ' ']).next().unwrap().trim_end_matches('>');
            receivers.push(name.split('@').next().unwrap().trim_start_matches("user").parse().unwrap());
        }
        receivers.sort_unstable();
        receivers
    };
    // The content to 903 came twice, as the first was refused after it came.
    let expected = [901, 903, 903, 904, 905, 906, 907];
    while receivers(&server.mails()) != expected {
        let mails = server.mails();
        assert!(began.elapsed() < RETRIED_WITHIN, "{:?} in place of {expected:?}", receivers(&mails));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("  every mail that can come has come {:?} after its message", began.elapsed());
    // One more, whose mail can only come after all that were due before.
    assert_eq!(history::send(cluster.addresses()[0], &support::token(800), 908, "Hello").await, "accepted");
    while server.mails().len() == expected.len() {
        assert!(began.elapsed() < RETRIED_WITHIN + GRACE * 5, "the last mail does not come");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mails = server.mails();
    assert_eq!(receivers(&mails), [&expected[..], &[908]].concat());
    let mut names = headers(&mails, "Message-ID: ");
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 7, "a mail that is tried again keeps its name");
    let refused = server.named(&cluster.address(902));
    assert_eq!(refused, 1, "who is refused for good is not tried again");
}
