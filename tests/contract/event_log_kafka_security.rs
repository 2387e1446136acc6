//! Kafka over TLS and with credentials.

use chatd::domain::Secret;
use chatd::pipeline::EventLog;
use chatd::pipeline::kafka::{KafkaError, KafkaLog, KafkaSettings, SaslMechanism, SaslSettings};

use crate::event_log::entry;
use crate::event_log_kafka::KafkaRig;

fn sasl(rig: &KafkaRig, mechanism: SaslMechanism, password: Option<&str>) -> Option<SaslSettings> {
    let password = password.unwrap_or(rig.exports.get("KAFKA_PASSWORD")).to_owned();
    let username = rig.exports.get("KAFKA_USER").to_owned();
    Some(SaslSettings { mechanism, username, password: Secret::new(password) })
}

/// The same topic through another listener of the brokers.
fn through(rig: &KafkaRig, listener: &str) -> KafkaSettings {
    let brokers = rig.exports.get(listener).split(',').map(str::to_owned).collect();
    let ca_file = Some(rig.exports.get("KAFKA_CA_FILE").into());
    KafkaSettings { brokers, ca_file, ..rig.settings.clone() }
}

async fn appends(settings: KafkaSettings) -> Result<(), KafkaError> {
    let log = KafkaLog::connect(settings).await?;
    log.append(entry(0, "a"), log.generation()).await.unwrap();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_protocol_and_mechanism_gets_in() {
    let rig = KafkaRig::new();
    appends(KafkaSettings { tls: true, ..through(&rig, "KAFKA_SSL_BROKERS") }).await.unwrap();
    for mechanism in [SaslMechanism::Plain, SaslMechanism::ScramSha256, SaslMechanism::ScramSha512] {
        let sasl = sasl(&rig, mechanism, None);
        let plain = KafkaSettings { sasl: sasl.clone(), ..through(&rig, "KAFKA_SASL_BROKERS") };
        appends(plain).await.unwrap();
        let tls = KafkaSettings { sasl, tls: true, ..through(&rig, "KAFKA_SASL_SSL_BROKERS") };
        appends(tls).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_and_an_unknown_authority_are_told_apart() {
    let rig = KafkaRig::new();
    for mechanism in [SaslMechanism::Plain, SaslMechanism::ScramSha256] {
        let sasl = sasl(&rig, mechanism, Some("wrong"));
        let refused = appends(KafkaSettings { sasl, ..through(&rig, "KAFKA_SASL_BROKERS") }).await;
        assert!(matches!(refused, Err(KafkaError::Login { .. })), "{refused:?}");
        assert!(!refused.unwrap_err().to_string().contains("wrong"), "no secret is told");
    }
    let system = KafkaSettings { tls: true, ca_file: None, ..through(&rig, "KAFKA_SSL_BROKERS") };
    let refused = appends(system).await;
    assert!(matches!(refused, Err(KafkaError::Connect { .. } | KafkaError::Tls(_))), "{refused:?}");
    // Without TLS nobody understands anybody.
    assert!(appends(through(&rig, "KAFKA_SSL_BROKERS")).await.is_err());
}
