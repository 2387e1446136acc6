//! The topic that is the log: made with the settings of the promise where there is none, and looked at where
//! there is one.

use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{MetadataResponsePartition, MetadataResponseTopic};
use kafka_protocol::messages::{
    ApiVersionsRequest, CreateTopicsRequest, DescribeConfigsRequest, DescribeConfigsResponse,
    MetadataRequest, MetadataResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use tokio::time::{Instant, sleep};

use super::cluster::reach;
use super::connection::Connection;
use super::error::KafkaError;
use super::promise::{self, REPLICATION, TopicConfig, TopicFacts};
use super::security::Security;
use super::settings::KafkaSettings;
use crate::domain::Partition;

/// How long a broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long brokers may take to make a topic, leaders of its partitions included.
const CREATE_PATIENCE: Duration = Duration::from_secs(15);
/// How often they are asked meanwhile.
const CREATE_PAUSE: Duration = Duration::from_millis(100);
/// Kafka's number of the kind of things whose settings are described: a topic.
const TOPIC_RESOURCE: i8 = 2;
/// The settings that are looked at.
const LOOKED_AT: [&str; 8] = [
    "cleanup.policy",
    "compression.type",
    "max.message.bytes",
    "message.timestamp.type",
    "min.insync.replicas",
    "retention.bytes",
    "retention.ms",
    "unclean.leader.election.enable",
];

/// Why there is no topic that chatd can use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// The brokers cannot be asked.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The topic is there and lacks what chatd needs; the sentence says what to do.
    #[error("{0}")]
    Unfit(String),
    /// The topic is not there and cannot be made.
    #[error("topic {topic} does not exist and was not made: {what}. To make it: {command}")]
    NotMade {
        /// Its name.
        topic: String,
        /// Why.
        what: String,
        /// What an operator can run.
        command: String,
    },
}

/// A broker that is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerFacts {
    /// Its number.
    pub id: i32,
    /// `host:port`, as it tells its clients.
    pub address: String,
}

/// What can be known of the cluster, for a diagnosis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterFacts {
    /// The brokers that are up, by number.
    pub brokers: Vec<BrokerFacts>,
    /// The level of Kafka's `metadata.version` of a cluster in KRaft mode; none with ZooKeeper.
    pub metadata_version: Option<i16>,
    /// chatd's topic; none where it does not exist yet.
    pub topic: Option<TopicFacts>,
}

/// Sees to it that the topic is there and fit, and returns what an operator should know. Under production rules
/// (`strict`) a topic that could lose accepted messages is refused.
pub async fn ensure_topic(settings: &KafkaSettings, strict: bool) -> Result<Vec<String>, TopicError> {
    let security = Security::new(settings)?;
    let connection = reach(settings, &security).await?;
    let mut seen = look(&connection, &settings.topic).await?;
    if !exists(&seen) {
        seen = make(&connection, seen, settings, &security, strict).await?;
    }
    let facts = facts(&connection, &seen, &settings.topic).await?.ok_or_else(|| {
        // It was there a moment ago.
        KafkaError::NoTopic(settings.topic.clone())
    })?;
    let brokers = settings.brokers.join(",");
    let (mut notices, refusal) = promise::judge(&facts.name, &brokers, &promise::findings(&facts), strict);
    if let Some(refusal) = refusal {
        return Err(TopicError::Unfit(refusal));
    }
    if facts.partitions != settings.partitions {
        notices.push(format!(
            "log.partitions is {}, but topic {} was made with {} and keeps them",
            settings.partitions, facts.name, facts.partitions
        ));
    }
    Ok(notices)
}

/// What can be known of the cluster and the topic; makes nothing.
pub async fn describe(settings: &KafkaSettings) -> Result<ClusterFacts, TopicError> {
    let security = Security::new(settings)?;
    let connection = reach(settings, &security).await?;
    let seen = look(&connection, &settings.topic).await?;
    let asking = ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("chatd"))
        .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
    let spoken = connection.call(&asking, PATIENCE).await?;
    let mut features = spoken.finalized_features.iter();
    let metadata = features.find(|feature| feature.name.as_str() == "metadata.version");
    let broker = |broker: &kafka_protocol::messages::metadata_response::MetadataResponseBroker| BrokerFacts {
        id: broker.node_id.0,
        address: format!("{}:{}", broker.host, broker.port),
    };
    let mut brokers: Vec<_> = seen.brokers.iter().map(broker).collect();
    brokers.sort_by_key(|broker| broker.id);
    Ok(ClusterFacts {
        brokers,
        metadata_version: metadata.map(|feature| feature.max_version_level),
        topic: facts(&connection, &seen, &settings.topic).await?,
    })
}

/// The brokers, and the topic where it exists.
async fn look(connection: &Connection, topic: &str) -> Result<MetadataResponse, KafkaError> {
    let request = MetadataRequest::default()
        .with_topics(Some(vec![MetadataRequestTopic::default().with_name(Some(name(topic)))]))
        .with_allow_auto_topic_creation(false);
    let seen = connection.call(&request, PATIENCE).await?;
    KafkaError::check("the cluster's state", seen.error_code)?;
    if let Some(topic) = seen.topics.first() {
        match ResponseError::try_from_code(topic.error_code) {
            // One that is being made has no leaders yet.
            None | Some(ResponseError::UnknownTopicOrPartition | ResponseError::LeaderNotAvailable) => {}
            Some(code) => return Err(KafkaError::Refused { what: "the topic's state", code }),
        }
    }
    Ok(seen)
}

fn described(seen: &MetadataResponse) -> Option<&MetadataResponseTopic> {
    seen.topics.first().filter(|topic| topic.error_code == 0 && !topic.partitions.is_empty())
}

fn exists(seen: &MetadataResponse) -> bool {
    seen.topics.first().is_some_and(|topic| topic.error_code != ResponseError::UnknownTopicOrPartition.code())
}

/// Makes the topic and waits until each partition has a leader.
async fn make(
    connection: &Connection,
    mut seen: MetadataResponse,
    settings: &KafkaSettings,
    security: &Security,
    strict: bool,
) -> Result<MetadataResponse, TopicError> {
    let deadline = Instant::now() + CREATE_PATIENCE;
    let replication = if seen.brokers.len() >= REPLICATION as usize { REPLICATION } else { 1 };
    let refused = |what: String| TopicError::NotMade {
        topic: settings.topic.clone(),
        what,
        command: command(settings, replication),
    };
    if strict && replication < REPLICATION {
        return Err(refused(format!(
            "{} of the three brokers that production rules ask for are up",
            seen.brokers.len()
        )));
    }
    loop {
        match create(&seen, settings, security, replication).await {
            Ok(()) => break,
            Err((Some(ResponseError::TopicAlreadyExists), _)) => break,
            Err((Some(ResponseError::NotController), _)) if Instant::now() < deadline => {
                sleep(CREATE_PAUSE).await;
                seen = look(connection, &settings.topic).await?;
            }
            Err((_, what)) => return Err(refused(what)),
        }
    }
    loop {
        seen = look(connection, &settings.topic).await?;
        let led = |partition: &MetadataResponsePartition| partition.leader_id.0 >= 0;
        if described(&seen).is_some_and(|topic| topic.partitions.iter().all(led)) {
            return Ok(seen);
        }
        if Instant::now() >= deadline {
            return Err(refused("the brokers did not elect leaders for it in 15 s".to_owned()));
        }
        sleep(CREATE_PAUSE).await;
    }
}

/// Asks the controller for the topic; a refusal with its code, if it has one, and a sentence.
async fn create(
    seen: &MetadataResponse,
    settings: &KafkaSettings,
    security: &Security,
    replication: i16,
) -> Result<(), (Option<ResponseError>, String)> {
    let failed = |error: KafkaError| (None, error.to_string());
    // With ZooKeeper it has to be the controller; with KRaft this is any broker.
    let controller = seen.brokers.iter().find(|broker| broker.node_id == seen.controller_id);
    let Some(broker) = controller else {
        return Err((Some(ResponseError::NotController), "the cluster has no controller now".to_owned()));
    };
    let address = format!("{}:{}", broker.host, broker.port);
    let connection = Connection::open(&address, security).await.map_err(failed)?;
    let config = |(name, value): (&'static str, String)| {
        CreatableTopicConfig::default()
            .with_name(StrBytes::from_static_str(name))
            .with_value(Some(StrBytes::from_string(value)))
    };
    let topic = CreatableTopic::default()
        .with_name(name(&settings.topic))
        .with_num_partitions(i32::try_from(settings.partitions).unwrap_or(i32::MAX))
        .with_replication_factor(replication)
        .with_configs(promise::wanted(replication).into_iter().map(config).collect());
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
    let answer = connection.call(&request, CREATE_PATIENCE).await.map_err(failed)?;
    let Some(made) = answer.topics.first() else { return Ok(()) };
    match ResponseError::try_from_code(made.error_code) {
        None => Ok(()),
        Some(code) => {
            let said = made.error_message.as_ref().map(StrBytes::to_string);
            Err((Some(code), said.unwrap_or_else(|| code.to_string())))
        }
    }
}

/// What an operator can run to make the topic.
fn command(settings: &KafkaSettings, replication: i16) -> String {
    let mut command = format!(
        "kafka-topics.sh --bootstrap-server {} --create --topic {} --partitions {} --replication-factor \
         {replication}",
        settings.brokers.join(","),
        settings.topic,
        settings.partitions
    );
    for (name, value) in promise::wanted(replication) {
        command.push_str(&format!(" --config {name}={value}"));
    }
    command
}

async fn facts(
    connection: &Connection,
    seen: &MetadataResponse,
    topic: &str,
) -> Result<Option<TopicFacts>, KafkaError> {
    let Some(described) = described(seen) else { return Ok(None) };
    let config = read_config(&settings_of(connection, topic).await?)?;
    let chosen = |which: fn(&MetadataResponsePartition) -> bool| {
        let mut numbers: Vec<Partition> = described
            .partitions
            .iter()
            .filter(|partition| which(partition))
            .filter_map(|partition| Partition::try_from(partition.partition_index).ok())
            .collect();
        numbers.sort_unstable();
        numbers
    };
    let copies = described.partitions.iter().map(|partition| partition.replica_nodes.len()).min();
    Ok(Some(TopicFacts {
        name: topic.to_owned(),
        id: described.topic_id,
        partitions: Partition::try_from(described.partitions.len()).unwrap_or(Partition::MAX),
        brokers: seen.brokers.len(),
        replication: copies.and_then(|copies| i16::try_from(copies).ok()).unwrap_or(0),
        under_replicated: chosen(|partition| partition.isr_nodes.len() < partition.replica_nodes.len()),
        leaderless: chosen(|partition| partition.leader_id.0 < 0),
        config,
    }))
}

async fn settings_of(connection: &Connection, topic: &str) -> Result<DescribeConfigsResponse, KafkaError> {
    let names = LOOKED_AT.iter().map(|name| StrBytes::from_static_str(name)).collect();
    let resource = DescribeConfigsResource::default()
        .with_resource_type(TOPIC_RESOURCE)
        .with_resource_name(StrBytes::from_string(topic.to_owned()))
        .with_configuration_keys(Some(names));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    connection.call(&request, PATIENCE).await
}

fn read_config(answer: &DescribeConfigsResponse) -> Result<TopicConfig, KafkaError> {
    let Some(result) = answer.results.first() else {
        return Err(KafkaError::Malformed("the topic's settings are missing".to_owned()));
    };
    KafkaError::check("describing the topic's settings", result.error_code)?;
    let text = |name: &str| {
        let setting = result.configs.iter().find(|config| config.name.as_str() == name);
        let value = setting.and_then(|config| config.value.as_ref());
        value.map(StrBytes::to_string).ok_or_else(|| KafkaError::Malformed(format!("{name} is missing")))
    };
    let number = |name: &str| {
        let value = text(name)?;
        value.parse::<i64>().map_err(|_| KafkaError::Malformed(format!("{name} is {value}")))
    };
    Ok(TopicConfig {
        cleanup_policy: text("cleanup.policy")?,
        compression_type: text("compression.type")?,
        timestamp_type: text("message.timestamp.type")?,
        min_insync_replicas: number("min.insync.replicas")?,
        unclean_leader_election: text("unclean.leader.election.enable")? == "true",
        retention_ms: number("retention.ms")?,
        retention_bytes: number("retention.bytes")?,
        max_message_bytes: number("max.message.bytes")?,
    })
}

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}
