//! The claims of protocol.md section 2, read from a payload whose signature holds already.

use super::object::{Object, is_number};
use crate::auth::{AuthError, Claims, LEEWAY};
use crate::domain::{Subject, Timestamp, UserId};

/// Longer names are cut: a name is a courtesy, and no reason to keep somebody out.
const NAME_CHARS_MAX: usize = 256;
/// `external_id` and its issuer (protocol.md section 1); the same bound for `jti`.
const ID_CHARS_MAX: usize = 255;

/// What is asked of every token.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) require_expiry: bool,
    pub(super) audience: Option<String>,
    pub(super) issuer: Option<String>,
}

/// Checks the claims at a moment and takes what chatd uses of them; unknown claims are ignored.
pub(super) fn read(payload: &Object<'_>, rules: &Rules, now: Timestamp) -> Result<Claims, AuthError> {
    let expires_at = moment(payload, "exp")?;
    match expires_at {
        Some(expiry) if now >= expiry.plus(LEEWAY) => return Err(AuthError::Expired),
        None if rules.require_expiry => return Err(AuthError::ExpiryMissing),
        Some(_) | None => {}
    }
    let issued_at = moment(payload, "iat")?;
    let begins = [moment(payload, "nbf")?, issued_at];
    if begins.into_iter().flatten().any(|begin| begin > now.plus(LEEWAY)) {
        return Err(AuthError::NotYetValid);
    }
    check_issuer(payload, rules)?;
    check_audience(payload, rules)?;

    let subject = subject(payload)?;
    let issuer = match &subject {
        Subject::External { issuer, .. } => issuer.clone(),
        Subject::Id(_) => issuer(payload).unwrap_or_default(),
    };
    Ok(Claims { subject, issuer, name: name(payload), expires_at, issued_at, jti: jti(payload)? })
}

/// A NumericDate (RFC 7519 section 2): seconds, a fraction allowed. What is no moment of the calendar is
/// refused; most often it counts milliseconds.
fn moment(payload: &Object<'_>, claim: &str) -> Result<Option<Timestamp>, AuthError> {
    const NOT_A_MOMENT: AuthError =
        AuthError::Malformed("`exp`, `nbf` and `iat` are numbers of seconds since 1970");
    let Some(raw) = payload.raw(claim) else { return Ok(None) };
    let seconds: f64 =
        Some(raw).filter(|raw| is_number(raw)).and_then(|raw| raw.parse().ok()).ok_or(NOT_A_MOMENT)?;
    // The cast saturates, and both ends lie outside the calendar.
    let milliseconds = (seconds * 1000.0).floor() as i64;
    jiff::Timestamp::from_millisecond(milliseconds).map_err(|_| NOT_A_MOMENT)?;
    Ok(Some(Timestamp(milliseconds)))
}

fn check_issuer(payload: &Object<'_>, rules: &Rules) -> Result<(), AuthError> {
    let Some(wanted) = &rules.issuer else { return Ok(()) };
    let given = payload.text("iss").map_err(|_| AuthError::WrongIssuer)?;
    if given.as_ref() == Some(wanted) { Ok(()) } else { Err(AuthError::WrongIssuer) }
}

/// `aud` is a string or an array of strings (RFC 7519 section 4.1.3).
fn check_audience(payload: &Object<'_>, rules: &Rules) -> Result<(), AuthError> {
    let Some(wanted) = &rules.audience else { return Ok(()) };
    let raw = payload.raw("aud").ok_or(AuthError::WrongAudience)?;
    let given: Vec<String> = serde_json::from_str(raw)
        .or_else(|_| serde_json::from_str(raw).map(|one| vec![one]))
        .map_err(|_| AuthError::WrongAudience)?;
    if given.contains(wanted) { Ok(()) } else { Err(AuthError::WrongAudience) }
}

/// `userId` decides where it is present, a bad one too: a token never falls back to another identity.
fn subject(payload: &Object<'_>) -> Result<Subject, AuthError> {
    if let Some(raw) = payload.raw("userId") {
        return user_id(raw).map(Subject::Id);
    }
    let id = payload.text_or_number("sub").map_err(|_| AuthError::ExternalId)?;
    let id = id.ok_or(AuthError::SubjectMissing)?;
    if !fits(&id) || id.is_empty() {
        return Err(AuthError::ExternalId);
    }
    Ok(Subject::External { issuer: issuer(payload)?, id })
}

/// An integer without fraction or exponent, or a string of digits; one spelling each, so no leading zero.
fn user_id(raw: &str) -> Result<UserId, AuthError> {
    let unquoted = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let digits = unquoted.unwrap_or(raw);
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    let number = digits.parse::<i64>().ok().filter(|number| plain && *number < UserId::GENERATED);
    number.and_then(|number| UserId::new(number).ok()).ok_or(AuthError::UserId)
}

fn issuer(payload: &Object<'_>) -> Result<String, AuthError> {
    let issuer = payload.text("iss")?.unwrap_or_default();
    if fits(&issuer) { Ok(issuer) } else { Err(AuthError::Malformed("`iss` is too long, or holds NUL")) }
}

fn name(payload: &Object<'_>) -> Option<String> {
    let name = payload.text("name").ok().flatten()?;
    Some(name.chars().take(NAME_CHARS_MAX).collect())
}

/// A `jti` that could not be compared is refused: read as absent it would escape its revocation.
fn jti(payload: &Object<'_>) -> Result<Option<String>, AuthError> {
    let jti = payload.text_or_number("jti")?;
    match jti {
        Some(jti) if !fits(&jti) => Err(AuthError::Malformed("`jti` is too long, or holds NUL")),
        jti => Ok(jti),
    }
}

/// What every storage can hold as an id: PostgreSQL's text has no NUL.
fn fits(id: &str) -> bool {
    id.chars().count() <= ID_CHARS_MAX && !id.contains('\0')
}
