//! A run's plan, drawn from its seed: settings of the producer, the cluster, and the rate of each fault.

use std::time::Duration;

use super::store::StorePlan;
use crate::kafka::producer::{AnsweredOn, Partitioner, Settings, SinkSettings};
use crate::kafka::types::SinkId;
use crate::record::compression::Codec;
use crate::rules::{KEPT, Rules};
use crate::shard::dead_letters::{HEADERS_BYTES_MAX, Route};

/// Brokers.
pub(super) const NODES: usize = 3;
/// Topics.
pub(super) const TOPICS: [&str; 3] = ["one", "two", "dead"];
/// Index of the topic for dead letters. Rows go to the topics before it.
pub(super) const DEAD: usize = 2;
/// Number of sinks, all with the same topics. The sinks that write the dead-letter topic come after them.
pub(super) const SINKS: usize = 2;

/// A kind of fault. A new one is added here, in [`Fault::ALL`], and in `faults.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A connection is cut: answers are lost; requests in flight reach the broker late, or never.
    Cut,
    /// A partition's leader moves; records that were not replicated may be gone.
    Move,
    /// A partition has no leader for a while.
    NoLeader,
    /// A broker is stopped and started: of each producer only the last batch is remembered.
    CleanRestart,
    /// kill -9 and start: all five batches of a producer are remembered; in runs with lasting faults, those since the
    /// leader's last snapshot and one before.
    Kill,
    /// A topic gets another partition.
    Grow,
    /// A topic is deleted and created again later.
    Remake,
    /// Partitions check for producers to forget, by record time.
    Forget,
    /// Followers fall behind, or catch up: error 7 after the append.
    Slow,
    /// Too few replicas are in sync, or enough again: error 19 before the append, 20 after it.
    Few,
    /// Writing to a topic is forbidden, or allowed again.
    ForbidWriting,
    /// Reading from a topic is forbidden, or allowed again.
    ForbidReading,
    /// A topic's largest batch shrinks, or grows again.
    Shrink,
    /// Retention deletes the oldest batches.
    Retain,
    /// A broker throttles the producer.
    Throttle,
    /// The whole cluster is unreachable.
    Away,
    /// Hours pass on the clock.
    Hours,
    /// Batches get a retriable error before they are checked.
    Before,
    /// Batches get an error without information, after the append.
    After,
    /// Answers lack one of their parts, or have their parts in another order.
    Jumbled,
    /// Metadata is outdated when it arrives, or an error.
    Stale,
    /// A question about a log is answered late or with an error.
    Unasked,
    /// The machine loses power and restarts.
    Power,
    /// The service is killed (kill -9) and starts again.
    Crash,
    /// The next sync fails.
    SyncFails,
    /// The next write is cut short.
    WriteFails,
    /// The next segment cannot be created.
    CreateFails,
    /// Rows on the disk that are asked for arrive later.
    Unread,
    /// A client's connection is cut.
    Device,
    /// The disk fails until it is cured: syncs, writes, new segments, or several of them.
    SickDisk,
    /// Bytes of others fill the disk until they are removed.
    FullDisk,
    /// Kafka answers nothing until it is cured.
    Frozen,
    /// SIGTERM, and then a start.
    Stop,
}

impl Fault {
    /// All faults. Faults of runs with a disk come after the others, and faults of runs with lasting faults last.
    pub(super) const ALL: [Self; 33] = [
        Self::Cut,
        Self::Move,
        Self::NoLeader,
        Self::CleanRestart,
        Self::Kill,
        Self::Grow,
        Self::Remake,
        Self::Forget,
        Self::Slow,
        Self::Few,
        Self::ForbidWriting,
        Self::ForbidReading,
        Self::Shrink,
        Self::Retain,
        Self::Throttle,
        Self::Away,
        Self::Hours,
        Self::Before,
        Self::After,
        Self::Jumbled,
        Self::Stale,
        Self::Unasked,
        Self::Power,
        Self::Crash,
        Self::SyncFails,
        Self::WriteFails,
        Self::CreateFails,
        Self::Unread,
        Self::Device,
        Self::SickDisk,
        Self::FullDisk,
        Self::Frozen,
        Self::Stop,
    ];

    pub(super) fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// Whether the fault affects the process or its disk.
    pub(super) const fn is_of_disk(self) -> bool {
        self as usize >= Self::Power as usize
    }

    /// Whether the fault comes with a step. The others come with single batches, answers and reads.
    pub(super) const fn is_of_a_step(self) -> bool {
        use Fault::{After, Before, Jumbled, Stale, Throttle, Unasked, Unread};
        !matches!(self, Before | After | Jumbled | Throttle | Stale | Unasked | Unread)
    }

    /// Whether the fault comes in runs with lasting faults only.
    const fn is_lasting(self) -> bool {
        self as usize >= Self::SickDisk as usize
    }

    /// The highest rate, in thousandths of the steps (or of the batches and answers).
    const fn rate_max(self) -> u32 {
        match self {
            Self::Cut => 40,
            Self::Move | Self::CleanRestart | Self::Slow | Self::Stop => 15,
            Self::Before | Self::After | Self::Jumbled => 150,
            Self::Stale | Self::Unasked | Self::Unread => 300,
            Self::Power | Self::Crash | Self::SickDisk | Self::FullDisk | Self::Frozen => 25,
            Self::Device => 60,
            Self::Remake => 6,
            Self::Hours | Self::Retain | Self::Grow => 3,
            _ => 8,
        }
    }
}

/// The scope of a run: its kind, and what a shorter run leaves out.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub(super) seed: u64,
    pub(super) without: Vec<Fault>,
    /// Steps with faults.
    pub(super) steps: u32,
    /// Whether rows are kept on a disk, and the process ends and starts again.
    pub(super) disk: bool,
    /// Whether there are lasting faults as well: disks that go on failing or are full, Kafka silent for a long time,
    /// and orderly stops.
    pub(super) lasting: bool,
    /// The rules that the producer keeps.
    pub(super) rules: &'static dyn Rules,
}

impl Scope {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, without: Vec::new(), steps: 300, disk: false, lasting: false, rules: &KEPT }
    }

    /// A run with a disk and crashes.
    pub(super) fn with_disk(seed: u64) -> Self {
        Self { disk: true, ..Self::new(seed) }
    }

    /// A run with a disk, crashes and lasting faults.
    pub(super) fn with_lasting(seed: u64) -> Self {
        Self { lasting: true, ..Self::with_disk(seed) }
    }
}

/// The plan of a run.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) settings: Settings,
    /// Whether brokers take batches by topic id (Produce 13), and are read by topic id.
    pub(super) by_id: bool,
    /// Leaders of each topic's partitions.
    pub(super) leaders: Vec<Vec<i32>>,
    /// Rates of faults in thousandths, by index in [`Fault::ALL`].
    rates: Vec<u32>,
    /// The most rows in one step.
    pub(super) rows_max: u32,
    /// One row in this many is of a special kind.
    pub(super) special: u32,
    /// Whether there are rows that are thirty hours old or have no time.
    pub(super) old: bool,
    /// How often brokers and the network act, in hundredths of the steps.
    pub(super) eager: u32,
    pub(super) store: Option<StorePlan>,
}

impl Plan {
    pub(super) fn new(scope: &Scope, rng: &mut fastrand::Rng) -> Self {
        let leaders = |rng: &mut fastrand::Rng| (0..rng.usize(1..4)).map(|_| rng.i32(0..NODES as i32)).collect();
        let rate = |fault: &Fault, rng: &mut fastrand::Rng| {
            // Each run has a third of the faults: a few frequent faults find more than all at once.
            let (in_it, rate) = (rng.u32(..3) == 0, rng.u32(1..=fault.rate_max()));
            if in_it && !scope.without.contains(fault) { rate } else { 0 }
        };
        // Drawn from a stream of its own, so that the other runs stay as they were.
        let mut of_disk = fastrand::Rng::with_seed(scope.seed ^ 0x5_0001);
        let mut of_lasting = fastrand::Rng::with_seed(scope.seed ^ 0x1a57);
        let mut settings = settings(scope.seed, rng);
        let mut store = scope.disk.then(|| StorePlan::new(&mut settings, &mut of_disk));
        let mut rows_times = 1;
        if let Some(store) = store.as_mut().filter(|_| scope.lasting) {
            store.lasting(&mut settings, &mut of_lasting);
            rows_times = of_lasting.u32(1..=4);
        }
        Self {
            settings,
            store,
            by_id: fastrand::Rng::with_seed(!scope.seed).bool(),
            leaders: TOPICS.iter().map(|_| leaders(rng)).collect(),
            rates: Fault::ALL
                .iter()
                .map(|fault| match fault.is_of_disk() {
                    false => rate(fault, rng),
                    true if fault.is_lasting() && scope.lasting => rate(fault, &mut of_lasting),
                    true if fault.is_lasting() || !scope.disk => 0,
                    true => rate(fault, &mut of_disk),
                })
                .collect(),
            rows_max: rng.u32(1..7) * rows_times,
            special: rng.u32(20..200),
            old: rng.u32(..5) == 0,
            eager: rng.u32(30..90),
        }
    }

    /// Whether a fault happens now.
    pub(super) fn draws(&self, fault: Fault, rng: &mut fastrand::Rng) -> bool {
        let rate = self.rates[fault as usize];
        rate > 0 && rng.u32(..1000) < rate
    }
}

fn settings(seed: u64, rng: &mut fastrand::Rng) -> Settings {
    let mut sinks: Vec<SinkSettings> = (0..SINKS).map(|_| sink(rng)).collect();
    for of in 0..SINKS {
        if rng.u32(..3) == 0 {
            sinks.push(of_letters(&sinks[of]));
            sinks[of].keep_rejected = true;
        }
    }
    Settings {
        buffer_bytes: rng.usize(60..400) * 1024,
        seed,
        sinks,
        requests_per_node_max: rng.usize(1..8),
        request_bytes_max: rng.usize(1000..20_000),
        backoff_max: Duration::from_millis(200),
        forbidden_for: Duration::from_millis(500),
        // In half of the runs a topic is forgotten as soon as it is idle.
        topics_max: if rng.bool() { 4 } else { 10_000 },
        topic_idle: Duration::from_millis(2),
        receipts: true,
        ..Settings::default()
    }
}

fn sink(rng: &mut fastrand::Rng) -> SinkSettings {
    let codecs = [Codec::None, Codec::None, Codec::None, Codec::Lz4];
    let answered_on = if rng.u32(..8) == 0 { AnsweredOn::Append } else { AnsweredOn::Replicated };
    let acks = match rng.u32(..12) {
        0 | 1 => 1,
        2 if answered_on == AnsweredOn::Append => 0,
        _ => -1,
    };
    SinkSettings {
        linger: Duration::from_millis(rng.u64(0..4)),
        batch_bytes: rng.usize(300..3000),
        compression: codecs[rng.usize(..codecs.len())],
        record_bytes_max: 4000,
        acks,
        answered_on,
        partitioner: match rng.u32(..8) {
            0 => Partitioner::Sticky,
            1 | 2 => Partitioner::Hash,
            _ => Partitioner::Key,
        },
        max_inflight: if rng.u32(..3) == 0 { rng.usize(1..=5) } else { 5 },
        expire_after: (rng.u32(..8) == 0).then(|| Duration::from_millis(rng.u64(20..3000))),
        ..SinkSettings::default()
    }
}

/// The route of each sink's dead letters.
pub(super) fn routes(sinks: &[SinkSettings]) -> Vec<Option<Route>> {
    let mut next = SINKS as u16..;
    let route = |(index, sink): (usize, &SinkSettings)| {
        let to = if sink.keep_rejected { next.next()? } else { return None };
        let topic = Some((SinkId(to), TOPICS[DEAD].to_owned()));
        Some(Route { index, sink: "of".to_owned(), topic, file: false, of_letters: false })
    };
    sinks.iter().take(SINKS).enumerate().map(route).collect()
}

/// The sink that writes a sink's dead letters.
fn of_letters(of: &SinkSettings) -> SinkSettings {
    SinkSettings {
        acks: -1,
        partitioner: Partitioner::Key,
        fixed_topic: true,
        record_bytes_max: of.record_bytes_max + HEADERS_BYTES_MAX,
        answered_on: AnsweredOn::Replicated,
        expire_after: None,
        reserved: true,
        ..of.clone()
    }
}
