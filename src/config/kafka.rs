//! `[kafka]`: the shared message log, where `KAFKA_BROKERS` is set. The names are those of Kafka's clients.

use std::path::PathBuf;

use crate::domain::Secret;

use super::reader::Reader;
use super::value::Choice;

/// `security.protocol` of Kafka's clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecurityProtocol {
    /// Neither TLS nor credentials.
    Plaintext,
    /// TLS.
    Ssl,
    /// Credentials in the open.
    SaslPlaintext,
    /// TLS and credentials.
    SaslSsl,
}

impl Choice for SecurityProtocol {
    const ALL: &'static [(&'static str, Self)] = &[
        ("PLAINTEXT", Self::Plaintext),
        ("SSL", Self::Ssl),
        ("SASL_PLAINTEXT", Self::SaslPlaintext),
        ("SASL_SSL", Self::SaslSsl),
    ];
}

/// `sasl.mechanism` of Kafka's clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaslMechanism {
    /// RFC 4616.
    Plain,
    /// RFC 7677.
    ScramSha256,
    /// As SCRAM-SHA-256, with SHA-512.
    ScramSha512,
}

impl Choice for SaslMechanism {
    const ALL: &'static [(&'static str, Self)] =
        &[("PLAIN", Self::Plain), ("SCRAM-SHA-256", Self::ScramSha256), ("SCRAM-SHA-512", Self::ScramSha512)];
}

/// How to log in at the brokers.
#[derive(Debug, Clone)]
pub struct Sasl {
    /// `kafka.sasl_mechanism`.
    pub mechanism: SaslMechanism,
    /// `kafka.sasl_username`.
    pub username: String,
    /// `kafka.sasl_password`.
    pub password: Secret<String>,
}

/// Settings of Kafka.
#[derive(Debug, Clone)]
pub struct Kafka {
    /// `kafka.brokers`, `KAFKA_BROKERS`: each `host:port`.
    pub brokers: Vec<String>,
    /// `kafka.security_protocol`: `PLAINTEXT` by default.
    pub security_protocol: SecurityProtocol,
    /// Present with the two SASL protocols.
    pub sasl: Option<Sasl>,
    /// `kafka.ca_file`: a PEM of the authorities to believe; the system's by default.
    pub ca_file: Option<PathBuf>,
    /// `kafka.topic_prefix`: put before `chat.messages`, so that deployments share a cluster. Empty by default.
    pub topic_prefix: String,
    /// `kafka.group`: the consumer group, `chatd` by default.
    pub group: String,
}

impl Kafka {
    pub(super) fn read(r: &mut Reader<'_>) -> Option<Self> {
        let brokers: Vec<String> = r.get("kafka.brokers", Vec::new());
        let security_protocol = r.get("kafka.security_protocol", SecurityProtocol::Plaintext);
        let mechanism = r.get("kafka.sasl_mechanism", SaslMechanism::Plain);
        let username: Option<String> = r.optional("kafka.sasl_username");
        let password = r.secret("kafka.sasl_password");
        let ca_file = r.optional("kafka.ca_file");
        let topic_prefix: String = r.get("kafka.topic_prefix", String::new());
        let group: String = r.get("kafka.group", "chatd".to_owned());
        if brokers.is_empty() {
            return None;
        }
        if let Some(bad) = brokers.iter().find(|broker| !is_host_and_port(broker)) {
            r.problem("kafka.brokers", format!("kafka.brokers: expected host:port, found `{bad}`"));
        }
        // Kafka's rule for topics; a group may be anything, and is held to the same.
        let legal = |name: &str| {
            name.len() <= 200 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        if !legal(&topic_prefix) {
            let sentence = "kafka.topic_prefix: up to 200 letters, digits, dots, underscores and hyphens";
            r.problem("kafka.topic_prefix", sentence);
        }
        if !legal(&group) || group.is_empty() {
            r.problem("kafka.group", "kafka.group: 1 to 200 letters, digits, dots, underscores and hyphens");
        }
        let with_sasl =
            matches!(security_protocol, SecurityProtocol::SaslPlaintext | SecurityProtocol::SaslSsl);
        let sasl = match (username, password) {
            (Some(username), Some(password)) => Some(Sasl { mechanism, username, password }),
            (None, None) => None,
            _ => {
                let sentence = "set both KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD, or neither";
                r.problem("kafka.sasl_username", sentence);
                return None;
            }
        };
        if with_sasl != sasl.is_some() {
            let sentence = "KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD go with KAFKA_SECURITY_PROTOCOL=SASL_SSL \
                            (or SASL_PLAINTEXT): set all three, or none";
            r.problem("kafka.security_protocol", sentence);
        }
        Some(Self { brokers, security_protocol, sasl, ca_file, topic_prefix, group })
    }
}

fn is_host_and_port(broker: &str) -> bool {
    let host_and_port = broker.rsplit_once(':').filter(|(host, _)| !host.is_empty() && !host.contains('/'));
    host_and_port.is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0))
}
