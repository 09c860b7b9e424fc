//! Histograms of a shard: one writer, read at any time, no lock. They are merged over the shards when they are scraped.
//!
//! Histograms are not part of a snapshot, as no ledger needs them. They are updated in place, with relaxed loads and stores that
//! cost no more than plain memory, and a turn does not copy them.

use std::sync::atomic::{AtomicU64, Ordering};

use super::spec::Layout;

/// The unit of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Microseconds, shown in seconds.
    Micros,
    /// A number of things, shown unchanged.
    Count,
}

/// Upper bounds of times, in microseconds.
pub(super) const TIMES: &[u64] = &[
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000, 60_000_000,
];
/// Upper bounds of records in a batch.
const RECORDS: &[u64] = &[1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000];
/// Upper bounds of bytes.
const BYTES: &[u64] = &[256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20];

/// One histogram of one shard.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// The buckets: one more than bounds.
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    fn new(bounds: &'static [u64]) -> Self {
        Self { bounds, buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) }
    }

    /// Takes over the counts of another histogram with the same bounds.
    fn take_over(&self, from: &Self) {
        for (to, from) in self.buckets.iter().zip(&from.buckets) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.sum.store(from.sum.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Counts a value. One writer only: the shard that owns it.
    pub fn observe(&self, value: u64) {
        self.observe_many(value, 1);
    }

    /// Counts a value `count` times.
    pub fn observe_many(&self, value: u64, count: u64) {
        let bucket = &self.buckets[self.bounds.partition_point(|bound| *bound < value)];
        bucket.store(bucket.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
        let sum = self.sum.load(Ordering::Relaxed).wrapping_add(value.wrapping_mul(count));
        self.sum.store(sum, Ordering::Relaxed);
    }

    /// Adds the histogram to others of its kind.
    fn merge_into(&self, merged: &mut Merged) {
        let mut total = 0;
        for (to, from) in merged.cumulative.iter_mut().zip(&self.buckets) {
            total += from.load(Ordering::Relaxed);
            *to += total;
        }
        merged.sum += self.sum.load(Ordering::Relaxed);
    }
}

/// Histograms of several shards, added up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// Upper bounds; the last bucket has none.
    pub bounds: &'static [u64],
    /// For each bound the number of values up to it, and at the end the number of all values.
    pub cumulative: Vec<u64>,
    /// The sum of all values.
    pub sum: u64,
}

impl Merged {
    /// Sums histograms, of which there is at least one.
    #[must_use]
    pub fn of<'a>(all: impl Iterator<Item = &'a Histogram>) -> Option<Self> {
        let mut merged: Option<Self> = None;
        for one in all {
            let bounds = one.bounds;
            let into = merged.get_or_insert_with(|| Self { bounds, cumulative: vec![0; bounds.len() + 1], sum: 0 });
            one.merge_into(into);
        }
        merged
    }
}

/// Levels of a publisher's acknowledgement: values of the label `acknowledge`. Where a message matches sinks of several levels,
/// the last of these is the one that it has waited for.
pub const LEVELS: [&str; 4] = ["received", "stored", "leader", "replicated"];

/// An index into [`LEVELS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The message is in memory.
    Received,
    /// The message is in the spool.
    Stored,
    /// The partition's leader has it.
    Leader,
    /// All in-sync replicas have it.
    Replicated,
}

/// The things that have a histogram each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Per {
    /// Each listener, and each level of acknowledgement.
    ListenerAndLevel,
    /// Each Kafka cluster.
    Cluster,
    /// The process.
    Process,
}

/// One row of [`HISTOGRAMS`].
#[derive(Clone, Copy, Debug)]
pub struct HistogramSpec {
    /// Name without the `forebay_` prefix.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// The unit of its values.
    pub unit: Unit,
    /// The things that have one each.
    pub per: Per,
    bounds: &'static [u64],
}

/// All histograms, in the order of [`Histograms::all`].
pub const HISTOGRAMS: [HistogramSpec; 7] = [
    HistogramSpec {
        name: "publish_ack_seconds",
        help: "Time from taking a QoS 1 or 2 PUBLISH to sending its PUBACK or PUBREC, by what the acknowledgement waits for. Sampled: one message per connection at a time. Time spent paused for backpressure is not in it.",
        unit: Unit::Micros,
        per: Per::ListenerAndLevel,
        bounds: TIMES,
    },
    HistogramSpec {
        name: "kafka_produce_seconds",
        help: "Time from handing over a Produce request to its response.",
        unit: Unit::Micros,
        per: Per::Cluster,
        bounds: TIMES,
    },
    HistogramSpec {
        name: "kafka_batch_records",
        help: "Records in each batch sent; a batch that is sent again counts again.",
        unit: Unit::Count,
        per: Per::Cluster,
        bounds: RECORDS,
    },
    HistogramSpec {
        name: "kafka_batch_bytes",
        help: "Bytes of each batch sent, after compression; a batch that is sent again counts again.",
        unit: Unit::Count,
        per: Per::Cluster,
        bounds: BYTES,
    },
    HistogramSpec {
        name: "spool_sync_seconds",
        help: "Time from writing a group to the spool until fdatasync covers it.",
        unit: Unit::Micros,
        per: Per::Process,
        bounds: TIMES,
    },
    HistogramSpec {
        name: "spool_group_bytes",
        help: "Bytes of each group written to the spool.",
        unit: Unit::Count,
        per: Per::Process,
        bounds: BYTES,
    },
    HistogramSpec {
        name: "tls_handshake_cpu_seconds",
        help: "Time that the server has computed for a TLS handshake of a client.",
        unit: Unit::Micros,
        per: Per::Process,
        bounds: TIMES,
    },
];

/// The histograms of one shard.
#[derive(Debug)]
pub struct Histograms {
    /// The histograms in the order of [`HISTOGRAMS`], with one for each thing.
    all: [Vec<Histogram>; HISTOGRAMS.len()],
}

impl Histograms {
    /// Empty histograms for this layout.
    #[must_use]
    pub fn new(layout: Layout) -> Self {
        let made = |spec: &HistogramSpec| {
            let count = match spec.per {
                Per::ListenerAndLevel => layout.listeners * LEVELS.len(),
                Per::Cluster => layout.clusters,
                Per::Process => 1,
            };
            (0..count).map(|_| Histogram::new(spec.bounds)).collect()
        };
        Self { all: std::array::from_fn(|index| made(&HISTOGRAMS[index])) }
    }

    /// Takes over the counts of a smaller layout: things keep their places.
    pub fn take_over(&self, from: &Self) {
        for (to, from) in self.all.iter().zip(&from.all) {
            to.iter().zip(from).for_each(|(to, from)| to.take_over(from));
        }
    }

    /// The histograms of one row.
    #[must_use]
    pub fn of(&self, row: usize) -> &[Histogram] {
        &self.all[row]
    }

    /// The time from a PUBLISH to its acknowledgement.
    #[must_use]
    pub fn publish_ack(&self, listener: usize, level: Level) -> &Histogram {
        &self.all[0][listener * LEVELS.len() + level as usize]
    }

    /// The time from a Produce request to its response.
    #[must_use]
    pub fn produce(&self, cluster: usize) -> &Histogram {
        &self.all[1][cluster]
    }

    /// Records of a batch.
    #[must_use]
    pub fn batch_records(&self, cluster: usize) -> &Histogram {
        &self.all[2][cluster]
    }

    /// Bytes of a batch.
    #[must_use]
    pub fn batch_bytes(&self, cluster: usize) -> &Histogram {
        &self.all[3][cluster]
    }

    /// The time of a sync of the spool.
    #[must_use]
    pub fn sync(&self) -> &Histogram {
        &self.all[4][0]
    }

    /// Bytes of a group.
    #[must_use]
    pub fn group_bytes(&self) -> &Histogram {
        &self.all[5][0]
    }

    /// Time computed for a TLS handshake.
    #[must_use]
    pub fn tls_handshake(&self) -> &Histogram {
        &self.all[6][0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_shards_are_added_up() {
        let (one, other) = (Histogram::new(RECORDS), Histogram::new(RECORDS));
        [1, 2, 3, 20_000].into_iter().for_each(|value| one.observe(value));
        other.observe_many(5, 2);
        let merged = Merged::of([&one, &other].into_iter()).expect("two");
        assert_eq!(&merged.cumulative[..4], [1, 2, 5, 5], "at most 1, 2, 5, 10: a bound belongs to its bucket");
        assert_eq!((merged.cumulative.last(), merged.sum), (Some(&6), 20_016));
        assert_eq!(merged.cumulative.len(), merged.bounds.len() + 1);
    }

    #[test]
    fn every_histogram_has_its_place_and_rising_bounds() {
        let all = Histograms::new(Layout { sinks: 1, clusters: 2, listeners: 2, sources: 0, rules: 0, bridges: 0 });
        assert_eq!(all.all.each_ref().map(Vec::len), [8, 2, 2, 2, 1, 1, 1]);
        assert!(HISTOGRAMS.iter().all(|spec| spec.bounds.is_sorted_by(|a, b| a < b)));
        all.publish_ack(1, Level::Replicated).observe(7);
        assert_eq!(Merged::of(all.of(0)[7..].iter()).expect("one").sum, 7);
        for (histogram, bounds) in [
            (all.produce(1), TIMES),
            (all.batch_records(1), RECORDS),
            (all.batch_bytes(1), BYTES),
            (all.sync(), TIMES),
            (all.group_bytes(), BYTES),
        ] {
            assert_eq!(histogram.bounds, bounds);
        }
    }
}
