//! PostgreSQL as its administrator sees it: a database of one's own, and history as it lies there.

use std::fmt::Write as _;

use chatd::domain::{MessageId, Seq};
use tokio_postgres::{Client, NoTls};

use crate::books::Stored;

/// Connects; the connection ends with the client.
pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Makes a database, and gives its URL in the place of that of the administrator's.
pub async fn create(admin_url: &str, name: &str) -> String {
    connect(admin_url).await.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    let mut url: reqwest::Url = admin_url.parse().unwrap();
    url.set_path(name);
    url.to_string()
}

/// Everything that is in history, by conversation and seq.
pub async fn history(url: &str) -> Vec<Stored> {
    let client = connect(url).await;
    let rows = client.query(
        "SELECT c.id, e.seq, e.message_id::text, e.log_number, e.partition, e.log_offset, e.content
         FROM events e JOIN conversations c USING (conversation_key) ORDER BY e.conversation_key, e.seq",
        &[],
    );
    let stored = |row: &tokio_postgres::Row| Stored {
        conversation: row.get::<_, String>(0).parse().unwrap(),
        seq: Seq(row.get(1)),
        id: MessageId(row.get::<_, String>(2).parse().unwrap()),
        log: (row.get(3), row.get(4)),
        offset: row.get(5),
        content: row.get::<_, Option<String>>(6).unwrap_or_default(),
    };
    rows.await.unwrap().iter().map(stored).collect()
}

/// What people see who look into the view `messages`: rows of id and content.
pub async fn view(url: &str) -> Vec<(MessageId, String)> {
    let rows = connect(url).await.query("SELECT id::text, content FROM messages", &[]).await.unwrap();
    let pair = |row: &tokio_postgres::Row| (MessageId(row.get::<_, String>(0).parse().unwrap()), row.get(1));
    rows.iter().map(pair).collect()
}

/// Who owns what, for a failed test: partition, epoch and next offset.
pub async fn ownership(url: &str) -> String {
    let client = connect(url).await;
    let rows = client.query(
        "SELECT partition, epoch, next_offset, published FROM log_partitions ORDER BY log_number, partition",
        &[],
    );
    rows.await.unwrap().iter().fold(String::new(), |mut text, row| {
        let (partition, epoch, next): (i32, i64, i64) = (row.get(0), row.get(1), row.get(2));
        let published: i64 = row.get(3);
        let _ = write!(text, "{partition}: epoch {epoch}, next {next}, published {published}; ");
        text
    })
}
