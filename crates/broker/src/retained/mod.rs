//! Retained messages: the last one of each topic that was published with RETAIN, for clients that subscribe later.
//!
//! Each topic has a home, one of the shards ([`owner`]). The publisher's shard sends it the message, in the parcel that carries it to subscribers there
//! (`delivery`). With a spool the home writes it down, and reports to the publisher's shard how many of its messages are on the disk, in order of receipt
//! (`log`). A new subscription is answered from the homes, batch by batch (`replay`), once every message that was published before it can be found there
//! (`pass`).

mod held;
mod inspect;
mod log;
mod pass;
mod publisher;
mod replay;
mod saved;

use std::collections::BTreeSet;

use forebay_base::limits::{RETAINED_EXPIRED_AT_ONCE_MAX, RETAINED_UNCONFIRMED_MAX};
use forebay_config::Config;
use forebay_kafka::types::Ticket;
use forebay_metrics::event::{Field, Kind as EventKind};
use forebay_metrics::spec::ShardMetric as M;
use forebay_mqtt::packet::Publish;
use forebay_mqtt::route::topics::{TopicKey, Topics};
use forebay_mqtt::topic::is_of_service_alone;
use forebay_runtime::seam::{Monotonic, TimerId};
use forebay_session::properties;

use self::held::{Held, Holders};
use self::log::Unwritten;
use self::replay::Replays;
use super::Broker;
use super::confirm::Confirmations;
use super::delivery::{Entry, entries, packets, publish_of, put_packet};
use crate::here::Here;
use crate::mail::RetainedOfShard;
use crate::out::Due;
use crate::out::Out;
use crate::router::owner;
use crate::words::{clipped, second};

pub use self::publisher::Publisher;
pub(crate) use self::saved::is_retained;
pub use self::saved::topic;

/// The most bytes that a value takes besides topic and packet.
const VALUE_BYTES: usize = 160;

/// The origin of a message in the order of passes: the shard that took it, and the number of passes that all shards together had asked it for by then. 0: the
/// number is not known, or the message is a repeat, and no live copy may follow.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Taken {
    shard: usize,
    pub(crate) passes: u64,
    /// The time for which it has been retained before. Seconds.
    age_s: u32,
}

/// The message of a topic.
#[derive(Debug)]
struct Value {
    /// The message as a PUBLISH packet of 5.0, with RETAIN.
    packet: Box<[u8]>,
    publisher: Publisher,
    since: Monotonic,
    /// The time at which the message expires, if it does.
    until: Option<Monotonic>,
    /// The message's number in the log.
    number: Option<u64>,
    taken: Taken,
    /// Whether the message is the service's own, about itself.
    is_own: bool,
}

impl Value {
    fn new(publish: &Publish<'_>, publisher: Publisher, since: Monotonic) -> Self {
        let mut packet = Vec::new();
        put_packet(publish, &mut packet);
        let expiry_s = publish.properties.message_expiry_interval_s();
        let until = expiry_s.map(|s| since.after(std::time::Duration::from_secs(s.into())));
        let is_own = is_of_service_alone(publish.topic);
        Self { packet: packet.into(), publisher, since, until, number: None, taken: Taken::default(), is_own }
    }

    /// Bounds the time for which the message is retained to `most_s` seconds.
    fn at_most(mut self, most_s: Option<u32>) -> Self {
        let most_s = most_s.filter(|_| !self.is_own);
        let most = most_s.map(|s| self.since.after(std::time::Duration::from_secs(s.into())));
        self.until = self.until.into_iter().chain(most).min();
        self
    }

    fn bytes(&self, topic: &TopicKey) -> usize {
        VALUE_BYTES + topic.len() + self.publisher.bytes().len() + self.packet.len()
    }

    /// Appends the packet with its expiry reduced by its waiting time [MQTT-3.3.2-6].
    fn put(&self, now: Monotonic, out: &mut Vec<u8>) {
        let waited_s = u32::try_from(now.since(self.since).as_secs()).unwrap_or(u32::MAX);
        let Some(publish) = publish_of(&self.packet).filter(|_| self.until.is_some() && waited_s > 0) else {
            return out.extend_from_slice(&self.packet);
        };
        let properties = properties(&publish, forebay_mqtt::packet::Version::V5, waited_s, &[]);
        put_packet(&Publish { properties: properties.as_properties(), ..publish.clone() }, out);
    }
}

/// The bounds of what one shard may hold.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    messages: usize,
    bytes: usize,
    /// The most bytes of one packet and its publisher, which have to fit into an entry of the log.
    packet: usize,
    /// Whether users have parts of the room ([`held`]).
    is_divided: bool,
}

impl Bounds {
    /// The bounds of one shard: even parts for all; with a spool that holds the messages, at most a quarter of it, and as many as its log can keep track of.
    fn new(config: &Config) -> Self {
        let shards = config.service.shards.max(1);
        let (messages, bytes) = (config.retained.messages_max.div_ceil(shards), config.retained.bytes_max / shards);
        let is_in_kafka = config.broker.is_some();
        // Records do not name the user of a message.
        let is_divided = !config.auth.is_empty() && !is_in_kafka;
        let Some(spool) = config.spool.filter(|_| !is_in_kafka) else {
            return Self { messages, bytes, packet: usize::MAX, is_divided };
        };
        let of_spool = usize::try_from(spool.segments_max * spool.segment_bytes / 4).unwrap_or(usize::MAX);
        let packet = usize::try_from(spool.segment_bytes / 8).unwrap_or(usize::MAX).saturating_sub(saved::HEAD_BYTES);
        let packet = packet.saturating_sub(4 << 10);
        Self { messages: messages.min(spool.kept_max()), bytes: bytes.min(of_spool), packet, is_divided }
    }
}

/// The retained messages that have their home on this shard, and the replays of its sessions.
#[derive(Debug)]
pub struct Retained {
    topics: Topics<Value>,
    /// Users that hold the retained messages of clients.
    holders: Holders,
    /// Whether a topic of `[broker]` has the messages, and not the log.
    is_in_kafka: bool,
    /// Bytes of the service's own messages. No bound counts them, and no log has them.
    own: usize,
    bounds: Bounds,
    /// Topics with messages that expire, by expiry time.
    expiring: BTreeSet<(Monotonic, TopicKey)>,
    /// The timer for the first of `expiring`.
    timer: Option<(Monotonic, TimerId)>,
    /// Messages that have found no room in the log.
    unwritten: Unwritten,
    /// Messages that are not on the disk of their home yet.
    confirmations: Confirmations,
    replays: Replays,
}

impl Retained {
    /// A shard without retained messages.
    pub(crate) fn new(config: &Config) -> Self {
        let shards = config.service.shards;
        Self {
            topics: Topics::default(),
            holders: Holders::default(),
            is_in_kafka: config.broker.is_some(),
            own: 0,
            bounds: Bounds::new(config),
            expiring: BTreeSet::new(),
            timer: None,
            unwritten: Unwritten::default(),
            confirmations: Confirmations::new(shards),
            replays: Replays::new(shards),
        }
    }

    /// Whether a topic of `[broker]` has the messages, and subscribers get everything from its topics.
    pub(crate) fn is_in_kafka(&self) -> bool {
        self.is_in_kafka
    }

    /// Puts other bounds into force.
    pub fn change(&mut self, config: &Config) {
        self.bounds = Bounds::new(config);
    }

    /// The shard that retains a topic's message.
    pub(crate) fn home(&self, topic: &str) -> usize {
        owner(topic, self.confirmations.shards())
    }

    /// Whether all homes have reported each message to be on their disks.
    pub fn is_confirmed(&self) -> bool {
        self.confirmations.unconfirmed() == 0
    }

    /// Whether a home may be sent one more message after `before` others.
    pub fn has_room(&self, home: usize, before: usize) -> bool {
        self.confirmations.unconfirmed_by(home) + before < RETAINED_UNCONFIRMED_MAX
    }

    fn take(&mut self, topic: &TopicKey) -> Option<Value> {
        let value = self.topics.remove(topic)?;
        if value.is_own {
            self.own -= 1;
            return Some(value);
        }
        self.holders.subtract(value.publisher.user(), value.bytes(topic));
        if let Some(until) = value.until {
            self.expiring.remove(&(until, topic.clone()));
        }
        Some(value)
    }

    fn insert(&mut self, topic: TopicKey, value: Value) {
        if value.is_own {
            self.own += 1;
            self.topics.insert(topic, value);
            return;
        }
        self.holders.add(value.publisher.user(), value.bytes(&topic));
        if let Some(until) = value.until {
            self.expiring.insert((until, topic.clone()));
        }
        self.topics.insert(topic, value);
    }

    /// The reason why a message finds no room, if it does not. `earlier`: the bytes of the message that it replaces, which is taken out already. A topic
    /// keeps its place and its bytes, whatever others hold.
    fn refuses(&self, topic: &TopicKey, value: &Value, earlier: Option<usize>) -> Option<&'static str> {
        if value.is_own {
            return None;
        }
        if value.publisher.bytes().len() + value.packet.len() > self.bounds.packet {
            return Some("larger than an eighth of a segment of the spool");
        }
        let (all, bytes) = (self.holders.all(), value.bytes(topic));
        if earlier.is_some_and(|earlier| bytes <= earlier) {
            return None;
        }
        let is_full = earlier.is_none() && all.messages >= self.bounds.messages;
        if is_full || all.bytes + bytes > self.bounds.bytes {
            return Some("as many messages are retained as may be");
        }
        let Bounds { messages, bytes, is_divided, .. } = self.bounds;
        // A new topic counts as a message, a new value of the same topic only with its bytes.
        let messages = if earlier.is_some() { usize::MAX } else { messages };
        let has_its_part = is_divided && self.holders.has_its_part(value.publisher.user(), Held { messages, bytes });
        has_its_part.then_some("its user has its part of the room for retained messages")
    }
}

impl Broker {
    /// Sends a message with RETAIN, of a publisher of this shard, to its home. If that is another shard, the parcel is gathered already.
    pub(crate) fn retain_from(
        &mut self,
        io: &dyn Out,
        here: &mut Here,
        home: usize,
        (publish, publisher, taken): (&Publish<'_>, Publisher, Taken),
        ticket: Option<Ticket>,
    ) {
        if self.waits_for_disk(here) {
            self.retained.confirmations.expect(home, ticket);
        }
        if home == here.index {
            let group = self.retain(here, io.now(), publish, publisher, taken);
            self.confirm_retention(here, taken, group);
        }
    }

    /// Retains those messages in another shard's parcel that have their home here, whatever else is queued.
    pub(crate) fn retain_received(&mut self, here: &mut Here, now: Monotonic, from: usize, parcel: &[u8]) {
        for (_, entry) in entries(parcel) {
            if let Entry::Message(message) = entry
                && let (Some(publish), Some((publisher, passes))) = (message.publish(), message.home())
            {
                let taken = Taken { shard: from, passes, age_s: 0 };
                let group = self.retain(here, now, &publish, publisher, taken);
                self.confirm_retention(here, taken, group);
            }
        }
    }

    /// Takes the messages that Kafka retains when the process begins: each is the newest of its topic so far.
    pub fn take_retained(&mut self, here: &mut Here, now: Monotonic, all: &RetainedOfShard) {
        for (packet, age_s) in packets(&all.packets).zip(&all.ages_s) {
            let Some(publish) = publish_of(packet) else { continue };
            self.retain(here, now, &publish, Publisher::default(), Taken { age_s: *age_s, ..Taken::default() });
        }
    }

    /// Reports to the publisher's shard when a message is durable here: with that group.
    fn confirm_retention(&mut self, here: &Here, taken: Taken, group: u64) {
        if self.waits_for_disk(here) {
            self.retained.confirmations.wait(taken.shard, group);
        }
    }

    /// Retains a message of any shard's publisher [MQTT-3.3.1-5], for the configured time and whatever becomes of the publisher [3.1.1 MQTT-3.1.2-7], or ends
    /// the retained message [MQTT-3.3.1-6] [MQTT-3.3.1-7]. If it finds no room, the earlier retained message stays. Returns the group in which the change is
    /// durable.
    fn retain(
        &mut self,
        here: &mut Here,
        now: Monotonic,
        publish: &Publish<'_>,
        publisher: Publisher,
        taken: Taken,
    ) -> u64 {
        let topic = TopicKey::new(publish.topic);
        let earlier = self.retained.take(&topic);
        let number = earlier.as_ref().and_then(|value| value.number);
        let most_s = here.config.retained.expire_after_s.map(|most_s| most_s.saturating_sub(taken.age_s));
        let value = (!publish.payload.is_empty())
            .then(|| Value { number, taken, ..Value::new(publish, publisher, now) }.at_most(most_s));
        let earlier_bytes = earlier.as_ref().map(|earlier| earlier.bytes(&topic));
        let refused = value.as_ref().and_then(|value| self.retained.refuses(&topic, value, earlier_bytes));
        let group = match (value, refused, earlier) {
            (Some(value), None, _) => {
                self.retained.insert(topic.clone(), value);
                self.write_retained(&topic)
            }
            (Some(_), Some(_), Some(earlier)) => {
                self.retained.insert(topic, earlier);
                0
            }
            _ => self.forget_retained(&topic, number),
        };
        if let Some(why) = refused {
            here.numbers.count(M::RetainedRefused);
            here.teller.tell_of(EventKind::RetainedRefused, second(now), publish.topic, |event| {
                event.with(Field::MqttTopic, clipped(publish.topic)).with(Field::Reason, why)
            });
        }
        group
    }

    /// Ends expired messages at the end of a turn, and answers new subscriptions.
    pub fn serve_retained(&mut self, io: &mut dyn Out, here: &mut Here) {
        let now = io.now();
        for _ in 0..RETAINED_EXPIRED_AT_ONCE_MAX {
            let is_over = |(until, _): &&(Monotonic, TopicKey)| *until <= now;
            let Some((_, topic)) = self.retained.expiring.first().filter(is_over) else { break };
            let topic = topic.clone();
            let number = self.retained.take(&topic).and_then(|value| value.number);
            self.forget_retained(&topic, number);
        }
        here.numbers.set(M::RetainedMessages, self.retained.holders.all().messages as u64);
        here.numbers.set(M::RetainedMessagesMax, self.retained.bounds.messages as u64);
        here.numbers.set(M::RetainedBytes, self.retained.holders.all().bytes as u64);
        here.numbers.set(M::RetainedBytesMax, self.retained.bounds.bytes as u64);
        here.numbers.set(M::RetainedUnconfirmed, self.retained.confirmations.unconfirmed() as u64);
        self.run_replays(io, here);
        self.set_retained_timer(io);
    }

    /// Sets the timer for the next message that expires, in case nothing else happens.
    fn set_retained_timer(&mut self, io: &mut dyn Out) {
        if let Some((until, _)) = self.retained.expiring.first() {
            io.set_timer_by(Due::Retained, *until, &mut self.retained.timer);
        }
    }

    /// Notes that the timer has expired.
    pub(crate) fn retained_time(&mut self) {
        self.retained.timer = None;
    }
}
