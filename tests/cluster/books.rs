//! What has to be true in the end, of everything that can be looked at: what each device saw, history as REST
//! tells it and as it lies in the database, and the mails. Pure, so that it can be shown to find what is wrong.

use std::collections::{BTreeMap, HashMap, HashSet};

use chatd::cli::bench::verdict::Fault;
use chatd::domain::{ConversationId, MessageId, Seq};

use crate::judge::{Orders, Seen, Trace};

/// A row of history as it lies in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub conversation: ConversationId,
    pub seq: Seq,
    pub id: MessageId,
    /// Log number and partition.
    pub log: (i32, i32),
    pub offset: i64,
    pub content: String,
}

/// A message that was accepted for somebody who is away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Away {
    pub conversation: ConversationId,
    pub id: MessageId,
    /// Whose mail it is to be in.
    pub address: String,
    /// Different for each.
    pub content: String,
}

/// A mail as the server got it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailed {
    pub message_id: String,
    pub address: String,
    /// The messages that stand in it.
    pub quotes: Vec<String>,
    /// Messages that it only counts.
    pub uncounted: usize,
}

/// Everything that can be looked at.
#[derive(Debug, Clone, Default)]
pub struct Books {
    /// What devices saw, and readers of the history through REST.
    pub trace: Trace,
    pub stored: Vec<Stored>,
    pub away: Vec<Away>,
    pub mailed: Vec<Mailed>,
    /// A process died that might have had a mail in hand: it may come twice, under one Message-ID.
    pub may_repeat_mails: bool,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// With what devices saw.
    Seen(&'static str, String),
    /// A conversation with a seq that nobody has.
    SeqMissing(ConversationId),
    /// A device holds a conversation otherwise than history does.
    Differs(u32, ConversationId),
    /// Accepted, and not in history.
    NotStored(MessageId),
    /// In history under two places.
    StoredTwice(MessageId),
    /// In history, and nobody sent it.
    Foreign(MessageId),
    /// A conversation that is not in the order of its logs, or of several partitions of one.
    NotInLogOrder(ConversationId),
    /// Somebody who was away was not told of all messages.
    NotMailed(String, usize),
    /// A message in two mails, or one mail twice though nobody died.
    MailedTwice(String),
    /// A mail to somebody who was there, or about what nobody wrote.
    MailedForNothing(String),
}

/// Whether a row's place in its log lies behind that of the row before it; a later log lies behind it whole.
fn is_behind(one: &Stored, next: &Stored) -> bool {
    one.log.0 < next.log.0 || (one.log == next.log && one.offset < next.offset)
}

impl Books {
    /// All that is wrong; nothing where every promise was kept.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        self.judge_devices(&mut findings);
        self.judge_history(&mut findings);
        self.judge_mails(&mut findings);
        findings
    }

    /// Panics unless all is well.
    #[track_caller]
    pub fn assert_kept(&self) {
        let verdict = self.trace.verdict();
        let (away, mails) = (self.away.len(), self.mailed.len());
        println!("  {verdict}; {away} to those away, in {mails} mails; {} stored", self.stored.len());
        let findings = self.findings();
        let some = &findings[..findings.len().min(10)];
        assert!(findings.is_empty(), "{} findings: {some:#?}", findings.len());
    }

    fn judge_devices(&self, findings: &mut Vec<Finding>) {
        let verdict = self.trace.verdict();
        let mut see = |name, is_so: bool| {
            if is_so {
                findings.push(Finding::Seen(name, verdict.to_string()));
            }
        };
        Fault::ALL.iter().for_each(|fault| see(fault.name(), verdict.count(*fault) > 0));
        see("a gap was not fetched", verdict.unfetched > 0);
        see("rejected", verdict.rejected > 0);
        see("not accepted in the end", verdict.sent != verdict.accepted);
        let stored = self.orders();
        let mut held: HashMap<u32, Orders> = HashMap::new();
        for seen in &self.trace.seen {
            if let Seen::Message(device, conversation, seq, id) = seen {
                held.entry(device.0).or_default().entry(*conversation).or_default().insert(*seq, *id);
            }
        }
        for (device, conversation) in &self.trace.watchers {
            let held = held.get(&device.0).and_then(|held| held.get(conversation));
            if held != stored.get(conversation) {
                findings.push(Finding::Differs(device.0, *conversation));
            }
        }
    }

    fn judge_history(&self, findings: &mut Vec<Finding>) {
        let mut sent: HashSet<MessageId> = self.away.iter().map(|away| away.id).collect();
        let mut accepted = sent.clone();
        for seen in &self.trace.seen {
            match seen {
                Seen::Sent(_, _, id) => drop(sent.insert(*id)),
                Seen::Accepted(id, _) => drop(accepted.insert(*id)),
                _ => {}
            }
        }
        let mut ids = HashSet::new();
        for row in &self.stored {
            if !ids.insert(row.id) {
                findings.push(Finding::StoredTwice(row.id));
            }
            if !sent.contains(&row.id) {
                findings.push(Finding::Foreign(row.id));
            }
        }
        findings.extend(accepted.difference(&ids).map(|id| Finding::NotStored(*id)));
        let mut conversations: BTreeMap<ConversationId, Vec<&Stored>> = BTreeMap::new();
        self.stored.iter().for_each(|row| conversations.entry(row.conversation).or_default().push(row));
        for (conversation, mut rows) in conversations {
            rows.sort_by_key(|row| row.seq);
            if !rows.iter().map(|row| row.seq.0).eq(1..=rows.len() as i64) {
                findings.push(Finding::SeqMissing(conversation));
            }
            if !rows.is_sorted_by(|one, next| is_behind(one, next)) {
                findings.push(Finding::NotInLogOrder(conversation));
            }
        }
    }

    fn judge_mails(&self, findings: &mut Vec<Finding>) {
        let mut names = HashSet::new();
        let mut told: HashMap<&str, usize> = HashMap::new();
        let mut quoted = HashSet::new();
        let away: HashSet<(&str, &str)> =
            self.away.iter().map(|away| (away.address.as_str(), away.content.as_str())).collect();
        for mail in &self.mailed {
            if !names.insert(&mail.message_id) {
                if !self.may_repeat_mails {
                    findings.push(Finding::MailedTwice(mail.address.clone()));
                }
                continue;
            }
            *told.entry(&mail.address).or_default() += mail.quotes.len() + mail.uncounted;
            let owes = |quote: &&String| away.contains(&(mail.address.as_str(), quote.as_str()));
            let strange: Vec<&String> = mail.quotes.iter().filter(|quote| !owes(quote)).collect();
            if let Some(first) = strange.first() {
                let what =
                    format!("{}: {} messages from {first}", mail.address, strange.len() + mail.uncounted);
                findings.push(Finding::MailedForNothing(what));
            }
            for quote in &mail.quotes {
                if !quoted.insert((&mail.address, quote)) {
                    findings.push(Finding::MailedTwice(format!("{}: {quote}", mail.address)));
                }
            }
        }
        let mut owed: HashMap<&str, usize> = HashMap::new();
        self.away.iter().for_each(|away| *owed.entry(&away.address).or_default() += 1);
        for (address, owed) in &owed {
            let told = told.get(address).copied().unwrap_or(0);
            if told < *owed {
                findings.push(Finding::NotMailed((*address).to_owned(), owed - told));
            }
            if told > *owed {
                findings.push(Finding::MailedTwice(format!("{address}: {told} in place of {owed}")));
            }
        }
        let strange = told.keys().filter(|address| !owed.contains_key(*address));
        findings.extend(strange.map(|address| Finding::MailedForNothing((*address).to_owned())));
    }

    /// Each conversation as it lies in the database.
    fn orders(&self) -> Orders {
        let mut orders = Orders::new();
        for row in &self.stored {
            orders.entry(row.conversation).or_default().insert(row.seq, row.id);
        }
        orders
    }
}
