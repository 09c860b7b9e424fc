//! What the producer, the wire client and the shard say to each other. Plain data; no socket, no clock.

use std::rc::Rc;

/// A broker's node id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub i32);

/// A sink: index into the resolved configuration's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SinkId(pub u16);

/// Who is owed an answer for a row. Opaque to the producer; the shard makes it from a session's key and the number that
/// the session gave the message (numbers of one session are consecutive, wrapping).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// The session.
    pub session: u64,
    /// The message's number within the session.
    pub number: u32,
}

/// Consecutive tickets of one session, as they stand in a batch: the answer bookkeeping is per run, not per message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The session.
    pub session: u64,
    /// First number.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// The end of a row's way, as far as the publisher is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The sink's level is met.
    Delivered,
    /// Kafka refused it for good, and it is in the sink's dead letters.
    DeadLettered,
    /// Kafka refused it for good (error code): the publisher is told 0x80.
    Refused(i16),
}

/// A topic as metadata describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicMetadata {
    /// Its name.
    pub name: Rc<str>,
    /// Kafka error code of the topic (0, 3 UNKNOWN_TOPIC_OR_PARTITION, 5 LEADER_NOT_AVAILABLE, 17 INVALID_TOPIC, 29 …).
    pub error: i16,
    /// Leader of each partition, by partition index; `None`: no leader now. Empty if `error` is not 0.
    pub leaders: Vec<Option<NodeId>>,
}

/// One batch in a Produce request: whole and closed (CRC in place).
#[derive(Clone, Debug)]
pub struct ProduceBatch {
    /// Topic.
    pub topic: Rc<str>,
    /// Partition index.
    pub partition: i32,
    /// The v2 record batch, shared with the producer, which keeps it until Kafka's final word.
    pub bytes: Rc<Vec<u8>>,
}

/// One Produce request, for one broker: at most one batch for each partition (P7), all due partitions together (P8).
#[derive(Clone, Debug)]
pub struct ProduceRequest {
    /// The producer's number for it; comes back with the answer.
    pub id: u64,
    /// Where to.
    pub node: NodeId,
    /// acks: 0, 1, -1.
    pub acks: i16,
    /// How long the broker may wait for followers.
    pub timeout_ms: i32,
    /// The batches, grouped by topic (batches of one topic stand together).
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

/// What the wire client tells the producer (through the shard).
#[derive(Debug)]
pub enum ClientEvent {
    /// A Produce request was answered.
    Produced {
        /// The request's id.
        id: u64,
        /// One a batch.
        results: Vec<ProduceResult>,
        /// The broker's wish that we send nothing for this long.
        throttle_ms: i32,
    },
    /// A Produce request got no answer (never sent, connection lost, timed out). `sent`: bytes of it may have reached
    /// the broker, so its outcome is unknown.
    ProduceFailed {
        /// The request's id.
        id: u64,
        /// Whether any of it was written to a connection.
        sent: bool,
    },
    /// Fresh metadata of topics that were asked for.
    Metadata(Vec<TopicMetadata>),
    /// A producer id that was asked for with this token.
    ProducerId {
        /// The asker's token (a sink).
        token: u64,
        /// Producer id.
        id: i64,
        /// Epoch.
        epoch: i16,
    },
    /// The cluster became reachable (`true`: a broker answered ApiVersions) or unreachable (no connection stands).
    Reachable(bool),
}
