//! Several devices of one person, and those that have to make room.

use serde_json::{Value, json};

use crate::peer::{Host, dm, person};

#[tokio::test]
async fn a_device_that_comes_again_replaces_itself_and_no_other() {
    let host = Host::shared();
    let user = person();
    let mut phone = host.live(user, "&device=phone").await;
    let mut tablet = host.live(user, "&device=tablet").await;
    let mut unnamed = host.live(user, "").await;
    let mut stranger = host.live(person(), "&device=phone").await;
    let mut again = host.live(user, "&device=phone").await;
    let closing = phone.closing().await;
    assert_eq!((&closing["code"], &closing["reconnect_after_ms"]), (&json!(4409), &Value::Null), "never");
    for peer in [&mut tablet, &mut unnamed, &mut stranger, &mut again] {
        assert_eq!(peer.ask(json!({"type": "ping"})).await["type"], "pong");
    }
}

#[tokio::test]
async fn a_ninth_device_takes_the_place_of_the_oldest() {
    let host = Host::shared();
    let user = person();
    let mut devices = Vec::new();
    for n in 1..=9 {
        devices.push(host.live(user, &format!("&device=d{n}")).await);
    }
    assert_eq!(devices.remove(0).closing().await["code"], 4409);
    let mut other = host.live(person(), "").await;
    other.send(user, "to all eight").await;
    for device in &mut devices {
        assert_eq!(device.get("message").await["content"], "to all eight");
    }
}

#[tokio::test]
async fn who_left_makes_room() {
    let host = Host::shared();
    let user = person();
    let mut first = host.live(user, "").await;
    for _ in 0..10 {
        host.live(user, "").await.leave().await;
    }
    assert_eq!(first.ask(json!({"type": "ping"})).await["type"], "pong");
}

#[tokio::test]
async fn what_one_device_reads_the_others_are_told() {
    let host = Host::shared();
    let (mut ana, mut phone) = host.pair("&acks=app").await;
    let (a, b) = (ana.user, phone.user);
    let mut tablet = host.live(b, "&acks=app").await;
    ana.send(b, "x").await;
    phone.get("message").await;
    phone.say(json!({"type": "read", "conversation": dm(a, b), "seq": 1})).await;
    let told = tablet.get("receipt").await;
    assert_eq!((&told["user"], &told["read"]), (&json!(b), &json!(1)));
}

#[tokio::test]
async fn how_many_devices_there_may_be_is_a_setting() {
    let host = Host::with(&[("CHATD_LIMITS__DEVICES", "1")]);
    let user = person();
    let mut first = host.live(user, "").await;
    let mut second = host.live(user, "").await;
    assert_eq!(first.closing().await["code"], 4409);
    assert_eq!(second.ask(json!({"type": "ping"})).await["type"], "pong");
}
