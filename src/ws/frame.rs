//! What the server says: whole WebSocket frames (RFC 6455 section 5.2), encoded once and shared among sockets.

use bytes::{BufMut, Bytes, BytesMut};

/// Section 5.5: the payload of a control frame.
const CONTROL_BYTES_MAX: usize = 125;
/// Two bytes of a close frame are its code.
const REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX - 2;

/// One unfragmented, unmasked frame with its header. A clone shares the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame(Bytes);

impl Frame {
    /// A text message.
    pub fn text(text: &str) -> Self {
        Self::encode(0x1, &[text.as_bytes()])
    }

    /// A text message of bytes that are UTF-8: an encoder's.
    pub fn text_bytes(text: &[u8]) -> Self {
        Self::encode(0x1, &[text])
    }

    /// A ping; of `payload` at most 125 bytes are sent.
    pub fn ping(payload: &[u8]) -> Self {
        Self::encode(0x9, &[&payload[..payload.len().min(CONTROL_BYTES_MAX)]])
    }

    /// A pong, the answer to a ping with this payload; at most 125 bytes of it are sent.
    pub fn pong(payload: &[u8]) -> Self {
        Self::encode(0xa, &[&payload[..payload.len().min(CONTROL_BYTES_MAX)]])
    }

    /// A close; of `reason` at most 123 bytes are sent, whole characters only.
    pub fn close(code: u16, reason: &str) -> Self {
        let reason = &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)];
        Self::encode(0x8, &[&code.to_be_bytes(), reason.as_bytes()])
    }

    /// Bytes on the wire, header included.
    #[allow(clippy::len_without_is_empty, reason = "a frame always has a header")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The bytes for the wire.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    fn encode(opcode: u8, parts: &[&[u8]]) -> Self {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let mut bytes = BytesMut::with_capacity(length + 10);
        bytes.put_u8(0x80 | opcode);
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(short @ 0..=125), _) => bytes.put_u8(short),
            (_, Ok(medium)) => {
                bytes.put_u8(126);
                bytes.put_u16(medium);
            }
            _ => {
                bytes.put_u8(127);
                bytes.put_u64(length as u64);
            }
        }
        for part in parts {
            bytes.put_slice(part);
        }
        Self(bytes.freeze())
    }
}

#[cfg(test)]
mod tests {
    use actix_http::ws::{Codec, Frame as Decoded};
    use tokio_util::codec::Decoder;

    use super::*;

    fn decode(frame: Frame) -> Decoded {
        let mut bytes = BytesMut::from(frame.into_bytes());
        let decoded = Codec::new().client_mode().max_size(1 << 20).decode(&mut bytes).unwrap().unwrap();
        assert!(bytes.is_empty());
        decoded
    }

    #[test]
    fn texts_of_every_length_class_arrive_as_they_were() {
        for length in [0, 1, 125, 126, 65_535, 65_536, 70_000] {
            let text = "x".repeat(length);
            assert_eq!(decode(Frame::text(&text)), Decoded::Text(text.into()), "{length}");
        }
    }

    #[test]
    fn control_frames_keep_to_125_bytes() {
        assert_eq!(decode(Frame::ping(&[7; 8])), Decoded::Ping(vec![7; 8].into()));
        assert_eq!(decode(Frame::ping(&[7; 126])), Decoded::Ping(vec![7; 125].into()));
        assert_eq!(decode(Frame::pong(b"")), Decoded::Pong(Bytes::new()));
    }

    #[test]
    fn a_close_carries_its_code_and_a_reason_cut_between_characters() {
        let long = "€".repeat(50);
        let Decoded::Close(Some(reason)) = decode(Frame::close(4430, &long)) else { panic!("no close") };
        assert_eq!(u16::from(reason.code), 4430);
        assert_eq!(reason.description.as_deref(), Some("€".repeat(41).as_str()));
    }

    #[test]
    fn a_clone_shares_the_bytes() {
        let frame = Frame::text("once");
        assert_eq!(frame.clone().into_bytes().as_ptr(), frame.into_bytes().as_ptr());
    }
}
