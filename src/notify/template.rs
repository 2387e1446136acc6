//! The subject and the text of a mail, as protocol.md section 6 writes them. Pure.
//!
//! Names and contents are what strangers typed. A name is cut to one plain line; a content keeps its lines
//! and its letters, loses control characters, and cannot turn what follows it around (bidi controls).

use std::fmt::Write;

use unicode_segmentation::UnicodeSegmentation;

use crate::domain::Secret;

/// The most quotes in one mail; what is beyond is counted (`… and 5 more`).
pub const QUOTES_MAX: usize = 20;
/// The most characters (Unicode scalar values) of one quote; a longer one ends in `…`.
pub const QUOTE_CHARS_MAX: usize = 1_000;
/// The most characters of a name; a longer one ends in `…`.
pub const NAME_CHARS_MAX: usize = 100;

/// What of a message a mail may show (`notify.email.content`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContentPolicy {
    /// The messages are quoted.
    #[default]
    Text,
    /// The messages are left out: the mail says from whom and how many.
    None,
}

/// One message in a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quote {
    /// Who wrote it; shown in groups only.
    pub sender_name: String,
    /// What was written.
    pub text: Secret<String>,
}

/// What a mail about one conversation says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Whom it greets.
    pub recipient_name: String,
    /// Who wrote, in a conversation of two; not shown for a group.
    pub sender_name: String,
    /// The messages, oldest first; the first [`QUOTES_MAX`] are shown.
    pub quotes: Vec<Quote>,
    /// How many messages wait; counted as at least the number of quotes.
    pub count: usize,
    /// The group's name, for a group.
    pub group: Option<String>,
    /// Whether the messages are shown.
    pub content: ContentPolicy,
    /// Where the chat is opened (`http.public_url`), where that is known.
    pub public_url: Option<String>,
}

impl Letter {
    /// `New message from user2`, or `New message in GROUP`.
    pub fn subject(&self) -> String {
        format!("New message {}", self.origin())
    }

    /// The text, lines ended by `\n`, without one at the end.
    ///
    /// With a public URL, the URL stands on a line of its own after `Open the chat to reply.`: mail
    /// programs make it a link, and the text above it stays that of protocol.md. With
    /// [`ContentPolicy::None`] the sentence ends in a full stop in place of the colon and the quotes.
    pub fn text(&self) -> String {
        let count = self.count.max(self.quotes.len());
        let quoted = self.content == ContentPolicy::Text && !self.quotes.is_empty();
        let mut text = format!("Hi {},\n\nYou have ", name_or(&self.recipient_name, "there"));
        // Writing to a String cannot fail.
        let _ = match count {
            0 | 1 => write!(text, "a new message"),
            _ => write!(text, "{count} new messages"),
        };
        let _ = write!(text, " {}{}\n\n", self.origin(), if quoted { ':' } else { '.' });
        if quoted {
            self.write_quotes(&mut text, count);
        }
        text.push_str("Open the chat to reply.");
        if let Some(url) = &self.public_url {
            text.push('\n');
            text.extend(url.chars().filter(|c| !c.is_control()));
        }
        text
    }

    fn origin(&self) -> String {
        match &self.group {
            Some(group) => format!("in {}", name_or(group, "a group")),
            None => format!("from {}", name_or(&self.sender_name, "somebody")),
        }
    }

    fn write_quotes(&self, text: &mut String, count: usize) {
        let shown = &self.quotes[..self.quotes.len().min(QUOTES_MAX)];
        for quote in shown {
            if self.group.is_some() {
                text.push_str(&name_or(&quote.sender_name, "somebody"));
                text.push_str(": ");
            }
            let _ = write!(text, "\"{}\"\n\n", plain_text(quote.text.expose()));
        }
        if count > shown.len() {
            let _ = write!(text, "… and {} more\n\n", count - shown.len());
        }
    }
}

/// A name as one plain line: white space and control characters become single spaces, formatting
/// characters that turn or hide text go, and it is cut to [`NAME_CHARS_MAX`]. May be empty.
pub(super) fn plain_name(name: &str) -> String {
    let visible: String = name
        .chars()
        .filter(|c| !turns_or_hides(*c))
        .map(|c| if c.is_control() || c.is_whitespace() { ' ' } else { c })
        .collect();
    let line = visible.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    cut(&line, NAME_CHARS_MAX)
}

fn name_or(name: &str, fallback: &str) -> String {
    let name = plain_name(name);
    if name.is_empty() { fallback.to_owned() } else { name }
}

/// A content with `\n` as its only line end, without control characters, cut, and its bidi controls closed.
fn plain_text(content: &str) -> String {
    let lines = content.replace("\r\n", "\n").replace('\r', "\n");
    let kept: String = lines.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
    close_bidi(&cut(&kept, QUOTE_CHARS_MAX))
}

/// At most `chars_max` characters, cut between two graphemes where there is such a place, then `…`.
fn cut(text: &str, chars_max: usize) -> String {
    let Some((end, _)) = text.char_indices().nth(chars_max) else {
        return text.to_owned();
    };
    let boundary = text.grapheme_indices(true).map(|(at, _)| at).take_while(|at| *at <= end).last();
    let end = boundary.filter(|at| *at > 0).unwrap_or(end);
    format!("{}…", &text[..end])
}

/// Bidi controls (UAX #9 section 2), and characters that show nothing: BOM, soft hyphen, zero-width space.
fn turns_or_hides(c: char) -> bool {
    matches!(
        c,
        '\u{61C}' | '\u{200B}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'
            | '\u{2066}'..='\u{2069}' | '\u{AD}' | '\u{FEFF}'
    )
}

/// Closes what a line's bidi controls leave open and drops closers of what was never opened, so that the
/// quotation mark and all that follows keep their direction (UAX #9: a paragraph's end closes the rest).
fn close_bidi(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut open: Vec<char> = Vec::new();
    for c in text.chars() {
        match c {
            '\u{202A}' | '\u{202B}' | '\u{202D}' | '\u{202E}' => open.push('\u{202C}'),
            '\u{2066}'..='\u{2068}' => open.push('\u{2069}'),
            '\u{202C}' if open.last() == Some(&'\u{202C}') => {
                open.pop();
            }
            '\u{2069}' if open.contains(&'\u{2069}') => {
                // An isolate's end also ends the embeddings inside of it.
                while open.pop().is_some_and(|closer| closer != '\u{2069}') {}
            }
            '\u{202C}' | '\u{2069}' => continue,
            '\n' => out.extend(open.drain(..).rev()),
            _ => {}
        }
        out.push(c);
    }
    out.extend(open.drain(..).rev());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(contents: &[&str]) -> Letter {
        Letter {
            recipient_name: "user3".into(),
            sender_name: "user2".into(),
            quotes: contents
                .iter()
                .map(|text| Quote { sender_name: "user2".into(), text: Secret::new((*text).into()) })
                .collect(),
            count: contents.len(),
            group: None,
            content: ContentPolicy::Text,
            public_url: None,
        }
    }

    #[test]
    fn one_message_reads_as_the_protocol_writes_it() {
        let letter = letter(&["Hello"]);
        assert_eq!(letter.subject(), "New message from user2");
        assert_eq!(
            letter.text(),
            "Hi user3,\n\nYou have a new message from user2:\n\n\"Hello\"\n\nOpen the chat to reply."
        );
    }

    #[test]
    fn several_messages_are_one_mail_with_each_quoted() {
        let letter = letter(&["Hello", "Are you\nthere?", "Bye"]);
        assert_eq!(letter.subject(), "New message from user2");
        assert_eq!(
            letter.text(),
            "Hi user3,\n\nYou have 3 new messages from user2:\n\n\"Hello\"\n\n\"Are you\nthere?\"\n\n\
             \"Bye\"\n\nOpen the chat to reply."
        );
    }

    #[test]
    fn without_content_the_mail_says_from_whom_and_how_many() {
        let mut letter = letter(&["Hello", "Bye"]);
        letter.content = ContentPolicy::None;
        assert_eq!(
            letter.text(),
            "Hi user3,\n\nYou have 2 new messages from user2.\n\nOpen the chat to reply."
        );
        letter.quotes.clear();
        letter.count = 1;
        assert_eq!(
            letter.text(),
            "Hi user3,\n\nYou have a new message from user2.\n\nOpen the chat to reply."
        );
    }

    #[test]
    fn a_group_is_named_and_so_is_each_writer() {
        let mut letter = letter(&["Hello", "Hi"]);
        letter.group = Some("Book club".into());
        letter.quotes[1].sender_name = "user4".into();
        assert_eq!(letter.subject(), "New message in Book club");
        assert_eq!(
            letter.text(),
            "Hi user3,\n\nYou have 2 new messages in Book club:\n\nuser2: \"Hello\"\n\nuser4: \"Hi\"\n\n\
             Open the chat to reply."
        );
        letter.quotes.truncate(1);
        letter.count = 1;
        assert!(letter.text().contains("You have a new message in Book club:\n\nuser2: \"Hello\"\n\n"));
        letter.content = ContentPolicy::None;
        assert!(letter.text().contains("You have a new message in Book club.\n\nOpen"));
    }

    #[test]
    fn the_public_url_follows_on_its_own_line() {
        let mut letter = letter(&["Hello"]);
        let bare = letter.text();
        letter.public_url = Some("https://chat.example.test/".into());
        assert_eq!(letter.text(), format!("{bare}\nhttps://chat.example.test/"));
    }

    #[test]
    fn a_long_pile_is_counted_and_a_long_quote_is_cut() {
        let mut letter = letter(&["x"; 25]);
        letter.count = 30;
        let text = letter.text();
        assert!(text.contains("You have 30 new messages from user2:"));
        assert_eq!(text.matches("\"x\"").count(), QUOTES_MAX);
        assert!(text.ends_with("\"x\"\n\n… and 10 more\n\nOpen the chat to reply."));

        let exact = "y".repeat(QUOTE_CHARS_MAX);
        assert_eq!(plain_text(&exact), exact);
        assert_eq!(plain_text(&format!("{exact}z")), format!("{exact}…"));
    }

    #[test]
    fn a_cut_does_not_tear_a_grapheme_unless_it_is_endless() {
        let family = "👨‍👩‍👧";
        let text = format!("{}{family}", "a".repeat(QUOTE_CHARS_MAX - 2));
        assert_eq!(plain_text(&text), format!("{}…", "a".repeat(QUOTE_CHARS_MAX - 2)));
        let endless = format!("e{}", "\u{301}".repeat(5_000));
        assert_eq!(plain_text(&endless).chars().count(), QUOTE_CHARS_MAX + 1);
    }

    #[test]
    fn a_hostile_name_stays_one_plain_line() {
        let mut letter = letter(&["Hello"]);
        letter.sender_name = "  Eve\r\nBcc: all@example.test\u{0}\u{2028}\u{202E}x\u{2069}\t ".into();
        letter.recipient_name = "\u{200B}\u{7F}\u{FEFF}".into();
        assert_eq!(letter.subject(), "New message from Eve Bcc: all@example.test x");
        assert!(letter.text().starts_with("Hi there,\n\nYou have a new message from Eve Bcc: "));
        letter.sender_name = "n".repeat(500);
        assert_eq!(letter.subject(), format!("New message from {}…", "n".repeat(NAME_CHARS_MAX)));
        letter.sender_name = String::new();
        assert_eq!(letter.subject(), "New message from somebody");
    }

    #[test]
    fn names_in_any_script_stay_as_they_are() {
        for name in ["Zoë", "李小龙", "עִבְרִית", "مرحبا", "👩‍🚀 Ana", "नमस्ते"]
        {
            assert_eq!(plain_name(name), name);
        }
    }

    #[test]
    fn a_content_keeps_its_lines_and_loses_control_characters() {
        assert_eq!(plain_text("a\r\nb\rc\n\td\u{0}\u{1B}[31m\u{85}e"), "a\nb\nc\n\td[31me");
        assert_eq!(plain_text("ünï \"quoted\" .\n."), "ünï \"quoted\" .\n.");
    }

    #[test]
    fn bidi_controls_of_a_content_end_with_its_line() {
        assert_eq!(close_bidi("a\u{202E}b"), "a\u{202E}b\u{202C}");
        assert_eq!(
            close_bidi("\u{2067}a\u{202A}b\nc\u{2068}d"),
            "\u{2067}a\u{202A}b\u{202C}\u{2069}\nc\u{2068}d\u{2069}"
        );
        assert_eq!(close_bidi("a\u{2069}\u{202C}b"), "ab");
        let whole = "\u{2067}a\u{202B}b\u{2069}c \u{202D}d\u{202C}e";
        assert_eq!(close_bidi(whole), whole);
        // A closer of an embedding does not reach through an isolate.
        assert_eq!(close_bidi("\u{202E}\u{2066}x\u{202C}"), "\u{202E}\u{2066}x\u{2069}\u{202C}");
    }
}
