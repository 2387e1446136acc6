//! Brokers that do what a test says: a cluster in this process, with real sockets and no disk.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::fetch_response::{EpochEndOffset, FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, BrokerId, FetchRequest, FetchResponse,
    ListOffsetsRequest, ListOffsetsResponse, MetadataRequest, MetadataResponse, ProduceRequest,
    ProduceResponse, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{
    Decodable, Encodable, HeaderVersion, Request, StrBytes, decode_request_header_from_buffer,
};
use kafka_protocol::records::RecordBatchDecoder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{Duration, Instant, sleep, timeout_at};
use uuid::Uuid;

use super::batches;
use super::queue::tests::waiting;
use super::settings::KafkaSettings;
use crate::domain::Timestamp;

pub(super) const TOPIC: &str = "chat.messages";

/// How a broker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Well,
    /// Takes requests and says nothing any more.
    Silent,
    /// Answers appends and fetches with this error.
    Refuses(i16),
    /// Stores what is appended, and closes the connection without an answer.
    Forgetful,
}

pub(super) struct World {
    pub(super) topic_id: Uuid,
    /// The leader of each partition; below zero: none.
    pub(super) leaders: Vec<i32>,
    /// The values of each partition.
    pub(super) logs: Vec<Vec<Bytes>>,
    pub(super) moods: HashMap<i32, Mood>,
    /// The newest version of a request that brokers speak.
    pub(super) versions: HashMap<i16, i16>,
    /// Every Produce request: the broker, and the partitions in it.
    pub(super) produced: Vec<(i32, Vec<i32>)>,
    /// The epoch of all leaders. A reader that knows of a later one read what is gone.
    pub(super) epoch: i32,
    /// How long a broker takes for a Produce request.
    pub(super) delay: Duration,
    addresses: Vec<String>,
}

/// The cluster; its brokers end with the test's runtime.
#[derive(Clone)]
pub(super) struct Fake {
    world: Arc<Mutex<World>>,
    grew: Arc<Notify>,
}

impl Fake {
    /// So many brokers, numbered from 0, and partitions that they lead in turn.
    pub(super) async fn start(brokers: usize, partitions: usize) -> Self {
        let mut listeners = Vec::new();
        for _ in 0..brokers {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
        }
        let address = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
        let world = World {
            topic_id: Uuid::new_v4(),
            leaders: (0..partitions).map(|partition| (partition % brokers) as i32).collect(),
            logs: vec![Vec::new(); partitions],
            moods: HashMap::new(),
            versions: HashMap::new(),
            produced: Vec::new(),
            epoch: 3,
            delay: Duration::ZERO,
            addresses: listeners.iter().map(address).collect(),
        };
        let fake = Self { world: Arc::new(Mutex::new(world)), grew: Arc::default() };
        for (broker, listener) in (0..).zip(listeners) {
            let fake = fake.clone();
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let fake = fake.clone();
                    tokio::spawn(async move { fake.serve(broker, stream).await });
                }
            });
        }
        fake
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    pub(super) fn mood(&self, broker: i32, mood: Mood) {
        self.world().moods.insert(broker, mood);
    }

    pub(super) fn settings(&self) -> KafkaSettings {
        let brokers = self.world().addresses.clone();
        KafkaSettings { brokers, topic: TOPIC.into(), ..KafkaSettings::default() }
    }

    /// What a partition holds, as text.
    pub(super) fn values(&self, partition: usize) -> Vec<String> {
        let text = |value: &Bytes| String::from_utf8(value.to_vec()).unwrap();
        self.world().logs[partition].iter().map(text).collect()
    }

    async fn serve(&self, broker: i32, mut stream: TcpStream) -> Option<()> {
        loop {
            let length = stream.read_u32().await.ok()?;
            let mut frame = vec![0; length as usize];
            stream.read_exact(&mut frame).await.ok()?;
            let mut frame = Bytes::from(frame);
            let header = decode_request_header_from_buffer(&mut frame).unwrap();
            let (version, correlation) = (header.request_api_version, header.correlation_id);
            let mood = self.world().moods.get(&broker).copied().unwrap_or(Mood::Well);
            let api = ApiKey::try_from(header.request_api_key).unwrap();
            let answer = match api {
                ApiKey::ApiVersions => answer::<ApiVersionsRequest>(&self.versions(), version, correlation),
                ApiKey::Metadata => answer::<MetadataRequest>(&self.metadata(), version, correlation),
                ApiKey::Produce => {
                    let request = ProduceRequest::decode(&mut frame, version).unwrap();
                    let delay = self.world().delay;
                    sleep(delay).await;
                    answer::<ProduceRequest>(
                        &self.produce(broker, mood, request, version),
                        version,
                        correlation,
                    )
                }
                ApiKey::Fetch => {
                    let request = FetchRequest::decode(&mut frame, version).unwrap();
                    let fetched = self.fetch(broker, mood, &request, version).await;
                    answer::<FetchRequest>(&fetched, version, correlation)
                }
                ApiKey::ListOffsets => {
                    let request = ListOffsetsRequest::decode(&mut frame, version).unwrap();
                    answer::<ListOffsetsRequest>(&self.offsets(&request), version, correlation)
                }
                other => panic!("{other:?}"),
            };
            match mood {
                Mood::Silent => continue,
                Mood::Forgetful if api == ApiKey::Produce => return None,
                _ => stream.write_all(&answer).await.ok()?,
            }
        }
    }

    fn versions(&self) -> ApiVersionsResponse {
        let world = self.world();
        let api = |api: ApiKey, newest: i16| {
            let newest = world.versions.get(&(api as i16)).copied().unwrap_or(newest);
            ApiVersion::default().with_api_key(api as i16).with_max_version(newest)
        };
        let spoken = [
            api(ApiKey::ApiVersions, 4),
            api(ApiKey::Metadata, 13),
            api(ApiKey::Produce, 13),
            api(ApiKey::Fetch, 18),
            api(ApiKey::ListOffsets, 10),
        ];
        ApiVersionsResponse::default().with_api_keys(spoken.into())
    }

    fn metadata(&self) -> MetadataResponse {
        let world = self.world();
        let broker = |(id, address): (i32, &String)| {
            let (host, port) = address.rsplit_once(':').unwrap();
            MetadataResponseBroker::default()
                .with_node_id(BrokerId(id))
                .with_host(StrBytes::from_string(host.into()))
                .with_port(port.parse().unwrap())
        };
        let partition = |(index, leader): (i32, &i32)| {
            MetadataResponsePartition::default().with_partition_index(index).with_leader_id(BrokerId(*leader))
        };
        let topic = MetadataResponseTopic::default()
            .with_name(Some(TopicName(StrBytes::from_static_str(TOPIC))))
            .with_topic_id(world.topic_id)
            .with_partitions((0..).zip(&world.leaders).map(partition).collect());
        MetadataResponse::default()
            .with_brokers((0..).zip(&world.addresses).map(broker).collect())
            .with_topics(vec![topic])
    }

    fn produce(&self, broker: i32, mood: Mood, request: ProduceRequest, version: i16) -> ProduceResponse {
        let topic = request.topic_data.into_iter().next().unwrap();
        let mut world = self.world();
        let indexes = topic.partition_data.iter().map(|partition| partition.index).collect();
        world.produced.push((broker, indexes));
        let mut responses = Vec::new();
        for data in topic.partition_data {
            let error =
                world.error(broker, mood, data.index, version >= 13 && topic.topic_id != world.topic_id);
            let log = &mut world.logs[data.index as usize];
            let response = PartitionProduceResponse::default().with_index(data.index).with_error_code(error);
            responses.push(response.with_base_offset(log.len() as i64));
            if error == 0 && mood != Mood::Silent {
                let records = RecordBatchDecoder::decode(&mut data.records.unwrap()).unwrap().records;
                log.extend(records.into_iter().map(|record| record.value.unwrap()));
            }
        }
        drop(world);
        self.grew.notify_waiters();
        let topic = TopicProduceResponse::default()
            .with_name(topic.name)
            .with_topic_id(topic.topic_id)
            .with_partition_responses(responses);
        ProduceResponse::default().with_responses(vec![topic])
    }

    async fn fetch(&self, broker: i32, mood: Mood, request: &FetchRequest, version: i16) -> FetchResponse {
        let deadline = Instant::now() + Duration::from_millis(request.max_wait_ms as u64);
        loop {
            let mut grew = std::pin::pin!(self.grew.notified());
            grew.as_mut().enable();
            let (fetched, is_something) = self.look(broker, mood, request, version);
            if is_something || timeout_at(deadline, grew).await.is_err() {
                return fetched;
            }
        }
    }

    fn look(&self, broker: i32, mood: Mood, request: &FetchRequest, version: i16) -> (FetchResponse, bool) {
        let topic = &request.topics[0];
        let world = self.world();
        let mut is_something = false;
        let partitions = topic.partitions.iter().map(|asked| {
            let log = &world.logs[asked.partition as usize];
            let mut error =
                world.error(broker, mood, asked.partition, version >= 13 && topic.topic_id != world.topic_id);
            let from = usize::try_from(asked.fetch_offset).unwrap_or(usize::MAX);
            if error == 0 && from > log.len() {
                error = 1;
            }
            let data = PartitionData::default()
                .with_partition_index(asked.partition)
                .with_error_code(error)
                .with_high_watermark(log.len() as i64);
            let is_ahead = asked.last_fetched_epoch > world.epoch;
            if error == 0 && is_ahead {
                is_something = true;
                let common = EpochEndOffset::default().with_epoch(world.epoch).with_end_offset(0);
                return data.with_records(Some(Bytes::new())).with_diverging_epoch(common);
            }
            is_something |= error != 0 || from < log.len();
            if error != 0 || from >= log.len() {
                return data.with_records(Some(Bytes::new()));
            }
            let records: Vec<_> = log[from..].iter().map(|value| waiting(value.clone())).collect();
            let mut batch = BytesMut::from(&batches::encode(&records, Timestamp::now()).unwrap()[..]);
            batch[..8].copy_from_slice(&asked.fetch_offset.to_be_bytes());
            batch[12..16].copy_from_slice(&world.epoch.to_be_bytes());
            data.with_records(Some(batch.freeze()))
        });
        let partitions = partitions.collect();
        let topic = FetchableTopicResponse::default()
            .with_topic(topic.topic.clone())
            .with_topic_id(topic.topic_id)
            .with_partitions(partitions);
        (FetchResponse::default().with_responses(vec![topic]), is_something)
    }

    fn offsets(&self, request: &ListOffsetsRequest) -> ListOffsetsResponse {
        let world = self.world();
        let topic = &request.topics[0];
        let partition = |asked: &kafka_protocol::messages::list_offsets_request::ListOffsetsPartition| {
            let end = world.logs[asked.partition_index as usize].len() as i64;
            ListOffsetsPartitionResponse::default()
                .with_partition_index(asked.partition_index)
                .with_offset(if asked.timestamp == -2 { 0 } else { end })
        };
        let topic = ListOffsetsTopicResponse::default()
            .with_name(topic.name.clone())
            .with_partitions(topic.partitions.iter().map(partition).collect());
        ListOffsetsResponse::default().with_topics(vec![topic])
    }
}

impl World {
    /// What a broker says of a partition: an unknown topic id, another leader, or what its mood is.
    fn error(&self, broker: i32, mood: Mood, partition: i32, is_unknown: bool) -> i16 {
        match mood {
            _ if is_unknown => 100,
            _ if self.leaders[partition as usize] != broker => 6,
            Mood::Refuses(code) => code,
            _ => 0,
        }
    }
}

fn answer<R: Request>(response: &R::Response, version: i16, correlation: i32) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u32(0);
    let header = ResponseHeader::default().with_correlation_id(correlation);
    header.encode(&mut frame, R::Response::header_version(version)).unwrap();
    response.encode(&mut frame, version).unwrap();
    let length = (frame.len() - 4) as u32;
    (&mut frame[..4]).put_u32(length);
    assert!(frame.remaining() > 4);
    frame.freeze()
}
