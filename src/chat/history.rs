//! Reading a conversation. Fetching confirms: what a member read here needs no mail.

use super::Member;
use super::receipts;
use crate::app::App;
use crate::domain::{Error, Event, EventBody, Seq};
use crate::storage::{Page, PageOf};

/// Events between the messages of a page that are looked at: more than so many edits between two messages leave what
/// lies behind them unconfirmed.
const BETWEEN_MAX: u32 = 200;

/// The events of a member's conversation after a seq, every one.
pub async fn events(app: &App, member: Member, after: Seq, limit: u32) -> Result<PageOf<Event>, Error> {
    let found = app.storage.events(member.conversation(), after, limit).await?;
    if let (Some(first), Some(last)) = (found.rows.first(), found.rows.last()) {
        receipts::delivered(app, member, first.seq, last.seq);
    }
    Ok(found)
}

/// A page of the messages of a member's conversation, as they are now.
pub async fn messages(app: &App, member: Member, page: Page, limit: u32) -> Result<PageOf<Event>, Error> {
    let found = app.storage.messages(member.conversation(), page, limit).await?;
    for (from, to) in confirmed(app, member, &found.rows).await? {
        receipts::delivered(app, member, from, to);
    }
    Ok(found)
}

/// Which seqs a page of messages shows, as ranges: those of the messages, and between them those of the changes that
/// made them what they are. A change of a message outside of the page is not shown, and stays to be delivered.
async fn confirmed(app: &App, member: Member, rows: &[Event]) -> Result<Vec<(Seq, Seq)>, Error> {
    let mut seqs: Vec<i64> = rows.iter().map(|event| event.seq.0).collect();
    let (Some(&first), Some(&last)) = (seqs.iter().min(), seqs.iter().max()) else { return Ok(Vec::new()) };
    let count = last - first + 1;
    if i64::try_from(seqs.len()).ok() != Some(count) {
        let limit = u32::try_from(count).unwrap_or(BETWEEN_MAX).min(BETWEEN_MAX);
        let between = app.storage.events(member.conversation(), Seq(first - 1), limit).await?;
        let is_shown = |event: &&Event| match &event.body {
            EventBody::Message(_) => false,
            EventBody::Edited { target, .. } | EventBody::Deleted { target } => {
                event.seq.0 < last && rows.iter().any(|row| row.id == *target)
            }
        };
        seqs.extend(between.rows.iter().filter(is_shown).map(|event| event.seq.0));
    }
    Ok(ranges(seqs))
}

/// Seqs without the holes between them.
fn ranges(mut seqs: Vec<i64>) -> Vec<(Seq, Seq)> {
    seqs.sort_unstable();
    let mut ranges: Vec<(Seq, Seq)> = Vec::new();
    for seq in seqs.into_iter().map(Seq) {
        match ranges.last_mut() {
            Some((_, to)) if to.next() == seq => *to = seq,
            _ => ranges.push((seq, seq)),
        }
    }
    ranges
}

/// The last seq of a member's conversation; 0 without events.
pub async fn last_seq(app: &App, member: Member) -> Result<Seq, Error> {
    Ok(app.storage.last_seq(member.conversation()).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_confirms_what_it_shows_and_no_hole() {
        let told = |seqs: &[i64]| -> Vec<(i64, i64)> {
            ranges(seqs.to_vec()).into_iter().map(|(from, to)| (from.0, to.0)).collect()
        };
        assert_eq!(told(&[]), []);
        assert_eq!(told(&[5, 4, 3]), [(3, 5)]);
        assert_eq!(told(&[9, 8, 5, 3, 4]), [(3, 5), (8, 9)]);
    }
}
