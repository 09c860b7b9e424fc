//! Types that the producer, the wire client and the shard exchange. Plain data; no socket, no clock.

use std::rc::Rc;

use super::fetch::{FetchAnswer, FetchFailure};
use forebay_guard::outward::News;

/// A broker's node id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub i32);

/// A sink: index into the resolved configuration's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SinkId(pub u16);

impl SinkId {
    /// The sink with this index. The number of sinks is always below the largest index.
    pub fn of(index: usize) -> Self {
        Self(u16::try_from(index).unwrap_or(u16::MAX))
    }
}

/// The acknowledgement that a row is waited for. Opaque to the producer; the shard makes it from a session's key and the number
/// that the session gave the message (numbers of one session are consecutive, wrapping).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// The session.
    pub session: u64,
    /// The message's number within the session.
    pub number: u32,
}

/// Consecutive tickets of one session in a batch: acknowledgements are tracked per run, not per message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The session.
    pub session: u64,
    /// First number.
    pub first: u32,
    /// The number of tickets.
    pub count: u32,
}

/// The place of a sink's row in Kafka's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Landed<'a> {
    /// The sink.
    pub sink: SinkId,
    /// Topic.
    pub topic: &'a Rc<str>,
    /// Partition index.
    pub partition: u32,
    /// Offset; `None`: Kafka has not reported one.
    pub offset: Option<i64>,
}

/// How a row ends, for its publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The sink's level is met.
    Delivered,
    /// Kafka refused the row permanently, and the row is in the sink's dead letters.
    DeadLettered,
    /// Kafka refused the row permanently (error code): the publisher gets 0x80.
    Refused(i16),
}

impl Outcome {
    /// The stored row can no longer be read (as KAFKA_STORAGE_ERROR): the publisher may send it again.
    pub const LOST: Self = Self::Refused(56);
}

/// A topic as metadata describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicMetadata {
    /// The topic's name.
    pub name: Rc<str>,
    /// The topic's id (KIP-516); 0: the broker gives none.
    pub id: u128,
    /// Kafka error code of the topic (0, 3 UNKNOWN_TOPIC_OR_PARTITION, 5 LEADER_NOT_AVAILABLE, 17 INVALID_TOPIC, 29 …).
    pub error: i16,
    /// Leader of each partition, by partition index; `None`: no leader now. Empty if `error` is not 0.
    pub leaders: Vec<Option<NodeId>>,
    /// Leader epoch of each partition (KIP-101), by partition index; -1: unknown. Empty if the broker reports none.
    pub leader_epochs: Vec<i32>,
    /// Brokers with a replica of each partition, the leader included, by partition index; may be shorter.
    pub replicas: Vec<Box<[NodeId]>>,
}

/// One batch in a Produce request: whole and closed (CRC in place).
#[derive(Clone, Debug)]
pub struct ProduceBatch {
    /// Topic.
    pub topic: Rc<str>,
    /// The topic's id as known when the request is made; 0: not known. A broker that takes ids refuses the batch (100) if the id is
    /// another topic's of that name.
    pub topic_id: u128,
    /// Partition index.
    pub partition: i32,
    /// The v2 record batch, shared with the producer, which keeps it until Kafka's final answer.
    pub bytes: Rc<Vec<u8>>,
}

/// One Produce request, for one broker: at most one batch for each partition (P7), all due partitions together (P8).
#[derive(Clone, Debug)]
pub struct ProduceRequest {
    /// The producer's number for the request; comes back with the answer.
    pub id: u64,
    /// The broker that gets it.
    pub node: NodeId,
    /// Whether the request goes over the second connection to that broker: its partitions may wait a long time for their followers.
    pub slow: bool,
    /// acks: 0, 1, -1.
    pub acks: i16,
    /// How long the broker may wait for followers.
    pub timeout_ms: i32,
    /// The batches, grouped by topic (batches of one topic are adjacent).
    pub batches: Vec<ProduceBatch>,
}

/// A broker's answer for one partition of a Produce request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceResult {
    /// Topic.
    pub topic: Rc<str>,
    /// Partition index.
    pub partition: i32,
    /// Kafka error code.
    pub error: i16,
    /// Offset of the batch's first record where `error` is 0, else -1.
    pub base_offset: i64,
}

/// A question to a partition's leader: which of the producer's undone batches the log has (P5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The producer's number for the question, never used twice; comes back with the answer.
    pub token: u64,
    /// The leader, by metadata.
    pub node: NodeId,
    /// Topic.
    pub topic: Rc<str>,
    /// The topic's id; 0: not known.
    pub topic_id: u128,
    /// Partition index.
    pub partition: i32,
    /// The producer id of all the undone batches.
    pub producer_id: i64,
    /// The epoch of the undone batches.
    pub epoch: i16,
    /// First sequence of the oldest undone batch.
    pub first_sequence: i32,
    /// Last sequence of each undone batch, oldest first; at most five. Empty: only the end of the log is asked for
    /// ([`LogSays::Ends`]).
    pub last_sequences: Vec<i32>,
    /// Offset after the last record that Kafka acknowledged here; `None`: none is known. The undone batches cannot be before it.
    pub from: Option<i64>,
    /// Whether only replicated records count (acks=all).
    pub replicated: bool,
    /// Whether only the log itself, read, may prove that none of the batches is there. The leader's state of the producer does not
    /// suffice: the leader may have forgotten the producer since (P2) and know only of a late request, or the log has younger
    /// batches of this producer already.
    pub is_read: bool,
    /// The leader's epoch, by metadata; -1: not known. If it is known and only the end is asked for, the answer is the end of
    /// what earlier leaders wrote (KIP-101), given only by that leader under that epoch (KIP-320).
    pub leader_epoch: i32,
}

/// The answer to a [`Question`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogSays {
    /// The batch that ends with this sequence is there, and therefore every older one (P4); none of the younger ones is.
    There {
        /// One of the question's `last_sequences`.
        last_sequence: i32,
    },
    /// None of the batches is there, and the partition takes them under their identity.
    Next {
        /// Whether the record before them is the last of this producer id and epoch (or there is none, and nothing is there).
        /// `false`: the partition has forgotten the id, and takes any sequence of it.
        known: bool,
    },
    /// None of the batches is there, nor the acknowledged one before them: the partition lacks it.
    Lost,
    /// None of the batches is there, and the partition knows the producer id by a higher epoch.
    Fenced {
        /// The higher epoch.
        epoch: i16,
    },
    /// The end of the log: where its leader's own epoch begins (KIP-101), if that was asked and the broker can answer it. Else the
    /// offset after the last record visible to consumers, from a leader that knows as much of the log as was replicated when it
    /// became leader (KIP-207).
    Ends {
        /// The offset.
        at: i64,
    },
    /// No answer, or an answer that means "not now". Worth asking again, after fresh metadata.
    Again,
    /// Only Kafka's log could answer, and it does not.
    CannotTell(WhyNot),
}

/// Why a log does not answer a [`Question`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyNot {
    /// Forebay may not read there (29, 31).
    Forbidden,
    /// Records that may have been the producer's are gone: retention, compaction.
    Retained,
    /// The log is not the one that was known, and has some of the batches: that proves nothing about the older ones.
    OtherLog,
    /// The log has more there than is read for one question.
    TooLong,
    /// The broker does not support the calls.
    NotSpoken,
    /// The broker answered with an error that asking again will not clear, or with an answer that makes no sense.
    Refused,
}

/// A broker that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerUnreachable {
    /// `host:port`.
    pub broker: String,
    /// The broker's node ID, if metadata has it.
    pub node: Option<NodeId>,
    /// Whether the cluster advertised this address: it is not in the bootstrap list.
    pub is_advertised: bool,
    /// The reason, in words.
    pub reason: String,
}

/// INVALID_PARTITIONS: the error of a topic with more partitions than Forebay supports.
pub const INVALID_PARTITIONS: i16 = 37;

/// Events from the wire client to the producer (through the shard).
#[derive(Debug)]
pub enum ClientEvent {
    /// A Produce request was answered.
    Produced {
        /// The request's id.
        id: u64,
        /// One result per batch.
        results: Vec<ProduceResult>,
        /// Throttle time: how long the broker asks for a pause, in ms.
        throttle_ms: i32,
    },
    /// A Produce request got no answer (never sent, connection lost, timed out). `sent`: some of its bytes may have reached
    /// the broker, so its outcome is unknown.
    ProduceFailed {
        /// The request's id.
        id: u64,
        /// Whether any byte of the request was written to a connection.
        sent: bool,
    },
    /// A broker ended the connection while this Produce request was its oldest unanswered one: `ProduceFailed` for the request
    /// follows.
    HungUp {
        /// The request's id.
        id: u64,
    },
    /// The cluster's id, when it is first reported or has changed. Precedes the metadata of topics.
    Cluster(Rc<str>),
    /// Fresh metadata of requested topics.
    Metadata(Vec<TopicMetadata>),
    /// A producer id, requested with this token.
    ProducerId {
        /// The token of the request (a sink).
        token: u64,
        /// Producer id.
        id: i64,
        /// Epoch.
        epoch: i16,
    },
    /// The answer to a [`Question`]; each question gets one.
    Asked {
        /// The question's token.
        token: u64,
        /// The log's answer.
        says: LogSays,
    },
    /// The end of a consumer's request; each request has one.
    Fetch {
        /// The request's id.
        id: u64,
        /// The answer, or why there is none.
        result: Result<FetchAnswer, FetchFailure>,
    },
    /// The first of consecutive failed attempts to use a broker, for a reason other than login or TLS.
    BrokerUnreachable(BrokerUnreachable),
    /// The answer to a request of a member of a consumer group.
    Member(crate::coordination::Answer),
    /// News of the connections to the cluster. A connection is established when its broker has answered ApiVersions, has accepted
    /// the login if it requires one, and belongs to the known cluster.
    Outward(News),
}

impl From<News> for ClientEvent {
    fn from(news: News) -> Self {
        Self::Outward(news)
    }
}
