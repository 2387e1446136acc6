//! Why a bench cannot run; what it finds wrong with a server is a result, not an error.

use super::client::ClientError;
use super::process::ProcessError;

/// Why a bench cannot run.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// An argument that cannot be.
    #[error("{0}")]
    Argument(String),
    /// No secret to sign tokens with.
    #[error(
        "no secret for tokens: give --secret, set JWT_SECRET, or start the server first ({path}: {reason})"
    )]
    Secret {
        /// Where it was looked for.
        path: String,
        /// Why it was not found.
        reason: String,
    },
    /// A token could not be signed.
    #[error("a token cannot be signed: {0}")]
    Token(#[from] jsonwebtoken::errors::Error),
    /// A socket could not be opened.
    #[error("user {user} cannot connect: {source}{hint}")]
    Connect {
        /// Who.
        user: i64,
        /// Why.
        source: ClientError,
        /// What to do about it.
        hint: &'static str,
    },
    /// The server did not get a socket ready.
    #[error("only {ready} of {all} sockets were ready within {seconds} s; first trouble: {trouble}")]
    NotReady {
        /// Sockets that got `resumed`.
        ready: usize,
        /// Sockets opened.
        all: usize,
        /// How long they had.
        seconds: u64,
        /// The first error or close seen.
        trouble: String,
    },
    /// The process to measure.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// `/metrics` cannot be read.
    #[error("/metrics cannot be read: {0}")]
    Scrape(std::io::Error),
    /// A service whose counters were to be read.
    #[error("the counters of {name} cannot be read: {reason}")]
    Service {
        /// Which.
        name: &'static str,
        /// What it said.
        reason: String,
    },
    /// The server did not answer a request as it should.
    #[error("GET /messages: {0}")]
    Request(String),
    /// The runtime or a thread could not be started.
    #[error("no runtime: {0}")]
    Runtime(#[from] std::io::Error),
}
