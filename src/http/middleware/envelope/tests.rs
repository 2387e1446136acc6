//! What becomes of answers that others made.

use actix_web::http::header::{ALLOW, HeaderMap};
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use actix_web::{App, HttpResponse, web};
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::Value;

use super::*;

async fn refuse(code: web::Path<String>) -> Result<HttpResponse, Error> {
    Err(match code.as_str() {
        "unauthorized" => Error::new(ErrorCode::Unauthorized, "x"),
        "unavailable" => Error::unavailable("x"),
        _ => Error::not_found(),
    })
}

async fn plain(status: web::Path<u16>) -> HttpResponse {
    HttpResponse::build(StatusCode::from_u16(*status).unwrap()).body("somebody else's words")
}

async fn special() -> HttpResponse {
    let mut answer = HttpResponse::from_error(Error::unavailable("x"));
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("7"));
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
    answer
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

async fn ask(request: TestRequest) -> Answer {
    let app = App::new()
        .route("/refuse/{code}", web::get().to(refuse))
        .route("/plain/{status}", web::get().to(plain))
        .route("/json", web::get().to(async || HttpResponse::ServiceUnavailable().json("kept")))
        .route("/special", web::get().to(special))
        .wrap(actix_web::middleware::from_fn(envelope));
    let app = init_service(app).await;
    let answer = call_service(&app, request.to_request()).await;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let body = serde_json::from_slice(&read_body(answer).await).unwrap_or(Value::Null);
    Answer { status: status.as_u16(), headers, body }
}

async fn get(path: &str) -> Answer {
    ask(TestRequest::get().uri(path)).await
}

#[actix_web::test]
async fn an_error_gets_its_id_and_what_its_status_asks_for() {
    let answer = get("/refuse/unavailable").await;
    assert_eq!((answer.status, &answer.body["code"]), (503, &"unavailable".into()));
    assert_eq!(answer.headers.get(RETRY_AFTER).unwrap(), "1");
    assert_eq!(answer.headers.get(X_REQUEST_ID).unwrap(), answer.body["request_id"].as_str().unwrap());
    let answer = get("/special").await;
    assert_eq!(answer.headers.get(RETRY_AFTER).unwrap(), "7", "who knows better is believed");
    assert_eq!(answer.headers.get(ALLOW).unwrap(), "GET");
}

#[actix_web::test]
async fn an_answer_of_somebody_else_gets_our_shape() {
    for (status, code) in [(404, "not_found"), (413, "too_large"), (418, "invalid"), (500, "internal")] {
        let answer = get(&format!("/plain/{status}")).await;
        assert_eq!(answer.body["code"], code);
        assert_eq!(answer.headers.get(CONTENT_TYPE).unwrap(), &PROBLEM_JSON);
    }
    assert_eq!(get("/json").await.body, "kept", "a JSON answer of our own has its own shape");
    assert_eq!(get("/plain/200").await.body, Value::Null);
}

#[actix_web::test]
async fn only_who_showed_a_token_is_told_that_it_is_invalid() {
    let invalid = r#"Bearer error="invalid_token""#;
    let request = || TestRequest::get().uri("/refuse/unauthorized?token=x");
    let socket = || request().insert_header((UPGRADE, "websocket"));
    let bare = TestRequest::get().uri("/refuse/unauthorized").insert_header((UPGRADE, "websocket"));
    for (request, challenge) in [
        (request(), "Bearer"),
        (request().insert_header((AUTHORIZATION, "Bearer x")), invalid),
        (request().insert_header((AUTHORIZATION, "Basic x")), invalid),
        (socket(), invalid),
        (bare, "Bearer"),
    ] {
        let answer = ask(request).await;
        assert_eq!(answer.headers.get(WWW_AUTHENTICATE).unwrap(), challenge);
    }
}

#[actix_web::test]
async fn metrics_know_routes_and_no_paths() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    for path in ["/refuse/secret?token=secret", "/secret", "/plain/200"] {
        get(path).await;
    }
    ask(TestRequest::with_uri("/plain/200").method(Method::from_bytes(b"SECRET").unwrap())).await;
    let text = handle.render();
    assert!(!text.contains("secret") && !text.contains("SECRET"), "{text}");
    let counted = |labels: &str| text.contains(&format!("chatd_http_request_seconds_count{{{labels}}} 1"));
    assert!(counted(r#"route="/refuse/{code}",method="GET",status="404""#), "{text}");
    assert!(counted(r#"route="unmatched",method="GET",status="404""#), "{text}");
    assert!(counted(r#"route="/plain/{status}",method="GET",status="200""#), "{text}");
    assert!(text.contains(r#"method="other""#), "{text}");
}
