//! What people say of themselves, and how they are found by name.

use unicode_normalization::UnicodeNormalization;

use super::Error;

/// What a user changes about themselves; `None` leaves it as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProfileChange {
    /// What others see, as `user::normalized_name` makes it.
    pub name: Option<String>,
    /// As `time_zone` takes it.
    pub time_zone: Option<String>,
    /// As `language` takes it.
    pub language: Option<String>,
}

/// A name, or the beginning of one, as it is compared: without the difference of capitals, of full and half
/// width, and of other forms that stand for the same (NFKC). Made here and kept with the user, so that every
/// database finds the same people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameKey(String);

/// What is kept and compared of a name: more than most have, and little enough for an index whatever the name
/// (a single letter may stand for 18).
const KEY_CHARACTERS_MAX: usize = 256;
/// The longest text that is looked for, in bytes: that of a name.
const QUERY_BYTES_MAX: usize = 1_024;
/// Fewer characters would find everybody; in the scripts of `says_much` one says as much.
const QUERY_CHARACTERS_MIN: usize = 3;

impl NameKey {
    /// The key of a name.
    pub fn of(name: &str) -> Self {
        // There and back, as some letters are the same in capitals only: `ß` and `ss`, `ς` and `σ`.
        let compatible = name.nfkc().flat_map(char::to_uppercase).flat_map(char::to_lowercase);
        Self(compatible.nfkc().take(KEY_CHARACTERS_MAX).collect())
    }

    /// The key of what names are to begin with: 3 characters or more, 1 of Chinese, Japanese or Korean.
    ///
    /// # Errors
    /// `invalid`, field `query`: too short or too long.
    pub fn beginning(query: &str) -> Result<Self, Error> {
        if query.len() > QUERY_BYTES_MAX {
            return Err(Error::invalid("query", "query has at most 1,024 bytes"));
        }
        let key = Self::of(query.trim_start());
        if key.0.chars().count() >= QUERY_CHARACTERS_MIN || key.0.chars().any(says_much) {
            Ok(key)
        } else {
            Err(Error::invalid("query", "query has 3 characters or more; in Chinese, Japanese and Korean, 1"))
        }
    }

    /// The key itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What no key that begins with this one reaches, in the order of code points.
    pub fn end(&self) -> String {
        format!("{}{}", self.0, char::MAX)
    }
}

/// A sign of Chinese, Japanese or Korean (Unicode blocks, without those of punctuation).
fn says_much(c: char) -> bool {
    matches!(c, '\u{1100}'..='\u{11FF}' | '\u{2E80}'..='\u{2FDF}' | '\u{3005}'..='\u{3007}'
        | '\u{3041}'..='\u{318F}' | '\u{31A0}'..='\u{31BF}' | '\u{31F0}'..='\u{31FF}'
        | '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' | '\u{A960}'..='\u{A97F}'
        | '\u{AC00}'..='\u{D7FF}' | '\u{F900}'..='\u{FAFF}' | '\u{20000}'..='\u{3FFFF}')
}

/// The first parts of names in the time zone database (IANA), and `Etc`. Those of single countries are old
/// names that some systems still give.
const AREAS: [&str; 16] = [
    "Africa",
    "America",
    "Antarctica",
    "Arctic",
    "Asia",
    "Atlantic",
    "Australia",
    "Brazil",
    "Canada",
    "Chile",
    "Etc",
    "Europe",
    "Indian",
    "Mexico",
    "Pacific",
    "US",
];
/// The longest name of a time zone has 32 characters now.
const TIME_ZONE_BYTES_MAX: usize = 64;
/// What RFC 5646 section 4.4.1 asks a program to take.
const LANGUAGE_BYTES_MAX: usize = 35;

/// Takes the name of a time zone: `UTC`, or area and place as in `America/Argentina/Salta`. Places come and go
/// with each edition of the database, so that they are not looked up.
///
/// # Errors
/// `invalid`, field `time_zone`.
pub fn time_zone(text: String) -> Result<String, Error> {
    let mut parts = text.split('/');
    let has_area = parts.next().is_some_and(|area| AREAS.contains(&area));
    let places: Vec<&str> = parts.collect();
    let sign = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'+');
    let is_place = |place: &&str| !place.is_empty() && place.bytes().all(sign);
    let has_place = (1..=2).contains(&places.len()) && places.iter().all(is_place);
    if text == "UTC" || (has_area && has_place && text.len() <= TIME_ZONE_BYTES_MAX) {
        Ok(text)
    } else {
        Err(Error::invalid("time_zone", "a time zone is UTC, or a name such as Europe/Berlin"))
    }
}

/// Takes a language tag by its form (BCP 47): `de`, `pt-BR`, `zh-Hant-TW`.
///
/// # Errors
/// `invalid`, field `language`.
pub fn language(text: String) -> Result<String, Error> {
    let mut parts = text.split('-');
    let first = parts.next().unwrap_or_default();
    let is_language = (2..=3).contains(&first.len()) && first.bytes().all(|b| b.is_ascii_alphabetic());
    let is_more =
        |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric());
    if is_language && parts.all(is_more) && text.len() <= LANGUAGE_BYTES_MAX {
        Ok(text)
    } else {
        Err(Error::invalid("language", "a language is a tag such as de or pt-BR"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_without_capitals_and_width() {
        for (one, other) in [
            ("Ana", "ana"),
            ("ＡＮＡ", "ana"),
            ("ｱﾅ", "アナ"),
            ("Ｇａｒｇｉ", "GARGI"),
            ("Straße", "STRASSE"),
            ("Οδυσσέας", "ΟΔΥΣΣΈΑΣ"),
            ("e\u{301}va", "ÉVA"),
            ("ﬁona", "Fiona"),
        ] {
            assert_eq!(NameKey::of(one), NameKey::of(other), "{one} {other}");
        }
        assert_ne!(NameKey::of("Éva"), NameKey::of("Eva"), "accents count");
        assert_eq!(NameKey::of(&"\u{FDFA}".repeat(64)).as_str().chars().count(), KEY_CHARACTERS_MAX);
        assert!(NameKey::of("ΟΔΥΣΣΈΑΣ").as_str().starts_with(NameKey::of("οδυς").as_str()));
    }

    #[test]
    fn a_search_says_three_characters_or_one_that_says_much() {
        for good in ["ana", "  ana", "a b", "李", "ｱ", "あ", "김", "éva"] {
            assert!(NameKey::beginning(good).is_ok(), "{good}");
        }
        for bad in ["", "  ", "an", "  an", "é", "ß", "。", &"a".repeat(1_025)] {
            assert_eq!(NameKey::beginning(bad).unwrap_err().field, Some("query"), "{bad}");
        }
        let key = NameKey::beginning("ana").unwrap();
        for name in ["ana", "Anastasia", "ana 李", "ana\u{10FFFD}"] {
            assert!((key.as_str()..key.end().as_str()).contains(&NameKey::of(name).as_str()), "{name}");
        }
        for name in ["an", "amy", "anb", "bana"] {
            assert!(!(key.as_str()..key.end().as_str()).contains(&NameKey::of(name).as_str()), "{name}");
        }
    }

    #[test]
    fn time_zones_are_area_and_place() {
        for good in ["UTC", "Europe/Berlin", "America/Argentina/Salta", "Etc/GMT+5", "America/Port-au-Prince"]
        {
            assert!(time_zone(good.into()).is_ok(), "{good}");
        }
        for bad in [
            "",
            "utc",
            "Berlin",
            "Mars/Phobos",
            "Europe/",
            "Europe",
            "/Berlin",
            "Europe//x",
            "+02:00",
            "Europe/Bér",
            "America/a/b/c",
            "Europe/Berlin ",
            &format!("Europe/{}", "x".repeat(60)),
        ] {
            assert_eq!(time_zone(bad.into()).unwrap_err().field, Some("time_zone"), "{bad}");
        }
    }

    #[test]
    fn languages_are_tags() {
        for good in ["de", "pt-BR", "zh-Hant-TW", "sl-rozaj-biske-1994", "yue"] {
            assert!(language(good.into()).is_ok(), "{good}");
        }
        for bad in [
            "",
            "d",
            "german",
            "de_DE",
            "de-",
            "-de",
            "12",
            "de-ninechars",
            "dé",
            "de-a-b-c-d-e-f-g-h-i-j-k-l-m-n-o-p-q",
        ] {
            assert_eq!(language(bad.into()).unwrap_err().field, Some("language"), "{bad}");
        }
    }
}
