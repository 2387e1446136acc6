//! What presence promises, in memory and through Redis: counted sockets, and an error where it cannot know.

use crate::nodes_support::{HEARTBEAT, Node, Raw, eventually, prefix, settings, user};
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

impl Node {
    async fn online_now(&self, id: i64) -> bool {
        self.presence.online(&[user(id)]).await.is_ok_and(|online| online == [true])
    }
}
