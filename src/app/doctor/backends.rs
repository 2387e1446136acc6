//! Redis and the mail server.

use std::time::Duration;

use super::{Findings, clock};
use crate::app::backends::{channel, redis_settings};
use crate::config::{Config, MailBackend, PresenceBackend, SmtpSecurity};
use crate::redis::inspect::{Inspection, inspect};

/// A round trip through a channel is on every message's way.
const ROUND_TRIP_LONG: Duration = Duration::from_millis(20);

pub(super) async fn redis(config: &Config, mut found: Findings) -> Findings {
    let PresenceBackend::Redis(backend) = &config.presence.backend else {
        found.fine("none: presence and fan-out stay in the memory of one process");
        return found;
    };
    let node = format!("doctor-{}", uuid::Uuid::new_v4().simple());
    match inspect(&redis_settings(backend, &node)).await {
        Ok(inspection) => judge_redis(&mut found, &inspection),
        Err(error) => found.problem(
            error.to_string(),
            "check REDIS_URL and that the server runs; without it messages are stored, and delivered a second or \
             so later",
        ),
    }
    found
}

/// What follows from an inspection. Pure.
pub(super) fn judge_redis(found: &mut Findings, is: &Inspection) {
    let round_trip = format!("{:.1} ms", is.round_trip.as_secs_f64() * 1_000.0);
    found.fine(format!("Redis {}: reached, a published message comes back after {round_trip}", is.version));
    let mut numbers = is.version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < (6, 2) {
        found.problem(format!("Redis {} is older than 6.2", is.version), "upgrade it, or use Valkey");
    }
    if is.round_trip > ROUND_TRIP_LONG {
        found.warn(
            format!("a published message takes {round_trip} to come back, and each message waits for it"),
            "put Redis nearer to chatd, and let nothing else keep it busy",
        );
    }
    match is.eviction.as_deref() {
        None => found.fine("it does not tell its eviction policy: see that it is noeviction"),
        Some("noeviction") => found.fine("maxmemory-policy is noeviction"),
        Some(policy) if is.memory_max == Some(0) => {
            found.fine(format!("maxmemory-policy is {policy}, without effect as there is no maxmemory"));
        }
        Some(policy) => found.warn(
            format!("maxmemory-policy is {policy}: Redis may drop who is connected where"),
            "set maxmemory-policy noeviction; chatd needs about 100 bytes a connected user",
        ),
    }
    clock(found, "Redis", is.clock);
}

pub(super) async fn mail(config: &Config, mut found: Findings) -> Findings {
    let smtp = match &config.mail.backend {
        MailBackend::Capture { dir } => {
            found.in_production(
                format!("mails are captured in {}, nobody gets them", dir.display()),
                "set SMTP_URL, or EMAIL_USER and EMAIL_PASS for Gmail",
            );
            return found;
        }
        MailBackend::Smtp(smtp) => smtp,
    };
    let name = format!("{}:{}", smtp.host, smtp.port);
    if smtp.security == SmtpSecurity::StartTlsIfOffered {
        found.in_production(
            format!("mails to {name} are encrypted only where the server offers it"),
            "use smtps://, or smtp:// with a user and password, which requires STARTTLS",
        );
    }
    let opened = match channel(config) {
        Ok(channel) => channel.connect().await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match opened {
        Ok(connection) => {
            connection.close().await;
            let login = if smtp.credentials.is_some() { ", TLS and login are fine" } else { "" };
            found.fine(format!("{name}: reached{login}"));
        }
        Err(error) => found.problem(
            format!("{name}: {error}"),
            "check host, port, user and password in SMTP_URL (Gmail wants an app password), and the server's \
             certificate; mails wait for up to 24 h",
        ),
    }
    found
}
