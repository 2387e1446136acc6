//! Numbers and texts in as few bytes as they need: LEB128 (DWARF 5, section 7.6), and zigzag for what may be below
//! zero.

use bytes::{BufMut, BytesMut};

use super::Unreadable;

/// Writes a number: seven bits a byte, the lowest first.
pub(super) fn put_unsigned(bytes: &mut BytesMut, mut number: u64) {
    while number >= 0x80 {
        bytes.put_u8((number as u8) | 0x80);
        number >>= 7;
    }
    bytes.put_u8(number as u8);
}

/// Writes a number that may be below zero: 0, -1, 1, -2 … become 0, 1, 2, 3 …
pub(super) fn put_signed(bytes: &mut BytesMut, number: i64) {
    put_unsigned(bytes, ((number << 1) ^ (number >> 63)).cast_unsigned());
}

/// Writes bytes after their number.
pub(super) fn put_slice(bytes: &mut BytesMut, slice: &[u8]) {
    put_unsigned(bytes, slice.len() as u64);
    bytes.put_slice(slice);
}

/// Reads what was written, in the same order.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many bytes are left.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn byte(&mut self) -> Result<u8, Unreadable> {
        let (first, rest) = self.0.split_first().ok_or(Unreadable::Damaged)?;
        self.0 = rest;
        Ok(*first)
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Unreadable> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Unreadable::Damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn eight(&mut self) -> Result<u64, Unreadable> {
        let bytes = self.take(8)?.try_into().map_err(|_| Unreadable::Damaged)?;
        Ok(u64::from_le_bytes(bytes))
    }

    pub(super) fn sixteen(&mut self) -> Result<[u8; 16], Unreadable> {
        self.take(16)?.try_into().map_err(|_| Unreadable::Damaged)
    }

    pub(super) fn unsigned(&mut self) -> Result<u64, Unreadable> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Unreadable::Damaged)
    }

    pub(super) fn signed(&mut self) -> Result<i64, Unreadable> {
        let number = self.unsigned()?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    /// A number of a smaller kind.
    pub(super) fn number<T: TryFrom<u64>>(&mut self) -> Result<T, Unreadable> {
        T::try_from(self.unsigned()?).map_err(|_| Unreadable::Damaged)
    }

    pub(super) fn slice(&mut self) -> Result<&'a [u8], Unreadable> {
        let count = self.number()?;
        self.take(count)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Unreadable> {
        std::str::from_utf8(self.slice()?).map_err(|_| Unreadable::Damaged)
    }
}
