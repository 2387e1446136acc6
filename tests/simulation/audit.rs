//! The books at the end of a schedule. History is compared with what follows from the log by a reckoning of
//! its own, which shares nothing with `domain::history` but the decoding of values.

use std::collections::{BTreeMap, HashMap};

use chatd::domain::{ConversationId, MessageId, Offset, Partition, RecordBody, Seq, Timestamp};
use chatd::pipeline::record::{self, Undecodable};

use crate::log::Lane;
use crate::store::REFUSED;
use crate::traffic::NEWER;
use crate::world::{PARTITIONS, World};

/// An event: id, text, time, where.
type Owed = (MessageId, String, Timestamp, Partition, Offset);

/// What should have become of the values of a log.
#[derive(Default)]
struct Expected {
    events: BTreeMap<ConversationId, Vec<Owed>>,
    rejected: Vec<(MessageId, Partition, Offset)>,
    dead: Vec<(Partition, Offset)>,
    /// Where each partition stands still.
    ends: Vec<Offset>,
}

impl World {
    fn expected(&self) -> Expected {
        let mut expected = Expected::default();
        let mut texts: HashMap<MessageId, String> = HashMap::new();
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
                let RecordBody::Message(message) = record.body;
                let text = message.content.as_str().to_owned();
                if text.starts_with(REFUSED) {
                    expected.dead.push((partition, offset));
                    continue;
                }
                match texts.get(&record.id) {
                    Some(known) if *known == text => {}
                    Some(_) => expected.rejected.push((record.id, partition, offset)),
                    None => {
                        texts.insert(record.id, text.clone());
                        let events = expected.events.entry(record.conversation).or_default();
                        let at = events.last().map_or(record.at, |last| last.2.max(record.at));
                        events.push((record.id, text, at, partition, offset));
                    }
                }
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
            let Some((_, text, at, partition, offset)) = owed.get(index) else { continue };
            let RecordBody::Message(message) = &event.body;
            checker.ensure(message.content.as_str() == text, "fate", what);
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
            for rejection in self.store.rejections.iter().filter(|one| one.from == client.user) {
                let told = client.rejected.contains(&rejection.id);
                self.checker
                    .ensure(told, "rejected", || format!("client {number} was not told of {rejection:?}"));
            }
        }
    }
}

fn diff<T: PartialEq + std::fmt::Debug>(what: &str, found: &[T], owed: &[T]) -> String {
    let at = found.iter().zip(owed).position(|(one, other)| one != other);
    let at = at.unwrap_or(found.len().min(owed.len()));
    format!("{what}: {:?} where {:?} was owed, at {at}", found.get(at), owed.get(at))
}
