//! The requests of a member, each as one call with its own patience.

use std::time::Duration;

use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    FindCoordinatorRequest, FindCoordinatorResponse, GroupId, HeartbeatRequest, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, OffsetCommitRequest, SyncGroupRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::membership::{Joined, Plan};
use super::wire::{self, WireError};
use crate::domain::{Offset, Partition};
use crate::pipeline::kafka::assignor::Candidate;
use crate::pipeline::kafka::connection::Connection;
use crate::pipeline::kafka::error::KafkaError;

/// A member that was not heard of for so long is taken for dead: others take over within 10 s of a `kill -9`.
/// Not below the brokers' `group.min.session.timeout.ms`, which is 6 s by default.
const SESSION: Duration = Duration::from_secs(6);
/// How long the group waits for members to let go and join again.
const REBALANCE: Duration = Duration::from_secs(10);
/// How long a call may take, joining aside.
const PATIENCE: Duration = Duration::from_secs(2);
/// The answer to a join comes when all have joined, so it may take as long as the group waits.
const JOIN_PATIENCE: Duration = Duration::from_secs(15);
/// How long leaving may take: whoever stops does not wait for a broker that is away.
const LEAVE_PATIENCE: Duration = Duration::from_secs(1);
/// What Kafka's clients, and its tools, call a group of consumers.
const PROTOCOL_TYPE: StrBytes = StrBytes::from_static_str("consumer");
/// From this version on FindCoordinator asks for several groups at once (KIP-699).
const FIND_MANY: i16 = 4;

/// Why a step of the member did not come to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The call itself failed, or the coordinator refused it.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// What the members write to each other.
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// The answer to a join.
pub enum JoinAnswer {
    /// The member shall join once more, with this id.
    Identified(String),
    /// The group is complete.
    Joined(Joined),
}

/// The group, and what its members share out.
#[derive(Debug, Clone)]
pub struct Names {
    /// The group's name.
    pub group: String,
    /// The topic's name.
    pub topic: String,
}

impl Names {
    fn group(&self) -> GroupId {
        GroupId(text(&self.group))
    }

    /// The name of the way in which partitions are shared out. Groups do not mix two of them: a chatd of
    /// another topic, or another program, that was given the same group by mistake is refused.
    fn protocol(&self) -> StrBytes {
        text(&format!("chatd-sticky-{}", self.topic))
    }

    /// Where the coordinator is, as `host:port`.
    pub async fn find_coordinator(&self, any: &Connection) -> Result<String, KafkaError> {
        let request = if any.version_of::<FindCoordinatorRequest>()? >= FIND_MANY {
            FindCoordinatorRequest::default().with_coordinator_keys(vec![text(&self.group)])
        } else {
            FindCoordinatorRequest::default().with_key(text(&self.group))
        };
        let found = any.call(&request, PATIENCE).await?;
        let FindCoordinatorResponse { error_code, host, port, coordinators, .. } = found;
        let (code, host, port) = match coordinators.into_iter().next() {
            Some(found) => (found.error_code, found.host, found.port),
            None => (error_code, host, port),
        };
        KafkaError::check("finding the group's coordinator", code)?;
        Ok(format!("{}:{port}", host.as_str()))
    }

    /// Joins, and waits until all others have joined too.
    pub async fn join(&self, coordinator: &Connection, as_: &Candidate) -> Result<JoinAnswer, CallError> {
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(self.protocol())
            .with_metadata(wire::subscription(&self.topic, &as_.owned, as_.generation)?);
        let request = JoinGroupRequest::default()
            .with_group_id(self.group())
            .with_member_id(text(&as_.id))
            .with_session_timeout_ms(milliseconds(SESSION))
            .with_rebalance_timeout_ms(milliseconds(REBALANCE))
            .with_protocol_type(PROTOCOL_TYPE)
            .with_protocols(vec![protocol]);
        let answer = coordinator.call(&request, JOIN_PATIENCE).await?;
        if answer.error_code == kafka_protocol::ResponseError::MemberIdRequired.code() {
            return Ok(JoinAnswer::Identified(answer.member_id.to_string()));
        }
        KafkaError::check("joining the group", answer.error_code)?;
        Ok(JoinAnswer::Joined(self.read(answer)))
    }

    fn read(&self, answer: JoinGroupResponse) -> Joined {
        let leads = answer.leader == answer.member_id && !answer.skip_assignment;
        let candidate = |member: JoinGroupResponseMember| {
            let (owned, generation) = wire::owned(&self.topic, member.metadata).unwrap_or_else(|error| {
                tracing::warn!(%error, "a member of the group is treated as a new one");
                (Vec::new(), -1)
            });
            Candidate { id: member.member_id.to_string(), owned, generation }
        };
        let members = leads.then(|| answer.members.into_iter().map(candidate).collect());
        Joined { id: answer.member_id.to_string(), generation: answer.generation_id, members }
    }

    /// Hands the leader's plan in, and learns what this member gets.
    pub async fn sync(
        &self,
        coordinator: &Connection,
        id: &str,
        generation: i32,
        plan: &Plan,
    ) -> Result<Vec<Partition>, CallError> {
        let given = |(id, partitions): (&String, &Vec<Partition>)| {
            let assignment = wire::assignment(&self.topic, partitions)?;
            Ok(SyncGroupRequestAssignment::default().with_member_id(text(id)).with_assignment(assignment))
        };
        let request = SyncGroupRequest::default()
            .with_group_id(self.group())
            .with_generation_id(generation)
            .with_member_id(text(id))
            .with_protocol_type(Some(PROTOCOL_TYPE))
            .with_protocol_name(Some(self.protocol()))
            .with_assignments(plan.iter().map(given).collect::<Result<_, WireError>>()?);
        // It comes when the leader has handed in its plan.
        let answer = coordinator.call(&request, REBALANCE).await?;
        KafkaError::check("learning what to read", answer.error_code)?;
        Ok(wire::assigned(&self.topic, answer.assignment)?)
    }

    /// Says that the member lives.
    pub async fn heartbeat(
        &self,
        coordinator: &Connection,
        id: &str,
        generation: i32,
    ) -> Result<(), KafkaError> {
        let request = HeartbeatRequest::default()
            .with_group_id(self.group())
            .with_generation_id(generation)
            .with_member_id(text(id));
        let answer = coordinator.call(&request, PATIENCE).await?;
        KafkaError::check("staying in the group", answer.error_code)
    }

    /// Writes down how far partitions are, for tools that show the lag.
    pub async fn commit(
        &self,
        coordinator: &Connection,
        id: &str,
        generation: i32,
        offsets: &[(Partition, Offset)],
    ) -> Result<(), KafkaError> {
        let partition = |(partition, offset): &(Partition, Offset)| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(i32::try_from(*partition).unwrap_or(i32::MAX))
                .with_committed_offset(*offset)
                .with_committed_metadata(Some(StrBytes::new()))
        };
        let topic = OffsetCommitRequestTopic::default()
            .with_name(TopicName(text(&self.topic)))
            .with_partitions(offsets.iter().map(partition).collect());
        let request = OffsetCommitRequest::default()
            .with_group_id(self.group())
            .with_generation_id_or_member_epoch(generation)
            .with_member_id(text(id))
            .with_topics(vec![topic]);
        let answer = coordinator.call(&request, PATIENCE).await?;
        let mut codes = answer.topics.iter().flat_map(|topic| &topic.partitions).map(|done| done.error_code);
        codes.try_for_each(|code| KafkaError::check("committing offsets", code))
    }

    /// Leaves, so that the others take over at once.
    pub async fn leave(&self, coordinator: &Connection, id: &str) -> Result<(), KafkaError> {
        let request = LeaveGroupRequest::default()
            .with_group_id(self.group())
            .with_members(vec![MemberIdentity::default().with_member_id(text(id))]);
        let answer = coordinator.call(&request, LEAVE_PATIENCE).await?;
        KafkaError::check("leaving the group", answer.error_code)
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
