//! A shard's own counters, and their way onto the board.

use std::sync::Arc;

use forebay_kafka::types::ProduceResult;
use forebay_metrics::board::Board;
use forebay_metrics::histogram::Histograms;
use forebay_metrics::spec::{
    BridgeMetric, ClusterMetric, KafkaError, Layout, ListenerMetric, RefusalReason, RuleMetric, ShardMetric,
    SinkMetric, SourceMetric,
};
use forebay_mqtt::route::shape::bits;
use forebay_runtime::seam::ListenerId;

use super::top::Top;

/// The destination of a published message (`publishes_routed_total{result}`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routed {
    /// A sink, a rule or a subscriber has it.
    Matched,
    /// There is no destination.
    Unmatched,
    /// No destination has the message.
    Refused,
}

/// The shard's own numbers that have changed, a bit for each.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Own([u64; ShardMetric::COUNT.div_ceil(64)]);

impl Own {
    #[inline]
    fn note(&mut self, metric: ShardMetric, has_moved: bool) {
        self.0[metric as usize / 64] |= u64::from(has_moved) << (metric as usize % 64);
    }

    fn places(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(word, moved)| bits(*moved).map(move |bit| 64 * word + bit))
    }
}

/// The numbers that have changed since they were last published: a turn publishes those that it has changed, however many there are.
#[derive(Default)]
struct Moved {
    own: Own,
    /// Places of other numbers that have changed, possibly more than once.
    places: Vec<usize>,
}

impl Moved {
    /// Places that are noted one by one; with more, those of one sink follow each other again and again, and all are published.
    const PLACES_MAX: usize = 4_096;

    #[inline]
    fn at(&mut self, place: usize) {
        // A turn mostly moves one place again and again.
        if self.places.last() != Some(&place) && self.places.len() < Self::PLACES_MAX {
            self.places.push(place);
        }
    }

    /// Notes the two places that each message of a listener moves.
    #[inline]
    fn at_both(&mut self, of_all: usize, of_one: usize) {
        if !matches!(self.places[..], [.., one, other] if one == of_all && other == of_one) {
            self.at(of_all);
            self.at(of_one);
        }
    }
}

/// The numbers of a shard, in the board's layout.
pub struct Numbers {
    values: Vec<u64>,
    layout: Layout,
    board: Arc<Board>,
    moved: Moved,
    /// The sums of the spool when its histograms were last looked at: syncs, their microseconds, bytes written.
    spool: [u64; 3],
    /// The topics and clients with the most publishes.
    pub top: Top,
}

impl Numbers {
    /// Counters that begin at 0, on this board.
    pub fn new(board: Arc<Board>, layout: Layout) -> Self {
        Self {
            values: vec![0; layout.len()],
            layout,
            board,
            moved: Moved::default(),
            spool: [0; 3],
            top: Top::default(),
        }
    }

    /// Continues on a board with more places.
    pub fn grow(&mut self, board: Arc<Board>, layout: Layout) {
        self.values = self.layout.grown(&self.values, layout);
        board.histograms.take_over(&self.board.histograms);
        board.publish(&self.values, 0..self.values.len());
        (self.layout, self.board, self.moved) = (layout, board, Moved::default());
    }

    /// Adds one to a number of the shard.
    #[inline]
    pub fn count(&mut self, metric: ShardMetric) {
        self.raise(metric, 1);
    }

    /// Adds to a metric.
    #[inline]
    pub fn raise(&mut self, metric: ShardMetric, by: u64) {
        self.values[metric as usize] += by;
        self.moved.own.note(metric, true);
    }

    /// Subtracts from a metric.
    #[inline]
    pub fn lower(&mut self, metric: ShardMetric, by: u64) {
        let value = &mut self.values[metric as usize];
        *value = value.saturating_sub(by);
        self.moved.own.note(metric, true);
    }

    /// The value of a metric.
    #[inline]
    pub fn get(&self, metric: ShardMetric) -> u64 {
        self.values[metric as usize]
    }

    /// Sets a metric.
    #[inline]
    pub fn set(&mut self, metric: ShardMetric, value: u64) {
        let before = std::mem::replace(&mut self.values[metric as usize], value);
        self.moved.own.note(metric, before != value);
    }

    #[inline]
    fn put(&mut self, place: usize, value: u64) {
        if self.values[place] != value {
            self.values[place] = value;
            self.moved.at(place);
        }
    }

    #[inline]
    fn raise_at(&mut self, place: usize, by: u64) {
        self.values[place] += by;
        self.moved.at(place);
    }

    /// Sets a metric of a sink.
    pub fn set_sink(&mut self, sink: usize, metric: SinkMetric, value: u64) {
        self.put(self.layout.sink(sink, metric), value);
    }

    /// Sets a metric of a cluster.
    pub fn set_cluster(&mut self, cluster: usize, metric: ClusterMetric, value: u64) {
        self.put(self.layout.cluster(cluster, metric), value);
    }

    /// Adds to a number of a cluster.
    pub fn count_cluster(&mut self, cluster: usize, metric: ClusterMetric, by: u64) {
        self.raise_at(self.layout.cluster(cluster, metric), by);
    }

    /// Counts the errors and the throttling of a cluster's answer to Produce.
    pub fn count_produced(&mut self, cluster: usize, results: &[ProduceResult], throttle_ms: i32) {
        if let Ok(throttle_ms @ 1..) = u64::try_from(throttle_ms) {
            self.count_cluster(cluster, ClusterMetric::ThrottleMs, throttle_ms);
        }
        for code in results.iter().map(|result| result.error).filter(|code| *code != 0) {
            self.raise_at(self.layout.error(cluster, KafkaError::of(code)), 1);
        }
    }

    /// Sets a metric of a bridge.
    pub fn set_bridge(&mut self, bridge: usize, metric: BridgeMetric, value: u64) {
        self.put(self.layout.bridge(bridge, metric), value);
    }

    /// Sets all numbers of a bridge to 0: another instance has its session, and counts from now on.
    pub fn clear_bridge(&mut self, bridge: usize) {
        let first = self.layout.bridge(bridge, BridgeMetric::State);
        (first..first + BridgeMetric::COUNT).for_each(|place| self.put(place, 0));
    }

    /// Sets a metric of a source.
    pub fn set_source(&mut self, source: usize, metric: SourceMetric, value: u64) {
        self.put(self.layout.source(source, metric), value);
    }

    /// Adds to a number of a source.
    pub fn count_source(&mut self, source: usize, metric: SourceMetric, by: u64) {
        if by > 0 {
            self.raise_at(self.layout.source(source, metric), by);
        }
    }

    /// Adds to a number of a rule.
    #[inline]
    pub fn count_rule(&mut self, rule: usize, metric: RuleMetric, by: u64) {
        if by > 0 {
            self.raise_at(self.layout.rule(rule, metric), by);
        }
    }

    /// Adds one to a number of a listener.
    #[inline]
    pub fn count_listener(&mut self, listener: ListenerId, metric: ListenerMetric) {
        self.raise_at(self.layout.listener(usize::from(listener.0), metric), 1);
    }

    /// Subtracts one from a number of a listener.
    pub fn uncount_listener(&mut self, listener: ListenerId, metric: ListenerMetric) {
        let place = self.layout.listener(usize::from(listener.0), metric);
        self.put(place, self.values[place].saturating_sub(1));
    }

    /// The histograms, counted on the board itself.
    pub fn histograms(&self) -> &Histograms {
        &self.board.histograms
    }

    /// Counts the destinations of `count` messages of a client at this listener or of wills.
    #[inline]
    pub fn count_routed(&mut self, listener: Option<ListenerId>, routed: Routed, count: u64) {
        let (of_shard, of_listener) = match routed {
            Routed::Matched => (ShardMetric::PublishesMatched, ListenerMetric::Matched),
            Routed::Unmatched => (ShardMetric::PublishesUnmatched, ListenerMetric::Unmatched),
            Routed::Refused => (ShardMetric::PublishesRefused, ListenerMetric::Refused),
        };
        self.raise(of_shard, count);
        if let Some(listener) = listener {
            let received = self.layout.listener(usize::from(listener.0), ListenerMetric::Received);
            let of_listener = received - ListenerMetric::Received as usize + of_listener as usize;
            self.values[received] += count;
            self.values[of_listener] += count;
            self.moved.at_both(received, of_listener);
        }
    }

    /// Counts a message that a sink never takes.
    pub fn count_refusal(&mut self, sink: usize, reason: RefusalReason) {
        self.raise_at(self.layout.refusal(sink, reason), 1);
    }

    /// Observes the histograms of the spool. It has at most one group under way, so a turn sees at most one more sync and one more group:
    /// what has been added to its sums is theirs.
    pub fn observe_spool(&mut self) {
        let now =
            [ShardMetric::SpoolSyncs, ShardMetric::SpoolSyncUs, ShardMetric::SpoolGroupBytes].map(|m| self.get(m));
        let before = std::mem::replace(&mut self.spool, now);
        let [syncs, sync_us, bytes] = std::array::from_fn(|index| now[index].saturating_sub(before[index]));
        if let Some(each) = sync_us.checked_div(syncs) {
            self.board.histograms.sync().observe_many(each, syncs);
        }
        if bytes > 0 {
            self.board.histograms.group_bytes().observe(bytes);
        }
    }

    /// Copies the numbers onto the board that have changed since the last time.
    pub fn publish(&mut self) {
        let Moved { own, places } = &mut self.moved;
        let own = std::mem::take(own);
        if own == Own::default() && places.is_empty() {
            return;
        }
        if places.len() == Moved::PLACES_MAX {
            self.board.publish(&self.values, 0..self.values.len());
        } else {
            self.board.publish(&self.values, own.places().chain(places.iter().copied()));
        }
        places.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The board agrees with the shard's counts, whatever changes between two turns.
    #[test]
    fn what_has_moved_is_published() {
        let layout = Layout { sinks: 500, clusters: 2, listeners: 2, sources: 0, rules: 0, bridges: 0 };
        let board = Arc::new(Board::new(layout));
        let mut numbers = Numbers::new(Arc::clone(&board), layout);
        let mut random = fastrand::Rng::with_seed(40);
        // Some turns change more places than are noted one by one.
        for turn in 0..200 {
            let moves = if turn % 50 == 49 { 3 * Moved::PLACES_MAX } else { random.usize(..20) };
            for _ in 0..moves {
                match random.u8(..6) {
                    0 => numbers.set_sink(random.usize(..500), SinkMetric::Delivered, random.u64(..4)),
                    1 => numbers.count_refusal(random.usize(..500), RefusalReason::TooLarge),
                    2 => numbers.count_cluster(random.usize(..2), ClusterMetric::SentBytes, 7),
                    3 => numbers.count_listener(ListenerId(random.u16(..2)), ListenerMetric::Open),
                    4 => numbers.uncount_listener(ListenerId(random.u16(..2)), ListenerMetric::Open),
                    _ => numbers.count(ShardMetric::Turns),
                }
            }
            numbers.publish();
            assert_eq!(board.read(), numbers.values, "turn {turn}");
        }
    }
}
