//! Redis forgets everything, dies, or says nothing: messages are stored all the same, and reach everybody by way
//! of storage; nobody who is there is mailed.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::cluster::Cluster;
use crate::proxy::Way;
use crate::scene::{Scene, outage};

/// Nodes read storage when they heard nothing for 3 s; the rest is a debug build on a busy machine.
const THROUGH_STORAGE_WITHIN: Duration =
    Duration::from_millis(if cfg!(debug_assertions) { 5_500 } else { 4_000 });
/// While the outage lasts, what is written reaches everybody within this.
const MEANWHILE_WITHIN: Duration = Duration::from_secs(3);
/// After it: one heartbeat.
const BACK_WITHIN: Duration = Duration::from_secs(5);

async fn command(cluster: &Cluster, command: &str) {
    let url: reqwest::Url = cluster.services.url("REDIS_URL").parse().unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", url.port().unwrap())).await.unwrap();
    stream.write_all(format!("{command}\r\n").as_bytes()).await.unwrap();
    let mut answer = [0; 64];
    let count = stream.read(&mut answer).await.unwrap();
    assert_eq!(&answer[..count], b"+OK\r\n");
}

/// Redis forgets all that is this cluster's.
pub async fn forget(cluster: &Cluster) {
    const SCRIPT: &str = "for _, key in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('DEL', key) end \
                          return redis.status_reply('OK')";
    command(cluster, &format!("EVAL \"{SCRIPT}\" 0 {}*", cluster.redis_prefix())).await;
}

/// Redis is away now: for as long as an outage lasts, everybody hears from everybody.
async fn assert_through_storage(scene: &Scene, what: &str) {
    let fault = scene.fault();
    scene.assert_delivers(&fault, THROUGH_STORAGE_WITHIN, &format!("{what}, at first")).await;
    for _ in 0..2 {
        let meanwhile = scene.fault();
        scene.assert_delivers(&meanwhile, MEANWHILE_WITHIN, &format!("{what}, meanwhile")).await;
        scene.go_on(outage(10, 1)).await;
    }
}

async fn assert_back(scene: &Scene, what: &str) {
    let back = scene.fault();
    scene.assert_delivers(&back, BACK_WITHIN, what).await;
    println!("  all is well {:?} later", scene.cluster.well().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_may_forget_everything_and_die() {
    let scene = Scene::begin().await;
    for _ in 0..3 {
        let fault = scene.fault();
        command(&scene.cluster, "FLUSHALL").await;
        scene.assert_delivers(&fault, BACK_WITHIN, "Redis forgot everything").await;
        scene.go_on(Duration::from_secs(1)).await;
    }
    scene.cluster.fragile().kill("redis");
    assert_through_storage(&scene, "Redis is dead").await;
    scene.cluster.fragile().restart("redis");
    assert_back(&scene, "Redis was killed and is back").await;
    scene.end(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_may_be_silent() {
    let scene = Scene::begin().await;
    let ways: Vec<_> = scene.cluster.nodes().map(|node| node.redis.clone()).collect();
    ways.iter().for_each(|way| way.set(Way::Swallowed));
    assert_through_storage(&scene, "Redis is silent").await;
    ways.iter().for_each(|way| way.heal());
    assert_back(&scene, "Redis speaks again").await;
    scene.end(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_alone_has_lost_redis_delays_nobody_for_long() {
    let scene = Scene::begin().await;
    for (what, way, fault) in [
        ("a node without Redis", scene.cluster.serves[0].redis.clone(), Way::Swallowed),
        ("a consumer without Redis", scene.cluster.consumes[0].redis.clone(), Way::Held),
    ] {
        way.set(fault);
        assert_through_storage(&scene, what).await;
        way.heal();
        assert_back(&scene, &format!("it is over: {what}")).await;
    }
    scene.end(false).await;
}
