//! Fan-out that loses, delays, repeats and reorders: a queue of things to tell for each node. A node is told
//! how far each partition is, and what concerns the users that are registered on it at that moment.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use chatd::delivery::{Fanout, FanoutError, Hint, Hub, Publication, Typing};
use chatd::domain::{ConversationId, Outcome, UserId};
use chatd::storage::Receipt;

use crate::mutant::Mutant;
use crate::world::{Shared, World, pause};

/// Something on its way to a node.
pub enum Told {
    Publication(Publication),
    Receipts(Vec<Receipt>),
}

/// The way to one node; what is on it survives a restart of the node.
#[derive(Default)]
pub struct Link {
    pub hub: Option<Arc<Hub>>,
    /// Who is registered here, and with how many sockets.
    pub users: BTreeMap<UserId, usize>,
    pub queue: VecDeque<Told>,
}

/// All nodes.
#[derive(Default)]
pub struct Net {
    pub links: Vec<Link>,
}

impl World {
    /// Puts a publication on its way to every node.
    pub fn tell(&mut self, mut publication: Publication) {
        if self.has(Mutant::HoleHidden) {
            publication.prev = -1;
        }
        for node in 0..self.net.links.len() {
            if self.dice.chance(self.faults.lost) {
                continue;
            }
            let users = &self.net.links[node].users;
            let concerned = publication.outcomes.iter().filter(|outcome| concerns(users, outcome));
            let publication = Publication { outcomes: concerned.cloned().collect(), ..publication.clone() };
            let copies = if self.dice.chance(self.faults.repeated) { 2 } else { 1 };
            for _ in 0..copies {
                self.net.links[node].queue.push_back(Told::Publication(publication.clone()));
            }
        }
    }

    /// A socket of this user is on the node from now on.
    pub fn register(&mut self, node: usize, user: UserId) {
        *self.net.links[node].users.entry(user).or_default() += 1;
    }

    /// It is not any more.
    pub fn unregister(&mut self, node: usize, user: UserId) {
        let users = &mut self.net.links[node].users;
        if let Some(count) = users.get_mut(&user) {
            *count -= 1;
            if *count == 0 {
                users.remove(&user);
            }
        }
    }

    /// Takes what arrives next at a node, with the hub that it arrives at.
    pub fn arrival(&mut self, node: usize) -> Option<(Arc<Hub>, Told)> {
        let waiting = self.net.links[node].queue.len();
        if waiting == 0 {
            return None;
        }
        let index = if self.dice.chance(self.faults.reordered) { self.dice.below(waiting) } else { 0 };
        let link = &mut self.net.links[node];
        Some((link.hub.clone()?, link.queue.remove(index)?))
    }
}

fn concerns(users: &BTreeMap<UserId, usize>, outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Stored(event) => match event.conversation {
            ConversationId::Dm(low, high) => users.contains_key(&low) || users.contains_key(&high),
            ConversationId::Group(_) => true,
        },
        Outcome::Rejected(rejection) => users.contains_key(&rejection.from),
    }
}

/// Tells a hub.
pub fn arrive((hub, told): (Arc<Hub>, Told)) {
    match told {
        Told::Publication(publication) => hub.receive(&publication),
        Told::Receipts(receipts) => hub.receipts(&receipts),
    }
}

/// The port.
pub struct SimFanout(pub Shared);

#[async_trait]
impl Fanout for SimFanout {
    async fn publish(&self, mut publications: Vec<Publication>) -> Result<(), FanoutError> {
        pause().await;
        publications.sort_by_key(|publication| publication.partition);
        let fails = {
            let mut world = self.0.lock();
            let probability = world.faults.fanout;
            let fails = world.dice.chance(probability);
            let told = if fails { world.dice.below(publications.len() + 1) } else { publications.len() };
            publications.into_iter().take(told).for_each(|publication| world.tell(publication));
            fails
        };
        pause().await;
        if fails { Err(FanoutError("simulated".into())) } else { Ok(()) }
    }

    async fn receipts(&self, receipts: Vec<Receipt>) -> Result<(), FanoutError> {
        pause().await;
        let mut world = self.0.lock();
        for node in 0..world.net.links.len() {
            let probability = world.faults.lost;
            if !world.dice.chance(probability) {
                world.net.links[node].queue.push_back(Told::Receipts(receipts.clone()));
            }
        }
        Ok(())
    }

    /// Nobody types in this world.
    async fn typing(&self, _: Vec<Typing>) -> Result<(), FanoutError> {
        Ok(())
    }

    /// Nor watches anybody.
    async fn presence(&self, _: &[Hint]) -> Result<(), FanoutError> {
        Ok(())
    }
}
