//! Production rules: what an open server must not do by accident. Overrides are allowed, but told.

use super::reader::Reader;
use super::value::Choice;
use super::{Auth, Http, Limits};

/// RFC 7518 section 3.2: a key of HS256 is at least as long as its hash.
const SECRET_BYTES_MIN: usize = 32;

/// Secrets that examples and tutorials hold, reduced to lower-case letters and digits.
const PLACEHOLDERS: &[&str] = &[
    "astringsecretatleast256bitslong",
    "changeit",
    "changethis",
    "chatsecret",
    "jwtsecret",
    "jwtsecretkey",
    "mysecret",
    "mysecretkey",
    "password",
    "secret",
    "secretkey",
    "supersecret",
    "supersecretkey",
    "test",
    "thisisasecret",
    "thisisasecretkey",
];
/// What a placeholder says of itself, wherever it stands.
const PLACEHOLDER_PARTS: &[&str] = &[
    "changeme",
    "placeholder",
    "replaceme",
    "replacethis",
    "replacewith",
    "your256bitsecret",
    "yourjwtsecret",
    "yoursecret",
    "yoursupersecret",
];

/// What the server is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Profile {
    /// Comfort: nothing has to be set.
    Development,
    /// Production rules.
    Production,
}

impl Choice for Profile {
    const ALL: &'static [(&'static str, Self)] =
        &[("development", Self::Development), ("production", Self::Production)];
}

/// Whether production rules are on by what the sources say, before anything else is read.
pub(super) fn production(r: &Reader<'_>) -> bool {
    let https = |url: &str| url.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("https://"));
    r.peek("profile") == Some("production") || r.peek("http.public_url").is_some_and(https)
}

/// Reads `profile`.
pub(super) fn read_profile(r: &mut Reader<'_>) {
    let default = if r.production() { Profile::Production } else { Profile::Development };
    let profile = r.get("profile", default);
    if r.production() && profile == Profile::Development {
        r.notice(
            "profile = \"development\" has no effect: http.public_url is https, so production rules are on",
        );
    }
}

/// Checks the rules, and tells what overrides them.
pub(super) fn check(r: &mut Reader<'_>, http: &Http, auth: &Auth, limits: &Limits) {
    if !r.production() {
        if !http.is_loopback() {
            r.notice(
                "development rules on an address that others can reach: tokens need no expiry and count in \
                 URLs; set http.public_url to https://…, or profile = \"production\"",
            );
        }
        return;
    }
    if let Some(fault) = auth.jwt_secret.as_ref().and_then(|secret| secret_fault(secret.expose())) {
        let advice = "make one with `openssl rand -hex 32`";
        r.problem("auth.jwt_secret", format!("JWT_SECRET {fault} under production rules: {advice}"));
    }
    if !auth.require_expiry {
        r.notice(
            "auth.require_expiry = false overrides the production rules: a stolen token is good for ever",
        );
    }
    if auth.query_token {
        r.notice("auth.query_token = true overrides the production rules: proxies log tokens in URLs");
    }
    if !limits.enabled {
        r.notice("limits.enabled = false: nothing slows down who floods this server");
    }
    if http.public_url.is_none() {
        r.notice("http.public_url is not set: links in mails point to localhost");
    }
    match http.admin_bind {
        None => r.notice("http.admin_bind is not set: metrics are answered nowhere"),
        Some(admin) if !admin.ip().is_loopback() => {
            r.notice(
                "http.admin_bind is no loopback address: see to it that only your monitoring reaches it",
            );
        }
        Some(_) => {}
    }
}

/// Why a secret is too weak to sign with, where it is.
fn secret_fault(secret: &str) -> Option<String> {
    let reduced: String =
        secret.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    let placeholder = PLACEHOLDERS.contains(&reduced.as_str())
        || PLACEHOLDER_PARTS.iter().any(|part| reduced.contains(part));
    if placeholder {
        return Some("is a known placeholder, which is not allowed".to_owned());
    }
    let bytes = secret.len();
    (bytes < SECRET_BYTES_MIN).then(|| format!("has {bytes} bytes and needs {SECRET_BYTES_MIN}"))
}

#[cfg(test)]
mod tests {
    use super::secret_fault;

    #[test]
    fn placeholders_are_known_however_they_are_spelled() {
        for weak in [
            "secret",
            "changeme",
            "your_jwt_secret",
            "CHANGE-ME-CHANGE-ME-CHANGE-ME-CHANGE-ME",
            "your-256-bit-secret-your-256-bit-secret",
            "a-string-secret-at-least-256-bits-long",
            "0123456789abcdef0123456789abcde",
        ] {
            assert!(secret_fault(weak).is_some(), "{weak}");
        }
        assert_eq!(secret_fault("0123456789abcdef0123456789abcdef"), None);
        assert_eq!(secret_fault("a production secret, long enough for all"), None);
    }
}
