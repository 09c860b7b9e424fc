//! The settings of the embedded log, its bounds, and the reasons for them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::damage::Teller;

/// Settings of the embedded log. [`Settings::new`] gives the defaults; every bound is meant for one small machine.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The address to listen on. Port 0 takes a free one ([`super::EmbeddedLog::local_addr`] returns it).
    pub bind: SocketAddr,
    /// The data directory; created if missing, locked while in use.
    pub dir: PathBuf,
    /// Host and port that clients get as the address to connect to. `None`: the address at which the client reached the log, which is
    /// right on one machine and on one network, and wrong behind address translation.
    pub advertised: Option<(String, u16)>,
    /// Partitions of a topic that is created on its first use, or requested with -1.
    pub partitions_default: i32,
    /// Whether a metadata request may create a missing topic (if the client allows it too).
    pub auto_create_topics: bool,
    /// A segment is closed when the next batch would make it larger than this.
    pub segment_bytes: u64,
    /// Largest batch accepted, with its header (Kafka's `max.message.bytes`); larger ones are answered with 10.
    pub message_bytes_max: usize,
    /// Largest request accepted; a larger announced length closes the connection before any memory is reserved for it.
    pub request_bytes_max: usize,
    /// Most bytes of records in one Fetch answer, whatever the client requests.
    pub fetch_bytes_max: usize,
    /// Memory that requests and answers above 16 KiB share, half each, all connections together; a connection that finds none waits.
    pub memory_bytes_max: usize,
    /// The most open connections. Beyond that, a new one replaces one that waits ([`super`]'s `places`); if all are handling requests,
    /// the new one is closed at once and counted.
    pub connections_max: usize,
    /// The most partitions of all topics together, so that no client fills disk and memory with empty topics.
    pub partitions_max: usize,
    /// The most partitions of one topic.
    pub partitions_per_topic_max: i32,
    /// The most segment files kept open for appending; beyond that, those that have been open longest are closed and opened again when
    /// needed.
    pub open_files_max: usize,
    /// The most producers remembered for each partition; beyond that, the one with the oldest last write is forgotten.
    pub producers_per_partition_max: usize,
    /// The age after which records expire, for topics without a `retention.ms` of their own. `None`: never.
    pub retention_age: Option<Duration>,
    /// The size that a partition may reach, for topics without a `retention.bytes` of their own. `None`: no bound.
    pub retention_bytes: Option<u64>,
    /// Interval at which the log looks for expired segments.
    pub retention_interval: Duration,
    /// The most consumer groups with members.
    pub groups_max: usize,
    /// The most members of one group.
    pub group_members_max: usize,
    /// The most committed offsets of all groups together.
    pub committed_offsets_max: usize,
    /// Time after which a silent connection is closed.
    pub idle_timeout: Duration,
    /// Time after which a new connection without a request is closed.
    pub first_request_timeout: Duration,
    /// The longest stall of a peer within a request or while it reads an answer.
    pub stall_timeout: Duration,
    /// How long [`super::EmbeddedLog::stop`] waits for requests in flight.
    pub stop_grace: Duration,
    /// Where damage of the log's files is told.
    pub teller: Teller,
    /// Faults for tests of this repository; nothing else sets them.
    #[doc(hidden)]
    pub faults: Option<super::faults::Script>,
}

impl Settings {
    /// The defaults, for an address and a directory.
    pub fn new(bind: SocketAddr, dir: impl Into<PathBuf>) -> Settings {
        Settings {
            bind,
            dir: dir.into(),
            advertised: None,
            partitions_default: 4,
            auto_create_topics: true,
            segment_bytes: 64 << 20,
            // Kafka's own default, so that a client configured for Kafka has the same bound here.
            message_bytes_max: 1_048_588,
            // A Produce request of Forebay carries one batch for each due partition: sixteen at Kafka's largest size.
            request_bytes_max: 16 << 20,
            fetch_bytes_max: 16 << 20,
            memory_bytes_max: 128 << 20,
            connections_max: 1_000,
            partitions_max: 20_000,
            partitions_per_topic_max: 1_000,
            open_files_max: 256,
            producers_per_partition_max: 1_024,
            // Nothing expires unless configured: this may be the only copy.
            retention_age: None,
            retention_bytes: None,
            retention_interval: Duration::from_secs(30),
            groups_max: 1_000,
            group_members_max: 1_000,
            // Each offset takes some 200 bytes of memory.
            committed_offsets_max: 100_000,
            idle_timeout: Duration::from_secs(600),
            first_request_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            stop_grace: Duration::from_secs(5),
            teller: Teller::default(),
            faults: None,
        }
    }
}
