//! TLS and credentials, as every connection to a broker needs them.

use std::sync::Arc;

use kafka_protocol::messages::{SaslAuthenticateRequest, SaslHandshakeRequest};
use kafka_protocol::protocol::StrBytes;
use rsasl::config::SASLConfig;
use rsasl::mechname::Mechname;
use rsasl::prelude::{SASLClient, State};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::time::{Duration, Instant};
use tokio_rustls::TlsConnector;

use super::connection::Connection;
use super::error::KafkaError;
use super::settings::{KafkaSettings, SaslMechanism, SaslSettings};

/// What is done before a broker is asked anything.
#[derive(Clone)]
pub struct Security {
    tls: Option<TlsConnector>,
    sasl: Option<(&'static str, Arc<SASLConfig>)>,
}

impl Security {
    /// Reads the authorities. Blocks for a moment.
    pub fn new(settings: &KafkaSettings) -> Result<Self, KafkaError> {
        let tls = if settings.tls { Some(connector(settings)?) } else { None };
        let sasl = settings.sasl.as_ref().map(credentials).transpose()?;
        Ok(Self { tls, sasl })
    }

    /// How to speak TLS to this host, where that is wanted.
    pub(super) fn tls(
        &self,
        address: &str,
    ) -> Result<Option<(&TlsConnector, ServerName<'static>)>, KafkaError> {
        let Some(connector) = &self.tls else { return Ok(None) };
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(|error| KafkaError::Tls(error.to_string()))?;
        Ok(Some((connector, name)))
    }

    /// Logs in, where that is wanted. Answers when the login ends to count, if it does.
    pub(super) async fn log_in(
        &self,
        connection: &Connection,
        patience: Duration,
    ) -> Result<Option<Instant>, KafkaError> {
        let Some((mechanism, config)) = &self.sasl else { return Ok(None) };
        let failed = |what: String| KafkaError::Login { address: connection.address().to_owned(), what };
        let request = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(mechanism));
        let offered = connection.call(&request, patience).await?;
        if offered.error_code != 0 {
            let mechanisms: Vec<&str> = offered.mechanisms.iter().map(StrBytes::as_str).collect();
            return Err(failed(format!("it takes {} and not {mechanism}", mechanisms.join(", "))));
        }
        let name = Mechname::parse(mechanism.as_bytes()).map_err(|error| failed(error.to_string()))?;
        let mut session = SASLClient::new(Arc::clone(config))
            .start_suggested(&[name])
            .map_err(|error| failed(error.to_string()))?;
        let mut challenge: Option<bytes::Bytes> = None;
        let mut lifetime = 0;
        loop {
            let mut said = Vec::new();
            let state = session.step(challenge.as_deref(), &mut said).map_err(|_| {
                failed("the broker does not know the password, or the challenge is wrong".into())
            })?;
            if state.has_sent_message() {
                let request = SaslAuthenticateRequest::default().with_auth_bytes(said.into());
                let answer = connection.call(&request, patience).await?;
                if answer.error_code != 0 {
                    let said = answer.error_message.as_ref().map_or("refused", StrBytes::as_str);
                    return Err(failed(said.to_owned()));
                }
                (lifetime, challenge) = (answer.session_lifetime_ms, Some(answer.auth_bytes));
            }
            if let State::Finished(_) = state {
                break;
            }
        }
        // A broker that limits logins closes the connection then; it is replaced some time before.
        let lifetime = u64::try_from(lifetime).ok().filter(|lifetime| *lifetime > 0);
        Ok(lifetime.map(|ms| Instant::now() + Duration::from_millis(ms) * 4 / 5))
    }
}

fn connector(settings: &KafkaSettings) -> Result<TlsConnector, KafkaError> {
    let mut authorities = RootCertStore::empty();
    if let Some(path) = &settings.ca_file {
        let unreadable = |what: &dyn std::fmt::Display| KafkaError::Tls(format!("kafka.ca_file: {what}"));
        let certificates = CertificateDer::pem_file_iter(path).map_err(|error| unreadable(&error))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| unreadable(&error))?;
            authorities.add(certificate).map_err(|error| unreadable(&error))?;
        }
        if authorities.is_empty() {
            return Err(unreadable(&"it holds no certificate"));
        }
    } else {
        // Some of a system's certificates may be unreadable; the others count.
        authorities.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if authorities.is_empty() {
            return Err(KafkaError::Tls("this system has no authorities; set kafka.ca_file".into()));
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| KafkaError::Tls(error.to_string()))?
        .with_root_certificates(authorities)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn credentials(sasl: &SaslSettings) -> Result<(&'static str, Arc<SASLConfig>), KafkaError> {
    let mechanism = match sasl.mechanism {
        SaslMechanism::Plain => "PLAIN",
        SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
        SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
    };
    let password = sasl.password.expose().clone();
    let config = SASLConfig::with_credentials(None, sasl.username.clone(), password)
        .map_err(|error| KafkaError::Malformed(error.to_string()))?;
    Ok((mechanism, config))
}
