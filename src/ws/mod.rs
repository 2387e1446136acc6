//! The WebSocket (RFC 6455): upgrade, guard, session.

pub mod frame; // what the server says: frames encoded once, shared among sockets
pub mod guard; // follows what a peer sends, byte by byte, and says stop; pure
pub mod inbound; // the read side: handshake, guard, whole messages
pub mod outbox; // the write side: a bounded queue that the HTTP response body drains
pub mod rate; // frames and bytes in a second; pure
pub mod utf8; // UTF-8 checked as it goes by; pure
pub mod violation; // what a peer can do wrong, and its close code

#[cfg(test)]
mod wire_tests;
