//! Digests of rows, and the keys at which pages end.

use super::*;

fn digest(rows: &Rows) -> Vec<u8> {
    let mut hash = Sha256::new();
    rows.digest(&mut hash);
    hash.finalize().to_vec()
}

fn user(issuer: Option<&str>, name: &str, email: Option<&str>) -> Rows {
    Rows::Users(vec![UserRow {
        id: 7,
        issuer: issuer.map(str::to_owned),
        external_id: None,
        name: name.to_owned(),
        email: email.map(str::to_owned),
        email_verified: false,
        disabled: false,
        created_at: 1,
        name_key: None,
        time_zone: None,
        language: None,
    }])
}

#[test]
fn a_value_in_another_column_or_with_another_end_is_another_digest() {
    let all = [
        user(None, "ab", None),
        user(None, "a", Some("b")),
        user(Some("a"), "b", None),
        user(Some("ab"), "", None),
        user(None, "ab", Some("")),
    ];
    for (place, one) in all.iter().enumerate() {
        assert_eq!(digest(one), digest(&one.clone()));
        for other in &all[place + 1..] {
            assert_ne!(digest(one), digest(other), "{one:?} {other:?}");
        }
    }
}

#[test]
fn a_page_ends_at_the_key_of_its_last_row() {
    let member =
        |user_id| MemberRow { conversation_key: 3, user_id, delivered: 0, read: 0, notified: 0, gap_to: 0 };
    assert_eq!(Rows::Members(vec![member(4), member(9)]).last(), Some([3, 9, 0]));
    assert_eq!(Rows::Members(Vec::new()).last(), None);
    assert!(FIRST < [i64::MIN, 0, 0]);
}
