//! The mail servers of `scripts/stack`, and what they got, over Mailpit's HTTP API.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use chatd::domain::Secret;
use chatd::notify::smtp::{SmtpSettings, SmtpTls};
use reqwest::Url;
use serde_json::Value;

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

/// What `scripts/stack up mail` told to export.
pub struct Stack {
    exports: HashMap<String, String>,
}

impl Stack {
    /// The servers, started by the first test that asks and left running for the next run. Never those of
    /// the environment: `SMTP_URL` there may be somebody's real mail server.
    pub fn up() -> &'static Self {
        static STACK: OnceLock<Stack> = OnceLock::new();
        STACK.get_or_init(|| {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/stack");
            let output = Command::new(script).args(["up", "mail"]).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "scripts/stack up mail: {said}");
            let exports = String::from_utf8(output.stdout).unwrap();
            let pair = |line: &str| {
                let (name, value) = line.strip_prefix("export ")?.split_once('=')?;
                Some((name.to_owned(), value.to_owned()))
            };
            Self { exports: exports.lines().filter_map(pair).collect() }
        })
    }

    fn get(&self, name: &str) -> &str {
        self.exports.get(name).unwrap_or_else(|| panic!("scripts/stack exports no {name}"))
    }

    /// Settings that fit the server, with its authority and, where it wants one, its password.
    pub fn settings(&self, mode: Mode, tls: SmtpTls) -> SmtpSettings {
        let url: Url = self.get(&format!("SMTP{}_URL", mode.part())).parse().unwrap();
        let password = url.password().map(|password| Secret::new(password.to_owned()));
        SmtpSettings {
            host: url.host_str().unwrap().to_owned(),
            port: url.port().unwrap(),
            tls,
            credentials: password.map(|password| (url.username().to_owned(), password)),
            ca_file: Some(self.get("SMTP_CA_FILE").into()),
            hello_name: "chat.example.test".into(),
            limit: Duration::from_secs(20),
        }
    }

    async fn http(&self, mode: Mode, path: &str) -> reqwest::Response {
        let base = self.get(&format!("MAILPIT{}_URL", mode.part()));
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
