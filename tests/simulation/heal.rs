//! The end of a schedule: nothing goes wrong any more, everything comes to rest, and the books are checked.

use chatd::domain::Partition;

use crate::client::{Said, Socket};
use crate::net::arrive;
use crate::schedule::{Kind, NODES, Schedule};
use crate::world::{Faults, PARTITIONS, World};

/// Rounds after which everything has to be at rest.
const ROUNDS_MAX: usize = 1_000;
/// Rounds of rest before the books are checked: what can still come has come.
const REST: usize = 6;
/// Steps of each task in a round.
const POLLS: usize = 5;
/// How long a round takes.
const ROUND_MS: u64 = 500;

impl Schedule {
    /// Ends the faults, waits until all is at rest, lets every device come back, and checks everything.
    pub async fn heal(&mut self) {
        self.with(|world| {
            world.faults = Faults::default();
            world.healing = true;
            while !world.store.in_flight.is_empty() {
                world.settle();
            }
            world.checker.tell(|| "healing".into());
        });
        if self.chance(0.3) {
            // Before anybody has confirmed what is left to confirm: a cursor confirms no gap.
            self.reconnect();
        }
        self.with(|world| {
            for socket in world.sockets.values_mut() {
                socket.said.extend(socket.late.take());
            }
            for number in world.sockets.keys().copied().collect::<Vec<_>>() {
                world.acknowledge(number);
            }
        });
        self.actors.iter_mut().for_each(|actor| actor.asleep = false);
        self.come_to_rest("caught up").await;
        self.with(World::audit_history);
        self.with(|world| world.audit_devices(false));
        if self.is_broken() {
            return;
        }
        self.reconnect();
        self.come_to_rest("resumed").await;
        self.with(World::audit_history);
        self.with(|world| world.audit_devices(true));
    }

    /// A partition whose last claimer is gone gets another.
    fn replace_owners(&mut self) {
        let orphans: Vec<Partition> = self.with(|world| {
            let owner = |partition: &Partition| world.store.rows[*partition as usize].owner;
            let lives = |id| self.actors.iter().any(|actor| Some(actor.id) == id);
            (0..PARTITIONS).filter(|partition| !lives(owner(partition))).collect()
        });
        if !orphans.is_empty() {
            self.start_owner(orphans);
        }
    }

    fn reconnect(&mut self) {
        let clients = self.with(|world| {
            let sockets: Vec<usize> = world.sockets.keys().copied().collect();
            sockets.into_iter().for_each(|socket| world.close(socket));
            world.clients.len()
        });
        self.actors.retain(|actor| !matches!(actor.kind, Kind::Session(_)));
        for client in 0..clients {
            let resume = self.with(|world| {
                let client = &mut world.clients[client];
                if client.cursor.is_none() {
                    client.reset(false);
                }
                Said::resume(client.cursor.as_deref())
            });
            self.connect(client, Some(resume));
        }
    }

    async fn come_to_rest(&mut self, rule: &'static str) {
        let mut rest = 0;
        for _ in 0..ROUNDS_MAX {
            if self.is_broken() || rest >= REST {
                return;
            }
            self.replace_owners();
            self.round().await;
            rest = if self.unrest().is_none() { rest + 1 } else { 0 };
        }
        let unrest = self.unrest();
        self.with(|world| world.checker.fail(rule, || unrest.unwrap_or_default()));
    }

    async fn round(&mut self) {
        for _ in 0..POLLS {
            let mut index = 0;
            while index < self.actors.len() {
                let id = self.actors[index].id;
                self.poll(index);
                index += usize::from(self.actors.get(index).is_some_and(|actor| actor.id == id));
            }
        }
        for node in 0..NODES {
            while let Some(arrival) = self.with(|world| world.arrival(node)) {
                arrive(arrival);
            }
        }
        self.with(|world| {
            for number in world.sockets.keys().copied().collect::<Vec<_>>() {
                while world.sockets.get(&number).is_some_and(|socket| !socket.out.is_empty()) {
                    world.consume(number);
                }
            }
        });
        self.advance(ROUND_MS).await;
    }

    /// What is still to come, if anything.
    fn unrest(&self) -> Option<String> {
        let hubs: Vec<_> = self.nodes.iter().map(|node| node.hub.heard()).collect();
        self.with(|world| {
            let stored = world.store.frontier();
            if !world.is_applied() {
                return Some(format!("{:?} of {:?}", world.store.rows, world.ends()));
            }
            if let Some(hub) = hubs.iter().find(|hub| **hub != stored) {
                return Some(format!("a node knows {hub:?} of {stored:?}"));
            }
            if world.net.links.iter().any(|link| !link.queue.is_empty()) {
                return Some("publications".into());
            }
            let busy = |s: &Socket| !(s.resumed && s.out.is_empty() && s.said.is_empty());
            let busy = world.sockets.iter().find(|(_, socket)| busy(socket));
            busy.map(|(number, socket)| format!("socket {number}: {socket:?}"))
        })
    }
}
