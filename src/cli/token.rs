//! `chatd token`: a token for trying things out, signed with this server's secret.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

use crate::config::{Config, parse_duration, secrets};
use crate::domain::{Timestamp, UserId};

use super::{CliError, Exit, output, user};

/// How long a token is good where an expiry is required and none was asked for: an hour.
const EXPIRES_DEFAULT: Duration = Duration::from_secs(3_600);

/// Arguments of `chatd token`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The user's number
    #[arg(long, value_name = "ID", value_parser = user::parse_id)]
    pub user: UserId,
    /// The name that others see, where the user has none yet
    #[arg(long)]
    pub name: String,
    /// How long the token is good, such as 30m or 24h [default: for ever; 1h where an expiry is required]
    #[arg(long, value_name = "DURATION", value_parser = parse_expiry)]
    pub expires: Option<Duration>,
}

/// The claims of protocol.md section 2.
#[derive(Debug, Serialize)]
struct Claims<'a> {
    #[serde(rename = "userId")]
    user_id: UserId,
    name: &'a str,
    iat: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
}

/// Prints the token alone, so that `$(chatd token …)` works.
///
/// # Errors
/// There is no secret to sign with (78).
pub fn run(args: &Args, config: &Config) -> Result<(), CliError> {
    let token = sign(config, args.user, &args.name, args.expires, Timestamp::now())?;
    output::print(&format!("{token}\n"))
}

/// Signs a token for a user by HS256; with the configured issuer and audience.
///
/// # Errors
/// There is no secret to sign with (78).
pub fn sign(
    config: &Config,
    user_id: UserId,
    name: &str,
    expires: Option<Duration>,
    now: Timestamp,
) -> Result<String, CliError> {
    let Some(secret) = secrets::jwt_secret(config)? else {
        let sentence = "there is no secret to sign with, as tokens come from elsewhere: set JWT_SECRET";
        return Err(CliError::new(Exit::Config, sentence));
    };
    let expires = expires.or(config.auth.require_expiry.then_some(EXPIRES_DEFAULT));
    let claims = Claims {
        user_id,
        name,
        iat: now.0 / 1_000,
        exp: expires.map(|expires| now.plus(expires).0 / 1_000),
        iss: config.auth.issuer.as_deref(),
        aud: config.auth.audience.as_deref(),
    };
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)
        .map_err(|error| CliError::new(Exit::Fault, format!("cannot sign a token: {error}")))
}

fn parse_expiry(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .filter(|expires| *expires >= Duration::from_secs(1))
        .ok_or_else(|| "expected a duration such as `30m` or `24h`, a second at least".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;
    use jsonwebtoken::{DecodingKey, Validation};
    use serde_json::{Value, json};

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn claims(sources: &Sources, expires: Option<Duration>) -> Value {
        let config = Config::load(sources).unwrap();
        let token = sign(&config, UserId::new(2).unwrap(), "gargi", expires, Timestamp(1_700_000_000_999));
        let mut validation = Validation::new(Algorithm::HS256);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        let key = DecodingKey::from_secret(SECRET.as_bytes());
        jsonwebtoken::decode::<Value>(token.unwrap(), &key, &validation).unwrap().claims
    }

    #[test]
    fn a_development_token_holds_the_user_and_no_expiry() {
        let sources = Sources::new("data").with("JWT_SECRET", SECRET);
        assert_eq!(claims(&sources, None), json!({"userId": 2, "name": "gargi", "iat": 1_700_000_000}));
        let hour = claims(&sources, Some(Duration::from_secs(60)));
        assert_eq!(hour["exp"], 1_700_000_060);
    }

    #[test]
    fn a_token_is_one_that_this_server_takes() {
        let sources = Sources::new("data")
            .with("JWT_SECRET", SECRET)
            .with("CHATD_PROFILE", "production")
            .with("CHATD_AUTH__ISSUER", "me")
            .with("CHATD_AUTH__AUDIENCE", "chat");
        let claims = claims(&sources, None);
        assert_eq!(claims["exp"], 1_700_003_600);
        assert_eq!((&claims["iss"], &claims["aud"]), (&json!("me"), &json!("chat")));
    }

    #[test]
    fn without_a_secret_it_says_what_to_set() {
        let sources = Sources::new("data").with("CHATD_AUTH__JWT_PUBLIC_KEY_FILE", "jwt.pem");
        let config = Config::load(&sources).unwrap();
        let error = sign(&config, UserId::new(2).unwrap(), "gargi", None, Timestamp(0)).unwrap_err();
        assert_eq!(error.exit, Exit::Config);
        assert!(error.sentence.contains("set JWT_SECRET"));
    }
}
