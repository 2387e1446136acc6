//! Settings: one file a section, loaded once, checked before anything binds.
//!
//! Order: the file, then (under development rules) `.env`, then the environment, in each of the last two
//! `CHATD_SECTION__KEY` before the well-known names. Knows nothing of sockets, storage or the other rooms.

mod auth;
mod backends;
mod chat;
mod database;
mod delivery;
mod error;
mod http;
mod kafka;
mod layers;
mod limits;
mod log;
mod mail;
mod notify;
mod presence;
mod reader;
mod redis;
mod rules;
pub mod secrets;
mod show;
mod sources;
mod suggest;
mod telemetry;
mod urls;
mod value;
mod ws;

use std::path::PathBuf;

pub use auth::{Auth, Provision};
pub use backends::{LogBackend, MailBackend, PresenceBackend, Smtp, SmtpSecurity, StorageBackend};
pub use chat::{Chat, WhoMayWrite};
pub use database::{Database, Migrate};
pub use delivery::Delivery;
pub use error::{ConfigError, Origin, Problem};
pub use http::Http;
pub use kafka::{Kafka, Sasl, SaslMechanism, SecurityProtocol};
pub use limits::Limits;
pub use log::Log;
pub use mail::Mail;
pub use notify::{EmailContent, Notify, NotifyEmail};
pub use presence::{Presence, VisibleTo};
pub use reader::Setting;
pub use redis::Redis;
pub use sources::{SourceFile, Sources};
pub use telemetry::{LogFormat, Telemetry};
pub use value::{parse_duration, show_duration};
pub use ws::Ws;

use layers::Layers;
use reader::Reader;

/// Every setting.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data folder.
    pub data: PathBuf,
    /// `[http]`.
    pub http: Http,
    /// `[ws]`.
    pub ws: Ws,
    /// `[auth]`.
    pub auth: Auth,
    /// `[limits]`.
    pub limits: Limits,
    /// `[delivery]`.
    pub delivery: Delivery,
    /// `[presence]` and `[redis]`.
    pub presence: Presence,
    /// `[chat]`.
    pub chat: Chat,
    /// `[notify]`.
    pub notify: Notify,
    /// `[mail]`.
    pub mail: Mail,
    /// `[log]` and `[kafka]`.
    pub log: Log,
    /// `[database]`.
    pub database: Database,
    /// `[telemetry]`.
    pub telemetry: Telemetry,
    production: bool,
    settings: Vec<Setting>,
    notices: Vec<String>,
}

impl Config {
    /// Reads and checks all settings; a function of the sources (and of the secret files that they name).
    ///
    /// # Errors
    /// Everything that is wrong, each with its place and what to do.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        // `.env` is for development only, so the others decide first whether it counts.
        let strict = Layers::of(sources, false);
        let decided = rules::production(&Reader::new(&strict, &sources.data, sources.read));
        let layers = if decided { strict } else { Layers::of(sources, true) };
        let mut r = Reader::new(&layers, &sources.data, sources.read);
        let production = rules::production(&r);
        if production && !decided {
            let key = if r.peek("profile") == Some("production") { "profile" } else { "http.public_url" };
            r.problem(
                key,
                ".env counts in development only and cannot switch production rules on: set this in the \
                 environment or in the configuration file",
            );
        }
        if decided && sources.dot_env.is_some() {
            r.notice(".env is not read under production rules");
        }
        r.set_production(production);
        let mut config = Self::read(&mut r, sources);
        r.refuse_unknown();
        if !r.problems.is_empty() {
            return Err(ConfigError::Problems(r.problems));
        }
        config.settings = r.settings;
        config.notices = r.notices;
        Ok(config)
    }

    fn read(r: &mut Reader<'_>, sources: &Sources) -> Self {
        rules::read_profile(r);
        let config = Self {
            data: sources.data.clone(),
            http: Http::read(r),
            ws: Ws::read(r),
            auth: Auth::read(r),
            limits: Limits::read(r),
            delivery: Delivery::read(r),
            presence: Presence::read(r),
            chat: Chat::read(r),
            notify: Notify::read(r),
            mail: Mail::read(r),
            log: Log::read(r),
            database: Database::read(r),
            telemetry: Telemetry::read(r),
            production: r.production(),
            settings: Vec::new(),
            notices: Vec::new(),
        };
        rules::check(r, &config.http, &config.auth, &config.limits);
        backends::refuse_missing(r, &config);
        config
    }

    /// Whether production rules are on: `http.public_url` is https, or `profile = "production"`.
    pub fn production(&self) -> bool {
        self.production
    }

    /// Every setting as it stands, secrets redacted.
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }

    /// What an operator should know of these settings; to be logged at start.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }
}

#[cfg(test)]
mod tests;
