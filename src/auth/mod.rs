//! Who is calling: ports. Adapters: `jwt`, `tickets`, `redis`. Knows nothing of storage: whoever verifies a token
//! learns whom it names, and whether such a user exists is somebody else's question.

use std::time::Duration;

use crate::domain::{Error, ErrorCode, Secret, Subject, Timestamp};

pub mod credential;
pub mod jwt;
pub mod redis;
pub mod tickets;

/// How far the clocks of issuer and server may differ (protocol.md section 2).
pub const LEEWAY: Duration = Duration::from_secs(5);

/// The largest token, in bytes (protocol.md section 1).
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// How long a ticket can be redeemed (protocol.md section 3).
pub const TICKET_LIFE: Duration = Duration::from_secs(30);

/// Tickets that a process issues within [`TICKET_LIFE`], four for each of a node's 25,000 sockets: about 30 MB at
/// most.
pub const TICKETS_MAX: usize = 100_000;

/// Says whom a token names.
///
/// Guarantee: `Ok` only for a token whose signature, times, issuer and audience hold at this moment.
/// Does no I/O and never blocks for long (one signature check), so that it may run on an async thread.
pub trait TokenVerifier: Send + Sync {
    /// Checks a token as it was presented. Every error is `unauthorized` to the client.
    fn verify(&self, token: &str) -> Result<Claims, AuthError>;
}

/// Exchanges a token for a text that opens one socket, once, so that no token need stand in a URL.
///
/// Guarantee: a ticket is redeemed at most once, by any node that shares the adapter, and never after its
/// time. The adapter holds no text that would open a socket.
#[async_trait::async_trait]
pub trait Tickets: Send + Sync {
    /// Makes a ticket that stands for these claims; it never outlives the token they came from.
    async fn issue(&self, claims: Claims) -> Result<Ticket, TicketError>;

    /// Takes a ticket out. `None` when it is unknown, used or too old; the three are not told apart.
    async fn redeem(&self, text: &str) -> Result<Option<Claims>, TicketError>;
}

/// What a verified token says. Not for logs: an external id may be an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// Whom the token names.
    pub subject: Subject,
    /// The token's `iss`, or "": the space that `{"external_id": …}` in this caller's requests refers to.
    pub issuer: String,
    /// `name`, cut to 256 characters, not normalised; absent where it was not a string.
    pub name: Option<String>,
    /// `exp` without leeway: when a socket of this token has to end.
    pub expires_at: Option<Timestamp>,
    /// `iat`: revocation of everything issued before a moment compares with it.
    pub issued_at: Option<Timestamp>,
    /// `jti`: revocation of a single token names it.
    pub jti: Option<String>,
}

impl Claims {
    /// How long a ticket of these claims lives from `now` on: it must not be accepted when its token would not be.
    pub fn ticket_life(&self, now: Timestamp) -> Duration {
        self.expires_at.map_or(TICKET_LIFE, |expiry| TICKET_LIFE.min(expiry.plus(LEEWAY).since(now)))
    }
}

/// A ticket, told once to whom it was made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// 43 characters of base64url.
    pub text: Secret<String>,
    /// How long it can be redeemed: 30 s, or less where the token ends sooner.
    pub expires_in: Duration,
}

/// Why a ticket could not be made or looked up; says nothing about the ticket itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// As many tickets as the table holds were made within their life.
    #[error("too many tickets were issued in the last 30 s")]
    Overloaded,
    /// The place where tickets are kept does not answer.
    #[error("tickets cannot be reached now")]
    Unavailable,
}

impl From<TicketError> for Error {
    fn from(error: TicketError) -> Self {
        let code = match error {
            TicketError::Overloaded => ErrorCode::Overloaded,
            TicketError::Unavailable => ErrorCode::Unavailable,
        };
        Self::new(code, error.to_string())
    }
}

/// Why a credential is refused. The client sees `unauthorized` and the sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum AuthError {
    /// No credential at all.
    #[error("no token was presented")]
    Missing,
    /// An `Authorization` header that is not `Bearer` and one token.
    #[error("the Authorization header is not `Bearer <token>`")]
    NotBearer,
    /// Two different credentials presented in the same way.
    #[error("two different tokens were presented in the same way")]
    Conflicting,
    /// `bearer.<token>` without `chatd.v1`: the answer would have to repeat the token.
    #[error("offer the subprotocol chatd.v1 beside bearer.<token>")]
    SubprotocolMissing,
    /// `?token=` where the operator does not allow it.
    #[error(
        "?token= is not allowed here: use the Authorization header, the subprotocol bearer.<token>, or a ticket"
    )]
    QueryTokenOff,
    /// Not a ticket that can be redeemed (any more).
    #[error("the ticket is unknown, already used or too old")]
    TicketRefused,
    /// More than [`TOKEN_BYTES_MAX`].
    #[error("the token is larger than 8192 bytes")]
    TooLarge,
    /// Not a signed JWT of JSON objects, or a claim of the wrong type; says which.
    #[error("{0}")]
    Malformed(&'static str),
    /// A name twice in the header or the claims: two readers might see two tokens.
    #[error("the token's header or claims hold a name twice")]
    DuplicateClaim,
    /// `crit` (RFC 7515 section 4.1.11): no extension is understood here.
    #[error("the token's header has `crit`")]
    CriticalHeader,
    /// A header that brings or points to its own key.
    #[error("the token's header brings its own key (jku, jwk, x5u or x5c)")]
    KeyInHeader,
    /// `none`, an unknown algorithm, or one that no configured key is for.
    #[error("the token's algorithm is not accepted here")]
    WrongAlgorithm,
    /// The signature does not match.
    #[error("the token's signature does not match")]
    BadSignature,
    /// `exp` is past.
    #[error("the token has expired")]
    Expired,
    /// No `exp` where one is required.
    #[error("the token has no `exp`, which is required here")]
    ExpiryMissing,
    /// `nbf` or `iat` lies ahead.
    #[error("the token is not valid yet: `nbf` or `iat` lies in the future")]
    NotYetValid,
    /// `iss` is not the configured one.
    #[error("the token's `iss` is not the one accepted here")]
    WrongIssuer,
    /// `aud` does not hold the configured one.
    #[error("the token's `aud` is not for this server")]
    WrongAudience,
    /// `userId` is not an integer, or out of range.
    #[error("`userId` is not an integer from 1 to 2^40 - 1, written as digits")]
    UserId,
    /// `sub` is neither text nor number, empty, too long, or holds NUL.
    #[error("`sub` is not a text of 1 to 255 characters")]
    ExternalId,
    /// Neither `userId` nor `sub`.
    #[error("the token names nobody: it has neither `userId` nor `sub`")]
    SubjectMissing,
}

impl AuthError {
    /// A short fixed name, for metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::NotBearer => "not_bearer",
            Self::Conflicting => "conflicting",
            Self::SubprotocolMissing => "subprotocol_missing",
            Self::QueryTokenOff => "query_token_off",
            Self::TicketRefused => "ticket_refused",
            Self::TooLarge => "too_large",
            Self::Malformed(_) => "malformed",
            Self::DuplicateClaim => "duplicate_claim",
            Self::CriticalHeader => "critical_header",
            Self::KeyInHeader => "key_in_header",
            Self::WrongAlgorithm => "wrong_algorithm",
            Self::BadSignature => "bad_signature",
            Self::Expired => "expired",
            Self::ExpiryMissing => "expiry_missing",
            Self::NotYetValid => "not_yet_valid",
            Self::WrongIssuer => "wrong_issuer",
            Self::WrongAudience => "wrong_audience",
            Self::UserId => "user_id",
            Self::ExternalId => "external_id",
            Self::SubjectMissing => "subject_missing",
        }
    }
}

impl From<AuthError> for Error {
    fn from(error: AuthError) -> Self {
        Self::new(ErrorCode::Unauthorized, error.to_string())
    }
}
