//! Which server, and how it is trusted.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mail_send::smtp::tls::build_tls_connector;
use mail_send::{Credentials, SmtpClientBuilder};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};

use crate::domain::Secret;

/// How the way to the server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpTls {
    /// TLS from the first byte (`smtps://`, usually port 465), the server verified.
    Implicit,
    /// STARTTLS or nothing (usually port 587), the server verified.
    Required,
    /// STARTTLS where the server offers it, else plain: for a relay on the same machine or network.
    ///
    /// The server is verified only against a given `ca_file`: who can tamper with the connection could
    /// as well hide the offer, and local relays mostly carry a certificate that nobody signed. With
    /// credentials this is the same as [`SmtpTls::Required`].
    Opportunistic,
}

/// The settings of an SMTP channel.
#[derive(Clone)]
pub struct SmtpSettings {
    /// A host name or an IP address (IPv6 without brackets); the name that the certificate must carry.
    pub host: String,
    /// 25, 465 or 587 mostly.
    pub port: u16,
    /// How the way is encrypted.
    pub tls: SmtpTls,
    /// User name and password; they go over TLS only.
    pub credentials: Option<(String, Secret<String>)>,
    /// Certificates (PEM) that are trusted in place of the system's roots.
    pub ca_file: Option<PathBuf>,
    /// How we name ourselves in EHLO: the host's full name, or an address literal as `[192.0.2.1]`.
    pub hello_name: String,
    /// For each step: connect, greeting, each command. [`SmtpSettings::LIMIT`] outside of tests.
    pub limit: Duration,
}

/// Which setting of an SMTP channel is at fault.
#[derive(Debug, thiserror::Error)]
pub enum SmtpSetupError {
    /// Not a host name and not an IP address.
    #[error("the mail server's host is neither a host name nor an IP address")]
    Host,
    /// Empty, longer than 255, or not printable ASCII without spaces.
    #[error("the EHLO name is not a host name or an address literal")]
    HelloName,
    /// An empty user name, or a NUL in user name or password (RFC 4616 separates them by NUL).
    #[error("the user name is empty, or user name or password holds a NUL")]
    Credentials,
    /// The file cannot be read, or holds no certificate.
    #[error("the certificates in {}: {reason}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system's trusted certificates cannot be used.
    #[error("the system's trusted certificates: {0}")]
    SystemRoots(String),
}

impl SmtpSettings {
    /// Long enough for a busy server to answer a command. RFC 5321 section 4.5.3.2 asks for 5 minutes
    /// of a relay that delivers; a notification is tried again, and must not hold up the others.
    pub const LIMIT: Duration = Duration::from_secs(30);

    pub(super) fn check(&self) -> Result<(), SmtpSetupError> {
        if ServerName::try_from(self.host.as_str()).is_err() {
            return Err(SmtpSetupError::Host);
        }
        let hello = &self.hello_name;
        if !(1..=255).contains(&hello.len()) || !hello.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(SmtpSetupError::HelloName);
        }
        if let Some((user, password)) = &self.credentials
            && (user.is_empty() || user.contains('\0') || password.expose().contains('\0'))
        {
            return Err(SmtpSetupError::Credentials);
        }
        Ok(())
    }

    /// mail-send's client with these settings, its trust included.
    pub(super) fn client(&self) -> Result<SmtpClientBuilder<String>, SmtpSetupError> {
        let connector = match (&self.ca_file, self.tls, &self.credentials) {
            (Some(path), ..) => Arc::new(trusting(path)?).into(),
            (None, SmtpTls::Opportunistic, None) => {
                build_tls_connector(true).map_err(SmtpSetupError::SystemRoots)?
            }
            (None, ..) => build_tls_connector(false).map_err(SmtpSetupError::SystemRoots)?,
        };
        let host = self.host.clone();
        let client = SmtpClientBuilder::new_with_tls_connector(host, self.port, connector)
            .helo_host(self.hello_name.as_str())
            .timeout(self.limit);
        Ok(match &self.credentials {
            Some((user, password)) => {
                client.credentials(Credentials::new(user.clone(), password.expose().clone()))
            }
            None => client,
        })
    }
}

/// Trusts the certificates of a file, and no others.
fn trusting(path: &Path) -> Result<ClientConfig, SmtpSetupError> {
    let fault = |reason: String| SmtpSetupError::CaFile { path: path.to_owned(), reason };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| fault(error.to_string()))? {
        let certificate = certificate.map_err(|error| fault(error.to_string()))?;
        roots.add(certificate).map_err(|error| fault(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(fault("no certificate in it".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = versions.map_err(|error| fault(error.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// What is wrong with TLS, in words of our own: rustls' own repeat names from the certificate.
pub(super) fn tls_fault(error: &rustls::Error) -> &'static str {
    use CertificateError as C;
    match error {
        rustls::Error::InvalidCertificate(C::UnknownIssuer) => "certificate of an unknown issuer",
        rustls::Error::InvalidCertificate(C::Expired | C::ExpiredContext { .. }) => "certificate expired",
        rustls::Error::InvalidCertificate(C::NotValidForName | C::NotValidForNameContext { .. }) => {
            "certificate for another name"
        }
        rustls::Error::InvalidCertificate(_) => "certificate not accepted",
        _ => "TLS failed",
    }
}

#[cfg(test)]
mod tests {
    use super::super::SmtpChannel;
    use super::*;

    fn settings() -> SmtpSettings {
        SmtpSettings {
            host: "mail.example.test".into(),
            port: 587,
            tls: SmtpTls::Opportunistic,
            credentials: None,
            ca_file: None,
            hello_name: "chat.example.test".into(),
            limit: SmtpSettings::LIMIT,
        }
    }

    #[test]
    fn settings_that_cannot_work_are_refused_before_anything_is_sent() {
        let fault = |change: fn(&mut SmtpSettings)| {
            let mut settings = settings();
            change(&mut settings);
            SmtpChannel::new(settings).err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(fault(|_| {}), "");
        assert_eq!(fault(|s| s.host = "::1".into()), "");
        assert!(fault(|s| s.host = String::new()).contains("host"));
        assert!(fault(|s| s.host = "a b".into()).contains("host"));
        assert!(fault(|s| s.hello_name = "a\r\nMAIL".into()).contains("EHLO"));
        assert!(fault(|s| s.hello_name = String::new()).contains("EHLO"));
        assert!(fault(|s| s.credentials = Some((String::new(), Secret::default()))).contains("user name"));
        assert!(
            fault(|s| s.credentials = Some(("a".into(), Secret::new("b\0c".into())))).contains("user name")
        );
        assert!(fault(|s| s.ca_file = Some("/nowhere/ca.pem".into())).contains("/nowhere/ca.pem"));
    }

    #[test]
    fn a_file_without_a_certificate_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "not a certificate").unwrap();
        let mut settings = settings();
        settings.ca_file = Some(file.path().into());
        assert!(matches!(SmtpChannel::new(settings), Err(SmtpSetupError::CaFile { .. })));
    }
}
