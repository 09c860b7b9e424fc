//! Series for the dashboard's plots: rates, gauges and percentiles, computed from two readings of the boards.

use super::collector::Boards;
use super::histogram::{Histogram, Merged};
use super::process::{cpu_s, resident_bytes};
use super::samples::Sample;
use super::spec::{
    BridgeMetric as B, ClusterMetric as C, Layout, RefusalReason, RuleMetric as R, ShardMetric as M, SinkMetric as S,
    SourceMetric as O,
};

/// All numbers of one moment.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The boards.
    pub sample: Sample,
    /// Lag of each sink, in seconds.
    pub lags: Vec<f64>,
    /// The state of each sink, source, rule, cluster and bridge: an index into a list of words.
    pub states: [Vec<usize>; 5],
    acks: Vec<u64>,
    produce: Vec<Vec<u64>>,
    cpu_s: f64,
    resident_bytes: u64,
}

/// Buckets of a histogram of times: 18 bounds, and one beyond them.
pub const BUCKETS: usize = 19;

/// Places in [`super::histogram::HISTOGRAMS`].
const ACKS: usize = 0;
const PRODUCE: usize = 1;

impl Reading {
    /// A reading of these boards, of which `sample` was taken just now.
    #[must_use]
    pub fn new(boards: &Boards, sample: Sample, lags: Vec<f64>, states: [Vec<usize>; 5]) -> Self {
        let of = |row: usize, index: Option<usize>| -> Vec<u64> {
            let all = boards.shards.iter().flat_map(|board| match index {
                Some(index) => &board.histograms.of(row)[index..=index],
                None => board.histograms.of(row),
            });
            let merged = Merged::of(all.map(|histogram: &Histogram| histogram));
            merged.map_or_else(|| vec![0; BUCKETS], |merged| merged.cumulative)
        };
        Self {
            sample,
            lags,
            states,
            acks: of(ACKS, None),
            produce: (0..boards.clusters.len()).map(|index| of(PRODUCE, Some(index))).collect(),
            cpu_s: cpu_s(),
            resident_bytes: resident_bytes(),
        }
    }
}

impl Reading {
    /// The reading in a larger layout.
    #[must_use]
    pub fn grown(&self, layout: Layout) -> Self {
        Self { sample: self.sample.grown(layout), ..self.clone() }
    }
}

/// Upper bounds of the buckets but the last, in seconds.
#[must_use]
pub fn bounds() -> Vec<f64> {
    super::histogram::TIMES.iter().map(|micros| *micros as f64 / 1e6).collect()
}

/// Two readings, with the numbers of things.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// The earlier reading.
    pub then: &'a Reading,
    /// The later reading.
    pub now: &'a Reading,
}

impl Step<'_> {
    /// The time between them, in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.now.sample.at().duration_since(self.then.sample.at()).as_secs_f64()
    }

    fn per_s(&self, of: impl Fn(&Sample) -> u64) -> f64 {
        let (seconds, grown) = (self.seconds(), of(&self.now.sample).saturating_sub(of(&self.then.sample)));
        if seconds > 0.0 { grown as f64 / seconds } else { f64::NAN }
    }

    /// The growth per second of numbers of the shards, in sum.
    fn shards_per_s(&self, metrics: &[M]) -> f64 {
        self.per_s(|sample| metrics.iter().map(|metric| sample.place(*metric as usize)).sum())
    }

    fn gauge(&self, metric: M) -> f64 {
        self.now.sample.place(metric as usize) as f64
    }

    fn sinks(&self, metric: S) -> f64 {
        sum_of_sinks(&self.now.sample, |sample, sink| sample.sink(sink, metric)) as f64
    }

    /// Growth of one number divided by the growth of another.
    fn mean(&self, sum: impl Fn(&Sample) -> u64, count: impl Fn(&Sample) -> u64) -> f64 {
        let grown = |of: &dyn Fn(&Sample) -> u64| of(&self.now.sample).saturating_sub(of(&self.then.sample));
        let (sum, count) = (grown(&sum), grown(&count));
        if count > 0 { sum as f64 / count as f64 } else { f64::NAN }
    }

    fn state(&self, kind: Kind, index: usize) -> f64 {
        let list = kind as usize - 1;
        self.now.states[list].get(index).copied().unwrap_or_default() as f64
    }

    fn acks(&self) -> [u64; BUCKETS] {
        grown(&self.then.acks, &self.now.acks)
    }

    fn produce(&self, cluster: usize) -> [u64; BUCKETS] {
        let none = Vec::new();
        let of = |reading: &Reading| reading.produce.get(cluster).cloned();
        grown(&of(self.then).unwrap_or(none), &of(self.now).unwrap_or_default())
    }
}

fn sum_of_sinks(sample: &Sample, of: impl Fn(&Sample, usize) -> u64) -> u64 {
    (0..sample.layout().sinks).map(|sink| of(sample, sink)).sum()
}

fn sum_of_clusters(sample: &Sample, metric: C) -> u64 {
    (0..sample.layout().clusters).map(|cluster| sample.cluster(cluster, metric)).sum()
}

fn refused(sample: &Sample, sink: usize) -> u64 {
    let first = sample.layout().refusal(sink, RefusalReason::UserPropertyMissing);
    (0..RefusalReason::COUNT).map(|place| sample.place(first + place)).sum()
}

/// Values in each bucket between two readings, from the cumulative counts.
fn grown(then: &[u64], now: &[u64]) -> [u64; BUCKETS] {
    let in_bucket = |counts: &[u64], place: usize| {
        let upto = |place: usize| counts.get(place).copied().unwrap_or_default();
        upto(place).saturating_sub(place.checked_sub(1).map_or(0, upto))
    };
    std::array::from_fn(|place| in_bucket(now, place).saturating_sub(in_bucket(then, place)))
}

/// The value in seconds that this share of the values does not exceed, with the values of a bucket spread evenly over it. NaN:
/// there are no values.
#[must_use]
pub fn percentile(counts: &[u64; BUCKETS], part: f64) -> f64 {
    let bounds = super::histogram::TIMES;
    let count: u64 = counts.iter().sum();
    if count == 0 {
        return f64::NAN;
    }
    let (wanted, mut below) = (part * count as f64, 0.0);
    for (place, in_bucket) in counts.iter().enumerate() {
        let in_bucket = *in_bucket as f64;
        if below + in_bucket >= wanted && in_bucket > 0.0 {
            let low = place.checked_sub(1).map_or(0, |before| bounds[before]) as f64;
            let high = bounds.get(place).map_or(low, |bound| *bound as f64);
            return (low + (high - low) * ((wanted - below) / in_bucket)) / 1e6;
        }
        below += in_bucket;
    }
    bounds[bounds.len() - 1] as f64 / 1e6
}

/// The kind of thing that has series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The service as a whole.
    Totals,
    /// A sink.
    Sink,
    /// A source.
    Source,
    /// A rule.
    Rule,
    /// A cluster.
    Cluster,
    /// A bridge.
    Bridge,
}

/// A series.
#[derive(Clone, Copy, Debug)]
pub struct Series {
    /// The name; its ending is the unit.
    pub name: &'static str,
    /// Whether it has a history.
    pub kept: bool,
    of: fn(&Step<'_>, usize) -> f64,
}

const fn kept(name: &'static str, of: fn(&Step<'_>, usize) -> f64) -> Series {
    Series { name, kept: true, of }
}

const fn shown(name: &'static str, of: fn(&Step<'_>, usize) -> f64) -> Series {
    Series { name, kept: false, of }
}

const TOTALS: &[Series] = &[
    kept("received_per_second", |step, _| step.shards_per_s(&[M::PublishesQos0, M::PublishesQos1, M::PublishesQos2])),
    kept("received_bytes_per_second", |step, _| step.shards_per_s(&[M::BytesReceived])),
    kept("delivered_per_second", |step, _| {
        step.per_s(|all| sum_of_sinks(all, |sample, sink| sample.sink(sink, S::Delivered)))
    }),
    kept("kafka_bytes_per_second", |step, _| step.per_s(|sample| sum_of_clusters(sample, C::SentBytes))),
    kept("sent_per_second", |step, _| step.shards_per_s(&[M::CopiesSent])),
    kept("sent_bytes_per_second", |step, _| step.shards_per_s(&[M::BytesSent])),
    kept("unmatched_per_second", |step, _| step.shards_per_s(&[M::PublishesUnmatched])),
    kept("refused_per_second", |step, _| step.shards_per_s(&[M::PublishesRefused])),
    kept("failed_per_second", |step, _| step.per_s(|all| sum_of_sinks(all, Sample::failed))),
    kept("source_records_per_second", |step, _| {
        step.per_s(|sample| (0..sample.layout().sources).map(|source| sample.source(source, O::Records)).sum())
    }),
    kept("connects_per_second", |step, _| step.shards_per_s(&[M::ConnectsAccepted])),
    kept("connections", |step, _| step.gauge(M::ConnectionsOpen)),
    kept("sessions", |step, _| step.gauge(M::Sessions)),
    kept("paused_connections", |step, _| step.gauge(M::StalledConnections)),
    kept("waiting_records", |step, _| step.sinks(S::BufferedRows)),
    kept("waiting_bytes", |step, _| sum_of_clusters(&step.now.sample, C::BufferBytes) as f64),
    kept("spool_bytes", |step, _| step.gauge(M::SpoolBytes)),
    kept("lag_seconds", |step, _| step.now.lags.iter().copied().fold(0.0, f64::max)),
    kept("queued_messages", |step, _| step.gauge(M::CopiesQueued)),
    kept("cpu_cores", |step, _| (step.now.cpu_s - step.then.cpu_s) / step.seconds()),
    kept("resident_bytes", |step, _| step.now.resident_bytes as f64),
    kept("ack_p50_seconds", |step, _| percentile(&step.acks(), 0.5)),
    kept("ack_p99_seconds", |step, _| percentile(&step.acks(), 0.99)),
    kept("ack_p999_seconds", |step, _| percentile(&step.acks(), 0.999)),
    shown("subscriptions", |step, _| step.gauge(M::Subscriptions)),
    shown("retained_messages", |step, _| step.gauge(M::RetainedMessages)),
    shown("spooled_records", |step, _| step.sinks(S::SpooledRows)),
    shown("buffer_bytes_max", |step, _| sum_of_clusters(&step.now.sample, C::BufferBytesMax) as f64),
    shown("spool_bytes_max", |step, _| step.gauge(M::SpoolBytesMax)),
    shown("records_in", |step, _| step.sinks(S::Matched) + step.sinks(S::Recovered)),
    shown("delivered", |step, _| step.sinks(S::Delivered)),
    shown("failed", |step, _| sum_of_sinks(&step.now.sample, Sample::failed) as f64),
];

const SINK: &[Series] = &[
    kept("records_in_per_second", |step, sink| step.per_s(|sample| sample.sink(sink, S::Matched))),
    kept("delivered_per_second", |step, sink| step.per_s(|sample| sample.sink(sink, S::Delivered))),
    kept("failed_per_second", |step, sink| step.per_s(|sample| sample.failed(sink))),
    kept("refused_per_second", |step, sink| step.per_s(|sample| refused(sample, sink))),
    kept("waiting_records", |step, sink| step.now.sample.sink(sink, S::BufferedRows) as f64),
    kept("waiting_bytes", |step, sink| step.now.sample.sink(sink, S::BufferedBytes) as f64),
    kept("lag_seconds", |step, sink| step.now.lags.get(sink).copied().unwrap_or_default()),
    kept("batch_records", |step, sink| {
        step.mean(|sample| sample.sink(sink, S::BatchRecords), |sample| sample.sink(sink, S::Batches))
    }),
    kept("batch_bytes", |step, sink| {
        step.mean(|sample| sample.sink(sink, S::BatchBytes), |sample| sample.sink(sink, S::Batches))
    }),
    kept("retries_per_second", |step, sink| step.per_s(|sample| sample.sink(sink, S::Retries))),
    shown("state", |step, sink| step.state(Kind::Sink, sink)),
    shown("spooled_records", |step, sink| step.now.sample.sink(sink, S::SpooledRows) as f64),
    shown("records_in", |step, sink| {
        (step.now.sample.sink(sink, S::Matched) + step.now.sample.sink(sink, S::Recovered)) as f64
    }),
    shown("delivered", |step, sink| step.now.sample.sink(sink, S::Delivered) as f64),
    shown("failed", |step, sink| step.now.sample.failed(sink) as f64),
    shown("refused", |step, sink| refused(&step.now.sample, sink) as f64),
    shown("retries", |step, sink| step.now.sample.sink(sink, S::Retries) as f64),
];

const SOURCE: &[Series] = &[
    kept("records_per_second", |step, source| step.per_s(|sample| sample.source(source, O::Records))),
    kept("published_per_second", |step, source| step.per_s(|sample| sample.source(source, O::Published))),
    kept("lag_records", |step, source| step.now.sample.source(source, O::Lag) as f64),
    shown("state", |step, source| step.state(Kind::Source, source)),
    shown("records", |step, source| step.now.sample.source(source, O::Records) as f64),
];

const RULE: &[Series] = &[
    kept("passed_per_second", |step, rule| step.per_s(|sample| sample.rule(rule, R::Passed))),
    kept("filtered_per_second", |step, rule| step.per_s(|sample| sample.rule(rule, R::Filtered))),
    kept("failed_per_second", |step, rule| step.per_s(|sample| sample.rule(rule, R::Failed))),
    shown("state", |step, rule| step.state(Kind::Rule, rule)),
    shown("passed", |step, rule| step.now.sample.rule(rule, R::Passed) as f64),
    shown("filtered", |step, rule| step.now.sample.rule(rule, R::Filtered) as f64),
    shown("failed", |step, rule| step.now.sample.rule(rule, R::Failed) as f64),
];

const CLUSTER: &[Series] = &[
    kept("requests_per_second", |step, cluster| step.per_s(|sample| sample.cluster(cluster, C::Requests))),
    kept("sent_bytes_per_second", |step, cluster| step.per_s(|sample| sample.cluster(cluster, C::SentBytes))),
    kept("requests_in_flight", |step, cluster| step.now.sample.cluster(cluster, C::RequestsInFlight) as f64),
    kept("produce_p50_seconds", |step, cluster| percentile(&step.produce(cluster), 0.5)),
    kept("produce_p99_seconds", |step, cluster| percentile(&step.produce(cluster), 0.99)),
    shown("state", |step, cluster| step.state(Kind::Cluster, cluster)),
];

const BRIDGE: &[Series] = &[
    kept("received_per_second", |step, bridge| step.per_s(|sample| sample.bridge(bridge, B::Received))),
    kept("received_bytes_per_second", |step, bridge| step.per_s(|sample| sample.bridge(bridge, B::ReceivedBytes))),
    kept("delivered_per_second", |step, bridge| step.per_s(|sample| sample.bridge(bridge, B::Delivered))),
    kept("queued_messages", |step, bridge| step.now.sample.bridge(bridge, B::Queued) as f64),
    kept("queued_bytes", |step, bridge| step.now.sample.bridge(bridge, B::QueuedBytes) as f64),
    kept("open_messages", |step, bridge| step.now.sample.bridge(bridge, B::Open) as f64),
    shown("state", |step, bridge| step.state(Kind::Bridge, bridge)),
    shown("received", |step, bridge| step.now.sample.bridge(bridge, B::Received) as f64),
    shown("connects", |step, bridge| step.now.sample.bridge(bridge, B::Connects) as f64),
];

impl Kind {
    /// The series of the kind. Those of the service, and of clusters, are followed by the [`BUCKETS`] of their histogram, in
    /// values per second.
    #[must_use]
    pub const fn series(self) -> &'static [Series] {
        match self {
            Self::Totals => TOTALS,
            Self::Sink => SINK,
            Self::Source => SOURCE,
            Self::Rule => RULE,
            Self::Cluster => CLUSTER,
            Self::Bridge => BRIDGE,
        }
    }

    /// The name of the kind's histogram, if it has one.
    #[must_use]
    pub const fn histogram(self) -> Option<&'static str> {
        match self {
            Self::Totals => Some("ack_buckets"),
            Self::Cluster => Some("produce_buckets"),
            _ => None,
        }
    }

    /// The number of values: series and buckets.
    #[must_use]
    pub const fn width(self) -> usize {
        self.series().len() + if self.histogram().is_some() { BUCKETS } else { 0 }
    }

    /// Appends the values of one thing of this kind, in the order of its series.
    pub fn values(self, step: &Step<'_>, index: usize, into: &mut Vec<f64>) {
        into.extend(self.series().iter().map(|series| (series.of)(step, index)));
        let buckets = match self {
            Self::Totals => step.acks(),
            Self::Cluster => step.produce(index),
            _ => return,
        };
        let seconds = step.seconds().max(1e-3);
        into.extend(buckets.iter().map(|count| *count as f64 / seconds));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_lies_within_its_bucket() {
        let mut counts = [0; BUCKETS];
        assert!(percentile(&counts, 0.5).is_nan());
        // 100 values of up to 1 ms, more than 0.5 ms; one of more than a minute.
        counts[3] = 100;
        assert!((percentile(&counts, 0.5) - 0.000_75).abs() < 1e-9);
        assert!((percentile(&counts, 1.0) - 0.001).abs() < 1e-9);
        counts[18] = 1;
        assert_eq!(percentile(&counts, 1.0), 60.0, "the last bound is all that is known");
        assert!(percentile(&counts, 0.99) <= 0.001);
    }

    #[test]
    fn buckets_are_what_came_between_two_readings() {
        let then: Vec<u64> = vec![1; BUCKETS];
        let now: Vec<u64> = (0..BUCKETS as u64).map(|place| if place < 3 { 1 } else { 5 }).collect();
        let found = grown(&then, &now);
        assert_eq!((found[3], found.iter().sum::<u64>()), (4, 4));
        assert_eq!(grown(&[], &now)[0], 1, "it was not there before");
    }

    #[test]
    fn names_are_unique_and_end_with_their_unit() {
        for kind in [Kind::Totals, Kind::Sink, Kind::Source, Kind::Rule, Kind::Cluster, Kind::Bridge] {
            let mut names: Vec<_> = kind.series().iter().map(|series| series.name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), kind.series().len(), "{kind:?}");
        }
    }
}
