//! Messages to people who have no device here, through REST, and the mails that they get.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chatd::domain::{ClientId, ConversationId, MessageId, UserId};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::books::{Away, Mailed};
use crate::cluster::Cluster;
use crate::load::World;
use crate::node::PATIENCE;
use crate::support;

/// Who writes.
const WRITER: i64 = 800;
/// Who is away, but for the last one.
const ABSENT: std::ops::RangeInclusive<i64> = 900..=918;
/// Who is written to last.
const LAST: i64 = 919;
/// Between two messages.
const EVERY: Duration = Duration::from_millis(200);

/// Somebody who writes to people who are away.
pub struct Correspondence {
    over: Arc<AtomicBool>,
    task: JoinHandle<Vec<Away>>,
}

impl Correspondence {
    /// Begins; goes on until it is ended. Each message is tried until it is accepted.
    pub fn begin(cluster: &Cluster, world: &Arc<World>) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (domain, world, until) = (cluster.domain.clone(), Arc::clone(world), Arc::clone(&over));
        let task = tokio::spawn(async move {
            let mut sent = Vec::new();
            for (number, to) in ABSENT.cycle().enumerate() {
                if until.load(Ordering::SeqCst) {
                    break;
                }
                sent.push(write(&world, &domain, number, to).await);
                tokio::time::sleep(EVERY).await;
            }
            sent
        });
        Self { over, task }
    }

    /// What was written by now; and one more, whose mail comes after all others.
    pub async fn end(self, cluster: &Cluster, world: &World) -> Vec<Away> {
        self.over.store(true, Ordering::SeqCst);
        let mut sent = self.task.await.unwrap();
        sent.push(write(world, &cluster.domain, sent.len(), LAST).await);
        sent
    }
}

/// One message, until it is accepted.
async fn write(world: &World, domain: &str, number: usize, to: i64) -> Away {
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap();
    let user = |id| UserId::new(id).unwrap();
    let (client_id, content) = (format!("note{number}"), format!("note {number} to {to}"));
    let conversation = ConversationId::dm(user(WRITER), user(to)).unwrap();
    let id = MessageId::derive(conversation, user(WRITER), &ClientId::new(client_id.as_str()).unwrap());
    let body = json!({"to": to, "content": content, "client_id": client_id});
    let began = Instant::now();
    for turn in number.. {
        let url = format!("http://{}/v1/messages", world.address(turn));
        let token = support::token(WRITER);
        let answer = match http.post(url).bearer_auth(token).json(&body).send().await {
            Ok(answer) => answer.json::<Value>().await.unwrap_or_default(),
            Err(_) => Value::Null,
        };
        match answer["code"].as_str() {
            None if answer["type"] == "accepted" => {
                assert_eq!(answer["id"], id.to_string());
                break;
            }
            None | Some("unavailable" | "overloaded" | "timeout") => {}
            Some(_) => panic!("{answer}"),
        }
        assert!(began.elapsed() < PATIENCE * 2, "{content} is not accepted: {answer}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Away { conversation, id, address: format!("user{to}@{domain}"), content }
}

/// Waits for the mail to the last one, which comes when all that were due before have been sent; then everything
/// that the mail server holds for this cluster.
pub async fn mails(cluster: &Cluster, away: &[Away]) -> Vec<Mailed> {
    let last = cluster.address(LAST);
    let began = Instant::now();
    loop {
        let mails = all_mails(cluster).await;
        let told: usize = mails.iter().map(|mail| mail.quotes.len() + mail.uncounted).sum();
        let is_over = mails.iter().any(|mail| mail.address == last) && told >= away.len();
        if is_over || began.elapsed() > PATIENCE {
            return mails;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Waits until somebody was mailed.
pub async fn until_first_mail(cluster: &Cluster) {
    let began = Instant::now();
    while all_mails(cluster).await.is_empty() {
        assert!(began.elapsed() < PATIENCE, "nobody is mailed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn all_mails(cluster: &Cluster) -> Vec<Mailed> {
    let base = cluster.services.mail().1;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let get = async |path: String| -> Value {
        let answer = http.get(format!("{base}{path}")).send().await.unwrap();
        answer.error_for_status().unwrap().json().await.unwrap()
    };
    let found = get(format!("/api/v1/search?limit=5000&query=to:@{}", cluster.domain)).await;
    let mut mails = Vec::new();
    for mail in found["messages"].as_array().unwrap() {
        let id = mail["ID"].as_str().unwrap();
        mails.push(mailed(&get(format!("/api/v1/message/{id}")).await));
    }
    mails
}

fn mailed(mail: &Value) -> Mailed {
    let text = mail["Text"].as_str().unwrap().replace("\r\n", "\n");
    let quote = |line: &str| Some(line.strip_prefix('"')?.strip_suffix('"')?.to_owned());
    let counted = |line: &str| line.strip_prefix("… and ")?.strip_suffix(" more")?.parse().ok();
    Mailed {
        message_id: mail["MessageID"].as_str().unwrap().to_owned(),
        address: mail["To"][0]["Address"].as_str().unwrap().to_owned(),
        quotes: text.lines().filter_map(quote).collect(),
        uncounted: text.lines().find_map(counted).unwrap_or(0),
    }
}
