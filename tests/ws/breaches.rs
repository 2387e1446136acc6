//! Peers that break a rule of the wire: closed with the right code, nothing of it kept.

use std::time::Duration;

use chatd::cli::bench::client::Incoming;
use chatd::cli::bench::frame::{BINARY, CLOSE, PING, PONG, TEXT};
use serde_json::json;

use crate::peer::{Host, PATIENCE, Peer, person};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame as a client sends it: its first byte, and its payload, masked.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = announce(first, payload.len() as u64);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// Its header alone.
fn announce(first: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match length {
        0..126 => bytes.push(0x80 | length as u8),
        126..65_536 => {
            bytes.push(0xfe);
            bytes.extend((length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0xff);
            bytes.extend(length.to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes
}

/// The close code that these bytes lead to, with nothing said before it.
async fn code_for(peer: &mut Peer, bytes: &[u8]) -> u16 {
    peer.client.send_raw(bytes).await.unwrap();
    let (frames, code) = peer.end().await;
    assert!(frames.iter().all(|frame| frame["type"] != "closing"), "{code} is not announced");
    code
}

#[tokio::test]
async fn each_breach_has_its_close_code() {
    let host = Host::shared();
    let fragments = [frame(0x01, b"x"), vec![frame(0x00, b"x"); 64].concat()].concat();
    let two_halves = [frame(0x01, &[b'x'; 40_000]), announce(0x80, 40_000)].concat();
    let table = [
        ("unmasked", vec![0x81, 0x01, b'a'], 1002),
        ("a reserved bit", frame(0xc1, b"a"), 1002),
        ("a reserved opcode", frame(0x83, b"a"), 1002),
        ("a reserved control opcode", frame(0x8b, b"a"), 1002),
        ("a ping in fragments", frame(0x09, b"a"), 1002),
        ("a ping too long", announce(0x89, 126), 1002),
        ("a continuation of nothing", frame(0x80, b"a"), 1002),
        ("a message inside another", [frame(0x01, b"a"), frame(0x81, b"b")].concat(), 1002),
        ("a close of one byte", frame(0x88, &[3]), 1002),
        ("a close code that must not be sent", frame(0x88, &1005_u16.to_be_bytes()), 1002),
        ("a length in more bytes than it needs", [&[0x81, 0xfe, 0, 5][..], &MASK].concat(), 1002),
        ("a length above 2^63", announce(0x81, 1 << 63), 1002),
        ("binary", frame(0x82, b"a"), 1003),
        ("no UTF-8", frame(0x81, b"{\"a\":\"\xff\"}"), 1007),
        ("half a character at the end", frame(0x81, b"\xe2\x82"), 1007),
        ("no UTF-8 in the reason of a close", frame(0x88, b"\x03\xe8\xff"), 1007),
        ("one byte too long", announce(0x81, 65_537), 1009),
        ("8 GiB", announce(0x81, 8 << 30), 1009),
        ("fragments too long together", two_halves, 1009),
        ("65 fragments", fragments, 1009),
    ];
    for (what, bytes, code) in table {
        let mut peer = host.open(person()).await;
        assert_eq!(code_for(&mut peer, &bytes).await, code, "{what}");
    }
}

#[tokio::test]
async fn what_was_said_before_a_breach_is_answered() {
    let host = Host::shared();
    let user = person();
    host.know(user).await;
    let mut peer = host.open(person()).await;
    peer.say(json!({"type": "send", "to": user, "content": "x", "ref": "before"})).await;
    peer.client.send(BINARY, b"x").await.unwrap();
    let (frames, code) = peer.end().await;
    assert_eq!((&frames[0]["type"], &frames[0]["ref"], code), (&json!("accepted"), &json!("before"), 1003));
}

#[tokio::test]
async fn a_message_in_fragments_with_pings_between_is_one_message() {
    let host = Host::shared();
    let mut peer = host.open(person()).await;
    let text = json!({"type": "ping", "ref": "€".repeat(30)}).to_string();
    let (first, rest) = text.as_bytes().split_at(35);
    let (middle, last) = rest.split_at(1);
    let bytes = [frame(0x01, first), frame(0x89, b"hello"), frame(0x00, middle), frame(0x80, last)].concat();
    peer.client.send_raw(&bytes).await.unwrap();
    assert_eq!(peer.client.recv().await.unwrap(), Incoming::Pong(b"hello".to_vec()));
    assert_eq!(peer.get("pong").await["ref"], "€".repeat(30));
}

#[tokio::test]
async fn every_way_to_cut_a_message_into_pieces_of_tcp_is_one_message() {
    let host = Host::shared();
    let mut peer = host.open(person()).await;
    let bytes = frame(0x81, json!({"type": "ping"}).to_string().as_bytes());
    for cut in 1..bytes.len() {
        peer.client.send_raw(&bytes[..cut]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
        peer.client.send_raw(&bytes[cut..]).await.unwrap();
        peer.get("pong").await;
    }
}

#[tokio::test]
async fn a_message_that_takes_too_long_to_arrive_is_given_up() {
    let host = Host::with(&[("CHATD_LIMITS__MESSAGE_TIMEOUT", "300ms")]);
    let mut peer = host.open(person()).await;
    let whole = frame(0x81, b"{\"type\":\"ping\"}");
    assert_eq!(code_for(&mut peer, &whole[..8]).await, 1002, "half a frame");
    let mut peer = host.open(person()).await;
    assert_eq!(code_for(&mut peer, &frame(0x01, b"{\"type\":")).await, 1002, "half a message");
}

#[tokio::test]
async fn pings_are_answered_with_their_payload() {
    let host = Host::shared();
    let mut peer = host.open(person()).await;
    for payload in [&b""[..], b"x", &[0xff; 125]] {
        peer.client.send(PING, payload).await.unwrap();
        assert_eq!(peer.client.recv().await.unwrap(), Incoming::Pong(payload.to_vec()));
    }
}

#[tokio::test]
async fn more_than_200_frames_in_a_second_are_a_flood_whatever_they_are() {
    let host = Host::shared();
    for (opcode, payload) in [(TEXT, &b"{\"type\":\"ping\"}"[..]), (PONG, b""), (PING, b"x")] {
        let mut peer = host.open(person()).await;
        let bytes = vec![frame(0x80 | opcode, payload); 201].concat();
        peer.client.send_raw(&bytes).await.unwrap();
        let closing = peer.closing().await;
        assert_eq!(closing["code"], 4429);
        assert!(closing["reconnect_after_ms"].as_i64().unwrap() >= 1_000, "{closing}");
    }
}

#[tokio::test]
async fn more_than_2_mebibytes_in_a_second_are_a_flood() {
    let host = Host::shared();
    let mut peer = host.open(person()).await;
    let large = frame(0x81, json!({"type": "ping", "x": "y".repeat(65_000)}).to_string().as_bytes());
    // The server stops to read at the limit; what does not fit in between cannot be sent.
    let _ = tokio::time::timeout(PATIENCE, peer.client.send_raw(&vec![large; 33].concat())).await;
    assert_eq!(peer.closing().await["code"], 4429);
}

#[tokio::test]
async fn without_limits_there_is_no_flood() {
    let host = Host::with(&[("CHATD_LIMITS__ENABLED", "false")]);
    let mut peer = host.open(person()).await;
    for n in 0..1_000 {
        peer.say(json!({"type": "ping", "ref": n.to_string()})).await;
    }
    assert_eq!(peer.find(|frame| frame["ref"] == "999").await["type"], "pong");
}

#[tokio::test]
async fn a_goodbye_is_answered_and_nothing_behind_it_is_heard() {
    let host = Host::shared();
    for payload in [&b""[..], &1000_u16.to_be_bytes(), b"\x03\xe9bye", &4000_u16.to_be_bytes()] {
        let mut peer = host.open(person()).await;
        let behind = frame(0x81, b"{\"type\":\"ping\"}");
        peer.client.send_raw(&[frame(0x80 | CLOSE, payload), behind].concat()).await.unwrap();
        let (frames, code) = peer.end().await;
        assert_eq!((frames.len(), code), (0, 1000), "{payload:?}");
    }
}
