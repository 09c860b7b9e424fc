//! The plan of a run with `[broker]`: its topics, the size of the logs of sessions, its publishers and subscribers.

use std::fmt::Write as _;

use forebay::config::{Compression, Config};

use super::instances::InstancePlan;
use super::{Delivery, Plan};
use crate::faults::Fault;
use crate::sources::plan::{Reading, SourcePlan};
use crate::time::{MS, S};

/// The instance's name.
pub const INSTANCE: &str = "sim";
/// The topic of messages without a route.
pub const MESSAGES: &str = "messages";
/// The topic of a route.
pub const ODD: &str = "odd";
/// The topic of retained messages.
pub const RETAINED: &str = "retained";
/// The topic of logs of sessions.
pub const SESSIONS: &str = "sessions";

/// Settings of `[broker]`.
#[derive(Clone, Copy, Debug)]
pub struct BrokerPlan {
    /// Whether there is a route for topics with the last level `odd`.
    pub has_route: bool,
    /// Bytes of a segment of a log of sessions.
    pub segment_bytes: u64,
    /// Number of slots, each with a log of sessions.
    pub slots: u16,
    /// Number of segments of a log of sessions.
    pub segments: u64,
    /// Bound on the error of brokers' clocks, in nanoseconds.
    pub clocks: u64,
    /// The instance, if there are several.
    pub instance: Option<InstancePlan>,
}

impl BrokerPlan {
    /// Whether no entry of a log takes a message for sessions with a payload of this size: an eighth of a segment, less the room of other records.
    pub(crate) const fn is_too_large(&self, payload: usize) -> bool {
        payload as u64 + (4 << 10) + 512 > self.segment_bytes / 8
    }

    /// Adds the tables of `[broker]` to the configuration.
    pub(super) fn text(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "[broker]\nname = \"{}\"\nkafka = \"c0\"\nmessages = \"{MESSAGES}\"\nretained = \"{RETAINED}\"\nsessions = \"{SESSIONS}\"",
            self.name()
        );
        if let Some(InstancePlan { index, redirects, session_timeout_s }) = self.instance {
            if redirects {
                let _ = writeln!(text, "server = \"{}\"", crate::instances::server(index));
            }
            let link = crate::instances::address(index);
            let _ = writeln!(text, "session_timeout = \"{session_timeout_s}s\"\n[broker.link]\nbind = \"{link}\"");
        }
        if self.has_route {
            let _ = writeln!(text, "[[broker.route]]\nfilters = [\"+/odd\"]\ntopic = \"{ODD}\"");
        }
    }

    /// Sets values that a configuration file cannot have: sizes of a small run.
    pub(super) fn configure(&self, config: &mut Config) {
        if let Some(broker) = &mut config.broker {
            broker.segment_bytes = self.segment_bytes;
            broker.sessions_bytes_max = self.segment_bytes * self.segments * u64::from(self.slots);
            broker.test_slots = self.slots;
        }
        // The model's cleaner reads no compressed batches.
        config.sinks.iter_mut().for_each(|sink| sink.compression = Compression::None);
    }

    /// The source of `[broker]`, for the judge of sources: its group is that of the instance.
    fn source(&self) -> SourcePlan {
        let odd = self.has_route.then(|| ODD.to_owned());
        SourcePlan {
            name: "broker-sim@sessions",
            cluster: 0,
            topics: odd.into_iter().chain([MESSAGES.to_owned()]).collect(),
            waits: false,
            start_grace_ms: 0,
            commit_interval_ms: 1_000,
            window_messages: 1_000_000,
            release_after_s: None,
            is_static: true,
        }
    }
}

/// The faults that these runs leave out: faults of sinks and of a disk, and topics that grow or are recreated, as another number of partitions means
/// another order.
const LEFT_OUT: [Fault; 12] = [
    Fault::Grow,
    Fault::Recreate,
    Fault::ForbidWriting,
    Fault::Timeless,
    Fault::SmallBatches,
    Fault::ForgetProducers,
    Fault::Rebalance,
    Fault::SyncsFail,
    Fault::CreatesFail,
    Fault::DiskHangs,
    Fault::DiskFull,
    Fault::SlowDisk,
];

impl Plan {
    /// Replaces sinks and sources by `[broker]`.
    pub(super) fn with_broker(mut self, rng: &mut fastrand::Rng) -> Self {
        self.faults.retain(|(fault, _)| !LEFT_OUT.contains(fault));
        self.settings.sinks.clear();
        self.settings.clusters.truncate(1);
        self.settings.answer_timeout_ms = None;
        self.poison = false;
        self.modern = true;
        self.settings.shards = [1, 1, 2, 3][rng.usize(..4)];
        self.mail = [0, 0, MS, 20 * MS][rng.usize(..4)];
        self.storm = rng.u64(6..30) * S;
        self.pace = rng.u64(5..80) * MS;
        self.devices = rng.usize(1..5);
        self.subscribers = rng.usize(1..5);
        self.min_in_sync = self.min_in_sync.min(self.brokers);
        self.settings.buffer_bytes = self.settings.buffer_bytes.max(64 << 10);
        let is_small = rng.u8(..12) == 0;
        let messages_max = if is_small { rng.u32(3..40) } else { 10_000 };
        self.settings.delivery =
            Some(Delivery { messages_max, drops_newest: rng.bool(), share_strategy: "round-robin" });
        // The process ends in most runs; in half of these its machine is lost with it.
        let ends = [Fault::Kill, Fault::PowerCut, Fault::LoseMachine, Fault::LoseMachine];
        if rng.u8(..4) > 0 && !self.faults.iter().any(|(fault, _)| ends.contains(fault)) {
            let fault = ends[rng.usize(..4)];
            self.faults.push((fault, fault.mean_time() * 4 / rng.u64(1..=4)));
        }
        let mut broker = BrokerPlan {
            has_route: rng.bool(),
            segment_bytes: [64 << 10, 64 << 10, 128 << 10, 1 << 20][rng.usize(..4)],
            segments: rng.u64(32..64),
            clocks: [0, 60 * S, 5_400 * S][rng.usize(..3)],
            slots: 0,
            instance: None,
        };
        self.settings.sources = vec![broker.source()];
        let records = if rng.bool() { 0 } else { rng.usize(5..60) };
        self.reading = Some(Reading {
            partitions: rng.usize(1..4),
            records,
            pace: self.storm / records.max(1) as u64,
            with_sessions: rng.bool(),
            has_bad: rng.bool(),
            has_steady: rng.bool(),
            has_slow: false,
        });
        // Drawn last, so that other values of a seed stay as they were.
        broker.slots = [3, 4, 8, 16][rng.usize(..4)];
        self.retains = rng.bool();
        self.settings.broker = Some(broker);
        self
    }
}
