//! A mail as the bytes of RFC 5322 and MIME: the same for a server and for a folder.

use std::io;

use mail_send::mail_builder::MessageBuilder;
use mail_send::mail_builder::headers::address::Address as Mailbox;
use mail_send::mail_builder::headers::date::Date;
use mail_send::mail_builder::headers::raw::Raw;

use super::{Address, ChannelError, Mail};

/// The longest Message-ID taken, in octets; a header line has 998 (RFC 5322 section 2.1.1).
const MESSAGE_ID_MAX: usize = 250;

/// The whole message: header, empty line and text, lines ended by CRLF, all of it seven-bit ASCII.
///
/// # Errors
/// [`ChannelError::Permanent`] when the Message-ID is not `left@right` of characters that need no quoting.
pub(super) fn encode(mail: &Mail) -> Result<Vec<u8>, ChannelError> {
    if !is_message_id(&mail.message_id) {
        return Err(ChannelError::permanent("the Message-ID is not left@right"));
    }
    let subject: String = mail.subject.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    MessageBuilder::new()
        .from(mailbox(&mail.from))
        .to(mailbox(&mail.to))
        .subject(subject)
        .date(Date::new(mail.date.0.div_euclid(1_000)))
        .message_id(mail.message_id.as_str())
        // RFC 3834 section 5: keeps out-of-office programs from answering.
        .header("Auto-Submitted", Raw::new("auto-generated"))
        .text_body(mail.text.as_str())
        .write_to_vec()
        .map_err(|error: io::Error| ChannelError::temporary(format!("encoding: {}", error.kind())))
}

fn mailbox(address: &Address) -> Mailbox<'_> {
    Mailbox::new_address(address.name(), address.email().as_str())
}

/// RFC 5322 section 3.6.4, dot-atoms only.
fn is_message_id(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&b);
    let part = |s: &str| !s.is_empty() && s.bytes().all(allowed);
    text.len() <= MESSAGE_ID_MAX && text.split_once('@').is_some_and(|(l, r)| part(l) && part(r))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{EmailAddress, Timestamp};

    fn mail() -> Mail {
        Mail {
            message_id: "9c576241@chat.example.test".into(),
            from: Address::new(EmailAddress::new("chat@example.test").unwrap(), Some("chatd")),
            to: Address::new(EmailAddress::new("ana@example.test").unwrap(), Some("Zoë, \"A\"")),
            subject: "New message from Ana".into(),
            text: "Hi Ana,\n\n\"Hello\"".into(),
            date: Timestamp(1_700_000_000_120),
        }
    }

    fn text_of(mail: &Mail) -> String {
        String::from_utf8(encode(mail).unwrap()).unwrap()
    }

    #[test]
    fn a_plain_mail_is_these_bytes_at_every_try() {
        let expected = "From: \"chatd\" <chat@example.test>\r\n\
             To: =?utf-8?B?Wm/DqywgIkEi?= <ana@example.test>\r\n\
             Subject: New message from Ana\r\n\
             Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n\
             Message-ID: <9c576241@chat.example.test>\r\n\
             Auto-Submitted: auto-generated\r\n\
             MIME-Version: 1.0\r\n\
             Content-Type: text/plain; charset=\"utf-8\"\r\n\
             Content-Transfer-Encoding: 7bit\r\n\r\n\
             Hi Ana,\r\n\r\n\"Hello\"";
        assert_eq!(text_of(&mail()), expected);
        assert_eq!(encode(&mail()).unwrap(), encode(&mail()).unwrap());
    }

    #[test]
    fn a_subject_cannot_add_a_header() {
        let mut mail = mail();
        mail.subject = "Hi\r\nBcc: all@example.test".into();
        let text = text_of(&mail);
        assert!(!text.lines().any(|line| line.starts_with("Bcc")), "{text}");
        let head = text.split("\r\n\r\n").next().unwrap();
        assert_eq!(head.lines().filter(|line| !line.starts_with(' ')).count(), 9, "{text}");
    }

    #[test]
    fn any_text_becomes_short_seven_bit_lines() {
        let mut mail = mail();
        mail.subject = "ö".repeat(300);
        mail.text = format!(".\n..\n.a\nFrom me\n{}\nüñî 👩‍🚀\ntrailing \n", "x".repeat(5_000));
        let bytes = encode(&mail).unwrap();
        assert!(bytes.is_ascii());
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.split("\r\n").all(|line| line.len() <= 78 && !line.contains(['\r', '\n'])), "{text}");
    }

    #[test]
    fn a_message_id_that_could_break_the_header_is_refused() {
        let too_long = format!("{}@b", "a".repeat(250));
        for bad in ["", "a", "a@", "@b", "a@b>\r\nBcc: c@d", "<a@b>", "a b@c", "ä@b", "a@b@c", &too_long] {
            let mut mail = mail();
            mail.message_id = bad.to_owned();
            assert!(matches!(encode(&mail), Err(ChannelError::Permanent { .. })), "{bad}");
        }
    }
}
