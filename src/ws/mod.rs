//! The WebSocket (RFC 6455): upgrade, guard, session. Knows nothing of REST and of adapters.

pub mod close; // why the server ends a socket
pub mod connection; // the TCP stream below actix-http: small reads, and an end from outside
pub mod frame; // what the server says: frames encoded once, shared among sockets
pub mod guard; // follows what a peer sends, byte by byte, and says stop; pure
pub mod inbound; // the read side: handshake, guard, whole messages
pub mod outbox; // the write side: a bounded queue that the HTTP response body drains
pub mod protocol; // the frames of protocol.md, parsed and encoded
pub mod rate; // frames and bytes in a second; pure
pub mod relay; // wakes from other threads, gathered
pub mod sends; // a socket's messages on their way into the log, in order
pub mod session; // one socket's task: selects, performs
pub mod state; // what a session decides; pure
pub mod upgrade; // origin, credential, user: who may open a socket
pub mod utf8; // UTF-8 checked as it goes by; pure
pub mod violation; // what a peer can do wrong, and its close code

#[cfg(test)]
mod wire_tests;
