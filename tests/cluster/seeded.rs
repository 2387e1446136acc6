//! Shows that the books find what is wrong: a run in which all is well, and each fault put into it.

use chatd::cli::bench::checker::Device;
use chatd::domain::{ClientId, ConversationId, MessageId, Seq, UserId};

use crate::books::{Away, Books, Finding, Mailed, Stored};
use crate::judge::{Seeded, Seen, Trace};

fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

/// Two people with three devices who write 12 messages each, and two who are away.
fn well() -> Books {
    let mut books = Books::default();
    let conversation = ConversationId::dm(user(1), user(2)).unwrap();
    let devices = [1, 2, 100_001].map(Device);
    let seen = &mut books.trace.seen;
    seen.extend(devices.map(Seen::Connected));
    let mut answers = Vec::new();
    for number in 0..24 {
        let (device, sender) = [(devices[0], 1), (devices[1], 2)][number % 2];
        let client_id = ClientId::new(format!("m{number}")).unwrap();
        let id = MessageId::derive(conversation, user(sender), &client_id);
        let seq = Seq(number as i64 + 1);
        seen.push(Seen::Sent(device, conversation, id));
        answers.push(Seen::Accepted(id, None));
        answers.extend(devices.map(|device| Seen::Message(device, conversation, seq, id)));
        books.stored.push(row(conversation, seq, id, 3, 2 * number as i64));
    }
    seen.append(&mut answers);
    books.trace.watchers = devices.map(|device| (device, conversation)).to_vec();
    for absent in [901, 902] {
        let conversation = ConversationId::dm(user(800), user(absent)).unwrap();
        let address = format!("user{absent}@example.test");
        for number in 0..4 {
            let id =
                MessageId::derive(conversation, user(800), &ClientId::new(format!("n{number}")).unwrap());
            let content = format!("note {number} to {absent}");
            books.stored.push(row(conversation, Seq(number + 1), id, 1, 10 * absent + number));
            books.away.push(Away { conversation, id, address: address.clone(), content });
        }
        let quotes = |range: std::ops::Range<i32>| {
            range.map(|number| format!("note {number} to {absent}")).collect::<Vec<_>>()
        };
        let mail = |name: &str, quotes: Vec<String>, uncounted| Mailed {
            message_id: format!("{name}.{absent}@example.test"),
            address: address.clone(),
            quotes,
            uncounted,
        };
        books.mailed.push(mail("one", quotes(0..1), 0));
        books.mailed.push(mail("two", quotes(1..3), 1));
    }
    books
}

fn row(conversation: ConversationId, seq: Seq, id: MessageId, partition: i32, offset: i64) -> Stored {
    Stored { conversation, seq, id, log: (1, partition), offset, content: String::new() }
}

fn is_seen(finding: &Finding, fault: &str) -> bool {
    matches!(finding, Finding::Seen(name, _) if *name == fault)
}

/// The fault is found, and was not there before.
#[track_caller]
fn assert_found(fault: impl FnOnce(&mut Books), is_it: impl Fn(&Finding) -> bool) {
    let mut books = well();
    fault(&mut books);
    let findings = books.findings();
    assert!(findings.iter().any(is_it), "{findings:?}");
}

#[test]
fn where_all_is_well_nothing_is_found() {
    assert_eq!(well().findings(), []);
}

#[test]
fn what_devices_saw_is_judged() {
    for (seeded, fault) in Seeded::ALL {
        assert_found(
            |books| books.trace = seeded.put_into(&books.trace),
            |finding| is_seen(finding, fault.name()),
        );
    }
}

#[test]
fn a_device_that_holds_another_order_is_found() {
    let swap = |books: &mut Books| {
        // Whole and in order of seq by itself, with two messages in each other's place.
        let messages: Vec<usize> = (0..books.trace.seen.len())
            .filter(|place| matches!(&books.trace.seen[*place], Seen::Message(Device(2), ..)))
            .collect();
        let (one, other) = (messages[3], messages[4]);
        let id = |trace: &Trace, place: usize| match trace.seen[place] {
            Seen::Message(.., id) => id,
            _ => unreachable!(),
        };
        let ids = (id(&books.trace, one), id(&books.trace, other));
        for (place, new) in [(one, ids.1), (other, ids.0)] {
            if let Seen::Message(.., id) = &mut books.trace.seen[place] {
                *id = new;
            }
        }
    };
    assert_found(swap, |finding| matches!(finding, Finding::Differs(2, _)));
    assert_found(swap, |finding| is_seen(finding, "two_ids"));
}

#[test]
fn what_is_missing_in_the_database_is_found() {
    // The last of a conversation leaves no hole behind.
    let last = |books: &mut Books| drop(books.stored.remove(23));
    assert_found(last, |finding| matches!(finding, Finding::NotStored(_)));
    assert_found(last, |finding| matches!(finding, Finding::Differs(..)));
    let middle = |books: &mut Books| drop(books.stored.remove(7));
    assert_found(middle, |finding| matches!(finding, Finding::SeqMissing(_)));
    // One to somebody who was away, whom no device of ours watches.
    let away = |books: &mut Books| drop(books.stored.pop());
    assert_found(away, |finding| matches!(finding, Finding::NotStored(_)));
}

#[test]
fn what_is_too_much_in_the_database_is_found() {
    let twice = |books: &mut Books| {
        let again = Stored { seq: Seq(25), offset: 999, ..books.stored[5].clone() };
        books.stored.push(again);
    };
    assert_found(twice, |finding| matches!(finding, Finding::StoredTwice(_)));
    let foreign = |books: &mut Books| {
        let id = MessageId::derive(books.stored[5].conversation, user(7), &ClientId::new("x").unwrap());
        books.stored.push(Stored { id, seq: Seq(25), offset: 999, ..books.stored[5].clone() });
    };
    assert_found(foreign, |finding| matches!(finding, Finding::Foreign(_)));
}

#[test]
fn a_gap_in_seq_that_everybody_sees_is_found() {
    let shift = |books: &mut Books| {
        let moved = |seq: &mut Seq| seq.0 += i64::from(seq.0 > 10);
        books.stored[..24].iter_mut().for_each(|row| moved(&mut row.seq));
        for seen in &mut books.trace.seen {
            if let Seen::Message(_, _, seq, _) = seen {
                moved(seq);
            }
        }
    };
    assert_found(shift, |finding| matches!(finding, Finding::SeqMissing(_)));
    assert_found(shift, |finding| is_seen(finding, "holes"));
}

#[test]
fn history_in_another_order_than_its_log_is_found() {
    assert_found(|books| books.stored[5].offset = 100, |f| matches!(f, Finding::NotInLogOrder(_)));
    assert_found(|books| books.stored[5].log.1 = 4, |f| matches!(f, Finding::NotInLogOrder(_)));
}

#[test]
fn mails_that_are_missing_are_found() {
    let is_missing =
        |count| move |f: &Finding| matches!(f, Finding::NotMailed(_, missing) if *missing == count);
    assert_found(|books| drop(books.mailed.remove(0)), is_missing(1));
    assert_found(|books| drop(books.mailed.remove(1)), is_missing(3));
    assert_found(|books| drop(books.mailed[1].quotes.pop()), is_missing(1));
    assert_found(|books| books.mailed.clear(), is_missing(4));
}

#[test]
fn mails_that_are_too_many_are_found() {
    let is_twice = |finding: &Finding| matches!(finding, Finding::MailedTwice(_));
    let again = |books: &mut Books| books.mailed.push(books.mailed[0].clone());
    assert_found(again, is_twice);
    // Allowed to somebody who died with a mail in hand, under the same name only.
    let mut books = well();
    books.may_repeat_mails = true;
    again(&mut books);
    assert_eq!(books.findings(), []);
    let renamed = |books: &mut Books| {
        books.may_repeat_mails = true;
        let mail = Mailed { message_id: "three".to_owned(), ..books.mailed[0].clone() };
        books.mailed.push(mail);
    };
    assert_found(renamed, is_twice);
    assert_found(|books| books.mailed[1].uncounted = 2, is_twice);
    let for_nothing = |finding: &Finding| matches!(finding, Finding::MailedForNothing(_));
    let to_one_who_is_there = |books: &mut Books| {
        let address = "user1@example.test".to_owned();
        books.mailed.push(Mailed { address, message_id: "four".to_owned(), ..books.mailed[0].clone() });
    };
    assert_found(to_one_who_is_there, for_nothing);
    assert_found(|books| books.mailed[0].quotes[0] = "never written".to_owned(), for_nothing);
}
