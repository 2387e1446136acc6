//! Who is there: told at once, told when it changes, and to whom.

use std::time::Duration;

use serde_json::{Value, json};

use crate::peer::{Host, Peer, person};
use crate::support::{sign, token};

fn watch(users: &[i64]) -> Value {
    json!({"type": "watch", "users": users})
}

/// What a frame says of a user: the status, and whether they were ever seen.
fn of(frame: &Value, user: i64) -> (&str, bool) {
    let users = frame["users"].as_array().unwrap();
    let seen = users.iter().find(|seen| seen["user"] == user).unwrap_or_else(|| panic!("{user}: {frame}"));
    (seen["status"].as_str().unwrap(), seen["last_seen"].is_string())
}

/// Watches, and gives the answer, which has the mark of the question.
async fn now(peer: &mut Peer, users: &[i64]) -> Value {
    let answer = peer.ask(watch(users)).await;
    assert_eq!(answer["type"], "presence", "{answer}");
    assert_eq!(answer["users"].as_array().unwrap().len(), users.len());
    answer
}

/// A server on which offline shows after so long.
fn host(offline_after: &str) -> Host {
    Host::with(&[("CHATD_PRESENCE__OFFLINE_AFTER", offline_after)])
}

#[tokio::test]
async fn who_watches_is_told_at_once_and_when_somebody_comes_or_goes() {
    let host = host("1s");
    let (mut ana, ben) = host.pair("").await;
    let (b, stranger) = (ben.user, person());
    let answer = now(&mut ana, &[b, stranger]).await;
    assert_eq!((of(&answer, b), of(&answer, stranger)), (("online", true), ("offline", false)));
    let cara = host.live(stranger, "").await;
    let change = ana.get("presence").await;
    assert_eq!((of(&change, stranger), change["users"].as_array().unwrap().len()), (("online", true), 1));
    assert!(change.get("ref").is_none());
    let began = tokio::time::Instant::now();
    ben.leave().await;
    cara.leave().await;
    let mut gone = ana.get("presence").await;
    assert!(began.elapsed() >= Duration::from_millis(950), "{:?}", began.elapsed());
    for user in [b, stranger] {
        if gone["users"].as_array().unwrap().iter().all(|seen| seen["user"] != user) {
            gone = ana.get("presence").await;
        }
        assert_eq!(of(&gone, user), ("offline", true));
    }
    let minute = &gone["users"][0]["last_seen"].as_str().unwrap()[16..];
    assert_eq!(minute, ":00.000Z", "to the minute");
}

#[tokio::test]
async fn a_reload_shows_nothing_and_neither_does_one_of_two_devices() {
    let host = host("2s");
    let (mut ana, mut phone) = host.pair("").await;
    let b = phone.user;
    assert_eq!(of(&now(&mut ana, &[b]).await, b), ("online", true));
    let tablet = host.live(b, "").await;
    for _ in 0..3 {
        phone.leave().await;
        phone = host.live(b, "").await;
    }
    tablet.leave().await;
    ana.listen(Duration::from_millis(3_500)).await;
    assert!(!ana.has("presence"));
    // A question in between is answered as the watchers were told.
    phone.leave().await;
    assert_eq!(of(&now(&mut ana, &[b]).await, b), ("online", true));
    assert_eq!(of(&ana.get("presence").await, b), ("offline", true));
}

#[tokio::test]
async fn a_new_set_replaces_the_former() {
    let host = host("0s");
    let (mut ana, ben) = host.pair("").await;
    let (b, c, d) = (ben.user, person(), person());
    now(&mut ana, &[b, c]).await;
    now(&mut ana, &[c, d]).await;
    ben.leave().await;
    let cara = host.live(c, "").await;
    assert_eq!(of(&ana.get("presence").await, c), ("online", true), "the one no longer, the other still");
    assert_eq!(now(&mut ana, &[]).await["users"], json!([]));
    cara.leave().await;
    let _dora = host.live(d, "").await;
    ana.listen(Duration::from_millis(1_500)).await;
    assert!(!ana.has("presence"), "nobody is watched");
}

#[tokio::test]
async fn sets_have_up_to_500_users_named_by_either_id() {
    let host = Host::shared();
    let (mut ana, ben) = host.pair("").await;
    let external = format!("ext-{}", person());
    let known = sign(&json!({"sub": external, "name": "Ext"}));
    let them = Peer::connect(&host.server.ws(&known), &[]).await.unwrap();
    let of_no_issuer = json!({"type": "watch", "users": [
        {"external_id": external}, {"external_id": "nobody has come with it"}, ben.user, ben.user, ana.user,
    ]});
    let answer = ana.ask(of_no_issuer).await;
    assert_eq!(answer["users"].as_array().unwrap().len(), 3, "{answer}");
    for user in [them.user, ben.user, ana.user] {
        assert_eq!(of(&answer, user), ("online", true));
    }
    let many: Vec<i64> = (1..=500).map(|n| 1_000_000 + n).collect();
    assert_eq!(now(&mut ana, &many).await["users"].as_array().unwrap().len(), 500);
    let table = [
        json!((1..=501).collect::<Vec<i64>>()),
        Value::Null,
        json!(7),
        json!({"external_id": "ana"}),
        json!([0]),
        json!(["7"]),
        json!([{"external_id": ""}]),
    ];
    for users in table {
        let error = ana.ask(json!({"type": "watch", "users": users})).await;
        assert_eq!((&error["code"], &error["field"]), (&json!("invalid"), &json!("users")), "{error}");
    }
}

#[tokio::test]
async fn rest_tells_the_same_of_one() {
    let host = Host::shared();
    let (ana, ben) = host.pair("").await;
    let (a, b) = (ana.user, ben.user);
    let path = |user: &str| format!("/v1/users/{user}/presence");
    let seen = host.get(a, &path(&b.to_string())).await;
    assert_eq!((&seen["user"], &seen["status"]), (&json!(b), &json!("online")));
    assert!(seen["last_seen"].is_string() && seen.as_object().unwrap().len() == 3, "{seen}");
    let nobody = host.get(a, &path(&person().to_string())).await;
    assert_eq!((&nobody["status"], &nobody["last_seen"]), (&json!("offline"), &Value::Null));
    for (user, status) in [("0", 422), ("ana", 422), ("%7B%22external_id%22%3A%22nobody%22%7D", 404)] {
        let request = reqwest::Client::new().get(host.server.http(&path(user))).bearer_auth(token(a));
        assert_eq!(request.send().await.unwrap().status(), status, "{user}");
    }
}

#[tokio::test]
async fn only_who_shares_a_conversation_sees_where_that_is_the_rule() {
    let host = Host::with(&[("CHATD_PRESENCE__VISIBLE_TO", "shared")]);
    let (mut ana, mut ben) = host.pair("").await;
    let b = ben.user;
    assert_eq!(of(&now(&mut ana, &[b]).await, b), ("offline", false), "strangers");
    ben.send(ana.user, "hello").await;
    assert_eq!(of(&ana.get("presence").await, b), ("online", true), "partners from then on");
    let mut cara = host.live(person(), "").await;
    let c = cara.user;
    let answer = now(&mut cara, &[b, c]).await;
    assert_eq!((of(&answer, b), of(&answer, c)), (("offline", false), ("online", true)));
    let seen = host.get(c, &format!("/v1/users/{b}/presence")).await;
    assert_eq!((&seen["status"], &seen["last_seen"]), (&json!("offline"), &Value::Null));
}

#[tokio::test]
async fn nobody_sees_anybody_where_that_is_the_rule() {
    let host = Host::with(&[("CHATD_PRESENCE__VISIBLE_TO", "nobody")]);
    let (mut ana, mut ben) = host.pair("").await;
    ben.send(ana.user, "hello").await;
    let (a, b) = (ana.user, ben.user);
    let answer = now(&mut ana, &[a, b]).await;
    assert_eq!((of(&answer, b), of(&answer, a)), (("offline", false), ("online", true)));
}

#[tokio::test]
async fn whom_one_shows_it_to_is_ones_own_choice_and_in_force_at_once() {
    for rule in ["everyone", "shared", "nobody"] {
        let host = Host::with(&[("CHATD_PRESENCE__VISIBLE_TO", rule)]);
        let (mut ana, mut ben) = host.pair("").await;
        let (a, b) = (ana.user, ben.user);
        let mut stranger = host.live(person(), "").await;
        ben.send(a, "hello").await;
        assert_eq!(host.get(b, "/v1/me").await["presence"], rule);
        ana.get("message").await;
        let sees = |answer: Value| of(&answer, b).0 == "online";
        let mut saw = [sees(now(&mut ana, &[b]).await), sees(now(&mut stranger, &[b]).await)];
        assert_eq!(saw, [rule != "nobody", rule == "everyone"]);
        for (choice, partner, anybody) in [
            ("nobody", false, false),
            ("shared", true, false),
            ("everyone", true, true),
            ("shared", true, false),
        ] {
            let request = reqwest::Client::new().patch(host.server.http("/v1/me")).bearer_auth(token(b));
            let answer = request.json(&json!({"presence": choice})).send().await.unwrap();
            let me: Value = answer.json().await.unwrap();
            assert_eq!(me["presence"], choice, "{me}");
            let expected = [partner, anybody];
            for ((peer, sees), saw) in [&mut ana, &mut stranger].into_iter().zip(expected).zip(saw) {
                let expected = if sees { ("online", true) } else { ("offline", false) };
                let shown = host.get(peer.user, &format!("/v1/users/{b}/presence")).await;
                assert_eq!(shown["status"], expected.0, "{rule}, {choice}");
                if saw != sees {
                    assert_eq!(of(&peer.get("presence").await, b), expected, "{rule}, {choice}");
                }
                assert_eq!(of(&now(peer, &[b]).await, b), expected, "{rule}, {choice}");
                assert!(!peer.has("presence"), "once");
            }
            saw = expected;
        }
        let request = reqwest::Client::new().patch(host.server.http("/v1/me")).bearer_auth(token(b));
        assert_eq!(request.json(&json!({"presence": "friends"})).send().await.unwrap().status(), 422);
    }
}

#[tokio::test]
async fn when_somebody_was_there_last_outlives_a_restart() {
    let host = host("0s");
    let b = person();
    host.know(b).await;
    // Written within a second.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let host = host.restart();
    let mut ana = host.live(person(), "").await;
    assert_eq!(of(&now(&mut ana, &[b]).await, b), ("offline", true));
}
