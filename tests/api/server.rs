//! A whole server for a test: the embedded adapters in a folder of its own, a port of its own, and whatever
//! it accepts is applied.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix_web::dev::ServerHandle;
use actix_web::web::ServiceConfig;
use chatd::app::health::Health;
use chatd::app::{App, Settings};
use chatd::auth::jwt::{JwtSettings, JwtVerifier};
use chatd::auth::tickets::MemoryTickets;
use chatd::chat::apply::Owner;
use chatd::chat::directory::Directory;
use chatd::delivery::Hub;
use chatd::delivery::memory::MemoryFanout;
use chatd::domain::{Secret, UserId};
use chatd::http::{HttpSettings, Surface, create};
use chatd::pipeline::embedded::{EmbeddedLog, EmbeddedLogSettings};
use chatd::presence::memory::MemoryPresence;
use chatd::storage::sqlite::{SqliteSettings, SqliteStore};
use chatd::storage::{Ledger, NewUser, Users};
use chatd::telemetry::story::Story;
use chatd::ws::connection::{ConnectionLimits, listen};
use serde_json::{Value, json};
use tempfile::TempDir;

const SECRET: &[u8] = b"a secret of thirty-two bytes or more";

/// A server that ends with its test.
pub struct TestApp {
    /// Its inside.
    pub app: Arc<App>,
    /// `http://127.0.0.1:<port>`.
    pub url: String,
    server: ServerHandle,
    applying: tokio::task::JoinHandle<()>,
    _folder: TempDir,
}

impl TestApp {
    /// Starts one with the users 1 `ana`, 2 `ben` and 3 `cleo`, and these settings.
    pub async fn start(http: HttpSettings) -> Self {
        Self::start_with(http, Surface::Public, |_| ()).await
    }

    /// As [`start`](Self::start), with a surface and other paths beside REST.
    pub async fn start_with(
        http: HttpSettings,
        surface: Surface,
        sockets: impl Fn(&mut ServiceConfig) + Send + Clone + 'static,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let app = Arc::new(build(&folder).await);
        app.health.serving();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let served = Arc::clone(&app);
        let factory = move || create(Arc::clone(&served), http.clone(), surface, sockets.clone());
        let server = actix_server::Server::build().workers(1).disable_signals().shutdown_timeout(0);
        let server = listen(server, listener, ConnectionLimits::default(), factory).unwrap().run();
        let handle = server.handle();
        tokio::spawn(server);
        let applying = tokio::spawn(apply(Arc::clone(&app)));
        Self { app, url, server: handle, applying, _folder: folder }
    }

    /// Ends it, and waits for that.
    pub async fn stop(self) {
        self.server.stop(false).await;
        self.applying.abort();
    }
}

async fn build(folder: &TempDir) -> App {
    let storage = SqliteStore::open(SqliteSettings::new(folder.path().join("chatd.db"))).await.unwrap();
    let settings = EmbeddedLogSettings { path: folder.path().join("log.db"), ..Default::default() };
    let log = Arc::new(EmbeddedLog::open(&settings).unwrap());
    let log_number = storage.attach_log(log.identity()).await.unwrap();
    let incarnation = storage.incarnation().await.unwrap();
    let known = storage.frontier(log_number).await.unwrap();
    let users = [(1, "ana"), (2, "ben"), (3, "cleo")].map(|(id, name)| NewUser {
        id: UserId::new(id).unwrap(),
        name: name.into(),
        email: Some(format!("{name}@example.test")),
    });
    storage.save(&users).await.unwrap();
    let storage = Arc::new(storage);
    let hub = Hub::new(&known, 8, Box::new(|_, _| ()));
    let secret = Some(Secret::new(SECRET.to_vec()));
    App {
        directory: Directory::new(storage.clone()),
        storage,
        log: log.clone(),
        source: log,
        fanout: Arc::new(MemoryFanout::new(hub.clone())),
        hub,
        presence: Arc::new(MemoryPresence::default()),
        tokens: Arc::new(JwtVerifier::new(JwtSettings { secret, ..Default::default() }).unwrap()),
        tickets: Arc::new(MemoryTickets::new()),
        recent: Default::default(),
        pending: Default::default(),
        health: Health::default(),
        story: Arc::new(Story::default()),
        log_number,
        incarnation,
        settings: Settings {
            node: "test".into(),
            provision: true,
            grace: Duration::from_secs(10),
            pong_confirms: true,
            heartbeat: Duration::from_secs(25),
            limits: false,
            message_bytes_max: 65_536,
            content_bytes_max: 16_384,
            data_bytes_max: 4_096,
            sockets_max: 100,
        },
    }
}

/// Applies what the log holds, and writes receipts, until it is aborted.
async fn apply(app: Arc<App>) {
    let partitions: Vec<_> = (0..app.log.identity().partitions).collect();
    let mut owner = Owner::claim(&app, &partitions).await.unwrap();
    loop {
        owner.turn(&app, Duration::from_millis(20)).await.unwrap();
        chatd::chat::receipts::flush(&app).await.unwrap();
    }
}

/// A token of a user, good for an hour.
pub fn token(user: i64) -> String {
    sign(&json!({"userId": user, "exp": now() + 3600}))
}

/// A token with these claims.
pub fn sign(claims: &Value) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET);
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key).unwrap()
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}
