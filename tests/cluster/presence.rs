//! Who is there, and who types, as seen from another node: while people move, nodes die, and Redis forgets or is away.

use std::time::{Duration, Instant};

use chatd::cli::bench::client::Client;
use serde_json::{Value, json};

use crate::cluster::{Cluster, OFFLINE_AFTER};
use crate::history;
use crate::node::{Node, PATIENCE};
use crate::proxy::Way;
use crate::redis;
use crate::support;

/// Three heartbeats and a second.
const LEASE: Duration = Duration::from_secs(10);
/// So long after Redis is back nobody is sure that all nodes are.
const SURE_WITHIN: Duration = Duration::from_secs(12);

async fn connect(node: &Node, user: i64) -> Client {
    let mut client = Client::connect(&node.ws(&support::token(user)), &[]).await.unwrap();
    until(&mut client, |frame| frame["type"] == "resumed").await;
    client
}

/// The next frame like that; others are passed over.
async fn until(client: &mut Client, is_it: impl Fn(&Value) -> bool) -> Value {
    let wait = async {
        loop {
            let frame = client.recv_json().await.unwrap();
            if is_it(&frame) {
                return frame;
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("it comes")
}

/// What is told of presence within a time.
async fn told(client: &mut Client, within: Duration) -> Vec<Value> {
    let (until, mut told) = (tokio::time::Instant::now() + within, Vec::new());
    while let Ok(frame) = tokio::time::timeout_at(until, client.recv_json()).await {
        told.extend(Some(frame.unwrap()).filter(|frame| frame["type"] == "presence"));
    }
    told
}

async fn watch(client: &mut Client, users: &[i64]) -> Value {
    client.send_json(&json!({"type": "watch", "users": users, "ref": "w"})).await.unwrap();
    until(client, |frame| frame["ref"] == "w").await
}

/// What a frame says of a user, if anything.
fn status(frame: &Value, user: i64) -> Option<&str> {
    frame["users"].as_array()?.iter().find(|seen| seen["user"] == user)?["status"].as_str()
}

/// Waits until somebody is said to be so.
async fn becomes(client: &mut Client, user: i64, what: &str) -> Duration {
    let began = Instant::now();
    until(client, |frame| frame["type"] == "presence" && status(frame, user) == Some(what)).await;
    began.elapsed()
}

async fn leave(mut client: Client) {
    client.close(1000, "").await.unwrap();
    while client.recv_json().await.is_ok() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_on_two_nodes_see_each_other_come_type_move_and_go() {
    let cluster = Cluster::start_beside_others(None).await;
    let [one, two] = [&cluster.serves[0], &cluster.serves[1]];
    let mut ana = connect(one, 1).await;
    assert_eq!(status(&watch(&mut ana, &[2]).await, 2), Some("offline"));
    let mut ben = connect(two, 2).await;
    println!(
        "  somebody who comes is seen on the other node {:?} later",
        becomes(&mut ana, 2, "online").await
    );
    for active in [true, false] {
        ben.send_json(&json!({"type": "typing", "to": 1, "active": active})).await.unwrap();
        let typing = until(&mut ana, |frame| frame["type"] == "typing").await;
        assert_eq!((&typing["user"], &typing["active"]), (&json!(2), &json!(active)));
    }
    leave(ben).await;
    let ben = connect(one, 2).await;
    let moved = told(&mut ana, OFFLINE_AFTER + Duration::from_secs(2)).await;
    assert_eq!(moved, [] as [Value; 0], "a move to another node shows nothing");
    leave(ben).await;
    let after = becomes(&mut ana, 2, "offline").await;
    println!("  somebody who goes is seen to have gone {after:?} later");
    assert!(after > OFFLINE_AFTER - Duration::from_millis(500), "{after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_people_of_a_node_that_is_killed_are_away_when_its_lease_has_ended_and_a_while_has_passed() {
    let mut cluster = Cluster::start_beside_others(None).await;
    let mut ana = connect(&cluster.serves[0], 1).await;
    let mut ben = connect(&cluster.serves[1], 2).await;
    let moving = connect(&cluster.serves[1], 3).await;
    let answer = watch(&mut ana, &[2, 3, 4]).await;
    assert_eq!(
        [2, 3, 4].map(|user| status(&answer, user)),
        [Some("online"), Some("online"), Some("offline")]
    );
    ben.send_json(&json!({"type": "typing", "to": 1, "active": true})).await.unwrap();
    until(&mut ana, |frame| frame["type"] == "typing" && frame["active"] == true).await;
    cluster.serves[1].kill();
    let began = Instant::now();
    drop((ben, moving));
    let _moved = connect(&cluster.serves[0], 3).await;
    until(&mut ana, |frame| frame["type"] == "typing" && frame["active"] == false).await;
    println!("  who typed on a node that was killed types no more {:?} later", began.elapsed());
    let (status_now, seen) = history::get(cluster.serves[0].address(), "/v1/users/2/presence", 1).await;
    assert_eq!((status_now, &seen["status"]), (200, &json!("online")), "not yet: {:?}", began.elapsed());
    becomes(&mut ana, 2, "offline").await;
    let after = began.elapsed();
    println!("  the people of a node that was killed are away {after:?} later");
    let heartbeat = Duration::from_secs(3);
    assert!(after > LEASE - heartbeat + OFFLINE_AFTER && after < LEASE + OFFLINE_AFTER * 3, "{after:?}");
    let answer = watch(&mut ana, &[2, 3]).await;
    assert_eq!([2, 3].map(|user| status(&answer, user)), [Some("offline"), Some("online")]);
    assert!(answer["users"][0]["last_seen"].is_string(), "it is kept when they were seen");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_away_because_redis_forgot_them() {
    let cluster = Cluster::start_beside_others(None).await;
    let [one, two] = [&cluster.serves[0], &cluster.serves[1]];
    let (mut ana, _ben) = (connect(one, 1).await, connect(two, 2).await);
    assert_eq!(status(&watch(&mut ana, &[2, 3]).await, 2), Some("online"));
    for _ in 0..3 {
        redis::forget(&cluster).await;
        let mut asked = connect(one, 4).await;
        let answer = watch(&mut asked, &[2, 3]).await;
        let began = Instant::now();
        let answer = match answer["type"].as_str() {
            Some("error") => {
                assert_eq!(answer["code"], "unavailable");
                until(&mut asked, |frame| frame["type"] == "presence").await
            }
            _ => answer,
        };
        assert_eq!((status(&answer, 2), status(&answer, 3)), (Some("online"), Some("offline")));
        println!("  after Redis forgot everything a question is answered within {:?}", began.elapsed());
        assert!(began.elapsed() < SURE_WITHIN);
        assert_eq!(told(&mut ana, Duration::from_secs(4)).await, [] as [Value; 0]);
        leave(asked).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_redis_is_away_nothing_is_said_and_the_truth_when_it_is_back() {
    let cluster = Cluster::start_beside_others(None).await;
    let [one, two] = [&cluster.serves[0], &cluster.serves[1]];
    let (mut ana, _ben) = (connect(one, 1).await, connect(two, 2).await);
    assert_eq!(status(&watch(&mut ana, &[2, 3]).await, 2), Some("online"));
    let ways: Vec<_> = cluster.nodes().map(|node| node.redis.clone()).collect();
    ways.iter().for_each(|way| way.set(Way::Swallowed));
    // Longer than leases and whatever lingers.
    let away = Instant::now();
    let _cara = connect(two, 3).await;
    let mut dora = connect(one, 4).await;
    let answer = watch(&mut dora, &[2, 3, 5]).await;
    assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!("unavailable")));
    let (status_now, body) = history::get(one.address(), "/v1/users/2/presence", 1).await;
    assert_eq!((status_now, &body["code"]), (503, &json!("unavailable")));
    let rest = (LEASE + OFFLINE_AFTER + Duration::from_secs(4)).saturating_sub(away.elapsed());
    assert_eq!(told(&mut ana, rest).await, [] as [Value; 0], "nothing is known");
    ways.iter().for_each(|way| way.heal());
    let back = Instant::now();
    let answer = until(&mut dora, |frame| frame["type"] == "presence").await;
    assert_eq!(
        [2, 3, 5].map(|user| status(&answer, user)),
        [Some("online"), Some("online"), Some("offline")]
    );
    println!("  a question of before is answered {:?} after Redis came back", back.elapsed());
    assert!(back.elapsed() < SURE_WITHIN, "{:?}", back.elapsed());
    let news = told(&mut ana, Duration::from_secs(3)).await;
    assert_eq!(news.iter().filter_map(|frame| status(frame, 3)).collect::<Vec<_>>(), ["online"]);
    assert!(news.iter().all(|frame| status(frame, 2).is_none()), "who was there all the time: {news:?}");
}
