//! `chatd bench`: drives a running server over its real protocol and tells what its users would have seen.
//!
//! Open loop: messages are sent when they are due, whatever the server does, and latency counts from then on
//! (no coordinated omission). One thread drives all sockets, since it shares the machine with the server.
#![allow(clippy::print_stdout)] // results belong to stdout

use std::path::Path;
use std::time::Duration;

use super::{CliError, Exit};
use clap::{Args, Subcommand};

use crate::domain::Secret;

pub mod checker;
pub mod client;
pub mod error;
pub mod fleet;
pub mod frame;
pub mod histogram;
pub mod idle;
mod load;
pub mod maximum;
pub mod pairs;
pub mod plan;
pub mod process;
mod protocol;
mod ranges;
pub mod report;
pub mod scrape;
pub mod verdict;

pub use error::BenchError;

/// How long a message may take to arrive before it counts as lost.
const STRAGGLERS_MAX: Duration = Duration::from_secs(10);

/// Measure a running server: `chatd bench pairs|idle|max`.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum BenchCommand {
    /// Users in pairs write to each other at a fixed rate: latency, losses, order, cost
    Pairs(PairsArgs),
    /// Many quiet connections: the server's memory for each
    Idle(IdleArgs),
    /// The highest rate at which messages still arrive in time and none is lost
    Max(MaxArgs),
}

#[derive(Debug, Clone, Args)]
struct TargetArgs {
    /// The server
    #[arg(long, default_value = "ws://127.0.0.1:3000")]
    url: String,
    /// What the server's HS256 tokens are signed with [default: JWT_SECRET, else secrets/jwt in the data folder]
    #[arg(long, value_parser = secret)]
    secret: Option<Secret<String>>,
    /// The id of the first user; they are made by their first token
    #[arg(long, default_value_t = 200_001)]
    first_id: i64,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Args)]
struct LoadArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Users, each with one socket; they write to each other in pairs
    #[arg(long, default_value_t = 200)]
    users: u32,
    /// Bytes of content of a message
    #[arg(long, default_value_t = 120)]
    size: usize,
    /// Seconds before the measured ones
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    warm_up: f64,
    /// Process id of the server, to measure its processor time and memory
    #[arg(long)]
    pid: Option<u32>,
    /// A metric of the server's /metrics to compare before and after; may be repeated
    #[arg(long, value_name = "NAME")]
    metric: Vec<String>,
}

#[derive(Debug, Clone, Args)]
struct PairsArgs {
    #[command(flatten)]
    load: LoadArgs,
    /// Messages a second of all users together
    #[arg(long, default_value_t = 2_000.0)]
    rate: f64,
    /// Measured seconds
    #[arg(long, default_value_t = 20.0, value_parser = seconds)]
    seconds: f64,
}

#[derive(Debug, Clone, Args)]
struct MaxArgs {
    #[command(flatten)]
    load: LoadArgs,
    /// Messages a second of the first step
    #[arg(long, default_value_t = 1_000.0)]
    rate: f64,
    /// Messages a second that are not exceeded
    #[arg(long, default_value_t = 64_000.0)]
    rate_max: f64,
    /// Measured seconds of each step
    #[arg(long, default_value_t = 8.0, value_parser = seconds)]
    seconds: f64,
    /// Delivered p99 in milliseconds that is still good
    #[arg(long, default_value_t = 50.0)]
    p99: f64,
}

#[derive(Debug, Clone, Args)]
struct IdleArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Sockets, an even number
    #[arg(long, default_value_t = 2_000)]
    connections: u32,
    /// Bytes of content that each connection then sends once and gets once
    #[arg(long)]
    payload: Option<usize>,
    /// Process id of the server
    #[arg(long)]
    pid: u32,
    /// Seconds of rest before memory is looked at
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    settle: f64,
}

/// Runs a bench and prints its result. `data` is the server's data folder, where its secret is read from.
///
/// # Errors
/// The bench cannot run (no secret, no server, no such process), or the server lost, repeated, reordered or
/// refused something.
pub fn run(args: &BenchArgs, data: &Path) -> Result<(), CliError> {
    let failed = |error: BenchError| CliError::new(Exit::Fault, error.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let clean = runtime.map_err(|error| failed(error.into()))?.block_on(async {
        match &args.command {
            BenchCommand::Pairs(args) => run_pairs(args, data).await,
            BenchCommand::Idle(args) => run_idle(args, data).await,
            BenchCommand::Max(args) => run_max(args, data).await,
        }
    });
    if clean.map_err(failed)? {
        return Ok(());
    }
    Err(CliError::new(Exit::Fault, "the server did not keep its promise; see above"))
}

async fn run_pairs(args: &PairsArgs, data: &Path) -> Result<bool, BenchError> {
    let report = pairs::measure(&args.load.pairs(args.rate, args.seconds, data)?).await?;
    if args.load.target.json {
        print_json(&report)
    } else {
        println!("{report}")
    }
    Ok(report.clean)
}

async fn run_idle(args: &IdleArgs, data: &Path) -> Result<bool, BenchError> {
    let idle = idle::Idle {
        crowd: args.target.crowd(args.connections, data)?,
        pid: args.pid,
        payload_bytes: args.payload,
        settle: Duration::from_secs_f64(args.settle),
    };
    let report = idle::measure(&idle).await?;
    if args.target.json {
        print_json(&report)
    } else {
        println!("{report}")
    }
    Ok(report.clean)
}

async fn run_max(args: &MaxArgs, data: &Path) -> Result<bool, BenchError> {
    let step = args.load.pairs(args.rate, args.seconds, data)?;
    let search = maximum::Search { step, p99_ms_max: args.p99, rate_max: args.rate_max };
    let json = args.load.target.json;
    if !json {
        println!(
            "  rate/s accepted/s   accepted p99   delivered p50 p99 p99.9 ms   lost  CPU-µs  lag p99 ms"
        );
    }
    let best =
        maximum::search(&search, |step| if json { print_json(step) } else { print_step(step) }).await?;
    match best {
        _ if json => {}
        Some(rate) => println!("highest rate with delivered p99 <= {} ms: {rate} messages/s", args.p99),
        None => println!("no rate with delivered p99 <= {} ms", args.p99),
    }
    Ok(best.is_some())
}

fn print_step(step: &maximum::Step) {
    let report = &step.report;
    let delivered = &report.delivered;
    println!(
        "{:8.0} {:10.0} {:14.2} {:12.2} {:8.2} {:8.2} {:6} {:7.1} {:8.2}  {}",
        report.rate,
        report.accepted_rate,
        report.accepted.p99_ms,
        delivered.p50_ms,
        delivered.p99_ms,
        delivered.p999_ms,
        report.counts.get("lost").copied().unwrap_or(0),
        report.server.map_or(0.0, |server| server.cpu_us_per_message),
        report.driver_lag.p99_ms,
        if step.good { "good" } else { "too much" },
    );
}

fn print_json(value: &impl serde::Serialize) {
    match serde_json::to_string(value) {
        Ok(line) => println!("{line}"),
        Err(error) => println!("{{\"error\":\"{error}\"}}"),
    }
}

impl TargetArgs {
    fn crowd(&self, users: u32, data: &Path) -> Result<fleet::Crowd, BenchError> {
        let address = self
            .url
            .parse()
            .map_err(|error: client::ClientError| BenchError::Argument(format!("--url: {error}")))?;
        let secret = match &self.secret {
            Some(secret) => secret.clone(),
            None => find_secret(data)?,
        };
        Ok(fleet::Crowd { address, secret, users, first_id: self.first_id })
    }
}

impl LoadArgs {
    fn pairs(&self, rate: f64, seconds: f64, data: &Path) -> Result<pairs::Pairs, BenchError> {
        let plan = plan::Plan {
            rate,
            warm_up: Duration::from_secs_f64(self.warm_up),
            window: Duration::from_secs_f64(seconds),
            stragglers_max: STRAGGLERS_MAX,
        };
        Ok(pairs::Pairs {
            crowd: self.target.crowd(self.users, data)?,
            plan,
            content_bytes: self.size,
            pid: self.pid,
            metrics: self.metric.clone(),
        })
    }
}

/// `JWT_SECRET`, else what the server's first start has written; an empty variable counts as unset.
fn find_secret(data: &Path) -> Result<Secret<String>, BenchError> {
    if let Some(secret) = std::env::var("JWT_SECRET").ok().filter(|secret| !secret.is_empty()) {
        return Ok(Secret::new(secret));
    }
    read_secret(data)
}

fn read_secret(data: &Path) -> Result<Secret<String>, BenchError> {
    let path = data.join("secrets").join("jwt");
    std::fs::read_to_string(&path)
        .map(|text| Secret::new(text.trim_end().to_owned()))
        .map_err(|error| BenchError::Secret { path: path.display().to_string(), reason: error.to_string() })
}

fn secret(text: &str) -> Result<Secret<String>, std::convert::Infallible> {
    Ok(Secret::new(text.to_owned()))
}

/// Seconds as people write them, at most a day.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("seconds from 0 to 86400".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<BenchArgs, clap::Error> {
        use clap::FromArgMatches as _;
        let command = BenchArgs::augment_args(clap::Command::new("bench"));
        BenchArgs::from_arg_matches(&command.try_get_matches_from(line.split(' '))?)
    }

    #[test]
    fn the_command_line_holds_together() {
        BenchArgs::augment_args(clap::Command::new("bench")).debug_assert();
        for good in [
            "bench pairs --users 200 --rate 2000 --seconds 20",
            "bench pairs --url ws://h:1 --secret s --pid 1 --size 9 --first-id 5 --metric a --metric b --json",
            "bench idle --connections 2000 --payload 16384 --pid 7",
            "bench max --pid 7 --seconds 8 --p99 50",
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in ["bench", "bench idle", "bench pairs --seconds -1", "bench pairs --seconds x"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let args = format!("{:?}", parse("bench pairs --secret hidden"));
        assert!(!args.contains("hidden"), "{args}");
    }

    #[test]
    fn the_secret_is_read_from_the_data_folder_and_its_absence_is_named() {
        let data = tempfile::tempdir().unwrap();
        let error = read_secret(data.path()).unwrap_err().to_string();
        assert!(error.contains("secrets/jwt"), "{error}");
        std::fs::create_dir(data.path().join("secrets")).unwrap();
        std::fs::write(data.path().join("secrets/jwt"), "s3cret\n").unwrap();
        assert_eq!(read_secret(data.path()).unwrap().expose(), "s3cret");
    }
}
