//! Mails through real servers (Mailpit, which `scripts/stack up mail` starts and leaves running) in every
//! mode, and through a scripted one for what a well-behaved server does not do.

#![allow(clippy::unwrap_used, reason = "a panic is a test's way to fail, in what tests share too")]

mod scripted;
#[path = "../support/stack.rs"]
mod services;
mod stack;

use std::time::{Duration, Instant};

use chatd::domain::{EmailAddress, Secret, Timestamp};
use chatd::notify::capture::CaptureChannel;
use chatd::notify::smtp::{SmtpChannel, SmtpSettings, SmtpTls};
use chatd::notify::{Address, Channel, ChannelError, Mail};
use scripted::{Scripted, polite};
use stack::{Mode, Stack};

fn email(text: &str) -> EmailAddress {
    EmailAddress::new(text).unwrap()
}

/// A mail with a Message-ID of its own, by which it is found again.
fn mail(text: &str) -> Mail {
    Mail {
        message_id: format!("{}@chat.example.test", uuid::Uuid::new_v4().simple()),
        from: Address::new(email("chat@example.test"), Some("chatd")),
        to: Address::new(email("ana@example.test"), Some("Ana Müller")),
        subject: "New message from Zoë".into(),
        text: text.into(),
        date: Timestamp(1_700_000_000_120),
    }
}

/// Settings for a server that a test scripts itself.
fn settings(port: u16) -> SmtpSettings {
    SmtpSettings {
        host: "127.0.0.1".into(),
        port,
        tls: SmtpTls::Opportunistic,
        credentials: None,
        ca_file: None,
        hello_name: "chat.example.test".into(),
        limit: Duration::from_secs(20),
    }
}

fn with_password(mut settings: SmtpSettings) -> SmtpSettings {
    settings.credentials = Some(("chatd".into(), Secret::new("a-secret-word".into())));
    settings
}

async fn send(settings: SmtpSettings, mail: &Mail) -> Result<(), ChannelError> {
    let mut connection = SmtpChannel::new(settings).unwrap().connect().await?;
    let answer = connection.send(mail).await;
    connection.close().await;
    answer
}

async fn connect_error(settings: SmtpSettings) -> ChannelError {
    match SmtpChannel::new(settings).unwrap().connect().await {
        Ok(_) => panic!("the connection should have been refused"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_mail_arrives_in_every_mode() {
    let stack = Stack::up();
    for (mode, tls, trusted) in [
        (Mode::Plain, SmtpTls::Opportunistic, false),
        (Mode::StartTls, SmtpTls::Opportunistic, false),
        (Mode::StartTls, SmtpTls::Opportunistic, true),
        (Mode::StartTls, SmtpTls::Required, true),
        (Mode::StartTlsAuth, SmtpTls::Opportunistic, true),
        (Mode::StartTlsAuth, SmtpTls::Required, true),
        (Mode::Tls, SmtpTls::Implicit, true),
        (Mode::TlsAuth, SmtpTls::Implicit, true),
    ] {
        let mail =
            mail("Hi Ana,\n\nYou have a new message from Zoë:\n\n\"Hello\"\n\nOpen the chat to reply.");
        let mut settings = stack.settings(mode, tls);
        if !trusted {
            settings.ca_file = None;
        }
        send(settings, &mail).await.unwrap_or_else(|error| panic!("{mode:?} {tls:?}: {error}"));

        let got = stack.find(mode, &mail.message_id).await;
        assert_eq!(got["Subject"], "New message from Zoë");
        assert_eq!(got["From"]["Address"], "chat@example.test");
        assert_eq!(got["From"]["Name"], "chatd");
        assert_eq!(got["To"][0]["Address"], "ana@example.test");
        assert_eq!(got["To"][0]["Name"], "Ana Müller");
        assert_eq!(got["ReturnPath"], "chat@example.test");
        assert!(got["Date"].as_str().unwrap().starts_with("2023-11-14T22:13:20"), "{}", got["Date"]);
        assert_eq!(stack::text(&got), mail.text, "{mode:?}");
        let raw = stack.raw(mode, &got).await;
        assert!(raw.contains("\r\nAuto-Submitted: auto-generated\r\n"), "{raw}");
    }
}

#[tokio::test]
async fn a_burst_goes_over_one_connection() {
    let stack = Stack::up();
    let channel = SmtpChannel::new(stack.settings(Mode::TlsAuth, SmtpTls::Implicit)).unwrap();
    let mut connection = channel.connect().await.unwrap();
    let mails: Vec<Mail> = (0..20).map(|number| mail(&format!("number {number}"))).collect();
    for mail in &mails {
        connection.send(mail).await.unwrap();
    }
    connection.close().await;
    for mail in &mails {
        assert_eq!(stack::text(&stack.find(Mode::TlsAuth, &mail.message_id).await), mail.text);
    }
}

#[tokio::test]
async fn any_text_arrives_as_it_was() {
    let stack = Stack::up();
    let texts = [
        ".\n..\n.leading dot\nFrom the start\n.",
        "grüße, здравствуй, שלום, 你好, 👩‍🚀 = 100% =3D",
        &format!("{}\n{}\n", "long ".repeat(2_000), "ö".repeat(3_000)),
        "trailing blanks   \nand\ttabs\t\n\n\n\"quotes\" \\ back",
        &"x".repeat(100_000),
    ];
    for text in texts {
        let mail = mail(text);
        send(stack.settings(Mode::Plain, SmtpTls::Opportunistic), &mail).await.unwrap();
        let got = stack.find(Mode::Plain, &mail.message_id).await;
        assert_eq!(stack::text(&got).trim_end_matches('\n'), text.trim_end_matches('\n'));
    }
}

#[tokio::test]
async fn the_captured_file_holds_what_the_server_gets() {
    let stack = Stack::up();
    let folder = tempfile::tempdir().unwrap();
    let mail = mail(".\ngrüße\n..");
    send(stack.settings(Mode::Plain, SmtpTls::Opportunistic), &mail).await.unwrap();
    let capture = CaptureChannel::new(folder.path()).unwrap();
    capture.connect().await.unwrap().send(&mail).await.unwrap();

    let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap();
    let captured = std::fs::read_to_string(file.path()).unwrap();
    let got = stack.find(Mode::Plain, &mail.message_id).await;
    let raw = stack.raw(Mode::Plain, &got).await;
    // In front of it the server writes its own Return-Path and Received.
    assert!(raw.trim_end().ends_with(captured.trim_end()), "{raw}\n---\n{captured}");
}

#[tokio::test]
async fn a_wrong_password_keeps_the_mail() {
    let stack = Stack::up();
    for (mode, tls) in [(Mode::StartTlsAuth, SmtpTls::Required), (Mode::TlsAuth, SmtpTls::Implicit)] {
        let settings = with_password(stack.settings(mode, tls));
        assert_eq!(connect_error(settings).await, ChannelError::temporary("535 5.7.8 at AUTH"));
    }
}

#[tokio::test]
async fn a_missing_password_keeps_the_mail() {
    let stack = Stack::up();
    let mut settings = stack.settings(Mode::TlsAuth, SmtpTls::Implicit);
    settings.credentials = None;
    assert_eq!(send(settings, &mail("x")).await, Err(ChannelError::temporary("530 5.7.0 at MAIL")));
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_gets_neither_password_nor_mail() {
    let stack = Stack::up();
    for (mode, tls, step) in
        [(Mode::StartTlsAuth, SmtpTls::Required, "STARTTLS"), (Mode::TlsAuth, SmtpTls::Implicit, "TLS")]
    {
        let mut settings = stack.settings(mode, tls);
        settings.ca_file = None;
        let reason = format!("certificate of an unknown issuer at {step}");
        assert_eq!(connect_error(settings).await, ChannelError::temporary(reason));
    }
}

#[tokio::test]
async fn a_password_waits_for_a_server_that_offers_starttls() {
    let server = Scripted::start(polite).await;
    let reason = "the server offers no STARTTLS; nothing was sent";
    let error = connect_error(with_password(settings(server.port))).await;
    assert_eq!(error, ChannelError::temporary(reason));
    let mut required = settings(server.port);
    required.tls = SmtpTls::Required;
    assert_eq!(connect_error(required).await, ChannelError::temporary(reason));
    assert_eq!(server.heard(), ["EHLO chat.example.test", "EHLO chat.example.test"]);
}

#[tokio::test]
async fn a_server_that_never_greets_costs_one_limit() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    for (tls, step) in [(SmtpTls::Opportunistic, "greeting"), (SmtpTls::Implicit, "TLS")] {
        let mut settings = settings(port);
        settings.tls = tls;
        settings.limit = Duration::from_millis(200);
        let begun = Instant::now();
        let error = connect_error(settings).await;
        assert_eq!(error, ChannelError::temporary(format!("timed out at {step}")));
        assert!(begun.elapsed() >= Duration::from_millis(200));
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn nobody_at_the_port_keeps_the_mail() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    assert_eq!(connect_error(settings(port)).await, ChannelError::temporary("connection refused at connect"));
}

#[tokio::test]
async fn a_reply_decides_what_becomes_of_the_mail() {
    use ChannelError as E;
    for (at, reply, expected) in [
        ("GREETING", "554 5.3.2 no service", E::temporary("554 5.3.2 at greeting")),
        ("GREETING", "421-busy\r\n421 later", E::temporary("421 at greeting")),
        ("GREETING", "HTTP/1.1 400 Bad Request", E::temporary("hung up, or no SMTP at greeting")),
        ("EHLO", "502 what", E::temporary("502 at EHLO")),
        ("MAIL", "550 5.1.8 bad sender", E::temporary("550 5.1.8 at MAIL")),
        ("RCPT", "450 4.2.1 ana@example.test is busy", E::temporary("450 4.2.1 at RCPT")),
        ("RCPT", "550 5.1.1 <ana@example.test> unknown", E::permanent("550 5.1.1 at RCPT")),
        ("RCPT", "550-no\r\n550 such user", E::permanent("550 at RCPT")),
        ("RCPT", "554 5.7.1 relaying denied", E::temporary("554 5.7.1 at RCPT")),
        ("DATA", "451 not now", E::temporary("451 at DATA")),
        ("DATA", "554 no", E::permanent("554 at DATA")),
        (".", "452 4.3.1 disk full", E::temporary("452 4.3.1 at content")),
        (".", "554 5.6.0 refused", E::permanent("554 5.6.0 at content")),
        (".", "HANGUP", E::temporary("hung up, or no SMTP at content")),
    ] {
        let server = Scripted::start(move |step, _| (step == at).then_some(reply).or(polite(step, 0))).await;
        assert_eq!(send(settings(server.port), &mail("x")).await, Err(expected), "{at} {reply}");
    }
}

#[tokio::test]
async fn after_a_refusal_the_connection_takes_the_next_mail() {
    // The first receiver and the second content are refused.
    let server = Scripted::start(|step, nth| match (step, nth) {
        ("RCPT", 0) => Some("550 5.1.1 unknown"),
        (".", 0) => Some("554 5.6.0 refused"),
        _ => polite(step, nth),
    })
    .await;
    let mut connection = SmtpChannel::new(settings(server.port)).unwrap().connect().await.unwrap();
    assert_eq!(connection.send(&mail("1")).await, Err(ChannelError::permanent("550 5.1.1 at RCPT")));
    assert_eq!(connection.send(&mail("2")).await, Err(ChannelError::permanent("554 5.6.0 at content")));
    assert_eq!(connection.send(&mail("3")).await, Ok(()));
    connection.close().await;
    assert_eq!(
        server.heard(),
        [
            "EHLO chat.example.test",
            "MAIL FROM:<chat@example.test>",
            "RCPT TO:<ana@example.test>",
            "RSET",
            "MAIL FROM:<chat@example.test>",
            "RCPT TO:<ana@example.test>",
            "DATA",
            "RSET",
            "MAIL FROM:<chat@example.test>",
            "RCPT TO:<ana@example.test>",
            "DATA",
            "QUIT",
        ]
    );
}

#[tokio::test]
async fn a_mail_given_up_in_the_middle_is_not_continued_by_the_next() {
    let server = Scripted::start(|step, nth| match step {
        "RCPT" => Some("SILENCE"),
        _ => polite(step, nth),
    })
    .await;
    let mut connection = SmtpChannel::new(settings(server.port)).unwrap().connect().await.unwrap();
    let first = mail("1");
    let given_up = tokio::time::timeout(Duration::from_millis(300), connection.send(&first)).await;
    assert!(given_up.is_err());
    let next = connection.send(&mail("2")).await;
    assert_eq!(next, Err(ChannelError::temporary("the connection was given up")));
    assert_eq!(server.heard().len(), 3, "{:?}", server.heard());
}

#[tokio::test]
async fn a_server_that_falls_silent_costs_one_limit() {
    let server = Scripted::start(|step, nth| match step {
        "MAIL" => Some("SILENCE"),
        _ => polite(step, nth),
    })
    .await;
    let mut settings = settings(server.port);
    settings.limit = Duration::from_millis(300);
    let begun = Instant::now();
    assert_eq!(send(settings, &mail("x")).await, Err(ChannelError::temporary("timed out at MAIL")));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}
