//! An e-mail address as it may stand in `RCPT TO:<…>`: RFC 5321 `Mailbox`, ASCII, without quoting.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a text is not an e-mail address; never repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EmailAddressError(pub &'static str);

/// `local@domain`: a dot-string before the `@`, host names of letters, digits and hyphens after it.
///
/// Quoted local parts, address literals (`[192.0.2.1]`), comments and anything outside ASCII are refused,
/// so that an address can be written into an SMTP command or a header as it stands. A domain outside ASCII
/// is given in its `xn--` form. One label is enough (`ana@localhost`). `Debug` does not print the address
/// and there is no `Display`: an address must not reach a log by accident.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EmailAddress(String);

impl EmailAddress {
    /// The longest address in octets: RFC 5321 section 4.5.3.1.3 allows a path of 256 with its `<` and `>`.
    pub const LENGTH_MAX: usize = 254;
    /// The longest part before the `@` in octets (RFC 5321 section 4.5.3.1.1).
    pub const LOCAL_MAX: usize = 64;

    /// Takes an address that keeps to the grammar; nothing is trimmed or folded.
    pub fn new(text: impl Into<String>) -> Result<Self, EmailAddressError> {
        let text = text.into();
        if text.len() > Self::LENGTH_MAX {
            return Err(EmailAddressError("an e-mail address has at most 254 characters"));
        }
        if !text.is_ascii() {
            return Err(EmailAddressError("an e-mail address is ASCII; write the domain in its xn-- form"));
        }
        let Some((local, domain)) = text.split_once('@') else {
            return Err(EmailAddressError("an e-mail address has the form name@domain"));
        };
        if local.len() > Self::LOCAL_MAX || !local.split('.').all(is_atom) {
            return Err(EmailAddressError("the part before the @ is not one that mail servers take"));
        }
        if !domain.split('.').all(is_label) {
            return Err(EmailAddressError("the part after the @ is not a host name"));
        }
        Ok(Self(text))
    }

    /// The address as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands after the `@`.
    pub fn domain(&self) -> &str {
        self.0.split_once('@').map_or("", |(_, domain)| domain)
    }
}

/// RFC 5321 `Atom`: what needs no quotes.
fn is_atom(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b);
    !text.is_empty() && text.bytes().all(allowed)
}

/// RFC 5321 `sub-domain`, with the 63 octets of RFC 1035 section 2.3.4.
fn is_label(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(allowed)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

impl fmt::Debug for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[address]")
    }
}

impl TryFrom<String> for EmailAddress {
    type Error = EmailAddressError;
    fn try_from(text: String) -> Result<Self, EmailAddressError> {
        Self::new(text)
    }
}

impl std::str::FromStr for EmailAddress {
    type Err = EmailAddressError;
    fn from_str(text: &str) -> Result<Self, EmailAddressError> {
        Self::new(text)
    }
}

impl From<EmailAddress> for String {
    fn from(address: EmailAddress) -> String {
        address.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_addresses_that_people_have() {
        for good in [
            "user101@example.test",
            "ana@localhost",
            "first.last+tag@mail.example.co.uk",
            "o'brien@example.com",
            "!#$%&'*+-/=?^_`{|}~@x-1.example",
            "USER@EXAMPLE.COM",
            "ana@xn--mller-kva.example",
        ] {
            assert_eq!(EmailAddress::new(good).unwrap().as_str(), good);
        }
        let longest_local = format!("{}@example.com", "a".repeat(64));
        assert!(EmailAddress::new(longest_local).is_ok());
        assert_eq!(EmailAddress::new("a@b.example").unwrap().domain(), "b.example");
    }

    #[test]
    fn refuses_what_could_end_the_smtp_command() {
        for bad in [
            "a@b.example\r\nDATA",
            "a@b.example\n",
            "a\r@b.example",
            "a@b.example> SIZE=1",
            "a<b@c.example",
            "<a@b.example>",
            "Ana <a@b.example>",
            "a b@c.example",
            " a@b.example",
            "a@b.example ",
            "a@b.example,c@d.example",
            "a;b@c.example",
            "a\0@b.example",
            "\"a b\"@c.example",
            "a\\b@c.example",
            "a(comment)@c.example",
            "@relay:a@b.example",
        ] {
            assert!(EmailAddress::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn refuses_what_is_not_an_address() {
        for bad in [
            "",
            "@",
            "a@",
            "@b.example",
            "plain",
            "a@b@c.example",
            ".a@b.example",
            "a.@b.example",
            "a..b@c.example",
            "a@.example",
            "a@example.",
            "a@b..example",
            "a@-b.example",
            "a@b-.example",
            "a@b_c.example",
            "a@[192.0.2.1]",
            "anä@b.example",
            "a@müller.example",
        ] {
            assert!(EmailAddress::new(bad).is_err(), "{bad:?}");
        }
        assert!(EmailAddress::new(format!("{}@b.example", "a".repeat(65))).is_err());
        assert!(EmailAddress::new(format!("a@{}.example", "b".repeat(64))).is_err());
        let label = "b".repeat(60);
        assert!(EmailAddress::new(format!("a@{label}.{label}.{label}.{label}.{label}")).is_err());
    }

    #[test]
    fn an_address_does_not_reach_a_log_through_debug() {
        let address = EmailAddress::new("ana@example.test").unwrap();
        assert!(!format!("{address:?}").contains("ana"));
    }

    #[test]
    fn json_goes_through_the_same_check() {
        let address: EmailAddress = serde_json::from_str("\"a@b.example\"").unwrap();
        assert_eq!(serde_json::to_string(&address).unwrap(), "\"a@b.example\"");
        assert!(serde_json::from_str::<EmailAddress>("\"a@b>.example\"").is_err());
    }
}
