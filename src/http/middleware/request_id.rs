//! The id of a request: the caller's own where it is sane, so that both logs can be laid side by side.

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};

/// The header, in requests and in answers.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longer ones are replaced.
const CHARS_MAX: usize = 64;

/// 1 to 64 characters of `[A-Za-z0-9._-]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(String);

impl RequestId {
    /// The request's own id, or a new one.
    pub fn of(headers: &HeaderMap) -> Self {
        let given = headers.get(X_REQUEST_ID).and_then(|value| value.to_str().ok());
        let given = given.filter(|id| (1..=CHARS_MAX).contains(&id.len()) && id.bytes().all(is_plain));
        Self(given.map_or_else(|| uuid::Uuid::new_v4().simple().to_string(), str::to_owned))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The header's value.
    pub fn header(&self) -> HeaderValue {
        // Its characters are all allowed in a header.
        HeaderValue::from_str(&self.0).unwrap_or(HeaderValue::from_static("-"))
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> RequestId {
        let mut headers = HeaderMap::new();
        headers.insert(X_REQUEST_ID, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        RequestId::of(&headers)
    }

    #[test]
    fn a_sane_id_is_kept_and_any_other_replaced() {
        for good in ["a", "A-1_b.c", &"x".repeat(64)] {
            assert_eq!(of(good).as_str(), good);
        }
        for bad in ["", "a b", "ä", "a\"", "a/b", &"x".repeat(65)] {
            assert_ne!(of(bad).as_str(), bad);
            assert_eq!(of(bad).as_str().len(), 32);
        }
        assert_ne!(RequestId::of(&HeaderMap::new()), RequestId::of(&HeaderMap::new()));
    }
}
