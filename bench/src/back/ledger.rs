//! The notes of a run, as the judge takes them: records of Kafka, copies that subscribers got, committed offsets, other members.
//!
//! All times are nanoseconds since the start of the run, on one clock.

use std::hash::{DefaultHasher, Hasher};

/// A Kafka topic that a source reads, with its records.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    /// First level of the MQTT topics that its records get, and name of what was written.
    pub(crate) name: String,
    /// `window_messages` of its source.
    pub(crate) window: u64,
    /// Lines that were given to the producer.
    pub(crate) written: u64,
    /// By partition: the offset of its first record of this run, and its records from there on.
    pub(crate) partitions: Vec<(i64, Vec<Fact>)>,
}

/// One record of Kafka.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    pub(crate) key: String,
    /// Number of the record within its key, from 0.
    pub(crate) number: u64,
    /// [`fingerprint`] of the message that it has to be.
    pub(crate) fingerprint: u64,
}

impl Log {
    pub(crate) fn fact(&self, partition: u32, offset: i64) -> Option<&Fact> {
        let (begin, facts) = self.partitions.get(partition as usize)?;
        facts.get(usize::try_from(offset - begin).ok()?)
    }

    /// The MQTT topic of a record: `NAME/KEY/PARTITION/OFFSET`.
    pub(crate) fn topic(&self, key: &str, partition: u32, offset: i64) -> String {
        format!("{}/{key}/{partition}/{offset}", self.name)
    }
}

/// Topic and payload of a message in one number.
pub(crate) fn fingerprint(topic: &[u8], payload: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_usize(topic.len());
    hasher.write(topic);
    hasher.write(payload);
    hasher.finish()
}

/// One PUBLISH that a subscriber handed on; a QoS 2 PUBLISH with a packet identifier that is held is not handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Copy {
    pub(crate) partition: u32,
    pub(crate) offset: i64,
    pub(crate) qos: u8,
    pub(crate) dup: bool,
    pub(crate) fingerprint: u64,
    /// Number of the subscriber's connection, from 0.
    pub(crate) connection: u32,
    pub(crate) at_ns: u64,
    /// Just before the first PUBACK or PUBREC of it was written; `None`: it was not.
    pub(crate) acknowledged_ns: Option<u64>,
}

/// What one subscriber got.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    pub(crate) name: String,
    /// Index of the log that its filter is for.
    pub(crate) log: usize,
    pub(crate) filter: String,
    /// Of its subscription; all records are published at QoS 2.
    pub(crate) qos: u8,
    /// Its session outlives connections, and is on the disk.
    pub(crate) kept: bool,
    /// In the order in which they came.
    pub(crate) copies: Vec<Copy>,
    /// When its connections ended, by their number; the last one may not have.
    pub(crate) ends_ns: Vec<u64>,
    pub(crate) sessions_lost: u64,
    pub(crate) sessions_claimed: u64,
    /// What no server may say, in words.
    pub(crate) violations: Vec<String>,
    /// Of QoS 2, sent again while its packet identifier was held.
    pub(crate) held_again: u64,
    pub(crate) connects_failed: u64,
    pub(crate) broken: u64,
}

/// The committed offsets of a log's group at one time.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) log: usize,
    /// When the answer was there.
    pub(crate) at_ns: u64,
    /// By partition; -1: none.
    pub(crate) offsets: Vec<i64>,
}

/// Another member of a group, and what it printed: its records, by partition and offset.
#[derive(Clone, Debug, Default)]
pub(crate) struct Member {
    pub(crate) log: usize,
    pub(crate) printed: Vec<(u32, i64)>,
    pub(crate) ended_ns: u64,
}

/// Something done to the service or to Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hurt {
    pub(crate) name: String,
    pub(crate) from_ns: u64,
    /// When it was over; until then no time passes in which something has to be right again.
    pub(crate) to_ns: u64,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) logs: Vec<Log>,
    pub(crate) heard: Vec<Heard>,
    /// In the order of their times.
    pub(crate) samples: Vec<Sample>,
    pub(crate) members: Vec<Member>,
    /// In the order of their begins.
    pub(crate) hurts: Vec<Hurt>,
}
