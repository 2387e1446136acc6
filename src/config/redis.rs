//! `[redis]`: presence and fan-out between nodes, where `REDIS_URL` is set.

use std::path::PathBuf;

use crate::domain::Secret;

use super::reader::Reader;
use super::urls;

/// Settings of Redis.
#[derive(Debug, Clone)]
pub struct Redis {
    /// `redis.url`, `REDIS_URL`: `redis://`, `rediss://`, `redis-sentinel://` or `rediss-sentinel://`.
    pub url: Secret<String>,
    /// `redis.ca_file`, `REDIS_CA_FILE`: a PEM of the authorities to believe; the system's by default.
    pub ca_file: Option<PathBuf>,
    /// `redis.prefix`: begins every key and channel, so that deployments share a server. `chatd:`.
    pub prefix: String,
}

impl Redis {
    pub(super) fn read(r: &mut Reader<'_>) -> Option<Self> {
        let prefix: String = r.get("redis.prefix", "chatd:".to_owned());
        if prefix.len() > 100 || !prefix.bytes().all(|b| b.is_ascii_graphic() && !b"{}*?[]\\".contains(&b)) {
            r.problem("redis.prefix", "redis.prefix: up to 100 visible ASCII characters, none of {}*?[]\\");
        }
        let ca_file = r.optional("redis.ca_file");
        let url = r.secret_url("redis.url")?;
        match urls::scheme(url.expose()).as_deref() {
            Some("redis" | "rediss" | "redis-sentinel" | "rediss-sentinel") => {
                Some(Self { url, ca_file, prefix })
            }
            _ => {
                let sentence = "redis.url: expected redis://HOST:6379, rediss:// (TLS), redis-sentinel:// or \
                                rediss-sentinel://";
                r.problem("redis.url", sentence);
                None
            }
        }
    }
}
