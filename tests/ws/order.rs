//! Order and no holes: under pipelining, on every device, whatever else goes on.

use serde_json::{Value, json};

use crate::peer::{Host, dm, send, seqs};

fn contents(frames: &[Value]) -> Vec<String> {
    let messages = frames.iter().filter(|frame| frame["type"] == "message");
    messages.map(|frame| frame["content"].as_str().unwrap().to_owned()).collect()
}

fn numbers(from: i64, to: i64) -> Vec<String> {
    (from..=to).map(|n| n.to_string()).collect()
}

#[tokio::test]
async fn pipelined_messages_are_stored_in_the_order_sent() {
    // More at once than may be in flight: the socket is read on as answers go out.
    const COUNT: i64 = 600;
    let host = Host::with(&[("CHATD_LIMITS__ENABLED", "false")]);
    let (mut ana, mut ben) = host.pair("").await;
    for n in 1..=COUNT {
        ana.say(send(ben.user, &n.to_string(), &format!("c{n}"))).await;
    }
    for n in 1..=COUNT {
        assert_eq!(ana.get("accepted").await["client_id"], format!("c{n}"), "answers in the order sent");
    }
    for peer in [&mut ana, &mut ben] {
        let mut events = Vec::new();
        for _ in 1..=COUNT {
            events.push(peer.get("message").await);
        }
        assert_eq!(contents(&events), numbers(1, COUNT));
        assert_eq!(seqs(&events), (1..=COUNT).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn two_hundred_messages_in_one_burst_are_no_flood() {
    let host = Host::shared();
    let (mut ana, mut ben) = host.pair("").await;
    // Ana's socket has sent one frame in this second, its `resume`.
    for n in 1..=199 {
        ana.say(send(ben.user, &n.to_string(), &format!("c{n}"))).await;
    }
    let mut events = Vec::new();
    for _ in 1..=199 {
        events.push(ben.get("message").await);
    }
    assert_eq!(contents(&events), numbers(1, 199));
}

#[tokio::test]
async fn a_wrong_message_in_the_middle_does_not_disturb_those_around_it() {
    let host = Host::shared();
    let (mut ana, mut ben) = host.pair("").await;
    for n in 1..=20 {
        let content = if n % 5 == 0 { " ".to_owned() } else { n.to_string() };
        ana.say(send(ben.user, &content, &format!("c{n}"))).await;
    }
    for n in [5, 10, 15, 20] {
        assert_eq!(ana.get("error").await["client_id"], format!("c{n}"));
    }
    let mut events = Vec::new();
    for _ in 1..=16 {
        events.push(ben.get("message").await);
    }
    let expected: Vec<_> = (1..=20).filter(|n| n % 5 != 0).map(|n| n.to_string()).collect();
    assert_eq!(contents(&events), expected);
}

#[tokio::test]
async fn both_sides_sending_at_once_see_one_order() {
    let host = Host::shared();
    let (mut ana, mut ben) = host.pair("").await;
    let mut tablet = host.live(ben.user, "").await;
    for n in 1..=50 {
        ana.say(send(ben.user, &format!("a{n}"), &format!("c{n}"))).await;
        ben.say(send(ana.user, &format!("b{n}"), &format!("c{n}"))).await;
    }
    let mut seen = Vec::new();
    for peer in [&mut ana, &mut ben, &mut tablet] {
        let mut events = Vec::new();
        for _ in 0..100 {
            events.push(peer.get("message").await);
        }
        assert_eq!(seqs(&events), (1..=100).collect::<Vec<_>>());
        let times: Vec<_> = events.iter().map(|event| event["at"].as_str().unwrap().to_owned()).collect();
        assert!(times.is_sorted(), "time never goes back along seq");
        seen.push(contents(&events));
    }
    assert!(seen.iter().all(|one| *one == seen[0]));
    for side in ["a", "b"] {
        let own: Vec<_> = seen[0].iter().filter(|content| content.starts_with(side)).collect();
        let expected: Vec<_> = (1..=50).map(|n| format!("{side}{n}")).collect();
        assert_eq!(own, expected.iter().collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_device_that_comes_and_goes_misses_nothing_and_gets_nothing_out_of_order() {
    let host = Host::with(&[("CHATD_LIMITS__ENABLED", "false")]);
    let (mut ana, ben) = host.pair("&acks=app").await;
    let b = ben.user;
    drop(ben);
    let sending = async {
        for n in 1..=300 {
            ana.say(send(b, &n.to_string(), &format!("c{n}"))).await;
            if n % 10 == 0 {
                ana.find(|frame| frame["client_id"] == format!("c{n}") && frame["type"] == "accepted").await;
            }
        }
    };
    let coming_and_going = async {
        let mut seen = 0;
        let mut cursor: Option<String> = None;
        let mut visits = 0;
        while seen < 300 {
            visits += 1;
            let mut device = host.open_with(b, "&acks=app").await;
            let mut frames = device.resume(cursor.as_deref()).await;
            device.say(json!({"type": "ping"})).await;
            frames.extend(device.until("pong").await);
            for _ in 0..visits % 4 {
                if seen + i64::try_from(frames.len()).unwrap() < 300 {
                    frames.push(device.get("message").await);
                }
            }
            for seq in seqs(&frames) {
                assert!(seq <= seen + 1, "{seq} after {seen}");
                seen = seen.max(seq);
            }
            // What came behind the pong may come again; what came before it may not be missing.
            cursor = frames.iter().rev().find_map(|frame| frame["cursor"].as_str().map(str::to_owned));
        }
    };
    tokio::join!(sending, coming_and_going);
    let history = host.get(b, &format!("/v1/conversations/{}/events?after=290", dm(ana.user, b))).await;
    assert_eq!(seqs(history["events"].as_array().unwrap()), (291..=300).collect::<Vec<_>>());
}
