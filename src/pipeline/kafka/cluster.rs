//! Which brokers there are, who leads which partition, and whether the topic is still the same one.
//!
//! A task keeps that up to date: every few seconds, and at once when somebody finds it wrong; not more often
//! than every 100 ms. Everybody else looks at what it found last, without waiting.

use std::collections::HashMap;
use std::sync::Arc;

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use tokio::sync::{Notify, watch};
use tokio::time::{Duration, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use super::connection::Connection;
use super::error::KafkaError;
use super::security::Security;
use super::settings::KafkaSettings;
use crate::domain::Partition;

/// How long a broker may take to say who leads what.
const METADATA_PATIENCE: Duration = Duration::from_secs(2);
/// How old the knowledge gets when nobody complains.
const REFRESH_EVERY: Duration = Duration::from_secs(5);
/// How often brokers are asked at most.
const REFRESH_PAUSE: Duration = Duration::from_millis(100);

/// What is known of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// The topic's id, kept from the first look on.
    pub topic_id: Uuid,
    /// The leader of each partition; none while one is being elected.
    pub leaders: Vec<Option<BrokerId>>,
    /// Where each broker listens, `host:port`.
    pub brokers: HashMap<BrokerId, String>,
    /// The topic of this name is another one now: its id or its number of partitions is not what it was.
    pub is_foreign: bool,
}

impl Topology {
    /// The number of partitions.
    pub fn partitions(&self) -> Partition {
        Partition::try_from(self.leaders.len()).unwrap_or(Partition::MAX)
    }

    /// Who leads this partition.
    pub fn leader(&self, partition: Partition) -> Option<BrokerId> {
        self.leaders.get(partition as usize).copied().flatten()
    }
}

/// The cluster and the topic. The task that keeps it up to date ends with it.
pub struct Cluster {
    topic: TopicName,
    security: Security,
    topology: watch::Sender<Arc<Topology>>,
    stale: Notify,
    _ends: DropGuard,
}

/// Connects to the first of the brokers in the settings that can be reached.
pub async fn reach(settings: &KafkaSettings, security: &Security) -> Result<Connection, KafkaError> {
    first_of(settings.brokers.iter(), security).await
}

async fn first_of(
    addresses: impl Iterator<Item = &String>,
    security: &Security,
) -> Result<Connection, KafkaError> {
    let mut failure = KafkaError::Connect { address: "Kafka".into(), what: "no brokers are known".into() };
    for address in addresses {
        match Connection::open(address, security).await {
            Ok(connection) => return Ok(connection),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

impl Cluster {
    /// Learns the topic, which has to exist, and keeps watching it.
    pub async fn connect(
        settings: &KafkaSettings,
        security: Security,
        connection: Connection,
    ) -> Result<Arc<Self>, KafkaError> {
        let topic = TopicName(StrBytes::from_string(settings.topic.clone()));
        let found = ask(&connection, &topic).await?;
        let topology = read(&found, &topic, None)?;
        let stop = CancellationToken::new();
        let cluster = Arc::new(Self {
            topic,
            security,
            topology: watch::Sender::new(Arc::new(topology)),
            stale: Notify::new(),
            _ends: stop.clone().drop_guard(),
        });
        let keeper = Keeper { bootstrap: settings.brokers.clone(), connection: Some(connection), turn: 0 };
        // The task must not keep alive what ends it.
        let watched = Arc::downgrade(&cluster);
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = keeper.run(&watched) => {}
            }
        });
        Ok(cluster)
    }

    /// The topic's name.
    pub fn topic(&self) -> &TopicName {
        &self.topic
    }

    /// What is known now.
    pub fn topology(&self) -> Arc<Topology> {
        self.topology.borrow().clone()
    }

    /// What is known, as it changes.
    pub fn watch(&self) -> watch::Receiver<Arc<Topology>> {
        self.topology.subscribe()
    }

    /// Says that what is known was found to be wrong; brokers are asked soon.
    pub fn is_stale(&self) {
        self.stale.notify_one();
    }

    /// Asks a broker whether the topic is still the same one.
    pub(super) async fn verify(&self, connection: &Connection) -> Result<(), KafkaError> {
        let found = ask(connection, &self.topic).await?;
        let now = read(&found, &self.topic, Some(&self.topology()))?;
        if now.is_foreign {
            self.topology.send_replace(Arc::new(now));
            return Err(KafkaError::Foreign(self.topic.0.to_string()));
        }
        Ok(())
    }

    /// Opens a connection to a broker.
    pub async fn open(&self, broker: BrokerId) -> Result<Connection, KafkaError> {
        let address = self.topology.borrow().brokers.get(&broker).cloned();
        let Some(address) = address else {
            let address = format!("broker {}", broker.0);
            return Err(KafkaError::Connect { address, what: "the cluster does not know it".into() });
        };
        self.open_at(&address).await
    }

    /// Opens a connection to `host:port`.
    pub async fn open_at(&self, address: &str) -> Result<Connection, KafkaError> {
        Connection::open(address, &self.security).await
    }

    /// Opens a connection to any broker.
    pub async fn any(&self) -> Result<Connection, KafkaError> {
        first_of(self.topology().brokers.values(), &self.security).await
    }
}

/// Keeps the topology up to date.
struct Keeper {
    bootstrap: Vec<String>,
    connection: Option<Connection>,
    /// The broker that is tried first when another is needed.
    turn: usize,
}

impl Keeper {
    async fn run(mut self, cluster: &std::sync::Weak<Cluster>) {
        let mut is_lost = false;
        loop {
            sleep(REFRESH_PAUSE).await;
            let Some(cluster) = cluster.upgrade() else { return };
            // Without a word the knowledge is renewed by its age.
            let _ = timeout(REFRESH_EVERY, cluster.stale.notified()).await;
            match self.refresh(&cluster).await {
                Ok(()) if std::mem::take(&mut is_lost) => tracing::info!("the Kafka cluster answers again"),
                Ok(()) => {}
                Err(error) => {
                    if !std::mem::replace(&mut is_lost, true) {
                        tracing::warn!(%error, "the Kafka cluster cannot be asked who leads which partition");
                    }
                }
            }
        }
    }

    async fn refresh(&mut self, cluster: &Cluster) -> Result<(), KafkaError> {
        let connection = match self.connection.take().filter(|connection| !connection.is_over()) {
            Some(connection) => connection,
            None => self.reopen(cluster).await?,
        };
        let found = ask(&connection, &cluster.topic).await?;
        self.connection = Some(connection);
        let before = cluster.topology();
        let now = read(&found, &cluster.topic, Some(&before))?;
        if now.is_foreign && !before.is_foreign {
            tracing::error!(topic = %cluster.topic.0, "the topic is another one now; nothing is written to it or read from it");
        }
        cluster.topology.send_if_modified(|known| {
            let is_new = **known != now;
            if is_new {
                *known = Arc::new(now);
            }
            is_new
        });
        Ok(())
    }

    async fn reopen(&mut self, cluster: &Cluster) -> Result<Connection, KafkaError> {
        let topology = cluster.topology();
        let mut addresses: Vec<&String> = topology.brokers.values().collect();
        addresses.sort();
        addresses.extend(
            self.bootstrap.iter().filter(|address| !topology.brokers.values().any(|known| known == *address)),
        );
        let first = self.turn % addresses.len().max(1);
        // One that failed is not the first to be asked the next time.
        self.turn = self.turn.wrapping_add(1);
        let count = addresses.len();
        first_of(addresses.into_iter().cycle().skip(first).take(count), &cluster.security).await
    }
}

async fn ask(connection: &Connection, topic: &TopicName) -> Result<MetadataResponse, KafkaError> {
    let request = MetadataRequest::default()
        .with_topics(Some(vec![MetadataRequestTopic::default().with_name(Some(topic.clone()))]))
        .with_allow_auto_topic_creation(false);
    connection.call(&request, METADATA_PATIENCE).await
}

/// What an answer says, measured against what was known.
fn read(
    found: &MetadataResponse,
    topic: &TopicName,
    before: Option<&Topology>,
) -> Result<Topology, KafkaError> {
    KafkaError::check("the cluster's state", found.error_code)?;
    let brokers = found
        .brokers
        .iter()
        .map(|broker| (broker.node_id, format!("{}:{}", broker.host, broker.port)))
        .collect();
    let described = found.topics.iter().find(|described| described.name.as_ref() == Some(topic));
    let described =
        described.filter(|described| described.error_code == 0 && !described.partitions.is_empty());
    let Some(described) = described else {
        // A cluster that starts does not know its topics yet; one that was deleted is nobody's.
        let Some(before) = before else { return Err(KafkaError::NoTopic(topic.0.to_string())) };
        return Ok(Topology { brokers, leaders: vec![None; before.leaders.len()], ..before.clone() });
    };
    let mut leaders = vec![None; described.partitions.len()];
    for partition in &described.partitions {
        let index = usize::try_from(partition.partition_index).ok();
        if let Some(leader) = index.and_then(|index| leaders.get_mut(index)) {
            *leader = Some(partition.leader_id).filter(|leader| leader.0 >= 0);
        }
    }
    let Some(before) = before else {
        return Ok(Topology { topic_id: described.topic_id, leaders, brokers, is_foreign: false });
    };
    let is_same = described.topic_id == before.topic_id && leaders.len() == before.leaders.len();
    if before.is_foreign || !is_same {
        return Ok(Topology { is_foreign: true, brokers, ..before.clone() });
    }
    Ok(Topology { leaders, brokers, ..before.clone() })
}
