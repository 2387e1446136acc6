//! UTF-8 checked as it goes by: no byte is kept, and the first bad one is noticed at once.

/// The place inside a character, by the table of well-formed sequences (Unicode 16, table 3-7, the same as
/// RFC 3629): how many bytes it still needs, and between which bounds the next one must lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Utf8 {
    need: u8,
    low: u8,
    high: u8,
}

impl Default for Utf8 {
    fn default() -> Self {
        Self { need: 0, low: 0x80, high: 0xbf }
    }
}

impl Utf8 {
    /// Takes the next byte; false when no text can begin like this.
    #[must_use]
    pub fn accept(&mut self, byte: u8) -> bool {
        if self.need > 0 {
            let fits = (self.low..=self.high).contains(&byte);
            *self = Self { need: self.need - 1, ..Self::default() };
            return fits;
        }
        (self.need, self.low, self.high) = match byte {
            0x00..=0x7f => (0, 0x80, 0xbf),
            0xc2..=0xdf => (1, 0x80, 0xbf),
            0xe0 => (2, 0xa0, 0xbf),
            0xed => (2, 0x80, 0x9f), // no surrogates
            0xe1..=0xef => (2, 0x80, 0xbf),
            0xf0 => (3, 0x90, 0xbf),
            0xf1..=0xf3 => (3, 0x80, 0xbf),
            0xf4 => (3, 0x80, 0x8f), // nothing beyond U+10FFFF
            _ => return false,
        };
        true
    }

    /// Takes `bytes` as they come from a client, still masked; `mask` begins with the byte that applies to the
    /// first of them. False when no text can begin like this.
    #[must_use]
    pub fn accept_masked(&mut self, bytes: &[u8], mask: [u8; 4]) -> bool {
        let key = u32::from_ne_bytes(mask);
        let mut words = bytes.chunks_exact(4);
        for word in &mut words {
            let masked = u32::from_ne_bytes([word[0], word[1], word[2], word[3]]);
            let plain = masked ^ key;
            // Most text is ASCII: four of those need no table.
            if self.need == 0 && plain & 0x8080_8080 == 0 {
                continue;
            }
            if !plain.to_ne_bytes().into_iter().all(|byte| self.accept(byte)) {
                return false;
            }
        }
        words.remainder().iter().zip(mask).all(|(byte, key)| self.accept(byte ^ key))
    }

    /// Whether a text may end here.
    pub fn is_complete(self) -> bool {
        self.need == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn valid(bytes: &[u8]) -> bool {
        let mut utf8 = Utf8::default();
        bytes.iter().all(|byte| utf8.accept(*byte)) && utf8.is_complete()
    }

    #[test]
    fn overlong_forms_surrogates_and_what_lies_beyond_unicode_are_refused() {
        let bad: [&[u8]; 8] = [
            &[0xc0, 0xaf],
            &[0xc1, 0xbf],
            &[0xe0, 0x80, 0xaf],
            &[0xed, 0xa0, 0x80],
            &[0xf0, 0x80, 0x80, 0xaf],
            &[0xf4, 0x90, 0x80, 0x80],
            &[0xf5],
            &[0x80],
        ];
        for bytes in bad {
            assert!(!valid(bytes), "{bytes:x?}");
        }
        for text in ["", "a", "é", "€", "😀", "\u{10ffff}", "\u{d7ff}\u{e000}"] {
            assert!(valid(text.as_bytes()), "{text:?}");
        }
    }

    #[test]
    fn a_bad_byte_is_noticed_before_the_character_ends() {
        let mut utf8 = Utf8::default();
        assert!(utf8.accept(0xf4));
        assert!(!utf8.accept(0x90));
    }

    /// Bytes that are often nearly text: pieces of it, cut and mixed with others.
    fn nearly_text() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            "\\PC{0,6}".prop_map(String::into_bytes),
            any::<[u8; 2]>().prop_map(Vec::from),
            Just(vec![0xe2, 0x82]),
            Just(vec![0xed, 0xa0]),
        ];
        prop::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn agrees_with_the_standard_library(
            bytes in nearly_text(), mask in any::<[u8; 4]>(), cut in any::<prop::sample::Index>(),
        ) {
            let masked: Vec<u8> = bytes.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m).collect();
            let (head, tail) = masked.split_at(cut.index(masked.len() + 1));
            let mut turned = mask;
            turned.rotate_left(head.len() % 4);
            let mut utf8 = Utf8::default();
            let passed = utf8.accept_masked(head, mask) && utf8.accept_masked(tail, turned);
            prop_assert_eq!(passed && utf8.is_complete(), std::str::from_utf8(&bytes).is_ok());
            prop_assert_eq!(valid(&bytes), std::str::from_utf8(&bytes).is_ok());
        }
    }
}
