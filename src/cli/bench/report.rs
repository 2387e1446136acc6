//! Results for people and, as one line of JSON, for scripts.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::histogram::Histogram;
use super::meter::Uses;
use super::scrape::Change;
use super::sizes::Sizes;
use super::verdict::Verdict;

/// Quantiles in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Latency {
    /// Half of them are not slower.
    pub p50_ms: f64,
    /// 99 % are not slower.
    pub p99_ms: f64,
    /// 99.9 % are not slower.
    pub p999_ms: f64,
    /// The slowest.
    pub max_ms: f64,
    /// How many were counted.
    pub count: u64,
}

impl From<&Histogram> for Latency {
    fn from(histogram: &Histogram) -> Self {
        let ms = |duration: Duration| duration.as_micros() as f64 / 1_000.0;
        Self {
            p50_ms: ms(histogram.quantile(0.5)),
            p99_ms: ms(histogram.quantile(0.99)),
            p999_ms: ms(histogram.quantile(0.999)),
            max_ms: ms(histogram.max()),
            count: histogram.total(),
        }
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p50_ms, p99_ms, p999_ms, max_ms, .. } = self;
        write!(f, "p50 {p50_ms:8.2}  p99 {p99_ms:8.2}  p99.9 {p999_ms:8.2}  max {max_ms:8.2} ms")
    }
}

/// The server's process over the measured window.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ServerUse {
    /// Processor time for each message accepted in the window, in microseconds.
    pub cpu_us_per_message: f64,
    /// Cores in use on average.
    pub cores: f64,
    /// Resident memory at the end of the window.
    pub rss_bytes: u64,
    /// The most it ever was.
    pub rss_bytes_max: u64,
}

/// What `chatd bench pairs` found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Users, each with one socket.
    pub users: u32,
    /// Messages a second as asked for.
    pub rate: f64,
    /// Length of the measured window.
    pub seconds: f64,
    /// Content of a message.
    pub content_bytes: Sizes,
    /// Messages accepted a second in the window.
    pub accepted_rate: f64,
    /// Messages delivered to their recipient a second in the window.
    pub delivered_rate: f64,
    /// From the intended time of sending to `accepted`.
    pub accepted: Latency,
    /// From the intended time of sending to the recipient's `message`.
    pub delivered: Latency,
    /// Sent, accepted, lost … over the whole run, warm-up included.
    pub counts: BTreeMap<&'static str, u64>,
    /// Errors and rejections by code.
    pub errors: BTreeMap<String, u64>,
    /// Sockets closed by the server, by close code.
    pub closed: BTreeMap<u16, u64>,
    /// The server's process, where its id was given.
    pub server: Option<ServerUse>,
    /// Chosen metrics of the server.
    pub metrics: Vec<Change>,
    /// How late the driver sent: large values mean that the driver is the bottleneck.
    pub driver_lag: Latency,
    /// Cores that the driver used on average.
    pub driver_cores: f64,
    /// What the window cost, a unit being a message accepted in it.
    pub uses: Uses,
    /// The first few faults in words.
    pub examples: Vec<String>,
    /// Nothing lost, twice, out of order, refused or left unsent.
    pub clean: bool,
}

/// The counts of a verdict by name.
pub(super) fn counts(verdict: &Verdict) -> BTreeMap<&'static str, u64> {
    use super::verdict::Fault;
    let faults = Fault::ALL.map(|fault| (fault.name(), verdict.count(fault)));
    let totals = [
        ("sent", verdict.sent),
        ("accepted", verdict.accepted),
        ("copies", verdict.delivered),
        ("rejected", verdict.rejected),
        ("errors", verdict.failed),
        ("repeated", verdict.repeated),
        ("unfetched", verdict.unfetched),
    ];
    faults.into_iter().chain(totals).collect()
}

impl Report {
    fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { users, rate, seconds, content_bytes, .. } = self;
        writeln!(
            f,
            "{users} users in pairs, {rate} messages/s of {content_bytes} bytes, {seconds} s measured"
        )?;
        writeln!(f, "accepted   {}  {:.0}/s", self.accepted, self.accepted_rate)?;
        writeln!(f, "delivered  {}  {:.0}/s", self.delivered, self.delivered_rate)?;
        let count = |name| self.count(name);
        let disordered = count("out_of_order") + count("sends_reordered") + count("two_ids");
        writeln!(
            f,
            "verdict    sent {}  accepted {}  lost {}  duplicated {}  out of order {disordered}  gaps {}",
            count("sent"),
            count("accepted"),
            count("lost"),
            count("duplicated") + count("two_seqs"),
            count("skipped").max(count("holes")),
        )?;
        let told = ["sent", "accepted", "copies", "lost", "errors"];
        for (name, value) in self.counts.iter().filter(|(name, n)| **n > 0 && !told.contains(*name)) {
            writeln!(f, "           {name} {value}")?;
        }
        self.errors.iter().try_for_each(|(code, n)| writeln!(f, "error      {code} {n}"))?;
        self.closed.iter().try_for_each(|(code, n)| writeln!(f, "closed     {code} {n}"))?;
        self.examples.iter().try_for_each(|example| writeln!(f, "example    {example}"))?;
        if let Some(server) = &self.server {
            writeln!(
                f,
                "server     {:.1} CPU-µs a message, {:.2} cores, RSS {:.1} MiB (at most {:.1})",
                server.cpu_us_per_message,
                server.cores,
                mebibytes(server.rss_bytes),
                mebibytes(server.rss_bytes_max),
            )?;
        }
        for Change { name, delta, mean } in &self.metrics {
            match mean {
                Some(mean) => writeln!(f, "metric     {name} mean {mean:.6} of {delta}")?,
                None => writeln!(f, "metric     {name} +{delta}")?,
            }
        }
        writeln!(f, "driver     lag {}  {:.2} cores", self.driver_lag, self.driver_cores)?;
        write!(f, "{}", self.uses)
    }
}

pub(super) fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
