//! The stretch of network does what it says, before anything is believed that was seen through it.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::proxy::{Proxy, Then, Way};

const MOMENT: Duration = Duration::from_millis(200);

/// A service that says everything twice, and a client of it through a proxy.
async fn echo() -> (Proxy, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    let proxy = Proxy::to(&address.to_string());
    let client = TcpStream::connect(proxy.address).await.unwrap();
    (proxy, client)
}

async fn say(client: &mut TcpStream, word: &[u8]) {
    client.write_all(word).await.unwrap();
}

async fn hear(client: &mut TcpStream) -> Vec<u8> {
    let mut heard = vec![0; 64];
    let count = timeout(Duration::from_secs(5), client.read(&mut heard)).await.unwrap().unwrap();
    heard[..count].to_vec()
}

async fn hears_nothing(client: &mut TcpStream) -> bool {
    timeout(MOMENT, client.read(&mut [0; 64])).await.is_err()
}

#[tokio::test]
async fn what_is_held_comes_later_and_in_order() {
    let (proxy, mut client) = echo().await;
    say(&mut client, b"one").await;
    assert_eq!(hear(&mut client).await, b"one");
    for (up, down) in [(Way::Held, Way::Open), (Way::Open, Way::Held), (Way::Held, Way::Held)] {
        proxy.set_ways(up, down);
        say(&mut client, b"two").await;
        assert!(hears_nothing(&mut client).await, "{up:?} {down:?}");
        proxy.heal();
        assert_eq!(hear(&mut client).await, b"two");
    }
    assert_eq!(proxy.bytes(), (12, 12));
}

#[tokio::test]
async fn what_is_swallowed_never_comes_and_a_new_connection_works() {
    let (proxy, mut client) = echo().await;
    for (up, down) in [(Way::Swallowed, Way::Open), (Way::Open, Way::Swallowed)] {
        proxy.set_ways(up, down);
        say(&mut client, b"gone").await;
        assert!(hears_nothing(&mut client).await);
        proxy.heal();
        say(&mut client, b"gone too").await;
        assert!(hears_nothing(&mut client).await, "a connection with a hole is no connection");
        client = TcpStream::connect(proxy.address).await.unwrap();
        say(&mut client, b"there").await;
        assert_eq!(hear(&mut client).await, b"there");
    }
}

#[tokio::test]
async fn a_cut_resets_and_refusing_lasts() {
    let (proxy, mut client) = echo().await;
    say(&mut client, b"one").await;
    assert_eq!(hear(&mut client).await, b"one");
    assert_eq!(proxy.connections(), 1);
    proxy.refuse();
    assert_eq!(client.read(&mut [0; 8]).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    if let Ok(mut refused) = TcpStream::connect(proxy.address).await {
        assert!(refused.read(&mut [0; 8]).await.is_err());
    }
    assert_eq!(proxy.connections(), 0);
    proxy.heal();
    let mut client = TcpStream::connect(proxy.address).await.unwrap();
    say(&mut client, b"two").await;
    assert_eq!(hear(&mut client).await, b"two");
}

#[tokio::test]
async fn a_slow_way_takes_its_time() {
    let (proxy, mut client) = echo().await;
    proxy.set(Way::Slow(MOMENT));
    let began = Instant::now();
    say(&mut client, b"one").await;
    assert_eq!(hear(&mut client).await, b"one");
    assert!(began.elapsed() >= MOMENT * 2, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_commit_is_held_before_it_is_done() {
    let (proxy, mut client) = echo().await;
    say(&mut client, b"BEGIN").await;
    assert_eq!(hear(&mut client).await, b"BEGIN");
    let held = proxy.clone();
    let holding = tokio::spawn(async move { held.hold_at_commit().await });
    while !proxy.is_waiting_for_a_commit() {
        tokio::task::yield_now().await;
    }
    say(&mut client, b"Q\0\0\0\x0bCOMMIT\0").await;
    holding.await.unwrap();
    assert!(hears_nothing(&mut client).await);
    proxy.heal();
    assert_eq!(hear(&mut client).await, b"Q\0\0\0\x0bCOMMIT\0");
}

#[tokio::test]
async fn a_commit_is_done_and_its_answer_lost() {
    let (proxy, mut client) = echo().await;
    let commit = b"C\0\0\0\x0bCOMMIT\0";
    say(&mut client, commit).await;
    assert_eq!(hear(&mut client).await, commit);
    proxy.lose_commits(1, Then::Silence);
    say(&mut client, commit).await;
    assert!(hears_nothing(&mut client).await);
    let mut client = TcpStream::connect(proxy.address).await.unwrap();
    proxy.lose_commits(1, Then::Cut);
    say(&mut client, commit).await;
    assert!(client.read(&mut [0; 8]).await.is_err());
    assert_eq!(proxy.lost_commits(), 2);
    let mut client = TcpStream::connect(proxy.address).await.unwrap();
    say(&mut client, commit).await;
    assert_eq!(hear(&mut client).await, commit);
}
