//! REST as clients meet it: real sockets, the embedded adapters.

#![allow(clippy::unwrap_used, reason = "a panic is a test's way to fail, in what tests share too")]

mod answers;
mod changes;
mod client;
mod conversations;
mod errors;
mod lists;
mod operations;
mod people;
mod raw;
mod sending;
mod server;
