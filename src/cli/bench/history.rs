//! `chatd bench history`: pages of old messages over connections that stay open, each asking again as soon as it has
//! its answer.

use std::fmt;
use std::time::{Duration, Instant};

use futures_util::future::{join, try_join_all};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::error::BenchError;
use super::fleet::Crowd;
use super::histogram::Histogram;
use super::meter::{Meter, Uses};
use super::protocol;
use super::report::Latency;
use crate::domain::UserId;

/// A page is some kilobytes.
const PAGE_BYTES_MAX: usize = 4 << 20;
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Counting the rows of every page would cost more than the rest of the driver.
const COUNTED_EVERY: u64 = 64;

/// One measurement.
#[derive(Debug, Clone)]
pub struct History {
    /// The server and who asks: each pair of users for what they wrote to each other.
    pub crowd: Crowd,
    /// Connections.
    pub connections: usize,
    /// Messages a page; the pairs must have at least as many.
    pub limit: usize,
    /// Before the measured window.
    pub warm_up: Duration,
    /// The measured window.
    pub window: Duration,
    /// What to look at.
    pub meter: Meter,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct HistoryReport {
    /// Connections.
    pub connections: usize,
    /// Messages a page.
    pub limit: usize,
    /// Pages a second.
    pub rate: f64,
    /// From asking to the whole page.
    pub latency: Latency,
    /// Bytes of a page, head included.
    pub page_bytes: f64,
    /// What it cost, a unit being a page.
    pub uses: Uses,
}

#[derive(Debug, Default)]
struct Counts {
    pages: u64,
    bytes: u64,
    latency: Histogram,
}

/// Asks until the window is over.
pub async fn measure(history: &History) -> Result<HistoryReport, BenchError> {
    let requests = history.requests()?;
    let start = Instant::now();
    let counted = start + history.warm_up..start + history.warm_up + history.window;
    let connections = (0..history.connections).map(|first| history.ask(first, &requests, &counted));
    let readings = async {
        tokio::time::sleep_until(counted.start.into()).await;
        let first = history.meter.read().await;
        tokio::time::sleep_until(counted.end.into()).await;
        (first, history.meter.read().await)
    };
    let (counts, (first, last)) = join(try_join_all(connections), readings).await;
    let mut total = Counts::default();
    for counts in counts? {
        total.pages += counts.pages;
        total.bytes += counts.bytes;
        total.latency.add(&counts.latency);
    }
    Ok(HistoryReport {
        connections: history.connections,
        limit: history.limit,
        rate: total.pages as f64 / history.window.as_secs_f64(),
        latency: Latency::from(&total.latency),
        page_bytes: total.bytes as f64 / (total.pages as f64).max(1.0),
        uses: last?.since(&first?, total.pages as f64),
    })
}

impl History {
    /// A request of each user, ready to be sent.
    fn requests(&self) -> Result<Vec<String>, BenchError> {
        let user = |id| UserId::new(id).map_err(|error| BenchError::Argument(error.to_string()));
        let request = |index: u32| {
            let (me, other) =
                (self.crowd.first_id + i64::from(index), self.crowd.first_id + i64::from(index ^ 1));
            let token = protocol::token(user(me)?, &self.crowd.secret)?;
            Ok(format!(
                "GET /messages?user1={me}&user2={other}&limit={} HTTP/1.1\r\nHost: {}\r\n\
                 Authorization: Bearer {}\r\nAccept: application/json\r\n\r\n",
                self.limit,
                self.crowd.address.authority,
                token.expose()
            ))
        };
        (0..self.crowd.users).map(request).collect()
    }

    /// One connection; each asks for all users in turn, beginning with another one.
    async fn ask(
        &self,
        first: usize,
        requests: &[String],
        counted: &std::ops::Range<Instant>,
    ) -> Result<Counts, BenchError> {
        let failed = |error: std::io::Error| BenchError::Request(error.to_string());
        let mut stream = TcpStream::connect(&self.crowd.address.authority).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let (mut counts, mut buffer) = (Counts::default(), Vec::new());
        let stride = requests.len() / self.connections.max(1);
        for (asked, request) in (0..).zip(requests.iter().cycle().skip(first * stride)) {
            let begun = Instant::now();
            if begun >= counted.end {
                break;
            }
            buffer.clear();
            let exchange = async {
                stream.write_all(request.as_bytes()).await.map_err(failed)?;
                read_answer(&mut stream, &mut buffer).await
            };
            let body = timeout(ANSWER_MAX, exchange)
                .await
                .map_err(|_| BenchError::Request("no answer within 10 s".to_owned()))??;
            if asked % COUNTED_EVERY == 0 {
                self.check(&buffer[body..])?;
            }
            if counted.contains(&begun) {
                counts.pages += 1;
                counts.bytes += buffer.len() as u64;
                counts.latency.record(begun.elapsed());
            }
        }
        Ok(counts)
    }

    fn check(&self, body: &[u8]) -> Result<(), BenchError> {
        let rows = body.windows(CONTENT.len()).filter(|window| *window == CONTENT).count();
        match rows == self.limit {
            true => Ok(()),
            false => Err(BenchError::Request(format!("a page of {rows} messages, not {}", self.limit))),
        }
    }
}

/// Each row has this key once, and no content of a bench has it.
const CONTENT: &[u8] = b"\"content\":";

/// Reads one answer with a Content-Length; where its body begins.
async fn read_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<usize, BenchError> {
    let failed = |text: &str| BenchError::Request(text.to_owned());
    let mut body = None;
    loop {
        if body.is_none()
            && let Some(head) = buffer.windows(4).position(|window| window == b"\r\n\r\n")
        {
            let text = String::from_utf8_lossy(&buffer[..head]);
            if text.split(' ').nth(1) != Some("200") {
                return Err(failed(text.lines().next().unwrap_or_default()));
            }
            let fields = text.lines().filter_map(|line| line.split_once(':'));
            let mut lengths = fields.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
            let length = lengths.next().and_then(|(_, value)| value.trim().parse::<usize>().ok());
            body = Some((head + 4, length.ok_or_else(|| failed("an answer without Content-Length"))?));
        }
        if let Some((start, length)) = body
            && buffer.len() >= start + length
        {
            return Ok(start);
        }
        if buffer.len() > PAGE_BYTES_MAX {
            return Err(failed("an answer above 4 MiB"));
        }
        buffer.reserve(16 << 10);
        let read = stream.read_buf(buffer).await.map_err(|error| failed(&error.to_string()))?;
        if read == 0 {
            return Err(failed("the connection ended"));
        }
    }
}

impl fmt::Display for HistoryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections, limit, rate, latency, page_bytes, uses } = self;
        writeln!(f, "{connections} connections, pages of {limit} messages and {page_bytes:.0} bytes")?;
        writeln!(f, "pages      {rate:.0}/s  {latency}")?;
        write!(f, "{uses}")
    }
}
