//! The parameters of a query string. Pure.

use actix_web::web::Query;

use crate::chat::wire::UserRef;
use crate::domain::Error;

/// Names and values, decoded.
#[derive(Debug, Default)]
pub struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Reads a query string without `?`. What is no percent-encoded UTF-8 in it becomes U+FFFD, which no
    /// parameter takes.
    pub fn parse(query: &str) -> Self {
        Query::<Vec<_>>::from_query(query).map(|pairs| Self(pairs.into_inner())).unwrap_or_default()
    }

    /// The value of a parameter that may be absent; twice is `invalid`.
    pub fn value(&self, name: &'static str) -> Result<Option<&str>, Error> {
        let mut values = self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let value = values.next();
        match values.next() {
            Some(_) => Err(Error::invalid(name, format!("{name} stands twice in the query"))),
            None => Ok(value),
        }
    }

    /// A whole number within a range, digits only; `None` where it is absent.
    pub fn number(
        &self,
        name: &'static str,
        range: std::ops::RangeInclusive<i64>,
    ) -> Result<Option<i64>, Error> {
        let Some(text) = self.value(name)? else { return Ok(None) };
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse::<i64>().ok().filter(|number| digits && range.contains(number));
        let refused = || match (*range.start(), *range.end()) {
            (start, i64::MAX) => Error::invalid(name, format!("{name} is a whole number from {start} on")),
            (start, end) => Error::invalid(name, format!("{name} is a whole number from {start} to {end}")),
        };
        number.map(Some).ok_or_else(refused)
    }

    /// As [`number`](Self::number), for counts.
    pub fn count(
        &self,
        name: &'static str,
        range: std::ops::RangeInclusive<u32>,
        default: u32,
    ) -> Result<u32, Error> {
        let range = i64::from(*range.start())..=i64::from(*range.end());
        let number = self.number(name, range)?;
        Ok(number.and_then(|number| u32::try_from(number).ok()).unwrap_or(default))
    }

    /// A user that has to be named: `3` or `{"external_id":"ana"}`.
    pub fn user(&self, name: &'static str) -> Result<UserRef, Error> {
        match self.value(name)? {
            Some(text) => UserRef::parse(text, name),
            None => Err(Error::invalid(name, format!("{name} is missing"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(query: &str) -> Result<u32, Option<&'static str>> {
        Parameters::parse(query).count("limit", 1..=100, 20).map_err(|error| error.field)
    }

    #[test]
    fn a_number_is_digits_within_its_range() {
        assert_eq!(limit(""), Ok(20));
        assert_eq!(limit("x=1&limit=100&y"), Ok(100));
        assert_eq!(limit("limit=%31"), Ok(1));
        for bad in ["0", "101", "-1", "+1", "%2B1", "1.0", "1e1", "", "x", "%ff", "%", "99999999999999999999"]
        {
            assert_eq!(limit(&format!("limit={bad}")), Err(Some("limit")), "{bad}");
        }
        assert_eq!(limit("limit"), Err(Some("limit")));
    }

    #[test]
    fn a_parameter_stands_once() {
        assert_eq!(limit("limit=5&limit=5"), Err(Some("limit")));
        assert_eq!(limit("x=5&x=5"), Ok(20), "what is unknown is ignored");
    }

    #[test]
    fn a_user_is_named_by_number_or_external_id() {
        let user = |query: &str| Parameters::parse(query).user("user1").map_err(|error| error.field);
        assert!(matches!(user("user1=3"), Ok(UserRef::Id(_))));
        assert_eq!(
            user("user1=%7B%22external_id%22%3A%22ana%22%7D"),
            Ok(UserRef::External { external_id: "ana".into() })
        );
        for bad in ["", "user1", "user1=", "user1=x", "user1=0", "user1=%223%22", "user1=3&user1=3"] {
            assert_eq!(user(bad), Err(Some("user1")), "{bad}");
        }
    }
}
