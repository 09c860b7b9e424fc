//! What the control plane asks of a shard, and what it is told. Questions go by mail; a shard answers each in one turn and
//! looks at a bounded number of things for it, so that a long list is asked for in parts.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::top::Weighed;

/// Sessions or topics that a shard looks at for one question.
pub const LOOKED_AT_MAX: usize = 8_192;

/// A question, or a wish.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Clients, from a position on.
    Clients {
        /// The first position to look at.
        from: u32,
        /// At most this many.
        limit: usize,
        /// Which of them.
        wanted: WantedClients,
    },
    /// One client.
    Client(NamedClient),
    /// End a client's connection; its session stays as its own terms say.
    Disconnect(NamedClient),
    /// End a client's connection and session.
    Forget(NamedClient),
    /// When the oldest record of each sink in memory was taken.
    Oldest,
    /// Kafka topics in memory, from a position on.
    Topics {
        /// The first position to look at.
        from: u32,
        /// At most this many.
        limit: usize,
        /// Only those of this sink, by its number in the configuration.
        sink: Option<usize>,
    },
    /// Partitions that a sink writes to, from a position on.
    Partitions {
        /// The first position to look at.
        from: u32,
        /// At most this many.
        limit: usize,
        /// The sink, by its number in the configuration.
        sink: usize,
    },
    /// Subscriptions, from a position on.
    Subscriptions {
        /// The first position to look at.
        from: u64,
        /// At most this many.
        limit: usize,
        /// Only those that get messages of this topic. One that is not valid is answered with [`Told::Done`].
        topic: Option<String>,
        /// Only those to this topic filter. Likewise.
        filter: Option<String>,
    },
    /// Shared subscriptions that the shard has something of, in the order of their numbers.
    Shares {
        /// The first number to look at.
        from: u32,
        /// At most this many.
        limit: usize,
        /// Only those with this text in their name or topic filter.
        search: Option<String>,
    },
    /// Retained messages with topics that a filter matches, without their payloads.
    Retained {
        /// It. One that is not valid is answered with [`Told::Done`].
        filter: String,
        /// The first topic to look at; empty: from the beginning.
        from: String,
        /// At most this many.
        limit: usize,
    },
    /// The retained message of a topic.
    RetainedOf(String),
    /// End the retained message of a topic.
    ForgetRetained(String),
    /// Sources that have a partition or their membership on the shard.
    Sources {
        /// Only this one, by its number in the configuration, with what its group has committed.
        source: Option<usize>,
        /// At most this many partitions of each.
        limit: usize,
    },
    /// Read partitions of a source from another place on. Asked of the shard with its membership.
    Seek(Box<Seek>),
    /// Bridges that have their session on the shard.
    Bridges {
        /// Only this one, by its number in the configuration, with its filters.
        bridge: Option<usize>,
    },
    /// What clients publish most.
    Top {
        /// Of what.
        of: TopOf,
        /// By what.
        by: TopBy,
    },
    /// Sinks and rules that a message of this topic would go to. One that is not valid is answered with [`Told::Done`].
    Matching(String),
    /// Begin a trace. Asked of all shards.
    Trace(Box<TraceOf>),
    /// Take the packets of the trace with this number that wait on the shard.
    Traced(u64),
    /// End the trace with this number.
    EndTrace(u64),
    /// Publish a message.
    Publish(Box<ToPublish>),
    /// Disconnect clients that are banned, of the sessions from a position on.
    EndBanned(u32),
}

/// The clients that are asked for: those that fit all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WantedClients {
    /// Only those with this text in their client identifier, user name, auth or address, in whatever case.
    pub search: Option<String>,
    /// Only those that are connected, or that are not.
    pub connected: Option<bool>,
    /// Only those that are connected to this listener, by its number in the configuration.
    pub listener: Option<usize>,
}

/// A message to publish.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToPublish {
    /// Topic.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// 0, 1 or 2.
    pub qos: u8,
    /// Whether it is retained.
    pub retain: bool,
    /// Message Expiry Interval, in seconds; `None`: it has none.
    pub expiry_s: Option<u32>,
    /// Content Type.
    pub content_type: Option<String>,
    /// User properties: names and values.
    pub user_properties: Vec<(String, String)>,
    /// The user, as sinks and events name it.
    pub username: Option<String>,
}

/// What became of a message to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ordered {
    /// All have it that match it.
    Taken,
    /// Nobody matches it.
    Unmatched,
    /// A sink or a rule refuses it: nobody has it.
    Refused,
    /// There is no room: nobody has it.
    NoRoom,
    /// It cannot be a message, for this reason.
    Invalid(String),
}

/// A trace that is asked for: of one client, or of messages with topics that a filter matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceOf {
    /// Its number.
    pub id: u64,
    /// The client.
    pub client: Option<NamedClient>,
    /// The topic filter. One that is not valid is answered with [`Told::Done`].
    pub filter: Option<String>,
    /// How long it goes on.
    pub lasts: Duration,
}

/// A packet of a trace. It has no password, no data of AUTH and no user name that is a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedPacket {
    /// When it was taken or sent, milliseconds since 1970.
    pub at_ms: i64,
    /// It was sent to the client; otherwise the client has sent it.
    pub to_client: bool,
    /// Client identifier, and the name of its `[auth.NAME]`, if it has one.
    pub client: (String, Option<String>),
    /// The packet's name.
    pub packet: &'static str,
    /// Packet Identifier.
    pub packet_id: Option<u16>,
    /// Topic of a PUBLISH.
    pub topic: Option<String>,
    /// Reason code, and what the standard calls it.
    pub reason: Option<(u8, &'static str)>,
    /// What else it says, in words.
    pub details: String,
    /// What is in a PUBLISH.
    pub content: Option<TracedContent>,
}

/// What is in a PUBLISH of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracedContent {
    /// The beginning of its payload.
    pub payload: Vec<u8>,
    /// Bytes of the whole payload.
    pub payload_bytes: usize,
    /// Its properties, in words.
    pub properties: String,
}

/// What a list of the most is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopOf {
    /// Topics.
    Topics,
    /// Clients.
    Clients,
    /// Topics of messages that no sink, rule or subscriber has got.
    Unmatched,
}

/// What the most are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopBy {
    /// Messages.
    Messages,
    /// Bytes of their packets.
    Bytes,
}

/// One client, as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedClient {
    /// Client identifier.
    pub client_id: String,
    /// The name of its `[auth.NAME]`, empty: it has none. `None`: whichever it is.
    pub auth: Option<String>,
}

/// A part of a list.
#[derive(Clone, Debug)]
pub struct Part<T, At = u32> {
    /// What was found.
    pub rows: Vec<T>,
    /// Where to go on; `None`: that was all of the shard.
    pub next: Option<At>,
}

/// What a shard says.
#[derive(Clone, Debug)]
pub enum Told {
    /// To [`Ask::Clients`].
    Clients(Part<Client>),
    /// To [`Ask::Client`].
    Client(Option<Box<Client>>),
    /// To a question about one client: several have this identifier, with these `auth`.
    SeveralClients(Vec<String>),
    /// To [`Ask::Oldest`]: milliseconds since 1970 by the sink's number in the configuration; `None`: it has none.
    Oldest(Vec<Option<i64>>),
    /// To [`Ask::Topics`].
    Topics(Part<Topic>),
    /// To [`Ask::Partitions`].
    Partitions(Part<Partition>),
    /// To [`Ask::Subscriptions`].
    Subscriptions(Part<Subscription, u64>),
    /// To [`Ask::Shares`].
    Shares(Part<Share>),
    /// To [`Ask::Retained`].
    Retained(Part<Retained, String>),
    /// To [`Ask::RetainedOf`].
    RetainedOf(Option<Box<Retained>>),
    /// To [`Ask::Sources`].
    Sources(Vec<SourceOnShard>),
    /// To [`Ask::Bridges`].
    Bridges(Vec<BridgeOnShard>),
    /// To [`Ask::Top`].
    Top(TopOnShard),
    /// To [`Ask::Matching`]: the numbers in the configuration of sinks, and of rules.
    Matching(Vec<usize>, Vec<usize>),
    /// To [`Ask::EndBanned`]: how many were disconnected, and where to go on; `None`: that was all of the shard.
    Ended(usize, Option<u32>),
    /// To [`Ask::Publish`].
    Ordered(Ordered),
    /// To [`Ask::Traced`]: packets in order, and how many were left out since the last time.
    Traced(Vec<TracedPacket>, u64),
    /// To [`Ask::Seek`]: how many partitions are sought; `None`: the source reads nothing.
    Sought(Option<usize>),
    /// To the wishes: whether there was something to do.
    Done(bool),
}

/// What clients of a shard publish most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopOnShard {
    /// The topics, or clients as `AUTH\0CLIENT_ID`: no client has a U+0000 in its identifier.
    pub names: Vec<Weighed>,
    /// The milliseconds in which a steady rate makes the weights that there are.
    pub window_ms: u64,
    /// Of how many about one is counted.
    pub every: u32,
}

/// A wish to read elsewhere.
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

/// What a shard has of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceOnShard {
    /// The source's number in the configuration.
    pub source: usize,
    /// Its membership, on the shard that has it.
    pub membership: Option<Membership>,
    /// The partitions that the shard reads.
    pub partitions: Vec<SourcePartition>,
    /// How many of them are left out.
    pub more: usize,
    /// Why one of them is not read.
    pub stopped: Option<String>,
}

/// A source's place in its group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Why the group cannot be joined, or takes no commits.
    pub trouble: Option<String>,
    /// Topic and number of the source's partitions, and what the group has committed there.
    pub committed: Vec<(String, i32, Option<i64>)>,
}

/// A partition of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourcePartition {
    /// Kafka topic.
    pub topic: String,
    /// Its number.
    pub partition: i32,
    /// The offset of the next record that is read; `None`: where reading begins is not known yet.
    pub position: Option<i64>,
    /// Records beyond that one, as far as is known.
    pub lag: Option<u64>,
    /// Records that are not over, and those after them.
    pub open: usize,
    /// Those of them that nobody has subscribed to.
    pub parked: usize,
    /// What it is at.
    pub state: &'static str,
    /// Why it is not read.
    pub reason: Option<String>,
}

/// What a shard has of a bridge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BridgeOnShard {
    /// The bridge's number in the configuration.
    pub bridge: usize,
    /// What it is at.
    pub state: BridgeState,
    /// For how long it has had its connection, or has had none, in seconds.
    pub since_s: u64,
    /// Why it is not connected, or not with all of its filters.
    pub reason: Option<String>,
    /// The last failure to connect, or loss of the connection, and how long ago that was, in seconds.
    pub trouble: Option<(String, u64)>,
    /// What the remote has granted, while it is connected.
    pub granted: Option<RemoteGrants>,
    /// The filters that the remote is asked for, where one bridge was asked for.
    pub filters: Vec<BridgeFilter>,
    /// Messages of QoS 1 and 2 that the remote has been sent and has not acknowledged.
    pub unacknowledged: Waiting,
    /// Messages that wait for the remote.
    pub queued: Waiting,
    /// Bytes of the queued messages.
    pub queued_bytes: usize,
    /// How many bytes of them may wait.
    pub queued_bytes_max: usize,
    /// Messages that the remote was sent for the first time, by each `out` in the order of the configuration.
    pub sent: Vec<u64>,
}

/// What a bridge is at. As a number it stands on the boards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BridgeState {
    /// No attempt to connect has ended since there was a connection.
    #[default]
    Connecting,
    /// Messages go both ways.
    Connected,
    /// The same, and the remote refuses some of the filters.
    Partial,
    /// The remote does not want the bridge, or TLS has failed.
    Refused,
    /// There is no connection to the remote.
    Unreachable,
    /// The configuration says so.
    Paused,
}

impl BridgeState {
    const ALL: [Self; 6] =
        [Self::Connecting, Self::Connected, Self::Partial, Self::Refused, Self::Unreachable, Self::Paused];
    /// Their words, in the order of their numbers.
    pub const WORDS: [&'static str; 6] = ["connecting", "connected", "partial", "refused", "unreachable", "paused"];

    /// The state with a number.
    #[must_use]
    pub fn of(number: u64) -> Self {
        let at = usize::try_from(number).ok().and_then(|number| Self::ALL.get(number));
        at.copied().unwrap_or_default()
    }

    /// The state in a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::WORDS[self as usize]
    }
}

/// What a remote has granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteGrants {
    /// The protocol's version, as people write it.
    pub protocol: &'static str,
    /// The remote takes the client for another broker, before 5.0.
    pub is_bridge: bool,
    /// The remote had what it knew of the client.
    pub session_present: bool,
    /// Keep-alive in seconds; 0: off.
    pub keep_alive_s: u16,
    /// Messages of QoS 1 and 2 that may be on their way to it.
    pub in_flight_max: u16,
    /// The highest QoS that it takes.
    pub maximum_qos: u8,
    /// The largest packet that it takes, in bytes; `None`: it has not said.
    pub packet_bytes_max: Option<u32>,
    /// For how long it keeps the session without a connection, in seconds; `None`: for ever, or nobody knows.
    pub session_expiry_s: Option<u32>,
    /// Whether it takes RETAIN.
    pub retain_available: bool,
    /// Whether filters may have wildcards.
    pub wildcards_available: bool,
    /// Whether it has shared subscriptions.
    pub shared_available: bool,
}

/// A filter that a remote is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeFilter {
    /// The filter, `$share/NAME/` included.
    pub filter: String,
    /// The QoS that is asked for.
    pub qos: u8,
    /// The QoS that is granted; or why the filter is refused. `None`: the remote has not answered.
    pub standing: Option<Result<u8, &'static str>>,
}

/// A client and its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Client identifier.
    pub client_id: String,
    /// The name of the `[auth.NAME]` that has admitted it; `None`: nothing had to.
    pub auth: Option<String>,
    /// User name of the present or last connection.
    pub username: Option<String>,
    /// The client's connection; `None`: it is away.
    pub connection: Option<Connection>,
    /// The protocol's version, as people write it.
    pub protocol: &'static str,
    /// For how long the session stays without a connection, in seconds; `None`: for ever.
    pub session_expiry_s: Option<u32>,
    /// Whether the session is on disk.
    pub stored: bool,
    /// Publishes of the connection without an answer.
    pub unanswered: usize,
    /// QoS 2 packet identifiers that are open.
    pub open_packet_ids: usize,
    /// How many subscriptions it has.
    pub subscriptions: usize,
    /// They, where one client was asked for.
    pub filters: Option<Vec<Filter>>,
    /// Messages that it has been sent and not acknowledged.
    pub unacknowledged: Waiting,
    /// Messages that wait.
    pub queued: Waiting,
    /// Bytes of the queued messages.
    pub queued_bytes: usize,
    /// How many bytes of them may wait.
    pub queued_bytes_max: usize,
}

/// Messages of QoS 1 and 2 for a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// The number of messages.
    pub messages: usize,
    /// How many there may be at a time.
    pub messages_max: usize,
    /// How long ago the oldest came, in seconds, as far as that is remembered.
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
    /// Its replay, where one client was asked for and it has one.
    pub replay: Option<Replay>,
}

/// Records of the past that a subscription is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Whether it has a place among those that read; otherwise it waits for one.
    pub reads: bool,
    /// The partitions that are known of its topics.
    pub partitions: usize,
    /// Partitions that have been read up to the live messages.
    pub live: usize,
}

/// A subscription with its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Client identifier.
    pub client_id: String,
    /// The name of its `[auth.NAME]`, if it has one.
    pub auth: Option<String>,
    /// Whether the client is connected.
    pub connected: bool,
    /// The subscription.
    pub filter: Filter,
    /// Whether the client may read the topic that was asked for.
    pub may_read: Option<bool>,
}

/// What a shard has of a shared subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Its number: the same on all shards.
    pub number: u32,
    /// Share name.
    pub name: String,
    /// Topic filter.
    pub filter: String,
    /// How a member is chosen, as the configuration has it.
    pub strategy: &'static str,
    /// Sessions that are members.
    pub members: usize,
    /// Those that are connected.
    pub online: usize,
    /// Those for which messages are on disk.
    pub kept: usize,
    /// Messages that wait for a member, and their bytes.
    pub queued: (usize, usize),
    /// How long ago the oldest of these came, in seconds.
    pub oldest_s: Option<u64>,
}

/// A client's connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The client's address, as a proxy says it where there is one.
    pub peer: Option<SocketAddr>,
    /// The listener's number in the configuration.
    pub listener: usize,
    /// The instance that it came in by, if that is another one.
    pub front: Option<String>,
    /// It is not being read for now.
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

/// What a shard has of a partition that a sink writes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Kafka topic.
    pub topic: String,
    /// Its number; `None`: records of the topic that have no partition yet.
    pub partition: Option<u32>,
    /// The node ID of its leader, and its address as far as that is known.
    pub leader: Option<(i32, Option<String>)>,
    /// Records that are not in Kafka, as far as is known.
    pub records: u64,
    /// Those of them that are on the disk alone.
    pub spilled: u64,
    /// Memory of the others.
    pub bytes: usize,
    /// Batches that have their place in the log of the partition.
    pub batches: usize,
    /// Requests without an answer.
    pub in_flight: usize,
    /// When the oldest record in memory was taken, milliseconds since 1970.
    pub oldest_ms: Option<i64>,
    /// The offset of the last record that Kafka has acknowledged.
    pub acknowledged: Option<i64>,
    /// What it is at.
    pub state: &'static str,
}

/// A retained message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retained {
    /// The topic of the message.
    pub topic: String,
    /// The QoS that it was published at.
    pub qos: u8,
    /// Bytes of its payload.
    pub payload_bytes: usize,
    /// The payload, where one message was asked for.
    pub payload: Option<Vec<u8>>,
    /// Since when it has been retained in this process, in seconds.
    pub age_s: u64,
    /// When it expires, in seconds; `None`: never.
    pub expires_in_s: Option<u64>,
    /// Whether it survives a restart.
    pub stored: bool,
}

/// The way to ask shards.
pub trait Shards: Send + Sync {
    /// How many there are.
    fn count(&self) -> usize;
    /// How many shared subscriptions the process has.
    fn shared_subscriptions(&self) -> usize;
    /// The shard that has the retained message of a topic, or a source of this name.
    fn owner(&self, of: &str) -> usize;
    /// The other instance that has a client, by its identifier; `None`: this one has it, or none has.
    fn instance_of(&self, _client_id: &str) -> Option<String> {
        None
    }
    /// Who serves which slot of `[broker]`; `None`: there is none.
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
    /// The shard that has a client, by its identifier. For a client that is not here, any shard.
    fn home(&self, client_id: &str) -> usize {
        self.owner(client_id)
    }
    /// The place in a log that a text means: `earliest`, `latest`, a time (RFC 3339), an age as in `-1h`.
    ///
    /// # Errors
    /// What is wrong with it.
    fn place(&self, text: &str) -> Result<SeekTo, String>;
    /// Puts a question. `false`: the shard's mailbox is full, or it has ended; `answer` is not called then.
    fn ask(&self, shard: usize, ask: Ask, answer: Answer) -> bool;
    /// Gives a shard one end of a pair of sockets, on which a client of the dashboard speaks WebSocket, as this user. `false`: as above.
    fn test_client(&self, socket: OwnedFd, user: &str) -> bool {
        let _ = (socket, user);
        false
    }
}

/// Who serves which slot of `[broker]`, as this instance knows.
#[derive(Clone, Debug, Default)]
pub struct SlotTable {
    /// Name of this instance.
    pub name: String,
    /// Generation of the group of instances; `None`: this one is alone.
    pub generation: Option<i32>,
    /// Whether nothing was heard of the group for too long, so that no client is welcomed.
    pub is_silent: bool,
    /// Whether this instance gives its slots to others, or has given them away.
    pub is_drained: bool,
    /// The instances, in order of their names.
    pub instances: Vec<InstanceOfBroker>,
    /// Slots that nobody serves for now.
    pub nobody: Vec<u16>,
}

/// An instance of `[broker]`.
#[derive(Clone, Debug, Default)]
pub struct InstanceOfBroker {
    /// Its name.
    pub name: String,
    /// Where others connect to it, for their clients.
    pub link: Option<String>,
    /// Where clients find it.
    pub server: Option<String>,
    /// The slots that it serves. Of this instance: those that it has taken over.
    pub slots: Vec<u16>,
}

/// Takes what a shard says. Called on the shard: it must not block.
pub type Answer = Box<dyn FnOnce(Told) + Send>;
