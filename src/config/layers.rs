//! The sources put over each other: the file, then `.env`, then the environment; each key's last writer.
//!
//! Within `.env` and within the environment the well-known names come after `CHATD_SECTION__KEY`.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Origin, Problem};
use super::sources::Sources;
use super::value::RawValue;

/// The names that people and hosting services know, and the settings they stand for.
const WELL_KNOWN: &[(&str, &str)] = &[
    ("DATABASE_URL", "database.url"),
    ("EMAIL_PASS", "mail.password"),
    ("EMAIL_USER", "mail.user"),
    ("HOST", "http.host"),
    ("JWT_SECRET", "auth.jwt_secret"),
    ("KAFKA_BROKERS", "kafka.brokers"),
    ("KAFKA_CA_FILE", "kafka.ca_file"),
    ("KAFKA_SASL_MECHANISM", "kafka.sasl_mechanism"),
    ("KAFKA_SASL_PASSWORD", "kafka.sasl_password"),
    ("KAFKA_SASL_USERNAME", "kafka.sasl_username"),
    ("KAFKA_SECURITY_PROTOCOL", "kafka.security_protocol"),
    ("PORT", "http.port"),
    ("REDIS_CA_FILE", "redis.ca_file"),
    ("REDIS_URL", "redis.url"),
    ("RUST_LOG", "telemetry.filter"),
    ("SMTP_URL", "mail.smtp_url"),
    // Secrets from a file, as container platforms mount them.
    ("DATABASE_URL_FILE", "database.url_file"),
    ("EMAIL_PASS_FILE", "mail.password_file"),
    ("JWT_SECRET_FILE", "auth.jwt_secret_file"),
    ("KAFKA_SASL_PASSWORD_FILE", "kafka.sasl_password_file"),
    ("REDIS_URL_FILE", "redis.url_file"),
    ("SMTP_URL_FILE", "mail.smtp_url_file"),
];

const PREFIX: &str = "CHATD_";

/// Whether a variable is read at all.
pub(super) fn is_ours(variable: &str) -> bool {
    variable.starts_with(PREFIX) || WELL_KNOWN.iter().any(|(name, _)| *name == variable)
}

/// The variable of a key: `ws.heartbeat` → `CHATD_WS__HEARTBEAT`.
pub(super) fn variable_of(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase().replace('.', "__"))
}

/// A value, its place, and how strong its source is.
#[derive(Debug, Clone)]
pub(super) struct Raw {
    pub(super) value: RawValue,
    /// Of the value, or the variable.
    pub(super) origin: Origin,
    /// Of the key in the file; the variable otherwise.
    pub(super) key_origin: Origin,
    /// The stronger source wins: 0 the file, then each variable layer.
    pub(super) rank: u8,
}

/// All sources over each other.
#[derive(Debug, Default)]
pub(super) struct Layers {
    pub(super) values: BTreeMap<String, Raw>,
    /// Tables of the file, so that an unknown section is noticed even when it is empty.
    pub(super) tables: Vec<(String, Origin)>,
    pub(super) problems: Vec<Problem>,
}

impl Layers {
    /// Puts the sources over each other, `.env` only where asked.
    pub(super) fn of(sources: &Sources, with_dot_env: bool) -> Self {
        let mut layers = Self::default();
        if let Some(file) = &sources.file {
            layers.add_file(&file.name, &file.text);
        }
        if let (true, Some(text)) = (with_dot_env, &sources.dot_env) {
            let variables = layers.parse_dot_env(text);
            layers.add_variables(1, &variables);
        }
        let variables: Vec<_> =
            sources.env.iter().map(|(k, v)| (k.clone(), v.clone(), Origin::Variable(k.clone()))).collect();
        layers.add_variables(3, &variables);
        layers
    }

    fn add_file(&mut self, name: &str, text: &str) {
        let at = |offset: usize| {
            let before = text.get(..offset).unwrap_or(text);
            let line = before.matches('\n').count() + 1;
            let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
            Origin::File { name: name.to_owned(), line, column }
        };
        match DeTable::parse(text) {
            Ok(table) => self.add_table("", table.get_ref(), &at),
            Err(error) => {
                let origin = at(error.span().map_or(0, |span| span.start));
                self.problems.push(Problem { origin, sentence: format!("not TOML: {}", error.message()) });
            }
        }
    }

    fn add_table(&mut self, prefix: &str, table: &DeTable<'_>, at: &dyn Fn(usize) -> Origin) {
        for (name, value) in table {
            let key = format!("{prefix}{}", name.get_ref());
            let key_origin = at(name.span().start);
            if let DeValue::Table(inner) = value.get_ref() {
                self.tables.push((key.clone(), key_origin));
                self.add_table(&format!("{key}."), inner, at);
            } else {
                let origin = at(value.span().start);
                self.values.insert(key, Raw { value: raw(value), origin, key_origin, rank: 0 });
            }
        }
    }

    /// Reads `.env`; a line that is none is a problem, named by its number only, as it may hold a secret.
    fn parse_dot_env(&mut self, text: &str) -> Vec<(String, String, Origin)> {
        let text = text.trim_start_matches('\u{feff}');
        let mut variables = Vec::new();
        for entry in dotenvy::from_read_iter(text.as_bytes()) {
            match entry {
                Ok((variable, value)) => {
                    let (index, written) = assignment(text, &variable).unwrap_or_default();
                    let origin = Origin::DotEnv { variable: variable.clone(), line: index + 1 };
                    if is_ours(&variable) && is_expanded(written) {
                        let sentence = "holds `$`, which would be replaced by a variable: write the value in \
                                        single quotes";
                        self.problems.push(Problem { origin, sentence: sentence.to_owned() });
                    } else {
                        variables.push((variable, value, origin));
                    }
                }
                Err(error) => {
                    let line = match &error {
                        dotenvy::Error::LineParse(part, _) => {
                            text.lines().position(|line| line.contains(part.lines().next().unwrap_or(part)))
                        }
                        _ => None,
                    };
                    let line = line.map_or(1, |index| index + 1);
                    let origin = Origin::File { name: ".env".to_owned(), line, column: 1 };
                    let sentence = "not NAME=value; a value with spaces or quotes stands in \"…\"".to_owned();
                    self.problems.push(Problem { origin, sentence });
                }
            }
        }
        variables
    }

    fn add_variables(&mut self, rank: u8, variables: &[(String, String, Origin)]) {
        for (name, value, origin) in variables.iter().filter(|(_, value, _)| !value.is_empty()) {
            let set = name.strip_prefix(PREFIX).filter(|rest| *rest != "CONFIG");
            if let Some(rest) = set.filter(|_| !is_service_link(name, value)) {
                self.put(rest.to_ascii_lowercase().replace("__", "."), value, origin, rank);
            }
        }
        for (name, value, origin) in variables.iter().filter(|(_, value, _)| !value.is_empty()) {
            if let Some((_, key)) = WELL_KNOWN.iter().find(|(known, _)| known == name) {
                self.put((*key).to_owned(), value, origin, rank + 1);
            }
        }
    }

    fn put(&mut self, key: String, value: &str, origin: &Origin, rank: u8) {
        let value = RawValue::Text(value.to_owned());
        self.values.insert(key, Raw { value, origin: origin.clone(), key_origin: origin.clone(), rank });
    }
}

/// The line of `.env` that sets a variable, from 0, and what is written behind its `=`; the last one counts.
fn assignment<'a>(text: &'a str, variable: &str) -> Option<(usize, &'a str)> {
    let value_of = |line: &'a str| {
        let line = line.trim_start();
        let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
        line.strip_prefix(variable)?.trim_start().strip_prefix('=').map(str::trim_start)
    };
    let found = text.lines().enumerate().filter_map(|(index, line)| Some((index, value_of(line)?)));
    found.last()
}

/// Whether dotenvy would expand a variable in it: a `$` that is neither quoted by `'` nor escaped.
fn is_expanded(written: &str) -> bool {
    !written.starts_with('\'') && written.replace("\\$", "").contains('$')
}

/// Kubernetes gives every container the addresses of each service; one named `chatd` makes variables like
/// `CHATD_PORT=tcp://10.0.0.1:3000` that are no settings.
fn is_service_link(name: &str, value: &str) -> bool {
    let links = name.ends_with("_SERVICE_HOST") || name.contains("_SERVICE_PORT");
    let ports = name.contains("_PORT_") && (name.contains("_TCP") || name.contains("_UDP"));
    !name.contains("__") && (links || ports || value.starts_with("tcp://") || value.starts_with("udp://"))
}

fn raw(value: &Spanned<DeValue<'_>>) -> RawValue {
    match value.get_ref() {
        DeValue::String(text) => RawValue::String(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(RawValue::Other("number too large"), RawValue::Integer),
        DeValue::Boolean(value) => RawValue::Bool(*value),
        DeValue::Array(items) => RawValue::List(items.iter().map(raw).collect()),
        DeValue::Float(_) => RawValue::Other("number with a fraction"),
        DeValue::Datetime(_) => RawValue::Other("date"),
        DeValue::Table(_) => RawValue::Other("table"),
    }
}
