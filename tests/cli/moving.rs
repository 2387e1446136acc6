//! `chatd move`: what it refuses, with which words, and what it leaves behind.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use chatd::domain::{ConversationId, UserId};
use chatd::pipeline::embedded::{EmbeddedLog, EmbeddedLogSettings};
use chatd::pipeline::partitioner::partition_of;
use chatd::pipeline::{Entry, EventLog};
use serde_json::{Value, json};
use tokio_postgres::{Client, NoTls};

use crate::support::stack::stack;
use crate::support::{Server, Setup};
use crate::{Ended, chatd, chatd_command, ended, fine, folder, refused, send};

/// A database of this test's own; left to the next `scripts/stack remove`.
struct Database {
    url: String,
    client: Client,
}

impl Database {
    async fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("moving{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let admin = tokio::task::block_in_place(|| stack(&["postgres"]).get("DATABASE_URL").to_owned());
        connect(&admin).await.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        let mut url: reqwest::Url = admin.parse().unwrap();
        url.set_path(&name);
        Self { client: connect(url.as_str()).await, url: url.to_string() }
    }

    async fn until_events(&self, count: i64) {
        let until = Instant::now() + Duration::from_secs(30);
        while self.count("events").await < count {
            assert!(Instant::now() < until, "nothing is applied there");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn count(&self, table: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM {table}");
        self.client.query_one(&sql, &[]).await.unwrap().get(0)
    }
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// `chatd move` with the tests' usual settings; what it says.
fn moved(folder: &Path, to: &str, env: &[(&str, &str)]) -> Ended {
    ended(chatd_command(folder).envs(env.iter().copied()).args(["move", "--to", to]))
}

/// The same, which has to be refused with this code.
fn not_moved(folder: &Path, to: &str, env: &[(&str, &str)], code: i32) -> String {
    let (found, stdout, stderr) = moved(folder, to, env);
    assert_eq!((found, stdout.as_str()), (code, ""), "{stderr}");
    assert!(stderr.starts_with("chatd: ") && !stderr.contains("hush"), "{stderr}");
    stderr
}

/// A topic of this test's own.
struct Kafka {
    brokers: String,
    prefix: String,
}

impl Kafka {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let prefix = format!("moving{}x{}.", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let brokers = tokio::task::block_in_place(|| stack(&["kafka"]).get("KAFKA_BROKERS").to_owned());
        Self { brokers, prefix }
    }

    fn env(&self) -> [(&str, &str); 3] {
        [
            ("KAFKA_BROKERS", &self.brokers),
            ("CHATD_KAFKA__TOPIC_PREFIX", &self.prefix),
            ("CHATD_KAFKA__GROUP", &self.prefix),
        ]
    }

    fn set(&self, setup: Setup) -> Setup {
        self.env().into_iter().fold(setup, |setup, (name, value)| setup.env(name, value))
    }
}

/// Nobody listens there.
const AWAY: &str = "postgres://me:hush@127.0.0.1:1/chat";

#[test]
fn what_cannot_be_moved_is_told_before_anything_is_made() {
    let folder = folder();
    assert_eq!(chatd(folder.path(), "move").0, 2);
    for to in ["mysql://me:hush@db/chat", "hush", "postgres://"] {
        let sentence = not_moved(folder.path(), to, &[], if to == "postgres://" { 78 } else { 2 });
        assert!(sentence.contains("postgres") || sentence.contains("no database"), "{sentence}");
    }
    assert!(not_moved(folder.path(), AWAY, &[], 78).contains("there is no database ./data/chatd.db yet"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

    fine(folder.path(), "user add --id 7 --name Ana");
    assert!(not_moved(folder.path(), AWAY, &[], 69).contains("127.0.0.1:1/chat cannot be reached"));
    assert!(not_moved(folder.path(), "postgres://?user=hush", &[], 2).contains("--to: a host is missing"));
    let production = [("CHATD_PROFILE", "production"), ("JWT_SECRET", "0123456789abcdef0123456789abcdef")];
    assert!(not_moved(folder.path(), AWAY, &production, 2).contains("sslmode=verify-full"));
    let server = Server::start(&folder.path().join("data"));
    assert!(not_moved(folder.path(), AWAY, &[], 78).contains("another chatd uses the data folder"));
    drop(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_not_empty_or_too_old_is_left_alone() {
    let folder = folder();
    fine(folder.path(), "migrate");
    let database = Database::new().await;
    let check = [("CHATD_DATABASE__MIGRATE", "check")];
    let sentence = not_moved(folder.path(), &database.url, &check, 78);
    assert!(sentence.contains("run `chatd migrate`"), "{sentence}");
    let sentence = not_moved(folder.path(), &database.url, &[], 78);
    assert!(sentence.contains("neither users nor messages"), "{sentence}");

    fine(folder.path(), "user add --id 7 --name Ana");
    database.client.batch_execute("INSERT INTO users (id, created_at) VALUES (1, 0)").await.unwrap();
    let sentence = not_moved(folder.path(), &database.url, &[], 78);
    assert!(sentence.contains("is not empty: its table users has rows"), "{sentence}");
    assert_eq!(database.count("users").await, 1);
    // Beside it, in a schema of its own, there is room.
    let schema = [("CHATD_DATABASE__SCHEMA", "beside")];
    let (code, stdout, stderr) = moved(folder.path(), &database.url, &schema);
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    assert!(stdout.contains("CHATD_DATABASE__SCHEMA beside"), "{stdout}");
    assert_eq!((database.count("users").await, database.count("beside.users").await), (1, 1));

    let newer = "INSERT INTO __diesel_schema_migrations (version) VALUES ('9')";
    database.client.batch_execute(newer).await.unwrap();
    let sentence = not_moved(folder.path(), &database.url, &[], 78);
    assert!(sentence.contains("was written by a newer release"), "{sentence}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_moved_history_goes_on_in_one_process_and_not_in_the_old_folder() {
    let folder = folder();
    let data = folder.path().join("data");
    // The tests' servers have their secret from the environment; this one stands for a folder's own.
    fine(folder.path(), "token --user 1 --name x");
    let server = Server::start(&data);
    for n in 0..10 {
        assert_eq!(send(&server, 1001, 1002, &format!("before {n}")).await.0, 202);
    }
    // What was accepted is not all applied.
    server.kill();
    let database = Database::new().await;
    // As on the new servers, so that the password stands in no list of processes.
    let move_there =
        || ended(chatd_command(folder.path()).env("DATABASE_URL", &database.url).args(["move", "--json"]));
    let (code, told, stderr) = move_there();
    assert_eq!((code, stderr.as_str()), (0, ""));
    let told: Value = serde_json::from_str(&told).unwrap();
    let rows = |table: &str| {
        let tables = told["moved"]["tables"].as_array().unwrap();
        tables.iter().find(|each| each["table"] == table).unwrap()["rows"].as_u64().unwrap()
    };
    assert_eq!((rows("events"), rows("members"), rows("conversations")), (10, 2, 1), "{told}");
    assert_eq!(told["moved"]["log"], json!({"follows": "same"}), "{told}");
    assert_eq!(told["secret_file"], "./data/secrets/jwt", "{told}");
    assert_eq!(database.count("events").await, 10);

    for line in ["all", "user add --id 7 --name Ana"] {
        let sentence = refused(folder.path(), line, 78);
        assert!(sentence.contains("moved to 127.0.0.1:") && sentence.contains("DATABASE_URL"), "{sentence}");
    }
    // As where it died before it could mark the folder.
    fs::remove_file(data.join("moved")).unwrap();
    let (code, _, stderr) = move_there();
    assert!(code == 78 && stderr.contains("holds this history already"), "{stderr}");
    assert!(data.join("moved").exists());

    let mut server = Setup::new(&data).env("DATABASE_URL", &database.url).start();
    assert_eq!(send(&server, 1002, 1001, "after").await.0, 202);
    database.until_events(11).await;

    // And later from its log on to Kafka, which needs no move.
    server.signal("TERM");
    assert!(server.wait(Duration::from_secs(10)).is_some_and(|status| status.success()));
    let kafka = Kafka::new();
    let on_kafka = kafka.set(Setup::new(&data).env("DATABASE_URL", &database.url));
    let (code, told, stderr) = ended(on_kafka.command().args(["log", "replay", "--from", "earliest"]));
    assert!(code == 0 && told.contains("log number 2"), "{told}{stderr}");
    let server = on_kafka.start();
    assert_eq!(send(&server, 1002, 1001, "on Kafka").await.0, 202);
    database.until_events(12).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_that_lies_on_kafka_already_takes_its_log_along() {
    let folder = folder();
    let (kafka, database) = (Kafka::new(), Database::new().await);
    let data = folder.path().join("data");
    let server = kafka.set(Setup::new(&data)).start();
    assert_eq!(send(&server, 1001, 1002, "one").await.0, 202);
    server.kill();
    let (code, told, stderr) = moved(folder.path(), &database.url, &kafka.env());
    assert_eq!(code, 0, "{stderr}");
    assert!(told.contains("the message log that the old server followed"), "{told}");
    let server = kafka.set(Setup::new(&data).env("DATABASE_URL", &database.url)).start();
    assert_eq!(send(&server, 1002, 1001, "two").await.0, 202);
    database.until_events(2).await;
    drop(server);

    // Another history cannot go on in that topic, nor in one that is away.
    let other = self::folder();
    drop(Server::start(&other.path().join("data")));
    let empty = Database::new().await;
    let sentence = not_moved(other.path(), &empty.url, &kafka.env(), 78);
    assert!(sentence.contains("topic is not empty") && sentence.contains("(2 in all)"), "{sentence}");
    let sentence = not_moved(other.path(), &empty.url, &[("KAFKA_BROKERS", "127.0.0.1:1")], 69);
    assert!(sentence.contains("127.0.0.1:1"), "{sentence}");
    assert_eq!(empty.count("users").await, 0);
    let (code, _, stderr) = moved(other.path(), &empty.url, &Kafka::new().env());
    assert_eq!(code, 0, "what was refused can be begun again: {stderr}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_accepted_and_cannot_become_history_is_not_left_behind() {
    let folder = folder();
    let data = folder.path().join("data");
    drop(Server::start(&data));
    let log = EmbeddedLog::open(&EmbeddedLogSettings { path: data.join("log.db"), ..Default::default() });
    let log = log.unwrap();
    let [one, other] = [1, 2].map(|id| UserId::new(id).unwrap());
    let key = ConversationId::dm(one, other).unwrap();
    let value = (&br#"{"v":2,"kind":"poll","question":"?"}"#[..]).into();
    let partition = partition_of(key, log.identity().partitions);
    log.append(Entry { partition, key, value }, log.generation()).await.unwrap();
    EventLog::close(&log).await;
    let database = Database::new().await;
    let sentence = not_moved(folder.path(), &database.url, &[], 78);
    assert!(sentence.contains(&format!("partition {partition} stands still")), "{sentence}");
    assert_eq!(database.count("users").await, 0);
}
