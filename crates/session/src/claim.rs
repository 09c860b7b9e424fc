//! Claims: they keep a record of a source open, and the positions of logs of sessions below it.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

use super::body::Remembered;

/// `Claim` keeps a record of a source open: while a reference to it exists, a session of this shard may still need the record. A
/// message that waits for its copies has one, as does a [`super::Body`] that only the memory of this process has.
#[derive(Debug)]
pub struct Claim {
    of: Claimed,
    is_met: Cell<bool>,
    /// Whether another shard answers for the record.
    is_others: Cell<bool>,
    placed: Option<Placed>,
    is_delivered: Cell<bool>,
    pub(super) all: Rc<Remembered>,
}

/// A record of a source that sessions of other shards, too, may need, or a message that a rule has made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The shard that reads the record's partition.
    pub shard: usize,
    /// The reading shard's number for the partition.
    pub reader: u32,
    /// The record's number in the partition, in the lower 24 bits: consecutive, wrapping at [`Claimed::RECORDS`]. Above it the number of a message that
    /// rules have made of the record, or 0 for the record's own.
    pub number: u32,
}

impl Claimed {
    /// The number of records after which numbers begin again.
    pub const RECORDS: u32 = 1 << 24;

    /// The number of one of a record's messages, by the number of the record.
    #[must_use]
    pub const fn number_of(record: u32, message: usize) -> u32 {
        record | ((message as u32) * Self::RECORDS)
    }

    /// Which of its record's messages a number is for.
    #[must_use]
    pub const fn message_of(number: u32) -> usize {
        (number / Self::RECORDS) as usize
    }

    /// The number after that of a message, in the same record.
    #[must_use]
    pub const fn after(number: u32) -> u32 {
        number.wrapping_add(Self::RECORDS)
    }

    /// The claim for a message that rules have made of this claim's record.
    #[must_use]
    pub const fn of_made(self, message: usize) -> Self {
        Self { number: Self::number_of(self.number, message), ..self }
    }
}

/// An answer that has kept a record open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The record.
    pub record: Claimed,
    /// Whether a session has it.
    pub is_met: bool,
}

/// A partition of a Kafka topic, as logs of sessions refer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionKey {
    /// A hash of the topic's name and id: a recreated topic is another one.
    pub topic: u64,
    /// The partition's index.
    pub partition: u32,
}

/// The position of a record of `[broker]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordPlace {
    /// The partition.
    pub of: PartitionKey,
    /// The record's offset.
    pub offset: i64,
}

impl RecordPlace {
    /// The length of the encoding, in bytes.
    pub const BYTES: usize = 20;

    /// Encodes the place: the topic u64, the partition u32, the offset i64, big-endian.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.of.topic.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.of.partition.to_be_bytes());
        bytes[12..].copy_from_slice(&self.offset.to_be_bytes());
        bytes
    }

    /// Parses the text of [`fmt::Display`].
    #[must_use]
    pub fn of_text(text: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(text).ok()?.split('/');
        let (topic, partition, offset) = (parts.next()?, parts.next()?, parts.next()?);
        let topic = u64::from_str_radix(topic, 16).ok()?;
        let of = PartitionKey { topic, partition: partition.parse().ok()? };
        Some(Self { of, offset: offset.parse().ok()? }).filter(|_| parts.next().is_none())
    }

    /// Decodes a place.
    #[must_use]
    pub fn of_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let number = |at: usize| u64::from_be_bytes(std::array::from_fn(|byte| bytes[at + byte]));
        let partition = u32::from_be_bytes(std::array::from_fn(|byte| bytes[8 + byte]));
        Self { of: PartitionKey { topic: number(0), partition }, offset: number(12).cast_signed() }
    }
}

/// `TOPIC/PARTITION/OFFSET`: the topic's hash in hexadecimal digits.
impl fmt::Display for RecordPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { of: PartitionKey { topic, partition }, offset } = self;
        write!(f, "{topic:016x}/{partition}/{offset}")
    }
}

/// The place of a record that a shard has received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The place.
    pub place: RecordPlace,
    /// The topic, by its index among those of the source `broker`.
    pub topic: u16,
    /// The time of arrival, in the shard's count of changes of its partitions.
    pub time: u64,
    /// The record was read before: it is for kept sessions of slots that this instance has taken over.
    pub is_again: bool,
}

impl Claim {
    /// A claim on a record. `placed`: the record's place, if it is one of `[broker]`.
    #[must_use]
    pub fn new(of: Claimed, placed: Option<Placed>, all: &Rc<Remembered>) -> Rc<Self> {
        let [is_met, is_others, is_delivered] = std::array::from_fn(|_| Cell::new(false));
        Rc::new(Self { of, is_met, is_others, placed, is_delivered, all: Rc::clone(all) })
    }

    /// Notes that a session is done with the record: its client has acknowledged or refused it, was sent it at QoS 0, or finds it
    /// when it reconnects; or its copy was dropped, and counted.
    pub fn meet(&self) {
        self.is_met.set(true);
    }

    /// The record.
    #[must_use]
    pub const fn of(&self) -> Claimed {
        self.of
    }

    /// Hands the claim to another shard, which answers for the record from now on.
    pub fn is_handed_over(&self) {
        self.is_others.set(true);
    }

    /// The place of the record, if it is one of `[broker]`.
    #[must_use]
    pub fn place(&self) -> Option<Placed> {
        self.placed
    }

    /// Notes that all copies have been made: positions of logs of sessions may pass the record.
    pub fn is_delivered(&self) {
        if !self.is_delivered.replace(true)
            && let Some(placed) = self.placed
        {
            self.all.gives(placed.place);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.is_delivered();
        if !self.is_others.get() {
            self.all.settles(Settled { record: self.of, is_met: self.is_met.get() });
        }
    }
}
