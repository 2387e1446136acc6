//! Logs, metrics, and the story of each message in the terminal.

pub mod logs;
pub mod metrics;
pub mod story;
