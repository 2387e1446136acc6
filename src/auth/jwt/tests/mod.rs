//! Good tokens of each algorithm, and what a forged or damaged one is told.

use jsonwebtoken::{Algorithm, EncodingKey};

use super::test_keys as keys;
use super::*;
use crate::domain::Subject;
use crate::domain::UserId;

mod claims;

const SECRET: &[u8] = b"a secret of thirty-two bytes, no less";
/// 2023-11-14T22:13:20Z.
const NOW: i64 = 1_700_000_000;
const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
const GARGI: &str = r#"{"userId":2,"name":"gargi"}"#;

fn now() -> Timestamp {
    Timestamp(NOW * 1000)
}

fn settings() -> JwtSettings {
    JwtSettings { secret: Some(Secret::new(SECRET.to_vec())), ..JwtSettings::default() }
}

fn public(pem: &str) -> JwtSettings {
    JwtSettings { public_key_pem: Some(pem.to_owned()), ..JwtSettings::default() }
}

/// Signs texts as they are, well-formed or not.
fn sign_as(key: &EncodingKey, algorithm: Algorithm, header: &str, claims: &str) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

fn sign(header: &str, claims: &str) -> String {
    sign_as(&EncodingKey::from_secret(SECRET), Algorithm::HS256, header, claims)
}

fn check(settings: JwtSettings, token: &str) -> Result<Claims, &'static str> {
    JwtVerifier::new(settings).unwrap().verify_at(token, now()).map_err(AuthError::name)
}

fn read(claims: &str) -> Result<Claims, &'static str> {
    check(settings(), &sign(HS256, claims))
}

fn user(id: i64) -> Subject {
    Subject::Id(UserId::new(id).unwrap())
}

#[test]
fn each_algorithm_verifies_with_its_key_and_with_no_other() {
    let secret = || EncodingKey::from_secret(SECRET);
    let rsa = || EncodingKey::from_rsa_pem(keys::RSA_PRIVATE.as_bytes()).unwrap();
    let p256 = || EncodingKey::from_ec_pem(keys::P256_PRIVATE.as_bytes()).unwrap();
    let ed25519 = || EncodingKey::from_ed_pem(keys::ED25519_PRIVATE.as_bytes()).unwrap();
    let families =
        [settings(), public(keys::RSA_PUBLIC), public(keys::P256_PUBLIC), public(keys::ED25519_PUBLIC)];
    let cases = [
        ("HS256", Algorithm::HS256, secret(), 0),
        ("HS384", Algorithm::HS384, secret(), 0),
        ("HS512", Algorithm::HS512, secret(), 0),
        ("RS256", Algorithm::RS256, rsa(), 1),
        ("PS256", Algorithm::PS256, rsa(), 1),
        ("ES256", Algorithm::ES256, p256(), 2),
        ("EdDSA", Algorithm::EdDSA, ed25519(), 3),
    ];
    for (name, algorithm, key, family) in cases {
        let token = sign_as(&key, algorithm, &format!(r#"{{"alg":"{name}","kid":"x"}}"#), GARGI);
        for (index, settings) in families.iter().enumerate() {
            let answer = check(settings.clone(), &token).map(|claims| claims.subject);
            let expected = if index == family { Ok(user(2)) } else { Err("wrong_algorithm") };
            assert_eq!(answer, expected, "{name} with key {index}");
        }
        let mut changed = token.into_bytes();
        let place = changed.iter().rposition(|byte| *byte == b'.').unwrap() + 3;
        changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert_eq!(check(families[family].clone(), &changed), Err("bad_signature"), "{name} changed");
    }
}

#[test]
fn a_secret_and_a_public_key_stand_side_by_side() {
    let both = JwtSettings { public_key_pem: Some(keys::RSA_PUBLIC_PKCS1.into()), ..settings() };
    let rsa = EncodingKey::from_rsa_pem(keys::RSA_PRIVATE.as_bytes()).unwrap();
    let token = sign_as(&rsa, Algorithm::RS256, r#"{"alg":"RS256"}"#, GARGI);
    assert!(check(both.clone(), &token).is_ok());
    assert!(check(both, &sign(HS256, GARGI)).is_ok());
}

#[test]
fn a_public_key_is_no_secret() {
    for pem in [keys::RSA_PUBLIC, keys::P256_PUBLIC, keys::ED25519_PUBLIC] {
        for spelling in [pem.to_owned(), format!("{pem}\n")] {
            let key = EncodingKey::from_secret(spelling.as_bytes());
            let forged = sign_as(&key, Algorithm::HS256, HS256, GARGI);
            assert_eq!(check(public(&spelling), &forged), Err("wrong_algorithm"));
            let both = JwtSettings { public_key_pem: Some(spelling), ..settings() };
            assert_eq!(check(both, &forged), Err("bad_signature"));
        }
    }
}

#[test]
fn a_header_cannot_choose_how_it_is_verified() {
    let cases = [
        (r#"{"alg":"none"}"#, "wrong_algorithm"),
        (r#"{"alg":"None"}"#, "wrong_algorithm"),
        (r#"{"alg":"NONE"}"#, "wrong_algorithm"),
        (r#"{"alg":"nOnE"}"#, "wrong_algorithm"),
        (r#"{"alg":""}"#, "wrong_algorithm"),
        (r#"{"alg":null}"#, "wrong_algorithm"),
        (r#"{"alg":["HS256"]}"#, "wrong_algorithm"),
        (r#"{"alg":"hs256"}"#, "wrong_algorithm"),
        (r#"{"alg":"HS256 "}"#, "wrong_algorithm"),
        (r#"{"alg":"RS256"}"#, "wrong_algorithm"),
        (r#"{"alg":"RS512"}"#, "wrong_algorithm"),
        (r#"{"alg":"ES384"}"#, "wrong_algorithm"),
        (r#"{"typ":"JWT"}"#, "wrong_algorithm"),
        (r#"{"alg":"HS384"}"#, "bad_signature"),
        (r#"{"alg":"none","alg":"HS256"}"#, "duplicate_claim"),
        (r#"{"alg":"HS256","\u0061lg":"none"}"#, "duplicate_claim"),
        (r#"{"alg":"HS256","kid":"a","kid":"a"}"#, "duplicate_claim"),
        (r#"{"alg":"HS256","crit":["exp"]}"#, "critical_header"),
        (r#"{"alg":"HS256","crit":[]}"#, "critical_header"),
        (r#"{"alg":"HS256","crit":null}"#, "critical_header"),
        (r#"{"alg":"HS256","b64":false,"crit":["b64"]}"#, "critical_header"),
        (r#"{"alg":"HS256","jku":"https://evil.example/jwks"}"#, "key_in_header"),
        (r#"{"alg":"HS256","x5u":"https://evil.example/x"}"#, "key_in_header"),
        (r#"{"alg":"HS256","jwk":{"kty":"oct","k":"AA"}}"#, "key_in_header"),
        (r#"{"alg":"HS256","x5c":[]}"#, "key_in_header"),
        (r#"["alg","HS256"]"#, "malformed"),
        (r#"{"alg":"HS256"} {}"#, "malformed"),
        ("", "malformed"),
    ];
    for (header, error) in cases {
        assert_eq!(check(settings(), &sign(header, GARGI)), Err(error), "{header}");
    }
    let unknown = r#"{"alg":"HS256","typ":"anything","kid":"1","x5t":"a","more":{"a":1}}"#;
    assert!(check(settings(), &sign(unknown, GARGI)).is_ok());
}

#[test]
fn a_text_that_is_no_token_is_refused() {
    let good = sign(HS256, GARGI);
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = message.split_once('.').unwrap();
    let cases = [
        (String::new(), "missing"),
        ("x".into(), "malformed"),
        ("..".into(), "malformed"),
        ("...".into(), "malformed"),
        (format!("{good}.x"), "malformed"),
        (format!(".{payload}.{signature}"), "malformed"),
        (format!("{header}..{signature}"), "bad_signature"),
        (format!("{header}.{payload}."), "bad_signature"),
        (format!("{header}.{payload}"), "malformed"),
        (format!("{header}.{payload}.{signature}="), "malformed"),
        (format!("{header}=.{payload}.{signature}"), "malformed"),
        (format!("{header}.{payload}.{}", &signature[1..]), "malformed"),
        (format!("{header}.{payload}.!!!!"), "malformed"),
        (format!("{header}.{payload}.ü"), "malformed"),
        (format!(" {good}"), "malformed"),
        (format!("{good}\n"), "malformed"),
        (format!("Bearer {good}"), "malformed"),
        (format!("{}.{payload}.{signature}", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#)), "wrong_algorithm"),
        (format!("{}.{payload}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#)), "wrong_algorithm"),
    ];
    for (token, error) in cases {
        assert_eq!(check(settings(), &token), Err(error), "{token}");
    }
    for payload in ["", "2", "null", "[]", "{", r#"{"userId":2}x"#, r#"{"userId":2,}"#] {
        assert_eq!(read(payload), Err("malformed"), "{payload}");
    }
}

#[test]
fn a_token_has_at_most_eight_kibibytes() {
    // Grows by one byte of base64 at least, until the limit is met exactly or passed.
    let sized = |length: usize| sign(HS256, &format!(r#"{{"userId":2,"pad":"{}"}}"#, "x".repeat(length)));
    let largest = (5_900..6_200).map(sized).take_while(|token| token.len() <= 8192).last().unwrap();
    assert!(largest.len() > 8188);
    assert!(check(settings(), &largest).is_ok());
    assert_eq!(check(settings(), &"x".repeat(8193)), Err("too_large"));
    assert_eq!(check(settings(), &"x".repeat(8192)), Err("malformed"));
}

#[test]
fn an_unusable_key_is_found_when_it_is_configured() {
    let refused = |settings: JwtSettings| JwtVerifier::new(settings).unwrap_err();
    let secret =
        |text: &str| JwtSettings { secret: Some(Secret::new(text.into())), ..JwtSettings::default() };
    let twice = format!("{}\n{}", keys::P256_PUBLIC, keys::P256_PUBLIC);
    let certificate = keys::RSA_PUBLIC.replace("PUBLIC KEY", "CERTIFICATE");
    let cases = [
        (JwtSettings::default(), KeyError::Missing),
        (secret(""), KeyError::EmptySecret),
        (secret(keys::RSA_PUBLIC), KeyError::PemAsSecret),
        (public(""), KeyError::NotOnePublicKey),
        (public("secret"), KeyError::NotOnePublicKey),
        (public(&twice), KeyError::NotOnePublicKey),
        (public(&certificate), KeyError::NotOnePublicKey),
        (public(keys::RSA_PRIVATE), KeyError::PrivateKey),
        (public(keys::P256_PRIVATE), KeyError::PrivateKey),
        (public(keys::P384_PUBLIC), KeyError::UnsupportedKey),
        (public("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"), KeyError::UnsupportedKey),
        (public(keys::RSA_1024_PUBLIC), KeyError::RsaSize),
    ];
    for (settings, error) in cases {
        assert_eq!(refused(settings), error);
    }
}

#[test]
fn neither_secret_nor_key_is_printed() {
    let settings = JwtSettings { public_key_pem: Some(keys::RSA_PUBLIC.into()), ..settings() };
    let secret = String::from_utf8(SECRET.to_vec()).unwrap();
    let bytes = format!("{SECRET:?}");
    let printed = format!("{:?} {:?}", settings.clone(), JwtVerifier::new(settings).unwrap());
    assert!(!printed.contains(&secret) && !printed.contains(bytes.trim_matches(['[', ']'])));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(token: String, parts in "[A-Za-z0-9_.=-]{0,200}") {
        let verifier = JwtVerifier::new(settings()).unwrap();
        let _ = verifier.verify(&token);
        let _ = verifier.verify(&parts);
    }

    #[test]
    fn no_signed_text_makes_it_panic(
        bytes: String,
        value in r#"-?[0-9]{1,25}(\.[0-9]{1,3})?([eE][+-]?[0-9]{1,4})?|"[^"]{0,9}"|[\[\]{}:,tfn]{0,9}"#,
        name in "userId|sub|iss|aud|exp|nbf|iat|jti|name",
    ) {
        let _ = read(&bytes);
        let _ = read(&format!(r#"{{"userId":2,"{name}":{value}}}"#));
        let _ = read(&format!(r#"{{"sub":"a","{name}":{value}}}"#));
        let _ = check(settings(), &sign(&bytes, GARGI));
    }
}
