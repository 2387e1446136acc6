//! Judges what clients saw against the promise of protocol.md: every accepted message has one fate, in one
//! order, on every device. Pure: it is told what was sent, answered and delivered, and gives a verdict.
//!
//! A device may be anything that must hold a conversation whole: a socket, or a reader of the history.

use std::collections::HashMap;

use super::ranges::Ranges;
use super::verdict::{Fault, Verdict};
use crate::domain::{ConversationId, MessageId, Seq};

#[cfg(test)]
mod tests;

/// One observer of conversations, numbered by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Device(pub u32);

/// What all clients together have seen so far.
#[derive(Debug, Default)]
pub struct Checker {
    messages: Vec<Message>,
    places: HashMap<MessageId, usize>,
    conversations: HashMap<ConversationId, Conversation>,
    views: HashMap<(Device, ConversationId), View>,
    verdict: Verdict,
    open: usize,
}

#[derive(Debug)]
struct Message {
    id: MessageId,
    conversation: ConversationId,
    sender: Device,
    tries: u32,
    answers: u32,
    copies: usize,
    seq: Option<Seq>,
    accepted: bool,
    failed: bool,
    rejected: bool,
    settled: bool,
}

#[derive(Debug, Default)]
struct Conversation {
    watchers: Vec<Device>,
    order: HashMap<Seq, MessageId>,
}

/// What one device holds of one conversation.
#[derive(Debug, Default)]
struct View {
    held: Ranges,
    /// Named by `gap` frames and not fetched: known to exist, so not lost.
    named: Ranges,
    /// The last seq of the socket that is open now.
    last: Option<i64>,
}

impl Checker {
    /// `device` must get everything that is accepted in `conversation`.
    pub fn watch(&mut self, device: Device, conversation: ConversationId) {
        let watchers = &mut self.conversations.entry(conversation).or_default().watchers;
        if !watchers.contains(&device) {
            watchers.push(device);
        }
    }

    /// A message goes out, for the first time or again; its place in the order of first sends is returned.
    /// `id` is what protocol.md section 1 derives, so a server that answers with another one is found out.
    pub fn sent(&mut self, device: Device, conversation: ConversationId, id: MessageId) -> usize {
        let place = *self.places.entry(id).or_insert(self.messages.len());
        if place == self.messages.len() {
            self.verdict.sent += 1;
            self.open += 1;
            self.messages.push(Message {
                id,
                conversation,
                sender: device,
                tries: 0,
                answers: 0,
                copies: 0,
                seq: None,
                accepted: false,
                failed: false,
                rejected: false,
                settled: false,
            });
        }
        let message = &mut self.messages[place];
        message.tries += 1;
        // A retry opens a fate again that an error had left open.
        message.failed = false;
        self.open += usize::from(std::mem::take(&mut message.settled));
        self.settle(place);
        place
    }

    /// The server answered `accepted`. Gives the place of the message, or nothing for one never sent.
    pub fn accepted(&mut self, id: MessageId, seq: Option<Seq>) -> Option<usize> {
        let Some(place) = self.places.get(&id).copied() else {
            self.verdict.fault(Fault::Foreign, || format!("accepted {id}, which nobody sent"));
            return None;
        };
        let message = &mut self.messages[place];
        message.answers += 1;
        if message.answers > message.tries {
            self.verdict.fault(Fault::AnsweredTwice, || format!("{id}"));
        }
        self.verdict.accepted += u64::from(!message.accepted);
        message.accepted = true;
        if let Some(seq) = seq {
            self.stored(place, seq);
        }
        self.settle(place);
        Some(place)
    }

    /// The server answered `error`: the fate is open until it is tried again.
    pub fn failed(&mut self, id: MessageId) {
        let Some(place) = self.places.get(&id).copied() else { return };
        self.verdict.failed += 1;
        self.messages[place].answers += 1;
        self.messages[place].failed = true;
        self.settle(place);
    }

    /// The server sent `rejected`: an accepted message whose fate is not to be in the history.
    pub fn rejected(&mut self, id: MessageId) {
        let Some(place) = self.places.get(&id).copied() else { return };
        let message = &mut self.messages[place];
        self.verdict.rejected += u64::from(!message.rejected);
        message.rejected = true;
        self.settle(place);
    }

    /// A message reached a device. Gives its place when it is one of ours and new to that device.
    pub fn delivered(
        &mut self,
        device: Device,
        conversation: ConversationId,
        seq: Seq,
        id: MessageId,
    ) -> Option<usize> {
        let first = *self.conversations.entry(conversation).or_default().order.entry(seq).or_insert(id);
        if first != id {
            let text = || format!("{conversation} #{seq} is {first} and {id} (device {})", device.0);
            self.verdict.fault(Fault::TwoIds, text);
        }
        let new = self.event(device, conversation, seq);
        let place = self.places.get(&id).copied();
        let Some(place) = place else {
            self.verdict.fault(Fault::Foreign, || format!("{conversation} #{seq} {id}, which nobody sent"));
            return None;
        };
        if self.messages[place].conversation != conversation {
            self.verdict.fault(Fault::Foreign, || format!("{id} in {conversation}, where nobody sent it"));
        }
        self.stored(place, seq);
        if !new {
            return None;
        }
        self.verdict.delivered += 1;
        self.messages[place].copies += 1;
        self.settle(place);
        Some(place)
    }

    /// An event that is no message (edited, withheld …) reached a device: it takes a seq all the same.
    /// Tells whether it was new to that device.
    pub fn event(&mut self, device: Device, conversation: ConversationId, seq: Seq) -> bool {
        let view = self.views.entry((device, conversation)).or_default();
        let held = view.held.contains(seq.0);
        let at = || format!("{conversation} #{seq} on device {}", device.0);
        match view.last {
            Some(last) if seq.0 <= last && held => self.verdict.fault(Fault::Duplicated, at),
            Some(last) if seq.0 <= last => self.verdict.fault(Fault::OutOfOrder, at),
            Some(last) if seq.0 > last + 1 => {
                self.verdict.fault(Fault::Skipped, || format!("{} after #{last}", at()));
            }
            _ if held => self.verdict.repeated += 1,
            _ => {}
        }
        view.last = Some(view.last.map_or(seq.0, |last| last.max(seq.0)));
        view.held.insert(seq.0, seq.0);
        view.named.remove(seq.0);
        !held
    }

    /// A `gap` frame named `from..=to` to a device: not lost, but to be fetched.
    pub fn gap(&mut self, device: Device, conversation: ConversationId, from: Seq, to: Seq) {
        let view = self.views.entry((device, conversation)).or_default();
        if view.last.is_some_and(|last| from.0 > last + 1) {
            let text = || format!("{conversation} gap from #{from} on device {}", device.0);
            self.verdict.fault(Fault::Skipped, text);
        }
        view.named.insert(from.0, to.0);
        view.last = Some(view.last.map_or(to.0, |last| last.max(to.0)));
    }

    /// A device fetched an event that a gap had named.
    pub fn fetched(&mut self, device: Device, conversation: ConversationId, seq: Seq, id: MessageId) {
        let view = self.views.entry((device, conversation)).or_default();
        // Fetching is beside the socket's order, so that its last seq stays as it was.
        let last = view.last.take();
        self.delivered(device, conversation, seq, id);
        self.views.entry((device, conversation)).or_default().last = last;
    }

    /// A device has a new socket: events may repeat what it holds, then go on in order.
    pub fn reconnected(&mut self, device: Device) {
        self.views.iter_mut().filter(|((of, _), _)| *of == device).for_each(|(_, view)| {
            // The new socket begins at any seq up to the one after what the device holds.
            view.last = None;
        });
    }

    /// Who sent the message at a place first.
    pub fn sender(&self, place: usize) -> Option<Device> {
        self.messages.get(place).map(|message| message.sender)
    }

    /// Whether every message has its answer, and every accepted one all its copies: nothing to wait for.
    pub fn is_settled(&self) -> bool {
        self.open == 0
    }

    /// What is so after all of that: what has not come by now counts as lost.
    pub fn verdict(&self) -> Verdict {
        let mut verdict = self.verdict.clone();
        for message in &self.messages {
            if !message.accepted && !message.failed && !message.rejected {
                verdict.fault(Fault::Unanswered, || format!("{}", message.id));
            }
            if message.rejected && message.seq.is_some() {
                verdict.fault(Fault::RejectedYetStored, || format!("{}", message.id));
            }
            if message.accepted && !message.rejected {
                self.judge_copies(message, &mut verdict);
            }
        }
        self.judge_order_of_sends(&mut verdict);
        for ((device, conversation), view) in &self.views {
            let mut known = view.held.clone();
            view.named.iter().for_each(|(from, to)| known.insert(from, to));
            verdict.faults(Fault::Hole, known.holes(), || format!("{conversation} on device {}", device.0));
        }
        verdict
    }

    fn judge_copies(&self, message: &Message, verdict: &mut Verdict) {
        let watchers = self.conversations.get(&message.conversation).map_or(&[][..], |c| &c.watchers);
        let is_with = |device: &Device, of: fn(&View) -> &Ranges| {
            let view = self.views.get(&(*device, message.conversation));
            view.zip(message.seq).is_some_and(|(view, seq)| of(view).contains(seq.0))
        };
        let without = watchers
            .iter()
            .find(|device| !is_with(device, |view| &view.held) && !is_with(device, |view| &view.named));
        if let Some(device) = without {
            verdict.fault(Fault::Lost, || {
                format!("{} of {} on device {}", message.id, message.conversation, device.0)
            });
        } else if watchers.iter().any(|device| !is_with(device, |view| &view.held)) {
            verdict.unfetched += 1;
        }
    }

    /// Sends of one device to one conversation are stored in the order of their first sends.
    fn judge_order_of_sends(&self, verdict: &mut Verdict) {
        let mut last = HashMap::new();
        for message in &self.messages {
            let Some(seq) = message.seq else { continue };
            let before = last.entry((message.sender, message.conversation)).or_insert(seq);
            if seq < *before {
                verdict.fault(Fault::SendsReordered, || {
                    format!("{} #{seq} was sent after #{before}", message.conversation)
                });
            }
            *before = seq.max(*before);
        }
    }

    fn stored(&mut self, place: usize, seq: Seq) {
        let message = &mut self.messages[place];
        let first = *message.seq.get_or_insert(seq);
        if first != seq {
            let text = || format!("{} of {} is #{first} and #{seq}", message.id, message.conversation);
            self.verdict.fault(Fault::TwoSeqs, text);
        }
    }

    fn settle(&mut self, place: usize) {
        let message = &mut self.messages[place];
        let watchers = self.conversations.get(&message.conversation).map_or(0, |c| c.watchers.len());
        let has_all = message.accepted && message.copies >= watchers;
        let has_ended = message.rejected || (message.failed && !message.accepted);
        if !message.settled && (has_ended || has_all) {
            message.settled = true;
            self.open -= 1;
        }
    }
}
