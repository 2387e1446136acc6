//! What is read from the claims of a token whose signature holds.

use super::*;

#[test]
fn the_user_id_is_an_integer_in_one_spelling() {
    for (written, id) in [("1", 1), ("7", 7), (r#""7""#, 7), ("1099511627775", (1 << 40) - 1)] {
        assert_eq!(read(&format!(r#"{{"userId":{written}}}"#)).map(|c| c.subject), Ok(user(id)), "{written}");
    }
    let refused = [
        "0",
        "-1",
        "-0",
        "1.0",
        "1e3",
        "1E3",
        "1.5",
        "1099511627776",
        "9007199254740992",
        "9223372036854775808",
        "1e400",
        r#""07""#,
        r#""0""#,
        r#""""#,
        r#""+7""#,
        r#""-7""#,
        r#"" 7""#,
        r#""7.0""#,
        r#""٣""#,
        r#""0x7""#,
        r#""1099511627776""#,
        r#""\u0037""#,
        r#""ana""#,
        "null",
        "true",
        "[7]",
        "{}",
    ];
    for written in refused {
        let with_sub = format!(r#"{{"userId":{written},"sub":"ana"}}"#);
        assert_eq!(read(&with_sub), Err("user_id"), "{written}");
    }
    for twice in
        [r#"{"userId":2,"userId":3}"#, r#"{"userId":2,"userId":2}"#, r#"{"userId":2,"\u0075serId":3}"#]
    {
        assert_eq!(read(twice), Err("duplicate_claim"), "{twice}");
    }
    // Deeper down they are somebody else's.
    assert!(read(r#"{"userId":2,"app":{"a":1,"a":2}}"#).is_ok());
}

#[test]
fn without_a_user_id_the_sub_is_the_external_id_of_its_issuer() {
    let external = |issuer: &str, id: &str| Subject::External { issuer: issuer.into(), id: id.into() };
    let cases = [
        (r#"{"sub":"ana"}"#, external("", "ana")),
        (r#"{"sub":"ana","iss":"https://a.example"}"#, external("https://a.example", "ana")),
        (r#"{"sub":"7"}"#, external("", "7")),
        (r#"{"sub":7}"#, external("", "7")),
        (r#"{"sub":12345678901234567890123}"#, external("", "12345678901234567890123")),
        (r#"{"sub":"auth0|5f7c\u00e4"}"#, external("", "auth0|5f7cä")),
        (r#"{"sub":" "}"#, external("", " ")),
    ];
    for (claims, subject) in cases {
        assert_eq!(read(claims).map(|c| c.subject), Ok(subject), "{claims}");
    }
    let long = |length| format!(r#"{{"sub":"{}"}}"#, "ä".repeat(length));
    assert!(read(&long(255)).is_ok());
    assert_eq!(read(&long(256)), Err("external_id"));
    for bad in [r#""""#, "null", "true", "[]", r#"{"a":1}"#, r#""a\u0000b""#, r#""\ud800""#] {
        assert_eq!(read(&format!(r#"{{"sub":{bad}}}"#)), Err("external_id"), "{bad}");
    }
    assert_eq!(read(r#"{"sub":"ana","iss":5}"#), Err("malformed"));
    assert_eq!(read(r#"{"name":"gargi"}"#), Err("subject_missing"));
    assert_eq!(read("{}"), Err("subject_missing"));
}

#[test]
fn the_user_id_goes_before_the_sub_and_keeps_the_issuer() {
    let claims = read(r#"{"userId":2,"sub":"ana","iss":"https://a.example"}"#).unwrap();
    assert_eq!((claims.subject, claims.issuer.as_str()), (user(2), "https://a.example"));
    assert_eq!(read(r#"{"userId":2,"iss":5}"#).unwrap().issuer, "");
}

#[test]
fn clocks_may_differ_by_five_seconds() {
    let at =
        |claim: &str, offset: i64| read(&format!(r#"{{"userId":2,"{claim}":{}}}"#, NOW + offset)).map(|_| ());
    for (offset, answer) in
        [(60, Ok(())), (0, Ok(())), (-4, Ok(())), (-5, Err("expired")), (-6, Err("expired"))]
    {
        assert_eq!(at("exp", offset), answer, "exp {offset}");
    }
    for claim in ["nbf", "iat"] {
        for (offset, answer) in [(-60, Ok(())), (4, Ok(())), (5, Ok(())), (6, Err("not_yet_valid"))] {
            assert_eq!(at(claim, offset), answer, "{claim} {offset}");
        }
    }
}

#[test]
fn times_are_numbers_of_seconds() {
    let claims = read(r#"{"userId":2,"exp":1700000100.5,"iat":1.6e9,"jti":"t1"}"#).unwrap();
    assert_eq!(claims.expires_at, Some(Timestamp(1_700_000_100_500)));
    assert_eq!(claims.issued_at, Some(Timestamp(1_600_000_000_000)));
    assert_eq!(claims.jti.as_deref(), Some("t1"));
    for claim in ["exp", "nbf", "iat"] {
        for bad in [r#""1800000000""#, "null", "true", "[]", "1800000000000", "1e300", "1e400", "-1e400"] {
            assert_eq!(
                read(&format!(r#"{{"userId":2,"{claim}":{bad}}}"#)),
                Err("malformed"),
                "{claim} {bad}"
            );
        }
    }
    assert_eq!(read(r#"{"userId":2,"exp":-1}"#), Err("expired"));
    assert_eq!(read(r#"{"userId":2,"exp":0}"#), Err("expired"));
}

#[test]
fn an_expiry_is_required_only_where_configured() {
    let required = JwtSettings { require_expiry: true, ..settings() };
    assert_eq!(read(GARGI).unwrap().expires_at, None);
    assert_eq!(check(required.clone(), &sign(HS256, GARGI)), Err("expiry_missing"));
    assert!(check(required, &sign(HS256, &format!(r#"{{"userId":2,"exp":{}}}"#, NOW + 60))).is_ok());
}

#[test]
fn issuer_and_audience_are_required_where_configured_and_ignored_where_not() {
    let strict = || JwtSettings { issuer: Some("me".into()), audience: Some("chat".into()), ..settings() };
    let cases = [
        (r#""iss":"me","aud":"chat""#, Ok(())),
        (r#""iss":"me","aud":["shop","chat"]"#, Ok(())),
        (r#""iss":"me""#, Err("wrong_audience")),
        (r#""iss":"me","aud":"chats""#, Err("wrong_audience")),
        (r#""iss":"me","aud":[]"#, Err("wrong_audience")),
        (r#""iss":"me","aud":{"chat":1}"#, Err("wrong_audience")),
        (r#""iss":"me","aud":["chat",1]"#, Err("wrong_audience")),
        (r#""aud":"chat""#, Err("wrong_issuer")),
        (r#""iss":"you","aud":"chat""#, Err("wrong_issuer")),
        (r#""iss":["me"],"aud":"chat""#, Err("wrong_issuer")),
    ];
    for (claims, answer) in cases {
        let claims = format!(r#"{{"userId":2,{claims}}}"#);
        assert_eq!(check(strict(), &sign(HS256, &claims)).map(|_| ()), answer, "{claims}");
        assert!(read(&claims).is_ok(), "{claims}");
    }
}

#[test]
fn an_odd_name_keeps_nobody_out_and_an_odd_jti_does() {
    let name = |written: &str| read(&format!(r#"{{"userId":2,"name":{written}}}"#)).unwrap().name;
    assert_eq!(name(r#""gargi""#).as_deref(), Some("gargi"));
    for absent in ["5", "null", "[]", r#""\ud800""#] {
        assert_eq!(name(absent), None, "{absent}");
    }
    assert_eq!(name(&format!(r#""{}""#, "ä".repeat(300))), Some("ä".repeat(256)));
    assert_eq!(read(r#"{"userId":2,"jti":7}"#).unwrap().jti.as_deref(), Some("7"));
    for bad in ["null", "[]", r#""a\u0000""#, &format!(r#""{}""#, "x".repeat(256))] {
        assert_eq!(read(&format!(r#"{{"userId":2,"jti":{bad}}}"#)), Err("malformed"), "{bad}");
    }
}

proptest::proptest! {
    #[test]
    fn every_user_id_in_range_is_itself(id in 1..UserId::GENERATED) {
        proptest::prop_assert_eq!(read(&format!(r#"{{"userId":{id}}}"#)).map(|c| c.subject), Ok(user(id)));
        proptest::prop_assert_eq!(read(&format!(r#"{{"userId":"{id}"}}"#)).map(|c| c.subject), Ok(user(id)));
    }
}
