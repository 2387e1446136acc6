//! How long it takes after a fault until everybody hears from everybody again.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use chatd::domain::MessageId;

use crate::judge::Seen;
use crate::load::World;
use crate::node::PATIENCE;

/// Counts from a moment.
pub struct Recovery {
    since: Instant,
    /// The place in the trace.
    from: usize,
    sent_before: HashSet<MessageId>,
}

impl Recovery {
    /// From now on.
    pub fn begin(world: &World) -> Self {
        let record = world.record();
        let sent = |seen: &Seen| if let Seen::Sent(_, _, id) = seen { Some(*id) } else { None };
        let sent_before = record.trace.seen.iter().filter_map(sent).collect();
        Self { since: Instant::now(), from: record.trace.seen.len(), sent_before }
    }

    /// Until every device got a message, in each of its conversations, that was first sent after the begin.
    #[track_caller]
    pub fn delivered(&self, world: &World) -> impl Future<Output = Duration> {
        let caller = std::panic::Location::caller();
        async move {
            let mut waiting: HashSet<_> = world.record().trace.watchers.iter().copied().collect();
            let is_it = |seen: &Seen| match seen {
                Seen::Message(device, conversation, _, id) if !self.sent_before.contains(id) => {
                    Some((*device, *conversation))
                }
                _ => None,
            };
            self.wait(world, &mut waiting, is_it, caller).await
        }
    }

    /// Until every device was told `accepted` for a message that it first sent after the begin.
    #[track_caller]
    pub fn accepted(&self, world: &World) -> impl Future<Output = Duration> {
        let caller = std::panic::Location::caller();
        async move {
            let mut waiting: HashSet<_> = world.record().trace.watchers.iter().map(|(of, _)| *of).collect();
            let mut senders = std::collections::HashMap::new();
            let is_it = |seen: &Seen| match seen {
                Seen::Sent(device, _, id) if !self.sent_before.contains(id) => {
                    senders.insert(*id, *device);
                    None
                }
                Seen::Accepted(id, _) => senders.get(id).copied(),
                _ => None,
            };
            self.wait(world, &mut waiting, is_it, caller).await
        }
    }

    async fn wait<T: Eq + std::hash::Hash + std::fmt::Debug>(
        &self,
        world: &World,
        waiting: &mut HashSet<T>,
        mut is_it: impl FnMut(&Seen) -> Option<T>,
        caller: &std::panic::Location<'_>,
    ) -> Duration {
        let (mut place, mut last) = (self.from, self.since);
        while !waiting.is_empty() {
            let state = {
                let record = world.record();
                for (seen, at) in record.trace.seen[place..].iter().zip(&record.at[place..]) {
                    if is_it(seen).is_some_and(|found| waiting.remove(&found)) {
                        last = *at;
                    }
                }
                place = record.trace.seen.len();
                let is_late = self.since.elapsed() > PATIENCE;
                is_late.then(|| format!("{}; {:?}", record.checker.verdict(), record.errors))
            };
            if let Some(state) = state {
                panic!("{caller}: not for {waiting:?}; {state}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        last - self.since
    }
}
