//! The keys that verify tokens, each for one family of algorithms: a public key never serves as an HMAC
//! secret, which is how a forger would use it.

use jsonwebtoken::crypto::aws_lc;
use jsonwebtoken::{Algorithm, DecodingKey};

use crate::domain::Secret;

/// The smallest RSA modulus that RFC 7518 section 3.3 allows, in bytes (2048 bits).
const RSA_MODULUS_BYTES_MIN: usize = 256;
/// 8192 bits: what the signature check takes at most.
const RSA_MODULUS_BYTES_MAX: usize = 1024;
/// An uncompressed point of P-256 (SEC 1 section 2.3.3): 0x04 and two coordinates of 32 bytes.
const P256_POINT_BYTES: usize = 65;
/// RFC 8032 section 5.1.5.
const ED25519_KEY_BYTES: usize = 32;

/// Why the configured keys cannot verify tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Neither a secret nor a public key.
    #[error("no key to verify tokens with: set JWT_SECRET or auth.jwt_public_key_file")]
    Missing,
    /// A secret that anybody can guess.
    #[error("JWT_SECRET is empty")]
    EmptySecret,
    /// A PEM in the place of the secret.
    #[error("JWT_SECRET holds a PEM key: a public key belongs into auth.jwt_public_key_file")]
    PemAsSecret,
    /// The half that chatd must not hold.
    #[error("auth.jwt_public_key_file holds a private key: give the public half only")]
    PrivateKey,
    /// Not exactly one block of a kind that is read.
    #[error("auth.jwt_public_key_file is not one PEM block PUBLIC KEY or RSA PUBLIC KEY")]
    NotOnePublicKey,
    /// A kind of key, or a curve, that no accepted algorithm uses.
    #[error("auth.jwt_public_key_file is not an RSA, P-256 or Ed25519 key")]
    UnsupportedKey,
    /// An RSA key that is too small to be safe, or too large to be checked.
    #[error("the RSA key of auth.jwt_public_key_file is not of 2048 to 8192 bits")]
    RsaSize,
}

/// At most one key a family.
#[derive(Debug)]
pub(super) struct Keys {
    hmac: Option<DecodingKey>,
    public: Option<DecodingKey>,
}

impl Keys {
    /// Reads the keys and refuses those that could verify nothing.
    pub(super) fn new(secret: Option<&Secret<Vec<u8>>>, pem: Option<&str>) -> Result<Self, KeyError> {
        let hmac = secret.map(|secret| hmac_key(secret.expose())).transpose()?;
        let public = pem.map(public_key).transpose()?;
        if hmac.is_none() && public.is_none() {
            return Err(KeyError::Missing);
        }
        Ok(Self { hmac, public })
    }

    /// The key of the algorithm's family.
    pub(super) fn find(&self, algorithm: Algorithm) -> Option<&DecodingKey> {
        let keys = [&self.hmac, &self.public];
        keys.into_iter().flatten().find(|key| key.family() == algorithm.family())
    }
}

fn hmac_key(secret: &[u8]) -> Result<DecodingKey, KeyError> {
    if secret.is_empty() {
        return Err(KeyError::EmptySecret);
    }
    if secret.trim_ascii_start().starts_with(b"-----BEGIN") {
        return Err(KeyError::PemAsSecret);
    }
    Ok(DecodingKey::from_secret(secret))
}

fn public_key(pem: &str) -> Result<DecodingKey, KeyError> {
    // jsonwebtoken reads the first block whatever it is, private keys and certificates too.
    let mut blocks = pem.split("-----BEGIN ").skip(1).filter_map(|block| block.split_once("-----"));
    let label = match (blocks.next(), blocks.next()) {
        (Some((label, _)), None) => label,
        _ => return Err(KeyError::NotOnePublicKey),
    };
    if label.ends_with("PRIVATE KEY") {
        return Err(KeyError::PrivateKey);
    }
    if !matches!(label, "PUBLIC KEY" | "RSA PUBLIC KEY") {
        return Err(KeyError::NotOnePublicKey);
    }
    let pem = pem.as_bytes();
    if let Ok(key) = DecodingKey::from_rsa_pem(pem) {
        return checked_rsa(key);
    }
    let ec = DecodingKey::from_ec_pem(pem).ok().filter(|key| has_length(key, P256_POINT_BYTES));
    let key =
        ec.or_else(|| DecodingKey::from_ed_pem(pem).ok().filter(|key| has_length(key, ED25519_KEY_BYTES)));
    key.ok_or(KeyError::UnsupportedKey)
}

/// A key of another size would parse, and then refuse every token as wrongly signed.
fn checked_rsa(key: DecodingKey) -> Result<DecodingKey, KeyError> {
    let der = key.try_get_as_bytes().map_err(|_| KeyError::UnsupportedKey)?;
    let components = aws_lc::DEFAULT_PROVIDER.key_utils.rsa_pub_components_from_public_key;
    let (modulus, _) = components(der).map_err(|_| KeyError::RsaSize)?;
    if (RSA_MODULUS_BYTES_MIN..=RSA_MODULUS_BYTES_MAX).contains(&modulus.len()) {
        Ok(key)
    } else {
        Err(KeyError::RsaSize)
    }
}

fn has_length(key: &DecodingKey, length: usize) -> bool {
    key.try_get_as_bytes().is_ok_and(|bytes| bytes.len() == length)
}
