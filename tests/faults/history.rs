//! REST, as far as it is needed here: sending, and history as it is told.

use chatd::cli::bench::checker::Device;
use chatd::domain::{ConversationId, MessageId, Seq, UserId};
use serde_json::{Value, json};

use crate::judge::{Orders, Seen, Trace};
use crate::support;

/// A row of history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub seq: Seq,
    pub id: MessageId,
    pub content: String,
}

/// `GET` with a user's token: the status and the JSON.
pub async fn get(address: &str, path: &str, user: i64) -> (u16, Value) {
    get_with(address, path, &support::token(user)).await
}

/// `GET` with a token.
pub async fn get_with(address: &str, path: &str, token: &str) -> (u16, Value) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.get(format!("http://{address}{path}")).bearer_auth(token).send().await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap())
}

/// What is answered to everybody, as it is.
pub async fn text(address: &str, path: &str) -> String {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    client.get(format!("http://{address}{path}")).send().await.unwrap().text().await.unwrap()
}

/// Sends a message: `accepted`, or the code of the error.
pub async fn send(address: &str, token: &str, to: i64, content: &str) -> String {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.post(format!("http://{address}/v1/messages")).bearer_auth(token);
    let answer = request.json(&json!({"to": to, "content": content})).send().await.unwrap();
    let answer: Value = answer.json().await.unwrap();
    answer["code"].as_str().or(answer["type"].as_str()).unwrap().to_owned()
}

/// A conversation from its first event to its last.
pub async fn read(address: &str, conversation: ConversationId, token: &str) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    loop {
        let after = rows.last().map_or(0, |row| row.seq.0);
        let path = format!("/v1/conversations/{conversation}/events?after={after}&limit=100");
        let (status, page) = get_with(address, &path, token).await;
        assert_eq!(status, 200, "{page}");
        rows.extend(page["events"].as_array().unwrap().iter().map(row));
        if page["has_more"] == false {
            return rows;
        }
    }
}

/// A `message` frame as a row.
pub fn row(frame: &Value) -> Row {
    Row {
        seq: Seq(frame["seq"].as_i64().unwrap()),
        id: MessageId(frame["id"].as_str().unwrap().parse().unwrap()),
        content: frame["content"].as_str().unwrap().to_owned(),
    }
}

/// The conversations of a run.
fn conversations(trace: &Trace) -> Vec<(ConversationId, UserId, UserId)> {
    let people = |conversation| match conversation {
        ConversationId::Dm(low, high) => (conversation, low, high),
        ConversationId::Group(_) => unreachable!("only two people talk here"),
    };
    let mut conversations: Vec<_> = trace.watchers.iter().map(|(_, of)| people(*of)).collect();
    conversations.sort_unstable_by_key(|(_, low, _)| *low);
    conversations.dedup();
    conversations
}

/// All conversations of a run.
pub async fn of_all(trace: &Trace, address: &str) -> Orders {
    let mut orders = Orders::new();
    for (conversation, reader, _) in conversations(trace) {
        let rows = read(address, conversation, &support::token(reader.get())).await;
        orders.insert(conversation, rows.into_iter().map(|row| (row.seq, row.id)).collect());
    }
    orders
}

/// Lets the history be one more device of each person, which has to hold everything too.
pub async fn add_to(trace: &mut Trace, address: &str) {
    add_as(trace, 1_000_000, address).await;
}

/// The same with devices that are numbered from here on.
pub async fn add_as(trace: &mut Trace, first: u32, address: &str) {
    for (conversation, low, high) in conversations(trace) {
        for reader in [low, high] {
            let device = Device(first + u32::try_from(reader.get()).unwrap());
            trace.watchers.push((device, conversation));
            for row in read(address, conversation, &support::token(reader.get())).await {
                trace.seen.push(Seen::Message(device, conversation, row.seq, row.id));
            }
        }
    }
}
