//! The mail servers of `scripts/stack`, and what they got, over Mailpit's HTTP API.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use chatd::domain::Secret;
use chatd::notify::smtp::{SmtpSettings, SmtpTls};
use reqwest::Url;
use serde_json::Value;

use super::services::{Exports, stack};

/// Which of the servers.
#[derive(Debug, Clone, Copy)]
pub enum Mode {
    Plain,
    StartTls,
    StartTlsAuth,
    Tls,
    TlsAuth,
}

impl Mode {
    fn part(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::StartTls => "_STARTTLS",
            Self::StartTlsAuth => "_STARTTLS_AUTH",
            Self::Tls => "_TLS",
            Self::TlsAuth => "_TLS_AUTH",
        }
    }
}

/// The servers, and what `scripts/stack up mail` told to export.
pub struct Stack {
    exports: Exports,
}

impl Stack {
    /// The servers, started by the first test that asks.
    pub fn up() -> &'static Self {
        static STACK: OnceLock<Stack> = OnceLock::new();
        STACK.get_or_init(|| Self { exports: stack(&["mail"]) })
    }

    /// Settings that fit the server, with its authority and, where it wants one, its password.
    pub fn settings(&self, mode: Mode, tls: SmtpTls) -> SmtpSettings {
        let url: Url = self.exports.get(&format!("SMTP{}_URL", mode.part())).parse().unwrap();
        let password = url.password().map(|password| Secret::new(password.to_owned()));
        SmtpSettings {
            host: url.host_str().unwrap().to_owned(),
            port: url.port().unwrap(),
            tls,
            credentials: password.map(|password| (url.username().to_owned(), password)),
            ca_file: Some(self.exports.get("SMTP_CA_FILE").into()),
            hello_name: "chat.example.test".into(),
            limit: Duration::from_secs(20),
        }
    }

    async fn http(&self, mode: Mode, path: &str) -> reqwest::Response {
        let base = self.exports.get(&format!("MAILPIT{}_URL", mode.part()));
        reqwest::get(format!("{base}{path}")).await.unwrap().error_for_status().unwrap()
    }

    /// The one mail with this Message-ID, awaited for at most ten seconds.
    pub async fn find(&self, mode: Mode, message_id: &str) -> Value {
        let begun = Instant::now();
        loop {
            let path = format!("/api/v1/search?query=message-id:{message_id}");
            let found: Value = self.http(mode, &path).await.json().await.unwrap();
            let mails = found["messages"].as_array().unwrap();
            if let [mail] = mails.as_slice() {
                let id = mail["ID"].as_str().unwrap();
                return self.http(mode, &format!("/api/v1/message/{id}")).await.json().await.unwrap();
            }
            assert!(mails.is_empty(), "{} mails with one Message-ID", mails.len());
            assert!(begun.elapsed() < Duration::from_secs(10), "the mail did not arrive ({mode:?})");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The mail as the server got it, byte by byte.
    pub async fn raw(&self, mode: Mode, mail: &Value) -> String {
        let id = mail["ID"].as_str().unwrap();
        self.http(mode, &format!("/api/v1/message/{id}/raw")).await.text().await.unwrap()
    }
}

/// The text of a mail, with `\n` as line end and without the line end that a message closes with.
pub fn text(mail: &Value) -> String {
    let text = mail["Text"].as_str().unwrap().replace("\r\n", "\n");
    text.strip_suffix('\n').unwrap_or(&text).to_owned()
}
