//! Chosen numbers of the server's `/metrics`, before and after: what a histogram's mean was in between.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The page is far smaller; a server that sends more is not read on.
const PAGE_BYTES_MAX: u64 = 8 << 20;
const SCRAPE_MAX: Duration = Duration::from_secs(5);

/// The samples of one page: name without labels → sum over all labels.
#[derive(Debug, Default)]
pub(super) struct Page(BTreeMap<String, f64>);

/// How one metric moved.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// The name that was asked for.
    pub name: String,
    /// By how much a counter or gauge grew; of a histogram, how many values it took.
    pub delta: f64,
    /// The mean of the values a histogram or summary took in between.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean: Option<f64>,
}

impl Page {
    /// Fetches `http://authority/metrics`.
    pub(super) async fn fetch(authority: &str) -> io::Result<Self> {
        let answer = timeout(SCRAPE_MAX, get(authority)).await.map_err(|_| io::ErrorKind::TimedOut)??;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        if head.split(' ').nth(1) == Some("200") {
            Ok(Self::read(body))
        } else {
            Err(io::Error::other(head.lines().next().unwrap_or("no answer").to_owned()))
        }
    }

    fn read(text: &str) -> Self {
        let mut page = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.trim().rsplit_once(' ') else { continue };
            let name = series.split('{').next().unwrap_or(series).trim();
            *page.0.entry(name.to_owned()).or_default() += value.parse::<f64>().unwrap_or(0.0);
        }
        page
    }

    /// How `name` moved since `before`; `None` where the page has no such metric.
    pub(super) fn change(&self, before: &Self, name: &str) -> Option<Change> {
        let delta = |name: &str| {
            let now = self.0.get(name)?;
            Some(now - before.0.get(name).copied().unwrap_or(0.0))
        };
        let count = delta(&format!("{name}_count"));
        let mean =
            count.zip(delta(&format!("{name}_sum"))).map(|(n, sum)| if n > 0.0 { sum / n } else { 0.0 });
        let delta = count.or_else(|| delta(name))?;
        Some(Change { name: name.to_owned(), delta, mean })
    }
}

/// HTTP/1.0, so that the answer is not chunked and ends with the connection.
async fn get(authority: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(authority).await?;
    let request = format!("GET /metrics HTTP/1.0\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(PAGE_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_move_and_histograms_have_a_mean() {
        let before = Page::read("# TYPE a_total counter\na_total{x=\"1 2\"} 5\na_total{x=\"2\"} 5\n");
        let after = Page::read(
            "a_total{x=\"1 2\"} 6\na_total{x=\"2\"} 9\nb_rows_bucket{le=\"+Inf\"} 4\nb_rows_sum 80\nb_rows_count 4\n",
        );
        let change = |name: &str| after.change(&before, name);
        assert_eq!(change("a_total"), Some(Change { name: "a_total".into(), delta: 5.0, mean: None }));
        assert_eq!(change("b_rows"), Some(Change { name: "b_rows".into(), delta: 4.0, mean: Some(20.0) }));
        assert_eq!(change("c"), None);
    }

    #[tokio::test]
    async fn a_page_is_fetched_and_a_refusal_is_named() {
        for (answer, is_page) in
            [("HTTP/1.1 200 OK\r\n\r\na_total 5\n", true), ("HTTP/1.1 404 No\r\n\r\n", false)]
        {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let authority = listener.local_addr().unwrap().to_string();
            let server = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1_024];
                assert!(stream.read(&mut request).await.unwrap() > 0);
                stream.write_all(answer.as_bytes()).await.unwrap();
            };
            let (page, ()) = tokio::join!(Page::fetch(&authority), server);
            assert_eq!(page.is_ok_and(|page| page.0.get("a_total") == Some(&5.0)), is_page);
        }
    }
}
