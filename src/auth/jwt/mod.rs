//! Adapter of [`TokenVerifier`]: JSON Web Tokens (RFC 7519), with the advice of RFC 8725. jsonwebtoken checks
//! the signature; header and claims are read here, because it looks neither at `crit` nor at duplicate names.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;

use crate::auth::{AuthError, Claims, TOKEN_BYTES_MAX, TokenVerifier};
use crate::domain::{Secret, Timestamp};

mod claims;
mod keys;
mod object;
#[cfg(test)]
mod test_keys;
#[cfg(test)]
mod tests;

pub use keys::KeyError;
use keys::Keys;
use object::Object;

/// The algorithms of protocol.md section 2, by the only spelling that RFC 7518 gives them.
const ALGORITHMS: [(&str, Algorithm); 7] = [
    ("HS256", Algorithm::HS256),
    ("HS384", Algorithm::HS384),
    ("HS512", Algorithm::HS512),
    ("RS256", Algorithm::RS256),
    ("PS256", Algorithm::PS256),
    ("ES256", Algorithm::ES256),
    ("EdDSA", Algorithm::EdDSA),
];

/// Header parameters that bring or point to a key: whoever wrote the token would choose who verifies it.
const KEY_PARAMETERS: [&str; 4] = ["jku", "jwk", "x5u", "x5c"];

/// What tokens are checked against. At least one key is needed.
#[derive(Debug, Clone, Default)]
pub struct JwtSettings {
    /// `JWT_SECRET`: verifies HS256, HS384 and HS512, nothing else.
    pub secret: Option<Secret<Vec<u8>>>,
    /// The text of `auth.jwt_public_key_file`: one RSA, P-256 or Ed25519 public key; never verifies HS*.
    pub public_key_pem: Option<String>,
    /// `auth.require_expiry`: a token without `exp` is refused.
    pub require_expiry: bool,
    /// `auth.audience`: required in `aud` where set, else `aud` is ignored.
    pub audience: Option<String>,
    /// `auth.issuer`: required as `iss` where set.
    pub issuer: Option<String>,
}

/// Verifies tokens with the keys it was given.
#[derive(Debug)]
pub struct JwtVerifier {
    keys: Keys,
    rules: claims::Rules,
}

impl JwtVerifier {
    /// Reads the keys; an unusable key is an error of configuration, found here and not at the first token.
    pub fn new(settings: JwtSettings) -> Result<Self, KeyError> {
        let keys = Keys::new(settings.secret.as_ref(), settings.public_key_pem.as_deref())?;
        let JwtSettings { require_expiry, audience, issuer, .. } = settings;
        Ok(Self { keys, rules: claims::Rules { require_expiry, audience, issuer } })
    }

    /// As [`TokenVerifier::verify`], at a given moment.
    pub fn verify_at(&self, token: &str, now: Timestamp) -> Result<Claims, AuthError> {
        if token.is_empty() {
            return Err(AuthError::Missing);
        }
        if token.len() > TOKEN_BYTES_MAX {
            return Err(AuthError::TooLarge);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(NOT_THREE)?;
        let (header, payload) = message.split_once('.').ok_or(NOT_THREE)?;
        if payload.contains('.') {
            return Err(NOT_THREE);
        }

        let algorithm = read_header(&decode(header)?)?;
        let key = self.keys.find(algorithm).ok_or(AuthError::WrongAlgorithm)?;
        // An error here is a signature that is no base64url; one that does not match is `false`.
        let genuine = jsonwebtoken::crypto::verify(signature, message.as_bytes(), key, algorithm)
            .map_err(|_| NOT_BASE64)?;
        if !genuine {
            return Err(AuthError::BadSignature);
        }
        claims::read(&Object::parse(&decode(payload)?)?, &self.rules, now)
    }
}

impl TokenVerifier for JwtVerifier {
    fn verify(&self, token: &str) -> Result<Claims, AuthError> {
        self.verify_at(token, Timestamp::now())
    }
}

const NOT_THREE: AuthError = AuthError::Malformed("the token is not three parts with dots between");
const NOT_BASE64: AuthError = AuthError::Malformed("a part of the token is not base64url without padding");

fn decode(part: &str) -> Result<Vec<u8>, AuthError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| NOT_BASE64)
}

/// Refuses what a header must not hold, and takes the algorithm from it; `kid`, `typ` and unknown names
/// change nothing.
fn read_header(json: &[u8]) -> Result<Algorithm, AuthError> {
    let header = Object::parse(json)?;
    if header.has("crit") {
        return Err(AuthError::CriticalHeader);
    }
    if KEY_PARAMETERS.iter().any(|name| header.has(name)) {
        return Err(AuthError::KeyInHeader);
    }
    let name = header.text("alg").ok().flatten().ok_or(AuthError::WrongAlgorithm)?;
    let known = ALGORITHMS.iter().find(|(spelling, _)| *spelling == name);
    known.map(|(_, algorithm)| *algorithm).ok_or(AuthError::WrongAlgorithm)
}
