//! A mail server that takes everything, but for what a rule says: it may refuse, or leave an answer out.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// What it does where a rule says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// This line.
    Say(&'static str),
    /// Nothing: the client waits.
    Nothing,
}

/// Of `RCPT`, or of `.` at the end of a mail, to somebody, for the how many-th time from 0.
type Rule = dyn Fn(&str, &str, usize) -> Option<Reply> + Send + Sync;

/// A running one; it ends with the test's runtime.
#[derive(Clone)]
pub struct MailServer {
    pub port: u16,
    /// Each mail as it came.
    mails: Arc<Mutex<Vec<String>>>,
    /// How often each step was taken for each receiver.
    counts: Arc<Mutex<HashMap<(String, String), usize>>>,
    rule: Arc<Rule>,
    /// Set by a test, for a rule that asks.
    answers: Arc<AtomicBool>,
}

impl MailServer {
    /// One that does not say that it has a mail until it is told to.
    pub async fn silent() -> Self {
        let answers = Arc::new(AtomicBool::new(false));
        let answering = Arc::clone(&answers);
        let rule = move |step: &str, _: &str, _| {
            (step == "." && !answering.load(Ordering::SeqCst)).then_some(Reply::Nothing)
        };
        Self { answers, ..Self::with(rule).await }
    }

    /// One with a rule.
    pub async fn with(rule: impl Fn(&str, &str, usize) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let rule: Arc<Rule> = Arc::new(rule);
        let server =
            Self { port, mails: Arc::default(), counts: Arc::default(), rule, answers: Arc::default() };
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let serving = serving.clone();
                // An error is a client that was killed.
                tokio::spawn(async move { serving.serve(stream).await });
            }
        });
        server
    }

    pub fn answer(&self) {
        self.answers.store(true, Ordering::SeqCst);
    }

    pub fn mails(&self) -> Vec<String> {
        self.mails.lock().unwrap().clone()
    }

    /// How often somebody was named as a receiver.
    pub fn named(&self, receiver: &str) -> usize {
        let counts = self.counts.lock().unwrap();
        counts.get(&("RCPT".to_owned(), receiver.to_owned())).copied().unwrap_or(0)
    }

    fn reply(&self, step: &str, receiver: &str) -> Option<Reply> {
        let mut counts = self.counts.lock().unwrap();
        let count = counts.entry((step.to_owned(), receiver.to_owned())).or_default();
        *count += 1;
        (self.rule)(step, receiver, *count - 1)
    }

    async fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        stream.write_all(b"220 mail.example.test ESMTP\r\n").await?;
        let mut receiver = String::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let mut ruled = None;
            let polite = match line.split([' ', ':']).next().unwrap_or_default().trim_end() {
                "EHLO" => "250 mail.example.test",
                "RCPT" => {
                    receiver = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                    ruled = self.reply("RCPT", &receiver);
                    "250 2.0.0 ok"
                }
                "DATA" => {
                    stream.write_all(b"354 go on\r\n").await?;
                    let mut mail = String::new();
                    while !mail.ends_with("\r\n.\r\n") {
                        if stream.read_line(&mut mail).await? == 0 {
                            return Ok(());
                        }
                    }
                    self.mails.lock().unwrap().push(mail);
                    ruled = self.reply(".", &receiver);
                    "250 2.0.0 ok"
                }
                "QUIT" => "221 2.0.0 bye",
                _ => "250 2.0.0 ok",
            };
            match ruled.unwrap_or(Reply::Say(polite)) {
                Reply::Say(reply) => stream.write_all(format!("{reply}\r\n").as_bytes()).await?,
                Reply::Nothing => {}
            }
        }
    }
}
