//! `chatd bench idle`: what a connection costs the server in memory, idle and after it has worked.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::error::BenchError;
use super::fleet::{Crowd, Fleet};
use super::meter::{Meter, Uses};
use super::plan::Plan;
use super::process;
use super::report::mebibytes;
use super::sizes::Sizes;

/// Each socket's one message goes out at this rate: slowly enough that memory is a socket's, not a queue's.
const RATE: f64 = 500.0;

/// How long a message may take to arrive.
const STRAGGLERS_MAX: Duration = Duration::from_secs(10);

/// One measurement.
#[derive(Debug, Clone)]
pub struct Idle {
    /// Who connects.
    pub crowd: Crowd,
    /// The server's process.
    pub pid: u32,
    /// Bytes of content that each one sends once and gets once.
    pub payload: Option<Sizes>,
    /// How long the server has to come to rest before memory is looked at.
    pub settle: Duration,
    /// How long the idle sockets are then held, to see what they cost.
    pub hold: Duration,
    /// What to look at meanwhile.
    pub meter: Meter,
}

/// Resident memory of the server at each stage.
#[derive(Debug, Clone, Serialize)]
pub struct IdleReport {
    /// Sockets that were open.
    pub connections: u32,
    /// Before the first one.
    pub rss_bytes_before: u64,
    /// With all of them open.
    pub rss_bytes_open: u64,
    /// After each has sent and got one message.
    pub rss_bytes_worked: Option<u64>,
    /// After all are closed.
    pub rss_bytes_closed: u64,
    /// What holding them cost, a unit being a second.
    pub uses: Option<Uses>,
    /// Whether each message arrived.
    pub clean: bool,
}

/// Opens the sockets, lets each work once when there is a payload, and closes them.
pub async fn measure(idle: &Idle) -> Result<IdleReport, BenchError> {
    let rss = || process::sample(idle.pid).map(|sample| sample.rss_bytes);
    let window = Duration::from_secs_f64(f64::from(idle.crowd.users) / RATE);
    let plan = Plan { rate: RATE, warm_up: Duration::ZERO, window, stragglers_max: STRAGGLERS_MAX };
    let rss_bytes_before = rss()?;
    let mut fleet = Fleet::connect(&idle.crowd, plan).await?;
    fleet.while_reading(tokio::time::sleep(idle.settle)).await;
    let rss_bytes_open = rss()?;
    let uses = if idle.hold.is_zero() { None } else { Some(hold(idle, &mut fleet).await?) };
    let mut rss_bytes_worked = None;
    if let Some(payload) = idle.payload {
        fleet.drive(plan, &payload.contents(), |_, _| async { Ok(()) }).await?;
        fleet.while_reading(tokio::time::sleep(idle.settle)).await;
        rss_bytes_worked = Some(rss()?);
    }
    let clean = {
        let load = fleet.load().borrow();
        load.checker.verdict().is_clean() && load.errors.is_empty() && load.closed.is_empty()
    };
    fleet.close().await;
    tokio::time::sleep(idle.settle).await;
    let rss_bytes_closed = rss()?;
    let connections = idle.crowd.users;
    Ok(IdleReport {
        connections,
        rss_bytes_before,
        rss_bytes_open,
        rss_bytes_worked,
        rss_bytes_closed,
        uses,
        clean,
    })
}

async fn hold(idle: &Idle, fleet: &mut Fleet) -> Result<Uses, BenchError> {
    let before = idle.meter.read().await?;
    fleet.while_reading(tokio::time::sleep(idle.hold)).await;
    let after = idle.meter.read().await?;
    Ok(after.since(&before, idle.hold.as_secs_f64()))
}

impl IdleReport {
    /// KiB a connection above what the server had before.
    fn kibibytes_each(&self, bytes: u64) -> f64 {
        (bytes as f64 - self.rss_bytes_before as f64) / 1024.0 / f64::from(self.connections)
    }
}

impl fmt::Display for IdleReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} connections", self.connections)?;
        writeln!(f, "before   RSS {:8.1} MiB", mebibytes(self.rss_bytes_before))?;
        let mut line = |stage: &str, bytes: u64| {
            let each = self.kibibytes_each(bytes);
            writeln!(f, "{stage}   RSS {:8.1} MiB  {each:6.1} KiB a connection", mebibytes(bytes))
        };
        line("idle  ", self.rss_bytes_open)?;
        self.rss_bytes_worked.into_iter().try_for_each(|bytes| line("worked", bytes))?;
        line("closed", self.rss_bytes_closed)?;
        if let Some(uses) = &self.uses {
            writeln!(f, "held for {:.0} s; each second:\n{uses}", uses.units)?;
        }
        write!(f, "{}", if self.clean { "nothing lost" } else { "messages were lost, refused or cut off" })
    }
}
