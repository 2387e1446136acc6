//! People, as chatd knows them.

use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::UnicodeSegmentation;

use super::{Error, UserId};

/// Somebody who sends and receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The integer id.
    pub id: UserId,
    /// The host application's own id, where a token's `sub` made this user.
    pub external_id: Option<String>,
    /// What others see; empty until a token or the operator gave one.
    pub name: String,
    /// Where mail goes, where there is an address.
    pub email: Option<String>,
    /// A disabled user neither connects nor is written to.
    pub disabled: bool,
    /// Where the user's clock is, as in `Europe/Berlin`.
    pub time_zone: Option<String>,
    /// What the user reads, as in `pt-BR` (BCP 47).
    pub language: Option<String>,
}

impl User {
    /// What others see: the name, or `user<id>` where none is set.
    pub fn display_name(&self) -> String {
        if self.name.is_empty() { format!("user{}", self.id) } else { self.name.clone() }
    }
}

/// Whom a token speaks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// `userId`: chatd's own number.
    Id(UserId),
    /// `sub`: the host application's own id, unique per issuer.
    External {
        /// The token's `iss`, or "" where it has none.
        issuer: String,
        /// 1 to 255 characters.
        id: String,
    },
}

/// Longest name, in grapheme clusters (Unicode UAX #29).
pub const NAME_GRAPHEMES_MAX: usize = 64;

/// A name in NFC: 1 to 64 graphemes, no control, bidi-control or tag characters, not blank at either end.
pub fn normalized_name(text: &str) -> Result<String, Error> {
    // A grapheme may hold any number of marks: 1 KiB bounds what is normalised at all.
    if text.len() > 1_024 {
        return Err(Error::invalid("name", "a name has at most 64 characters"));
    }
    let name: String = text.trim().nfc().collect();
    if name.chars().any(is_forbidden) {
        return Err(Error::invalid("name", "a name holds no control characters"));
    }
    match name.graphemes(true).count() {
        0 => Err(Error::invalid("name", "a name is not empty")),
        1..=NAME_GRAPHEMES_MAX => Ok(name),
        _ => Err(Error::invalid("name", "a name has at most 64 characters")),
    }
}

fn is_forbidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}'
            | '\u{E0000}'..='\u{E007F}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_nfc_and_bounded() {
        assert_eq!(normalized_name(" e\u{301}va ").unwrap(), "\u{e9}va");
        assert!(normalized_name(&"👨‍👩‍👧".repeat(64)).is_err(), "more than 1 KiB");
        assert!(normalized_name(&"ä".repeat(64)).is_ok());
        for bad in ["", "  ", "a\nb", "a\u{202E}b", "\u{E0041}", &"a".repeat(65)] {
            assert!(normalized_name(bad).is_err(), "{bad:?}");
        }
    }
}
