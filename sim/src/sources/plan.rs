//! The plan of a run with sources: the sources, their topics, the records of other programs, and the subscribers.

use std::fmt::Write as _;

use crate::faults::Fault;
use crate::plan::{Delivery, Plan};
use crate::time::{MS, S};

/// Number of devices that records are of: the keys of records are the MQTT topics of their messages.
pub(crate) const DEVICES: usize = 3;

/// A source. Its number is its index.
#[derive(Clone, Debug)]
pub struct SourcePlan {
    /// Name of the source and of its group.
    pub name: &'static str,
    /// Index of the source's cluster.
    pub cluster: usize,
    /// Kafka topics.
    pub topics: Vec<String>,
    /// Whether `no_subscriber` is `wait`.
    pub waits: bool,
    /// `start_grace` in milliseconds.
    pub start_grace_ms: u64,
    /// `commit_interval` in milliseconds.
    pub commit_interval_ms: u64,
    /// `window_messages`
    pub window_messages: u64,
    /// `release_after` in seconds.
    pub release_after_s: Option<u64>,
    /// Whether the source has a `group_instance`.
    pub is_static: bool,
}

impl SourcePlan {
    /// The source's group.
    #[must_use]
    pub fn group(&self) -> String {
        format!("forebay-{}", self.name)
    }

    /// Adds the source's table to the configuration.
    pub(crate) fn text(&self, text: &mut String) {
        let Self { name, cluster, start_grace_ms, commit_interval_ms, window_messages, .. } = self;
        let topics: Vec<String> = self.topics.iter().map(|topic| format!("\"{topic}\"")).collect();
        let _ = writeln!(
            text,
            "[[source]]\nname = \"{name}\"\nkafka = \"c{cluster}\"\ntopic = [{}]\nmqtt_topic = \"${{key}}\"\npayload = \"${{value}}\"\n\
             qos = \"${{headers.mqtt-qos}}\"\nproperties = false\noffset_reset = \"earliest\"\nno_subscriber = \"{}\"\n\
             start_grace = \"{start_grace_ms}ms\"\ncommit_interval = \"{commit_interval_ms}ms\"\nwindow_messages = {window_messages}",
            topics.join(", "),
            if self.waits { "wait" } else { "drop" },
        );
        if let Some(seconds) = self.release_after_s {
            let _ = writeln!(text, "release_after = \"{seconds}s\"");
        }
        if self.is_static {
            *text += "group_instance = \"one\"\n";
        }
    }
}

/// The additional plan of a run with sources.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// Number of partitions of each topic.
    pub partitions: usize,
    /// Number of records that are written in all.
    pub records: usize,
    /// Mean time between two batches, in nanoseconds.
    pub pace: u64,
    /// Whether brokers offer fetch sessions.
    pub with_sessions: bool,
    /// Whether some records are bad records.
    pub has_bad: bool,
    /// Whether the first subscriber has a kept session, and keeps its filters and its session.
    pub has_steady: bool,
    /// Whether the last subscriber acknowledges next to nothing and, once faults have ended, nothing until all others have their
    /// messages.
    pub has_slow: bool,
}

/// The faults that these runs leave out: faults of devices and of sinks, and recreated topics.
const LEFT_OUT: [Fault; 7] = [
    Fault::CutDevice,
    Fault::TakeOver,
    Fault::Recreate,
    Fault::ForbidWriting,
    Fault::Timeless,
    Fault::SmallBatches,
    Fault::ForgetProducers,
];

impl Plan {
    /// Replaces devices and sinks by sources.
    pub(crate) fn with_sources(mut self, rng: &mut fastrand::Rng) -> Self {
        self.faults.retain(|(fault, _)| !LEFT_OUT.contains(fault));
        (self.devices, self.messages, self.retains) = (0, 0, false);
        self.settings.sinks.clear();
        self.settings.answer_timeout_ms = None;
        self.settings.shards = self.settings.shards.max([1, 2, 3][rng.usize(..3)]);
        self.mail = [0, 0, MS, 20 * MS][rng.usize(..4)];
        self.storm = rng.u64(6..40) * S;
        self.pace = rng.u64(5..60) * MS;
        self.subscribers = rng.usize(1..6);
        let is_small = rng.u8(..12) == 0;
        let messages_max = if is_small { rng.u32(3..40) } else { 10_000 };
        self.settings.delivery =
            Some(Delivery { messages_max, drops_newest: rng.bool(), share_strategy: "round-robin" });
        if let Some(spool) = &mut self.settings.spool {
            spool.segments_max = spool.segments_max.max(32);
        }
        let ends = [Fault::Kill, Fault::PowerCut];
        if rng.bool() && !self.faults.iter().any(|(fault, _)| ends.contains(fault)) {
            let fault = ends[rng.usize(..2)];
            self.faults.push((fault, fault.mean_time() * 4 / rng.u64(1..=4)));
        }
        let clusters = self.settings.clusters.len();
        let count = if rng.u8(..3) == 0 { 2 } else { 1 };
        self.settings.sources = (0..count).map(|number| source(rng, number, clusters)).collect();
        let records = rng.usize(20..160);
        self.reading = Some(Reading {
            partitions: rng.usize(1..5),
            records,
            pace: self.storm / records as u64,
            with_sessions: rng.bool(),
            has_bad: rng.bool(),
            has_steady: rng.bool(),
            has_slow: self.subscribers > 1 && rng.u8(..3) == 0,
        });
        self
    }
}

fn source(rng: &mut fastrand::Rng, number: usize, clusters: usize) -> SourcePlan {
    let topics = if rng.u8(..4) == 0 { 2 } else { 1 };
    SourcePlan {
        name: ["one", "two"][number],
        cluster: if number == 1 { clusters - 1 } else { 0 },
        topics: (0..topics).map(|topic| format!("src-{number}-{topic}")).collect(),
        waits: rng.bool(),
        start_grace_ms: [0, 300, 3_000, 30_000][rng.usize(..4)],
        commit_interval_ms: [100, 300, 1_000, 5_000][rng.usize(..4)],
        window_messages: [1, 2, 5, 20, 10_000][rng.usize(..5)],
        release_after_s: (rng.u8(..8) == 0).then(|| rng.u64(1..20)),
        is_static: rng.u8(..3) > 0,
    }
}
