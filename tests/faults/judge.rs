//! What clients saw, written down in order, and judged by the bench's checker. Written down, so that a run can
//! be judged once more with a fault put into it.

use std::collections::{BTreeMap, HashMap, HashSet};

use chatd::cli::bench::checker::{Checker, Device};
use chatd::cli::bench::verdict::{Fault, Verdict};
use chatd::domain::{ConversationId, MessageId, Seq};

/// Conversations, each with what is in it by seq.
pub type Orders = HashMap<ConversationId, BTreeMap<Seq, MessageId>>;

/// One thing that a client did or saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// A message went out, for the first time or again.
    Sent(Device, ConversationId, MessageId),
    /// `accepted`.
    Accepted(MessageId, Option<Seq>),
    /// `error`.
    Failed(MessageId),
    /// `rejected`.
    Rejected(MessageId),
    /// `message`.
    Message(Device, ConversationId, Seq, MessageId),
    /// `gap`.
    Gap(Device, ConversationId, Seq, Seq),
    /// A new socket.
    Connected(Device),
}

/// A run: who has to get what, and what was seen.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    /// Each device and the conversation that it has to hold whole.
    pub watchers: Vec<(Device, ConversationId)>,
    /// In the order in which it was seen.
    pub seen: Vec<Seen>,
}

/// A checker that waits for what these devices have to get.
pub fn checker(watchers: &[(Device, ConversationId)]) -> Checker {
    let mut checker = Checker::default();
    watchers.iter().for_each(|(device, conversation)| checker.watch(*device, *conversation));
    checker
}

/// Tells the checker.
pub fn tell(checker: &mut Checker, seen: &Seen) {
    match seen {
        Seen::Sent(device, conversation, id) => {
            checker.sent(*device, *conversation, *id);
        }
        Seen::Accepted(id, seq) => {
            checker.accepted(*id, *seq);
        }
        Seen::Failed(id) => checker.failed(*id),
        Seen::Rejected(id) => checker.rejected(*id),
        Seen::Message(device, conversation, seq, id) => {
            checker.delivered(*device, *conversation, *seq, *id);
        }
        Seen::Gap(device, conversation, from, to) => checker.gap(*device, *conversation, *from, *to),
        Seen::Connected(device) => checker.reconnected(*device),
    }
}

impl Trace {
    /// What the checker finds in it.
    pub fn verdict(&self) -> Verdict {
        let mut checker = checker(&self.watchers);
        self.seen.iter().for_each(|seen| tell(&mut checker, seen));
        checker.verdict()
    }

    /// Panics unless every promise was kept.
    #[track_caller]
    pub fn assert_whole(&self) -> Verdict {
        let verdict = self.verdict();
        println!("  {verdict}");
        for fault in Fault::ALL {
            assert!(verdict.count(fault) == 0, "{}: {verdict}", fault.name());
        }
        assert_eq!((verdict.unfetched, verdict.rejected), (0, 0), "{verdict}");
        assert_eq!(verdict.sent, verdict.accepted, "{verdict}");
        let orders = self.orders();
        for (conversation, order) in &orders {
            let gap_free = order.keys().map(|seq| seq.0).eq(1..=i64::try_from(order.len()).unwrap());
            assert!(gap_free, "{conversation} begins with 1 and has no gap");
            for (device, _) in self.watchers.iter().filter(|(_, of)| of == conversation) {
                let held = self.held(*device).remove(conversation).unwrap_or_default();
                assert!(held == *order, "{conversation} is the same on every device, also on {}", device.0);
            }
        }
        verdict
    }

    /// Whether everything that was accepted by the end of this run is in these orders.
    pub fn accepted_are_in(&self, orders: &Orders) -> bool {
        let stored: HashSet<&MessageId> = orders.values().flat_map(BTreeMap::values).collect();
        let mut accepted = self
            .seen
            .iter()
            .filter_map(|seen| if let Seen::Accepted(id, _) = seen { Some(id) } else { None });
        accepted.all(|id| stored.contains(id))
    }

    /// Each conversation as all devices together saw it.
    pub fn orders(&self) -> Orders {
        let mut orders: Orders = HashMap::new();
        for seen in &self.seen {
            if let Seen::Message(_, conversation, seq, id) = seen {
                orders.entry(*conversation).or_default().insert(*seq, *id);
            }
        }
        orders
    }

    /// What one device holds.
    pub fn held(&self, device: Device) -> Orders {
        let seen = self
            .seen
            .iter()
            .filter(|seen| matches!(seen, Seen::Message(of, ..) if *of == device))
            .cloned()
            .collect();
        Trace { watchers: Vec::new(), seen }.orders()
    }
}

/// The faults that are put into a recorded run, each of which has to be found.
#[derive(Debug, Clone, Copy)]
pub enum Seeded {
    /// A message that never reached one device.
    RemovedFromDevice,
    /// A message that is in nobody's history.
    RemovedEverywhere,
    /// A message that a socket got twice.
    Repeated,
    /// Two messages that a socket got in the wrong order.
    Swapped,
    /// A message under a second seq.
    StoredTwice,
    /// Two messages that are in history in another order than they were sent.
    SendsSwapped,
    /// An answer that never came.
    Unanswered,
}

impl Seeded {
    /// Each with what the checker has to call it.
    pub const ALL: [(Self, Fault); 7] = [
        (Self::RemovedFromDevice, Fault::Lost),
        (Self::RemovedEverywhere, Fault::Lost),
        (Self::Repeated, Fault::Duplicated),
        (Self::Swapped, Fault::OutOfOrder),
        (Self::StoredTwice, Fault::TwoSeqs),
        (Self::SendsSwapped, Fault::SendsReordered),
        (Self::Unanswered, Fault::Unanswered),
    ];

    /// The same run with this fault in it.
    pub fn put_into(self, trace: &Trace) -> Trace {
        let mut faulty = trace.clone();
        let mut met = HashSet::new();
        let mut is_new = |seen: &Seen| match seen {
            Seen::Message(device, conversation, seq, _) => met.insert((*device, *conversation, *seq)),
            _ => false,
        };
        let messages: Vec<usize> =
            (0..trace.seen.len()).filter(|place| is_new(&trace.seen[*place])).collect();
        // One that came for the first time, with another behind it on the same socket.
        let (first, second) = messages[messages.len() / 4..]
            .iter()
            .find_map(|place| Some((*place, next_on_socket(&trace.seen, *place)?)))
            .expect("a socket that got two messages of a conversation in a row");
        let Seen::Message(device, conversation, _, id) = trace.seen[first] else { unreachable!() };
        let is = |seen: &Seen| matches!(seen, Seen::Message(_, _, _, of) if *of == id);
        let is_here = |seen: &Seen| matches!(seen, Seen::Message(on, _, _, of) if *of == id && *on == device);
        match self {
            Self::RemovedFromDevice => faulty.seen.retain(|seen| !is_here(seen)),
            Self::RemovedEverywhere => faulty.seen.retain(|seen| !is(seen)),
            Self::Repeated => faulty.seen.insert(second + 1, trace.seen[first].clone()),
            Self::Swapped => faulty.seen.swap(first, second),
            Self::StoredTwice => {
                let last = trace.held(device)[&conversation].len();
                let again = Seq(i64::try_from(last).unwrap() + 1);
                faulty.seen.push(Seen::Message(device, conversation, again, id));
            }
            Self::SendsSwapped => {
                let mut met = HashSet::new();
                let mut is_first =
                    |seen: &Seen| matches!(seen, Seen::Sent(by, _, id) if *by == device && met.insert(*id));
                let sent: Vec<usize> =
                    (0..trace.seen.len()).filter(|place| is_first(&trace.seen[*place])).collect();
                let middle = sent.len() / 2;
                faulty.seen.swap(sent[middle], sent[middle + 1]);
            }
            Self::Unanswered => {
                faulty.seen.retain(|seen| !matches!(seen, Seen::Accepted(of, _) if *of == id));
            }
        }
        faulty
    }
}

/// The next message of the same conversation on the same socket.
fn next_on_socket(seen: &[Seen], place: usize) -> Option<usize> {
    let Seen::Message(device, conversation, seq, _) = seen[place] else { return None };
    for (later, seen) in seen.iter().enumerate().skip(place + 1) {
        match seen {
            Seen::Connected(of) if *of == device => return None,
            Seen::Message(on, of, next, _) if *on == device && *of == conversation => {
                return (next.0 == seq.0 + 1).then_some(later);
            }
            _ => {}
        }
    }
    None
}
