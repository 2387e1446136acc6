//! Fan-out that loses, delays, repeats and reorders: a queue of things to tell for each node.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use chatd::delivery::{Fanout, FanoutError, Hub, Publication};
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
            let copies = if self.dice.chance(self.faults.repeated) { 2 } else { 1 };
            for _ in 0..copies {
                self.net.links[node].queue.push_back(Told::Publication(publication.clone()));
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
}
