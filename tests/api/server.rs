//! A whole server within the test's own process, so that a test can look inside: the embedded adapters in a
//! folder of its own, a port of its own, and whatever it accepts is applied.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix_server::{Server, ServerHandle};
use chatd::app::App;
use chatd::app::build::{Built, build};
use chatd::chat::apply::Owner;
use chatd::chat::receipts;
use chatd::config::{Config, Sources};
use chatd::domain::UserId;
use chatd::http::{HttpSettings, Surface, create};
use chatd::storage::NewUser;
use chatd::telemetry::story::Story;
use chatd::ws::connection::{ConnectionLimits, listen};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

const SECRET: &str = "a secret of the tests, longer than 32 bytes";

/// A server that ends with its test.
pub struct TestApp {
    /// Its inside.
    pub app: Arc<App>,
    /// `http://127.0.0.1:<port>`.
    pub url: String,
    handle: ServerHandle,
    applying: JoinHandle<()>,
    _built: Built,
    _folder: TempDir,
}

impl TestApp {
    /// Starts one with the users 1 `ana`, 2 `ben` and 3 `cleo`.
    pub async fn start(http: HttpSettings, surface: Surface) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::load(&Sources::new(folder.path()).with("JWT_SECRET", SECRET)).unwrap();
        let built = build(&config, Story::default()).await.unwrap();
        let app = Arc::clone(&built.app);
        app.storage.save(&users()).await.unwrap();
        app.health.serving();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let served = Arc::clone(&app);
        let factory = move || create(Arc::clone(&served), http.clone(), surface, |_| ());
        let server = Server::build().workers(1).disable_signals().shutdown_timeout(0);
        let server = listen(server, listener, ConnectionLimits::default(), factory).unwrap().run();
        let handle = server.handle();
        tokio::spawn(server);
        let applying = tokio::spawn(apply(Arc::clone(&app)));
        Self { app, url, handle, applying, _built: built, _folder: folder }
    }

    /// Ends it, and waits for that.
    pub async fn stop(self) {
        self.handle.stop(false).await;
        self.applying.abort();
    }
}

fn users() -> [NewUser; 3] {
    [(1, "ana"), (2, "ben"), (3, "cleo")].map(|(id, name)| NewUser {
        id: UserId::new(id).unwrap(),
        name: name.into(),
        email: Some(format!("{name}@example.test")),
    })
}

/// Applies what the log holds, and writes receipts, until it is aborted.
async fn apply(app: Arc<App>) {
    let partitions: Vec<_> = (0..app.log.identity().partitions).collect();
    let mut owner = Owner::claim(&app, &partitions).await.unwrap();
    loop {
        let fetched = owner.read(&app, Duration::from_millis(20)).await.unwrap();
        owner.work(&app, fetched).await.unwrap();
        receipts::flush(&app).await.unwrap();
    }
}

/// A token of a user, good for an hour.
pub fn token(user: i64) -> String {
    sign(&json!({"userId": user, "exp": now() + 3600}))
}

/// A token with these claims.
pub fn sign(claims: &Value) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key).unwrap()
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}
