//! `[redis]`: presence and fan-out between nodes, where `REDIS_URL` is set.

use crate::domain::Secret;

use super::reader::Reader;
use super::urls;

/// Settings of Redis.
#[derive(Debug, Clone)]
pub struct Redis {
    /// `redis.url`, `REDIS_URL`: `redis://`, `rediss://`, `redis-sentinel://` or `rediss-sentinel://`.
    pub url: Secret<String>,
}

impl Redis {
    pub(super) fn read(r: &mut Reader<'_>) -> Option<Self> {
        let url = r.secret_url("redis.url")?;
        match urls::scheme(url.expose()).as_deref() {
            Some("redis" | "rediss" | "redis-sentinel" | "rediss-sentinel") => Some(Self { url }),
            _ => {
                let sentence = "redis.url: expected redis://HOST:6379, rediss:// (TLS), redis-sentinel:// or \
                                rediss-sentinel://";
                r.problem("redis.url", sentence);
                None
            }
        }
    }
}
