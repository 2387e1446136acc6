//! Where the database is: `database.url`, and what of it tokio-postgres does not know.
//!
//! The URL is libpq's. tokio-postgres reads nearly all of it; `sslmode`, `sslrootcert` and their relatives are
//! taken out here and mean what libpq means by them.

use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::PostgresSettings;
use super::error::OpenError;
use super::tls::{self, Roots, Verify};

/// How long TCP may take to connect.
const CONNECT_LIMIT: Duration = Duration::from_secs(4);
/// How long sent data may stay unacknowledged before the connection counts as lost.
pub(super) const UNACKNOWLEDGED_LIMIT: Duration = Duration::from_secs(5);
const IDLE_BEFORE_PROBE: Duration = Duration::from_secs(15);

/// Everything that a new connection needs.
pub(super) struct Target {
    pub(super) config: Config,
    pub(super) tls: MakeRustlsConnect,
    pub(super) schema: Option<String>,
    /// `HOST:PORT/NAME`, for sentences.
    pub(super) name: String,
}

/// The parameters of a URL that are about TLS.
#[derive(Debug, Default, PartialEq, Eq)]
struct TlsParameters {
    mode: Option<String>,
    root_cert: Option<String>,
}

/// What TLS is to do.
#[derive(Debug, PartialEq, Eq)]
struct TlsPlan {
    mode: SslMode,
    verify: Verify,
}

impl Target {
    pub(super) fn new(settings: &PostgresSettings) -> Result<Self, OpenError> {
        let (rest, parameters) = split(settings.url.expose()).map_err(OpenError::Url)?;
        // Its errors name parameters, never their values.
        let mut config: Config = rest.parse().map_err(|error| OpenError::Url(reasons(&error)))?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(OpenError::Url("a host is missing".into()));
        }
        let local = config.get_hostaddrs().is_empty()
            && config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
        let plan = plan(&parameters, local, settings.verify_tls).map_err(OpenError::Url)?;
        config.ssl_mode(plan.mode);
        config.connect_timeout(CONNECT_LIMIT).tcp_user_timeout(UNACKNOWLEDGED_LIMIT);
        config.keepalives(true).keepalives_idle(IDLE_BEFORE_PROBE);
        if config.get_application_name().is_none() {
            config.application_name("chatd");
        }
        let tls = match plan.mode {
            SslMode::Disable => tls::connector(&Verify::Nothing),
            _ => tls::connector(&plan.verify),
        };
        let tls = tls.map_err(OpenError::Url)?;
        Ok(Self { name: name(&config), tls, schema: settings.schema.clone(), config })
    }
}

/// Takes what is about TLS out of a URL.
fn split(url: &str) -> Result<(String, TlsParameters), String> {
    // As tokio-postgres: credentials end at the first @, and hold a raw ? perhaps.
    let host = url.find('@').unwrap_or(0);
    let Some(query) = url[host..].find('?').map(|at| host + at) else {
        return Ok((url.to_owned(), TlsParameters::default()));
    };
    let mut parameters = TlsParameters::default();
    let mut kept = Vec::new();
    for pair in url[query + 1..].split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = || {
            let text = percent_decode_str(value).decode_utf8();
            text.map(|text| text.into_owned()).map_err(|_| format!("{name} is not UTF-8"))
        };
        match name {
            "sslmode" => parameters.mode = Some(value()?),
            "sslrootcert" => parameters.root_cert = Some(value()?),
            "sslcert" | "sslkey" | "sslpassword" | "sslcrl" | "sslcrldir" | "requiressl" => {
                return Err(format!("{name} is not supported"));
            }
            _ => kept.push(pair),
        }
    }
    let rest = &url[..query];
    let rest = if kept.is_empty() { rest.to_owned() } else { format!("{rest}?{}", kept.join("&")) };
    Ok((rest, parameters))
}

/// What libpq does by `sslmode` and `sslrootcert` ("SSL Support" in its manual). Where it looks for
/// `~/.postgresql/root.crt`, chatd takes the system's authorities.
fn plan(parameters: &TlsParameters, local: bool, must_verify: bool) -> Result<TlsPlan, String> {
    if local {
        // A Unix socket leaves the machine to nobody, and has no TLS.
        return Ok(TlsPlan { mode: SslMode::Disable, verify: Verify::Nothing });
    }
    let roots = match parameters.root_cert.as_deref() {
        None | Some("system") => Roots::System,
        Some(path) => Roots::File(PathBuf::from(path)),
    };
    let mode = parameters.mode.as_deref().unwrap_or("prefer");
    let (mode, verify) = match mode {
        "disable" => (SslMode::Disable, Verify::Nothing),
        "prefer" => (SslMode::Prefer, Verify::Nothing),
        // With a root certificate it has always meant verify-ca.
        "require" if matches!(roots, Roots::File(_)) => (SslMode::Require, Verify::Authority(roots)),
        "require" => (SslMode::Require, Verify::Nothing),
        "verify-ca" => (SslMode::Require, Verify::Authority(roots)),
        "verify-full" => (SslMode::Require, Verify::Server(roots)),
        _ => return Err("sslmode is one of disable, prefer, require, verify-ca, verify-full".into()),
    };
    if must_verify && verify == Verify::Nothing {
        return Err("in production the database has to prove who it is: add sslmode=verify-full, and \
                    sslrootcert=FILE where its authority is not one of the system's"
            .into());
    }
    Ok(TlsPlan { mode, verify })
}

fn name(config: &Config) -> String {
    let host = |host: &Host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    };
    let mut hosts: Vec<String> = config.get_hosts().iter().map(host).collect();
    if hosts.is_empty() {
        hosts = config.get_hostaddrs().iter().map(ToString::to_string).collect();
    }
    let ports: Vec<String> = config.get_ports().iter().map(ToString::to_string).collect();
    let database = config.get_dbname().or(config.get_user()).unwrap_or_default();
    format!(
        "{}:{}/{database}",
        hosts.join(","),
        if ports.is_empty() { "5432".into() } else { ports.join(",") }
    )
}

/// An error with all its causes, as one sentence.
pub(super) fn reasons(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(mode: &str, root: Option<&str>) -> TlsPlan {
        let parameters = TlsParameters { mode: Some(mode.into()), root_cert: root.map(Into::into) };
        plan(&parameters, false, false).unwrap()
    }

    #[test]
    fn what_is_about_tls_is_taken_out_of_the_url() {
        let (rest, tls) =
            split("postgres://u:p@h/db?sslmode=verify-full&connect_timeout=3&sslrootcert=%2Fca.pem").unwrap();
        assert_eq!(rest, "postgres://u:p@h/db?connect_timeout=3");
        let expected = TlsParameters { mode: Some("verify-full".into()), root_cert: Some("/ca.pem".into()) };
        assert_eq!(tls, expected);
        let plain = "postgres://u:a?b@h/db";
        assert_eq!(split(plain).unwrap(), (plain.to_owned(), TlsParameters::default()));
        assert!(split("postgres://h/db?sslcert=x").unwrap_err().contains("sslcert"));
    }

    #[test]
    fn a_mode_means_what_libpq_means() {
        let file = || Roots::File("/ca.pem".into());
        for (mode, root, expected) in [
            ("disable", None, (SslMode::Disable, Verify::Nothing)),
            ("prefer", Some("/ca.pem"), (SslMode::Prefer, Verify::Nothing)),
            ("require", None, (SslMode::Require, Verify::Nothing)),
            ("require", Some("/ca.pem"), (SslMode::Require, Verify::Authority(file()))),
            ("verify-ca", None, (SslMode::Require, Verify::Authority(Roots::System))),
            ("verify-full", Some("/ca.pem"), (SslMode::Require, Verify::Server(file()))),
            ("verify-full", Some("system"), (SslMode::Require, Verify::Server(Roots::System))),
        ] {
            assert_eq!(planned(mode, root), TlsPlan { mode: expected.0, verify: expected.1 }, "{mode}");
        }
        let unknown = TlsParameters { mode: Some("allow".into()), root_cert: None };
        assert!(plan(&unknown, false, false).unwrap_err().contains("verify-full"));
    }

    #[test]
    fn production_refuses_a_database_that_proves_nothing() {
        for mode in [None, Some("disable"), Some("prefer"), Some("require")] {
            let parameters = TlsParameters { mode: mode.map(Into::into), root_cert: None };
            assert!(plan(&parameters, false, true).unwrap_err().contains("sslmode=verify-full"), "{mode:?}");
            assert!(plan(&parameters, true, true).is_ok(), "a Unix socket");
        }
        for mode in ["verify-ca", "verify-full"] {
            let parameters = TlsParameters { mode: Some(mode.into()), root_cert: None };
            assert!(plan(&parameters, false, true).is_ok(), "{mode}");
        }
    }

    #[test]
    fn a_database_is_named_without_its_credentials() {
        let config: Config = "postgres://me:hush@db1:6432,db2:5433/chat".parse().unwrap();
        assert_eq!(name(&config), "db1,db2:6432,5433/chat");
    }
}
