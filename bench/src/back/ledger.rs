//! The ledger of a run, for the judge: records of Kafka, copies of subscribers, committed offsets, other members.
//!
//! All times are nanoseconds since the start of the run, on one clock.

use std::hash::{DefaultHasher, Hasher};

/// A Kafka topic that a source reads, with its records.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    /// First level of the MQTT topics of its records, and the name in their values.
    pub(crate) name: String,
    /// `window_messages` of its source.
    pub(crate) window: u64,
    /// Lines that were given to the producer.
    pub(crate) written: u64,
    /// By partition: the offset of the first record of this run, and the records from there on.
    pub(crate) partitions: Vec<(i64, Vec<Fact>)>,
}

/// One record of Kafka.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    pub(crate) key: String,
    /// Number of the record within its key, from 0.
    pub(crate) number: u64,
    /// [`fingerprint`] of the expected message.
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

/// One PUBLISH that a subscriber delivered; a QoS 2 PUBLISH with a packet identifier that is held is not delivered.
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
    /// The time just before the first PUBACK or PUBREC of it was written; `None`: none was.
    pub(crate) acknowledged_ns: Option<u64>,
}

/// The messages of one subscriber.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    pub(crate) name: String,
    /// Index of the log that its filter matches.
    pub(crate) log: usize,
    pub(crate) filter: String,
    /// QoS of its subscription; all records are published at QoS 2.
    pub(crate) qos: u8,
    /// The session outlives connections, and is on disk.
    pub(crate) kept: bool,
    /// Copies in the order of arrival.
    pub(crate) copies: Vec<Copy>,
    /// The times at which its connections ended, by their number; the last one may still be open.
    pub(crate) ends_ns: Vec<u64>,
    pub(crate) sessions_lost: u64,
    pub(crate) sessions_claimed: u64,
    /// Violations of the protocol by the server, in words.
    pub(crate) violations: Vec<String>,
    /// QoS 2 messages that were sent again while their packet identifiers were held.
    pub(crate) held_again: u64,
    pub(crate) connects_failed: u64,
    pub(crate) broken: u64,
}

/// The committed offsets of a log's group at one time.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) log: usize,
    /// When the answer arrived.
    pub(crate) at_ns: u64,
    /// Committed offsets by partition; -1: none.
    pub(crate) offsets: Vec<i64>,
}

/// Another member of a group, and the records that it printed, by partition and offset.
#[derive(Clone, Debug, Default)]
pub(crate) struct Member {
    pub(crate) log: usize,
    pub(crate) printed: Vec<(u32, i64)>,
    pub(crate) ended_ns: u64,
}

/// A fault that was injected into the service or Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hurt {
    pub(crate) name: String,
    pub(crate) from_ns: u64,
    /// The end of the fault; until then no deadline runs.
    pub(crate) to_ns: u64,
}

/// The whole ledger.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) logs: Vec<Log>,
    pub(crate) heard: Vec<Heard>,
    /// Samples in the order of their times.
    pub(crate) samples: Vec<Sample>,
    pub(crate) members: Vec<Member>,
    /// Faults in the order of their beginnings.
    pub(crate) hurts: Vec<Hurt>,
}
