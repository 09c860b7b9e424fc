//! The plan of a run, drawn before it begins: sinks, buffers, sizes, devices, and the rate of each fault.

use forebay::config::WhenFull;

use crate::faults::Fault;
use crate::sources::plan::Reading;
use crate::time::{MS, S, stream};

pub mod broker;
mod hostile;
pub mod instances;
mod settings;
mod sinks;

pub use self::broker::BrokerPlan;
pub use self::hostile::Hostile;
use self::hostile::{clock, hostile};
pub use self::instances::InstancesPlan;
use self::settings::spool;
pub use self::settings::{Delivery, Settings, SpoolPlan};
use self::sinks::sinks;
pub use self::sinks::{Buffer, Choice, Dead, Level, SinkPlan};

/// The last level of topics that go to subscribers alone.
pub const NO_SINK: &str = "only";

/// Strategies of shared subscriptions; the first is the default.
const STRATEGIES: [&str; 4] = ["round-robin", "least-inflight", "hash-client", "hash-topic"];

/// A kind of run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Devices and sinks, with a disk, crashes and all other faults.
    All,
    /// Like `All`, without a disk and without crashes: the meaning of an answer while the process lives.
    Memory,
    /// Like `All`, and the configuration changes between processes, reads fail, and the machine's clock is wrong.
    Hostile,
    /// Like `All`, and groups of the log are gathered (`[spool] sync_interval`).
    Gathered,
    /// Like `All`, and clients subscribe; in one run of six without a disk.
    Subscribers,
    /// Like `Hostile`, and clients subscribe.
    HostileSubscribers,
    /// Like `Subscribers`, and clients are members of shared subscriptions, and mail is late.
    Shares,
    /// Like `HostileSubscribers`, and clients are members of shared subscriptions, and mail is late.
    HostileShares,
    /// Sources and clients that subscribe, in place of devices and sinks; in one run of six without a disk.
    Sources,
    /// Devices, other programs and clients that subscribe, with `[broker]`.
    Broker,
    /// Several instances of one broker, devices, and clients that subscribe.
    Instances,
}

impl Kind {
    /// `ALL` has each kind with the options of `forebay-sim` that choose it. The first one that matches counts: two options stand before each of them.
    pub const ALL: [(Self, &'static str); 11] = [
        (Self::Memory, "--memory"),
        (Self::HostileShares, "--hostile --shares"),
        (Self::HostileSubscribers, "--hostile --subscribers"),
        (Self::Hostile, "--hostile"),
        (Self::Gathered, "--gathered"),
        (Self::Shares, "--shares"),
        (Self::Sources, "--sources"),
        (Self::Broker, "--broker"),
        (Self::Instances, "--instances"),
        (Self::Subscribers, "--subscribers"),
        (Self::All, ""),
    ];

    /// Whether the run is hostile: the configuration changes between processes, disks are damaged, and so on.
    #[must_use]
    pub const fn is_hostile(self) -> bool {
        matches!(self, Self::Hostile | Self::HostileSubscribers | Self::HostileShares)
    }

    /// Whether clients subscribe.
    #[must_use]
    pub const fn has_subscribers(self) -> bool {
        matches!(self, Self::Subscribers | Self::HostileSubscribers) || self.has_members()
    }

    /// Whether some clients are members of shared subscriptions.
    #[must_use]
    pub const fn has_members(self) -> bool {
        matches!(self, Self::Shares | Self::HostileShares)
    }
}

/// The connections of a run that have a layer, like TLS, between their bytes and the shard's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layers {
    /// No connection: half of the runs.
    #[default]
    None,
    /// Random connections: a quarter of the runs.
    Some,
    /// All connections: a quarter of the runs.
    All,
}

/// The plan of a run, drawn from its seed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Configuration of the first process.
    pub settings: Settings,
    /// Number of brokers of each cluster.
    pub brokers: usize,
    /// Whether Produce has topic ids.
    pub by_id: bool,
    /// Whether brokers have leader epochs, and DescribeProducers.
    pub modern: bool,
    /// Number of partitions of a topic.
    pub partitions: usize,
    /// `min.insync.replicas`
    pub min_in_sync: usize,
    /// Number of devices.
    pub devices: usize,
    /// Number of messages of each device.
    pub messages: usize,
    /// Bytes of the longest payload.
    pub payload_max: usize,
    /// Mean time between two actions of a device, in nanoseconds.
    pub pace: u64,
    /// Duration of the phase with faults, in nanoseconds.
    pub storm: u64,
    /// Faults of this run, each with the mean time between two, in nanoseconds.
    pub faults: Vec<(Fault, u64)>,
    /// Bound on the latency between shard and broker, in nanoseconds.
    pub latency: u64,
    /// Bound on the latency of a letter from shard to shard, in nanoseconds.
    pub mail: u64,
    /// The longest sync, in nanoseconds.
    pub sync: u64,
    /// Whether devices send messages that Kafka refuses.
    pub poison: bool,
    /// How far ahead the machine's clock is, in milliseconds.
    pub clock_ahead_ms: i64,
    /// Faults of hostile runs alone.
    pub hostile: Hostile,
    /// Connections with layers.
    pub layers: Layers,
    /// The plan of several instances, if there are several.
    pub instances: Option<InstancesPlan>,
    /// The plan of sources, if there are any.
    pub reading: Option<Reading>,
    /// Number of clients that subscribe.
    pub subscribers: usize,
    /// Number of clients that are members of shared subscriptions.
    pub members: usize,
    /// Whether messages of QoS 1 for subscribers alone have RETAIN.
    pub retains: bool,
    /// Whether some messages for subscribers alone expire.
    pub expires: bool,
}

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn new(seed: u64, kind: Kind) -> Self {
        Self::without_layers(seed, kind).layered()
    }

    /// The plan of a seed, with no layer on any connection.
    #[must_use]
    pub fn without_layers(seed: u64, kind: Kind) -> Self {
        let mut rng = stream(seed, "plan");
        // One run in eight has sizes as in practice.
        let large = rng.u8(..8) == 0;
        let clusters = if rng.u8(..3) == 0 { 2 } else { 1 };
        let mut of_subscribers = stream(seed, "subscribers");
        let has_disk = match kind {
            Kind::Memory | Kind::Broker | Kind::Instances => false,
            Kind::Subscribers | Kind::Shares | Kind::Sources => of_subscribers.u8(..6) > 0,
            Kind::All | Kind::Hostile | Kind::Gathered | Kind::HostileSubscribers | Kind::HostileShares => true,
        };
        let spool = has_disk.then(|| spool(&mut stream(seed, "spool"), large));
        let mut sinks = sinks(&mut stream(seed, "sinks"), clusters, spool.is_some(), large);
        // In one run of twelve the first sink leaves some topics to the others.
        if sinks.len() > 1 {
            sinks[0].choice = match stream(seed, "choice").u8(..16) {
                0 => Choice::Excludes("odd"),
                1 => Choice::Fallback,
                _ => Choice::All,
            };
        }
        let settings = Settings {
            shards: [1, 1, 1, 2, 3][rng.usize(..5)],
            clusters: (0..clusters).map(|index| format!("127.0.0.{}", index + 1)).collect(),
            sinks,
            sources: Vec::new(),
            broker: None,
            spool,
            delivery: None,
            buffer_bytes: if large { 4 << 20 } else { rng.u64(1..6) * 16 * 1024 },
            batch_bytes: if large { 64 << 10 } else { 1024 },
            record_bytes_max: if large { 16 << 10 } else { 2048 },
            answer_timeout_ms: (rng.u8(..4) == 0).then(|| rng.u64(1..5) * 1000),
            more: String::new(),
            more_of_clusters: String::new(),
        };
        let storm = rng.u64(4..16) * S;
        let hostile = if kind.is_hostile() { hostile(seed, clusters) } else { Hostile::default() };
        let plan = Self {
            seed,
            brokers: rng.usize(1..4),
            by_id: rng.bool(),
            modern: rng.u8(..4) > 0,
            partitions: rng.usize(1..5),
            min_in_sync: rng.usize(1..3),
            devices: rng.usize(2..7),
            messages: rng.usize(10..60),
            payload_max: if large { 8_000 } else { 600 },
            pace: rng.u64(5..120) * MS,
            storm,
            faults: faults(seed, kind),
            latency: [100_000, MS, 5 * MS, 40 * MS][rng.usize(..4)],
            mail: 0,
            sync: [0, 200_000, 4 * MS, 60 * MS][rng.usize(..4)],
            poison: rng.u8(..3) == 0,
            clock_ahead_ms: if kind.is_hostile() { clock(&mut stream(seed, "clock")) } else { 0 },
            hostile,
            layers: Layers::None,
            instances: None,
            reading: None,
            subscribers: 0,
            members: 0,
            retains: false,
            expires: kind.is_hostile() && kind.has_subscribers() && stream(seed, "expiry").bool(),
            settings,
        };
        let mut plan = if hostile.flood { plan.flooded() } else { plan };
        if let (Kind::Gathered, Some(spool)) = (kind, &mut plan.settings.spool) {
            spool.sync_interval_ms = stream(seed, "gathered").u64(1..10);
        }
        if kind.has_subscribers() {
            plan = plan.with_subscribers(&mut of_subscribers);
        }
        if kind == Kind::Sources {
            return plan.with_sources(&mut stream(seed, "sources"));
        }
        if kind == Kind::Broker {
            return plan.with_broker(&mut stream(seed, "broker"));
        }
        if kind == Kind::Instances {
            return plan.with_instances(&mut stream(seed, "instances"));
        }
        if kind.has_members() { plan.with_members(&mut stream(seed, "members")) } else { plan }
    }

    /// Draws layers: half of the runs have them, and most of those have several shards, between which connections move.
    fn layered(mut self) -> Self {
        let mut rng = stream(self.seed, "layers");
        self.layers = [Layers::None, Layers::None, Layers::Some, Layers::All][rng.usize(..4)];
        if self.layers != Layers::None && self.settings.shards == 1 {
            self.settings.shards = [1, 2, 3][rng.usize(..3)];
        }
        self
    }

    /// Adds clients that subscribe. In most runs there is room for all their queued messages, and the process is killed or the
    /// power fails.
    fn with_subscribers(mut self, rng: &mut fastrand::Rng) -> Self {
        self.subscribers = rng.usize(1..6);
        let is_small = rng.u8(..8) == 0;
        let messages_max = if is_small { rng.u32(3..40) } else { 10_000 };
        self.settings.delivery =
            Some(Delivery { messages_max, drops_newest: rng.bool(), share_strategy: STRATEGIES[0] });
        if let Some(spool) = &mut self.settings.spool
            && rng.u8(..4) > 0
            && !self.hostile.flood
        {
            spool.segments_max = spool.segments_max.max(32);
        }
        let ends = [Fault::Kill, Fault::PowerCut];
        if rng.bool() && !self.faults.iter().any(|(fault, _)| ends.contains(fault)) {
            let fault = ends[rng.usize(..2)];
            self.faults.push((fault, fault.mean_time() * 4 / rng.u64(1..=8)));
        }
        self.retains = rng.bool();
        self
    }

    /// Adds members of shared subscriptions, in most runs on several shards, and makes mail late.
    fn with_members(mut self, rng: &mut fastrand::Rng) -> Self {
        self.members = rng.usize(2..6);
        self.settings.shards = self.settings.shards.max([1, 2, 3][rng.usize(..3)]);
        self.mail = [0, MS, 20 * MS, 300 * MS][rng.usize(..4)];
        if let Some(delivery) = &mut self.settings.delivery {
            delivery.share_strategy = STRATEGIES[rng.usize(..4)];
        }
        self
    }

    /// Makes room on the disk scarce, and messages many.
    fn flooded(mut self) -> Self {
        let mut rng = stream(self.seed, "flood draws");
        if let Some(spool) = &mut self.settings.spool {
            (spool.segment_bytes, spool.segments_max) = (spool.segment_bytes.min(64 << 10), 8);
            spool.when_full = [WhenFull::Backpressure, WhenFull::Refuse, WhenFull::DropOldest][rng.usize(..3)];
        }
        self.settings.buffer_bytes = self.settings.buffer_bytes.min(64 << 10);
        (self.settings.batch_bytes, self.settings.record_bytes_max) = (1024, 2048);
        (self.messages, self.payload_max, self.pace) = (rng.usize(100..400), 1_500, 20 * MS);
        self
    }
}

/// Draws a third of the faults for each run: a few frequent faults find more than all at once.
fn faults(seed: u64, kind: Kind) -> Vec<(Fault, u64)> {
    let drawn = Fault::ALL.iter().filter_map(|fault| {
        let mut rng = stream(seed, fault.name());
        let (in_it, rate) = (rng.u8(..3) == 0, rng.u64(1..=8));
        let is_there = (kind != Kind::Memory || !fault.is_of_the_machine())
            && (matches!(kind, Kind::Sources | Kind::Broker | Kind::Instances) || !fault.is_of_groups())
            && (matches!(kind, Kind::Broker | Kind::Instances) || !fault.is_of_broker())
            && (kind == Kind::Instances || !fault.is_of_instances());
        let wanted = in_it && is_there;
        wanted.then_some((*fault, fault.mean_time() * 4 / rate))
    });
    drawn.collect()
}
