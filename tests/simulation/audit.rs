//! The books at the end of a schedule. History is compared with what follows from the log by a reckoning of
//! its own, which shares nothing with `domain::history` but the decoding of values.

use std::collections::{BTreeMap, HashMap, HashSet};

use chatd::domain::{
    Content, ConversationId, EventBody, MessageId, Offset, Partition, Record, RecordBody, Seq, Timestamp,
};
use chatd::pipeline::record::{self, Undecodable};

use crate::client::Client;
use crate::log::Lane;
use crate::store::REFUSED;
use crate::traffic::NEWER;
use crate::world::{PARTITIONS, World};

/// An event: id, what it says, time, where.
type Owed = (MessageId, Said, Timestamp, Partition, Offset);

/// What a record or an event says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Said {
    Message { text: String, reply_to: Option<MessageId> },
    Edit { target: MessageId, text: String },
    Delete { target: MessageId },
}

impl Said {
    fn of_record(body: &RecordBody) -> Self {
        let text = |content: &Content| content.as_str().to_owned();
        match body {
            RecordBody::Message(body) => Self::Message { text: text(&body.content), reply_to: body.reply_to },
            RecordBody::Edit { target, content } => Self::Edit { target: *target, text: text(content) },
            RecordBody::Delete { target } => Self::Delete { target: *target },
        }
    }

    /// As it came.
    fn of_event(body: &EventBody) -> Self {
        let text = |content: &Option<Content>| content.as_ref().unwrap().as_str().to_owned();
        match body {
            EventBody::Message(body) => Self::Message { text: text(&body.content), reply_to: body.reply_to },
            EventBody::Edited { target, content } => Self::Edit { target: *target, text: text(content) },
            EventBody::Deleted { target } => Self::Delete { target: *target },
        }
    }

    fn is_refused(&self) -> bool {
        matches!(self, Self::Message { text, .. } | Self::Edit { text, .. } if text.starts_with(REFUSED))
    }

    fn refers_to(&self) -> Option<MessageId> {
        match self {
            Self::Message { reply_to, .. } => *reply_to,
            Self::Edit { target, .. } | Self::Delete { target } => Some(*target),
        }
    }
}

/// What is known of a stored record.
struct Known {
    said: Said,
    record: Record,
    /// Of a message, its text now.
    text: Option<String>,
}

/// What should have become of the values of a log.
#[derive(Default)]
struct Expected {
    events: BTreeMap<ConversationId, Vec<Owed>>,
    rejected: Vec<(MessageId, Partition, Offset)>,
    dead: Vec<(Partition, Offset)>,
    /// Where each partition stands still.
    ends: Vec<Offset>,
    known: HashMap<MessageId, Known>,
    impossible: HashSet<(MessageId, Said)>,
}

impl Expected {
    /// The fate of a record that is not refused by the store.
    fn take(&mut self, record: Record, partition: Partition, offset: Offset) {
        let (id, said) = (record.id, Said::of_record(&record.body));
        if let Some(known) = self.known.get(&id) {
            if known.said != said {
                self.rejected.push((id, partition, offset));
            }
            return;
        }
        if said.refers_to().is_some() {
            let was_before = self.impossible.contains(&(id, said.clone()));
            if was_before || !self.happens(&record, &said) {
                self.impossible.insert((id, said));
                self.rejected.push((id, partition, offset));
                return;
            }
        }
        let events = self.events.entry(record.conversation).or_default();
        let at = events.last().map_or(record.at, |last| last.2.max(record.at));
        events.push((id, said.clone(), at, partition, offset));
        let text = match &said {
            Said::Message { text, .. } => Some(text.clone()),
            Said::Edit { .. } | Said::Delete { .. } => None,
        };
        self.known.insert(id, Known { said, record, text });
    }

    /// Whether what a record refers to is there for it; then the message is changed.
    fn happens(&mut self, record: &Record, said: &Said) -> bool {
        let Some(target) = said.refers_to().and_then(|target| self.known.get_mut(&target)) else {
            return false;
        };
        let is_message = matches!(target.said, Said::Message { .. });
        if !is_message || target.record.conversation != record.conversation {
            return false;
        }
        let may = target.text.is_some() && target.record.from == record.from;
        match said {
            Said::Message { .. } => true,
            Said::Edit { text, .. } if may => {
                target.text = Some(text.clone());
                true
            }
            Said::Delete { .. } if may => {
                target.text = None;
                true
            }
            Said::Edit { .. } | Said::Delete { .. } => false,
        }
    }
}

impl World {
    fn expected(&self) -> Expected {
        let mut expected = Expected::default();
        for (partition, lane) in (0..PARTITIONS).zip(&self.log.lanes) {
            let mut end = lane.end();
            for (offset, value) in (0..).zip(&lane.values) {
                let record = match record::decode(value, partition, PARTITIONS) {
                    Ok(record) => record,
                    Err(Undecodable::Malformed(_)) => {
                        expected.dead.push((partition, offset));
                        continue;
                    }
                    Err(Undecodable::Newer { .. }) => {
                        end = offset;
                        break;
                    }
                };
                if Said::of_record(&record.body).is_refused() {
                    expected.dead.push((partition, offset));
                    continue;
                }
                expected.take(record, partition, offset);
            }
            expected.ends.push(end);
        }
        expected
    }

    /// Whether everything is applied that can be.
    pub fn is_applied(&self) -> bool {
        self.ends().iter().zip(&self.store.rows).all(|(end, row)| row.next_offset == *end)
    }

    /// The end of each partition, or where a newer release's value stops it.
    pub fn ends(&self) -> Vec<Offset> {
        let end = |lane: &Lane| match lane.values.iter().position(|value| value.starts_with(NEWER)) {
            Some(at) => at as Offset,
            None => lane.end(),
        };
        self.log.lanes.iter().map(end).collect()
    }

    /// Every record has one fate, and history is what follows from the log.
    pub fn audit_history(&mut self) {
        let expected = self.expected();
        for (row, end) in self.store.rows.iter().zip(&expected.ends) {
            let what = || format!("applied to {}, not {end}", row.next_offset);
            self.checker.ensure(row.next_offset == *end, "offset", what);
            let told = row.published < row.next_offset;
            self.checker.ensure(told, "published", || format!("{} of {}", row.published, row.next_offset));
        }
        let mut rejected: Vec<_> = self.store.rejections.iter().map(|r| (r.id, r.position)).collect();
        rejected.sort_by_key(|(_, position)| (position.partition, position.offset));
        let rejected: Vec<_> = rejected.into_iter().map(|(id, p)| (id, p.partition, p.offset)).collect();
        self.checker.ensure(rejected == expected.rejected, "fate", || {
            diff("rejected", &rejected, &expected.rejected)
        });
        let mut dead = self.store.dead.clone();
        dead.sort_unstable();
        self.checker.ensure(dead == expected.dead, "fate", || diff("dead", &dead, &expected.dead));
        let (stored, owed) = (self.store.conversations.len(), expected.events.len());
        self.checker.ensure(stored == owed, "fate", || format!("{stored} conversations, not {owed}"));
        for (conversation, owed) in &expected.events {
            self.audit_conversation(*conversation, owed);
        }
        let messages = expected.known.iter().filter(|(_, known)| matches!(known.said, Said::Message { .. }));
        for (id, known) in messages {
            let Some(event) = self.store.stored.get(id) else { continue };
            let EventBody::Message(message) = self.store.as_read(event).body else { continue };
            let text = message.content.as_ref().map(Content::as_str);
            self.checker.ensure(text == known.text.as_deref(), "words", || format!("{id}: {text:?}"));
        }
    }

    fn audit_conversation(&mut self, conversation: ConversationId, owed: &[Owed]) {
        let Some(found) = self.store.conversations.get(&conversation) else {
            self.checker.fail("fate", || format!("{conversation} was lost"));
            return;
        };
        let checker = &mut self.checker;
        let ids: Vec<_> = found.events.iter().map(|event| event.id).collect();
        let owed_ids: Vec<_> = owed.iter().map(|one| one.0).collect();
        checker.ensure(ids == owed_ids, "fate", || diff(&conversation.to_string(), &ids, &owed_ids));
        for (index, event) in found.events.iter().enumerate() {
            let what = || format!("{conversation}: {event:?}");
            checker.ensure(event.seq == Seq(index as i64 + 1), "seq", what);
            if let Some(before) = index.checked_sub(1).map(|before| &found.events[before]) {
                checker.ensure(before.at <= event.at, "time", what);
                checker.ensure(before.position < event.position, "position", what);
            }
            let Some((_, said, at, partition, offset)) = owed.get(index) else { continue };
            checker.ensure(Said::of_event(&event.body) == *said, "fate", what);
            checker.ensure(event.at == *at, "time", what);
            let place = (event.position.partition, event.position.offset);
            checker.ensure(place == (*partition, *offset), "position", what);
        }
    }

    /// Every device has everything that it is owed: all that was not confirmed by others when it began.
    /// `all`: also those that have no socket now.
    pub fn audit_devices(&mut self, all: bool) {
        for (number, client) in self.clients.iter().enumerate() {
            let resumed = client.socket.is_some_and(|socket| self.sockets[&socket].resumed);
            if !resumed && !all {
                continue;
            }
            let floors = client.floor.as_ref();
            for conversation in self.store.of_user.get(&client.user).into_iter().flatten() {
                let last = self.store.conversations[conversation].last_seq();
                let floor = floors.and_then(|all| all.get(conversation)).copied().unwrap_or_default();
                let held = client.held.get(conversation).cloned().unwrap_or_default();
                // From its first one on nothing is missing, whatever others have confirmed.
                let owed = held.first().unwrap_or(i64::MAX).min(floor.0 + 1);
                if let Some(absent) = held.first_absent(owed, last.0) {
                    self.checker.fail("complete", || {
                        format!("client {number}: {conversation} {absent} of {last}, owed from {owed}")
                    });
                }
                let cursors = self.store.cursors(*conversation, client.user);
                if resumed && cursors.gap_to == Seq(0) {
                    self.checker.ensure(cursors.delivered == last, "confirmed", || {
                        format!("client {number}: {conversation} has {last}, confirmed {}", cursors.delivered)
                    });
                }
            }
            if all && let Some(what) = self.misread(client) {
                self.checker.fail("words", || format!("client {number}: {what}"));
            }
            for rejection in self.store.rejections.iter().filter(|one| one.from == client.user) {
                let told = client.rejected.contains(&rejection.id);
                self.checker
                    .ensure(told, "rejected", || format!("client {number} was not told of {rejection:?}"));
            }
        }
    }
}

impl World {
    /// A message that a device shows with other words than history has, though it has all that happened to it.
    fn misread(&self, client: &Client) -> Option<String> {
        let mut shown: HashMap<MessageId, Option<&str>> = HashMap::new();
        let mut seen: HashMap<MessageId, usize> = HashMap::new();
        for frame in client.frames.values() {
            let (_, _, id) = frame.place()?;
            shown.insert(id, frame.words());
            *seen.entry(id).or_default() += 1;
        }
        let mut happened: HashMap<MessageId, usize> = HashMap::new();
        for event in self.store.stored.values() {
            let id = match &event.body {
                EventBody::Message(_) => event.id,
                EventBody::Edited { target, .. } | EventBody::Deleted { target } => *target,
            };
            *happened.entry(id).or_default() += 1;
        }
        let whole = shown.iter().filter(|(id, _)| seen.get(id) == happened.get(id));
        let wrong = whole.into_iter().find(|(id, words)| {
            let EventBody::Message(message) = self.store.as_read(&self.store.stored[*id]).body else {
                return true;
            };
            message.content.as_ref().map(Content::as_str) != **words
        });
        wrong.map(|(id, words)| format!("{id} reads {words:?}"))
    }
}

fn diff<T: PartialEq + std::fmt::Debug>(what: &str, found: &[T], owed: &[T]) -> String {
    let at = found.iter().zip(owed).position(|(one, other)| one != other);
    let at = at.unwrap_or(found.len().min(owed.len()));
    format!("{what}: {:?} where {:?} was owed, at {at}", found.get(at), owed.get(at))
}
