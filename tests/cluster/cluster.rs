//! The cluster of a test: two of each role, on a database, topics, a group and keys of its own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use reqwest::Url;
use tempfile::TempDir;

use crate::database;
use crate::load::{Load, Pace};
use crate::node::{Node, PATIENCE};
use crate::proxy::Proxy;
use crate::services::{Fragile, Services};
use crate::support::Setup;

/// How long somebody has to confirm before a mail is due: longer than any fault here keeps a message from somebody
/// who is there (5 s), and than their device takes to confirm it (a ping within 1.25 s, written down 0.25 s later).
pub const GRACE: Duration = Duration::from_secs(7);
/// Everybody who takes part, with or without a device: each has an address.
const PEOPLE: [std::ops::RangeInclusive<i64>; 3] = [1..=40, 800..=801, 900..=919];

/// Who left is shown as away after this: short, so that a test need not wait long.
pub const OFFLINE_AFTER: Duration = Duration::from_secs(3);

/// 20 people with 30 devices on both nodes, some 300 messages a second.
pub const BUSY: Pace = Pace { period: Duration::from_millis(100), second_devices: true, ..Pace::BUSY };

/// Two of each role, and whoever joins.
pub struct Cluster {
    pub services: Services,
    fragile: Option<Fragile>,
    pub serves: Vec<Node>,
    pub consumes: Vec<Node>,
    /// Behind the proxies.
    pub database_url: String,
    /// The addresses of this cluster's people end in it.
    pub domain: String,
    group: String,
    smtp_url: String,
    folder: TempDir,
    memory: BTreeMap<(&'static str, usize), u64>,
}

impl Cluster {
    /// Takes its turn at the services, and starts four processes at once. Mail goes to Mailpit.
    pub async fn start() -> Self {
        let (services, fragile) = Services::fragile().await;
        let smtp_url = services.mail().0.to_owned();
        Self::start_on(services, Some(fragile), smtp_url).await
    }

    /// On services that others use too, beside them; with another mail server, where one is given.
    pub async fn start_beside_others(smtp_url: Option<String>) -> Self {
        let services = Services::shared();
        let smtp_url = smtp_url.unwrap_or_else(|| services.mail().0.to_owned());
        Self::start_on(services, None, smtp_url).await
    }

    async fn start_on(services: Services, fragile: Option<Fragile>, smtp_url: String) -> Self {
        let mut cluster = Self::prepare(services, fragile, smtp_url).await;
        tokio::task::block_in_place(|| {
            cluster.start_processes();
            cluster.import_people(&cluster.node("serve", 9).setup());
        });
        cluster.remember_memory();
        cluster
    }

    /// An empty database, and no process yet; on services that others use too.
    pub async fn prepare_beside_others() -> Self {
        let services = Services::shared();
        let smtp_url = services.mail().0.to_owned();
        Self::prepare(services, None, smtp_url).await
    }

    async fn prepare(services: Services, fragile: Option<Fragile>, smtp_url: String) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("cluster{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let database_url = database::create(services.url("DATABASE_URL"), &name).await;
        Self {
            services,
            fragile,
            serves: Vec::new(),
            consumes: Vec::new(),
            database_url,
            domain: format!("{name}.example.test"),
            group: name,
            smtp_url,
            folder: tempfile::tempdir().unwrap(),
            memory: BTreeMap::new(),
        }
    }

    /// Two of each role, all at once. Blocks.
    pub fn start_processes(&mut self) {
        let [mut one, mut two] = [0, 1].map(|place| self.node("serve", place));
        let [mut three, mut four] = [0, 1].map(|place| self.node("consume", place));
        let began = Instant::now();
        // All at once: they have to agree on who makes the tables and the topic.
        std::thread::scope(|scope| {
            for node in [&mut one, &mut two, &mut three, &mut four] {
                scope.spawn(|| node.start());
            }
        });
        println!("  four processes on an empty database and no topic answer after {:?}", began.elapsed());
        (self.serves, self.consumes) = (vec![one, two], vec![three, four]);
    }

    /// A process that is not started yet, with ways of its own to the services.
    pub fn node(&self, role: &'static str, place: usize) -> Node {
        let (database, postgres) = through_proxy(&self.database_url);
        let (redis_url, redis) = through_proxy(self.services.url("REDIS_URL"));
        let shared = [
            ("DATABASE_URL", database.as_str()),
            ("REDIS_URL", &redis_url),
            ("CHATD_REDIS__PREFIX", &self.redis_prefix()),
        ];
        let mut env = self.settings();
        env.extend(self.log_settings());
        env.extend(shared.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let data = self.folder.path().join(format!("{role}{place}"));
        Node::new(role, data, env, (postgres, redis))
    }

    /// What is set on every process, wherever it keeps what it knows.
    pub fn settings(&self) -> Vec<(String, String)> {
        let offline_after = format!("{}s", OFFLINE_AFTER.as_secs());
        let grace = format!("{}ms", GRACE.as_millis());
        let env = [
            ("SMTP_URL", self.smtp_url.as_str()),
            ("CHATD_PRESENCE__OFFLINE_AFTER", &offline_after),
            ("CHATD_NOTIFY__GRACE", &grace),
            ("CHATD_NOTIFY__EMAIL__FROM", "chat@example.test"),
            ("CHATD_LIMITS__ENABLED", "false"),
            // Devices are to get everything, however long they were away.
            ("CHATD_DELIVERY__GAP_PER_CONVERSATION", "100000"),
            ("CHATD_DELIVERY__GAP_TOTAL", "1000000"),
        ];
        env.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    /// Where the log is.
    pub fn log_settings(&self) -> Vec<(String, String)> {
        let env = [
            ("KAFKA_BROKERS", self.services.brokers.clone()),
            ("CHATD_KAFKA__TOPIC_PREFIX", format!("{}.", self.group)),
            ("CHATD_KAFKA__GROUP", self.group.clone()),
        ];
        env.map(|(name, value)| (name.to_owned(), value)).into()
    }

    /// A folder in which nothing is yet.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Everybody, with addresses. Blocks.
    pub fn import_people(&self, setup: &Setup) {
        let line = |id: i64| {
            let address = self.address(id);
            format!("{{\"id\":{id},\"name\":\"user{id}\",\"email\":\"{address}\"}}\n")
        };
        let lines: String = PEOPLE.into_iter().flatten().map(line).collect();
        let file = self.folder.path().join("people.jsonl");
        std::fs::write(&file, lines).unwrap();
        run(setup, &["user", "import", file.to_str().unwrap()]);
    }

    /// Runs a command on the cluster's services, which has to go well; what it printed. Blocks.
    pub fn run(&self, arguments: &[&str]) -> String {
        run(&self.node("serve", 9).setup(), arguments)
    }

    /// The topic that is the log.
    pub fn topic(&self) -> String {
        format!("{}.chat.messages", self.group)
    }

    /// What all that is in Redis begins with.
    pub fn redis_prefix(&self) -> String {
        format!("{}:", self.group)
    }

    /// Somebody's address.
    pub fn address(&self, user: i64) -> String {
        format!("user{user}@{}", self.domain)
    }

    /// The services, to do something to them.
    pub fn fragile(&self) -> &Fragile {
        self.fragile.as_ref().expect("others use them too")
    }

    /// All of them.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.serves.iter().chain(&self.consumes)
    }

    /// Where the nodes listen.
    pub fn addresses(&self) -> Vec<&str> {
        self.serves.iter().map(Node::address).collect()
    }

    /// Everybody at work, on both nodes.
    pub async fn load(&self, pace: Pace) -> Load {
        Load::among(pace, &self.addresses()).await
    }

    /// Waits until all of them say that all is well; how long that took.
    pub async fn well(&self) -> Duration {
        let began = Instant::now();
        loop {
            let mut worst = None;
            for node in self.nodes() {
                let ready = node.ready().await;
                let is_well =
                    ready.as_ref().is_some_and(|(status, body)| *status == 200 && body["status"] == "ok");
                if !is_well {
                    worst = Some((node.role, ready));
                }
            }
            let Some(worst) = worst else { return began.elapsed() };
            assert!(began.elapsed() < PATIENCE, "not well: {worst:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What the processes hold before anything happens to them.
    pub fn remember_memory(&mut self) {
        let all = [("serve", &self.serves), ("consume", &self.consumes)];
        let memory = |(role, nodes): (&'static str, &Vec<Node>)| {
            nodes.iter().enumerate().map(|(place, node)| ((role, place), node.memory().0)).collect::<Vec<_>>()
        };
        self.memory = all.into_iter().flat_map(memory).collect();
    }

    /// No process has grown by more than this since, in MiB, at its highest; processes that are new since count
    /// whole.
    #[track_caller]
    pub fn assert_memory_within(&self, growth_max: u64) {
        for (role, nodes) in [("serve", &self.serves), ("consume", &self.consumes)] {
            for (place, node) in nodes.iter().enumerate() {
                let before = self.memory.get(&(role, place)).copied().unwrap_or(0);
                let (now, highest) = node.memory();
                println!("  memory of {role} {}: {before} MiB, now {now}, highest {highest}", place + 1);
                assert!(
                    highest < before + growth_max,
                    "{role}: {before} MiB before, {highest} at its highest"
                );
            }
        }
    }
}

/// Runs a command, which has to go well; what it printed. Blocks.
pub fn run(setup: &Setup, arguments: &[&str]) -> String {
    let output = setup.command().args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// A proxy in front of a service that is named by a URL, and the URL that leads through it.
fn through_proxy(url: &str) -> (String, Proxy) {
    let mut url: Url = url.parse().unwrap();
    let proxy = Proxy::to(&format!("{}:{}", url.host_str().unwrap(), url.port().unwrap()));
    url.set_host(Some("127.0.0.1")).unwrap();
    url.set_port(Some(proxy.address.port())).unwrap();
    (url.to_string(), proxy)
}
