//! `[telemetry]`: what is logged, and how.

use tracing_subscriber::EnvFilter;

use super::reader::Reader;
use super::value::Choice;

/// The look of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Choice for LogFormat {
    const ALL: &'static [(&'static str, Self)] = &[("text", Self::Text), ("json", Self::Json)];
}

/// Settings of logs.
#[derive(Debug, Clone)]
pub struct Telemetry {
    /// `telemetry.filter`, `RUST_LOG`: a level, or directives such as `info,chatd::ws=debug`.
    pub filter: String,
    /// `telemetry.format`: `text` or `json`.
    pub format: LogFormat,
}

impl Telemetry {
    pub(super) fn read(r: &mut Reader<'_>) -> Self {
        let telemetry = Self {
            filter: r.get("telemetry.filter", "info".to_owned()),
            format: r.get("telemetry.format", LogFormat::Text),
        };
        if EnvFilter::try_new(&telemetry.filter).is_err() {
            let expected = "expected a level (`info`) or directives (`info,chatd::ws=debug`), found";
            let sentence = format!("telemetry.filter: {expected} `{}`", telemetry.filter);
            r.problem("telemetry.filter", sentence);
        }
        telemetry
    }
}
