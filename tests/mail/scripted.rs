//! An SMTP server that answers what a test tells it to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// The answers of a server that takes everything: to `GREETING`, a command's first word, or `.`.
pub fn polite(step: &str, _nth: usize) -> Option<&'static str> {
    Some(match step {
        "GREETING" => "220 mail.example.test ESMTP",
        "EHLO" => "250-mail.example.test\r\n250-AUTH PLAIN LOGIN\r\n250 8BITMIME",
        "MAIL" | "RCPT" | "RSET" | "." => "250 2.0.0 ok",
        "DATA" => "354 go on",
        "QUIT" => "221 2.0.0 bye",
        _ => "500 5.5.1 what",
    })
}

/// A running one; it ends with the test's runtime.
pub struct Scripted {
    pub port: u16,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    /// `answer(step, nth)` gives the reply to the nth such step (from 0, over all connections). `SILENCE`
    /// is no reply at all, `HANGUP` closes the connection.
    pub async fn start<F>(answer: F) -> Self
    where
        F: Fn(&str, usize) -> Option<&'static str> + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&heard);
        tokio::spawn(async move {
            let mut counts = HashMap::new();
            while let Ok((stream, _)) = listener.accept().await {
                // An error is a client that hung up, as tests do.
                let _ = serve(stream, &answer, &mut counts, &record).await;
            }
        });
        Self { port, heard }
    }

    /// The commands so far, over all connections, without the contents.
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

async fn serve<F>(
    stream: TcpStream,
    answer: &F,
    counts: &mut HashMap<String, usize>,
    heard: &Mutex<Vec<String>>,
) -> std::io::Result<()>
where
    F: Fn(&str, usize) -> Option<&'static str>,
{
    let mut stream = BufReader::new(stream);
    let mut step = "GREETING".to_owned();
    let mut in_content = false;
    loop {
        let nth = counts.entry(step.clone()).or_insert(0);
        let reply = answer(&step, *nth).unwrap_or("500 5.5.1 what");
        *nth += 1;
        in_content |= step == "DATA" && reply.starts_with('3');
        match reply {
            "SILENCE" => {}
            "HANGUP" => return Ok(()),
            reply => stream.write_all(format!("{reply}\r\n").as_bytes()).await?,
        }
        let line = next_line(&mut stream, &mut in_content).await?;
        if line != "." {
            heard.lock().unwrap().push(line.clone());
        }
        step = line.split(' ').next().unwrap_or_default().to_owned();
    }
}

/// The next command, or `.` when a content has ended.
async fn next_line(stream: &mut BufReader<TcpStream>, in_content: &mut bool) -> std::io::Result<String> {
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end_matches(['\r', '\n']).to_owned();
        if *in_content && line != "." {
            continue;
        }
        *in_content = false;
        return Ok(line);
    }
}
