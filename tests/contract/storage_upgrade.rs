//! A history that an earlier release wrote: what is new in the schema is filled from what was there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use chatd::domain::NameKey;
use chatd::storage::postgres::PostgresStore;
use chatd::storage::sqlite::{SqliteSettings, SqliteStore};
use chatd::storage::{Conversations, Users};
use diesel::Connection;
use diesel::connection::SimpleConnection;
use diesel::sqlite::SqliteConnection;

use crate::postgres_schema::Schema;
use crate::storage_support::{dm, user};

/// Where diesel notes what was run.
const VERSIONS: &str = "CREATE TABLE __diesel_schema_migrations (
    version VARCHAR(50) PRIMARY KEY NOT NULL, run_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP);
    INSERT INTO __diesel_schema_migrations (version) VALUES ('00000000000001');";

/// 1 talks with 2, 3 and 4; the last message came from 3. Names of 1,200 people, so that more than one step is
/// needed for them.
fn history() -> String {
    let mut sql = String::new();
    for (key, other, last_at) in [(1, 2, 70_000), (2, 3, 900_000), (3, 4, 10)] {
        sql.push_str(&format!(
            "INSERT INTO conversations (conversation_key, id, last_seq, last_at, last_log, last_partition, last_offset)
             VALUES ({key}, 'dm-1-{other}', 1, {last_at}, 1, 0, {key});
             INSERT INTO members (conversation_key, user_id) VALUES ({key}, 1), ({key}, {other});"
        ));
    }
    for id in 1..=1_200 {
        sql.push_str(&format!("INSERT INTO users (id, name, created_at) VALUES ({id}, 'ＡＮＡ {id}', 1);"));
    }
    sql
}

async fn is_whole(store: &(impl Conversations + Users)) {
    let page = store.conversations(user(1), None, 10).await.unwrap();
    let order: Vec<_> = page.rows.iter().map(|row| row.conversation).collect();
    assert_eq!(order, [dm(1, 3), dm(1, 2), dm(1, 4)]);
    assert_eq!(store.conversations(user(4), None, 10).await.unwrap().rows[0].conversation, dm(1, 4));
    let found = store.named(&NameKey::beginning("ana 1200").unwrap(), 20).await.unwrap();
    assert_eq!(found.iter().map(|each| each.id.get()).collect::<Vec<_>>(), [1_200]);
    assert_eq!(store.named(&NameKey::beginning("ana").unwrap(), 5_000).await.unwrap().len(), 1_200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chatd.db");
    let mut conn = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    conn.batch_execute(include_str!("../../migrations/sqlite/00000000000001_history/up.sql")).unwrap();
    conn.batch_execute(include_str!("../../migrations/sqlite/00000000000002_shared_logs/up.sql")).unwrap();
    conn.batch_execute(VERSIONS).unwrap();
    let second = "INSERT INTO __diesel_schema_migrations (version) VALUES ('00000000000002')";
    conn.batch_execute(second).unwrap();
    conn.batch_execute(&history()).unwrap();
    drop(conn);
    is_whole(&SqliteStore::open(SqliteSettings::new(path)).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres() {
    let schema = Schema::new();
    let client = schema.connect().await;
    client.batch_execute(&format!("CREATE SCHEMA {}", schema.name)).await.unwrap();
    let first = include_str!("../../migrations/postgres/00000000000001_history/up.sql");
    for sql in [first, VERSIONS, &history()] {
        client.batch_execute(sql).await.unwrap();
    }
    is_whole(&PostgresStore::open(schema.settings()).await.unwrap()).await;
}
