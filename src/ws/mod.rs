//! The WebSocket (RFC 6455): upgrade, guard, session. Knows nothing of REST and of adapters.

pub mod close; // why the server ends a socket
pub mod connection; // the TCP stream below actix-http: small reads, and a way out
pub mod frame; // what the server says: frames encoded once, shared among sockets
pub mod guard; // follows what a peer sends, byte by byte, and says stop; pure
pub mod handover; // how a connection leaves actix-http for its session
pub mod handshake; // the answer to a handshake
pub mod inbound; // what the peer says: whole messages behind the guard; pure
pub mod outbox; // what is to be said: a bounded queue of frames; pure
pub mod protocol; // the frames of protocol.md, parsed and encoded
pub mod rate; // frames and bytes in a second; pure
pub mod relay; // wakes from other threads, gathered
pub mod sends; // a socket's messages on their way into the log, in order
pub mod session; // one socket's task: takes what is ready, performs
pub mod state; // what a session decides; pure
pub mod upgrade; // origin, credential, user: who may open a socket
pub mod utf8; // UTF-8 checked as it goes by; pure
pub mod violation; // what a peer can do wrong, and its close code
pub mod wire; // a socket after its handshake: reads, writes, ends

#[cfg(test)]
mod wire_tests;
