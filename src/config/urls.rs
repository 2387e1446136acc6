//! URLs of backends: read into their parts, and shown without their passwords.

use percent_encoding::percent_decode_str;
use url::Url;

use crate::domain::Secret;

/// A URL's host, port and credentials, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) scheme: String,
    /// A name or an address, without the brackets of IPv6.
    pub(super) host: String,
    pub(super) port: Option<u16>,
    pub(super) user: Option<String>,
    pub(super) password: Option<Secret<String>>,
    /// Whether anything but a bare `/` follows the host.
    pub(super) has_more: bool,
}

/// Takes a URL with a host apart; `None` where it is none, or a credential is not percent-encoded UTF-8.
pub(super) fn parts(text: &str) -> Option<Parts> {
    let url = Url::parse(text).ok()?;
    let decode = |text: &str| percent_decode_str(text).decode_utf8().ok().map(|text| text.into_owned());
    let host = url.host_str().filter(|host| !host.is_empty())?;
    let user = if url.username().is_empty() { None } else { Some(decode(url.username())?) };
    let password = match url.password() {
        Some(password) => Some(Secret::new(decode(password)?)),
        None => None,
    };
    Some(Parts {
        scheme: url.scheme().to_owned(),
        host: host.trim_matches(['[', ']']).to_owned(),
        port: url.port(),
        user,
        password,
        has_more: !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some(),
    })
}

/// The scheme of a URL, in lower case, also where the rest is no URL.
pub(super) fn scheme(text: &str) -> Option<String> {
    text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase())
}

/// The URL with its password, and any query parameter that names one, replaced.
pub(super) fn redacted(text: &str) -> String {
    let Some(mut url) = Url::parse(text).ok().filter(|url| url.has_host()) else {
        return "[redacted]".to_owned();
    };
    if url.password().is_some() && url.set_password(Some("redacted")).is_err() {
        return "[redacted]".to_owned();
    }
    if url.query().is_some_and(|query| query.to_ascii_lowercase().contains("pass")) {
        url.set_query(Some("redacted"));
    }
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_decoded() {
        let parts = parts("smtps://me%40example.test:p%3Ass%2Fw%20d@mail.example.test:465").unwrap();
        assert_eq!(parts.user.as_deref(), Some("me@example.test"));
        assert_eq!(parts.password.unwrap().expose(), "p:ss/w d");
        assert_eq!((parts.host.as_str(), parts.port), ("mail.example.test", Some(465)));
        assert_eq!(
            super::parts("smtp://[::1]:1025/").map(|p| (p.host, p.has_more)),
            Some(("::1".into(), false))
        );
    }

    #[test]
    fn what_is_no_url_with_a_host_is_refused() {
        for bad in
            ["", "smtp", "smtp:", "smtp://", "smtp://:25", "localhost:25", "smtp://h:99999", "smtp://u:%ff@h"]
        {
            assert_eq!(parts(bad), None, "{bad}");
        }
    }

    #[test]
    fn passwords_never_show() {
        assert_eq!(redacted("postgres://u:hush@db/chat"), "postgres://u:redacted@db/chat");
        assert_eq!(redacted("postgres://db/chat?user=u&password=hush"), "postgres://db/chat?redacted");
        assert_eq!(redacted("u:hush@db"), "[redacted]");
        assert_eq!(redacted("hush"), "[redacted]");
    }
}
