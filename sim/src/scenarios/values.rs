//! Settings of clusters and sinks with two values each: Kafka must see a difference.

use kafka_protocol::messages::ApiKey;

use super::{Script, settings};
use crate::plan::Settings;

/// A view of what Kafka sees.
type Look = fn(&mut Script) -> String;
/// Configuration lines for the cluster or the sink, with one value and the other.
enum Lines {
    Cluster([&'static str; 2]),
    Sink([&'static str; 2]),
    Set([fn(&mut Settings); 2]),
}

use Lines::{Cluster, Set, Sink};

const ALL: &[(&str, Lines, Look)] = &[
    ("client_id", Cluster(["client_id = \"one\"", "client_id = \"other\""]), |script| {
        script.fill(0, 1, 20);
        script.world.clusters[0].client_id.clone()
    }),
    ("metadata_max_age", Cluster(["metadata_max_age = \"1s\"", "metadata_max_age = \"1m\""]), |script| {
        script.wait(30_000);
        calls(script, ApiKey::Metadata)
    }),
    ("request_timeout", Cluster(["request_timeout = \"2s\"", "request_timeout = \"30s\""]), |script| {
        script.fill(0, 1, 20);
        script.world.clusters[0].says_nothing = true;
        script.publish(0, 1, 20);
        script.wait(60_000);
        calls(script, ApiKey::Produce)
    }),
    ("connect_timeout", Cluster(["connect_timeout = \"100ms\"", "connect_timeout = \"20s\""]), |script| {
        script.world.clusters[0].brokers.iter_mut().for_each(|broker| broker.frozen = true);
        script.cut();
        script.wait(30_000);
        script.world.clusters[0].dialled.to_string()
    }),
    (
        "reconnect_backoff_min",
        Cluster(["reconnect_backoff_min = \"1ms\"", "reconnect_backoff_min = \"1s\""]),
        |script| dials_while_away(script, 500),
    ),
    (
        "reconnect_backoff_max",
        Cluster(["reconnect_backoff_max = \"100ms\"", "reconnect_backoff_max = \"10s\""]),
        |script| dials_while_away(script, 30_000),
    ),
    ("batch_bytes", Set([|settings| settings.batch_bytes = 2048, |settings| settings.batch_bytes = 8192]), |script| {
        backlog(script);
        let rows = script.world.clusters[0].entries.iter().map(|entry| entry.count);
        rows.max().unwrap_or(0).to_string()
    }),
    (
        "linger",
        Set([|settings| settings.sinks[0].linger_ms = 0, |settings| settings.sinks[0].linger_ms = 200]),
        |script| {
            script.fill(0, 1, 20);
            script.fill(0, 40, 20);
            script.world.clusters[0].entries.len().to_string()
        },
    ),
    (
        "max_inflight",
        Set([|settings| settings.sinks[0].max_inflight = 1, |settings| settings.sinks[0].max_inflight = 3]),
        |script| {
            script.fill(0, 1, 20);
            script.world.clusters[0].brokers.iter_mut().for_each(|broker| broker.frozen = true);
            for _ in 0..20 {
                script.publish(0, 1, 20);
                script.wait(20);
            }
            let waiting = script.world.links.values().map(|link| link.requests()).sum::<usize>();
            waiting.to_string()
        },
    ),
    (
        "compression",
        Set([|settings| settings.sinks[0].compression = "none", |settings| settings.sinks[0].compression = "lz4"]),
        bytes_of_backlog,
    ),
    ("compression_level", Sink(["compression_level = 1", "compression_level = 19"]), bytes_of_backlog),
];

/// The settings, each with the view that Kafka has of one value and the other.
#[must_use]
pub fn seen() -> Vec<(&'static str, [String; 2])> {
    ALL.iter().map(|(name, lines, look)| (*name, [0, 1].map(|value| seen_with(lines, value, *look)))).collect()
}

fn seen_with(lines: &Lines, value: usize, look: Look) -> String {
    let mut settings = settings();
    match lines {
        Cluster(lines) => settings.more_of_clusters = format!("{}\n", lines[value]),
        Sink(lines) => {
            settings.sinks[0].compression = "zstd";
            settings.more = format!("{}\n", lines[value]);
        }
        Set(set) => set[value](&mut settings),
    }
    let mut script = Script::new(settings, 2, false);
    script.world.clusters[0].replicas = 2;
    script.world.judge.live = false;
    script.connect(0);
    let seen = look(&mut script);
    assert!(script.world.judge.is_well(), "{:?}", script.world.judge.failure());
    seen
}

fn calls(script: &Script, key: ApiKey) -> String {
    script.world.clusters[0].calls.get(&(key as i16)).copied().unwrap_or(0).to_string()
}

/// Buffers rows while Kafka is unreachable, and then sends them.
fn backlog(script: &mut Script) {
    script.fill(0, 1, 20);
    script.away(true);
    script.fill(0, 200, 400);
    script.away(false);
    script.wait(10_000);
}

fn bytes_of_backlog(script: &mut Script) -> String {
    backlog(script);
    script.world.clusters[0].entries.iter().map(|entry| entry.bytes.len()).sum::<usize>().to_string()
}

/// Counts the attempted connections within `ms` milliseconds while none can be made.
fn dials_while_away(script: &mut Script, ms: u64) -> String {
    script.fill(0, 1, 20);
    let before = script.world.clusters[0].dialled;
    script.away(true);
    script.publish(0, 1, 20);
    script.wait(ms);
    (script.world.clusters[0].dialled - before).to_string()
}

impl Script {
    /// Cuts all connections to brokers.
    fn cut(&mut self) {
        (1..=self.world.clusters[0].brokers.len() as i32).for_each(|node| self.world.cut_broker(0, node));
    }
}
