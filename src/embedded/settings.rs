//! What the embedded log can be told, its bounds, and the reasons for them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Settings of the embedded log. [`Settings::new`] gives the defaults; every bound is meant for one small machine.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen. Port 0 takes a free one ([`super::EmbeddedLog::local_addr`] tells which).
    pub bind: SocketAddr,
    /// Directory of all its data; made if it is missing, locked while in use.
    pub dir: PathBuf,
    /// Host and port that clients are told to connect to. `None`: the address at which the asking client reached us,
    /// which is right on one machine and on one network, and wrong behind address translation.
    pub advertised: Option<(String, u16)>,
    /// Partitions of a topic that is made on its first use, or asked for with -1.
    pub partitions_default: i32,
    /// Whether a metadata request may make a missing topic (if the client allows it too).
    pub auto_create_topics: bool,
    /// A segment is closed when the next batch would make it larger than this.
    pub segment_bytes: u64,
    /// Largest batch taken, with its header (Kafka's `max.message.bytes`); larger ones are answered with 10.
    pub message_bytes_max: usize,
    /// Largest request taken; a larger announcement closes the connection before anything is reserved for it.
    pub request_bytes_max: usize,
    /// Most bytes of records in one Fetch answer, whatever the client asks for.
    pub fetch_bytes_max: usize,
    /// Requests and answers above 16 KiB share this much memory, half each, all connections together; a connection that finds none waits.
    pub memory_bytes_max: usize,
    /// Open connections. Beyond it a newcomer takes the place of one that waits ([`super`]'s `places`); if all are at work, it is
    /// closed at once and counted.
    pub connections_max: usize,
    /// Partitions of all topics together, so that nobody fills disk and memory with empty topics.
    pub partitions_max: usize,
    /// Partitions of one topic.
    pub partitions_per_topic_max: i32,
    /// Segment files kept open for appending; beyond it the ones longest open are closed and opened again when needed.
    pub open_files_max: usize,
    /// Producers remembered for each partition; beyond it the one that wrote longest ago is forgotten.
    pub producers_per_partition_max: usize,
    /// How old records may grow, for topics without a `retention.ms` of their own. `None`: they stay.
    pub retention_age: Option<Duration>,
    /// How large a partition may grow, for topics without a `retention.bytes` of their own. `None`: no bound.
    pub retention_bytes: Option<u64>,
    /// How often the log looks for segments that may go.
    pub retention_interval: Duration,
    /// Consumer groups with members.
    pub groups_max: usize,
    /// Members of one group.
    pub group_members_max: usize,
    /// Committed offsets of all groups together.
    pub committed_offsets_max: usize,
    /// A connection that says nothing for this long is closed.
    pub idle_timeout: Duration,
    /// One that has not asked for anything since it was made, after this long.
    pub first_request_timeout: Duration,
    /// How long a peer may let us wait within a request or while taking an answer.
    pub stall_timeout: Duration,
    /// How long [`super::EmbeddedLog::stop`] waits for requests in flight.
    pub stop_grace: Duration,
    /// Faults that a test of this repository asks for; nothing else sets it.
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
            // Kafka's own default: a client that is set up for Kafka meets the same bound here.
            message_bytes_max: 1_048_588,
            // A Produce request of our own carries one batch for each due partition: sixteen at Kafka's largest size.
            request_bytes_max: 16 << 20,
            fetch_bytes_max: 16 << 20,
            memory_bytes_max: 128 << 20,
            connections_max: 1_000,
            partitions_max: 20_000,
            partitions_per_topic_max: 1_000,
            open_files_max: 256,
            producers_per_partition_max: 1_024,
            // Nothing goes unless somebody says so: this may be the only copy.
            retention_age: None,
            retention_bytes: None,
            retention_interval: Duration::from_secs(30),
            groups_max: 1_000,
            group_members_max: 1_000,
            // Some 200 bytes of memory each.
            committed_offsets_max: 100_000,
            idle_timeout: Duration::from_secs(600),
            first_request_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            stop_grace: Duration::from_secs(5),
            faults: None,
        }
    }
}
