//! What a message may say: content and the application's own data.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Error;
use super::ErrorCode;

/// The longest content that can be: that of a whole frame. `limits.content_bytes` (16,384) is what a sender may
/// use; a record that was accepted under a larger limit stays readable.
pub const CONTENT_BYTES_MAX: usize = 65_536;
/// The largest `data` object that can be, likewise; `limits.data_bytes` is 4,096.
pub const DATA_BYTES_MAX: usize = 65_536;

/// A text that people read: not blank, no NUL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Content(String);

impl Content {
    /// Takes a text that keeps to the limits.
    pub fn new(text: impl Into<String>) -> Result<Self, Error> {
        let text = text.into();
        if text.len() > CONTENT_BYTES_MAX {
            let message = format!("content has {} bytes, {CONTENT_BYTES_MAX} at most", text.len());
            return Err(Error { code: ErrorCode::TooLarge, message, field: Some("content") });
        }
        if text.contains('\0') {
            return Err(Error::invalid("content", "content holds a NUL character"));
        }
        if text.chars().all(is_blank) {
            return Err(Error::invalid("content", "content is blank"));
        }
        Ok(Self(text))
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// Whether a character shows nothing by itself: white space, or `Default_Ignorable_Code_Point` of Unicode 16
/// (DerivedCoreProperties.txt).
fn is_blank(c: char) -> bool {
    c.is_whitespace()
        || matches!(c,
            '\u{00AD}' | '\u{034F}' | '\u{061C}' | '\u{115F}'..='\u{1160}' | '\u{17B4}'..='\u{17B5}'
            | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}'
            | '\u{FFF0}'..='\u{FFF8}' | '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}'
            | '\u{E0000}'..='\u{E0FFF}')
}

/// A JSON object of the application's own, kept as it was sent.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct Data(Box<RawValue>);

impl Data {
    /// Takes an object within the limit.
    pub fn new(raw: Box<RawValue>) -> Result<Self, Error> {
        if !raw.get().starts_with('{') {
            return Err(Error::invalid("data", "data is a JSON object"));
        }
        if raw.get().len() > DATA_BYTES_MAX {
            let message = format!("data has {} bytes, {DATA_BYTES_MAX} at most", raw.get().len());
            return Err(Error { code: ErrorCode::TooLarge, message, field: Some("data") });
        }
        Ok(Self(raw))
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for Data {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Data {}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(Box::<RawValue>::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_something_to_read() {
        for good in ["a", " a ", "😀", "\u{200B}x", &"a".repeat(CONTENT_BYTES_MAX)] {
            assert!(Content::new(good).is_ok());
        }
        for bad in ["", " ", "\n\t", "\u{200B}\u{FEFF}", "\u{E0020}\u{3164}", "a\0"] {
            assert_eq!(Content::new(bad).unwrap_err().code, ErrorCode::Invalid, "{bad:?}");
        }
        assert_eq!(Content::new("a".repeat(CONTENT_BYTES_MAX + 1)).unwrap_err().code, ErrorCode::TooLarge);
    }

    #[test]
    fn data_is_an_object_of_bounded_size() {
        let data = |text: &str| Data::new(RawValue::from_string(text.to_owned()).unwrap());
        assert!(data(r#"{"a":[1]}"#).is_ok());
        assert_eq!(data("[1]").unwrap_err().code, ErrorCode::Invalid);
        assert_eq!(data("null").unwrap_err().code, ErrorCode::Invalid);
        let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(DATA_BYTES_MAX));
        assert_eq!(data(&large).unwrap_err().code, ErrorCode::TooLarge);
    }
}
