//! A mail server that takes everything, and may leave its last answer out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// A running one; it ends with the test's runtime.
#[derive(Clone)]
pub struct MailServer {
    pub port: u16,
    /// Each mail as it came.
    mails: Arc<Mutex<Vec<String>>>,
    /// Whether it says that it has a mail.
    answers: Arc<AtomicBool>,
}

impl MailServer {
    /// One that does not say that it has a mail until it is told to.
    pub async fn silent() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Self { port, mails: Arc::default(), answers: Arc::default() };
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

    async fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        stream.write_all(b"220 mail.example.test ESMTP\r\n").await?;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let reply = match line.split(' ').next().unwrap_or_default().trim_end() {
                "EHLO" => "250 mail.example.test\r\n",
                "DATA" => {
                    stream.write_all(b"354 go on\r\n").await?;
                    let mut mail = String::new();
                    while !mail.ends_with("\r\n.\r\n") {
                        if stream.read_line(&mut mail).await? == 0 {
                            return Ok(());
                        }
                    }
                    self.mails.lock().unwrap().push(mail);
                    if !self.answers.load(Ordering::SeqCst) {
                        continue;
                    }
                    "250 2.0.0 ok\r\n"
                }
                "QUIT" => "221 2.0.0 bye\r\n",
                _ => "250 2.0.0 ok\r\n",
            };
            stream.write_all(reply.as_bytes()).await?;
        }
    }
}
