//! Tokens: who may sign them, and what they have to say.

use super::Findings;
use crate::config::{Config, secrets};

/// RFC 7518 section 3.2: a key of HS256 is at least as long as its hash.
const SECRET_BYTES_MIN: usize = 32;

pub(super) fn examine(config: &Config, found: &mut Findings) {
    match (&config.auth.jwt_secret, &config.auth.jwt_public_key_file) {
        (Some(secret), _) if secret.expose().len() < SECRET_BYTES_MIN => found.in_production(
            format!("JWT_SECRET has {} bytes: it can be guessed", secret.expose().len()),
            "openssl rand -base64 32",
        ),
        (Some(_), _) => found.fine("tokens are signed with JWT_SECRET"),
        (None, Some(path)) => match std::fs::metadata(path) {
            Ok(_) => found.fine(format!("tokens are verified with the public key {}", path.display())),
            Err(error) => found.problem(
                format!("auth.jwt_public_key_file {} cannot be read: {error}", path.display()),
                "give chatd the file, and the right to read it",
            ),
        },
        (None, None) if config.embedded().len() == 3 && config.http.is_loopback() => {
            let path = secrets::own_secret_path(config);
            found.fine(format!("tokens are signed with chatd's own secret, {}", path.display()));
        }
        (None, None) => found.problem(
            "nothing says who may sign tokens",
            "set JWT_SECRET (the same for every process), or auth.jwt_public_key_file",
        ),
    }
    if !config.auth.require_expiry {
        found.in_production("tokens without `exp` are good for ever", "set auth.require_expiry = true");
    }
    if config.auth.query_token {
        found.in_production(
            "?token= is taken: tokens can end in logs of proxies",
            "set auth.query_token = false and use the Authorization header, the subprotocol or tickets",
        );
    }
    if config.auth.audience.is_none() {
        found.in_production(
            "auth.audience is not set: tokens that the same issuer makes for other services are good here",
            "set auth.audience to what your tokens say in `aud`",
        );
    }
}
