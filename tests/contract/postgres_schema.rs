//! Schemas of the shared PostgreSQL, one a test.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use chatd::domain::Secret;
use chatd::storage::postgres::{Migrate, PostgresSettings};
use tokio_postgres::NoTls;

use crate::stack::stack;

/// A name that no other test has, for a schema that chatd makes; gone when dropped.
pub struct Schema {
    pub name: String,
}

impl Schema {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Self { name: format!("test_{process}_{number}") }
    }

    pub fn settings(&self) -> PostgresSettings {
        PostgresSettings {
            url: Secret::new(url().to_owned()),
            pool: 4,
            schema: Some(self.name.clone()),
            migrate: Migrate::Auto,
            verify_tls: false,
        }
    }

    /// A connection of the test's own, which sees the same tables.
    pub async fn connect(&self) -> tokio_postgres::Client {
        let client = connect(url()).await;
        client.batch_execute(&format!("SET search_path = {}", self.name)).await.unwrap();
        client
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        let sql = format!("SET lock_timeout = '20s'; DROP SCHEMA IF EXISTS {} CASCADE", self.name);
        // The test's own runtime may be ending.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { connect(url()).await.batch_execute(&sql).await })
        });
        let _ = dropping.join();
    }
}

async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

fn url() -> &'static str {
    static URL: OnceLock<String> = OnceLock::new();
    URL.get_or_init(|| stack(&["postgres"]).get("DATABASE_URL").to_owned())
}
