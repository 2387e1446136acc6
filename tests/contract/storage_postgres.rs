//! What is PostgreSQL's own: reaching it, its schema, its limits, and what a batch costs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::time::{Duration, Instant};

use chatd::domain::Secret;
use chatd::storage::postgres::{
    Migrate, OpenError, PostgresSettings, PostgresStore, inspect, migrate, pending, renew_incarnation,
};
use chatd::storage::{Applied, Events, Ledger, Page, StorageError, Users};

use crate::postgres_proxy::Proxy;
use crate::postgres_schema::Schema;
use crate::stack::stack;
use crate::storage_support::{
    Owner, answer, delete, dm, edit, id_of, log_identity, message, postgres_on, user,
};

/// The same database by another way: host, port, parameters.
fn by(settings: &PostgresSettings, host: &str, port: Option<u16>, parameters: &str) -> PostgresSettings {
    let mut url = url::Url::parse(settings.url.expose()).unwrap();
    url.set_host(Some(host)).unwrap();
    if port.is_some() {
        url.set_port(port).unwrap();
    }
    url.set_query(Some(parameters));
    PostgresSettings { url: Secret::new(url.to_string()), ..settings.clone() }
}

async fn proxied(schema: &Schema) -> (Proxy, PostgresSettings) {
    let settings = schema.settings();
    let server = url::Url::parse(settings.url.expose()).unwrap();
    let proxy = Proxy::start(format!("{}:{}", server.host_str().unwrap(), server.port().unwrap())).await;
    let settings = by(&settings, "127.0.0.1", Some(proxy.port), "sslmode=disable");
    (proxy, settings)
}

#[tokio::test]
async fn each_sslmode_asks_for_the_proof_that_it_names() {
    let exports = stack(&["postgres"]);
    let root = format!("sslrootcert={}", exports.get("DATABASE_CA_FILE"));
    let settings = Schema::new().settings();
    let asked = async |host: &str, parameters: &str| {
        let settings = PostgresSettings { schema: None, ..by(&settings, host, None, parameters) };
        inspect(&settings).await
    };
    let elsewhere = "hostaddr=127.0.0.1";
    let plain = asked("localhost", "sslmode=disable").await.unwrap();
    assert_eq!(plain.tls, None);
    for (host, parameters) in [
        ("localhost", "sslmode=prefer".to_owned()),
        ("localhost", "sslmode=require".to_owned()),
        ("localhost", format!("sslmode=require&{root}")),
        ("localhost", format!("sslmode=verify-ca&{root}")),
        ("localhost", format!("sslmode=verify-full&{root}")),
        ("db.example.test", format!("{elsewhere}&sslmode=require")),
        ("db.example.test", format!("{elsewhere}&sslmode=verify-ca&{root}")),
    ] {
        let found = asked(host, &parameters).await.unwrap();
        assert!(found.tls.is_some_and(|tls| tls.starts_with("TLSv1.")), "{host} {parameters}");
    }
    for (host, parameters) in [
        ("localhost", "sslmode=verify-ca".to_owned()),
        ("localhost", "sslmode=verify-full".to_owned()),
        ("db.example.test", format!("{elsewhere}&sslmode=verify-full&{root}")),
    ] {
        let refused = asked(host, &parameters).await.unwrap_err();
        assert!(refused.to_string().contains("certificate"), "{host} {parameters}: {refused}");
    }
}

#[tokio::test]
async fn production_is_told_what_is_missing_and_no_password() {
    let settings = PostgresSettings { verify_tls: true, ..Schema::new().settings() };
    let refused = PostgresStore::open(settings.clone()).await.err().unwrap().to_string();
    assert!(refused.contains("sslmode=verify-full"), "{refused}");
    let nobody = by(&settings, "127.0.0.1", Some(1), "sslmode=disable");
    let nobody = PostgresSettings { verify_tls: false, ..nobody };
    let refused = PostgresStore::open(nobody).await.err().unwrap();
    assert!(matches!(refused, OpenError::Unreachable { .. }), "{refused}");
    let password = url::Url::parse(settings.url.expose()).unwrap().password().unwrap().to_owned();
    assert!(!refused.to_string().contains(&password), "{refused}");
    assert!(refused.to_string().contains("127.0.0.1:1/"), "{refused}");
}

#[tokio::test]
async fn an_older_schema_is_migrated_or_refused_as_asked_and_a_newer_one_refused() {
    let schema = Schema::new();
    let settings = schema.settings();
    let check = PostgresSettings { migrate: Migrate::Check, ..settings.clone() };
    let all = pending(&settings).await.unwrap();
    let refused = PostgresStore::open(check.clone()).await.err();
    assert!(matches!(refused, Some(OpenError::Pending { count, .. }) if count == all.len()));
    assert_eq!(migrate(&settings).await.unwrap(), all);
    assert_eq!(migrate(&settings).await.unwrap(), [""; 0]);
    assert_eq!(pending(&settings).await.unwrap(), [""; 0]);
    assert!(PostgresStore::open(check).await.is_ok());
    let found = inspect(&settings).await.unwrap();
    assert_eq!(found.schema.as_ref(), all.last());
    let newer = "INSERT INTO __diesel_schema_migrations (version) VALUES ('99990101000000')";
    schema.connect().await.batch_execute(newer).await.unwrap();
    for error in [
        PostgresStore::open(settings.clone()).await.err().unwrap(),
        migrate(&settings).await.unwrap_err(),
        pending(&settings).await.unwrap_err(),
    ] {
        let OpenError::Newer { found, .. } = error else { panic!("{error}") };
        assert_eq!(found, "99990101000000");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_start_at_once_make_one_database_that_follows_one_log() {
    let schema = Schema::new();
    let mut starts = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let settings = schema.settings();
        starts.spawn(async move {
            let store = PostgresStore::open(settings).await.unwrap();
            let number = store.attach_log(log_identity(6)).await.unwrap();
            (store.incarnation().await.unwrap(), number, store.frontier(number).await.unwrap())
        });
    }
    let seen = starts.join_all().await;
    assert!(seen.iter().all(|each| *each == seen[0]), "{seen:?}");
    assert_eq!(seen[0].2.offsets.as_ref(), [-1; 6]);
}

#[tokio::test]
async fn a_restored_database_is_given_a_new_incarnation_by_hand() {
    let schema = Schema::new();
    let store = PostgresStore::open(schema.settings()).await.unwrap();
    let before = store.incarnation().await.unwrap();
    let after = renew_incarnation(&schema.settings()).await.unwrap();
    assert_ne!(before, after);
    assert_eq!(store.incarnation().await.unwrap(), after);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_costs_the_same_few_statements_whatever_its_size() {
    let schema = Schema::new();
    let (proxy, settings) = proxied(&schema).await;
    let mut owner = Owner::new(&postgres_on(schema, settings).await, 6).await;
    let talk = |from: u32, to: u32| -> Vec<_> {
        (from..to)
            .map(|n| message(i64::from(n % 50) + 1, i64::from(n % 50) + 100, &format!("c{n}"), "x", 1))
            .collect()
    };
    proxy.statements();
    owner.apply_records(talk(0, 50)).await;
    assert_eq!(proxy.statements(), (6, 2), "50 conversations begin");
    owner.apply_records(talk(50, 51)).await;
    assert_eq!(proxy.statements(), (4, 2), "one message");
    owner.apply_records(talk(51, 2_051)).await;
    assert_eq!(proxy.statements(), (4, 2), "2,000 messages");
    let told = |n: u32| (i64::from(n % 50) + 1, i64::from(n % 50) + 100, format!("c{n}"));
    let changes = (0..1_000).flat_map(|n| {
        let (from, to, client_id) = told(n);
        let id = id_of(from, to, &client_id);
        let last = if n % 3 == 0 {
            delete(from, to, &format!("d{n}"), id)
        } else {
            answer(to, from, &format!("r{n}"), id)
        };
        [edit(from, to, &format!("e{n}"), id, "y"), last]
    });
    owner.apply_records(changes.collect()).await;
    assert_eq!(proxy.statements(), (8, 2), "2,000 edits, deletions and answers");
    owner.apply_records(vec![edit(1, 100, "e", id_of(1, 100, "c50"), "z")]).await;
    assert_eq!(proxy.statements(), (7, 2), "one edit");
    owner.apply_records(vec![answer(1, 100, "r", id_of(1, 100, "c50"))]).await;
    assert_eq!(proxy.statements(), (6, 2), "one answer");
    let page = owner.store.messages(dm(1, 100), Page::Newest { skip: 0 }, 50).await.unwrap();
    assert_eq!(page.rows.len(), 50);
    assert_eq!(proxy.statements(), (1, 0), "a page of history");
    owner.store.messages(dm(1, 100), Page::Newest { skip: 20 }, 50).await.unwrap();
    assert_eq!(proxy.statements(), (1, 0), "another one");
    for (limit, rows) in [(1, 1), (100, 1)] {
        let page = owner.store.conversations(user(1), None, limit).await.unwrap();
        assert_eq!(page.rows.len(), rows);
        assert_eq!(proxy.statements(), (2, 0), "a page of a list");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_is_unavailable_in_time_and_its_connections_are_not_used_again() {
    let schema = Schema::new();
    let (proxy, settings) = proxied(&schema).await;
    let store = PostgresStore::open(settings).await.unwrap();
    store.list(0, 1).await.unwrap();
    proxy.silence();
    let began = Instant::now();
    let lost = store.list(0, 1).await;
    assert!(matches!(lost, Err(StorageError::Unavailable(_))), "{lost:?}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    proxy.until_open(0).await;
    let lost = store.list(0, 1).await;
    assert!(matches!(lost, Err(StorageError::Unavailable(_))), "a new connection: {lost:?}");
    proxy.speak();
    store.list(0, 1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_hangs_in_its_transaction_holds_up_a_claim_for_some_seconds_only() {
    let schema = Schema::new();
    let (proxy, settings) = proxied(&schema).await;
    let other = PostgresStore::open(schema.settings()).await.unwrap();
    let onlooker = schema.connect().await;
    // One connection, on which everything is prepared.
    let settings = PostgresSettings { pool: 1, ..settings };
    let mut owner = Owner::new(&postgres_on(schema, settings).await, 1).await;
    owner.apply_records(vec![message(1, 2, "c1", "x", 1)]).await;
    let batch = owner.batch(vec![message(1, 2, "c2", "x", 1)]);
    proxy.silence();
    let store = owner.store.clone();
    let hanging = tokio::spawn(async move { store.apply(batch).await });
    // Until its fence holds the partition.
    while onlooker.execute("SELECT 1 FROM log_partitions FOR UPDATE NOWAIT", &[]).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let began = Instant::now();
    let claim = other.claim(owner.log, &[0]).await.unwrap();
    let waited = began.elapsed();
    assert!(waited > Duration::from_secs(1), "it held nothing: {waited:?}");
    assert!(waited < Duration::from_secs(6), "{waited:?}");
    assert_eq!(claim[0].next_offset, 1, "what it had begun is undone");
    let lost = hanging.await.unwrap();
    assert!(matches!(lost, Err(StorageError::Unavailable(_))), "{lost:?}");
}

#[tokio::test]
async fn a_caller_who_goes_away_disturbs_nobody() {
    // On a runtime of one thread, as actix has them.
    let schema = Schema::new();
    let settings = PostgresSettings { pool: 1, ..schema.settings() };
    let store = PostgresStore::open(settings).await.unwrap();
    let number = store.attach_log(log_identity(1)).await.unwrap();
    let epoch = store.claim(number, &[0]).await.unwrap()[0].epoch;
    let batch = |expected: i64| chatd::storage::Batch {
        log: number,
        partitions: vec![chatd::storage::PartitionBatch {
            partition: 0,
            epoch,
            expected,
            next: expected + 1,
            last_digest: uuid::Uuid::nil(),
            published: -1,
            records: vec![(expected, message(1, 2, &format!("c{expected}"), "x", 1))],
            dead: Vec::new(),
        }],
        grace: Duration::from_secs(10),
        rules: chatd::domain::history::Rules::default(),
    };
    let mut next = 0;
    for polls in 0..12 {
        let mut abandoned = Box::pin(store.apply(batch(next)));
        for _ in 0..polls {
            // Anywhere in its transaction.
            if tokio::time::timeout(Duration::from_micros(300), &mut abandoned).await.is_ok() {
                break;
            }
        }
        drop(abandoned);
        // It happened or it did not; it is never half of it, nor does it hold up what comes.
        let now = store.claims(number, &[0]).await.unwrap()[0].next_offset;
        assert_eq!(store.last_seq(dm(1, 2)).await.unwrap().0, now);
        next = store.claims(number, &[0]).await.unwrap()[0].next_offset;
        let applied = store.apply(batch(next)).await.unwrap();
        match &applied[0] {
            Applied::Done { .. } => next += 1,
            // The one that was abandoned was on its way still.
            Applied::Fenced { .. } => next = store.claims(number, &[0]).await.unwrap()[0].next_offset,
        }
    }
}

#[tokio::test]
async fn people_who_look_into_the_database_find_messages() {
    let schema = Schema::new();
    let client = {
        let settings = schema.settings();
        let client = schema.connect().await;
        let mut owner = Owner::new(&postgres_on(schema, settings).await, 1).await;
        owner.apply_records(vec![message(2, 3, "c1", "text 1", 1_700_000_000_120)]).await;
        let row = client
            .query_one(
                "SELECT id::text, sender_id, receiver_id, content, created_at::text FROM messages",
                &[],
            )
            .await
            .unwrap();
        (row.get::<_, String>(0), row.get::<_, i64>(1), row.get::<_, i64>(2), row.get::<_, String>(3))
    };
    let id = "1ba04d0a-f5b1-834e-870a-1336a013b369".to_owned();
    assert_eq!(client, (id, 2, 3, "text 1".to_owned()));
}

#[tokio::test]
async fn people_who_look_into_the_database_find_the_last_words_and_none_of_what_was_deleted() {
    let schema = Schema::new();
    let (settings, client) = (schema.settings(), schema.connect().await);
    let mut owner = Owner::new(&postgres_on(schema, settings).await, 1).await;
    let (kept, gone) = (id_of(2, 3, "a"), id_of(2, 3, "b"));
    let records = vec![
        message(2, 3, "a", "kept, first", 1),
        message(2, 3, "b", "gone, first", 1),
        edit(2, 3, "e1", kept, "kept, last"),
        edit(2, 3, "e2", gone, "gone, second"),
        delete(2, 3, "d", gone),
    ];
    owner.apply_records(records).await;
    let rows = client.query("SELECT id::text, content FROM messages ORDER BY content", &[]).await.unwrap();
    let rows: Vec<(String, Option<String>)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(rows, [(kept.to_string(), Some("kept, last".to_owned())), (gone.to_string(), None)]);
    // No older words are left in any row.
    let text = "SELECT string_agg(e::text, ' ') FROM events AS e";
    let all: String = client.query_one(text, &[]).await.unwrap().get(0);
    assert!(all.contains("kept, last") && !all.contains("first") && !all.contains("gone"), "{all}");
}
