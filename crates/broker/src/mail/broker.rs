//! Letters between the brokers of shards: parcels and their answers, exchanges of QoS 2, retained messages, messages of shares.

use std::sync::Arc;

use smallvec::SmallVec;

use forebay_kafka::producer::row_log::Origin;
use forebay_mqtt::route::shares::ShareNumber;
use forebay_mqtt::route::topics::TopicKey;
use forebay_runtime::seam::Monotonic;
use forebay_session::{Body, Claimed, SessionKey};

/// A letter to the broker of a shard.
#[derive(Debug)]
pub enum ToBroker {
    /// Messages of another shard for subscribers of this one.
    Parcel {
        /// The shard that sends them.
        from: usize,
        /// PUBLISH packets of 5.0.
        packets: Vec<u8>,
        /// Whether some of the messages may have to be retained here.
        has_retained: bool,
    },
    /// A parcel of this shard, empty: its messages are delivered, or queued.
    ParcelReturned {
        /// The shard that it was for.
        by: usize,
        /// The parcel's memory.
        buffer: Vec<u8>,
    },
    /// Messages that this shard has sent to their home are on its disk.
    RetainedWritten {
        /// The home of the messages.
        by: usize,
        /// The number of messages, the oldest first.
        count: u64,
    },
    /// Messages that this shard has sent to another one are durable for the kept sessions that get them there.
    CopiesDurable {
        /// The shard with these sessions.
        by: usize,
        /// The number of messages, the oldest first.
        count: u64,
    },
    /// Packet identifiers that publishers of another shard have released: their exchanges are over.
    Release {
        /// The shard of these publishers.
        from: usize,
        /// The packet identifiers, in order.
        ids: Vec<Origin>,
    },
    /// Exchanges of this shard's publishers are over, durably.
    Released {
        /// The shard that knew them.
        by: usize,
        /// The number of exchanges, the oldest first.
        count: u64,
    },
    /// Exchanges of this shard's publishers that another one has known since before a crash.
    Exchanges {
        /// The shard that knows them.
        by: usize,
        /// The exchanges that it knows.
        open: Vec<Known>,
        /// Numbers in this shard's log of messages for shares that it had handed over to that one.
        held: Vec<u64>,
    },
    /// Sessions of another shard have ended, and their exchanges with them.
    ExchangesOver {
        /// The shard of these sessions.
        from: usize,
        /// The sessions' numbers in its log.
        sessions: Vec<u64>,
    },
    /// Another shard asks for a report when all messages gathered now for other shards are sent.
    Pass {
        /// The shard that asks.
        from: usize,
    },
    /// All messages gathered for other shards when this shard asked are sent.
    Passed {
        /// The shard that was asked.
        by: usize,
        /// The number of passes that the shard had been asked for by then.
        passes: u64,
    },
    /// Another shard asks for messages retained here that a filter matches.
    Replay {
        /// The shard that asks.
        to: usize,
        /// The session that the question is for, and the question's number.
        question: (SessionKey, u64),
        /// The filter.
        filter: Arc<str>,
        /// The number of passes that each shard must have been asked for when it takes a message, for the message to be delivered live.
        behind: Arc<[u64]>,
        /// The client that has set No Local, in bytes. Empty: there is none.
        except: Box<[u8]>,
        /// The topic to begin with.
        from: TopicKey,
    },
    /// The next batch of retained messages.
    Replayed {
        /// The question answered.
        question: (SessionKey, u64),
        /// The answer.
        answered: Answered,
    },
    /// Messages that wait on one shard for members of a share, handed to a shard that has members with room.
    SharedMessages {
        /// The shard that hands them over.
        from: usize,
        /// The share.
        share: ShareNumber,
        /// The messages.
        messages: Vec<HandedOver>,
    },
    /// The first of these messages are on the other shard, durable there if they are in the log here.
    SharedMessagesTaken {
        /// The shard that has taken them.
        by: usize,
        /// The number of messages.
        count: usize,
    },
    /// The handed-over messages are no longer in the log of the shard that handed them over.
    SharedMessagesGiven {
        /// The shard that has handed them over.
        from: usize,
    },
}

/// The marks of shares.
pub type Marks = SmallVec<[u64; 1]>;

/// An exchange that a shard knows, and the marks of the shares that have had its message.
pub type Known = (Origin, Marks);

/// The answer of a home.
#[derive(Debug)]
pub struct Answered {
    /// The messages as PUBLISH packets of 5.0, with RETAIN.
    pub packets: Vec<u8>,
    /// The topic to continue from. `None`: there are no more messages.
    pub next: Option<TopicKey>,
}

/// A message of a share in a letter to another shard.
#[derive(Debug)]
pub struct HandedOver {
    /// The message, as a PUBLISH packet of 5.0.
    pub packet: Vec<u8>,
    /// The time at which the message was received.
    pub since: Monotonic,
    /// The key that names the member.
    pub key: u32,
    /// The place that preserves it.
    pub kept_by: KeptBy,
}

/// The place that preserves a message in a letter through a crash.
#[derive(Clone, Copy, Debug)]
pub enum KeptBy {
    /// The log of the sending shard, under this number.
    Log(u64),
    /// The record that the message was made of, which stays open until the other shard has answered for it.
    Record(Claimed),
    /// No place: a crash loses the message.
    Nobody,
}

impl HandedOver {
    /// The place of a message. `keeps_open`: whether the record that it was made of stays open for another shard's copy.
    pub fn new(body: &Body, keeps_open: bool) -> Self {
        let claim = if keeps_open { body.take_claim() } else { None };
        claim.iter().for_each(|claim| claim.is_handed_over());
        body.meets();
        let kept_by = match (claim, body.for_share()) {
            (Some(claim), _) => KeptBy::Record(claim.of()),
            (None, Some(number)) => KeptBy::Log(number),
            (None, None) => KeptBy::Nobody,
        };
        Self { packet: body.packet().to_vec(), since: body.since(), key: body.key(), kept_by }
    }
}
