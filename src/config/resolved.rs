//! What the configuration means: plain data with every default in place, checked as a whole. Nothing here can be
//! wrong any more, so nothing that uses it has to ask again.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::data_dir_id::DataDirId;
use super::problem::Problems;
use crate::address::Network;
use crate::limits::{RECIPIENTS_MANY, WIDE_COPIES_ALONE, WIDE_COPIES_PER_TURN};
use crate::listener::proxy::Expect;
use crate::rule::template::Template;
use crate::runtime::Bind;
use crate::runtime::seam::ListenerId;
use crate::secure::{self, sasl::Credentials};
use crate::spool::{SEGMENTS_RESERVED, sessions_max};
use crate::telemetry;

/// Everything that the operator decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The process.
    pub service: Service,
    /// The control plane.
    pub control: Control,
    /// Logging.
    pub log: Log,
    /// Where metrics and traces are exported to; `None`: nowhere.
    pub telemetry: Option<telemetry::Settings>,
    /// Limits of the protocol.
    pub mqtt: Mqtt,
    /// Where devices connect; at least one, at most [`super::LISTENERS_MAX`].
    pub listeners: Vec<Listener>,
    /// Who may connect, and what they may touch, by name.
    pub auth: Vec<crate::auth::Settings>,
    /// Kafka clusters, in the order of the file; the embedded log, where there is one, is the last.
    pub clusters: Vec<Cluster>,
    /// MQTT to Kafka, in the order of the file; at most [`super::SINKS_MAX`].
    pub sinks: Vec<Sink>,
    /// The embedded log.
    pub embedded: Option<Embedded>,
    /// The disk buffer; `None`: there is none, and all sinks keep their rows in memory.
    pub spool: Option<Spool>,
    /// Messages to subscribers.
    pub delivery: Delivery,
    /// Retained messages.
    pub retained: Retained,
    /// What is legal and probably not meant; for people.
    pub warnings: Problems,
}

impl Config {
    /// A listener, by its place.
    #[must_use]
    pub fn listener(&self, id: ListenerId) -> Option<&Listener> {
        self.listeners.get(usize::from(id.0))
    }

    /// Where the disk buffer is, if there is one: a folder with one for each shard in it.
    #[must_use]
    pub fn spool_dir(&self) -> PathBuf {
        self.service.data_dir.join("spool")
    }

    /// The file of [`Config::share_dead_letters_file`].
    #[must_use]
    pub fn shared_dead_letters_file(&self) -> DeadLettersFile {
        let path = self.service.data_dir.join("dead-letters.jsonl");
        DeadLettersFile { path, bytes_max: SHARED_DEAD_LETTERS_BYTES_MAX, files: SHARED_DEAD_LETTERS_FILES }
    }

    /// Gives sinks that configure no dead letters, and have not switched them off, one file for all of them, below the
    /// data directory: what Kafka refuses for good is kept, and MQTT 3.x publishers can be answered. The program does
    /// this at the start; it is not part of reading a configuration, since the file's thread comes with the program.
    pub fn share_dead_letters_file(&mut self) {
        let file = self.shared_dead_letters_file();
        for sink in self.sinks.iter_mut().filter(|sink| sink.dead_letters.is_none() && !sink.no_dead_letters) {
            sink.dead_letters = Some(DeadLetters { topic: None, file: Some(file.clone()) });
        }
    }
}

/// `[service]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Number of shards, at least 1: what was asked for, or one for each core that the process may use.
    pub shards: usize,
    /// Directory for all that is kept on disk.
    pub data_dir: PathBuf,
    /// The only data directory that will do; `None`: any. With a spool, from the start on the one that is used.
    pub data_dir_id: Option<DataDirId>,
    /// How long a stop waits for what is in flight.
    pub drain_grace: Duration,
    /// Threads that compare passwords; 0: one for every four shards.
    pub verifiers: usize,
    /// Whether the process gives up what it does not need.
    pub sandbox: bool,
    /// Whether each shard has a core of its own.
    pub pin: bool,
}

/// `[control]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// Its address; `None`: off.
    pub bind: Option<SocketAddr>,
    /// What moves it, for the message that the port is taken.
    pub moved_by: String,
    /// Who may use `/api/v1`.
    pub access: ApiAccess,
    /// Directories below which the API may name files.
    pub file_dirs: Vec<PathBuf>,
    /// `[control.tls]`; `None`: it is served without TLS.
    pub tls: Option<secure::Settings>,
}

/// Who may use `/api/v1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiAccess {
    /// This machine, no one else: everyone may read, and whoever may read the service's own token may change.
    Local,
    /// Whoever sends one of the tokens in this file.
    Tokens(PathBuf),
}

/// `[log]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// For people or for programs.
    pub format: LogFormat,
    /// The least severe level that is written.
    pub level: LogLevel,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How severe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Something is lost or stops.
    Error,
    /// Something is wrong and is coped with.
    Warn,
    /// What an operator wants to know.
    Info,
    /// What a developer wants to know.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The word in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// `[mqtt]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mqtt {
    /// Largest packet, whole, in bytes (5.0: Maximum Packet Size).
    pub packet_bytes_max: u32,
    /// QoS 1 and 2 messages a client may have unanswered (5.0: Receive Maximum), at least 1.
    pub receive_maximum: u16,
    /// QoS 2 messages that a 3.x client may have open, PUBLISH to PUBREL, at least 1.
    pub qos2_inflight_3x: u16,
    /// Topic aliases a client may set up (5.0: Topic Alias Maximum).
    pub topic_alias_maximum: u16,
    /// From accept to the whole CONNECT.
    pub connect_timeout: Duration,
    /// Longest keep-alive in seconds (5.0: Server Keep Alive); `None`: as the client asks.
    pub keep_alive_max_s: Option<u16>,
    /// Longest Session Expiry Interval of a 5.0 client, in seconds.
    pub session_expiry_max_s: u32,
    /// How long the session of a 3.x client without clean session is kept, in seconds.
    pub session_expiry_3x_s: u32,
    /// Sessions at a time, all shards together.
    pub sessions_max: usize,
    /// Whether sessions without a connection make room for others.
    pub evict_sessions: bool,
    /// Connections of a shard that have not completed CONNECT.
    pub unauthenticated_max: usize,
    /// Takeovers of one client id within ten seconds; 0: no bound.
    pub takeovers_max: u32,
    /// Connections of an address; 0: no bound.
    pub connections_per_address: u32,
    /// Failures of an address to log in, within a minute; 0: no bound.
    pub failures_per_address: u32,
}

/// Permissions of the file of a Unix socket: its user and group may connect.
pub(super) const SOCKET_MODE: u32 = 0o660;

/// `[[listener]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where it is.
    pub bind: Bind,
    /// Permissions of its file, if it is a Unix socket.
    pub socket_mode: u32,
    /// How bytes travel.
    pub transport: Transport,
    /// With [`Transport::Tls`] and [`Transport::Wss`].
    pub tls: Option<crate::secure::Settings>,
    /// The name of what says who may connect; `None`: everyone may.
    pub auth: Option<String>,
    /// Everyone may, and is meant to.
    pub is_open: bool,
    /// Connections at a time; 0: no bound of its own.
    pub connections_max: u32,
    /// Connections that are accepted in a second; 0: no bound.
    pub connect_rate: u32,
    /// With [`Transport::Ws`] and [`Transport::Wss`].
    pub ws: Option<Arc<crate::listener::ws::Settings>>,
    /// What a proxy in front says before the device's first byte.
    pub proxy_protocol: Expect,
    /// Who may connect, as its word for a device's address is taken; none: everyone.
    pub proxy_from: Vec<Network>,
    /// An answer held for longer ends its connection; `None`: none does.
    pub answer_timeout: Option<Duration>,
    /// Whether publishers are told where in Kafka their message is.
    pub receipts: bool,
    /// What moves it, for the message that the port is taken.
    pub moved_by: String,
    /// No longer in the file: it stays in its place until the process ends. See [`super::change`].
    pub is_removed: bool,
}

impl Listener {
    /// Devices come to this address by themselves.
    pub(super) fn plain(bind: SocketAddr, moved_by: &str) -> Self {
        Self {
            bind: bind.into(),
            socket_mode: SOCKET_MODE,
            transport: Transport::Tcp,
            tls: None,
            ws: None,
            auth: None,
            is_open: false,
            connections_max: 0,
            connect_rate: 0,
            proxy_protocol: Expect::Nothing,
            proxy_from: Vec::new(),
            answer_timeout: None,
            receipts: false,
            moved_by: moved_by.to_owned(),
            is_removed: false,
        }
    }
}

/// How bytes travel between a device and a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Plain TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// WebSocket over TCP.
    Ws,
    /// WebSocket over TLS.
    Wss,
}

impl Transport {
    /// The word in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    /// It has TLS.
    #[must_use]
    pub const fn has_tls(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }

    /// It has WebSocket.
    #[must_use]
    pub const fn has_ws(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }
}

/// `[kafka.NAME]`, or the way to the embedded log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// NAME; [`super::EMBEDDED`] for the embedded log.
    pub name: String,
    /// Brokers to start from, `host:port`, at least one. For the embedded log its address as configured: with port 0
    /// whoever starts it puts the real one here.
    pub bootstrap: Vec<String>,
    /// Kafka client id.
    pub client_id: String,
    /// For a connection to stand.
    pub connect_timeout: Duration,
    /// For an answer.
    pub request_timeout: Duration,
    /// After this metadata is asked for again.
    pub metadata_max_age: Duration,
    /// Topics that each shard keeps in memory.
    pub topics_max: usize,
    /// First wait between attempts to connect.
    pub reconnect_backoff_min: Duration,
    /// Longest wait between attempts to connect; not shorter than the first.
    pub reconnect_backoff_max: Duration,
    /// TLS to its brokers; `None`: connections are plain.
    pub tls: Option<crate::secure::OutgoingSettings>,
    /// How to log in to its brokers; `None`: without SASL.
    pub sasl: Option<Sasl>,
    /// Memory for records on their way, in bytes, all shards together. A shard's part, `buffer_bytes / shards`, holds at
    /// least the largest record and a full batch of every sink of this cluster.
    pub buffer_bytes: u64,
    /// No longer in the file: it stays in its place until the process ends. See [`super::change`].
    pub is_removed: bool,
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

/// `[[sink]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sink {
    /// Name, unique.
    pub name: String,
    /// Index into [`Config::clusters`].
    pub cluster: usize,
    /// MQTT topic filters, valid, at least one.
    pub filters: Vec<String>,
    /// Kafka topic. A literal one is a legal name; what a template renders has to be checked with
    /// [`crate::kafka::topic_name::kafka_topic`].
    pub topic: Template,
    /// Record key; `None`: records have none.
    pub key: Option<Template>,
    /// Record value, if it is one of `value_format`'s [`ValueFormat::Raw`].
    pub value: Template,
    /// What the record value is.
    pub value_format: ValueFormat,
    /// Record headers, in the order of the file.
    pub headers: Vec<(String, Template)>,
    /// Whether MQTT 5 properties other than user properties become record headers, too.
    pub properties: bool,
    /// Prefix of the header names of user properties; mostly empty.
    pub user_property_prefix: String,
    /// Fixed texts that its templates may name, in the order of the file.
    pub metadata: Vec<(String, String)>,
    /// Where its rows are kept until Kafka has them.
    pub buffer: Buffer,
    /// Memory of its rows beyond which they are on the disk alone, in bytes, all shards together; not with
    /// [`Buffer::Memory`]. A shard's part holds at least a full batch and the largest record.
    pub spill_after: u64,
    /// What an answer means.
    pub acknowledge: Acknowledge,
    /// What brokers are asked for: acks 0, 1 or −1 (all in-sync replicas).
    pub acks: i16,
    /// Which partition a record goes to.
    pub partitioner: Partitioner,
    /// Of batches.
    pub compression: Compression,
    /// Level of the codec, within its bounds; `None`: its usual one, or it has none.
    pub compression_level: Option<i32>,
    /// How long a record waits for company.
    pub linger: Duration,
    /// Bytes at which a batch is full.
    pub batch_bytes: usize,
    /// Key, value and headers of one record, in bytes.
    pub record_bytes_max: usize,
    /// Batches of a partition that may be unanswered, 1 to 5.
    pub max_inflight: usize,
    /// A record that has waited so long is dropped; `None`: none is.
    pub expire_after: Option<Duration>,
    /// Where the topic is a template: how long records wait for a topic that Kafka does not have.
    pub unknown_topic_timeout: Duration,
    /// Nothing is sent to Kafka: records wait.
    pub paused: bool,
    /// Where goes what Kafka refuses for good; `None`: nowhere, or to the file of [`Config::share_dead_letters_file`].
    pub dead_letters: Option<DeadLetters>,
    /// It wants no dead letters at all.
    pub no_dead_letters: bool,
    /// It was removed while the service runs: it has no filters, and stays until the restart so that its rows get to Kafka.
    pub is_removed: bool,
}

/// Bounds of the file for dead letters of sinks that configure none: 256 MiB in all.
const SHARED_DEAD_LETTERS_BYTES_MAX: u64 = 64 << 20;
const SHARED_DEAD_LETTERS_FILES: u32 = 4;

/// Where a sink's dead letters go; a topic, a file or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetters {
    /// Kafka topic on the sink's cluster, a legal name.
    pub topic: Option<String>,
    /// A file, for all of them or for what the topic refuses.
    pub file: Option<DeadLettersFile>,
}

/// A local file of dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLettersFile {
    /// The file that is written; no other sink's, unless it is the shared one.
    pub path: PathBuf,
    /// Bytes after which it is followed by a new one.
    pub bytes_max: u64,
    /// Files kept, the present one among them; at least 1.
    pub files: u32,
}

/// When a sink's part of an answer is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledge {
    /// The record is in this shard's memory.
    Received,
    /// The partition's leader has it.
    Leader,
    /// All in-sync replicas have it.
    Replicated,
    /// It is on this machine's disk, synced; only with [`Buffer::Disk`].
    Stored,
}

/// `[delivery]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Publishers wait until a message is on the disk of who keeps it.
    pub waits_for_disk: bool,
    /// Messages of QoS 1 and 2 that wait for a session.
    pub queue_messages_max: usize,
    /// Their bytes.
    pub queue_bytes_max: usize,
    /// One more is dropped, not the oldest.
    pub drops_newest: bool,
    /// Bytes that a client may have left unread when it is sent a message at QoS 0.
    pub unread_bytes_max: usize,
    /// Which member of a shared subscription gets a message.
    pub share_strategy: ShareStrategy,
    /// How long a member of a shared subscription may take to acknowledge a message.
    pub share_ack_timeout: Duration,
    /// No setting: tests make it small.
    pub wide: Wide,
}

/// Messages with many recipients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wide {
    /// With more recipients than this on a shard a message is one of them.
    pub recipients: usize,
    /// Copies of them that a turn makes.
    pub copies: usize,
    /// The same while nothing else is published.
    pub copies_alone: usize,
}

impl Default for Wide {
    fn default() -> Self {
        Self { recipients: RECIPIENTS_MANY, copies: WIDE_COPIES_PER_TURN, copies_alone: WIDE_COPIES_ALONE }
    }
}

/// Which member of a shared subscription gets a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ShareStrategy {
    /// The next one in turn that has room.
    #[default]
    RoundRobin,
    /// Of those with room the one with the fewest messages that it has not acknowledged.
    LeastInflight,
    /// The same one for all messages of a publisher.
    HashClient,
    /// The same one for all messages of a topic.
    HashTopic,
}

impl ShareStrategy {
    /// Whether all messages with the same key go to the same member.
    #[must_use]
    pub fn is_keyed(self) -> bool {
        matches!(self, Self::HashClient | Self::HashTopic)
    }

    /// As the configuration has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::LeastInflight => "least-inflight",
            Self::HashClient => "hash-client",
            Self::HashTopic => "hash-topic",
        }
    }
}

/// `[retained]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retained {
    /// How many, all shards together.
    pub messages_max: usize,
    /// Their bytes.
    pub bytes_max: usize,
    /// How long one is retained at most, in seconds.
    pub expire_after_s: Option<u32>,
}

/// Where rows are kept until Kafka has them. All but [`Buffer::Memory`] need a [`Spool`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Buffer {
    /// In memory.
    #[default]
    Memory,
    /// On disk, each before it is sent; in memory too up to `spill_after`.
    Disk,
    /// In memory up to `spill_after`, beyond it on disk. An end of the process loses both.
    Hybrid,
    /// The same, and an orderly stop saves what is left.
    HybridSaved,
}

impl Buffer {
    /// The word in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Hybrid => "hybrid",
            Self::HybridSaved => "hybrid-saved",
        }
    }
}

/// `[spool]`: the disk buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spool {
    /// Room on the disk, all shards together.
    pub bytes_max: u64,
    /// Length of a segment's file.
    pub segment_bytes: u64,
    /// Segments of one shard at most.
    pub segments_max: u64,
    /// Live rows of one sink on one shard, in bytes.
    pub sink_bytes_max: u64,
    /// The part of a shard's room that one sink may fill, in millionths.
    pub share: u64,
    /// How rows get into a segment's file.
    pub append: Append,
    /// How far apart syncs of a shard begin, in whole milliseconds.
    pub sync_interval: Duration,
    /// What happens to a message that has no room.
    pub when_full: WhenFull,
}

impl Spool {
    /// The least number of segments that a shard may have.
    pub const SEGMENTS_MIN: u64 = 2 * SEGMENTS_RESERVED;

    /// Retained messages that a shard may keep: they take half of what its log can keep track of.
    #[must_use]
    pub fn kept_max(&self) -> usize {
        sessions_max(self.segments_max * self.segment_bytes, self.segment_bytes)
    }

    /// What is in force after a reload to this: sizes and the way of appending wait for a restart.
    #[must_use]
    pub const fn reloaded(self, wanted: Self) -> Self {
        let Self { bytes_max, segment_bytes, segments_max, append, .. } = self;
        Self { bytes_max, segment_bytes, segments_max, append, ..wanted }
    }

    /// The same room in equal parts for so many shards: never less than what a shard needs.
    #[must_use]
    pub fn of_shards(self, shards: usize) -> Self {
        let segments_max = self.bytes_max / shards.max(1) as u64 / self.segment_bytes.max(1);
        let segments_max = segments_max.max(Self::SEGMENTS_MIN);
        let room = u128::from(segments_max - SEGMENTS_RESERVED) * u128::from(self.segment_bytes);
        let sink_bytes_max = u64::try_from(room * u128::from(self.share) / 1_000_000).unwrap_or(u64::MAX);
        Self { segments_max, sink_bytes_max, ..self }
    }
}

/// How bytes get into a segment's file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Append {
    /// Written to it.
    #[default]
    Written,
    /// Stored into the mapped file.
    Mapped,
}

/// What happens to a message for which the disk buffer has no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// Its publisher is not read until there is.
    #[default]
    Backpressure,
    /// It is refused.
    Refuse,
    /// The oldest rows on the disk make room.
    DropOldest,
}

/// Which partition a record goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Partitioner {
    /// By the hash of its key, as Kafka's Java producer; without a key as `Sticky`.
    #[default]
    Key,
    /// By the hash of its client identifier, whatever its key is.
    Client,
    /// One partition until its batch is full or sent, then another.
    Sticky,
    /// Any, each record anew.
    Random,
}

/// What a record's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueFormat {
    /// What the template of the value gives.
    Raw,
    /// The message as a JSON object.
    Json,
}

/// How batches are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// Snappy, in Xerial's framing.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard.
    Zstd,
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
