//! What a stretch of work cost: processor time of groups of processes, commands of Redis, statements of PostgreSQL.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::error::BenchError;
use super::process::{self, Tree};
use super::services::{self, Statements};
use crate::domain::Secret;

/// Whom to look at.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    /// Processes with their descendants; several may share a name.
    pub processes: Vec<Watched>,
    /// `host:port` of a Redis without a password.
    pub redis: Option<String>,
    /// A database with the extension pg_stat_statements.
    pub postgres: Option<Secret<String>>,
}

/// A process to look at, and its descendants: `NAME=PID`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    name: String,
    pid: u32,
}

impl FromStr for Watched {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, pid) = text.split_once('=').ok_or("expected NAME=PID")?;
        let pid = pid.parse().map_err(|_| "expected NAME=PID, with the id of a process")?;
        Ok(Self { name: name.to_owned(), pid })
    }
}

/// All of that at one moment.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    at: Instant,
    driver: Duration,
    trees: BTreeMap<String, Tree>,
    redis: BTreeMap<String, u64>,
    statements: Statements,
}

/// What happened between two readings. Totals; [`Uses::units`] says of how many messages, requests or seconds.
#[derive(Debug, Clone, Serialize)]
pub struct Uses {
    /// What the totals are shown for each of.
    pub units: f64,
    /// Seconds between the readings.
    pub seconds: f64,
    /// Processor time of the driver itself, in microseconds.
    pub driver_cpu_us: f64,
    /// By name of the processes.
    pub processes: BTreeMap<String, TreeUse>,
    /// Counters of Redis that moved: `commands`, `bytes_in`, `bytes_out`, and each command by name.
    pub redis: BTreeMap<String, u64>,
    /// Statements of PostgreSQL without BEGIN and COMMIT.
    pub statements: u64,
    /// Bytes that PostgreSQL wrote to its log.
    pub wal_bytes: u64,
    /// The statements by their text.
    pub by_statement: BTreeMap<String, u64>,
}

/// What processes used.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct TreeUse {
    /// Processor time in microseconds.
    pub cpu_us: f64,
    /// Resident memory at the end, in bytes; what processes share counts for each.
    pub rss_bytes: u64,
}

impl Meter {
    /// Looks at everything.
    pub(super) async fn read(&self) -> Result<Reading, BenchError> {
        // The services first: asking them takes time in which the processes would go on.
        let redis = match &self.redis {
            Some(address) => services::redis(address).await?,
            None => BTreeMap::new(),
        };
        let statements = match &self.postgres {
            Some(url) => services::postgres(url).await?,
            None => Statements::default(),
        };
        let mut trees = BTreeMap::<String, Tree>::new();
        for Watched { name, pid } in &self.processes {
            let tree = process::tree(*pid)?;
            *trees.entry(name.clone()).or_default() += tree;
        }
        let driver = process::sample(std::process::id())?.cpu;
        Ok(Reading { at: Instant::now(), driver, trees, redis, statements })
    }
}

impl Reading {
    /// What happened since `before`, in which there were so many `units` of work.
    pub(super) fn since(&self, before: &Self, units: f64) -> Uses {
        let us = |after: Duration, before: Duration| after.saturating_sub(before).as_secs_f64() * 1e6;
        let processes = self.trees.iter().map(|(name, after)| {
            let cpu = before.trees.get(name).map_or(Duration::ZERO, |tree| tree.cpu);
            (name.clone(), TreeUse { cpu_us: us(after.cpu, cpu), rss_bytes: after.rss_bytes })
        });
        Uses {
            units,
            seconds: (self.at - before.at).as_secs_f64(),
            driver_cpu_us: us(self.driver, before.driver),
            processes: processes.collect(),
            redis: moved(&self.redis, &before.redis),
            statements: moved(&self.statements.calls, &before.statements.calls).values().sum(),
            wal_bytes: self.statements.wal_bytes.saturating_sub(before.statements.wal_bytes),
            by_statement: moved(&self.statements.calls, &before.statements.calls),
        }
    }
}

fn moved(after: &BTreeMap<String, u64>, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let since = |name: &String, now: u64| now.saturating_sub(before.get(name).copied().unwrap_or(0));
    let all = after.iter().map(|(name, now)| (name.clone(), since(name, *now)));
    all.filter(|(_, delta)| *delta > 0).collect()
}

impl fmt::Display for Uses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = |total: f64| total / self.units.max(1.0);
        let cores = |us: f64| us / 1e6 / self.seconds.max(0.001);
        write!(
            f,
            "driver     {:.1} CPU-µs each, {:.2} cores",
            each(self.driver_cpu_us),
            cores(self.driver_cpu_us)
        )?;
        for (name, TreeUse { cpu_us, rss_bytes }) in &self.processes {
            let (cpu, cores) = (each(*cpu_us), cores(*cpu_us));
            let rss = super::report::mebibytes(*rss_bytes);
            write!(f, "\n{name:10} {cpu:.1} CPU-µs each, {cores:.3} cores, RSS {rss:.1} MiB")?;
        }
        if !self.processes.is_empty() {
            let all = self.processes.values().map(|used| used.cpu_us).sum();
            write!(f, "\nall        {:.1} CPU-µs each, {:.2} cores", each(all), cores(all))?;
        }
        for (name, count) in &self.redis {
            write!(f, "\nredis      {name} {:.3} each", each(*count as f64))?;
        }
        if self.statements > 0 {
            write!(f, "\npostgres   {:.4} statements each, ", each(self.statements as f64))?;
            write!(f, "{:.0} bytes of log each", each(self.wal_bytes as f64))?;
        }
        let mut most: Vec<_> = self.by_statement.iter().collect();
        most.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for (text, count) in most.iter().take(STATEMENTS_SHOWN) {
            let text: String = text.chars().take(STATEMENT_CHARS).collect();
            write!(f, "\npostgres   {:.4} {text}", each(**count as f64))?;
        }
        Ok(())
    }
}

/// Statements that people see; the JSON has all of them.
const STATEMENTS_SHOWN: usize = 12;
const STATEMENT_CHARS: usize = 90;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_of_this_process_is_told_for_each_unit() {
        let watched: Watched = format!("self={}", std::process::id()).parse().unwrap();
        let meter = Meter { processes: vec![watched], ..Meter::default() };
        let before = meter.read().await.unwrap();
        let busy = Instant::now();
        while busy.elapsed() < Duration::from_millis(60) {
            std::hint::black_box(std::fs::read("/proc/self/stat").unwrap());
        }
        let uses = meter.read().await.unwrap().since(&before, 10.0);
        assert!(uses.processes["self"].cpu_us >= 30_000.0, "{uses}");
        assert!(uses.to_string().contains("CPU-µs each"), "{uses}");
    }

    #[test]
    fn only_what_moved_is_told() {
        let map = |pairs: &[(&str, u64)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect();
        let moved = moved(&map(&[("get", 7), ("set", 3), ("new", 2)]), &map(&[("get", 5), ("set", 3)]));
        assert_eq!(moved, map(&[("get", 2), ("new", 2)]));
    }

    #[test]
    fn a_process_is_named_with_its_id() {
        assert_eq!("a=7".parse(), Ok(Watched { name: "a".to_owned(), pid: 7 }));
        assert!("a".parse::<Watched>().is_err() && "a=b".parse::<Watched>().is_err());
    }
}
