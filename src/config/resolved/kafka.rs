//! Kafka clusters, and the embedded log.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::runtime::seam::SocketOptions;
use crate::secure::sasl::Credentials;

/// `[kafka.NAME]`, or the way to the embedded log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// NAME; [`crate::config::EMBEDDED`] for the embedded log.
    pub name: String,
    /// What it is for, for people.
    pub description: Option<String>,
    /// Brokers to start from, `host:port`, at least one. For the embedded log its address as configured: with port 0
    /// whoever starts it puts the real one here.
    pub bootstrap: Vec<String>,
    /// Kafka client id.
    pub client_id: String,
    /// How long things may take, and how far they are apart.
    pub times: Times,
    /// Topics that each shard keeps in memory.
    pub topics_max: usize,
    /// Of the sockets of its connections.
    pub sockets: SocketOptions,
    /// Properties of Kafka's Java producer, in the order of the file. They have set what they mean.
    pub other_properties: Vec<(String, String)>,
    /// TLS to its brokers; `None`: connections are plain.
    pub tls: Option<crate::secure::OutgoingSettings>,
    /// How to log in to its brokers; `None`: without SASL.
    pub sasl: Option<Sasl>,
    /// Memory for records on their way, in bytes, all shards together. A shard's part, `buffer_bytes / shards`, holds at
    /// least the largest record and a full batch of every sink of this cluster.
    pub buffer_bytes: u64,
    /// No longer in the file: it stays in its place until the process ends. See [`crate::config::change`].
    pub is_removed: bool,
}

/// The times of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// For a connection to be of use, from the lookup of the name to the login.
    pub connect_timeout: Duration,
    /// For an answer.
    pub request_timeout: Duration,
    /// Before this metadata is not asked for again.
    pub metadata_min_age: Duration,
    /// After this metadata is asked for again.
    pub metadata_max_age: Duration,
    /// After this a broker is asked whether it answers, if nothing else was.
    pub health_check_interval: Duration,
    /// First wait between attempts to connect.
    pub reconnect_backoff_min: Duration,
    /// Longest wait between attempts to connect; not shorter than the first.
    pub reconnect_backoff_max: Duration,
}

/// `[kafka.NAME.sasl]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sasl {
    /// Who logs in, and by what.
    pub credentials: Arc<Credentials>,
    /// Where the password was read; `None`: the environment has it, or there is none.
    pub password_file: Option<PathBuf>,
    /// The secret may travel as it is.
    pub insecure: bool,
}

/// `[embedded]`: the single-node log inside the binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Embedded {
    /// Address; port 0: any free one.
    pub bind: SocketAddr,
    /// Directory of its files.
    pub dir: PathBuf,
    /// Host and port that clients are told; `None`: where they came in.
    pub advertised: Option<(String, u16)>,
    /// Partitions of a topic that is made by being used.
    pub partitions: u32,
    /// Bytes after which a partition's file is followed by a new one.
    pub segment_bytes: u64,
    /// Whether a topic that is not there is made by being used.
    pub auto_create_topics: bool,
    /// How old records may grow; `None`: they stay.
    pub retention: Option<Duration>,
    /// How large a partition may grow, in bytes; `None`: no bound.
    pub retention_bytes: Option<u64>,
    /// How often segments that may go are looked for.
    pub retention_interval: Duration,
    /// Kafka connections at a time.
    pub connections_max: usize,
    /// Partitions of all topics together.
    pub partitions_max: usize,
    /// Largest record batch taken, in bytes. The sinks that go there stay below it.
    pub message_bytes_max: usize,
    /// What moves it, for the message that the port is taken.
    pub moved_by: String,
}
