//! `chatd bench`: drives a running server over its real protocol and tells what its users would have seen.
//!
//! Open loop: messages are sent when they are due, whatever the server does, and latency counts from then on
//! (no coordinated omission). One thread drives all sockets, since it shares the machine with the server.
#![allow(clippy::print_stdout)] // results belong to stdout

use std::path::Path;
use std::time::Duration;

use args::{BacklogArgs, BenchCommand, HistoryArgs, IdleArgs, MaxArgs, PairsArgs};

use super::{CliError, Exit};

mod args;
pub mod backlog;
pub mod checker;
pub mod client;
pub mod dialect;
pub mod error;
pub mod fleet;
pub mod frame;
pub mod histogram;
pub mod history;
pub mod idle;
mod load;
pub mod maximum;
pub mod meter;
pub mod pairs;
pub mod plan;
pub mod process;
mod protocol;
mod ranges;
mod reference;
pub mod report;
pub mod scrape;
mod services;
pub mod sizes;
pub mod verdict;

pub use args::BenchArgs;
pub use error::BenchError;

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
            BenchCommand::History(args) => run_history(args, data).await,
            BenchCommand::Backlog(args) => run_backlog(args, data).await,
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
        payload: args.payload,
        settle: Duration::from_secs_f64(args.settle),
        hold: Duration::from_secs_f64(args.hold),
        meter: args.meter.meter(),
    };
    let report = idle::measure(&idle).await?;
    if args.target.json {
        print_json(&report)
    } else {
        println!("{report}")
    }
    Ok(report.clean)
}

async fn run_history(args: &HistoryArgs, data: &Path) -> Result<bool, BenchError> {
    let history = history::History {
        crowd: args.target.crowd(args.users, data)?,
        connections: args.connections,
        limit: args.limit,
        warm_up: Duration::from_secs_f64(args.warm_up),
        window: Duration::from_secs_f64(args.seconds),
        meter: args.meter.meter(),
    };
    let report = history::measure(&history).await?;
    if args.target.json {
        print_json(&report)
    } else {
        println!("{report}")
    }
    Ok(true)
}

async fn run_backlog(args: &BacklogArgs, data: &Path) -> Result<bool, BenchError> {
    let backlog = backlog::Backlog {
        crowd: args.target.crowd(args.users, data)?,
        records: args.records,
        rate: args.rate,
        content: args.size,
    };
    // Whoever starts what applies them waits for this line.
    let report = backlog::measure(&backlog, || println!("piled up")).await?;
    if args.target.json {
        print_json(&report)
    } else {
        println!("{report}")
    }
    Ok(report.clean)
}

async fn run_max(args: &MaxArgs, data: &Path) -> Result<bool, BenchError> {
    let step = args.load.pairs(args.rate, args.seconds, data)?;
    let search = maximum::Search { step, p99_ms_max: args.p99, rate_max: args.rate_max, tries: args.tries };
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
