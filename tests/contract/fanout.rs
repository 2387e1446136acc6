//! What fan-out promises, in memory and through Redis: who is told what, and that what is lost leaves a hole.

use std::sync::Arc;
use std::time::Duration;

use chatd::delivery::watchers::{COLLECT, Found, Request};
use chatd::delivery::{Attachment, Hint, Item, Typing};
use chatd::domain::{ConversationId, Offset, Secret, Seq, Timestamp, UserId};
use chatd::redis::RedisSettings;
use chatd::storage::Receipt;

use crate::nodes_support::{
    HEARTBEAT, LONG, Node, Raw, eventually, frames, message, prefix, publication, rejection, settings, text,
    user,
};
use crate::stack::stack;

async fn redis() -> Node {
    Node::redis(settings(stack(&["redis"]).get("REDIS_URL"), &prefix(), "n-1")).await
}

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
    a_socket_gets_what_concerns_its_user_in_order,
    receipts_reach_both_members,
    nothing_to_tell_finds_out_whether_nodes_can_be_reached,
    large_batches_arrive_whole,
    what_was_lost_leaves_a_hole,
    typing_reaches_the_others_until_it_ends_or_is_forgotten,
    hints_reach_who_watches,
);

async fn a_socket_gets_what_concerns_its_user_in_order(node: Node) {
    let socket = node.socket(2).await;
    let outcomes = vec![message(0, 1, 2), message(1, 3, 4), message(3, 2, 9)];
    node.fanout.publish(vec![publication(-1, 4, outcomes)]).await.unwrap();
    node.fanout.publish(vec![publication(4, 5, vec![message(5, 1, 2)])]).await.unwrap();
    node.hears(5).await;
    let seqs = socket.mailbox().take(usize::MAX).items.into_iter().map(|item| match item {
        Item::Event { seq, .. } => seq.0,
        Item::Rejected { .. } | Item::Signal(_) => panic!("not sent"),
    });
    assert_eq!(seqs.collect::<Vec<_>>(), [1, 4, 6]);
}

async fn receipts_reach_both_members(node: Node) {
    let (a, b, other) = (node.socket(1).await, node.socket(2).await, node.socket(3).await);
    let conversation = ConversationId::dm(user(1), user(2)).unwrap();
    let receipt = Receipt { conversation, user: user(2), delivered: Seq(3), read: Seq(1) };
    node.fanout.receipts(Vec::new()).await.unwrap();
    node.fanout.receipts(vec![receipt, receipt]).await.unwrap();
    node.fanout.publish(vec![publication(-1, 0, vec![])]).await.unwrap();
    node.hears(0).await;
    assert_eq!((frames(&a), frames(&b), frames(&other)), (2, 2, 0));
}

async fn typing_reaches_the_others_until_it_ends_or_is_forgotten(node: Node) {
    let (a, b, other) = (node.socket(1).await, node.socket(2).await, node.socket(3).await);
    node.fanout.typing(Vec::new()).await.unwrap();
    for (active, told) in [(false, 0), (true, 1), (true, 1), (false, 1), (false, 0)] {
        node.fanout.typing(vec![typing(1, 2, active)]).await.unwrap();
        assert_eq!((frames(&a), frames(&b), frames(&other)), (0, told, 0), "{active}");
    }
}

async fn hints_reach_who_watches(node: Node) {
    let socket = node.socket(1).await;
    watches(&node, &socket, 2);
    node.fanout.presence(&[]).await.unwrap();
    node.fanout.presence(&[hint(3)]).await.unwrap();
    assert!(tokio::time::timeout(COLLECT * 2, node.hub.watchers().due()).await.is_err());
    node.fanout.presence(&[hint(3), hint(2)]).await.unwrap();
    assert_eq!(looked_at(&node).await, [user(2)]);
}

fn hint(id: i64) -> Hint {
    Hint { user: user(id), is_about_views: false }
}

/// Somebody watches a user, and was answered.
fn watches(node: &Node, socket: &Attachment, id: i64) {
    let (place, watchers) = (socket.place(), node.hub.watchers());
    let request = Request {
        place,
        mailbox: Arc::clone(socket.mailbox()),
        viewer: user(1),
        turn: watchers.turn(place),
        users: vec![user(id)],
        mark: None,
        unavailable: None,
    };
    watchers.watch(request).unwrap();
    let look = watchers.next().unwrap();
    watchers.learned(&look, &Found::default(), &[], Timestamp::now());
}

/// Who is to be looked at, once somebody is.
async fn looked_at(node: &Node) -> Vec<UserId> {
    tokio::time::timeout(LONG, node.hub.watchers().due()).await.unwrap();
    node.hub.watchers().next().unwrap().users
}

fn typing(from: i64, to: i64, active: bool) -> Typing {
    Typing { conversation: ConversationId::dm(user(from), user(to)).unwrap(), user: user(from), active }
}

async fn nothing_to_tell_finds_out_whether_nodes_can_be_reached(node: Node) {
    assert_eq!(node.fanout.publish(Vec::new()).await, Ok(()));
}

async fn large_batches_arrive_whole(node: Node) {
    let socket = node.socket(2).await;
    let long = "x".repeat(10_000);
    let outcomes: Vec<_> = (0..300).map(|offset| text(offset, 1, 2, &long)).collect();
    for (prev, chunk) in (-1..).step_by(10).zip(outcomes.chunks(10)) {
        node.fanout.publish(vec![publication(prev, prev + 10, chunk.to_vec())]).await.unwrap();
        node.hears(prev + 10).await;
        assert_eq!(frames(&socket), 10);
    }
    let all: Vec<_> = (300..600).map(|offset| text(offset, 1, 2, &long)).collect();
    node.fanout.publish(vec![publication(299, 700, all)]).await.unwrap();
    node.hears(700).await;
    assert_eq!(node.told(), (0..600).collect::<Vec<Offset>>());
}

async fn what_was_lost_leaves_a_hole(node: Node) {
    node.fanout.publish(vec![publication(-1, 2, vec![message(1, 1, 2)])]).await.unwrap();
    node.hears(2).await;
    node.fanout.publish(vec![publication(5, 7, vec![message(6, 1, 2)])]).await.unwrap();
    tokio::time::timeout(Duration::from_secs(30), node.hub.doubted()).await.unwrap();
    assert_eq!((node.heard(), node.told()), (2, vec![1]), "what lies beyond a hole is not taken");
}

/// Two nodes that know of each other.
async fn pair() -> (Node, Node, RedisSettings) {
    let exports = stack(&["redis"]);
    let settings = settings(exports.get("REDIS_URL"), &prefix(), "n-a");
    let a = Node::redis(settings.clone()).await;
    let b = Node::redis(RedisSettings { node: "n-b".into(), ..settings.clone() }).await;
    // Each has read a list without the other, which is good for a second.
    tokio::time::sleep(Duration::from_millis(1_010)).await;
    (a, b, settings)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_hears_how_far_it_is_and_of_its_own_users_alone() {
    let (a, b, _) = pair().await;
    let (one, two) = (a.socket(1).await, b.socket(2).await);
    let outcomes =
        vec![message(0, 1, 2), message(1, 3, 1), message(2, 2, 4), message(3, 8, 9), rejection(4, 7, 8)];
    a.fanout.publish(vec![publication(-1, 6, outcomes)]).await.unwrap();
    a.hears(6).await;
    b.hears(6).await;
    assert_eq!(a.told(), [0, 1, 4]);
    assert_eq!(b.told(), [0, 2, 4], "a rejection is told to all: somebody remembers the record");
    assert_eq!((frames(&one), frames(&two)), (2, 2));
    let conversation = ConversationId::dm(user(2), user(3)).unwrap();
    let receipt = Receipt { conversation, user: user(3), delivered: Seq(1), read: Seq(1) };
    a.fanout.receipts(vec![receipt]).await.unwrap();
    b.fanout.publish(vec![publication(6, 7, vec![])]).await.unwrap();
    a.fanout.publish(vec![publication(7, 8, vec![])]).await.unwrap();
    b.hears(8).await;
    assert_eq!((frames(&one), frames(&two)), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_joined_is_told_of_whatever_is_stored_afterwards() {
    let (a, b, _) = pair().await;
    let mut told = -1;
    for round in 0..300 {
        let id = 10 + round;
        let (node, other) = if round % 2 == 0 { (&a, &b) } else { (&b, &a) };
        let socket = node.socket(id).await;
        other
            .fanout
            .publish(vec![publication(told, told + 1, vec![message(told + 1, 1, id)])])
            .await
            .unwrap();
        told += 1;
        node.hears(told).await;
        assert_eq!(frames(&socket), 1, "round {round}");
        drop(socket);
        node.presence.left(user(id)).await.unwrap();
        other.hears(told).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_registration_is_damaged_misses_nothing_unnoticed() {
    let (a, b, settings) = pair().await;
    let socket = b.socket(2).await;
    let mut raw = Raw::connect(settings.url.expose());
    let prefix = &settings.prefix;
    let mut at = 0;
    a.fanout.publish(vec![publication(-1, 0, vec![message(0, 1, 2)])]).await.unwrap();
    b.hears(0).await;
    assert_eq!(frames(&socket), 1);
    for lost in ["users:n-b*", "lease:n-b", "nodes", "*"] {
        raw.forget(&format!("{prefix}{lost}"));
        // Told at once, told later, or a hole that a repair closes; never silence.
        let mut got = 0;
        while got == 0 {
            a.fanout.publish(vec![publication(at, at + 1, vec![message(at + 1, 1, 2)])]).await.unwrap();
            at += 1;
            let heard = tokio::time::timeout(HEARTBEAT * 2, b.hears(at)).await.is_ok();
            got = frames(&socket);
            assert!(!heard || got == 1, "it heard of {at} without what concerned its user, after {lost}");
            b.repaired(at);
        }
        let registered = || !b.hub.is_doubtful();
        eventually("it is registered again", registered).await;
    }
    assert_eq!(frames(&socket), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrations_leave_nothing_behind_and_users_who_left_neither() {
    let (a, b, settings) = pair().await;
    let mut raw = Raw::connect(settings.url.expose());
    for round in 1..=20 {
        let old = raw.ask(&["GET", &format!("{}lease:n-b", settings.prefix)]);
        raw.ask(&["DEL", &format!("{}lease:n-b", settings.prefix)]);
        for id in 0..50 {
            b.presence.joined(user(round * 100 + id)).await.unwrap();
            b.presence.left(user(round * 100 + id)).await.unwrap();
        }
        let mut lease = Vec::new();
        while lease.is_empty() || lease == old {
            tokio::time::sleep(HEARTBEAT / 30).await;
            lease = raw.ask(&["GET", &format!("{}lease:n-b", settings.prefix)]);
        }
        eventually("it is registered again", || !b.hub.is_doubtful()).await;
    }
    let keys = raw.keys(&settings.prefix);
    assert_eq!(keys.len(), 5, "a lease and a set for each of two, and the list: {keys:?}");
    for key in keys.iter().filter(|key| key.contains("users:")) {
        let mut left = raw.ask(&["SMEMBERS", key]);
        while left != ["0"] {
            tokio::time::sleep(HEARTBEAT / 30).await;
            left = raw.ask(&["SMEMBERS", key]);
        }
        assert!(raw.ask(&["PTTL", key])[0].parse::<i64>().unwrap() > 0, "it ends by itself");
    }
    drop(a);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typing_reaches_who_is_on_another_node_and_this_one_without_redis() {
    let (a, b, settings) = pair().await;
    let (one, here, there) = (a.socket(1).await, a.socket(2).await, b.socket(2).await);
    for active in [true, false] {
        a.fanout.typing(vec![typing(1, 2, active)]).await.unwrap();
        assert_eq!((frames(&one), frames(&here)), (0, 1));
        eventually("the other node tells it", || there.mailbox().queued_bytes() > 0).await;
        assert_eq!(frames(&there), 1);
    }
    let nowhere = Node::unregistered(RedisSettings {
        url: Secret::new("redis://127.0.0.1:1".into()),
        node: "n-c".into(),
        ..settings
    });
    let socket = nowhere.hub.attach(user(2), None);
    assert!(nowhere.fanout.typing(vec![typing(1, 2, true)]).await.is_err(), "nobody else was told");
    assert_eq!(frames(&socket), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hints_reach_who_watches_on_any_node_and_are_told_again_after_an_error() {
    let (a, b, settings) = pair().await;
    let (here, there) = (a.socket(1).await, b.socket(1).await);
    watches(&a, &here, 2);
    watches(&b, &there, 2);
    a.fanout.presence(&[hint(2)]).await.unwrap();
    assert_eq!((looked_at(&a).await, looked_at(&b).await), (vec![user(2)], vec![user(2)]));
    let late = Node::redis(RedisSettings { node: "n-c".into(), ..settings }).await;
    let socket = late.socket(1).await;
    watches(&late, &socket, 2);
    a.fanout.presence(&[hint(2)]).await.unwrap();
    assert_eq!(looked_at(&late).await, [user(2)], "also one that has just begun");
}
