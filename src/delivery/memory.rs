//! Fan-out within one process: straight into the hub.

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::{Fanout, FanoutError, Hint, Hub, Link, Publication, Typing};
use crate::storage::Receipt;

/// Publishes to the one hub there is. Never fails, loses nothing.
pub struct MemoryFanout {
    hub: Arc<Hub>,
}

impl MemoryFanout {
    /// Fan-out into this hub.
    pub fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }
}

#[async_trait]
impl Fanout for MemoryFanout {
    async fn publish(&self, publications: Vec<Publication>) -> Result<(), FanoutError> {
        for publication in &publications {
            self.hub.receive(publication);
        }
        Ok(())
    }

    async fn receipts(&self, receipts: Vec<Receipt>) -> Result<(), FanoutError> {
        self.hub.receipts(&receipts);
        Ok(())
    }

    async fn typing(&self, typing: Vec<Typing>) -> Result<(), FanoutError> {
        self.hub.typing(&typing);
        Ok(())
    }

    async fn presence(&self, hints: &[Hint]) -> Result<(), FanoutError> {
        self.hub.watchers().hint(hints.iter().copied());
        Ok(())
    }
}

/// Everything arrives without doing anything.
#[async_trait]
impl Link for MemoryFanout {
    async fn run(&self, stop: CancellationToken) {
        stop.cancelled().await;
    }
}
