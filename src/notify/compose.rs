//! What storage knows of a mail becomes the mail. Pure.

use super::template::{Letter, Quote};
use super::{Address, Mail, NotifySettings};
use crate::domain::{EmailAddress, EmailAddressError, Secret};
use crate::storage::{self, LeasedMail};

/// The mail that a letter of storage becomes: the same at each try, as long as nothing is confirmed meanwhile.
pub(super) fn compose(
    settings: &NotifySettings,
    leased: &LeasedMail,
    letter: storage::Letter,
) -> Result<Mail, EmailAddressError> {
    let to = Address::new(EmailAddress::new(letter.email)?, Some(&letter.recipient_name));
    let sender_name = letter.sender_name;
    let quote = |text| Quote { sender_name: sender_name.clone(), text: Secret::new(text) };
    let shown = Letter {
        recipient_name: letter.recipient_name,
        quotes: letter.contents.into_iter().map(quote).collect(),
        sender_name,
        count: letter.count as usize,
        group: None,
        content: settings.content,
        public_url: settings.public_url.clone(),
    };
    Ok(Mail {
        message_id: format!("{}@{}", leased.message_id, settings.from.email().domain()),
        from: settings.from.clone(),
        to,
        subject: shown.subject(),
        text: shown.text(),
        date: leased.created_at,
    })
}
