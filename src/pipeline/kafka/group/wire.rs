//! What members of the group write to each other through the coordinator: Kafka's own consumer protocol
//! ("consumer", KIP-429 and KIP-792), so that Kafka's tools can read it too.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::consumer_protocol_assignment::TopicPartition as Assigned;
use kafka_protocol::messages::consumer_protocol_subscription::TopicPartition as Owned;
use kafka_protocol::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use crate::domain::Partition;

/// The first version that carries the generation of what a member owned.
const SUBSCRIPTION: i16 = 2;
/// Nothing was added to assignments since the first version.
const ASSIGNMENT: i16 = 0;
/// The latest versions that the codec knows; a later one begins like it.
const KNOWN: i16 = 3;

/// What was written cannot be encoded or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a member of the group wrote what cannot be read: {0}")]
pub struct WireError(String);

fn failed(error: impl std::fmt::Display) -> WireError {
    WireError(error.to_string())
}

/// What a member says when it joins: that it reads `topic`, and what it had of it in which generation.
pub fn subscription(topic: &str, owned: &[Partition], generation: i32) -> Result<Bytes, WireError> {
    let owned = match owned {
        [] => Vec::new(),
        _ => vec![Owned::default().with_topic(name(topic)).with_partitions(numbers(owned))],
    };
    let subscription = ConsumerProtocolSubscription::default()
        .with_topics(vec![StrBytes::from_string(topic.to_owned())])
        .with_owned_partitions(owned)
        .with_generation_id(generation);
    encode(&subscription, SUBSCRIPTION)
}

/// What another member had of `topic`, and in which generation.
pub fn owned(topic: &str, metadata: Bytes) -> Result<(Vec<Partition>, i32), WireError> {
    let subscription: ConsumerProtocolSubscription = decode(metadata)?;
    let of_topic = subscription.owned_partitions.iter().filter(|owned| owned.topic.as_str() == topic);
    let partitions = of_topic.flat_map(|owned| &owned.partitions);
    Ok((partitions.filter_map(|n| Partition::try_from(*n).ok()).collect(), subscription.generation_id))
}

/// What the leader gives to a member.
pub fn assignment(topic: &str, partitions: &[Partition]) -> Result<Bytes, WireError> {
    let assigned = match partitions {
        [] => Vec::new(),
        _ => vec![Assigned::default().with_topic(name(topic)).with_partitions(numbers(partitions))],
    };
    encode(&ConsumerProtocolAssignment::default().with_assigned_partitions(assigned), ASSIGNMENT)
}

/// What a member was given of `topic`, in order. A leader that gave nothing may have sent no bytes at all.
pub fn assigned(topic: &str, assignment: Bytes) -> Result<Vec<Partition>, WireError> {
    if assignment.is_empty() {
        return Ok(Vec::new());
    }
    let assignment: ConsumerProtocolAssignment = decode(assignment)?;
    let of_topic = assignment.assigned_partitions.iter().filter(|assigned| assigned.topic.as_str() == topic);
    let mut partitions: Vec<Partition> = of_topic
        .flat_map(|assigned| &assigned.partitions)
        .filter_map(|number| Partition::try_from(*number).ok())
        .collect();
    partitions.sort_unstable();
    partitions.dedup();
    Ok(partitions)
}

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

fn numbers(partitions: &[Partition]) -> Vec<i32> {
    partitions.iter().filter_map(|partition| i32::try_from(*partition).ok()).collect()
}

/// The version stands in front, as Kafka's clients write it.
fn encode<M: Encodable>(message: &M, version: i16) -> Result<Bytes, WireError> {
    let mut buffer = BytesMut::new();
    buffer.put_i16(version);
    message.encode(&mut buffer, version).map_err(failed)?;
    Ok(buffer.freeze())
}

fn decode<M: Decodable>(mut bytes: Bytes) -> Result<M, WireError> {
    if bytes.len() < 2 {
        return Err(WireError("no version".to_owned()));
    }
    let version = bytes.get_i16();
    if version < 0 {
        return Err(WireError(format!("version {version}")));
    }
    M::decode(&mut bytes, version.min(KNOWN)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_member_had_comes_back_with_its_generation() {
        let metadata = subscription("chat.messages", &[4, 1], 7).unwrap();
        assert_eq!(owned("chat.messages", metadata.clone()), Ok((vec![4, 1], 7)));
        assert_eq!(owned("other", metadata), Ok((vec![], 7)));
        let nothing = subscription("chat.messages", &[], -1).unwrap();
        assert_eq!(owned("chat.messages", nothing), Ok((vec![], -1)));
    }

    #[test]
    fn what_a_member_is_given_comes_in_order_and_once() {
        let given = assignment("chat.messages", &[5, 0, 5]).unwrap();
        assert_eq!(assigned("chat.messages", given), Ok(vec![0, 5]));
        assert_eq!(assigned("chat.messages", assignment("chat.messages", &[]).unwrap()), Ok(vec![]));
        assert_eq!(assigned("chat.messages", Bytes::new()), Ok(vec![]));
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let mut later = BytesMut::from(&subscription("t", &[2], 1).unwrap()[..]);
        later[1] = 9;
        later.put_i16(-1); // no rack, as version 3 has it
        later.put_slice(b"more");
        assert_eq!(owned("t", later.freeze()), Ok((vec![2], 1)));
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        for bytes in [&b""[..], b"\0", b"\xff\xff", b"\0\x02\0\0\0\x09x"] {
            assert!(owned("t", Bytes::copy_from_slice(bytes)).is_err(), "{bytes:?}");
        }
        assert!(assigned("t", Bytes::from_static(b"\0\0\0\0\0\x01")).is_err());
    }
}
