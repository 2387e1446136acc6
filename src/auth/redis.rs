//! Tickets in Redis: any node redeems what any node issued. Redis holds the hash of a ticket and what it stands
//! for; who reads Redis learns no ticket.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Claims, TICKET_LIFE, TICKETS_MAX, Ticket, TicketError, Tickets};
use crate::domain::{Secret, Subject, Timestamp, UserId};
use crate::redis::Redis;

/// The tickets of all processes that share this Redis and prefix.
pub struct RedisTickets {
    redis: Arc<Redis>,
    issued: Mutex<Issued>,
}

/// How many tickets this process has issued since when.
struct Issued {
    since: Instant,
    count: usize,
}

impl Issued {
    /// Counts one more; false where that is too many.
    fn one_more(&mut self, now: Instant) -> bool {
        if now.duration_since(self.since) >= TICKET_LIFE {
            *self = Self { since: now, count: 0 };
        }
        let fits = self.count < TICKETS_MAX;
        self.count += usize::from(fits);
        fits
    }
}

impl RedisTickets {
    /// Tickets that are kept there.
    pub fn new(redis: Arc<Redis>) -> Self {
        Self { redis, issued: Mutex::new(Issued { since: Instant::now(), count: 0 }) }
    }

    fn key(&self, text: &str) -> String {
        let hash = URL_SAFE_NO_PAD.encode(Sha256::digest(text));
        self.redis.keys().named(&format!("ticket:{hash}"))
    }
}

#[async_trait::async_trait]
impl Tickets for RedisTickets {
    async fn issue(&self, claims: Claims) -> Result<Ticket, TicketError> {
        let may = self.issued.lock().unwrap_or_else(PoisonError::into_inner).one_more(Instant::now());
        if !may {
            return Err(TicketError::Overloaded);
        }
        let expires_in = claims.ticket_life(Timestamp::now());
        let text = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        // One that is over when it begins is nowhere: Redis knows no life of zero.
        if expires_in.as_millis() > 0 {
            let kept = serde_json::to_string(&Kept::from(claims)).map_err(|_| TicketError::Unavailable)?;
            let connection = self.redis.connection().map_err(|_| TicketError::Unavailable)?;
            let set = connection.set_new(self.key(&text), kept, expires_in).await;
            if !set.map_err(|_| TicketError::Unavailable)? {
                return Err(TicketError::Unavailable);
            }
        }
        Ok(Ticket { text: Secret::new(text), expires_in })
    }

    async fn redeem(&self, text: &str) -> Result<Option<Claims>, TicketError> {
        let connection = self.redis.connection().map_err(|_| TicketError::Unavailable)?;
        let kept = connection.take(self.key(text)).await.map_err(|_| TicketError::Unavailable)?;
        // What another release wrote in another way opens nothing.
        Ok(kept.and_then(|kept| serde_json::from_str::<Kept>(&kept).ok()).and_then(Kept::claims))
    }
}

/// Claims as they are kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<UserId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external: Option<(String, String)>,
    issuer: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
}

impl From<Claims> for Kept {
    fn from(claims: Claims) -> Self {
        let Claims { subject, issuer, name, expires_at, issued_at, jti } = claims;
        let (user, external) = match subject {
            Subject::Id(id) => (Some(id), None),
            Subject::External { issuer, id } => (None, Some((issuer, id))),
        };
        let milliseconds = |moment: Timestamp| moment.0;
        Self {
            user,
            external,
            issuer,
            name,
            expires_at: expires_at.map(milliseconds),
            issued_at: issued_at.map(milliseconds),
            jti,
        }
    }
}

impl Kept {
    fn claims(self) -> Option<Claims> {
        let subject = match (self.user, self.external) {
            (Some(id), None) => Subject::Id(id),
            (None, Some((issuer, id))) => Subject::External { issuer, id },
            _ => return None,
        };
        Some(Claims {
            subject,
            issuer: self.issuer,
            name: self.name,
            expires_at: self.expires_at.map(Timestamp),
            issued_at: self.issued_at.map(Timestamp),
            jti: self.jti,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn claims_come_back_as_they_were_kept() {
        let external = Subject::External { issuer: "https://id.test".into(), id: "ü-1".into() };
        for subject in [Subject::Id(UserId::new(7).unwrap()), external] {
            let claims = Claims {
                subject,
                issuer: "https://id.test".into(),
                name: Some("gargi".into()),
                expires_at: Some(Timestamp(1_700_000_000_999)),
                issued_at: None,
                jti: Some("j".into()),
            };
            let kept = serde_json::to_string(&Kept::from(claims.clone())).unwrap();
            assert_eq!(serde_json::from_str::<Kept>(&kept).unwrap().claims(), Some(claims));
        }
        assert_eq!(serde_json::from_str::<Kept>(r#"{"issuer":""}"#).unwrap().claims(), None, "for nobody");
    }

    #[test]
    fn a_process_issues_so_many_within_the_life_of_one() {
        let now = Instant::now();
        let mut issued = Issued { since: now, count: TICKETS_MAX - 1 };
        assert!(issued.one_more(now));
        assert!(!issued.one_more(now + TICKET_LIFE - Duration::from_millis(1)));
        assert!(issued.one_more(now + TICKET_LIFE));
        assert_eq!(issued.count, 1);
    }
}
