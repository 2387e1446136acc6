//! Logs on stderr: text for people, JSON for collectors.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// Why logs cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// The filter of `RUST_LOG` or `telemetry.filter`.
    #[error("telemetry.filter (RUST_LOG) cannot be read: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
}

/// Begins logging. A second call in one process changes nothing.
pub fn init(filter: &str, json: bool) -> Result<(), LogsError> {
    // actix tells of each worker at `info`; whoever wants that names `actix_server` themselves.
    let filter: EnvFilter = format!("actix_server=warn,{filter}").parse()?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = if json {
        builder.json().flatten_event(true).with_timer(SystemTime).try_init()
    } else {
        builder.with_timer(Clock).with_target(false).with_ansi(io::stderr().is_terminal()).try_init()
    };
    // Only a second call fails, as in tests that start several servers in one process.
    let _ = started;
    Ok(())
}

/// The time of day, to the millisecond: the date is on the terminal already.
struct Clock;

impl FormatTime for Clock {
    fn format_time(&self, w: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        let text = crate::domain::Timestamp::now().to_string();
        // `2026-01-31T12:03:50.123Z`
        write!(w, "{}", text.get(11..23).unwrap_or(&text))
    }
}
