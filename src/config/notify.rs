//! `[notify]`: when somebody who is away is told, and what an e-mail says.

use std::time::Duration;

use super::reader::Reader;
use super::value::Choice;

/// What of a message stands in a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmailContent {
    /// Its text.
    Text,
    /// Only that there is one, and from whom.
    None,
}

impl Choice for EmailContent {
    const ALL: &'static [(&'static str, Self)] = &[("text", Self::Text), ("none", Self::None)];
}

/// Settings of notifications.
#[derive(Debug, Clone)]
pub struct Notify {
    /// `notify.grace`: so long a device has to confirm before a mail is due. 10 s.
    pub grace: Duration,
    /// `notify.max_age`: what is overdue by more than this is not mailed any more. 24 h.
    pub max_age: Duration,
    /// `[notify.email]`.
    pub email: NotifyEmail,
}

/// Settings of e-mail notifications. The server and the sender are in [`super::Mail`].
#[derive(Debug, Clone)]
pub struct NotifyEmail {
    /// `notify.email.content`: `text` or `none`.
    pub content: EmailContent,
    /// `notify.email.min_interval`: between two mails about one conversation to one user; zero is no
    /// interval. 120 m under production rules, none in development.
    pub min_interval: Duration,
    /// `notify.email.per_day`: mails to one user in 24 hours; 0 is no cap. 50 under production rules, none
    /// in development.
    pub per_day: u32,
}

impl Notify {
    pub(super) fn read(r: &mut Reader<'_>) -> Self {
        const DAY: Duration = Duration::from_secs(86_400);
        let (min_interval, per_day) =
            if r.production() { (Duration::from_secs(7_200), 50) } else { (Duration::ZERO, 0) };
        let notify = Self {
            grace: r.within("notify.grace", Duration::from_secs(10), Duration::ZERO..=DAY),
            max_age: r.within("notify.max_age", DAY, Duration::from_secs(1)..=DAY * 30),
            email: NotifyEmail {
                content: r.get("notify.email.content", EmailContent::Text),
                min_interval: r.within("notify.email.min_interval", min_interval, Duration::ZERO..=DAY * 30),
                per_day: r.within("notify.email.per_day", per_day, 0..=100_000),
            },
        };
        if notify.max_age < notify.grace {
            let sentence = "notify.max_age is below notify.grace, so no mail could ever be sent: raise \
                            notify.max_age";
            r.problem("notify.max_age", sentence);
        }
        notify
    }
}
