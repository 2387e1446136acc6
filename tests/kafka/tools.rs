//! What Kafka's own tools see of a group, and whose word counts in it.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use chatd::domain::{ConversationId, UserId};
use chatd::pipeline::kafka::KafkaSettings;
use chatd::pipeline::{Entry, EventLog, EventSource};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    ApiKey, GroupId, OffsetCommitRequest, OffsetCommitResponse, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::member::{LONG, Member, describe_group, with_topic};
use crate::stack::stack;

fn entry(partition: u32) -> Entry {
    let user = |id| UserId::new(id).unwrap();
    let key = ConversationId::dm(user(1), user(2)).unwrap();
    Entry { partition, key, value: Bytes::from_static(b"a record") }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafkas_own_tool_shows_the_members_and_how_far_they_are() {
    let exports = stack(&["kafka"]);
    let settings = with_topic(&exports).await;
    let mut member = Member::join(&settings).await;
    member.has(6).await;
    for _ in 0..5 {
        member.log.append(entry(2), member.log.generation()).await.unwrap();
    }
    let next: Vec<_> = (0..6).map(|partition| (partition, if partition == 2 { 3 } else { 0 })).collect();
    member.log.forget(&next).await.unwrap();

    // GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG CONSUMER-ID HOST CLIENT-ID
    let began = Instant::now();
    let line = loop {
        let said = describe_group(&exports, &settings.group, &[]);
        let lines: Vec<Vec<String>> =
            said.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect();
        let of_2 = lines.iter().find(|line| line.get(2).is_some_and(|partition| partition == "2"));
        if let Some(line) = of_2.filter(|line| line[3] != "-") {
            break line.clone();
        }
        assert!(began.elapsed() < LONG, "{said}");
    };
    assert_eq!(line[1], settings.topic);
    assert_eq!(line[3..6], ["3", "5", "2"], "current offset, end and lag");
    assert!(line[6].starts_with("chatd-"), "a member: {line:?}");
    assert!(line[7].contains("127.0.0.1"), "its host: {line:?}");

    let members = describe_group(&exports, &settings.group, &["--members", "--verbose"]);
    assert!(members.contains("0,1,2,3,4,5"), "what it was assigned: {members}");
}

/// Commits with the member's id and a generation, as a process would that was stopped and woke up again.
async fn commit(settings: &KafkaSettings, member: &str, generation: i32) -> Option<ResponseError> {
    const VERSION: i16 = 8;
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let partition = OffsetCommitRequestPartition::default().with_partition_index(0).with_committed_offset(1);
    let topic = OffsetCommitRequestTopic::default()
        .with_name(TopicName(text(&settings.topic)))
        .with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text(&settings.group)))
        .with_generation_id_or_member_epoch(generation)
        .with_member_id(text(member))
        .with_topics(vec![topic]);
    let header = RequestHeader::default()
        .with_request_api_key(ApiKey::OffsetCommit as i16)
        .with_request_api_version(VERSION);
    let mut frame = BytesMut::new();
    header.encode(&mut frame, OffsetCommitRequest::header_version(VERSION)).unwrap();
    request.encode(&mut frame, VERSION).unwrap();

    // The only broker coordinates every group.
    let mut broker = TcpStream::connect(&settings.brokers[0]).await.unwrap();
    broker.write_u32(u32::try_from(frame.len()).unwrap()).await.unwrap();
    broker.write_all(&frame).await.unwrap();
    let mut answer = vec![0; broker.read_u32().await.unwrap() as usize];
    broker.read_exact(&mut answer).await.unwrap();
    let mut answer = Bytes::from(answer);
    ResponseHeader::decode(&mut answer, OffsetCommitResponse::header_version(VERSION)).unwrap();
    let answer = OffsetCommitResponse::decode(&mut answer, VERSION).unwrap();
    ResponseError::try_from_code(answer.topics[0].partitions[0].error_code)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_of_an_earlier_generation_is_refused() {
    let exports = stack(&["kafka"]);
    let settings = with_topic(&exports).await;
    let mut first = Member::join(&settings).await;
    first.has(6).await;
    let mut second = Member::join(&settings).await;
    first.has(3).await;
    second.has(3).await;

    let members = describe_group(&exports, &settings.group, &["--members"]);
    let mut ids = members.split_whitespace().filter(|word| word.starts_with("chatd-"));
    let id = ids.find(|word| word.len() > 36).expect(&members);
    // The group is in its second generation.
    assert_eq!(commit(&settings, id, 2).await, None);
    assert_eq!(commit(&settings, id, 1).await, Some(ResponseError::IllegalGeneration));
    assert_eq!(commit(&settings, "chatd-of-another-time", 2).await, Some(ResponseError::UnknownMemberId));
}
