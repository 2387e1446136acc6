//! What a peer can do wrong on the wire, each with the close code it is told.

/// A breach of RFC 6455 or of the limits in protocol.md section 1. It ends the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Violation {
    /// One of RSV1 to RSV3 is set, and no extension was negotiated (RFC 6455 section 5.2).
    #[error("reserved bits are set")]
    ReservedBits,
    /// An opcode from 3 to 7 or from 11 to 15 (section 5.2).
    #[error("reserved opcode")]
    ReservedOpcode,
    /// A client's frame without a mask (section 5.1).
    #[error("frame is not masked")]
    Unmasked,
    /// A ping, pong or close without FIN (section 5.5).
    #[error("control frame is fragmented")]
    ControlFragmented,
    /// A ping, pong or close of more than 125 bytes (section 5.5).
    #[error("control frame is longer than 125 bytes")]
    ControlTooLong,
    /// A continuation while no message is under way (section 5.4).
    #[error("continuation without a message")]
    ContinuationWithoutStart,
    /// A new message inside a fragmented one (section 5.4).
    #[error("message inside a fragmented message")]
    MessageInsideMessage,
    /// A length in more bytes than it needs, or a 64-bit length with the top bit set (section 5.2).
    #[error("invalid length encoding")]
    LengthEncoding,
    /// A close frame of one byte, or with a code that must not be sent (sections 5.5.1 and 7.4).
    #[error("invalid close frame")]
    CloseFrame,
    /// A frame or message that was begun and not ended in time.
    #[error("message took too long to arrive")]
    Slow,
    /// The decoder behind the guard refused what the guard let pass.
    #[error("frame cannot be decoded")]
    Undecodable,
    /// A binary message; chatd speaks text only.
    #[error("binary messages are not supported")]
    Binary,
    /// A text message, or the reason of a close, that is not UTF-8 (section 8.1).
    #[error("text is not UTF-8")]
    NotUtf8,
    /// The frames of one message announce more bytes than the limit.
    #[error("message is too large")]
    MessageTooLarge,
    /// One message in more frames than the limit.
    #[error("message has too many fragments")]
    TooManyFragments,
    /// More frames or bytes in a second than the limit.
    #[error("too many frames or bytes in a second")]
    Flood,
}

impl Violation {
    /// The close code of protocol.md section 3; the sentence for its reason is `to_string()`.
    pub const fn close_code(self) -> u16 {
        match self {
            Self::ReservedBits
            | Self::ReservedOpcode
            | Self::Unmasked
            | Self::ControlFragmented
            | Self::ControlTooLong
            | Self::ContinuationWithoutStart
            | Self::MessageInsideMessage
            | Self::LengthEncoding
            | Self::CloseFrame
            | Self::Slow
            | Self::Undecodable => 1002,
            Self::Binary => 1003,
            Self::NotUtf8 => 1007,
            Self::MessageTooLarge | Self::TooManyFragments => 1009,
            Self::Flood => 4429,
        }
    }
}
