//! A JSON object that holds no name twice: what serde_json's own maps would silently fold into the last one.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::auth::AuthError;

const NOT_AN_OBJECT: AuthError = AuthError::Malformed("the token's header or claims are not a JSON object");
const NOT_A_STRING: AuthError = AuthError::Malformed("a claim that has to be a string is none");

/// The members of an object by their decoded names, their values as they were written.
#[derive(Debug)]
pub(super) struct Object<'a> {
    members: BTreeMap<String, &'a RawValue>,
}

impl<'a> Object<'a> {
    /// Reads a whole text; a name twice (also in another spelling, `\u0061` for `a`) is refused.
    pub(super) fn parse(json: &'a [u8]) -> Result<Self, AuthError> {
        let text = std::str::from_utf8(json).map_err(|_| NOT_AN_OBJECT)?;
        let Members { members, duplicate } = serde_json::from_str(text).map_err(|_| NOT_AN_OBJECT)?;
        if duplicate { Err(AuthError::DuplicateClaim) } else { Ok(Self { members }) }
    }

    /// Whether there is such a member, `null` included.
    pub(super) fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// A member's value as it was written, without the space around it.
    pub(super) fn raw(&self, name: &str) -> Option<&'a str> {
        self.members.get(name).map(|value| value.get())
    }

    /// A string; `None` where the member is absent, an error where it is something else.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, AuthError> {
        self.raw(name).map(|raw| serde_json::from_str(raw).map_err(|_| NOT_A_STRING)).transpose()
    }

    /// A string, or a number as its text; the rest as for [`Object::text`].
    pub(super) fn text_or_number(&self, name: &str) -> Result<Option<String>, AuthError> {
        match self.raw(name) {
            Some(raw) if is_number(raw) => Ok(Some(raw.to_owned())),
            _ => self.text(name),
        }
    }
}

/// Whether a JSON value, known to be one, is a number: no other kind begins so.
pub(super) fn is_number(raw: &str) -> bool {
    raw.starts_with(|first: char| first == '-' || first.is_ascii_digit())
}

struct Members<'a> {
    members: BTreeMap<String, &'a RawValue>,
    duplicate: bool,
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = Members { members: BTreeMap::new(), duplicate: false };
        while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
            found.duplicate |= found.members.insert(name, value).is_some();
        }
        Ok(found)
    }
}
