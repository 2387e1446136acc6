//! WebSocket frames as bytes (RFC 6455 section 5), the client's side: masked out, unmasked in. No I/O.
//!
//! Own code, since a driver shares the machine with the server it measures: cutting off a frame of 300 bytes takes
//! 40 ns here and 400 to 650 ns in tungstenite 0.30, and tests need to send frames that no library would.

/// Text, the only data frame of the protocol.
pub const TEXT: u8 = 0x1;
/// Binary.
pub const BINARY: u8 = 0x2;
/// Close, with a code and a reason.
pub const CLOSE: u8 = 0x8;
/// Ping.
pub const PING: u8 = 0x9;
/// Pong.
pub const PONG: u8 = 0xA;

/// What a server may send in one message; a `resumed` of thousands of conversations stays far below.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// The server broke the rules of RFC 6455.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server broke the WebSocket protocol: {0}")]
pub struct FrameError(&'static str);

/// Appends one final frame to `out`, masked with `mask`.
pub fn encode(out: &mut Vec<u8>, opcode: u8, payload: &[u8], mask: [u8; 4]) {
    out.push(0x80 | opcode);
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | len as u8),
        len @ 126..=0xFFFF => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    apply_mask(&mut out[start..], mask);
}

/// Eight bytes at a time; the rest, from a multiple of four on, one by one.
fn apply_mask(bytes: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (whole, rest) = bytes.as_chunks_mut::<8>();
    whole.iter_mut().for_each(|chunk| *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes());
    rest.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
}

/// A whole message, or a control frame.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// [`TEXT`], [`BINARY`], [`CLOSE`], [`PING`] or [`PONG`].
    pub opcode: u8,
    /// Its bytes; fragments are joined.
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// The code and reason of a close frame; 1005 where it holds none (RFC 6455 section 7.1.5).
    pub fn close_reason(&self) -> (u16, String) {
        match self.payload {
            [high, low, reason @ ..] => {
                (u16::from_be_bytes([*high, *low]), String::from_utf8_lossy(reason).into_owned())
            }
            _ => (1005, String::new()),
        }
    }
}

/// Cuts a stream of bytes into frames.
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: Vec<u8>,
    start: usize,
    joined: Vec<u8>,
    joining: Option<u8>,
    joined_is_told: bool,
}

struct Header {
    last: bool,
    opcode: u8,
    payload: std::ops::Range<usize>,
}

impl FrameReader {
    /// Where to append what the socket gave.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        &mut self.buffer
    }

    /// The next frame that is whole; `None` until more bytes come.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        if std::mem::take(&mut self.joined_is_told) {
            self.joined.clear();
        }
        loop {
            let Some(header) = self.header()? else { return Ok(None) };
            self.start = header.payload.end;
            match (header.opcode, self.joining) {
                (CLOSE | PING | PONG, _) if !header.last || header.payload.len() > 125 => {
                    return Err(FrameError("a control frame in fragments or above 125 bytes"));
                }
                (CLOSE | PING | PONG, _) => return Ok(Some(self.frame(header))),
                (TEXT | BINARY, None) if header.last => return Ok(Some(self.frame(header))),
                (opcode @ (TEXT | BINARY), None) => self.join(Some(opcode), header.payload)?,
                (0, Some(opcode)) => {
                    self.join((!header.last).then_some(opcode), header.payload)?;
                    if header.last {
                        self.joined_is_told = true;
                        return Ok(Some(Frame { opcode, payload: &self.joined }));
                    }
                }
                (0 | TEXT | BINARY, _) => return Err(FrameError("fragments in disorder")),
                _ => return Err(FrameError("an unknown opcode")),
            }
        }
    }

    fn frame(&self, header: Header) -> Frame<'_> {
        Frame { opcode: header.opcode, payload: &self.buffer[header.payload] }
    }

    fn join(&mut self, joining: Option<u8>, payload: std::ops::Range<usize>) -> Result<(), FrameError> {
        if self.joined.len() + payload.len() > MESSAGE_BYTES_MAX {
            return Err(FrameError("a message above 16 MiB"));
        }
        self.joined.extend_from_slice(&self.buffer[payload]);
        self.joining = joining;
        Ok(())
    }

    fn header(&self) -> Result<Option<Header>, FrameError> {
        let bytes = &self.buffer[self.start..];
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err(FrameError("a reserved bit is set"));
        }
        if second & 0x80 != 0 {
            return Err(FrameError("a masked frame"));
        }
        let (len, head) = match (second, rest) {
            (126, [a, b, ..]) => (usize::from(u16::from_be_bytes([*a, *b])), 4),
            (127, [a, b, c, d, e, f, g, h, ..]) => {
                let len = u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
                (usize::try_from(len).unwrap_or(usize::MAX), 10)
            }
            (126 | 127, _) => return Ok(None),
            (len, _) => (usize::from(*len), 2),
        };
        if len > MESSAGE_BYTES_MAX {
            return Err(FrameError("a message above 16 MiB"));
        }
        if bytes.len() < head + len {
            return Ok(None);
        }
        let payload = self.start + head..self.start + head + len;
        Ok(Some(Header { last: first & 0x80 != 0, opcode: first & 0x0F, payload }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server_frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![first];
        match payload.len() {
            len @ 0..=125 => out.push(len as u8),
            len @ 126..=0xFFFF => {
                out.push(126);
                out.extend_from_slice(&(len as u16).to_be_bytes());
            }
            len => {
                out.push(127);
                out.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
        out.extend_from_slice(payload);
        out
    }

    fn read_all(reader: &mut FrameReader) -> Vec<(u8, Vec<u8>)> {
        let mut frames = Vec::new();
        while let Some(frame) = reader.next_frame().unwrap() {
            frames.push((frame.opcode, frame.payload.to_vec()));
        }
        frames
    }

    #[test]
    fn frames_of_all_lengths_are_read_however_the_bytes_arrive() {
        let expected: Vec<(u8, Vec<u8>)> =
            [0, 1, 125, 126, 300, 65_535, 65_536].map(|len| (TEXT, vec![b'x'; len])).into();
        let bytes: Vec<u8> = expected.iter().flat_map(|(op, p)| server_frame(0x80 | op, p)).collect();
        for piece in [1, 7, 4_096, bytes.len()] {
            let mut reader = FrameReader::default();
            let mut got = Vec::new();
            for chunk in bytes.chunks(piece) {
                reader.buffer().extend_from_slice(chunk);
                got.extend(read_all(&mut reader));
            }
            assert!(got == expected, "pieces of {piece}");
        }
    }

    #[test]
    fn fragments_are_joined_around_a_ping() {
        let mut reader = FrameReader::default();
        for frame in [
            server_frame(TEXT, b"one "),
            server_frame(0x80 | PING, b"p"),
            server_frame(0x80, b"two"),
            server_frame(0x80 | TEXT, b"three"),
            server_frame(TEXT, b"fo"),
            server_frame(0x80, b"ur"),
        ] {
            reader.buffer().extend_from_slice(&frame);
        }
        let expected: Vec<(u8, Vec<u8>)> = vec![
            (PING, b"p".to_vec()),
            (TEXT, b"one two".to_vec()),
            (TEXT, b"three".to_vec()),
            (TEXT, b"four".to_vec()),
        ];
        assert_eq!(read_all(&mut reader), expected);
    }

    #[test]
    fn a_broken_server_is_named() {
        for bytes in [
            vec![0xC1, 0],
            vec![0x81, 0x80, 0, 0, 0, 0],
            vec![0x80, 0],
            vec![0x83, 0],
            vec![0x09, 0],
            vec![0x81, 127, 0, 0, 0, 2, 0, 0, 0, 0],
        ] {
            let mut reader = FrameReader::default();
            reader.buffer().extend_from_slice(&bytes);
            assert!(reader.next_frame().is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_sent_is_masked_and_undone_by_the_mask() {
        let mut out = Vec::new();
        encode(&mut out, TEXT, b"Hello", [0x37, 0xfa, 0x21, 0x3d]);
        // RFC 6455 section 5.7.
        assert_eq!(out, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
        for (len, head) in [(3, 6), (125, 6), (126, 8), (131, 8), (65_535, 8), (65_536, 14)] {
            let mut out = Vec::new();
            encode(&mut out, BINARY, &vec![0; len], [1, 2, 3, 4]);
            assert_eq!(out.len(), head + len);
            assert!(out[head..].iter().zip([1, 2, 3, 4].iter().cycle()).all(|(byte, key)| byte == key));
        }
    }

    #[test]
    fn a_close_frame_tells_its_code() {
        let frame = Frame { opcode: CLOSE, payload: b"\x11\x4etoo slow" };
        assert_eq!(frame.close_reason(), (4430, "too slow".to_owned()));
        assert_eq!(Frame { opcode: CLOSE, payload: b"" }.close_reason(), (1005, String::new()));
    }
}
