//! WebSocket as clients meet it (protocol.md section 3): real sockets, the real executable. Every frame that
//! arrives anywhere in this suite is checked against the field lists of protocol.md, and every socket against the
//! order it is promised.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is a test's way to fail")]

#[path = "../support/mod.rs"]
mod support;

mod breaches;
mod changes;
mod closing;
mod devices;
mod errors;
mod frames;
mod gaps;
mod opening;
mod order;
mod peer;
mod presence;
mod receipts;
mod rejected;
mod restart;
mod resume;
mod sending;
mod tokens;
mod typing;
