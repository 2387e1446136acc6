//! Adapter of [`Tickets`]: in the memory of one process. A redeeming node has to be the issuing one.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::{Claims, TICKET_LIFE, TICKETS_MAX, Ticket, TicketError, Tickets};
use crate::domain::{Secret, Timestamp};

/// Only the hash is kept: whoever reads the memory, or times a lookup, learns no ticket.
type Hash = [u8; 32];

/// The tickets of this process.
#[derive(Debug)]
pub struct MemoryTickets {
    table: Mutex<Table>,
}

impl MemoryTickets {
    /// A table that issues at most 100,000 tickets within 30 s.
    pub fn new() -> Self {
        Self { table: Mutex::new(Table::new(TICKETS_MAX)) }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing panics while it is held, and the table is valid between any two of its statements.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryTickets {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait::async_trait]
impl Tickets for MemoryTickets {
    async fn issue(&self, claims: Claims) -> Result<Ticket, TicketError> {
        let expires_in = claims.ticket_life(Timestamp::now());
        let text = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        self.table().insert(hash(&text), claims, expires_in, Instant::now())?;
        Ok(Ticket { text: Secret::new(text), expires_in })
    }

    async fn redeem(&self, text: &str) -> Result<Option<Claims>, TicketError> {
        Ok(self.table().take(&hash(text), Instant::now()))
    }
}

/// The table itself, told the time.
#[derive(Debug)]
struct Table {
    capacity: usize,
    live: HashMap<Hash, Entry>,
    /// Every ticket issued within the last [`TICKET_LIFE`], redeemed or not, the oldest first.
    issued: VecDeque<(Instant, Hash)>,
}

#[derive(Debug)]
struct Entry {
    claims: Claims,
    deadline: Instant,
}

impl Table {
    fn new(capacity: usize) -> Self {
        Self { capacity, live: HashMap::new(), issued: VecDeque::new() }
    }

    fn insert(
        &mut self,
        hash: Hash,
        claims: Claims,
        life: Duration,
        now: Instant,
    ) -> Result<(), TicketError> {
        while let Some((_, old)) =
            self.issued.pop_front_if(|(issued, _)| now.duration_since(*issued) >= TICKET_LIFE)
        {
            self.live.remove(&old);
        }
        if self.issued.len() >= self.capacity {
            return Err(TicketError::Overloaded);
        }
        self.issued.push_back((now, hash));
        self.live.insert(hash, Entry { claims, deadline: now + life });
        Ok(())
    }

    fn take(&mut self, hash: &Hash, now: Instant) -> Option<Claims> {
        self.live.remove(hash).filter(|entry| now < entry.deadline).map(|entry| entry.claims)
    }
}

fn hash(text: &str) -> Hash {
    Sha256::digest(text).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Subject;
    use crate::domain::UserId;

    fn claims(expires_at: Option<Timestamp>) -> Claims {
        Claims {
            subject: Subject::Id(UserId::new(2).unwrap()),
            issuer: String::new(),
            name: Some("gargi".into()),
            expires_at,
            issued_at: None,
            jti: None,
        }
    }

    fn in_seconds(seconds: u64) -> Claims {
        claims(Some(Timestamp::now().plus(Duration::from_secs(seconds))))
    }

    #[tokio::test]
    async fn a_ticket_opens_once_with_what_its_token_said() {
        let tickets = MemoryTickets::new();
        let mine = in_seconds(3600);
        let ticket = tickets.issue(mine.clone()).await.unwrap();
        assert_eq!(ticket.expires_in, Duration::from_secs(30));
        assert_eq!(tickets.redeem(ticket.text.expose()).await, Ok(Some(mine)));
        assert_eq!(tickets.redeem(ticket.text.expose()).await, Ok(None));
    }

    #[test]
    fn a_ticket_lives_thirty_seconds() {
        let (mut table, start) = (Table::new(9), Instant::now());
        for key in [1, 2] {
            table.insert([key; 32], claims(None), claims(None).ticket_life(Timestamp::now()), start).unwrap();
        }
        assert!(table.take(&[1; 32], start + Duration::from_millis(29_999)).is_some());
        assert_eq!(table.take(&[2; 32], start + Duration::from_secs(30)), None);
    }

    #[test]
    fn a_ticket_does_not_outlive_its_token() {
        let now = Timestamp(1_700_000_000_000);
        let expiry = |seconds: i64| Some(Timestamp(now.0 + seconds * 1000));
        let life_of = |seconds: i64| claims(expiry(seconds)).ticket_life(now).as_secs();
        assert_eq!([3600, 25, 10, 0, -4, -5, -60].map(life_of), [30, 30, 15, 5, 1, 0, 0]);

        let (mut table, start) = (Table::new(9), Instant::now());
        for key in [1, 2] {
            table.insert([key; 32], claims(None), Duration::from_secs(15), start).unwrap();
        }
        assert!(table.take(&[1; 32], start + Duration::from_millis(14_999)).is_some());
        assert_eq!(table.take(&[2; 32], start + Duration::from_secs(15)), None);
    }

    #[test]
    fn a_full_table_refuses_and_is_free_again_after_thirty_seconds() {
        let (mut table, start) = (Table::new(2), Instant::now());
        let insert = |table: &mut Table, key: u8, seconds: u64| {
            table.insert([key; 32], claims(None), TICKET_LIFE, start + Duration::from_secs(seconds))
        };
        assert_eq!(insert(&mut table, 1, 0), Ok(()));
        assert_eq!(insert(&mut table, 2, 1), Ok(()));
        assert_eq!(insert(&mut table, 3, 2), Err(TicketError::Overloaded));
        // A redeemed ticket still counts: the bound is on how fast they are made.
        assert!(table.take(&[1; 32], start).is_some());
        assert_eq!(insert(&mut table, 3, 29), Err(TicketError::Overloaded));
        assert_eq!(insert(&mut table, 3, 30), Ok(()));
        assert_eq!(insert(&mut table, 4, 30), Err(TicketError::Overloaded));
        assert_eq!(insert(&mut table, 4, 60), Ok(()));
        assert_eq!((table.live.len(), table.issued.len()), (1, 1));
    }

    #[tokio::test]
    async fn tickets_are_long_distinct_and_kept_as_hashes() {
        let tickets = MemoryTickets::new();
        let (a, b) = (tickets.issue(claims(None)).await.unwrap(), tickets.issue(claims(None)).await.unwrap());
        assert_ne!(a.text, b.text);
        assert_eq!(URL_SAFE_NO_PAD.decode(a.text.expose()).unwrap().len(), 32);
        assert!(!format!("{tickets:?}{a:?}").contains(a.text.expose().as_str()));
        assert!(tickets.table().live.contains_key(&hash(a.text.expose())));
    }

    #[tokio::test]
    async fn a_text_that_is_no_ticket_opens_nothing() {
        let tickets = MemoryTickets::new();
        let ticket = tickets.issue(claims(None)).await.unwrap();
        let longer = format!("{}=", ticket.text.expose());
        for text in ["", "x", "ü", longer.as_str(), &"A".repeat(100_000)] {
            assert_eq!(tickets.redeem(text).await, Ok(None));
        }
    }
}
