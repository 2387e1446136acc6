//! What became of a mail, for the story in the terminal and for metrics: no texts, no addresses.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use super::template::plain_name;

/// Counts what became of a mail: `sent`, `retried`, `failed`, `withdrawn` or `skipped`.
pub(super) fn count(outcome: &'static str) {
    metrics::counter!("chatd_mails_total", "outcome" => outcome).increment(1);
}

/// `ana's message, data/mail/….eml`, or `3 messages of ana, by smtp`.
pub(super) fn sent(sender_name: &str, count: u32, kept_at: Option<&Path>, channel: &str) -> String {
    let sender = plain_name(sender_name).to_lowercase();
    let mut told = match count {
        0 | 1 => format!("{sender}'s message, "),
        _ => format!("{count} messages of {sender}, "),
    };
    // Writing to a String cannot fail.
    let _ = match kept_at {
        Some(path) => write!(told, "{}", path.display()),
        None => write!(told, "by {channel}"),
    };
    told
}

/// `put off 30 s: 421`.
pub(super) fn put_off(after: Duration, reason: &str) -> String {
    format!("put off {}: {reason}", rough(after))
}

/// `not sent: no address`, from the reason that storage recorded.
pub(super) fn skipped(reason: &str) -> String {
    let why = match reason {
        "no_address" => "no address",
        "disabled" => "the user is disabled",
        "capped" => "enough mails in 24 hours",
        "too_old" => "overdue for too long",
        other => other,
    };
    format!("not sent: {why}")
}

fn rough(duration: Duration) -> String {
    match duration.as_secs() {
        0 => format!("{} ms", duration.as_millis()),
        seconds @ 1..120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_terminal_reads_in_a_line_what_became_of_a_mail() {
        let path = Path::new("data/mail/x.eml");
        assert_eq!(sent("Ana", 1, Some(path), "capture"), "ana's message, data/mail/x.eml");
        assert_eq!(sent("A\u{1b}[2J\nna", 3, None, "smtp"), "3 messages of a [2j na, by smtp");
        assert_eq!(put_off(Duration::from_secs(30), "421"), "put off 30 s: 421");
        assert_eq!(put_off(Duration::from_millis(250), "421"), "put off 250 ms: 421");
        assert_eq!(put_off(Duration::from_secs(3_600), "421"), "put off 60 min: 421");
        assert_eq!(skipped("no_address"), "not sent: no address");
    }
}
