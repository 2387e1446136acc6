//! REST as clients meet it: real sockets, the embedded adapters.

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod client;
mod conversations;
mod errors;
mod operations;
mod raw;
mod sending;
