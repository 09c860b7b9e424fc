//! What a seed draws before its run begins: sinks, buffers, sizes, devices, and which faults come how often.

use std::fmt::Write as _;
use std::time::Duration;

use forebay::config::{self, Config, WhenFull};

use crate::faults::Fault;
use crate::sources::plan::{Reading, SourcePlan};
use crate::time::{MS, S, stream};

mod hostile;

pub use self::hostile::Hostile;
use self::hostile::{clock, hostile};

/// The last level of topics that go to subscribers alone.
pub const NO_SINK: &str = "only";

/// Of shared subscriptions; the first is the default.
const STRATEGIES: [&str; 4] = ["round-robin", "least-inflight", "hash-client", "hash-topic"];

/// Where a sink keeps its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buffer {
    /// `memory`
    Memory,
    /// `disk`
    Disk,
    /// `hybrid`
    Hybrid,
    /// `hybrid-saved`
    HybridSaved,
}

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// `received`
    Received,
    /// `leader`
    Leader,
    /// `replicated`
    Replicated,
    /// `stored`
    Stored,
}

/// Where goes what Kafka refuses for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dead {
    /// Nothing is configured: into the file that all such sinks share.
    Shared,
    /// A Kafka topic.
    Topic,
    /// A file.
    File,
}

/// What a sink takes of what its filter matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// All of it.
    All,
    /// All but topics with this last level: `exclude`.
    Excludes(&'static str),
    /// What no other sink takes: `fallback`.
    Fallback,
}

/// One sink. Its number is its place.
#[derive(Clone, Debug)]
pub struct SinkPlan {
    /// Name.
    pub name: &'static str,
    /// Index of its cluster.
    pub cluster: usize,
    /// The last level of the MQTT topics that its filter matches; all, if empty.
    pub last_level: &'static str,
    /// What it takes of them.
    pub choice: Choice,
    /// A topic for each device, or one for all.
    pub topic_per_device: bool,
    /// Records have keys.
    pub keyed: bool,
    /// Where its rows are.
    pub buffer: Buffer,
    /// What its answers mean.
    pub level: Level,
    /// Where refused rows go.
    pub dead: Dead,
    /// `linger` in milliseconds.
    pub linger_ms: u64,
    /// `max_inflight`
    pub max_inflight: u8,
    /// `expire_after` in milliseconds.
    pub expire_ms: Option<u64>,
    /// `partitioner`, where it is not the default.
    pub partitioner: &'static str,
    /// `compression`
    pub compression: &'static str,
    /// `spill_after` of each shard, in bytes.
    pub spill_after: u64,
}

impl SinkPlan {
    /// Whether it takes a message, if no other sink does.
    fn would_take(&self, topic: &str) -> bool {
        let last = topic.rsplit('/').next().unwrap_or_default();
        let matches = if self.last_level.is_empty() { last != NO_SINK } else { last == self.last_level };
        matches && !matches!(self.choice, Choice::Excludes(excluded) if excluded == last)
    }

    /// The Kafka topic of a message.
    #[must_use]
    pub fn kafka_topic(&self, mqtt: &str) -> String {
        let device = mqtt.split('/').next().unwrap_or_default();
        if self.topic_per_device { format!("{}-{device}", self.name) } else { "all".to_owned() }
    }

    /// The topic of its dead letters.
    #[must_use]
    pub fn dead_topic(&self) -> String {
        format!("dead-{}", self.name)
    }

    /// Whether records of one device stay in order.
    #[must_use]
    pub fn is_ordered(&self) -> bool {
        (self.keyed && self.partitioner.is_empty()) || self.partitioner == "client"
    }
}

/// The disk buffer.
#[derive(Clone, Copy, Debug)]
pub struct SpoolPlan {
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// Segments of each shard.
    pub segments_max: u64,
    /// The share of a sink, in hundredths.
    pub share: u64,
    /// What happens when it is full.
    pub when_full: WhenFull,
    /// How far apart groups begin that are not full yet, milliseconds.
    pub sync_interval_ms: u64,
}

/// What is delivered to subscribers.
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    /// `queue_messages_max`
    pub messages_max: u32,
    /// `when_full` is `drop-newest`.
    pub drops_newest: bool,
    /// `share_strategy`
    pub share_strategy: &'static str,
}

/// The configuration of one start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Cores.
    pub shards: usize,
    /// Clusters, by address.
    pub clusters: Vec<String>,
    /// Sinks.
    pub sinks: Vec<SinkPlan>,
    /// Sources.
    pub sources: Vec<SourcePlan>,
    /// The disk buffer.
    pub spool: Option<SpoolPlan>,
    /// Where there are subscribers: some topics have no sink.
    pub delivery: Option<Delivery>,
    /// Memory of each cluster on each shard.
    pub buffer_bytes: u64,
    /// Bytes of a batch.
    pub batch_bytes: u64,
    /// Largest record.
    pub record_bytes_max: u64,
    /// `answer_timeout` of the second listener, in milliseconds.
    pub answer_timeout_ms: Option<u64>,
    /// More lines for each sink, for scenarios.
    pub more: String,
    /// More lines for each cluster, in place of those that it has for the same keys.
    pub more_of_clusters: String,
}

impl Settings {
    /// Whether a sink takes a message.
    #[must_use]
    pub fn takes(&self, sink: usize, topic: &str) -> bool {
        let is_fallback = |sink: &SinkPlan| sink.choice == Choice::Fallback;
        let mut others = self.sinks.iter().filter(|other| !is_fallback(other));
        let of = &self.sinks[sink];
        of.would_take(topic) && !(is_fallback(of) && others.any(|other| other.would_take(topic)))
    }

    /// The same as the program has it.
    ///
    /// # Panics
    /// If the configuration is refused: then the plan is wrong.
    #[must_use]
    pub fn config(&self) -> Config {
        let text = self.text();
        let mut config = config::parse(&text, "sim.toml").unwrap_or_else(|problems| panic!("{problems}\n{text}"));
        // As the program does at its start.
        config.share_dead_letters_file();
        for cluster in &mut config.clusters {
            cluster.buffer_bytes = self.buffer_bytes * self.shards as u64;
        }
        for (sink, plan) in config.sinks.iter_mut().zip(&self.sinks) {
            if plan.buffer != Buffer::Memory {
                sink.spill_after = plan.spill_after * self.shards as u64;
            }
        }
        if let (Some(spool), Some(plan)) = (&mut config.spool, self.spool) {
            spool.segment_bytes = plan.segment_bytes;
            spool.bytes_max = plan.segment_bytes * plan.segments_max * self.shards as u64;
            (spool.share, spool.share_is_computed) = (plan.share * 10_000, false);
            spool.when_full = plan.when_full;
            spool.sync_interval = Duration::from_millis(plan.sync_interval_ms);
            *spool = spool.of_shards(self.shards);
        }
        config
    }

    fn text(&self) -> String {
        let mut text = format!("[service]\nshards = {}\npin = false\n", self.shards);
        text += "[[listener]]\nbind = \"127.0.0.1:1883\"\nreceipts = true\n[[listener]]\nbind = \"127.0.0.1:1884\"\n";
        if let Some(ms) = self.answer_timeout_ms {
            let _ = writeln!(text, "answer_timeout = \"{ms}ms\"");
        }
        for (index, host) in self.clusters.iter().enumerate() {
            let _ = writeln!(text, "[kafka.c{index}]\nbootstrap = [\"{host}:9092\", \"{host}:9093\"]");
            for (key, value) in [("request_timeout", "5s"), ("connect_timeout", "1s"), ("metadata_max_age", "10s")] {
                if !self.more_of_clusters.contains(key) {
                    let _ = writeln!(text, "{key} = \"{value}\"");
                }
            }
            text += &self.more_of_clusters;
        }
        if self.spool.is_some() {
            text += "[spool]\nbytes_max = \"1GiB\"\n";
        }
        if let Some(delivery) = self.delivery {
            let full = if delivery.drops_newest { "drop-newest" } else { "drop-oldest" };
            let most = delivery.messages_max;
            let strategy = delivery.share_strategy;
            let _ = writeln!(
                text,
                "[delivery]\nqueue_messages_max = {most}\nwhen_full = \"{full}\"\nshare_strategy = \"{strategy}\""
            );
        }
        for (number, sink) in self.sinks.iter().enumerate() {
            self.sink(number, sink, &mut text);
        }
        self.sources.iter().for_each(|source| source.text(&mut text));
        text
    }

    fn sink(&self, number: usize, sink: &SinkPlan, text: &mut String) {
        let filter = match (sink.last_level, self.delivery) {
            ("", None) => "#".to_owned(),
            ("", Some(_)) => "+/even\", \"+/odd".to_owned(),
            (last, _) => format!("+/{last}"),
        };
        let topic = if sink.topic_per_device { format!("{}-${{topic[0]}}", sink.name) } else { "all".to_owned() };
        let _ = writeln!(
            text,
            "[[sink]]\nname = \"{}\"\nkafka = \"c{}\"\nfilters = [\"{filter}\"]\ntopic = \"{topic}\"\n\
             headers = {{ sink = \"{number}\" }}\nbatch_bytes = \"{}B\"\nrecord_bytes_max = \"{}B\"\n\
             linger = \"{}ms\"\nmax_inflight = {}\ncompression = \"{}\"",
            sink.name,
            sink.cluster,
            self.batch_bytes,
            self.record_bytes_max,
            sink.linger_ms,
            sink.max_inflight,
            sink.compression,
        );
        let buffer = match sink.buffer {
            Buffer::Memory => "memory",
            Buffer::Disk => "disk",
            Buffer::Hybrid => "hybrid",
            Buffer::HybridSaved => "hybrid-saved",
        };
        let level = match sink.level {
            Level::Received => "received",
            Level::Leader => "leader",
            Level::Replicated => "replicated",
            Level::Stored => "stored",
        };
        let _ = writeln!(text, "buffer = \"{buffer}\"\nacknowledge = \"{level}\"");
        match sink.choice {
            Choice::All => {}
            Choice::Excludes(last) => drop(writeln!(text, "exclude = \"+/{last}\"")),
            Choice::Fallback => *text += "fallback = true\n",
        }
        if !sink.keyed {
            *text += "key = \"\"\n";
        }
        if !sink.partitioner.is_empty() {
            let _ = writeln!(text, "partitioner = \"{}\"", sink.partitioner);
        }
        if number < 2 {
            *text += "qos0_when_full = \"wait\"\n";
        }
        if let Some(ms) = sink.expire_ms {
            let _ = writeln!(text, "expire_after = \"{ms}ms\"");
        }
        match sink.dead {
            Dead::Shared => {}
            Dead::Topic => drop(writeln!(text, "dead_letters_topic = \"{}\"", sink.dead_topic())),
            Dead::File => drop(writeln!(text, "dead_letters_file = \"{}.jsonl\"", sink.name)),
        }
        *text += &self.more;
    }
}

/// Which runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// With a disk, crashes and whatever else.
    All,
    /// Without a disk and without crashes: what an answer means while the process lives.
    Memory,
    /// As `All`; beside that the configuration changes between starts, reads fail, and the machine's clock is wrong.
    Hostile,
    /// As `All`, and groups of the log wait for others (`[spool] sync_interval`).
    Gathered,
    /// As `All`, and clients that subscribe; in one run of six without a disk.
    Subscribers,
    /// As `Hostile`, and clients that subscribe.
    HostileSubscribers,
    /// As `Subscribers`, and clients that are members of shared subscriptions, and mail that is late.
    Shares,
    /// As `HostileSubscribers`, and these.
    HostileShares,
    /// Sources and clients that subscribe, in place of devices and sinks; in one run of six without a disk.
    Sources,
}

impl Kind {
    /// The configuration changes between starts, disks are damaged, and so on.
    #[must_use]
    pub const fn is_hostile(self) -> bool {
        matches!(self, Self::Hostile | Self::HostileSubscribers | Self::HostileShares)
    }

    /// Clients subscribe.
    #[must_use]
    pub const fn has_subscribers(self) -> bool {
        matches!(self, Self::Subscribers | Self::HostileSubscribers) || self.has_members()
    }

    /// Some of them are members of shared subscriptions.
    #[must_use]
    pub const fn has_members(self) -> bool {
        matches!(self, Self::Shares | Self::HostileShares)
    }
}

/// Which connections of a run have a layer between their bytes and those of the shard, as TLS is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layers {
    /// None: half of the runs.
    #[default]
    None,
    /// Some, as it comes: a quarter.
    Some,
    /// All: a quarter.
    All,
}

/// The plan of a run, drawn from its seed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// The first start's configuration.
    pub settings: Settings,
    /// Brokers of each cluster.
    pub brokers: usize,
    /// Topic ids in Produce.
    pub by_id: bool,
    /// Leader epochs, and DescribeProducers.
    pub modern: bool,
    /// Partitions of a topic.
    pub partitions: usize,
    /// `min.insync.replicas`
    pub min_in_sync: usize,
    /// Devices.
    pub devices: usize,
    /// Messages of each.
    pub messages: usize,
    /// Longest payload.
    pub payload_max: usize,
    /// A device does something about so often, in nanoseconds.
    pub pace: u64,
    /// How long faults come, in nanoseconds.
    pub storm: u64,
    /// Faults of this run, and how often each comes: mean time between two, in nanoseconds.
    pub faults: Vec<(Fault, u64)>,
    /// Longest way between shard and broker, in nanoseconds.
    pub latency: u64,
    /// Longest way of a letter from shard to shard, in nanoseconds.
    pub mail: u64,
    /// Longest sync, in nanoseconds.
    pub sync: u64,
    /// Devices may send what Kafka refuses.
    pub poison: bool,
    /// How far ahead the machine's clock is, in milliseconds.
    pub clock_ahead_ms: i64,
    /// What goes wrong in hostile runs alone.
    pub hostile: Hostile,
    /// Which connections have layers.
    pub layers: Layers,
    /// What a run with sources has.
    pub reading: Option<Reading>,
    /// Clients that subscribe.
    pub subscribers: usize,
    /// Clients that are members of shared subscriptions.
    pub members: usize,
    /// Messages of QoS 1 for subscribers alone have RETAIN.
    pub retains: bool,
    /// Some messages for subscribers alone expire.
    pub expires: bool,
}

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn new(seed: u64, kind: Kind) -> Self {
        Self::without_layers(seed, kind).layered()
    }

    /// The same, if no connection has a layer.
    #[must_use]
    pub fn without_layers(seed: u64, kind: Kind) -> Self {
        let mut rng = stream(seed, "plan");
        // One run in eight has sizes as they are in practice.
        let large = rng.u8(..8) == 0;
        let clusters = if rng.u8(..3) == 0 { 2 } else { 1 };
        let mut of_subscribers = stream(seed, "subscribers");
        let has_disk = match kind {
            Kind::Memory => false,
            Kind::Subscribers | Kind::Shares | Kind::Sources => of_subscribers.u8(..6) > 0,
            Kind::All | Kind::Hostile | Kind::Gathered | Kind::HostileSubscribers | Kind::HostileShares => true,
        };
        let spool = has_disk.then(|| spool(&mut stream(seed, "spool"), large));
        let mut sinks = sinks(&mut stream(seed, "sinks"), clusters, spool.is_some(), large);
        // One run in twelve: the first sink leaves some topics to the others.
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
        if kind.has_members() { plan.with_members(&mut stream(seed, "members")) } else { plan }
    }

    /// Half of the runs have layers, and most of these more than one shard, between which their connections move.
    fn layered(mut self) -> Self {
        let mut rng = stream(self.seed, "layers");
        self.layers = [Layers::None, Layers::None, Layers::Some, Layers::All][rng.usize(..4)];
        if self.layers != Layers::None && self.settings.shards == 1 {
            self.settings.shards = [1, 2, 3][rng.usize(..3)];
        }
        self
    }

    /// Clients that subscribe. In most runs there is room for all that waits for them, and the process is killed or the power goes.
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

    /// Members of shared subscriptions, in most runs on more than one shard, and mail that is late.
    fn with_members(mut self, rng: &mut fastrand::Rng) -> Self {
        self.members = rng.usize(2..6);
        self.settings.shards = self.settings.shards.max([1, 2, 3][rng.usize(..3)]);
        self.mail = [0, MS, 20 * MS, 300 * MS][rng.usize(..4)];
        if let Some(delivery) = &mut self.settings.delivery {
            delivery.share_strategy = STRATEGIES[rng.usize(..4)];
        }
        self
    }

    /// Little room on the disk, and much to put there.
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

impl Settings {
    /// Draws another configuration for the next process.
    pub fn change(&mut self, rng: &mut fastrand::Rng) {
        let large = self.batch_bytes > 2_048;
        if let Some(spool) = &mut self.spool {
            if rng.u8(..3) == 0 {
                spool.segments_max = rng.u64(8..48);
            }
            if rng.u8(..4) == 0 && !large {
                spool.segment_bytes = 1024 * rng.u64(64..256);
            }
            if rng.u8(..4) == 0 {
                spool.when_full = [WhenFull::Backpressure, WhenFull::Refuse, WhenFull::DropOldest][rng.usize(..3)];
            }
        }
        if let Some(delivery) = &mut self.delivery
            && rng.u8(..4) == 0
        {
            let messages_max = if rng.u8(..8) == 0 { rng.u32(3..40) } else { 10_000 };
            *delivery = Delivery { messages_max, drops_newest: rng.bool(), ..*delivery };
        }
        for sink in &mut self.sinks {
            if rng.u8(..4) == 0 && sink.buffer != Buffer::Memory {
                sink.spill_after = rng.u64(4..60) * if large { 65_536 } else { 1024 };
            }
            if rng.u8(..6) == 0 && self.spool.is_some() {
                (sink.buffer, sink.level) = buffer_and_level(rng, true, false);
            }
            if rng.u8(..6) == 0 {
                sink.max_inflight = rng.u8(1..=5);
            }
        }
    }
}

fn spool(rng: &mut fastrand::Rng, large: bool) -> SpoolPlan {
    let (segment_bytes, segments_max) = match large {
        true => (1 << 20, rng.u64(16..64)),
        false => (1024 * rng.u64(64..128), if rng.bool() { 8 } else { rng.u64(8..32) }),
    };
    SpoolPlan {
        segment_bytes,
        segments_max,
        share: if rng.bool() { 100 } else { rng.u64(50..90) },
        when_full: match rng.u8(..6) {
            0 => WhenFull::Refuse,
            1 => WhenFull::DropOldest,
            _ => WhenFull::Backpressure,
        },
        sync_interval_ms: 0,
    }
}

fn sinks(rng: &mut fastrand::Rng, clusters: usize, spool: bool, large: bool) -> Vec<SinkPlan> {
    let count = rng.usize(1..4);
    let dead = [Dead::Shared, Dead::Topic, Dead::File][rng.usize(..3)];
    let sink = |(number, (name, last_level)): (usize, (&'static str, &'static str))| {
        let (buffer, level) = buffer_and_level(rng, spool, number == 0);
        SinkPlan {
            name,
            cluster: if number == 1 { clusters - 1 } else { 0 },
            last_level,
            choice: Choice::All,
            topic_per_device: number == 1,
            keyed: number != 2,
            buffer,
            level,
            dead,
            linger_ms: rng.u64(..8),
            max_inflight: if rng.u8(..3) == 0 { rng.u8(1..=5) } else { 5 },
            expire_ms: (rng.u8(..8) == 0).then(|| rng.u64(1000..4000)),
            partitioner: if number == 0 && rng.u8(..4) == 0 { "client" } else { "" },
            compression: ["none", "none", "none", "lz4"][rng.usize(..4)],
            spill_after: if rng.bool() { 64 << 20 } else { rng.u64(4..60) * if large { 65_536 } else { 1024 } },
        }
    };
    [("all", ""), ("odd", "odd"), ("again", "odd")].into_iter().take(count).enumerate().map(sink).collect()
}

fn buffer_and_level(rng: &mut fastrand::Rng, spool: bool, first: bool) -> (Buffer, Level) {
    let volatile = |rng: &mut fastrand::Rng| match rng.u8(..8) {
        0 => Level::Received,
        1 => Level::Leader,
        _ => Level::Replicated,
    };
    let draw = rng.u8(..10);
    if !spool {
        return (Buffer::Memory, volatile(rng));
    }
    match draw {
        0 | 1 if !first => (Buffer::Memory, volatile(rng)),
        2 if !first => (Buffer::Hybrid, volatile(rng)),
        3 if !first => (Buffer::HybridSaved, volatile(rng)),
        4 | 5 => (Buffer::Disk, Level::Replicated),
        _ => (Buffer::Disk, Level::Stored),
    }
}

/// A third of the faults in each run: a few that are frequent find more than all at once.
fn faults(seed: u64, kind: Kind) -> Vec<(Fault, u64)> {
    let drawn = Fault::ALL.iter().filter_map(|fault| {
        let mut rng = stream(seed, fault.name());
        let (in_it, rate) = (rng.u8(..3) == 0, rng.u64(1..=8));
        let is_there =
            (kind != Kind::Memory || !fault.is_of_the_machine()) && (kind == Kind::Sources || !fault.is_of_groups());
        let wanted = in_it && is_there;
        wanted.then_some((*fault, fault.mean_time() * 4 / rate))
    });
    drawn.collect()
}
