//! Redis killed, held, flushed, or behind a lost connection: nothing waits for it, nothing is missed unnoticed, and
//! all of it is back within a heartbeat. Each test has a Redis of its own.

use std::time::{Duration, Instant};

use chatd::redis::{Redis, RedisSettings};

use crate::nodes_support::{
    HEARTBEAT, Node, Raw, eventually, frames, message, prefix, publication, settings, user,
};
use crate::stack::{OwnStack, stack};

/// What connecting again may take besides a heartbeat: the pause between two tries is a second at most.
const CONNECTING: Duration = Duration::from_secs(2);

struct Rig {
    stack: OwnStack,
    settings: RedisSettings,
    a: Node,
    b: Node,
    /// The last offset that was published.
    at: i64,
}

impl Rig {
    async fn start(name: &str) -> Self {
        let stack = OwnStack::start(name, &["redis"], &[]);
        let settings = settings(stack.exports.get("REDIS_URL"), &prefix(), "n-a");
        let a = Node::redis(settings.clone()).await;
        let b = Node::redis(RedisSettings { node: "n-b".into(), ..settings.clone() }).await;
        tokio::time::sleep(Duration::from_millis(1_010)).await;
        Self { stack, settings, a, b, at: -1 }
    }

    async fn publish(&mut self) -> Result<(), String> {
        let outcome = message(self.at + 1, 1, 2);
        let published = self.a.fanout.publish(vec![publication(self.at, self.at + 1, vec![outcome])]).await;
        self.at += 1;
        published.map_err(|error| error.to_string())
    }

    /// Repairs, as `serve` does once the doubt ends, and sees whether live events arrive again.
    async fn works_again(&mut self) {
        eventually("both are registered again", || !self.a.hub.is_doubtful() && !self.b.hub.is_doubtful())
            .await;
        let socket = self.b.socket(2).await;
        for node in [&self.a, &self.b] {
            node.repaired(self.at);
        }
        // Until the list of nodes is a second old, one of them may not be on it.
        let mut got = 0;
        for _ in 0..200 {
            self.publish().await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
            got += frames(&socket);
            if got > 0 {
                break;
            }
            self.b.repaired(self.at);
            frames(&socket);
        }
        assert!(got > 0, "nothing arrives");
        drop(socket);
        self.b.presence.left(user(2)).await.unwrap();
        for node in [&self.a, &self.b] {
            node.repaired(self.at);
        }
    }

    /// While Redis is away: errors at once, and nobody waits.
    async fn is_away(&mut self) {
        eventually("both are in doubt", || self.a.hub.is_doubtful() && self.b.hub.is_doubtful()).await;
        let began = Instant::now();
        for id in 100..200 {
            assert!(self.publish().await.is_err());
            assert!(self.a.fanout.publish(Vec::new()).await.is_err());
            assert!(self.b.presence.online(&[user(2)]).await.is_err(), "never `offline`");
            assert!(self.b.tickets.redeem("x").await.is_err());
            self.b.presence.joined(user(id)).await.unwrap();
        }
        assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_started_again_it_is_back_within_a_heartbeat_with_all_users() {
    let mut rig = Rig::start("redis-killed").await;
    let socket = rig.b.socket(1_000).await;
    rig.publish().await.unwrap();
    for _ in 0..2 {
        rig.stack.kill("redis");
        rig.is_away().await;
        rig.stack.restart("redis");
        let since = Instant::now();
        eventually("both are registered again", || !rig.a.hub.is_doubtful() && !rig.b.hub.is_doubtful())
            .await;
        assert!(since.elapsed() < CONNECTING + HEARTBEAT, "{:?}", since.elapsed());
        // Those who came in the meantime, and those who were there before.
        let users: Vec<i64> = (100..200).chain([1_000]).collect();
        eventually_online(&rig.a, &users).await;
        rig.works_again().await;
        for id in 100..200 {
            rig.b.presence.left(user(id)).await.unwrap();
        }
    }
    drop(socket);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn held_it_is_given_up_within_two_seconds_and_found_again() {
    let mut rig = Rig::start("redis-held").await;
    rig.stack.signal("redis", "STOP");
    let since = Instant::now();
    assert!(rig.publish().await.is_err());
    assert!(since.elapsed() < Duration::from_secs(2), "an owner goes on after {:?}", since.elapsed());
    rig.is_away().await;
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    rig.stack.signal("redis", "CONT");
    eventually("both are registered again", || !rig.a.hub.is_doubtful() && !rig.b.hub.is_doubtful()).await;
    eventually_online(&rig.a, &[100, 199]).await;
    rig.works_again().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_joins_while_it_hangs_is_let_in_and_the_node_is_in_doubt() {
    let rig = Rig::start("redis-hangs").await;
    rig.stack.signal("redis", "STOP");
    let since = Instant::now();
    let joined = rig.b.presence.joined(user(5)).await;
    assert!(joined.is_err() || rig.b.hub.is_doubtful(), "{joined:?}");
    assert!(since.elapsed() < Duration::from_millis(1_500), "{:?}", since.elapsed());
    eventually("it is in doubt", || rig.b.hub.is_doubtful()).await;
    rig.stack.signal("redis", "CONT");
    eventually_online(&rig.b, &[5]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flushed_it_is_told_everything_or_in_doubt_and_back_within_a_heartbeat() {
    let mut rig = Rig::start("redis-flushed").await;
    let socket = rig.b.socket(2).await;
    let mut raw = Raw::connect(rig.settings.url.expose());
    for _ in 0..10 {
        raw.ask(&["FLUSHALL"]);
        let since = Instant::now();
        let lease = format!("{}lease:n-b", rig.settings.prefix);
        while raw.ask(&["GET", &lease]).is_empty() {
            // Whoever hears of a record has what concerns its user.
            rig.publish().await.unwrap();
            let heard = tokio::time::timeout(Duration::from_millis(20), rig.b.hears(rig.at)).await.is_ok();
            let got = frames(&socket);
            assert!(!heard || got == 1, "heard of {} and was given {got}", rig.at);
            rig.b.repaired(rig.at);
            frames(&socket);
            assert!(since.elapsed() < HEARTBEAT * 2, "{:?}", since.elapsed());
        }
        eventually("it is registered again", || !rig.b.hub.is_doubtful()).await;
    }
    rig.works_again().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_connection_begins_a_new_generation_and_is_made_again() {
    let mut rig = Rig::start("redis-dropped").await;
    let socket = rig.b.socket(1_000).await;
    let mut raw = Raw::connect(rig.settings.url.expose());
    let lease = format!("{}lease:n-b", rig.settings.prefix);
    for _ in 0..5 {
        let before = raw.ask(&["GET", &lease]);
        raw.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        let mut after = before.clone();
        let since = Instant::now();
        while after == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
            after = raw.ask(&["GET", &lease]);
            assert!(since.elapsed() < CONNECTING + HEARTBEAT, "{:?}", since.elapsed());
        }
        rig.works_again().await;
    }
    eventually_online(&rig.a, &[1_000]).await;
    assert_eq!(raw.keys(&rig.settings.prefix).len(), 5, "{:?}", raw.keys(&rig.settings.prefix));
    drop(socket);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_rest_it_costs_the_same_however_many_users_there_are() {
    let rig = Rig::start("redis-rest").await;
    let mut raw = Raw::connect(rig.settings.url.expose());
    let few = commands(&mut raw, HEARTBEAT * 10).await;
    for id in 1..=2_000 {
        rig.a.presence.joined(user(id)).await.unwrap();
    }
    let many = commands(&mut raw, HEARTBEAT * 10).await;
    // Two nodes, a renewal with six commands inside for each heartbeat.
    assert!(few <= 2 * 7 * 11 && many <= few + 2 * 7 * 2, "{few}, then {many}");
}

/// Commands that Redis does in a time, the questions about it aside.
async fn commands(raw: &mut Raw, time: Duration) -> u64 {
    let mut count = || {
        let info = raw.ask(&["INFO", "stats"]).concat();
        let line = info.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
        line.unwrap().parse::<u64>().unwrap()
    };
    let before = count();
    tokio::time::sleep(time).await;
    count() - before - 1
}

async fn eventually_online(node: &Node, ids: &[i64]) {
    let users: Vec<_> = ids.iter().map(|id| user(*id)).collect();
    let until = Instant::now() + Duration::from_secs(30);
    while !node.presence.online(&users).await.is_ok_and(|online| !online.contains(&false)) {
        assert!(Instant::now() < until, "not online within 30 s");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_tls_and_databases_are_those_of_the_url() {
    // The server installs it first thing.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let exports = stack(&["redis"]);
    for name in ["REDIS_URL", "REDIS_AUTH_URL", "REDIS_TLS_URL", "REDIS_TLS_AUTH_URL"] {
        let url = exports.get(name).trim_end_matches("/0").to_owned() + "/3";
        let mut settings = settings(&url, &prefix(), "n-1");
        settings.ca_file = Some(exports.get("REDIS_CA_FILE").into());
        let node = Node::redis(settings.clone()).await;
        node.presence.joined(user(1)).await.unwrap();
        assert_eq!(node.online(&[1]).await, [true], "{name}");
        let mut raw = Raw::connect(exports.get("REDIS_URL"));
        assert!(raw.keys(&settings.prefix).is_empty(), "in another database");
        raw.ask(&["SELECT", "3"]);
        assert_eq!(raw.keys(&settings.prefix).len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_no_connection_and_no_setting_that_cannot_work_is_taken() {
    let exports = stack(&["redis"]);
    let wrong = exports.get("REDIS_URL").replace("redis://", "redis://nobody:wrong-secret@");
    let redis = Redis::open(settings(&wrong, &prefix(), "n-1")).unwrap();
    let node = Node::unregistered(settings(&wrong, &prefix(), "n-2"));
    assert!(tokio::time::timeout(Duration::from_millis(300), redis.connected()).await.is_err());
    let error = node.fanout.publish(Vec::new()).await.unwrap_err().to_string();
    assert!(node.hub.is_doubtful() && !error.contains("wrong-secret"), "{error}");
    for url in ["redis-sentinel://:hush@127.0.0.1:1", "redis://:hush@127.0.0.1:1/notadb"] {
        let Err(error) = Redis::open(settings(url, "t:", "n")) else { panic!("{url}") };
        assert!(!error.to_string().contains("hush"), "{error}");
    }
}
