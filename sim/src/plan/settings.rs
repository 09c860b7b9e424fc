//! The configuration of one process, as it is drawn and as the program has it.

use std::fmt::Write as _;
use std::time::Duration;

use forebay::config::{self, Config, WhenFull};

use super::broker::BrokerPlan;
use super::sinks::{Buffer, Choice, Dead, Level, SinkPlan, buffer_and_level};
use crate::sources::plan::SourcePlan;

/// The disk buffer.
#[derive(Clone, Copy, Debug)]
pub struct SpoolPlan {
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// Number of segments of each shard.
    pub segments_max: u64,
    /// Share of a sink, in hundredths.
    pub share: u64,
    /// The policy of a full buffer.
    pub when_full: WhenFull,
    /// Time between the beginnings of groups that are not yet full, in milliseconds.
    pub sync_interval_ms: u64,
}

/// Settings of delivery to subscribers.
#[derive(Clone, Copy, Debug)]
pub struct Delivery {
    /// `queue_messages_max`
    pub messages_max: u32,
    /// Whether `when_full` is `drop-newest`.
    pub drops_newest: bool,
    /// `share_strategy`
    pub share_strategy: &'static str,
}

/// The configuration of one process.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Number of cores.
    pub shards: usize,
    /// Clusters, by address.
    pub clusters: Vec<String>,
    /// Sinks.
    pub sinks: Vec<SinkPlan>,
    /// Sources.
    pub sources: Vec<SourcePlan>,
    /// `[broker]`: messages of clients go through Kafka, and sessions are kept there.
    pub broker: Option<BrokerPlan>,
    /// The disk buffer.
    pub spool: Option<SpoolPlan>,
    /// Delivery to subscribers, where there are any: some topics have no sink.
    pub delivery: Option<Delivery>,
    /// Bytes of memory of each cluster on each shard.
    pub buffer_bytes: u64,
    /// Bytes of the largest batch.
    pub batch_bytes: u64,
    /// Bytes of the largest record.
    pub record_bytes_max: u64,
    /// `answer_timeout` of the second listener, in milliseconds.
    pub answer_timeout_ms: Option<u64>,
    /// Additional lines for each sink, for scenarios.
    pub more: String,
    /// Lines for each cluster, in place of its lines for the same keys.
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

    /// The configuration as the program has it.
    ///
    /// # Panics
    /// If the configuration is refused: the plan is wrong then.
    #[must_use]
    pub fn config(&self) -> Config {
        let text = self.text();
        let mut config = config::parse(&text, "sim.toml").unwrap_or_else(|problems| panic!("{problems}\n{text}"));
        // The program does this at its start as well.
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
        if let Some(plan) = &self.broker {
            plan.configure(&mut config);
        }
        config
    }

    /// Whether sessions outlive their process.
    #[must_use]
    pub const fn keeps_sessions(&self) -> bool {
        self.spool.is_some() || self.broker.is_some()
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
        match &self.broker {
            Some(broker) => broker.text(&mut text),
            None => self.sources.iter().for_each(|source| source.text(&mut text)),
        }
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

/// Draws a disk buffer.
pub(super) fn spool(rng: &mut fastrand::Rng, large: bool) -> SpoolPlan {
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
