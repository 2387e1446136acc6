//! The named errors of protocol.md section 3, the same for the socket and REST.

/// One code each; `http::error` gives status and title, `ws` the error frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The frame or body is not JSON, or deeper than 32.
    BadJson,
    /// No token, or one that does not verify.
    Unauthorized,
    /// Known, but not allowed.
    Forbidden,
    /// Does not exist for this user.
    NotFound,
    /// Nobody (enabled) with that id.
    UnknownRecipient,
    /// The same (conversation, sender, client_id) was used for something else.
    ClientIdReused,
    /// More bytes than the limit.
    TooLarge,
    /// A field has a value that it cannot have.
    Invalid,
    /// The state of things does not allow it.
    Conflict,
    /// Too many in too short a time.
    RateLimited,
    /// A dependency is away; the fate is open until it is tried again with the same client_id.
    Unavailable,
    /// Too much work is waiting.
    Overloaded,
    /// A frame type that this version does not know.
    UnknownType,
    /// REST: the path exists, the method does not.
    MethodNotAllowed,
    /// REST: the request took too long to arrive.
    Timeout,
    /// REST: not `application/json`.
    UnsupportedMediaType,
    /// REST: this server does not answer for that host.
    Misdirected,
    /// REST: the request head is too large.
    HeadTooLarge,
    /// A fault of ours.
    Internal,
}

impl ErrorCode {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadJson => "bad_json",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::UnknownRecipient => "unknown_recipient",
            Self::ClientIdReused => "client_id_reused",
            Self::TooLarge => "too_large",
            Self::Invalid => "invalid",
            Self::Conflict => "conflict",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::Overloaded => "overloaded",
            Self::UnknownType => "unknown_type",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Timeout => "timeout",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::Misdirected => "misdirected",
            Self::HeadTooLarge => "head_too_large",
            Self::Internal => "internal",
        }
    }
}

/// An error that a caller is told: its code, a sentence for people, and the field at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
pub struct Error {
    /// The name on the wire.
    pub code: ErrorCode,
    /// A sentence for the developer of a client; holds no content, token or address.
    pub message: String,
    /// The field of the frame or body at fault, where there is one.
    pub field: Option<&'static str>,
}

impl Error {
    /// An error without a field.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), field: None }
    }

    /// `invalid`, with the field at fault.
    pub fn invalid(field: &'static str, message: impl Into<String>) -> Self {
        Self { code: ErrorCode::Invalid, message: message.into(), field: Some(field) }
    }

    /// `unavailable`: a dependency is away.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Unavailable, message)
    }

    /// `not_found`: the same words whether it exists for others or not.
    pub fn not_found() -> Self {
        Self::new(ErrorCode::NotFound, "no such conversation for you")
    }
}
