//! Reads settings by key from the layered sources; keeps what is known, what it was and what was wrong.

use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use crate::domain::Secret;

use super::error::{Origin, Problem};
use super::layers::{Layers, Raw, variable_of};
use super::suggest::nearest;
use super::urls;
use super::value::{RawValue, Value};

/// One setting as it stands, for `chatd config show`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// `section.key`.
    pub key: &'static str,
    /// As TOML, secrets redacted; `None` where it is not set and has no default.
    pub value: Option<String>,
    /// Where it came from.
    pub origin: Origin,
}

/// What sections read from. A value that is wrong is noted and the default goes on in its place, so that
/// one start shows everything that is wrong.
pub(super) struct Reader<'a> {
    layers: &'a Layers,
    data: &'a Path,
    read: fn(&Path) -> io::Result<String>,
    production: bool,
    known: Vec<String>,
    pub(super) settings: Vec<Setting>,
    pub(super) problems: Vec<Problem>,
    pub(super) notices: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(layers: &'a Layers, data: &'a Path, read: fn(&Path) -> io::Result<String>) -> Self {
        let problems = layers.problems.clone();
        Self {
            layers,
            data,
            read,
            production: false,
            known: Vec::new(),
            settings: Vec::new(),
            problems,
            notices: Vec::new(),
        }
    }

    /// Whether production rules are on, for defaults that differ.
    pub(super) fn production(&self) -> bool {
        self.production
    }

    pub(super) fn set_production(&mut self, production: bool) {
        self.production = production;
    }

    /// A path under the data folder.
    pub(super) fn data(&self, name: &str) -> PathBuf {
        self.data.join(name)
    }

    /// A setting with a default.
    pub(super) fn get<T: Value>(&mut self, key: &'static str, default: T) -> T {
        let value = self.parsed(key, &T::expected(), |_| true);
        self.record(key, value, default)
    }

    /// A setting with a default and bounds.
    pub(super) fn within<T: Value + PartialOrd>(
        &mut self,
        key: &'static str,
        default: T,
        bounds: RangeInclusive<T>,
    ) -> T {
        let (from, to) = (bounds.start().show(), bounds.end().show());
        let expected = format!("{} from {from} to {to}", T::expected()).replace('"', "");
        let value = self.parsed(key, &expected, |value| bounds.contains(value));
        self.record(key, value, default)
    }

    /// A setting without a default.
    pub(super) fn optional<T: Value>(&mut self, key: &'static str) -> Option<T> {
        let value = self.parsed::<T>(key, &T::expected(), |_| true);
        let origin = self.origin(key);
        self.settings.push(Setting { key, value: value.as_ref().map(T::show), origin });
        value
    }

    /// A secret, from the key or from the file that `<key>_file` names.
    pub(super) fn secret(&mut self, key: &'static str) -> Option<Secret<String>> {
        self.secret_shown(key, |_| "\"[redacted]\"".to_owned())
    }

    /// A URL that may hold a password, from the key or from the file that `<key>_file` names.
    pub(super) fn secret_url(&mut self, key: &'static str) -> Option<Secret<String>> {
        self.secret_shown(key, |url| urls::redacted(url).show())
    }

    fn secret_shown(&mut self, key: &'static str, show: fn(&str) -> String) -> Option<Secret<String>> {
        let file_key = format!("{key}_file");
        self.known.push(key.to_owned());
        self.known.push(file_key.clone());
        let (direct, from_file) = (self.layers.values.get(key), self.layers.values.get(&file_key));
        let (value, origin) = match (direct, from_file) {
            (Some(direct), Some(file)) if direct.rank == file.rank => {
                let sentence = format!("{key} is set twice, here and by {}: keep one", file.origin);
                self.problems.push(Problem { origin: direct.origin.clone(), sentence });
                (None, direct.origin.clone())
            }
            (direct, Some(file)) if direct.is_none_or(|direct| direct.rank < file.rank) => {
                (self.secret_of_file(key, file), file.origin.clone())
            }
            (Some(direct), _) => {
                let text = String::parse(&direct.value);
                if text.is_none() {
                    let sentence = format!("{key}: expected a string");
                    self.problems.push(Problem { origin: direct.origin.clone(), sentence });
                }
                (text, direct.origin.clone())
            }
            (None, _) => (None, Origin::Default),
        };
        let value = value.filter(|text| !text.is_empty());
        self.settings.push(Setting { key, value: value.as_deref().map(show), origin });
        value.map(Secret::new)
    }

    fn secret_of_file(&mut self, key: &str, raw: &Raw) -> Option<String> {
        let Some(path) = PathBuf::parse(&raw.value) else {
            let sentence = format!("{key}_file: expected a path, found {}", raw.value.found());
            self.problems.push(Problem { origin: raw.origin.clone(), sentence });
            return None;
        };
        match (self.read)(&path) {
            Ok(text) => Some(text.trim_end_matches(['\r', '\n']).to_owned()),
            Err(error) => {
                let sentence = format!("{key}_file: cannot read {}: {error}", path.display());
                self.problems.push(Problem { origin: raw.origin.clone(), sentence });
                None
            }
        }
    }

    /// Notes that the value of a key is wrong for a reason that its kind does not tell.
    pub(super) fn problem(&mut self, key: &'static str, sentence: impl Into<String>) {
        let origin = self.origin(key);
        self.problems.push(Problem { origin, sentence: sentence.into() });
    }

    /// Notes something that is allowed, but that an operator should know.
    pub(super) fn notice(&mut self, sentence: impl Into<String>) {
        self.notices.push(sentence.into());
    }

    /// Whether any source sets the key, or names a file for it.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.layers.values.contains_key(key) || self.layers.values.contains_key(&format!("{key}_file"))
    }

    /// Where the key was set.
    pub(super) fn origin(&self, key: &str) -> Origin {
        let values = &self.layers.values;
        let raw = values.get(key).or_else(|| values.get(&format!("{key}_file")));
        raw.map_or(Origin::Default, |raw| raw.origin.clone())
    }

    /// The text of a key as written, without noting that it was read; for what decides on the others.
    pub(super) fn peek(&self, key: &str) -> Option<&str> {
        match &self.layers.values.get(key)?.value {
            RawValue::Text(text) | RawValue::String(text) => Some(text),
            _ => None,
        }
    }

    fn parsed<T: Value>(
        &mut self,
        key: &'static str,
        expected: &str,
        fits: impl Fn(&T) -> bool,
    ) -> Option<T> {
        self.known.push(key.to_owned());
        let raw = self.layers.values.get(key)?;
        let value = T::parse(&raw.value).filter(fits);
        if value.is_none() {
            let sentence = format!("{key}: expected {expected}, found {}", raw.value.found());
            self.problems.push(Problem { origin: raw.origin.clone(), sentence });
        }
        value
    }

    fn record<T: Value>(&mut self, key: &'static str, value: Option<T>, default: T) -> T {
        let origin = if value.is_some() { self.origin(key) } else { Origin::Default };
        let value = value.unwrap_or(default);
        self.settings.push(Setting { key, value: Some(value.show()), origin });
        value
    }

    /// Notes every section and key of the sources that no section has asked for. Call it last.
    pub(super) fn refuse_unknown(&mut self) {
        let mut sections: Vec<&str> =
            self.known.iter().filter_map(|key| key.rsplit_once('.')).map(|(section, _)| section).collect();
        sections.sort_unstable();
        sections.dedup();
        let is_section =
            |name: &str| sections.iter().any(|s| *s == name || s.starts_with(&format!("{name}.")));
        let mut problems = Vec::new();
        let mut strange: Vec<&str> = Vec::new();
        for (table, origin) in &self.layers.tables {
            let inside = strange.iter().any(|outer| table.starts_with(&format!("{outer}.")));
            if !is_section(table) && !inside {
                strange.push(table);
                if self.known.iter().any(|known| known == table) {
                    let sentence = format!("{table} is a setting with a value, not a section");
                    problems.push(Problem { origin: origin.clone(), sentence });
                    continue;
                }
                let hint = nearest(table, sections.iter().copied()).map(|name| format!("[{name}]"));
                problems.push(unknown(origin, &format!("unknown section [{table}]"), hint));
            }
        }
        for (key, raw) in &self.layers.values {
            let inside = raw.rank == 0 && strange.iter().any(|outer| key.starts_with(&format!("{outer}.")));
            if self.known.iter().any(|known| known == key) || inside {
                continue;
            }
            problems.push(if raw.rank > 0 {
                let hint = nearest(key, self.known.iter().map(String::as_str)).map(variable_of);
                unknown(&raw.key_origin, "no such setting", hint)
            } else if is_section(key) {
                let sentence = format!("{key} is a section: write [{key}] and its keys below, not a value");
                Problem { origin: raw.key_origin.clone(), sentence }
            } else {
                let hint = nearest(key, self.known.iter().map(String::as_str)).map(str::to_owned);
                unknown(&raw.key_origin, &format!("unknown key `{key}`"), hint)
            });
        }
        self.problems.extend(problems);
    }
}

fn unknown(origin: &Origin, what: &str, hint: Option<String>) -> Problem {
    let hint = hint.map_or_else(
        || "; config/chatd.example.toml lists all".to_owned(),
        |hint| format!(", did you mean `{hint}`?"),
    );
    Problem { origin: origin.clone(), sentence: format!("{what}{hint}") }
}
