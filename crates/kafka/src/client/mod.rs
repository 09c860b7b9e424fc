//! The wire client of one Kafka cluster on one shard, sans-I/O: bytes and `now` in, [`Effect`]s out.
//!
//! One connection for metadata and producer ids, one for Produce to each leader, a second one for partitions with slow followers, one for
//! Fetch to each broker that is read from, one more to a broker while there are questions about its logs, and one for each member of a
//! consumer group: Kafka handles one request of a connection at a time, so neither metadata nor other partitions must ever wait for a Produce
//! that waits for followers. The client promises:
//!
//! - **Order.** Produce requests to one broker over one channel are sent in the order given. When a connection fails, all unanswered requests
//!   of the channel fail with it, oldest first, sent or unsent, so that none overtakes another.
//! - **One cluster.** A broker reports its cluster on each new connection before anything else is sent. When the
//!   cluster is another one, all requests fail before [`ClientEvent::Cluster`] reports it.
//! - **`sent`.** [`ClientEvent::ProduceFailed`] says `sent: false` only if no byte was handed to a socket.
//! - **Reachable.** A connection that a broker ends is opened again, and only a failed attempt is reported; a broker without other
//!   requests is probed from time to time.
//! - **No endless waits.** Every step has a deadline; a silent connection is closed and replaced, soon at first, later
//!   if that did not help, and metadata requested from another broker. Failed connections
//!   and refused questions are retried with exponential backoff, ± 20 %.
//! - **Bounds.** An answer's length is checked before it is gathered, and its counts before anything is reserved;
//!   queues have the bounds of [`Settings`]; the caller bounds the numbers of topics and producer ids.
//!
//! With acks=0 Kafka sends no answer: [`ClientEvent::Produced`] (error 0, offset -1) is sent when the bytes are handed
//! over, and means no more than that.
//!
//! Each broker is reached over an [`outward::Channel`]. Files: `connection` has the requests of one, `topics` and `producer_ids` the open
//! questions, `coordinator` the members of groups, `fetching` the consumer's channels, `fetch_request` and `fetched` their bytes, `login` SASL;
//! `produce`, `request`, `answer`, `api`, `wire`, `frame` are the bytes; `ask` searches a log, `log` reads it. `answers`
//! and `upkeep` keep the channels going, `change` applies other settings, `cluster` ensures that all channels lead to one cluster.

mod answer;
mod answers;
#[cfg(feature = "testing")]
pub mod any_answer;
mod api;
mod ask;
mod change;
mod cluster;
mod connection;
mod coordinator;
mod coordinator_answer;
mod coordinator_request;
mod fetch_request;
mod fetched;
mod fetching;
mod frame;
mod log;
mod login;
mod produce;
mod producer_ids;
mod request;
mod settings;
mod topics;
mod upkeep;
pub(super) mod wire;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;

pub use login::{authentication_refused, handshake_refused};
pub use settings::Settings;

use self::api::API_VERSIONS;
use self::ask::AskChannel;
use self::connection::Connection;
use self::coordinator::Coordinators;
use self::fetching::FetchChannel;
use self::producer_ids::ProducerIds;
use self::topics::{INVALID_TOPIC, Topics};
use crate::fetch::{FetchFailure, ReadWay};
use crate::types::{ClientEvent, NodeId, ProduceRequest, TopicMetadata};
use forebay_guard::outward::{self, Ended, Endpoint, LinkId};
use forebay_guard::secure::sasl::Prepared;
use forebay_runtime::seam::Monotonic;

/// The longest topic name that Kafka takes, in bytes.
const TOPIC_BYTES_MAX: usize = 249;
/// The longest client id sent.
const CLIENT_ID_BYTES_MAX: usize = 249;

/// Effects requested by the client.
pub type Effect = outward::Effect<ClientEvent>;

/// The channel to one broker.
type Channel = outward::Channel<Connection>;
/// The state shared by all channels.
type Shared = outward::Shared<Connection>;

/// The channel that a connection or a resolution belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// The channel for metadata and producer ids.
    Metadata,
    /// A channel for Produce.
    Produce(Way),
    /// The channel for questions about this broker's logs.
    Ask(NodeId),
    /// The channel of this member of a group to its coordinator.
    Member(u32),
    /// A channel of the consumer.
    Fetch(ReadWay),
}

/// A way to a broker for Produce: there are two, so that partitions that wait for followers delay only each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Way {
    node: NodeId,
    /// Whether this is the second way, for partitions with slow followers.
    slow: bool,
}

/// A channel for Produce to one broker, and the requests that wait for it.
#[derive(Debug)]
struct ProduceChannel {
    channel: Channel,
    /// Requests that no connection has been given yet.
    queue: VecDeque<ProduceRequest>,
    /// The time at which metadata is next requested while the broker cannot be reached, to see whether it still leads the waiting partitions.
    recheck_at: Monotonic,
}

/// The client.
#[derive(Debug)]
pub struct Client {
    shared: Shared,
    bootstrap: Vec<Endpoint>,
    /// The live brokers, as the last metadata names them.
    brokers: BTreeMap<NodeId, Endpoint>,
    metadata: Channel,
    /// A counter through the brokers and the bootstrap list.
    candidate: usize,
    /// Candidates tried since the last metadata.
    tried: usize,
    /// The cluster's id, once it is known.
    cluster: Option<Rc<str>>,
    started: bool,
    channels: BTreeMap<Way, ProduceChannel>,
    ask_channels: BTreeMap<NodeId, AskChannel>,
    fetch_channels: BTreeMap<ReadWay, FetchChannel>,
    topics: Topics,
    producer_ids: ProducerIds,
    coordinators: Coordinators,
}

impl Client {
    /// Creates a client that does nothing before [`Client::start`]. `seed`: of its jitter and of the place in the bootstrap list at which it
    /// begins; shards should differ.
    #[must_use]
    pub fn new(settings: Settings, seed: u64) -> Self {
        let (settings, bootstrap) = change::bounded(settings);
        let mut shared = Shared::new(settings, seed);
        let candidate = if bootstrap.is_empty() { 0 } else { shared.rng.usize(..bootstrap.len()) };
        let nowhere = Endpoint { host: Rc::from(""), port: 0 };
        Self {
            shared,
            bootstrap,
            brokers: BTreeMap::new(),
            metadata: Channel::new(Owner::Metadata, nowhere),
            candidate,
            tried: 0,
            cluster: None,
            started: false,
            channels: BTreeMap::new(),
            ask_channels: BTreeMap::new(),
            fetch_channels: BTreeMap::new(),
            topics: Topics::new(),
            producer_ids: ProducerIds::default(),
            coordinators: Coordinators::default(),
        }
    }

    /// Counters of the client's connections.
    #[must_use]
    pub fn stats(&self) -> outward::Stats {
        self.shared.stats
    }

    /// Starts with the bootstrap list.
    pub fn start(&mut self, now: Monotonic) {
        self.started = true;
        self.pump_metadata(now);
    }

    /// Takes the result of resolving a name.
    pub fn on_resolved(&mut self, ticket: u64, result: Result<Vec<SocketAddr>, String>, now: Monotonic) {
        if let Some(owner) = self.shared.take_ticket(ticket)
            && let Some((channel, shared)) = self.channel(owner)
            && let Err(why) = channel.resolved(ticket, result, shared, now)
        {
            self.fail(owner, &why, now);
        }
    }

    /// Takes the result of a task of a login.
    pub fn on_prepared(&mut self, ticket: u64, result: Result<Prepared, String>, now: Monotonic) {
        if let Some(owner) = self.shared.take_ticket(ticket) {
            self.login_prepared(owner, ticket, result, now);
            self.pump(owner, now);
        }
    }

    /// Takes an established connection, with its TLS layer ready if it has one.
    pub fn on_connected(&mut self, link: LinkId, now: Monotonic) {
        let Some(owner) = self.shared.owner(link) else { return };
        if let Some((channel, shared)) = self.channel(owner)
            && let Some(connection) = channel.connected(link)
            && let Err(why) = connection.ask_versions(API_VERSIONS, shared, now)
        {
            self.fail(owner, &why, now);
        }
    }

    /// Takes received bytes. They are not kept, except a torn answer's.
    pub fn on_bytes(&mut self, link: LinkId, bytes: &[u8], now: Monotonic) {
        let Some(owner) = self.shared.owner(link) else { return };
        // The frames leave their connection while the answers are handled.
        let Some((channel, shared)) = self.channel(owner) else { return };
        let link_bytes_s_min = shared.settings.link_bytes_s_min;
        let Some(connection) = channel.connection().filter(|connection| connection.link == link) else { return };
        let mut frames = std::mem::take(&mut connection.frames);
        let mut input = bytes;
        let result = loop {
            let answer_bytes_max = self.answer_bytes_max(owner);
            let next = match owner {
                Owner::Fetch(way) => {
                    if let Some(bytes) = frames.announced(input).filter(|bytes| *bytes > answer_bytes_max) {
                        self.fetch_unusable(way, FetchFailure::TooLarge(bytes));
                        return self.lose(owner, "an answer is larger than was asked for", now);
                    }
                    frames.next_owned(&mut input, answer_bytes_max)
                }
                _ => frames.next(&mut input, answer_bytes_max),
            };
            match next {
                Ok(None) => break Ok(()),
                Ok(Some(frame)) => {
                    if let Err(why) = self.on_answer(owner, frame, now) {
                        break Err(why);
                    }
                }
                Err(malformed) => break Err(malformed.to_string()),
            }
        };
        if let Err(why) = result {
            self.shared.stats.malformed += 1;
            return self.fail(owner, &why, now);
        }
        if let Some((channel, _)) = self.channel(owner)
            && let Some(connection) = channel.connection().filter(|connection| connection.link == link)
        {
            connection.frames = frames;
            connection.heard(link_bytes_s_min, now);
        }
        self.pump(owner, now);
    }

    /// Takes the end of a connection, or a failed attempt to open one.
    pub fn on_closed(&mut self, link: LinkId, why: &Ended, now: Monotonic) {
        let Some(owner) = self.shared.take_link(link) else { return };
        let Some((channel, shared)) = self.channel(owner) else { return };
        if let Ended::Tls(why) = why {
            channel.tls_failed(why, shared);
        }
        if let Some(id) = channel.ready_ref().and_then(Connection::produce_before_it) {
            shared.event(ClientEvent::HungUp { id });
        }
        if channel.is_lost_by_chance() {
            self.lose(owner, &why.to_string(), now);
        } else if !channel.next_address(shared, now) {
            self.fail(owner, &why.to_string(), now);
        }
    }

    /// Handles everything that is due by now; cheap if nothing is. `unacked`: the number of bytes given to a connection that its peer's kernel
    /// does not have yet; a connection on which bytes still move does not count as silent.
    pub fn on_time(&mut self, unacked: impl Fn(LinkId) -> usize, now: Monotonic) {
        if self.started && self.next_deadline() <= now {
            self.upkeep(unacked, now);
        }
    }

    /// The time at which [`Client::on_time`] has work.
    #[must_use]
    pub fn next_deadline(&self) -> Monotonic {
        if !self.started {
            return Monotonic::NEVER;
        }
        let channels = self.channels.values().map(|channel| self.produce_deadline(channel));
        let others = self.metadata_deadline().min(self.ask_deadline()).min(self.fetch_deadline());
        let others = others.min(self.coordinators.deadline());
        channels.fold(others, Monotonic::min)
    }

    /// Sends a Produce request to its broker, after those before it, over a connection that is opened when needed.
    /// `ProduceFailed { sent: false }` is sent at once if the broker is not in the metadata (which is requested again: the caller waits
    /// for it, or a while, before the next try), or if the queue is full.
    pub fn produce(&mut self, request: ProduceRequest, now: Monotonic) {
        let (id, way) = (request.id, Way { node: request.node, slow: request.slow });
        let Some(endpoint) = self.brokers.get(&way.node) else {
            self.shared.event(ClientEvent::ProduceFailed { id, sent: false });
            self.topics.refresh(now);
            self.pump_metadata(now);
            return;
        };
        let channel = self.channels.entry(way).or_insert_with(|| ProduceChannel {
            channel: Channel::new(Owner::Produce(way), endpoint.clone()),
            queue: VecDeque::new(),
            recheck_at: Monotonic(0),
        });
        if channel.queue.len() >= self.shared.settings.queued_max {
            self.shared.event(ClientEvent::ProduceFailed { id, sent: false });
            return;
        }
        channel.queue.push_back(request);
        self.pump_produce(way, now);
    }

    /// Requests metadata of a topic: at once, or after its backoff if it was requested recently; the answer is [`ClientEvent::Metadata`].
    /// From then on it is kept fresh, and requested again automatically while it is incomplete (error, partition without leader), until
    /// [`Client::forget_topic`]. May create the topic.
    pub fn want_metadata(&mut self, topic: &Rc<str>, now: Monotonic) {
        if topic.is_empty() || topic.len() > TOPIC_BYTES_MAX {
            let topic = TopicMetadata { name: Rc::clone(topic), error: INVALID_TOPIC, ..Default::default() };
            self.shared.event(ClientEvent::Metadata(vec![topic]));
            return;
        }
        self.topics.want(topic, now);
        self.pump_metadata(now);
    }

    /// Stops keeping a topic's metadata fresh, for producer and consumer.
    pub fn forget_topic(&mut self, topic: &str) {
        self.topics.forget(topic);
    }

    /// Requests a producer id (idempotent, without transactions) until one arrives: [`ClientEvent::ProducerId`].
    pub fn want_producer_id(&mut self, token: u64, now: Monotonic) {
        self.producer_ids.want(token, now);
        self.pump_metadata(now);
    }

    /// Requests metadata of all known topics again (a leader has moved): at once, or after the backoff of each topic.
    pub fn refresh_metadata(&mut self, now: Monotonic) {
        self.topics.refresh(now);
        self.pump_metadata(now);
    }

    /// Whether any connection can be used now.
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        self.shared.is_connected()
    }

    /// Ends the client: brokers reported as unreachable are not reported again.
    pub fn end(mut self, into: &mut Vec<Effect>) {
        self.shared.trouble_over(|_| true);
        self.take_effects(into);
    }

    /// Moves the effects to the end of `into`, in order.
    pub fn take_effects(&mut self, into: &mut Vec<Effect>) {
        into.append(&mut self.shared.effects);
    }

    fn channel(&mut self, owner: Owner) -> Option<(&mut Channel, &mut Shared)> {
        let channel = match owner {
            Owner::Metadata => &mut self.metadata,
            Owner::Produce(way) => &mut self.channels.get_mut(&way)?.channel,
            Owner::Ask(node) => &mut self.ask_channels.get_mut(&node)?.channel,
            Owner::Member(member) => &mut self.coordinators.channels.get_mut(&member)?.channel,
            Owner::Fetch(way) => &mut self.fetch_channels.get_mut(&way)?.channel,
        };
        Some((channel, &mut self.shared))
    }

    fn pump(&mut self, owner: Owner, now: Monotonic) {
        self.renew(owner, now);
        match owner {
            Owner::Metadata => self.pump_metadata(now),
            Owner::Produce(way) => self.pump_produce(way, now),
            Owner::Ask(node) => self.pump_ask(node, now),
            Owner::Member(member) => self.pump_member(member, now),
            Owner::Fetch(way) => self.pump_fetch(way, now),
        }
    }
}

impl Client {
    /// A broker's address, by metadata.
    #[must_use]
    pub fn address_of(&self, node: NodeId) -> Option<String> {
        self.brokers.get(&node).map(ToString::to_string)
    }
}
