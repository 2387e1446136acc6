//! A cluster on which nothing fails: what one node is told, the other knows.

use std::time::{Duration, Instant};

use chatd::cli::bench::client::Client;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::database;
use crate::history;
use crate::node::{Node, PATIENCE};
use crate::scene::Scene;
use crate::support;

async fn connect(node: &Node, user: i64) -> Client {
    let mut client = Client::connect(&node.ws(&support::token(user)), &[]).await.unwrap();
    next(&mut client, "resumed").await;
    client
}

/// The next frame of a type.
async fn next(client: &mut Client, kind: &str) -> Value {
    let wait = async {
        loop {
            let frame = client.recv_json().await.unwrap();
            if frame["type"] == kind {
                return frame;
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("no `{kind}` came"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_on_two_nodes_are_in_one_chat() {
    let cluster = Cluster::start_beside_others(None).await;
    println!("  all four say that they are ready after {:?}", cluster.well().await);
    let [one, two] = [&cluster.serves[0], &cluster.serves[1]];
    let (mut ana, mut ben) = (connect(one, 1).await, connect(two, 2).await);

    let began = Instant::now();
    for number in 1..=20 {
        let (from, to, user) =
            if number % 2 == 1 { (&mut ana, &mut ben, 2) } else { (&mut ben, &mut ana, 1) };
        let content = format!("hello {number}");
        from.send_json(&json!({"type": "send", "to": user, "content": content})).await.unwrap();
        for client in [to, from] {
            let message = next(client, "message").await;
            assert_eq!((&message["content"], &message["seq"]), (&json!(content), &json!(number)));
        }
    }
    println!("  20 messages there and back in {:?}", began.elapsed());
    // What was confirmed on one node is known on the other.
    ben.send_json(&json!({"type": "read", "conversation": "dm-1-2", "seq": 20})).await.unwrap();
    while next(&mut ana, "receipt").await["read"] != 20 {}

    // The same history from everywhere.
    let conversation = "dm-1-2".parse().unwrap();
    let from_one = history::read(one.address(), conversation, &support::token(2)).await;
    let from_two = history::read(two.address(), conversation, &support::token(1)).await;
    assert!(from_one == from_two && from_one.len() == 20, "{from_one:?} {from_two:?}");
    let stored = database::history(&cluster.database_url).await;
    assert_eq!(
        stored.iter().map(|row| row.id).collect::<Vec<_>>(),
        from_one.iter().map(|r| r.id).collect::<Vec<_>>()
    );
    assert_eq!(stored[19].content, "hello 20");

    // What is edited and deleted on one node is so on the other, and in the database.
    let [first, second] = [0, 1].map(|at: usize| stored[at].id.to_string());
    let change = |kind: &str, id: &str| json!({"type": kind, "conversation": "dm-1-2", "id": id, "content": "changed"});
    ana.send_json(&change("edit", &first)).await.unwrap();
    for client in [&mut ana, &mut ben] {
        let edited = next(client, "edited").await;
        assert_eq!((&edited["id"], &edited["content"]), (&json!(first), &json!("changed")));
    }
    ben.send_json(&change("delete", &second)).await.unwrap();
    for client in [&mut ana, &mut ben] {
        assert_eq!(next(client, "deleted").await["id"], second);
    }
    ben.send_json(&change("edit", &first)).await.unwrap();
    assert_eq!(next(&mut ben, "error").await["code"], "forbidden");
    for (node, user) in [(one, 2), (two, 1)] {
        let path = "/v1/conversations/dm-1-2/messages?after=0&limit=2";
        let (_, page) = history::get(node.address(), path, user).await;
        let contents: Vec<_> =
            page["messages"].as_array().unwrap().iter().map(|row| &row["content"]).collect();
        assert_eq!(contents, [&json!("changed"), &Value::Null]);
    }
    let left = database::history(&cluster.database_url).await;
    let words: Vec<_> = left.iter().take(2).map(|row| row.content.as_str()).collect();
    assert_eq!((left.len(), words), (22, vec!["changed", ""]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_of_one_node_opens_one_socket_on_the_other() {
    let cluster = Cluster::start_beside_others(None).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/v1/auth/tickets", cluster.serves[0].address());
    let answer = http.post(url).bearer_auth(support::token(1)).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    let answer: Value = answer.json().await.unwrap();
    let url =
        format!("ws://{}/ws?ticket={}", cluster.serves[1].address(), answer["ticket"].as_str().unwrap());
    let mut client = Client::connect(&url, &[]).await.unwrap();
    assert_eq!(client.recv_json().await.unwrap()["user"]["id"], 1);
    // It is used up, here and there.
    for node in &cluster.serves {
        let again = url.replace(cluster.serves[1].address(), node.address());
        assert!(Client::connect(&again, &[]).await.is_err(), "a ticket opened a second socket");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_all_is_kept_and_who_is_away_is_mailed() {
    let scene = Scene::begin().await;
    scene.go_on(Duration::from_secs(5)).await;
    scene.end(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_comes_back_on_another_node_gets_what_it_missed() {
    let cluster = Cluster::start_beside_others(None).await;
    let [one, two] = [&cluster.serves[0], &cluster.serves[1]];
    let (mut ana, mut ben) = (connect(one, 1).await, connect(two, 2).await);
    let mut cursor = String::new();
    for number in 1..=40 {
        let content = format!("hello {number}");
        ana.send_json(&json!({"type": "send", "to": 2, "content": content})).await.unwrap();
        if number <= 20 {
            assert_eq!(next(&mut ben, "message").await["seq"], number);
        }
        if number == 20 {
            ben.send_json(&json!({"type": "ping"})).await.unwrap();
            cursor = next(&mut ben, "pong").await["cursor"].as_str().unwrap().to_owned();
            drop(ben);
            ben = Client::connect(&one.ws(&support::token(3)), &[]).await.unwrap();
        }
        assert_eq!(next(&mut ana, "message").await["seq"], number);
    }
    for (node, cursor) in [(one, Some(&cursor)), (two, Some(&cursor)), (one, None)] {
        ben = Client::connect(&node.ws(&support::token(2)), &[]).await.unwrap();
        ben.send_json(&json!({"type": "resume", "cursor": cursor})).await.unwrap();
        let mut missed = Vec::new();
        loop {
            let frame = ben.recv_json().await.unwrap();
            match frame["type"].as_str().unwrap() {
                "message" => missed.push(frame["seq"].as_i64().unwrap()),
                "resumed" => break,
                "error" => panic!("{frame}"),
                _ => {}
            }
        }
        // The last one confirmed what it was given before, as each pong and each cursor did.
        let first = missed.first().copied().unwrap_or(41);
        assert!(first >= 21 && missed == (first..=40).collect::<Vec<_>>(), "{missed:?}");
    }
}
