//! What the producer, the wire client and the shard say to each other. Plain data; no socket, no clock.

use std::rc::Rc;

use super::fetch::{FetchAnswer, FetchFailure};
use crate::outward::News;

/// A broker's node id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub i32);

/// A sink: index into the resolved configuration's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SinkId(pub u16);

impl SinkId {
    /// The sink of this index. There are never as many as the last number.
    pub(crate) fn of(index: usize) -> Self {
        Self(u16::try_from(index).unwrap_or(u16::MAX))
    }
}

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
    /// The number of tickets.
    pub count: u32,
}

/// Where a sink's row stands in Kafka's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Landed<'a> {
    /// The sink.
    pub sink: SinkId,
    /// Topic.
    pub topic: &'a Rc<str>,
    /// Partition index.
    pub partition: u32,
    /// Offset; `None`: Kafka has not said it.
    pub offset: Option<i64>,
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

impl Outcome {
    /// What was stored of it cannot be read any more (as KAFKA_STORAGE_ERROR): the publisher may send it again.
    pub const LOST: Self = Self::Refused(56);
}

/// A topic as metadata describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicMetadata {
    /// The topic's name.
    pub name: Rc<str>,
    /// Its id (KIP-516); 0: the broker gives none.
    pub id: u128,
    /// Kafka error code of the topic (0, 3 UNKNOWN_TOPIC_OR_PARTITION, 5 LEADER_NOT_AVAILABLE, 17 INVALID_TOPIC, 29 …).
    pub error: i16,
    /// Leader of each partition, by partition index; `None`: no leader now. Empty if `error` is not 0.
    pub leaders: Vec<Option<NodeId>>,
    /// Leader epoch of each partition (KIP-101), by partition index; -1: unknown. Empty where the broker tells none.
    pub leader_epochs: Vec<i32>,
    /// Brokers that have a replica of each partition, its leader among them, by partition index; may be shorter.
    pub replicas: Vec<Box<[NodeId]>>,
}

/// One batch in a Produce request: whole and closed (CRC in place).
#[derive(Clone, Debug)]
pub struct ProduceBatch {
    /// Topic.
    pub topic: Rc<str>,
    /// Its id, as it is known when the request is made; 0: not known. Where the broker takes it, another topic of that
    /// name refuses the batch (100).
    pub topic_id: u128,
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
    /// The broker that gets it.
    pub node: NodeId,
    /// Whether it goes over the second connection to that broker: its partitions may wait long for their followers.
    pub slow: bool,
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

/// What the producer asks a partition's leader: which of its undone batches the log has (P5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The producer's number for it, never used twice; comes back with the answer.
    pub token: u64,
    /// The leader, as metadata says.
    pub node: NodeId,
    /// Topic.
    pub topic: Rc<str>,
    /// Its id; 0: not known.
    pub topic_id: u128,
    /// Partition index.
    pub partition: i32,
    /// Of the undone batches, all of them.
    pub producer_id: i64,
    /// The epoch of the undone batches.
    pub epoch: i16,
    /// First sequence of the oldest of them.
    pub first_sequence: i32,
    /// Last sequence of each of them, oldest first; five at the most. None of them: only where the log ends is asked
    /// ([`LogSays::Ends`]).
    pub last_sequences: Vec<i32>,
    /// Offset behind the last record that Kafka acknowledged here; `None`: none is known. What is asked for cannot stand
    /// before it.
    pub from: Option<i64>,
    /// Whether only what is replicated counts as there (acks=all).
    pub replicated: bool,
    /// That none of them is there is only taken from the log itself, not from what its leader knows of the producer: it may have
    /// forgotten it since (P2) and know of a late request only, or younger batches of ours are there already.
    pub is_read: bool,
    /// The leader's epoch, as metadata says; -1: not known. Where it is known, and only the end is asked for, that is the
    /// end of what earlier leaders wrote (KIP-101), from that leader under that epoch only (KIP-320).
    pub leader_epoch: i32,
}

/// The answer to a [`Question`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogSays {
    /// The batch that ends with this sequence is there, and by that every older one (P4); none of the younger ones is.
    There {
        /// One of the question's `last_sequences`.
        last_sequence: i32,
    },
    /// None of them is there, and the partition takes them under the identity that they have.
    Next {
        /// What stands before them is the last of this producer id and epoch (or nothing does, and nothing is there).
        /// `false`: the partition does not know the id any more, and takes any sequence of it.
        known: bool,
    },
    /// None of them is there, nor what stood before them, which was acknowledged: the partition lacks it.
    Lost,
    /// None of them is there, and the partition knows the producer id by a higher epoch.
    Fenced {
        /// That epoch.
        epoch: i16,
    },
    /// Where the log ends: where its leader's own epoch begins (KIP-101), if that was asked and the broker can say it. Else
    /// offset behind the last record that consumers may see, of a leader that knows as much of it as was replicated when it
    /// became one (KIP-207).
    Ends {
        /// That offset.
        at: i64,
    },
    /// No answer, or one that says: not now. Worth asking again, after fresh metadata.
    Again,
    /// Only Kafka's log could tell, and it does not.
    CannotTell(WhyNot),
}

/// Why a log does not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyNot {
    /// We may not read there (29, 31).
    Forbidden,
    /// Records that may have been ours are gone: retention, compaction.
    Retained,
    /// The log is another one than before, and has some of them: that says nothing of the older ones.
    OtherLog,
    /// More stands there than is read for one question.
    TooLong,
    /// The broker does not know the calls.
    NotSpoken,
    /// It answered with an error that no asking again will help, or with something that makes no sense.
    Refused,
}

/// A broker that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerUnreachable {
    /// `host:port`.
    pub broker: String,
    /// Its node ID, where metadata has it.
    pub node: Option<NodeId>,
    /// The bootstrap list does not have this address: the cluster has named it.
    pub is_advertised: bool,
    /// Why, in words.
    pub reason: String,
}

/// INVALID_PARTITIONS: said of a topic with more partitions than Forebay keeps.
pub const INVALID_PARTITIONS: i16 = 37;

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
    /// A broker has ended the connection with this Produce request before it, of which it has said nothing: its
    /// `ProduceFailed` follows.
    HungUp {
        /// The request's id.
        id: u64,
    },
    /// The cluster's id, when it was told for the first time, or another one than before. It comes before the metadata of
    /// topics.
    Cluster(Rc<str>),
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
    /// The answer to a [`Question`]; each gets one.
    Asked {
        /// The question's token.
        token: u64,
        /// What the log says.
        says: LogSays,
    },
    /// A request of the consumer has its end; each has one.
    Fetch {
        /// The request's id.
        id: u64,
        /// The answer, or why there is none.
        result: Result<FetchAnswer, FetchFailure>,
    },
    /// The first of a row of attempts to use a broker that came to nothing, for another reason than a login or TLS.
    BrokerUnreachable(BrokerUnreachable),
    /// The answer to a request of a member of a consumer group.
    Member(crate::kafka::coordination::Answer),
    /// Of the connections to the cluster. One is established when its broker has answered ApiVersions, logged us in where it wants
    /// that, and belongs to the known cluster.
    Outward(News),
}

impl From<News> for ClientEvent {
    fn from(news: News) -> Self {
        Self::Outward(news)
    }
}
