//! REST as clients meet it: real sockets, the embedded adapters.

mod answers;
mod client;
mod conversations;
mod errors;
mod operations;
mod raw;
mod sending;
mod server;
