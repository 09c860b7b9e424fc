//! Questions of the control plane to a shard, and the answers. Questions go by mail; a shard answers each in one turn and
//! examines a bounded number of things for it, so that a long list takes several questions.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use super::top::Weighed;

/// Sessions or topics that a shard looks at for one question.
pub const LOOKED_AT_MAX: usize = 8_192;

/// A question or a request.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Clients, from a position on.
    Clients {
        /// The first position to look at.
        from: u32,
        /// The most rows.
        limit: usize,
        /// The wanted clients.
        wanted: WantedClients,
    },
    /// One client.
    Client(NamedClient),
    /// End a client's connection; its session stays as its own terms say.
    Disconnect(NamedClient),
    /// End a client's connection and session.
    Forget(NamedClient),
    /// Ask for the time of the oldest record in memory of each sink.
    Oldest,
    /// Kafka topics in memory, from a position on.
    Topics {
        /// The first position to look at.
        from: u32,
        /// The most rows.
        limit: usize,
        /// Only topics of this sink, by its number in the configuration.
        sink: Option<usize>,
    },
    /// Partitions that a sink writes to, from a position on.
    Partitions {
        /// The first position to look at.
        from: u32,
        /// The most rows.
        limit: usize,
        /// The sink, by its number in the configuration.
        sink: usize,
    },
    /// Subscriptions, from a position on.
    Subscriptions {
        /// The first position to look at.
        from: u64,
        /// The most rows.
        limit: usize,
        /// Only subscriptions that get messages of this topic. An invalid topic is answered with [`Told::Done`].
        topic: Option<String>,
        /// Only subscriptions with this topic filter. An invalid filter is answered with [`Told::Done`].
        filter: Option<String>,
    },
    /// Shared subscriptions with members or messages on the shard, in the order of their numbers.
    Shares {
        /// The first number to look at.
        from: u32,
        /// The most rows.
        limit: usize,
        /// Only shared subscriptions with this text in their name or topic filter.
        search: Option<String>,
    },
    /// Retained messages with topics that a filter matches, without their payloads.
    Retained {
        /// The filter. An invalid one is answered with [`Told::Done`].
        filter: String,
        /// The first topic to look at; empty: from the beginning.
        from: String,
        /// The most rows.
        limit: usize,
    },
    /// The retained message of a topic.
    RetainedOf(String),
    /// End the retained message of a topic.
    ForgetRetained(String),
    /// Sources that have a partition or their membership on the shard.
    Sources {
        /// Only this source, by its number in the configuration, with the offsets that its group has committed.
        source: Option<usize>,
        /// The most partitions of each source.
        limit: usize,
    },
    /// Read partitions of a source from another place on. For the shard with its membership.
    Seek(Box<Seek>),
    /// Bridges that have their session on the shard.
    Bridges {
        /// Only this bridge, by its number in the configuration, with its filters.
        bridge: Option<usize>,
    },
    /// The topics or clients with the most publishes.
    Top {
        /// Topics or clients.
        of: TopOf,
        /// The measure.
        by: TopBy,
    },
    /// Sinks and rules that a message of this topic would go to. An invalid topic is answered with [`Told::Done`].
    Matching(String),
    /// Begin a trace. For all shards.
    Trace(Box<TraceOf>),
    /// Take the pending packets of the trace with this number from the shard.
    Traced(u64),
    /// End the trace with this number.
    EndTrace(u64),
    /// Publish a message.
    Publish(Box<ToPublish>),
    /// Disconnect banned clients, of the sessions from a position on.
    EndBanned(u32),
}

/// Conditions for clients, all of which have to be met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WantedClients {
    /// Only clients with this text in their client identifier, user name, auth or address, in any case.
    pub search: Option<String>,
    /// Only clients that are connected, or that are not.
    pub connected: Option<bool>,
    /// Only clients that are connected to this listener, by its number in the configuration.
    pub listener: Option<usize>,
}

/// A message to publish.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToPublish {
    /// Topic.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// QoS: 0, 1 or 2.
    pub qos: u8,
    /// Whether the message is retained.
    pub retain: bool,
    /// Message Expiry Interval, in seconds; `None`: the message does not expire.
    pub expiry_s: Option<u32>,
    /// Content Type.
    pub content_type: Option<String>,
    /// User properties: names and values.
    pub user_properties: Vec<(String, String)>,
    /// The user, as sinks and events name it.
    pub username: Option<String>,
}

/// The outcome of a message to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ordered {
    /// All matching destinations have the message.
    Taken,
    /// The message matches nothing.
    Unmatched,
    /// A sink or a rule refuses the message: no destination has it.
    Refused,
    /// There is no room: no destination has the message.
    NoRoom,
    /// The message is invalid, for this reason.
    Invalid(String),
}

/// A trace to begin: of one client, or of messages with topics that a filter matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceOf {
    /// The trace's number.
    pub id: u64,
    /// The client.
    pub client: Option<NamedClient>,
    /// The topic filter. An invalid one is answered with [`Told::Done`].
    pub filter: Option<String>,
    /// The trace's duration.
    pub lasts: Duration,
}

/// A packet of a trace. It has no password, no data of AUTH and no user name that is a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedPacket {
    /// When it was received or sent, milliseconds since 1970.
    pub at_ms: i64,
    /// Whether it was sent to the client; otherwise the client has sent it.
    pub to_client: bool,
    /// Client identifier, and the name of its `[auth.NAME]`, if it has one.
    pub client: (String, Option<String>),
    /// The packet's name.
    pub packet: &'static str,
    /// Packet Identifier.
    pub packet_id: Option<u16>,
    /// Topic of a PUBLISH.
    pub topic: Option<String>,
    /// The reason code, and its name in the standard.
    pub reason: Option<(u8, &'static str)>,
    /// Its other contents, in words.
    pub details: String,
    /// The contents of a PUBLISH.
    pub content: Option<TracedContent>,
}

/// The contents of a PUBLISH of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedContent {
    /// The beginning of the payload.
    pub payload: Vec<u8>,
    /// Bytes of the whole payload.
    pub payload_bytes: usize,
    /// The properties, in words.
    pub properties: String,
}

/// The subject of a list of the top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopOf {
    /// Topics.
    Topics,
    /// Clients.
    Clients,
    /// Topics of messages that no sink, rule or subscriber has got.
    Unmatched,
}

/// The measure of a list of the top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopBy {
    /// Messages.
    Messages,
    /// Bytes of their packets.
    Bytes,
}

/// The name of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedClient {
    /// Client identifier.
    pub client_id: String,
    /// The name of its `[auth.NAME]`, empty: it has none. `None`: any.
    pub auth: Option<String>,
}

/// A part of a list.
#[derive(Clone, Debug)]
pub struct Part<T, At = u32> {
    /// The rows.
    pub rows: Vec<T>,
    /// The position of the next part; `None`: the shard has no more.
    pub next: Option<At>,
}

/// A shard's answer.
#[derive(Clone, Debug)]
pub enum Told {
    /// The answer to [`Ask::Clients`].
    Clients(Part<Client>),
    /// The answer to [`Ask::Client`].
    Client(Option<Box<Client>>),
    /// The answer to a question about one client if several have this identifier, with these `auth`.
    SeveralClients(Vec<String>),
    /// The answer to [`Ask::Oldest`]: milliseconds since 1970 by the sink's number in the configuration; `None`: it has none.
    Oldest(Vec<Option<i64>>),
    /// The answer to [`Ask::Topics`].
    Topics(Part<Topic>),
    /// The answer to [`Ask::Partitions`].
    Partitions(Part<Partition>),
    /// The answer to [`Ask::Subscriptions`].
    Subscriptions(Part<Subscription, u64>),
    /// The answer to [`Ask::Shares`].
    Shares(Part<Share>),
    /// The answer to [`Ask::Retained`].
    Retained(Part<Retained, String>),
    /// The answer to [`Ask::RetainedOf`].
    RetainedOf(Option<Box<Retained>>),
    /// The answer to [`Ask::Sources`].
    Sources(Vec<SourceOnShard>),
    /// The answer to [`Ask::Bridges`].
    Bridges(Vec<BridgeOnShard>),
    /// The answer to [`Ask::Top`].
    Top(TopOnShard),
    /// The answer to [`Ask::Matching`]: the numbers in the configuration of sinks, and of rules.
    Matching(Vec<usize>, Vec<usize>),
    /// The answer to [`Ask::EndBanned`]: the number of disconnected clients, and the next position; `None`: the shard has no more.
    Ended(usize, Option<u32>),
    /// The answer to [`Ask::Publish`].
    Ordered(Ordered),
    /// The answer to [`Ask::Traced`]: packets in order, and the number of packets that were left out since the last answer.
    Traced(Vec<TracedPacket>, u64),
    /// The answer to [`Ask::Seek`]: the number of partitions that are sought; `None`: the source reads nothing.
    Sought(Option<usize>),
    /// The answer to other requests: whether there was something to do.
    Done(bool),
}

/// The topics or clients with the most publishes on a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopOnShard {
    /// The topics, or clients as `AUTH\0CLIENT_ID`: no client has a U+0000 in its identifier.
    pub names: Vec<Weighed>,
    /// The time in milliseconds in which a steady rate makes the present weights.
    pub window_ms: u64,
    /// The sampling: about one of this many publishes is counted.
    pub every: u32,
}

/// A request to read from another place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seek {
    /// The source's number in the configuration.
    pub source: usize,
    /// Only partitions of this Kafka topic.
    pub topic: Option<String>,
    /// Only the partition with this number.
    pub partition: Option<i32>,
    /// The place.
    pub to: SeekTo,
}

/// A place in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeekTo {
    /// The oldest record.
    Earliest,
    /// After the newest record.
    Latest,
    /// The first record with this timestamp or a later one, milliseconds since 1970.
    Time(i64),
    /// This offset.
    Offset(i64),
}

/// A shard's part of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceOnShard {
    /// The source's number in the configuration.
    pub source: usize,
    /// The source's membership, on the shard that has it.
    pub membership: Option<Membership>,
    /// The partitions that the shard reads.
    pub partitions: Vec<SourcePartition>,
    /// The number of partitions that are left out.
    pub more: usize,
    /// Why a partition is not read.
    pub stopped: Option<String>,
}

/// A source's membership in its group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Why the group cannot be joined, or takes no commits.
    pub trouble: Option<String>,
    /// Topic and number of the source's partitions, and the offsets that the group has committed there.
    pub committed: Vec<(String, i32, Option<i64>)>,
}

/// A partition of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourcePartition {
    /// Kafka topic.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// The offset of the next record to read; `None`: not known yet.
    pub position: Option<i64>,
    /// Records beyond that one, as far as is known.
    pub lag: Option<u64>,
    /// Records that are open, and those after them.
    pub open: usize,
    /// Messages without subscribers among them.
    pub parked: usize,
    /// The state.
    pub state: &'static str,
    /// Why the partition is not read.
    pub reason: Option<String>,
}

/// A shard's part of a bridge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BridgeOnShard {
    /// The bridge's number in the configuration.
    pub bridge: usize,
    /// The state.
    pub state: BridgeState,
    /// The time since the connection was made or lost, in seconds.
    pub since_s: u64,
    /// Why the bridge is not connected, or not with all of its filters.
    pub reason: Option<String>,
    /// The last failure to connect, or loss of the connection, and its age in seconds.
    pub trouble: Option<(String, u64)>,
    /// The remote's grants, while the bridge is connected.
    pub granted: Option<RemoteGrants>,
    /// The filters that the bridge subscribes to, where one bridge was asked for.
    pub filters: Vec<BridgeFilter>,
    /// Messages of QoS 1 and 2 that the remote has been sent and has not acknowledged.
    pub unacknowledged: Waiting,
    /// Messages that wait for the remote.
    pub queued: Waiting,
    /// Bytes of the queued messages.
    pub queued_bytes: usize,
    /// The most bytes that may be queued.
    pub queued_bytes_max: usize,
    /// Messages that the remote was sent for the first time, by each `out` in the order of the configuration.
    pub sent: Vec<u64>,
}

/// The state of a bridge; the boards have it as a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BridgeState {
    /// No attempt to connect has ended since the last connection.
    #[default]
    Connecting,
    /// Messages go both ways.
    Connected,
    /// The bridge is connected, and the remote refuses some of the filters.
    Partial,
    /// The remote refuses the bridge, or TLS has failed.
    Refused,
    /// There is no connection to the remote.
    Unreachable,
    /// The bridge is paused by the configuration.
    Paused,
}

impl BridgeState {
    const ALL: [Self; 6] =
        [Self::Connecting, Self::Connected, Self::Partial, Self::Refused, Self::Unreachable, Self::Paused];
    /// The states' names, in the order of their numbers.
    pub const WORDS: [&'static str; 6] = ["connecting", "connected", "partial", "refused", "unreachable", "paused"];

    /// The state with this number.
    #[must_use]
    pub fn of(number: u64) -> Self {
        let at = usize::try_from(number).ok().and_then(|number| Self::ALL.get(number));
        at.copied().unwrap_or_default()
    }

    /// The state's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::WORDS[self as usize]
    }
}

/// The grants of a remote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteGrants {
    /// The protocol's version, as people write it.
    pub protocol: &'static str,
    /// The remote treats the client as another broker, before 5.0.
    pub is_bridge: bool,
    /// The remote had a session of the client.
    pub session_present: bool,
    /// Keep-alive in seconds; 0: off.
    pub keep_alive_s: u16,
    /// The most messages of QoS 1 and 2 in flight to the remote.
    pub in_flight_max: u16,
    /// The highest QoS that the remote takes.
    pub maximum_qos: u8,
    /// The largest packet that the remote takes, in bytes; `None`: it has not set a bound.
    pub packet_bytes_max: Option<u32>,
    /// The time for which the remote keeps the session without a connection, in seconds; `None`: for ever, or not known.
    pub session_expiry_s: Option<u32>,
    /// Whether the remote supports RETAIN.
    pub retain_available: bool,
    /// Whether filters may have wildcards.
    pub wildcards_available: bool,
    /// Whether the remote supports shared subscriptions.
    pub shared_available: bool,
}

/// A filter that a bridge subscribes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeFilter {
    /// The filter, `$share/NAME/` included.
    pub filter: String,
    /// The requested QoS.
    pub qos: u8,
    /// The granted QoS; or why the filter is refused. `None`: the remote has not answered.
    pub standing: Option<Result<u8, &'static str>>,
}

/// A client and its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Client identifier.
    pub client_id: String,
    /// The name of the `[auth.NAME]` that has admitted the client; `None`: its listener has none.
    pub auth: Option<String>,
    /// User name of the present or last connection.
    pub username: Option<String>,
    /// The client's connection; `None`: the client is offline.
    pub connection: Option<Connection>,
    /// The protocol's version, as people write it.
    pub protocol: &'static str,
    /// The time for which the session stays without a connection, in seconds; `None`: for ever.
    pub session_expiry_s: Option<u32>,
    /// Whether the session is on disk.
    pub stored: bool,
    /// Publishes of the connection without an answer.
    pub unanswered: usize,
    /// Open QoS 2 packet identifiers.
    pub open_packet_ids: usize,
    /// The number of subscriptions.
    pub subscriptions: usize,
    /// The subscriptions, where one client was asked for.
    pub filters: Option<Vec<Filter>>,
    /// Messages that were sent to the client and not acknowledged.
    pub unacknowledged: Waiting,
    /// Messages that wait.
    pub queued: Waiting,
    /// Bytes of the queued messages.
    pub queued_bytes: usize,
    /// The most bytes that may be queued.
    pub queued_bytes_max: usize,
}

/// Messages of QoS 1 and 2 for a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// The number of messages.
    pub messages: usize,
    /// The most messages at a time.
    pub messages_max: usize,
    /// The age of the oldest message in seconds, if it is known.
    pub oldest_s: Option<u64>,
}

/// A subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Its topic filter.
    pub filter: String,
    /// Granted QoS.
    pub qos: u8,
    /// No Local, Retain As Published.
    pub options: (bool, bool),
    /// Retain Handling.
    pub retain_handling: u8,
    /// Subscription Identifier.
    pub identifier: Option<u32>,
    /// The subscription's replay, where one client was asked for and it has one.
    pub replay: Option<Replay>,
}

/// Records of the past that a subscription is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Whether it is one of the running replays; otherwise it waits for a place.
    pub reads: bool,
    /// The known partitions of its topics.
    pub partitions: usize,
    /// Partitions that have been read up to the live messages.
    pub live: usize,
}

/// A subscription with its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Client identifier.
    pub client_id: String,
    /// The name of the client's `[auth.NAME]`, if it has one.
    pub auth: Option<String>,
    /// Whether the client is connected.
    pub connected: bool,
    /// The subscription.
    pub filter: Filter,
    /// Whether the client may read the topic that was asked for.
    pub may_read: Option<bool>,
}

/// A shard's part of a shared subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The number: the same on all shards.
    pub number: u32,
    /// Share name.
    pub name: String,
    /// Topic filter.
    pub filter: String,
    /// The strategy that chooses a member, by its name in the configuration.
    pub strategy: &'static str,
    /// Sessions that are members.
    pub members: usize,
    /// Connected members.
    pub online: usize,
    /// Members with messages on disk.
    pub kept: usize,
    /// Messages that wait for a member, and their bytes.
    pub queued: (usize, usize),
    /// The age of the oldest of these messages, in seconds.
    pub oldest_s: Option<u64>,
}

/// A client's connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The client's address; behind a proxy, the one that the proxy reports.
    pub peer: Option<SocketAddr>,
    /// The listener's number in the configuration.
    pub listener: usize,
    /// The front of the connection, if that is another instance.
    pub front: Option<String>,
    /// Whether reading is paused.
    pub paused: bool,
}

/// A Kafka topic that a sink writes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// The sink's number in the configuration.
    pub sink: usize,
    /// The topic's name.
    pub name: String,
    /// Partitions; 0: not known.
    pub partitions: usize,
    /// Memory of its records.
    pub buffered_bytes: usize,
}

/// A shard's part of a partition that a sink writes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Kafka topic.
    pub topic: String,
    /// The partition's number; `None`: records of the topic that have no partition yet.
    pub partition: Option<u32>,
    /// The node ID of the leader, and its address if it is known.
    pub leader: Option<(i32, Option<String>)>,
    /// Records that are not in Kafka, as far as is known.
    pub records: u64,
    /// Spilled rows among them: those in the log alone.
    pub spilled: u64,
    /// Memory of the resident ones.
    pub bytes: usize,
    /// Batches that have their place in the log of the partition.
    pub batches: usize,
    /// Requests without an answer.
    pub in_flight: usize,
    /// When the oldest record in memory was taken, milliseconds since 1970.
    pub oldest_ms: Option<i64>,
    /// The offset of the last record that Kafka has acknowledged.
    pub acknowledged: Option<i64>,
    /// The state.
    pub state: &'static str,
}

/// A retained message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retained {
    /// The topic of the message.
    pub topic: String,
    /// The QoS at which it was published.
    pub qos: u8,
    /// Bytes of the payload.
    pub payload_bytes: usize,
    /// The payload, where one message was asked for.
    pub payload: Option<Vec<u8>>,
    /// The time since it was retained in this process, in seconds.
    pub age_s: u64,
    /// The time until it expires, in seconds; `None`: it does not expire.
    pub expires_in_s: Option<u64>,
    /// Whether the message survives a restart.
    pub stored: bool,
}

/// The channel to the shards.
pub trait Shards: Send + Sync {
    /// The number of shards.
    fn count(&self) -> usize;
    /// The number of the process's shared subscriptions.
    fn shared_subscriptions(&self) -> usize;
    /// The shard that has the retained message of a topic, or a source of this name.
    fn owner(&self, of: &str) -> usize;
    /// The other instance that has a client, by its identifier; `None`: this one has it, or none has.
    fn instance_of(&self, _client_id: &str) -> Option<String> {
        None
    }
    /// The instances of `[broker]` and their slots; `None`: there is no `[broker]`.
    fn slots(&self) -> Option<SlotTable> {
        None
    }
    /// Whether this instance of `[broker]` gives its slots to others, or has given them away.
    fn is_drained(&self) -> bool {
        false
    }
    /// Has this instance of `[broker]` give its slots to others (`drains`), or take part again; with `dry_run` nothing is done. `false`: the mailbox is full.
    ///
    /// # Errors
    /// Why it cannot be done, in words.
    fn drain(&self, _drains: bool, _dry_run: bool) -> Result<bool, String> {
        Err("there is no [broker]".to_owned())
    }
    /// The shard that has a client, by its identifier. For a client of another instance, any shard.
    fn home(&self, client_id: &str) -> usize {
        self.owner(client_id)
    }
    /// Parses a place in a log: `earliest`, `latest`, a time (RFC 3339), an age as in `-1h`.
    ///
    /// # Errors
    /// Why the text is not a place.
    fn place(&self, text: &str) -> Result<SeekTo, String>;
    /// Sends a question. `false`: the shard's mailbox is full, or it has ended; `answer` is not called then.
    fn ask(&self, shard: usize, ask: Ask, answer: Answer) -> bool;
    /// Gives a shard one end of a pair of sockets, on which a client of the dashboard speaks WebSocket, as this user. `false`: as
    /// in [`Shards::ask`].
    fn test_client(&self, socket: OwnedFd, user: &str) -> bool {
        let _ = (socket, user);
        false
    }
}

/// The instances of `[broker]` and their slots, as far as this instance knows.
#[derive(Clone, Debug, Default)]
pub struct SlotTable {
    /// Name of this instance.
    pub name: String,
    /// Generation of the group of instances; `None`: this instance is alone.
    pub generation: Option<i32>,
    /// Whether the group was silent for too long, so that no client is welcomed.
    pub is_silent: bool,
    /// Whether this instance gives its slots to others, or has given them away.
    pub is_drained: bool,
    /// The instances, in order of their names.
    pub instances: Vec<InstanceOfBroker>,
    /// Slots without an instance for now.
    pub nobody: Vec<u16>,
    /// Slots among them with a log that this instance cannot take up, each with the reason.
    pub not_taken: Vec<(u16, Arc<str>)>,
}

/// An instance of `[broker]`.
#[derive(Clone, Debug, Default)]
pub struct InstanceOfBroker {
    /// The instance's name.
    pub name: String,
    /// The address for links of other instances.
    pub link: Option<String>,
    /// The address for clients.
    pub server: Option<String>,
    /// The slots that it serves. Of this instance: the slots that it has taken over.
    pub slots: Vec<u16>,
}

/// Takes a shard's answer. Called on the shard: it must not block.
pub type Answer = Box<dyn FnOnce(Told) + Send>;
