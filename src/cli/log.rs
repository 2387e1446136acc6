//! `chatd log replay --from …`: the way out when the log and the database do not go together any more.

use std::fmt::Write as _;
use std::str::FromStr;

use crate::app::open;
use crate::config::Config;
use crate::domain::Offset;
use crate::pipeline::Bounds;

use super::{CliError, Exit, output};

/// What to do with the message log.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Let the database follow the log from these offsets on; what it has is stored once
    Replay(Replay),
}

/// Arguments of `chatd log replay`.
#[derive(Debug, clap::Args)]
pub struct Replay {
    /// earliest: everything that the log holds; latest: only what comes from now on; or an offset for each
    /// partition, as in 120,98,0
    #[arg(long, value_name = "WHERE")]
    pub from: From,
    /// Go on although records of the log are passed over
    #[arg(long)]
    pub accept_loss: bool,
}

/// Where to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// The first record held.
    Earliest,
    /// Behind the last record.
    Latest,
    /// An offset a partition.
    Offsets(Vec<Offset>),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            offsets => offsets
                .split(',')
                .map(|offset| offset.parse().ok().filter(|offset| *offset >= 0))
                .collect::<Option<_>>()
                .map(Self::Offsets)
                .ok_or_else(|| "expected earliest, latest, or an offset for each partition".to_owned()),
        }
    }
}

/// Does it.
///
/// # Errors
/// Records would be passed over and nobody accepted that, or the offsets are not in the log (2); storage or the
/// log cannot be reached (69).
pub async fn run(command: &Command, config: &Config) -> Result<(), CliError> {
    let Command::Replay(args) = command;
    let books = open::books(config).await?;
    let bounds = books.source.bounds().await?;
    let next = begin(&args.from, &bounds).map_err(|sentence| CliError::new(Exit::Usage, sentence))?;
    let followed = books.storage.followed().await?;
    let identity = books.source.identity();
    let applied = match followed {
        Some((number, known)) if known == identity => {
            books.storage.frontier(number).await?.offsets.iter().map(|offset| offset + 1).collect()
        }
        // Of a log that was never followed nothing was applied.
        _ => vec![0; bounds.len()],
    };
    let passed_over = passed_over(&next, &applied, &bounds);
    if passed_over > 0 && !args.accept_loss {
        let sentence = format!(
            "{passed_over} records of the log have not become history, and would never: begin earlier, or say \
             --accept-loss"
        );
        return Err(CliError::new(Exit::Usage, sentence));
    }
    let number = books.storage.hand_over(identity, &next).await?;
    output::print(&told(number.0, &next, &bounds, passed_over))
}

/// The offset of each partition to begin at.
fn begin(from: &From, bounds: &[Bounds]) -> Result<Vec<Offset>, String> {
    match from {
        From::Earliest => Ok(bounds.iter().map(|bound| bound.start).collect()),
        From::Latest => Ok(bounds.iter().map(|bound| bound.end).collect()),
        From::Offsets(offsets) if offsets.len() != bounds.len() => {
            Err(format!("the log has {} partitions: give an offset for each", bounds.len()))
        }
        From::Offsets(offsets) => {
            let mut places = (0..).zip(offsets.iter().zip(bounds));
            match places.find(|(_, (offset, bound))| !(bound.start..=bound.end).contains(offset)) {
                None => Ok(offsets.clone()),
                Some((partition, (offset, bound))) => Err(format!(
                    "partition {partition} of the log holds offsets {} to {}, not {offset}",
                    bound.start, bound.end
                )),
            }
        }
    }
}

/// How many records that the log holds lie between what is applied and where to begin.
fn passed_over(next: &[Offset], applied: &[Offset], bounds: &[Bounds]) -> Offset {
    let places = next.iter().zip(applied).zip(bounds);
    places.map(|((next, applied), bound)| (next - (*applied).max(bound.start)).max(0)).sum()
}

fn told(number: i32, next: &[Offset], bounds: &[Bounds], passed_over: Offset) -> String {
    let mut out = format!("The database follows the log from here on, as its log number {number}:\n");
    for (partition, (next, bound)) in next.iter().zip(bounds).enumerate() {
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "  partition {partition}: from offset {next}, {} records to read",
            bound.end - next
        );
    }
    if passed_over > 0 {
        let _ = writeln!(out, "{passed_over} records were passed over, as accepted.");
    }
    out.push_str("Start all chatd processes again; what is in history already is not stored twice.\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: [Bounds; 2] = [Bounds { start: 5, end: 9 }, Bounds { start: 0, end: 3 }];

    #[test]
    fn where_to_begin_is_said_in_words_or_offsets() {
        let begin = |text: &str| begin(&text.parse().unwrap(), &BOUNDS);
        assert_eq!(begin("earliest"), Ok(vec![5, 0]));
        assert_eq!(begin("latest"), Ok(vec![9, 3]));
        assert_eq!(begin("9,1"), Ok(vec![9, 1]));
        assert!(begin("4,1").unwrap_err().contains("partition 0 of the log holds offsets 5 to 9"));
        assert!(begin("7").unwrap_err().contains("2 partitions"));
        for text in ["", "-1,0", "5;0", "oldest"] {
            assert!(text.parse::<From>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_would_be_lost_is_counted() {
        assert_eq!(passed_over(&[5, 0], &[5, 0], &BOUNDS), 0);
        assert_eq!(passed_over(&[9, 3], &[7, 3], &BOUNDS), 2);
        assert_eq!(passed_over(&[9, 0], &[0, 3], &BOUNDS), 4, "what the log has lost cannot be passed over");
    }
}
