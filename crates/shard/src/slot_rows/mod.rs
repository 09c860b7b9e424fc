//! `SlotRows` are messages that clients publish at QoS 2 into the routes of `[broker]`: a message is a row of the log of its client's slot before PUBREC is
//! sent, and goes from there to the route's topic. Each slot has a producer of its own, with identities of its own: rows left by a process are sent again by
//! the next owner of the slot, under the identity in the log, as with the spool (decision 0321).
//!
//! `take` writes a message into a log, `send` sends it from there to Kafka.

mod send;
mod take;

use std::collections::BTreeMap;
use std::rc::Rc;

use forebay_broker::logs::Kept;
use forebay_buffer::{Buffer, RestoredCluster};
use forebay_config::Config;
use forebay_kafka::producer::{News, Producer, Settings, SinkStats};
use forebay_kafka::types::{ProduceRequest, SinkId};
use forebay_runtime::seam::Monotonic;

use super::outlets::Outlets;
use super::settings;

pub(super) use self::send::Answered;
pub(super) use self::take::ForSlot;

/// The producer of a slot.
struct Sender {
    producer: Producer,
    /// The number of its sinks: the routes, and those of rows in its log without a route.
    sinks: usize,
    /// The producer's number in the IDs of requests and questions: never used twice.
    number: u64,
    is_busy: bool,
    is_connected: bool,
    /// Whether a message that is too large for the log waits until Kafka has the rows before it. Until then no row is taken.
    drains: bool,
}

impl Sender {
    /// The counters of each sink.
    fn stats(&self) -> impl Iterator<Item = (SinkId, &SinkStats)> {
        (0..self.sinks).map(SinkId::of).map(|sink| (sink, self.producer.stats(sink)))
    }
}

/// The index of the route as which the sink of a producer counts, which is the last one if the sink's own route is gone.
fn route_of(routes: &[u16], sink: SinkId) -> usize {
    usize::from(sink.0).min(routes.len().saturating_sub(1))
}

/// See the module.
pub(super) struct SlotRows {
    /// The cluster of the routes.
    cluster: usize,
    /// The sink of each route, by its index in the configuration. The index here is the route's number in producers and logs. Higher numbers are those of
    /// routes that are gone: their rows count as rows of the last route, that of all other messages.
    routes: Vec<u16>,
    senders: BTreeMap<u16, Sender>,
    /// The number of producers created.
    made: u64,
    /// The cluster's ID. `None`: Kafka has not reported it.
    cluster_id: Option<Rc<str>>,
    /// Counters of slots that have left, by route, and rows that went along with them.
    left: Vec<(SinkStats, u64)>,
    /// Sinks with counters that may have changed.
    changed: Vec<usize>,
    /// News of topics for events, with the sinks by their numbers in the cluster's producer.
    news: Vec<News>,
    requests: Vec<ProduceRequest>,
    /// Headers of the row at hand.
    headers: Vec<u8>,
}

impl SlotRows {
    /// Rows of a process that has no slot yet.
    pub(super) fn new(config: &Config, cluster: usize) -> Self {
        let routes: Vec<u16> = settings::routes(config).filter_map(|(index, _)| u16::try_from(index).ok()).collect();
        Self {
            cluster,
            left: vec![(SinkStats::default(), 0); routes.len()],
            routes,
            senders: BTreeMap::new(),
            made: 0,
            cluster_id: None,
            changed: Vec::new(),
            news: Vec::new(),
            requests: Vec::new(),
            headers: Vec::new(),
        }
    }

    /// Begins with a slot that was taken over, and with the rows of earlier owners in its log, which are sent before anything else of its partitions.
    pub(super) fn begin(&mut self, slot: u16, settings: Settings, found: Vec<RestoredCluster>, now: Monotonic) {
        let sinks = settings.sinks.len();
        let mut producer = Producer::new(settings);
        for of in found {
            producer.restore(of.lanes, of.cuts);
            of.lost.into_iter().for_each(|(sink, rows)| producer.lost_before(sink, rows));
            of.unknown.into_iter().for_each(|(sink, rows)| producer.outcome_unknown(sink, rows));
        }
        if let Some(id) = &self.cluster_id {
            producer.on_cluster(id, now);
        }
        self.made += 1;
        let number = self.made;
        let sender = Sender { producer, sinks, number, is_busy: true, is_connected: false, drains: false };
        self.senders.insert(slot, sender);
        self.changed.extend(self.routes.iter().copied().map(usize::from));
    }

    /// Ends a slot: its rows are the next owner's, and later answers are dropped.
    pub(super) fn end(&mut self, slot: u16) {
        let Some(sender) = self.senders.remove(&slot) else { return };
        for (sink, stats) in sender.stats() {
            let Some((left, moved)) = self.left.get_mut(route_of(&self.routes, sink)) else { continue };
            *moved += stats.buffered_rows;
            left.add(&SinkStats { buffered_rows: 0, buffered_bytes: 0, ..*stats });
        }
        self.changed.extend(self.routes.iter().copied().map(usize::from));
    }

    /// The place in the configuration of a route's sink, by the route's number.
    pub(super) fn sink_of(&self, route: SinkId) -> Option<usize> {
        self.routes.get(route_of(&self.routes, route)).copied().map(usize::from)
    }

    /// Whether the sink with this place in the configuration is that of a route.
    pub(super) fn is_of_route(&self, sink: u16) -> bool {
        self.routes.contains(&sink)
    }

    /// Adds the counters of a sink. Returns the rows that have left with their slots.
    pub(super) fn add_to(&self, sink: usize, stats: &mut SinkStats) -> u64 {
        let Some(route) = self.routes.iter().position(|of| usize::from(*of) == sink) else { return 0 };
        for sender in self.senders.values() {
            let of_route = sender.stats().filter(|(of, _)| route_of(&self.routes, *of) == route);
            of_route.for_each(|(_, of)| stats.add(of));
        }
        let (left, moved) = &self.left[route];
        stats.add(left);
        *moved
    }

    /// Takes out the sinks with counters that may have changed.
    pub(super) fn take_changed(&mut self) -> impl Iterator<Item = usize> + '_ {
        self.changed.drain(..)
    }

    /// The cluster of the routes, by its place in the configuration.
    pub(super) const fn cluster(&self) -> usize {
        self.cluster
    }

    /// Takes out the news of topics.
    pub(super) fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    /// Rows that Kafka does not have, of all slots.
    pub(super) fn rows(&self) -> u64 {
        self.senders.values().map(|sender| sender.producer.buffered_rows()).sum()
    }

    /// Whether requests are in flight.
    pub(super) fn awaits_answers(&self) -> bool {
        self.senders.values().any(|sender| sender.producer.requests_in_flight() > 0)
    }

    /// Stops cutting batches, before the process ends.
    pub(super) fn cut_no_more(&mut self) {
        self.senders.values_mut().for_each(|sender| sender.producer.cut_no_more());
    }

    /// The time at which the producer of a slot has to be polled.
    pub(super) fn next_deadline(&self, cluster: usize) -> Monotonic {
        let due = |sender: &Sender| if sender.is_busy { Monotonic(0) } else { sender.producer.next_deadline() };
        if self.cluster != cluster {
            return Monotonic::NEVER;
        }
        self.senders.values().map(due).min().unwrap_or(Monotonic::NEVER)
    }

    /// Has the producer of a slot polled after an event of its log, if it ever had rows. Returns whether it is.
    pub(super) fn log_has_moved(&mut self, slot: u16) -> bool {
        let Some(sender) = self.senders.get_mut(&slot) else { return false };
        let had_rows = sender.stats().any(|(_, stats)| stats.appended + stats.recovered > 0);
        sender.is_busy |= had_rows;
        sender.is_busy
    }

    /// A number that changes whenever memory was freed, or rows have ended.
    fn freed(&self) -> u64 {
        let ended = |sender: &Sender| {
            let of = |(_, stats): (SinkId, &SinkStats)| stats.delivered + stats.refused + stats.expired + stats.rotten;
            sender.stats().map(of).sum::<u64>().wrapping_add(sender.producer.freed())
        };
        self.senders.values().fold(self.made, |sum, sender| sum.wrapping_add(ended(sender)))
    }
}

impl Outlets {
    /// A number that changes whenever there may be room for another row of a slot.
    pub(super) fn freed_of_slots(&self, kept: &Kept) -> u64 {
        match (kept, &self.slot_rows) {
            (Kept::OfSlots(logs), Some(rows)) => logs.values().map(Buffer::freed).fold(rows.freed(), u64::wrapping_add),
            _ => 0,
        }
    }
}
