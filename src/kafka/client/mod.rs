//! The wire client of one Kafka cluster on one shard, sans-I/O: bytes and `now` in, [`Effect`]s out.
//!
//! One connection for metadata and producer ids, one for Produce to each broker that is produced to, a second one for
//! the partitions whose followers are slow, and one more to a broker for as long as there is something to ask about its
//! logs: Kafka works at one request of a connection at a time, so metadata must never stand behind a Produce that waits
//! for followers, nor other partitions. What it promises:
//!
//! - **Order.** Produce requests to one broker over one lane go out in the order given. When a connection fails, all that
//!   was given for that lane and not answered fails with it, oldest first: sent and unsent alike, so that nothing overtakes.
//! - **One cluster.** A broker that was connected to says which cluster it belongs to before anything else is sent. When the
//!   cluster is another one, all requests fail before [`ClientEvent::Cluster`] tells of it.
//! - **`sent`.** [`ClientEvent::ProduceFailed`] says `sent: false` only if no byte was handed to a socket.
//! - **Reachable.** A connection that a broker ends is made again, and only an attempt that fails is told of; where nothing else is
//!   asked, a broker is asked now and then whether it answers.
//! - **No waiting for ever.** Every step has a deadline; a silent connection is closed and replaced, soon at first, later
//!   if that did not help, and metadata asked from another broker. Failed connections
//!   and refused questions come again with backoff, exponential with ± 20 % of chance.
//! - **Bounds.** An answer is judged by its length before it is gathered, and by its counts before anything is reserved;
//!   queues have the bounds of [`Settings`]; topics are as many as the caller wants, and producer ids too.
//!
//! With acks=0 Kafka answers nothing: [`ClientEvent::Produced`] (error 0, offset -1) comes when the bytes are handed
//! over, and says no more than that.
//!
//! Files: `lane` is the way to one broker, `connection` what stands there, `topics` and `producer_ids` what is to be
//! asked; `login` is SASL; `produce`, `request`, `answer`, `api`, `wire`, `frame` are the bytes; `ask` searches a log, `log` reads what it says. `answers` and `upkeep` keep the lanes going, `change` gives them other settings, `cluster`
//! sees to it that they lead to one cluster.

mod answer;
mod answers;
mod api;
mod ask;
mod change;
mod cluster;
mod connection;
mod frame;
mod lane;
mod log;
mod login;
mod produce;
mod producer_ids;
mod request;
mod settings;
mod topics;
mod upkeep;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;

pub use login::{authentication_refused, handshake_refused};
pub use settings::Settings;

use self::ask::AskLane;
use self::connection::Connection;
use self::lane::{Hands, Lane, Owner, Refused, Way};
use self::producer_ids::ProducerIds;
use self::topics::{INVALID_TOPIC, Topics};
use crate::kafka::types::{ClientEvent, NodeId, ProduceRequest, TlsFailed, TopicMetadata};
use crate::outward::{self, Endpoint, LinkId};
use crate::runtime::seam::Monotonic;
use crate::secure::sasl::Prepared;

/// The longest topic name that Kafka takes, in bytes.
const TOPIC_BYTES_MAX: usize = 249;
/// The longest client id sent.
const CLIENT_ID_BYTES_MAX: usize = 249;

/// What the client wants done.
pub type Effect = outward::Effect<ClientEvent>;

/// A lane for Produce to one broker, and what waits for it.
#[derive(Debug)]
struct ProduceLane {
    lane: Lane,
    /// Not handed to a connection yet.
    queue: VecDeque<ProduceRequest>,
    /// While its broker cannot be reached: when to ask again whether it still leads what waits.
    recheck_at: Monotonic,
}

/// What went wrong so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections that failed: not made, closed by the broker, silent, or closed for what came on them.
    pub failures: u64,
    /// Answers that could not be read: each closes its connection.
    pub malformed: u64,
    /// Answers with bytes behind their end, which are passed over.
    pub with_extra: u64,
    /// Answers with a throttle time.
    pub throttles: u64,
    /// Connections closed because nothing came in time.
    pub replaced: u64,
    /// Logins that worked, renewals among them.
    pub logins: u64,
    /// Logins that were refused, or in which the broker did not prove itself.
    pub logins_refused: u64,
    /// Connections that came to nothing because of TLS.
    pub tls_failures: u64,
}

/// The client.
#[derive(Debug)]
pub struct Client {
    hands: Hands,
    bootstrap: Vec<Endpoint>,
    /// The live brokers, as the last metadata says.
    brokers: BTreeMap<NodeId, Endpoint>,
    metadata: Lane,
    /// Counts through the brokers and the bootstrap list.
    candidate: usize,
    /// Candidates tried since metadata last came.
    tried: usize,
    /// The cluster's id, once it was told.
    cluster: Option<Rc<str>>,
    started: bool,
    lanes: BTreeMap<Way, ProduceLane>,
    ask_lanes: BTreeMap<NodeId, AskLane>,
    topics: Topics,
    producer_ids: ProducerIds,
}

impl Client {
    /// A client that does nothing before [`Client::start`]. `seed`: of its jitter and of where in the bootstrap list it
    /// begins; shards should differ.
    #[must_use]
    pub fn new(settings: Settings, seed: u64) -> Self {
        let (settings, bootstrap) = change::bounded(settings);
        let mut hands = Hands::new(settings, seed);
        let candidate = if bootstrap.is_empty() { 0 } else { hands.rng.usize(..bootstrap.len()) };
        let nowhere = Endpoint { host: Rc::from(""), port: 0 };
        Self {
            hands,
            bootstrap,
            brokers: BTreeMap::new(),
            metadata: Lane::new(Owner::Metadata, nowhere),
            candidate,
            tried: 0,
            cluster: None,
            started: false,
            lanes: BTreeMap::new(),
            ask_lanes: BTreeMap::new(),
            topics: Topics::new(),
            producer_ids: ProducerIds::default(),
        }
    }

    /// What went wrong so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.hands.stats
    }

    /// Begins with the bootstrap list.
    pub fn start(&mut self, now: Monotonic) {
        self.started = true;
        self.pump_metadata(now);
    }

    /// A name was resolved, or was not.
    pub fn on_resolved(&mut self, ticket: u64, result: Result<Vec<SocketAddr>, String>, now: Monotonic) {
        let Some(owner) = self.hands.take_ticket(ticket) else { return };
        let Some((lane, hands)) = self.lane(owner).filter(|(lane, _)| lane.awaits(ticket)) else { return };
        match result {
            Ok(addresses) => {
                if !lane.resolved(addresses, hands, now) {
                    self.fail(owner, "the host name has no address", now);
                }
            }
            Err(why) => self.fail(owner, &why, now),
        }
    }

    /// What a login needs is there, or cannot be had.
    pub fn on_prepared(&mut self, ticket: u64, result: Result<Prepared, String>, now: Monotonic) {
        if let Some(owner) = self.hands.take_ticket(ticket) {
            self.login_prepared(owner, ticket, result, now);
            self.pump(owner, now);
        }
    }

    /// A connection stands.
    pub fn on_connected(&mut self, link: LinkId, now: Monotonic) {
        let Some(owner) = self.hands.owner(link) else { return };
        if let Some((lane, hands)) = self.lane(owner)
            && !lane.connected(link, hands, now)
        {
            self.fail(owner, "ApiVersions cannot be asked", now);
        }
    }

    /// Bytes came in. They are not kept, but for a torn answer's.
    pub fn on_bytes(&mut self, link: LinkId, bytes: &[u8], now: Monotonic) {
        let Some(owner) = self.hands.owner(link) else { return };
        // The frames leave their connection while the answers are worked at.
        let Some((lane, hands)) = self.lane(owner) else { return };
        let answer_bytes_max = hands.settings.answer_bytes_max;
        let Some(connection) = lane.connection().filter(|connection| connection.link == link) else { return };
        let mut frames = std::mem::take(&mut connection.frames);
        let mut input = bytes;
        let result = loop {
            match frames.next(&mut input, answer_bytes_max) {
                Ok(Some(frame)) => {
                    if let Err(why) = self.on_answer(owner, frame, now) {
                        break Err(why);
                    }
                }
                Ok(None) => break Ok(()),
                Err(malformed) => break Err(malformed.to_string()),
            }
        };
        match result {
            Ok(()) => {
                if let Some((lane, _)) = self.lane(owner)
                    && let Some(connection) = lane.connection().filter(|connection| connection.link == link)
                {
                    connection.frames = frames;
                }
                self.pump(owner, now);
            }
            Err(why) => {
                self.hands.stats.malformed += 1;
                self.fail(owner, &why, now);
            }
        }
    }

    /// A connection is gone, or was not made.
    pub fn on_closed(&mut self, link: LinkId, why: &str, now: Monotonic) {
        let Some(owner) = self.hands.owner(link) else { return };
        self.hands.forget_link(link);
        let Some((lane, hands)) = self.lane(owner) else { return };
        if let Some(id) = lane.ready_ref().and_then(Connection::produce_before_it) {
            hands.event(ClientEvent::HungUp { id });
        }
        if lane.is_lost_by_chance() {
            self.lose(owner, why, now);
        } else if !lane.next_address(hands, now) {
            self.fail(owner, why, now);
        }
    }

    /// The same because of TLS: an operator has to change something first, mostly.
    pub fn on_tls_failed(&mut self, link: LinkId, why: &str, now: Monotonic) {
        self.hands.stats.tls_failures += 1;
        if let Some(owner) = self.hands.owner(link)
            && let Some((lane, hands)) = self.lane(owner)
        {
            let is_first = lane.refused.replace(Refused::Tls) != Some(Refused::Tls);
            if is_first || lane.told != why {
                why.clone_into(&mut lane.told);
                hands.is_new_trouble(&lane.endpoint);
                let (broker, reason) = (lane.endpoint.to_string(), why.to_owned());
                hands.event(ClientEvent::TlsFailed(TlsFailed { broker, reason }));
            }
        }
        self.on_closed(link, &format!("TLS: {why}"), now);
    }

    /// Whether this connection is being made, with TLS.
    #[must_use]
    pub fn is_in_handshake(&mut self, link: LinkId) -> bool {
        let owner = self.hands.owner(link);
        owner.and_then(|owner| self.lane(owner)).is_some_and(|(lane, _)| lane.is_in_handshake())
    }

    /// Time passed. Cheap when nothing is due. `unacked`: how many bytes given to a connection its peer's kernel does not
    /// have yet; a connection whose bytes move is not taken for silent.
    pub fn on_time(&mut self, unacked: impl Fn(LinkId) -> usize, now: Monotonic) {
        if self.started && self.next_deadline() <= now {
            self.upkeep(unacked, now);
        }
    }

    /// When [`Client::on_time`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Monotonic {
        if !self.started {
            return Monotonic::NEVER;
        }
        let lanes = self.lanes.values().map(|lane| self.produce_deadline(lane));
        lanes.fold(self.metadata_deadline().min(self.ask_deadline()), Monotonic::min)
    }

    /// Sends a Produce request to its broker, behind those before it, over a connection that is opened when needed.
    /// `ProduceFailed { sent: false }` comes at once if the broker is not in the metadata (which is asked for again: wait
    /// for it, or a while, before the next try), or too much waits for it.
    pub fn produce(&mut self, request: ProduceRequest, now: Monotonic) {
        let (id, way) = (request.id, Way { node: request.node, slow: request.slow });
        let Some(endpoint) = self.brokers.get(&way.node) else {
            self.hands.event(ClientEvent::ProduceFailed { id, sent: false });
            self.topics.refresh(now);
            self.pump_metadata(now);
            return;
        };
        let lane = self.lanes.entry(way).or_insert_with(|| ProduceLane {
            lane: Lane::new(Owner::Produce(way), endpoint.clone()),
            queue: VecDeque::new(),
            recheck_at: Monotonic(0),
        });
        if lane.queue.len() >= self.hands.settings.queued_max {
            self.hands.event(ClientEvent::ProduceFailed { id, sent: false });
            return;
        }
        lane.queue.push_back(request);
        self.pump_produce(way, now);
    }

    /// Asks for metadata of a topic: at once, or when its backoff ends if it was asked lately; the answer is
    /// [`ClientEvent::Metadata`]. From then on it is kept fresh, and asked again by itself while it is not whole (error,
    /// partition without leader), until [`Client::forget_topic`]. May create the topic.
    pub fn want_metadata(&mut self, topic: &Rc<str>, now: Monotonic) {
        if topic.is_empty() || topic.len() > TOPIC_BYTES_MAX {
            let topic = TopicMetadata { name: Rc::clone(topic), error: INVALID_TOPIC, ..Default::default() };
            self.hands.event(ClientEvent::Metadata(vec![topic]));
            return;
        }
        self.topics.want(topic, now);
        self.pump_metadata(now);
    }

    /// Stops keeping a topic's metadata fresh.
    pub fn forget_topic(&mut self, topic: &str) {
        self.topics.forget(topic);
    }

    /// Asks for a producer id (idempotent, without transactions) until one comes: [`ClientEvent::ProducerId`].
    pub fn want_producer_id(&mut self, token: u64, now: Monotonic) {
        self.producer_ids.want(token, now);
        self.pump_metadata(now);
    }

    /// Asks again for all that is known (a leader has moved): at once, or when the backoff of each topic ends.
    pub fn refresh_metadata(&mut self, now: Monotonic) {
        self.topics.refresh(now);
        self.pump_metadata(now);
    }

    /// Whether any connection can be used now.
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        self.hands.is_connected()
    }

    /// Ends the client: nothing more is said of brokers that were reported.
    pub fn end(mut self, into: &mut Vec<Effect>) {
        self.hands.trouble_over(|_| true);
        self.take_effects(into);
    }

    /// Moves the effects to the end of `into`, in order.
    pub fn take_effects(&mut self, into: &mut Vec<Effect>) {
        into.append(&mut self.hands.effects);
    }

    fn lane(&mut self, owner: Owner) -> Option<(&mut Lane, &mut Hands)> {
        let lane = match owner {
            Owner::Metadata => &mut self.metadata,
            Owner::Produce(way) => &mut self.lanes.get_mut(&way)?.lane,
            Owner::Ask(node) => &mut self.ask_lanes.get_mut(&node)?.lane,
        };
        Some((lane, &mut self.hands))
    }

    fn pump(&mut self, owner: Owner, now: Monotonic) {
        self.renew(owner, now);
        match owner {
            Owner::Metadata => self.pump_metadata(now),
            Owner::Produce(way) => self.pump_produce(way, now),
            Owner::Ask(node) => self.pump_ask(node, now),
        }
    }
}
