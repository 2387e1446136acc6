//! Which credential a request presents (protocol.md section 3): the first one decides, and a bad one is not
//! passed over for a later one, so that a request means the same to every reader. Pure.

use super::AuthError;
use crate::domain::Secret;

/// The subprotocol to answer with, whenever it was offered; `bearer.<token>` is never repeated.
pub const SUBPROTOCOL: &str = "chatd.v1";

/// The header and query of a request, as far as they may hold a credential.
#[derive(Debug, Clone, Copy, Default)]
pub struct Offered<'a> {
    /// The values of all `Authorization` headers.
    pub authorization: &'a [&'a [u8]],
    /// The values of all `Sec-WebSocket-Protocol` headers, each perhaps a list.
    pub subprotocols: &'a [&'a [u8]],
    /// The query string without `?`, still percent-encoded.
    pub query: &'a str,
}

/// What was presented; not verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A token, and how it came.
    Token(Secret<String>, Way),
    /// A one-use ticket, from `?ticket=`.
    Ticket(Secret<String>),
    /// Nothing.
    None,
}

/// How a token came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// `Authorization: Bearer <token>`.
    Authorization,
    /// `Sec-WebSocket-Protocol: chatd.v1, bearer.<token>`.
    Subprotocol,
    /// `?token=<token>`.
    Query,
}

/// The first credential in the order of protocol.md section 3.
///
/// One that is present but wrong in form (another scheme than `Bearer`, an empty `?token=`) is an error, as
/// are two different ones in the same way; the same one twice is not. `query_token` says whether `?token=`
/// is allowed, which production rules leave off.
pub fn presented(offered: Offered<'_>, query_token: bool) -> Result<Credential, AuthError> {
    if let Some(token) = bearer(offered.authorization)? {
        return Ok(Credential::Token(token, Way::Authorization));
    }
    if let Some(token) = from_subprotocols(offered.subprotocols)? {
        return Ok(Credential::Token(token, Way::Subprotocol));
    }
    if let Some(ticket) = parameter(offered.query, "ticket")? {
        return Ok(Credential::Ticket(ticket));
    }
    match parameter(offered.query, "token")? {
        Some(_) if !query_token => Err(AuthError::QueryTokenOff),
        Some(token) => Ok(Credential::Token(token, Way::Query)),
        None => Ok(Credential::None),
    }
}

/// The token of the `Authorization` headers (RFC 6750 section 2.1), all that REST looks at. `None` where
/// there is no such header; any other scheme is [`AuthError::NotBearer`].
pub fn bearer(authorization: &[&[u8]]) -> Result<Option<Secret<String>>, AuthError> {
    let tokens = authorization.iter().map(|value| {
        let value = value.trim_ascii();
        let space = value.iter().position(|byte| *byte == b' ').ok_or(AuthError::NotBearer)?;
        let (scheme, rest) = value.split_at(space);
        if !scheme.eq_ignore_ascii_case(b"bearer") {
            return Err(AuthError::NotBearer);
        }
        printable(rest.trim_ascii()).ok_or(AuthError::NotBearer)
    });
    one(tokens)
}

/// Whether the client speaks [`SUBPROTOCOL`], however it presents its credential.
pub fn offers_subprotocol(subprotocols: &[&[u8]]) -> bool {
    elements(subprotocols).any(|element| element == SUBPROTOCOL.as_bytes())
}

fn from_subprotocols(subprotocols: &[&[u8]]) -> Result<Option<Secret<String>>, AuthError> {
    let tokens = elements(subprotocols).filter_map(|element| element.strip_prefix(b"bearer."));
    let token = one(tokens.map(|token| printable(token).ok_or(EMPTY)))?;
    if token.is_some() && !offers_subprotocol(subprotocols) {
        return Err(AuthError::SubprotocolMissing);
    }
    Ok(token)
}

fn elements<'a>(lists: &'a [&'a [u8]]) -> impl Iterator<Item = &'a [u8]> {
    lists.iter().flat_map(|list| list.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

fn parameter(query: &str, name: &str) -> Result<Option<Secret<String>>, AuthError> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let named = pairs.filter(|(key, _)| percent_decode(key).as_deref() == Some(name.as_bytes()));
    one(named.map(|(_, value)| percent_decode(value).as_deref().and_then(printable).ok_or(EMPTY)))
}

const EMPTY: AuthError = AuthError::Malformed("the token or ticket is empty, or not of printable characters");

/// All values have to be good and the same.
fn one(values: impl Iterator<Item = Result<String, AuthError>>) -> Result<Option<Secret<String>>, AuthError> {
    let mut found: Option<String> = None;
    for value in values {
        let value = value?;
        if found.as_ref().is_some_and(|earlier| *earlier != value) {
            return Err(AuthError::Conflicting);
        }
        found = Some(value);
    }
    Ok(found.map(Secret::new))
}

/// Tokens, server keys and tickets are of printable ASCII without space.
fn printable(bytes: &[u8]) -> Option<String> {
    let good = !bytes.is_empty() && bytes.iter().all(u8::is_ascii_graphic);
    good.then(|| bytes.iter().copied().map(char::from).collect())
}

/// RFC 3986 section 2.1; `None` where `%` is not followed by two hexadecimal digits.
fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let (byte, after) = match (first, after) {
            (b'%', [high, low, after @ ..]) => (16 * hex(*high)? + hex(*low)?, after),
            (b'%', _) => return None,
            _ => (*first, after),
        };
        decoded.push(byte);
        rest = after;
    }
    Some(decoded)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn present(
        authorization: &[&str],
        subprotocols: &[&str],
        query: &str,
    ) -> Result<(String, &'static str), AuthError> {
        let authorization: Vec<&[u8]> = authorization.iter().map(|value| value.as_bytes()).collect();
        let subprotocols: Vec<&[u8]> = subprotocols.iter().map(|value| value.as_bytes()).collect();
        let offered = Offered { authorization: &authorization, subprotocols: &subprotocols, query };
        Ok(match presented(offered, true)? {
            Credential::Token(token, Way::Authorization) => (token.expose().clone(), "header"),
            Credential::Token(token, Way::Subprotocol) => (token.expose().clone(), "subprotocol"),
            Credential::Token(token, Way::Query) => (token.expose().clone(), "query"),
            Credential::Ticket(ticket) => (ticket.expose().clone(), "ticket"),
            Credential::None => (String::new(), "none"),
        })
    }

    #[test]
    fn the_first_credential_in_order_decides() {
        let protocols = ["chatd.v1, bearer.b"];
        let query = "token=d&ticket=c";
        assert_eq!(present(&["Bearer a"], &protocols, query), Ok(("a".into(), "header")));
        assert_eq!(present(&[], &protocols, query), Ok(("b".into(), "subprotocol")));
        assert_eq!(present(&[], &["chatd.v1"], query), Ok(("c".into(), "ticket")));
        assert_eq!(present(&[], &[], "device=x&token=d"), Ok(("d".into(), "query")));
        assert_eq!(present(&[], &["chatd.v1"], "device=x"), Ok((String::new(), "none")));
    }

    #[test]
    fn a_bad_header_is_a_bad_token_and_never_passed_over() {
        for bad in
            ["", "Bearer", "Bearer ", "Basic dTpw", "a.b.c", "Bearer a b", "Bearer a, Bearer b", "Bearer ä"]
        {
            assert_eq!(present(&[bad], &[], "token=d"), Err(AuthError::NotBearer), "{bad}");
        }
        for good in ["Bearer a", "bearer a", "BEARER  a", " Bearer a "] {
            assert_eq!(present(&[good], &[], ""), Ok(("a".into(), "header")), "{good}");
        }
    }

    #[test]
    fn two_different_tokens_are_refused_and_the_same_one_twice_is_not() {
        assert_eq!(present(&["Bearer a", "Bearer b"], &[], ""), Err(AuthError::Conflicting));
        assert_eq!(present(&["Bearer a", "Basic x"], &[], ""), Err(AuthError::NotBearer));
        assert_eq!(present(&["Bearer a", "Bearer a"], &[], ""), Ok(("a".into(), "header")));
        assert_eq!(present(&[], &["chatd.v1,bearer.a", "bearer.b"], ""), Err(AuthError::Conflicting));
        assert_eq!(present(&[], &["chatd.v1", "bearer.a,bearer.a"], ""), Ok(("a".into(), "subprotocol")));
        assert_eq!(present(&[], &[], "token=a&token=b"), Err(AuthError::Conflicting));
        assert_eq!(present(&[], &[], "token=a&tok%65n=%61"), Ok(("a".into(), "query")));
        assert_eq!(present(&[], &[], "ticket=a&ticket=b&token=c"), Err(AuthError::Conflicting));
    }

    #[test]
    fn a_subprotocol_token_needs_chatd_v1_beside_it() {
        assert_eq!(present(&[], &["bearer.a"], ""), Err(AuthError::SubprotocolMissing));
        assert_eq!(present(&[], &["chatd.v2, bearer.a"], ""), Err(AuthError::SubprotocolMissing));
        assert_eq!(present(&[], &["bearer.a , chatd.v1"], ""), Ok(("a".into(), "subprotocol")));
        assert!(present(&[], &["chatd.v1, bearer."], "token=d").is_err());
        assert!(offers_subprotocol(&[b"x, chatd.v1"]));
        assert!(!offers_subprotocol(&[b"chatd.v11", b"bearer.chatd.v1"]));
    }

    #[test]
    fn the_query_is_percent_decoded_and_an_empty_token_is_a_bad_one() {
        assert_eq!(present(&[], &[], "token=a%2Eb%2ec"), Ok(("a.b.c".into(), "query")));
        for bad in
            ["token=", "token", "ticket=", "token=%", "token=%4", "token=%zz", "token=a%20b", "token=%00"]
        {
            assert!(matches!(present(&[], &[], bad), Err(AuthError::Malformed(_))), "{bad}");
        }
        for absent in ["", "&&", "Token=a", "xtoken=a", "token[]=a", "%=a", "%zz=a", "=token"] {
            assert_eq!(present(&[], &[], absent), Ok((String::new(), "none")), "{absent}");
        }
    }

    #[test]
    fn a_query_token_is_refused_where_the_rules_leave_it_off() {
        let query = |query| presented(Offered { query, ..Offered::default() }, false);
        assert_eq!(query("token=a"), Err(AuthError::QueryTokenOff));
        assert!(matches!(query("token=a&ticket=b"), Ok(Credential::Ticket(_))));
        assert_eq!(query("device=x"), Ok(Credential::None));
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_arrives_makes_it_panic(header: Vec<u8>, protocol: Vec<u8>, query: String, tail: String) {
            let query = format!("{query}&token=%{tail}");
            let offered = Offered { authorization: &[&header], subprotocols: &[&protocol], query: &query };
            let _ = presented(offered, true);
            let _ = presented(Offered { authorization: &[], ..offered }, true);
        }

        #[test]
        fn a_token_survives_percent_encoding(token in "[!-~]{1,64}") {
            let encoded: String = token.bytes().map(|byte| format!("%{byte:02X}")).collect();
            proptest::prop_assert_eq!(present(&[], &[], &format!("token={encoded}")), Ok((token, "query")));
        }
    }
}
