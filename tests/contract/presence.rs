//! What presence promises, in memory and through Redis: counted sockets, and an error where it cannot know.

use std::time::{Duration, Instant};

use chatd::redis::RedisSettings;

use crate::nodes_support::{HEARTBEAT, LONG, Node, Raw, eventually, prefix, settings, user};
use crate::stack::stack;

async fn redis() -> Node {
    Node::redis(settings(stack(&["redis"]).get("REDIS_URL"), &prefix(), "n-1")).await
}

/// Runs the cases on both adapters.
macro_rules! contract {
    ($($case:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(super::Node::memory()).await;
            })*
        }
        mod redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(super::redis().await).await;
            })*
        }
    };
}

contract!(
    a_user_is_online_while_any_socket_is,
    answers_come_in_the_order_asked,
    a_quick_reload_leaves_a_user_online,
    many_who_come_and_go_at_once_are_counted_right,
    who_has_changed_is_named_once_it_can_be_seen,
);

async fn a_user_is_online_while_any_socket_is(node: Node) {
    let presence = &node.presence;
    assert_eq!(node.online(&[1]).await, [false]);
    presence.joined(user(1)).await.unwrap();
    presence.joined(user(1)).await.unwrap();
    presence.left(user(1)).await.unwrap();
    assert_eq!(node.online(&[1]).await, [true]);
    presence.left(user(1)).await.unwrap();
    offline(&node, 1).await;
}

async fn answers_come_in_the_order_asked(node: Node) {
    for id in [5, 3, 9] {
        node.presence.joined(user(id)).await.unwrap();
    }
    assert_eq!(node.online(&[9, 4, 3, 9, 1, 5]).await, [true, false, true, true, false, true]);
    assert_eq!(node.online(&[]).await, Vec::<bool>::new());
}

async fn a_quick_reload_leaves_a_user_online(node: Node) {
    node.presence.joined(user(1)).await.unwrap();
    for _ in 0..50 {
        node.presence.left(user(1)).await.unwrap();
        node.presence.joined(user(1)).await.unwrap();
        assert_eq!(node.online(&[1]).await, [true]);
    }
}

async fn many_who_come_and_go_at_once_are_counted_right(node: Node) {
    let users: Vec<i64> = (1..=3_000).collect();
    let come = users.iter().map(|id| node.presence.joined(user(*id)));
    assert!(futures_util::future::join_all(come).await.iter().all(Result::is_ok));
    assert_eq!(node.online(&users).await, vec![true; users.len()]);
    for id in &users {
        node.presence.left(user(*id)).await.unwrap();
    }
    offline(&node, 3_000).await;
    assert_eq!(node.online(&users).await, vec![false; users.len()]);
}

async fn who_has_changed_is_named_once_it_can_be_seen(node: Node) {
    let presence = &node.presence;
    let changed = || tokio::time::timeout(LONG, presence.changed());
    presence.joined(user(1)).await.unwrap();
    presence.joined(user(1)).await.unwrap();
    assert_eq!(changed().await.unwrap(), [user(1)]);
    presence.left(user(1)).await.unwrap();
    presence.joined(user(2)).await.unwrap();
    assert_eq!(changed().await.unwrap(), [user(2)], "the other has a socket still");
    presence.left(user(1)).await.unwrap();
    assert_eq!(changed().await.unwrap(), [user(1)]);
    assert_eq!(node.online(&[1, 2]).await, [false, true], "by then it is so");
    assert!(tokio::time::timeout(HEARTBEAT / 10, presence.changed()).await.is_err());
    let outlook = presence.outlook().await.unwrap();
    assert_eq!(presence.outlook().await.unwrap(), outlook, "nodes stay as they are");
}

/// Redis is told of those who left soon after.
async fn offline(node: &Node, id: i64) {
    for _ in 0..1_000 {
        if node.online(&[id]).await == [false] {
            return;
        }
        tokio::time::sleep(HEARTBEAT / 100).await;
    }
    panic!("{id} stays online");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_knows_who_is_on_any_of_them() {
    let (exports, prefix) = (stack(&["redis"]), prefix());
    let node = |name| Node::redis(settings(exports.get("REDIS_URL"), &prefix, name));
    let (a, b) = (node("n-a").await, node("n-b").await);
    a.presence.joined(user(1)).await.unwrap();
    b.presence.joined(user(2)).await.unwrap();
    // The list of nodes is a second old at most.
    for both in [&a, &b] {
        for _ in 0..1_000 {
            if both.online(&[1, 2]).await == [true, true] {
                break;
            }
            tokio::time::sleep(HEARTBEAT / 100).await;
        }
        assert_eq!(both.online(&[1, 2, 3]).await, [true, true, false]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_takes_its_users_and_its_keys_along() {
    let (exports, prefix) = (stack(&["redis"]), prefix());
    let node = |name| Node::redis(settings(exports.get("REDIS_URL"), &prefix, name));
    let (a, b) = (node("n-a").await, node("n-b").await);
    a.presence.joined(user(1)).await.unwrap();
    a.stop().await;
    let keys = Raw::connect(exports.get("REDIS_URL")).keys(&prefix);
    assert!(!keys.iter().any(|key| key.contains("n-a")), "{keys:?}");
    // An answer of a moment ago may still be about both; one that could not be sure was an error.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(b.online(&[1]).await, [false]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_that_redis_lost_is_an_error_and_never_offline() {
    let (exports, prefix) = (stack(&["redis"]), prefix());
    let node = Node::redis(settings(exports.get("REDIS_URL"), &prefix, "n-1")).await;
    node.presence.joined(user(1)).await.unwrap();
    let mut raw = Raw::connect(exports.get("REDIS_URL"));
    for _ in 0..5 {
        raw.forget(&format!("{prefix}*"));
        let mut errors = 0;
        loop {
            match node.presence.online(&[user(1)]).await {
                Ok(online) => assert_eq!(online, [true]),
                Err(_) => errors += 1,
            }
            if !raw.keys(&format!("{prefix}lease")).is_empty() && node.online_now(1).await {
                break;
            }
            assert!(errors < 100_000, "it does not come back");
        }
        eventually("it is registered again", || !node.hub.is_doubtful()).await;
    }
}

/// How long somebody stays online, from now on.
async fn stays_online(node: &Node, id: i64) -> Duration {
    let began = Instant::now();
    while node.online_now(id).await {
        assert!(began.elapsed() < LONG, "for ever");
        tokio::time::sleep(HEARTBEAT / 30).await;
    }
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_users_of_a_node_that_ends_stay_for_a_while_however_it_ends() {
    const LINGER: Duration = Duration::from_secs(2);
    let (exports, prefix) = (stack(&["redis"]), prefix());
    let node = |name| {
        Node::redis(RedisSettings { linger: LINGER, ..settings(exports.get("REDIS_URL"), &prefix, name) })
    };
    let (a, b, c) = (node("n-a").await, node("n-b").await, node("n-c").await);
    a.presence.joined(user(1)).await.unwrap();
    c.presence.joined(user(3)).await.unwrap();
    let mut outlooks = vec![b.presence.outlook().await.unwrap()];
    a.stop().await;
    let stayed = stays_online(&b, 1).await;
    // An answer of a second ago may still be about the node.
    assert!(stayed > LINGER - Duration::from_millis(500) && stayed < LINGER * 2, "in order: {stayed:?}");
    outlooks.push(b.presence.outlook().await.unwrap());
    assert!(b.online_now(3).await);
    // As by kill -9: nothing is said any more.
    drop(c);
    let lease = HEARTBEAT * 3 + Duration::from_secs(1);
    let stayed = stays_online(&b, 3).await;
    assert!(stayed > lease + LINGER - HEARTBEAT * 2 && stayed < (lease + LINGER) * 2, "killed: {stayed:?}");
    outlooks.push(b.presence.outlook().await.unwrap());
    outlooks.dedup();
    assert_eq!(outlooks.len(), 3, "each end shows");
    eventually("nothing is left of them", || {
        let keys = Raw::connect(exports.get("REDIS_URL")).keys(&prefix);
        !keys.iter().any(|key| key.contains("n-a") || key.contains("n-c"))
    })
    .await;
}

impl Node {
    async fn online_now(&self, id: i64) -> bool {
        self.presence.online(&[user(id)]).await.is_ok_and(|online| online == [true])
    }
}
