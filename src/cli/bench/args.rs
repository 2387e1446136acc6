//! The command line of `chatd bench`.

use std::path::Path;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::client::ClientError;
use super::dialect::Dialect;
use super::error::BenchError;
use super::fleet::Crowd;
use super::meter::{Meter, Watched};
use super::pairs::Pairs;
use super::plan::Plan;
use super::sizes::Sizes;
use crate::domain::Secret;

/// How long a message may take to arrive before it counts as lost.
const STRAGGLERS_MAX: Duration = Duration::from_secs(10);

/// Measure a running server: `chatd bench pairs|idle|max|history|backlog`.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    pub(super) command: BenchCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub(super) enum BenchCommand {
    /// Users in pairs write to each other at a fixed rate: latency, losses, order, cost
    Pairs(PairsArgs),
    /// Many quiet connections: the server's memory for each
    Idle(IdleArgs),
    /// The highest rate at which messages still arrive in time and none is lost
    Max(MaxArgs),
    /// Pages of history over connections that stay open: what a request costs
    History(HistoryArgs),
    /// Messages that pile up while nothing applies them, and how fast they are delivered once something does
    Backlog(BacklogArgs),
}

#[derive(Debug, Clone, Args)]
pub(super) struct TargetArgs {
    /// The server
    #[arg(long, default_value = "ws://127.0.0.1:3000")]
    pub(super) url: String,
    /// What the server's HS256 tokens are signed with [default: JWT_SECRET, else secrets/jwt in the data folder]
    #[arg(long, value_parser = secret)]
    pub(super) secret: Option<Secret<String>>,
    /// The id of the first user; they are made by their first token
    #[arg(long, default_value_t = 200_001)]
    pub(super) first_id: i64,
    /// What the server speaks
    #[arg(long, value_enum, default_value_t)]
    pub(super) dialect: Dialect,
    /// Print one line of JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Clone, Args)]
pub(super) struct LoadArgs {
    #[command(flatten)]
    pub(super) target: TargetArgs,
    /// Users, each with one socket; they write to each other in pairs
    #[arg(long, default_value_t = 200)]
    pub(super) users: u32,
    /// Bytes of content of a message: 120, or 100-200
    #[arg(long, default_value = "120")]
    pub(super) size: Sizes,
    /// Seconds before the measured ones
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    pub(super) warm_up: f64,
    /// Process id of the server, to measure its processor time and memory
    #[arg(long)]
    pub(super) pid: Option<u32>,
    /// A metric of the server's /metrics to compare before and after; may be repeated
    #[arg(long, value_name = "NAME")]
    pub(super) metric: Vec<String>,
    #[command(flatten)]
    pub(super) meter: MeterArgs,
}

#[derive(Debug, Clone, Args)]
pub(super) struct PairsArgs {
    #[command(flatten)]
    pub(super) load: LoadArgs,
    /// Messages a second of all users together
    #[arg(long, default_value_t = 2_000.0)]
    pub(super) rate: f64,
    /// Measured seconds
    #[arg(long, default_value_t = 20.0, value_parser = seconds)]
    pub(super) seconds: f64,
}

#[derive(Debug, Clone, Args)]
pub(super) struct MaxArgs {
    #[command(flatten)]
    pub(super) load: LoadArgs,
    /// Messages a second of the first step
    #[arg(long, default_value_t = 1_000.0)]
    pub(super) rate: f64,
    /// Messages a second that are not exceeded
    #[arg(long, default_value_t = 64_000.0)]
    pub(super) rate_max: f64,
    /// Measured seconds of each step
    #[arg(long, default_value_t = 8.0, value_parser = seconds)]
    pub(super) seconds: f64,
    /// Delivered p99 in milliseconds that is still good
    #[arg(long, default_value_t = 50.0)]
    pub(super) p99: f64,
    /// Bad tries after which a rate counts as too much
    #[arg(long, default_value_t = 1)]
    pub(super) tries: u32,
}

#[derive(Debug, Clone, Args)]
pub(super) struct IdleArgs {
    #[command(flatten)]
    pub(super) target: TargetArgs,
    /// Sockets, an even number
    #[arg(long, default_value_t = 2_000)]
    pub(super) connections: u32,
    /// Bytes of content that each connection then sends once and gets once
    #[arg(long)]
    pub(super) payload: Option<Sizes>,
    /// Process id of the server
    #[arg(long)]
    pub(super) pid: u32,
    /// Seconds of rest before memory is looked at
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    pub(super) settle: f64,
    /// Seconds for which the idle sockets are then held, to see what they cost
    #[arg(long, default_value_t = 0.0, value_parser = seconds)]
    pub(super) hold: f64,
    #[command(flatten)]
    pub(super) meter: MeterArgs,
}

#[derive(Debug, Clone, Args)]
pub(super) struct HistoryArgs {
    #[command(flatten)]
    pub(super) target: TargetArgs,
    /// Users, who ask for what they and their partner wrote
    #[arg(long, default_value_t = 200)]
    pub(super) users: u32,
    /// Connections, each with one request under way
    #[arg(long, default_value_t = 16)]
    pub(super) connections: usize,
    /// Messages a page
    #[arg(long, default_value_t = 50)]
    pub(super) limit: usize,
    /// Seconds before the measured ones
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    pub(super) warm_up: f64,
    /// Measured seconds
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    pub(super) seconds: f64,
    #[command(flatten)]
    pub(super) meter: MeterArgs,
}

#[derive(Debug, Clone, Args)]
pub(super) struct BacklogArgs {
    #[command(flatten)]
    pub(super) target: TargetArgs,
    /// Users, each with one socket
    #[arg(long, default_value_t = 1_000)]
    pub(super) users: u32,
    /// Messages to pile up
    #[arg(long, default_value_t = 200_000)]
    pub(super) records: u32,
    /// Messages a second at which they are sent
    #[arg(long, default_value_t = 8_000.0)]
    pub(super) rate: f64,
    /// Bytes of content of a message: 120, or 100-200
    #[arg(long, default_value = "120")]
    pub(super) size: Sizes,
}

/// What to look at while the bench runs, beside the driver itself.
#[derive(Debug, Clone, Args)]
pub(super) struct MeterArgs {
    /// Processor time of a process and its descendants; may be repeated, and a name may stand for several
    #[arg(long = "watch", value_name = "NAME=PID")]
    pub(super) processes: Vec<Watched>,
    /// Count the commands of this Redis
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) redis: Option<String>,
    /// Count the statements of this database, which has the extension pg_stat_statements
    #[arg(long, value_name = "URL", value_parser = secret)]
    pub(super) postgres: Option<Secret<String>>,
}

impl TargetArgs {
    pub(super) fn crowd(&self, users: u32, data: &Path) -> Result<Crowd, BenchError> {
        let address =
            self.url.parse().map_err(|error: ClientError| BenchError::Argument(format!("--url: {error}")))?;
        let secret = match &self.secret {
            Some(secret) => secret.clone(),
            None => find_secret(data)?,
        };
        Ok(Crowd { address, dialect: self.dialect, secret, users, first_id: self.first_id })
    }
}

impl LoadArgs {
    pub(super) fn pairs(&self, rate: f64, seconds: f64, data: &Path) -> Result<Pairs, BenchError> {
        let plan = Plan {
            rate,
            warm_up: Duration::from_secs_f64(self.warm_up),
            window: Duration::from_secs_f64(seconds),
            stragglers_max: STRAGGLERS_MAX,
        };
        Ok(Pairs {
            crowd: self.target.crowd(self.users, data)?,
            plan,
            content: self.size,
            pid: self.pid,
            metrics: self.metric.clone(),
            meter: self.meter.meter(),
        })
    }
}

impl MeterArgs {
    pub(super) fn meter(&self) -> Meter {
        let Self { processes, redis, postgres } = self.clone();
        Meter { processes, redis, postgres }
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
