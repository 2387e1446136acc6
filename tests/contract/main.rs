//! The suites of the ports, each written once and run on every adapter.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a panic is the way of a test to fail

mod event_log;
mod event_log_embedded;
