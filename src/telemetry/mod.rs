//! Logs, metrics, and the story of each message in the terminal.

pub mod story;
