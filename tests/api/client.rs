//! A client that keeps everything of an answer that a test may ask for.

use chatd::http::{HttpSettings, Surface};
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use crate::server::{TestApp, token};

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub async fn of(request: RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, text: response.text().await.unwrap() }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The code, once everything that each error has is there.
    pub fn problem(&self) -> String {
        let json = self.json();
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        assert_eq!(json["status"], self.status, "{self:?}");
        assert_eq!(json["request_id"].as_str(), self.header("x-request-id"), "{self:?}");
        let code = json["code"].as_str().unwrap().to_owned();
        assert_eq!(json["type"], format!("urn:chatd:error:{code}"));
        assert!(!json["title"].as_str().unwrap().is_empty());
        assert!(!json["detail"].as_str().unwrap().is_empty());
        let challenge = self.header("www-authenticate").is_some();
        assert_eq!(challenge, self.status == 401, "{self:?}");
        assert_eq!(self.header("retry-after").is_some(), matches!(self.status, 429 | 503), "{self:?}");
        assert_eq!(self.header("allow").is_some(), self.status == 405, "{self:?}");
        code
    }

    /// The code and the field at fault.
    pub fn field(&self) -> (String, String) {
        let code = self.problem();
        let pointer = self.json()["errors"][0]["pointer"].as_str().unwrap_or_default().to_owned();
        (code, pointer)
    }
}

/// A server and its client.
pub struct Api {
    pub server: TestApp,
    pub http: reqwest::Client,
}

impl Api {
    pub async fn start() -> Self {
        Self::with(HttpSettings::closed()).await
    }

    pub async fn with(settings: HttpSettings) -> Self {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { server: TestApp::start(settings, Surface::Public).await, http }
    }

    /// A request without a token.
    pub fn bare(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        self.http.request(method, format!("{}{path}", self.server.url))
    }

    pub async fn get(&self, user: i64, path: &str) -> Answer {
        Answer::of(self.bare("GET", path).bearer_auth(token(user))).await
    }

    pub async fn post(&self, user: i64, path: &str, body: &str) -> Answer {
        self.say(user, "POST", path, body).await
    }

    /// A request with a body.
    pub async fn say(&self, user: i64, method: &str, path: &str, body: &str) -> Answer {
        let request = self.bare(method, path).bearer_auth(token(user));
        Answer::of(request.header("content-type", "application/json").body(body.to_owned())).await
    }

    /// Sends `count` messages from one to another, and waits until they are history.
    pub async fn sent(&self, from: i64, to: i64, count: usize) {
        for number in 1..=count {
            let body = format!(r#"{{"to":{to},"content":"{from}>{to} {number}","client_id":"c{number}"}}"#);
            assert_eq!(self.post(from, "/v1/messages", &body).await.status, 202);
        }
        let (low, high) = (from.min(to), from.max(to));
        let path = format!("/v1/conversations/dm-{low}-{high}/events?after={}", count - 1);
        for _ in 0..500 {
            if self.get(from, &path).await.json()["events"][0].is_object() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        panic!("accepted messages did not become history within 2.5 s");
    }
}
