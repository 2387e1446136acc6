//! `[mail]`: the server that takes e-mail, and whom it comes from.

use std::path::PathBuf;

use super::backends::{MailBackend, Smtp, SmtpSecurity};
use super::reader::Reader;
use super::urls::{self, Parts};

/// Gmail's submission with implicit TLS (RFC 8314).
const GMAIL: (&str, u16) = ("smtp.gmail.com", 465);
/// Message submission (RFC 6409).
const SUBMISSION_PORT: u16 = 587;
/// Message submission over TLS (RFC 8314).
const SUBMISSIONS_PORT: u16 = 465;
/// Whom mail comes from while nothing says so; only captured mail goes well with it.
const FROM: &str = "chatd@localhost";

/// Settings of e-mail.
#[derive(Debug, Clone)]
pub struct Mail {
    /// Captured as files under the data folder, or SMTP where `SMTP_URL` or `EMAIL_USER` and `EMAIL_PASS`
    /// are set.
    pub backend: MailBackend,
    /// The sender's address: `EMAIL_USER`, else `notify.email.from`, else the user of `SMTP_URL` where it is
    /// an address, else `chatd@localhost`.
    pub from: String,
    /// `mail.ca_file`: certificates (PEM) that are trusted in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// `mail.hello_name`: how chatd names itself in EHLO; `localhost` by default.
    pub hello_name: String,
}

impl Mail {
    pub(super) fn read(r: &mut Reader<'_>) -> Self {
        let url = r.secret_url("mail.smtp_url");
        let user = address(r, "mail.user", "EMAIL_USER");
        let password = r.secret("mail.password");
        let from = address(r, "notify.email.from", "notify.email.from");
        let url_given = url.is_some();
        let by_url = url.and_then(|url| smtp(r, url.expose()));
        let url_user = by_url.as_ref().and_then(|smtp| smtp.credentials.as_ref()).map(|(user, _)| user);
        let url_user = url_user.filter(|user| is_address(user)).cloned();
        let capture = MailBackend::Capture { dir: r.data("mail") };
        let from = user.clone().or(from).or(url_user).unwrap_or_else(|| FROM.to_owned());
        let backend = match (by_url, user, password) {
            (Some(smtp), _, password) => {
                if password.is_some() && smtp.credentials.is_none() {
                    r.notice("EMAIL_PASS is not used: SMTP_URL is set and holds no user and password");
                }
                MailBackend::Smtp(smtp)
            }
            (None, ..) if url_given => capture,
            (None, Some(user), Some(password)) => MailBackend::Smtp(Smtp {
                host: GMAIL.0.to_owned(),
                port: GMAIL.1,
                security: SmtpSecurity::Implicit,
                credentials: Some((user, password)),
            }),
            (None, None, None) => capture,
            (None, Some(_), None) => {
                let sentence = "EMAIL_USER is set without EMAIL_PASS: set both for Gmail, or SMTP_URL for \
                                another server";
                r.problem("mail.user", sentence);
                capture
            }
            (None, None, Some(_)) => {
                if !r.is_set("mail.user") {
                    let sentence = "EMAIL_PASS is set without EMAIL_USER: set both for Gmail, or SMTP_URL \
                                    for another server";
                    r.problem("mail.password", sentence);
                }
                capture
            }
        };
        Self {
            backend,
            from,
            ca_file: r.optional("mail.ca_file"),
            hello_name: r.get("mail.hello_name", "localhost".to_owned()),
        }
    }
}

fn address(r: &mut Reader<'_>, key: &'static str, name: &str) -> Option<String> {
    let text = r.optional::<String>(key)?;
    if is_address(&text) {
        return Some(text);
    }
    r.problem(key, format!("{name}: expected an address such as `chat@example.com`, found `{text}`"));
    None
}

/// An addr-spec (RFC 5321) in its plain form: printable ASCII without spaces, brackets and quotes, one `@`.
fn is_address(text: &str) -> bool {
    let plain = text.bytes().all(|b| b.is_ascii_graphic() && !b"<>()[],;:\\\"".contains(&b));
    let parts: Vec<&str> = text.split('@').collect();
    plain && text.len() <= 254 && parts.len() == 2 && parts.iter().all(|part| !part.is_empty())
}

fn smtp(r: &mut Reader<'_>, url: &str) -> Option<Smtp> {
    const EXPECTED: &str = "mail.smtp_url: expected smtp://USER:PASSWORD@HOST:587 or smtps://USER:PASSWORD@HOST:465 (what is not \
         a letter or a digit in user and password percent-encoded, `@` as %40), without a path";
    let parts = urls::parts(url).filter(|parts| matches!(parts.scheme.as_str(), "smtp" | "smtps"));
    let Some(Parts { scheme, host, port, user, password, .. }) = parts.filter(|parts| !parts.has_more) else {
        r.problem("mail.smtp_url", EXPECTED);
        return None;
    };
    let credentials = match (user, password) {
        (Some(user), Some(password)) => Some((user, password)),
        (None, None) => None,
        _ => {
            r.problem("mail.smtp_url", "mail.smtp_url: give both a user and a password, or neither");
            return None;
        }
    };
    let security = match (scheme.as_str(), &credentials) {
        ("smtps", _) => SmtpSecurity::Implicit,
        (_, Some(_)) => SmtpSecurity::StartTlsRequired,
        (_, None) => SmtpSecurity::StartTlsIfOffered,
    };
    let default = if scheme == "smtps" { SUBMISSIONS_PORT } else { SUBMISSION_PORT };
    Some(Smtp { host, port: port.unwrap_or(default), security, credentials })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Sources};
    use crate::domain::Secret;

    fn load(variables: &[(&str, &str)]) -> Result<Mail, String> {
        let sources = variables.iter().fold(Sources::new("data"), |s, (name, value)| s.with(name, value));
        Config::load(&sources).map(|config| config.mail).map_err(|error| error.to_string())
    }

    fn smtp(mail: Mail) -> Smtp {
        match mail.backend {
            MailBackend::Smtp(smtp) => smtp,
            MailBackend::Capture { .. } => panic!("captured"),
        }
    }

    #[test]
    fn a_gmail_account_is_enough() {
        let mail = load(&[("EMAIL_USER", "me@gmail.com"), ("EMAIL_PASS", "app pass")]).unwrap();
        assert_eq!(mail.from, "me@gmail.com");
        let smtp = smtp(mail);
        assert_eq!((smtp.host.as_str(), smtp.port), ("smtp.gmail.com", 465));
        assert_eq!(smtp.security, SmtpSecurity::Implicit);
        assert_eq!(smtp.credentials, Some(("me@gmail.com".into(), Secret::new("app pass".into()))));
    }

    #[test]
    fn a_url_wins_and_credentials_demand_tls() {
        let url = ("SMTP_URL", "smtp://me%40x.test:p%40ss@mail.x.test");
        let mail = load(&[url, ("EMAIL_USER", "chat@x.test"), ("EMAIL_PASS", "unused")]).unwrap();
        assert_eq!(mail.from, "chat@x.test");
        let smtp = smtp(mail);
        assert_eq!((smtp.host.as_str(), smtp.port), ("mail.x.test", 587));
        assert_eq!(smtp.security, SmtpSecurity::StartTlsRequired);
        assert_eq!(smtp.credentials, Some(("me@x.test".into(), Secret::new("p@ss".into()))));
        assert_eq!(load(&[url]).unwrap().from, "me@x.test");
    }

    #[test]
    fn a_local_server_needs_neither_tls_nor_credentials() {
        let mail = load(&[("SMTP_URL", "smtp://127.0.0.1:1025"), ("CHATD_NOTIFY__EMAIL__FROM", "c@x.test")]);
        let mail = mail.unwrap();
        assert_eq!(mail.from, "c@x.test");
        let smtp = smtp(mail);
        assert_eq!((smtp.port, smtp.security), (1025, SmtpSecurity::StartTlsIfOffered));
        assert_eq!(smtp.credentials, None);
    }

    #[test]
    fn halves_and_garbage_are_refused_with_what_to_set() {
        for (variables, sentence) in [
            (&[("EMAIL_USER", "me@gmail.com")][..], "without EMAIL_PASS"),
            (&[("EMAIL_PASS", "hush")], "without EMAIL_USER"),
            (&[("EMAIL_USER", "me"), ("EMAIL_PASS", "hush")], "expected an address"),
            (&[("SMTP_URL", "http://hush.test")], "expected smtp://"),
            (&[("SMTP_URL", "smtp://hush@x.test")], "both a user and a password"),
            (&[("SMTP_URL", "smtp://x.test/path")], "without a path"),
            (&[("SMTP_URL", "smtp://x.test"), ("CHATD_NOTIFY__EMAIL__FROM", "a b@x.test")], "an address"),
        ] {
            let error = load(variables).unwrap_err();
            assert!(error.contains(sentence) && !error.contains("hush"), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }

    #[test]
    fn without_a_server_mail_is_captured() {
        let mail = load(&[]).unwrap();
        assert_eq!(mail.from, "chatd@localhost");
        assert!(matches!(mail.backend, MailBackend::Capture { dir } if dir.ends_with("mail")));
    }
}
