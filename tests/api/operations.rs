//! What operators and probes see.

use chatd::http::{HttpSettings, Surface};
use serde_json::json;

use crate::client::{Answer, Api};
use crate::server::TestApp;

#[tokio::test]
async fn a_living_server_says_its_version() {
    let api = Api::start().await;
    for path in ["/health", "/livez", "/healthz"] {
        let answer = Answer::of(api.bare("GET", path)).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json(), json!({"status": "ok", "version": env!("CARGO_PKG_VERSION")}));
    }
}

#[tokio::test]
async fn readiness_follows_the_alarms_and_gives_reasons_only_where_allowed() {
    let settings = HttpSettings { details: true, ..HttpSettings::closed() };
    for (settings, details) in [(HttpSettings::closed(), false), (settings, true)] {
        let api = Api::with(settings).await;
        let ready = async || Answer::of(api.bare("GET", "/ready")).await;
        let alarms = |alarms: serde_json::Value| if details { alarms } else { json!(null) };
        let answer = ready().await;
        assert_eq!((answer.status, &answer.json()["status"]), (200, &json!("ok")));
        assert_eq!(answer.json()["alarms"], alarms(json!([])));
        api.server.app.health.raise("mail", "it is away");
        let answer = ready().await;
        assert_eq!((answer.status, &answer.json()["status"]), (200, &json!("degraded")));
        assert_eq!(answer.json()["alarms"], alarms(json!([{"subject": "mail", "reason": "it is away"}])));
        api.server.app.health.draining();
        let answer = Answer::of(api.bare("GET", "/readyz")).await;
        assert_eq!((answer.status, &answer.json()["status"]), (503, &json!("draining")));
        assert!(answer.header("retry-after").is_some());
        assert_eq!(Answer::of(api.bare("GET", "/livez")).await.status, 200);
        api.server.stop().await;
    }
}

#[tokio::test]
async fn the_admin_address_has_numbers_and_nothing_for_clients() {
    let metrics: chatd::http::Metrics = std::sync::Arc::new(|| "chatd_up 1\n".to_owned());
    let settings = HttpSettings { details: true, metrics: Some(metrics), ..HttpSettings::closed() };
    let server = TestApp::start(settings, Surface::Admin).await;
    let api = Api { server, http: reqwest::Client::builder().no_proxy().build().unwrap() };
    let answer = Answer::of(api.bare("GET", "/metrics")).await;
    assert_eq!((answer.status, answer.text.as_str()), (200, "chatd_up 1\n"));
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(Answer::of(api.bare("GET", "/ready")).await.status, 200);
    assert_eq!(Answer::of(api.bare("GET", "/v1/me")).await.problem(), "not_found");
}

#[tokio::test]
async fn the_description_is_open_and_the_root_points_to_it() {
    let api = Api::start().await;
    let about = Answer::of(api.bare("GET", "/")).await.json();
    assert_eq!((&about["name"], &about["openapi"]), (&json!("chatd"), &json!("/openapi.json")));
    let document = Answer::of(api.bare("GET", "/openapi.json")).await.json();
    assert!(document["paths"]["/messages"]["get"].is_object());
    let ws = Answer::of(api.bare("GET", "/ws")).await;
    assert_eq!((ws.problem().as_str(), ws.header("upgrade")), ("invalid", Some("websocket")));
}
