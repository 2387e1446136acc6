//! `[auth]`: whose tokens are believed.

use std::path::PathBuf;

use crate::domain::Secret;

use super::reader::Reader;
use super::value::Choice;

/// What becomes of a first token with an unknown user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provision {
    /// The user is made.
    Create,
    /// The token is refused.
    Reject,
}

impl Choice for Provision {
    const ALL: &'static [(&'static str, Self)] = &[("create", Self::Create), ("reject", Self::Reject)];
}

/// Settings of tokens.
#[derive(Debug, Clone)]
pub struct Auth {
    /// `auth.jwt_secret`, `JWT_SECRET`: verifies HS256/384/512. Ask [`super::secrets::jwt_secret`] rather
    /// than this field: it also knows the one that chatd made for itself.
    pub jwt_secret: Option<Secret<String>>,
    /// `auth.jwt_public_key_file`: a PEM that verifies RS256, PS256, ES256 or EdDSA.
    pub jwt_public_key_file: Option<PathBuf>,
    /// `auth.jwks_url`: an https URL, or `file:///…`. This build refuses it.
    pub jwks_url: Option<String>,
    /// `auth.require_expiry`: tokens need `exp`. Off in development, on under production rules.
    pub require_expiry: bool,
    /// `auth.audience`: `aud` has to name it, where it is given.
    pub audience: Option<String>,
    /// `auth.issuer`: `iss` has to be it, where it is given.
    pub issuer: Option<String>,
    /// `auth.provision`: `create` or `reject`.
    pub provision: Provision,
    /// `auth.query_token`: whether `?token=` is believed. On in development, off under production rules.
    pub query_token: bool,
}

impl Auth {
    pub(super) fn read(r: &mut Reader<'_>) -> Self {
        let production = r.production();
        Self {
            jwt_secret: r.secret("auth.jwt_secret"),
            jwt_public_key_file: r.optional("auth.jwt_public_key_file"),
            jwks_url: r.optional("auth.jwks_url"),
            require_expiry: r.get("auth.require_expiry", production),
            audience: r.optional("auth.audience"),
            issuer: r.optional("auth.issuer"),
            provision: r.get("auth.provision", Provision::Create),
            query_token: r.get("auth.query_token", !production),
        }
    }

    /// Whether tokens can be verified by a key that is not `JWT_SECRET`.
    pub fn has_public_keys(&self) -> bool {
        self.jwt_public_key_file.is_some() || self.jwks_url.is_some()
    }
}
