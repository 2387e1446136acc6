//! Runs workers until they are told to stop. A worker that ends by itself, or panics, is a fault of ours: the
//! process stops in order and says so, since what was accepted is durable and a fresh start repairs.

use std::future::Future;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// A set of workers with one stop signal.
#[derive(Debug, Default)]
pub struct Supervisor {
    workers: JoinSet<&'static str>,
    stop: CancellationToken,
}

impl Supervisor {
    /// No workers yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The signal for a worker of this set.
    pub fn stop_signal(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a worker, which ends when the signal says so.
    pub fn start(&mut self, name: &'static str, worker: impl Future<Output = ()> + Send + 'static) {
        self.workers.spawn(async move {
            worker.await;
            name
        });
    }

    /// Waits until a worker ends although nobody told it to: its name, or that it panicked.
    pub async fn failed(&mut self) -> String {
        match self.workers.join_next().await {
            Some(Ok(name)) => format!("the worker `{name}` ended by itself"),
            Some(Err(error)) => format!("a worker failed: {error}"),
            None => std::future::pending().await,
        }
    }

    /// Tells all to stop and waits for their end.
    pub async fn stop(&mut self) {
        self.stop.cancel();
        while let Some(ended) = self.workers.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a worker failed while stopping");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_worker_that_ends_by_itself_is_noticed_and_others_stop_when_told() {
        let mut supervisor = Supervisor::new();
        let stop = supervisor.stop_signal();
        supervisor.start("patient", async move { stop.cancelled().await });
        supervisor.start("hasty", async {});
        assert!(supervisor.failed().await.contains("hasty"));
        supervisor.stop().await;
    }
}
