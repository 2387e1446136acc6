//! What tickets promise, in memory and through Redis.

use std::sync::Arc;
use std::time::Duration;

use chatd::auth::{Claims, Tickets};
use chatd::domain::{Subject, Timestamp};
use futures_util::future::join_all;

use crate::nodes_support::{Node, Raw, prefix, settings, user};
use crate::stack::stack;

async fn redis() -> Node {
    Node::redis(settings(stack(&["redis"]).get("REDIS_URL"), &prefix(), "n-1")).await
}

macro_rules! contract {
    ($($case:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(super::Node::memory().tickets.clone()).await;
            })*
        }
        mod redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(super::redis().await.tickets.clone()).await;
            })*
        }
    };
}

contract!(
    a_ticket_opens_once_with_what_its_token_said,
    of_many_at_once_one_gets_in,
    what_is_no_ticket_opens_nothing,
    a_ticket_does_not_outlive_its_token,
);

fn claims(expires_at: Option<Timestamp>) -> Claims {
    Claims {
        subject: Subject::External { issuer: "https://id.test".into(), id: "u-7".into() },
        issuer: "https://id.test".into(),
        name: Some("gargi ü".into()),
        expires_at,
        issued_at: Some(Timestamp(1_700_000_000_000)),
        jti: Some("j".into()),
    }
}

async fn a_ticket_opens_once_with_what_its_token_said(tickets: Arc<dyn Tickets>) {
    let mine = claims(Some(Timestamp::now().plus(Duration::from_secs(3600))));
    let ticket = tickets.issue(mine.clone()).await.unwrap();
    assert_eq!(ticket.expires_in, Duration::from_secs(30));
    assert_eq!(tickets.redeem(ticket.text.expose()).await, Ok(Some(mine)));
    assert_eq!(tickets.redeem(ticket.text.expose()).await, Ok(None));
}

async fn of_many_at_once_one_gets_in(tickets: Arc<dyn Tickets>) {
    for _ in 0..20 {
        let ticket = tickets.issue(claims(None)).await.unwrap();
        let tries = (0..10).map(|_| tickets.redeem(ticket.text.expose()));
        let opened = join_all(tries).await.into_iter().filter(|opened| opened.as_ref().unwrap().is_some());
        assert_eq!(opened.count(), 1);
    }
}

async fn what_is_no_ticket_opens_nothing(tickets: Arc<dyn Tickets>) {
    let ticket = tickets.issue(claims(None)).await.unwrap();
    let longer = format!("{}=", ticket.text.expose());
    for text in ["", "x", "ü", "*", longer.as_str(), &"A".repeat(100_000)] {
        assert_eq!(tickets.redeem(text).await, Ok(None));
    }
    assert_eq!(tickets.redeem(ticket.text.expose()).await, Ok(Some(claims(None))));
}

async fn a_ticket_does_not_outlive_its_token(tickets: Arc<dyn Tickets>) {
    // Tokens are taken for five seconds longer (protocol.md section 2).
    let over = tickets.issue(claims(Some(Timestamp::now().minus(Duration::from_secs(6))))).await.unwrap();
    assert_eq!((tickets.redeem(over.text.expose()).await, over.expires_in), (Ok(None), Duration::ZERO));
    let soon = Timestamp::now().minus(Duration::from_millis(4_500));
    let soon = tickets.issue(claims(Some(soon))).await.unwrap();
    assert!(soon.expires_in <= Duration::from_millis(500));
    tokio::time::sleep(soon.expires_in + Duration::from_millis(20)).await;
    assert_eq!(tickets.redeem(soon.text.expose()).await, Ok(None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_node_redeems_what_any_node_issued_and_redis_holds_no_ticket() {
    let (exports, prefix) = (stack(&["redis"]), prefix());
    let node = |name| Node::redis(settings(exports.get("REDIS_URL"), &prefix, name));
    let (a, b) = (node("n-a").await, node("n-b").await);
    let ticket = a.tickets.issue(claims(None)).await.unwrap();
    let mut raw = Raw::connect(exports.get("REDIS_URL"));
    let keys = raw.keys(&format!("{prefix}ticket:"));
    assert_eq!(keys.len(), 1);
    let kept = format!("{keys:?} {:?}", raw.ask(&["GET", &keys[0]]));
    assert!(!kept.contains(ticket.text.expose().as_str()), "{kept}");
    let left: u64 = raw.ask(&["PTTL", &keys[0]])[0].parse().unwrap();
    assert!((25_000..=30_000).contains(&left), "{left} ms");
    assert_eq!(b.tickets.redeem(ticket.text.expose()).await, Ok(Some(claims(None))));
    assert_eq!(a.tickets.redeem(ticket.text.expose()).await, Ok(None));
    assert!(raw.keys(&format!("{prefix}ticket:")).is_empty());
    // Sockets are not what tickets are about.
    assert_eq!(a.presence.left(user(1)).await, Ok(()));
}
