//! `chatd bench backlog`: messages are accepted while nothing applies them; then somebody starts what does, and they
//! are waited for.

use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::error::BenchError;
use super::fleet::{Crowd, Fleet};
use super::plan::Plan;
use super::report::counts;
use super::sizes::Sizes;

/// How late the driver may be with its last messages.
const SENT_MAX: Duration = Duration::from_secs(3);
/// What is missing by then is lost.
const DRAINED_MAX: Duration = Duration::from_secs(120);

/// One measurement.
#[derive(Debug, Clone)]
pub struct Backlog {
    /// Who writes.
    pub crowd: Crowd,
    /// Messages to pile up.
    pub records: u32,
    /// Messages a second at which they are sent.
    pub rate: f64,
    /// Bytes of content.
    pub content: Sizes,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct BacklogReport {
    /// Messages that were accepted.
    pub records: u64,
    /// Messages a second, from the first that reached its recipient to the last.
    pub rate: f64,
    /// Seconds from the last `accepted` until the first message came: starting is in it.
    pub first_seconds: f64,
    /// Seconds from the last `accepted` until the last message came.
    pub last_seconds: f64,
    /// Accepted, lost …
    pub counts: std::collections::BTreeMap<&'static str, u64>,
    /// Sockets closed by the server, by close code.
    pub closed: std::collections::BTreeMap<u16, u64>,
    /// Nothing lost, twice or out of order.
    pub clean: bool,
}

/// Sends, calls `piled_up` when all is accepted, and waits until all is delivered.
pub async fn measure(backlog: &Backlog, piled_up: impl FnOnce()) -> Result<BacklogReport, BenchError> {
    let window = Duration::from_secs_f64(f64::from(backlog.records) / backlog.rate.max(1.0));
    let plan = Plan { rate: backlog.rate, warm_up: Duration::ZERO, window, stragglers_max: SENT_MAX };
    let mut fleet = Fleet::connect(&backlog.crowd, plan).await?;
    fleet.drive(plan, &backlog.content.contents(), |_, _| async { Ok(()) }).await?;
    let all = |accepted: u64| accepted >= plan.total() as u64;
    fleet.wait_for(|load| all(load.counts.accepted), DRAINED_MAX).await;
    let piled = Instant::now();
    piled_up();
    fleet.wait_for(|load| load.checker.is_settled(), DRAINED_MAX).await;
    let report = {
        let load = fleet.load().borrow();
        let verdict = load.checker.verdict();
        let (first, last) = load.delivering.unwrap_or((piled, piled));
        let since = |at: Instant| at.saturating_duration_since(piled).as_secs_f64();
        let whole = load.errors.is_empty() && load.closed.is_empty() && load.counts.unsent == 0;
        BacklogReport {
            records: load.counts.accepted,
            rate: load.counts.delivered as f64
                / last.saturating_duration_since(first).as_secs_f64().max(0.001),
            first_seconds: since(first),
            last_seconds: since(last),
            counts: counts(&verdict),
            closed: load.closed.clone(),
            clean: verdict.is_clean() && whole,
        }
    };
    fleet.close().await;
    Ok(report)
}

impl fmt::Display for BacklogReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { records, rate, first_seconds, last_seconds, counts, closed, clean } = self;
        writeln!(f, "{records} messages piled up, then delivered at {rate:.0}/s")?;
        writeln!(f, "the first after {first_seconds:.2} s, the last after {last_seconds:.2} s")?;
        counts
            .iter()
            .filter(|(_, n)| **n > 0)
            .try_for_each(|(name, n)| writeln!(f, "           {name} {n}"))?;
        closed.iter().try_for_each(|(code, n)| writeln!(f, "closed     {code} {n}"))?;
        write!(f, "{}", if *clean { "nothing lost" } else { "messages were lost, refused or cut off" })
    }
}
