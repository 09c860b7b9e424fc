//! The Kafka clusters, and whether the embedded log runs.

use std::cell::RefCell;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::keys::Section;
use super::problem::Fault;
use super::reader::{Source, Spot, Table, defaults};
use super::resolve::Document;
use super::resolved::Cluster;
use super::setting::{Setting as _, Settings as _};
use super::{EMBEDDED, Overrides, other_properties, outgoing_tls, sasl, values};

/// The default of `buffer_bytes`: this, or [`BUFFER_BYTES_SHARD`] for each shard, whichever is more.
const BUFFER_BYTES_DEFAULT: u64 = 256 << 20;
const BUFFER_BYTES_SHARD: u64 = 4 << 20;

/// A cluster that sinks may name, with the bounds for them.
pub(super) struct Target {
    pub(super) name: String,
    /// A shard's part of the cluster's buffer, in bytes.
    pub(super) share: u64,
    /// The place where the buffer is set.
    pub(super) spot: Spot,
    /// The largest batch that the cluster takes, where that is known.
    pub(super) message_bytes_max: Option<u64>,
    /// The most bytes that one of the cluster's sinks needs, and that sink's name; noted while sinks are read.
    pub(super) need: RefCell<(u64, String)>,
}

/// The embedded log as a cluster: its address, the memory for its rows, and the position of that key.
pub(super) struct EmbeddedCluster {
    pub(super) bind: SocketAddr,
    pub(super) buffer_bytes: Option<u64>,
    pub(super) topics_max: usize,
    pub(super) message_bytes_max: u64,
    pub(super) spot: Spot,
}

/// Whether the embedded log runs: if it is requested, or if no other Kafka is configured.
pub(super) fn embedded_runs(document: &Document<'_>, overrides: &Overrides) -> bool {
    let elsewhere = document.has(Section::Kafka) || overrides.kafka.is_some();
    !elsewhere || document.has(Section::Embedded) || overrides.embedded.is_some()
}

/// Reads the clusters, each with its bounds for sinks; the embedded log is the last.
pub(super) fn resolve(
    document: &Document<'_>,
    overrides: &Overrides,
    shards: usize,
    embedded: Option<EmbeddedCluster>,
) -> (Vec<Cluster>, Vec<Target>) {
    let mut clusters = Vec::new();
    let tables = document.named_tables(Section::Kafka, cluster_name);
    document.bound(Section::Kafka, &tables);
    for table in &tables {
        clusters.push((cluster(table, overrides, shards), table.spot("buffer_bytes")));
    }
    if let Some(brokers) = &overrides.kafka {
        override_brokers(document.source, brokers, &mut clusters, shards);
    }
    let message_bytes_max = embedded.as_ref().map(|embedded| embedded.message_bytes_max);
    if let Some(EmbeddedCluster { bind, buffer_bytes, topics_max, spot, .. }) = embedded {
        let defaults = cluster_defaults(EMBEDDED, vec![reachable(bind).to_string()], shards);
        let buffer_bytes = buffer_bytes.unwrap_or(defaults.buffer_bytes);
        clusters.push((Cluster { buffer_bytes, topics_max, ..defaults }, spot));
    }
    let target = |(cluster, spot): &(Cluster, Spot)| Target {
        name: cluster.name.clone(),
        share: cluster.buffer_bytes / shards as u64,
        spot: spot.clone(),
        message_bytes_max: message_bytes_max.filter(|_| cluster.name == EMBEDDED),
        need: RefCell::default(),
    };
    let targets = clusters.iter().map(target).collect();
    (clusters.into_iter().map(|(cluster, _)| cluster).collect(), targets)
}

/// The address at which this process reaches a listener on `bind`.
#[must_use]
pub fn reachable(mut bind: SocketAddr) -> SocketAddr {
    if bind.ip().is_unspecified() {
        bind.set_ip(if bind.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    bind
}

fn buffer_bytes_default(shards: usize) -> u64 {
    BUFFER_BYTES_DEFAULT.max(BUFFER_BYTES_SHARD * shards as u64)
}

fn cluster_name(name: &str) -> Result<(), Fault> {
    if name == EMBEDDED {
        return Err(Fault::new("this name is reserved for the embedded log")
            .hint("choose another name; [embedded] configures the embedded log"));
    }
    values::check_name(name)
}

fn cluster(table: &Table<'_>, overrides: &Overrides, shards: usize) -> Cluster {
    let mut bootstrap = Vec::new();
    if overrides.kafka.is_none() || table.has("bootstrap") {
        for (text, spot) in table.texts("bootstrap") {
            bootstrap.extend(brokers(&text, |fault| table.source.report(&spot, fault)));
        }
    }
    let mut cluster = Cluster::read(table);
    let times = &cluster.times;
    for (least, most, is_wrong) in [
        ("reconnect_backoff_min", "reconnect_backoff_max", times.reconnect_backoff_min > times.reconnect_backoff_max),
        ("metadata_min_age", "metadata_max_age", times.metadata_min_age > times.metadata_max_age),
    ] {
        if is_wrong {
            let fault = Fault::new(format!("{least} is longer than {most}")).hint("make max at least min");
            table.source.report(&table.spot(if table.has(least) { least } else { most }), fault);
        }
    }
    cluster.name = table.spot.path.strip_prefix("kafka.").unwrap_or_default().to_owned();
    cluster.description = table.find("description", values::text);
    cluster.bootstrap = bootstrap;
    cluster.sockets.keep_alive = table.read("tcp_keepalive", values::keep_alive);
    cluster.other_properties = other_properties::read(table);
    cluster.tls = outgoing_tls::resolve(table, Section::KafkaTls);
    cluster.sasl = sasl::resolve(table);
    cluster.buffer_bytes = table.find("buffer_bytes", u64::of).unwrap_or_else(|| buffer_bytes_default(shards));
    cluster
}

/// A cluster with nothing but its brokers configured.
fn cluster_defaults(name: &str, bootstrap: Vec<String>, shards: usize) -> Cluster {
    let overrides = Overrides { kafka: Some(String::new()), ..Overrides::default() };
    let defaults = defaults(Section::Kafka, &format!("kafka.{name}"), |table| cluster(table, &overrides, shards));
    Cluster { bootstrap, ..defaults }
}

/// The brokers in a text, separated by commas; each invalid part is passed to `report`. A part may be empty, as in a
/// `bootstrap.servers` of Java's.
fn brokers(text: &str, mut report: impl FnMut(Fault)) -> Vec<String> {
    let is_blank = text.split(',').all(|broker| broker.trim().is_empty());
    text.split(',')
        .filter(|broker| is_blank || !broker.trim().is_empty())
        .filter_map(|broker| values::broker(broker).map_err(&mut report).ok())
        .collect()
}

/// Applies `--kafka`: the brokers of the only cluster, or a cluster where there is none.
fn override_brokers(source: &Source<'_>, text: &str, clusters: &mut Vec<(Cluster, Spot)>, shards: usize) {
    let bootstrap = brokers(text, |fault| source.report_option("--kafka", fault));
    match clusters.as_mut_slice() {
        [] => {
            let spot = Spot::nowhere("kafka.main");
            clusters.push((cluster_defaults("main", bootstrap, shards), spot));
        }
        [(only, _)] => only.bootstrap = bootstrap,
        several => {
            let names: Vec<_> = several.iter().map(|(cluster, _)| cluster.name.as_str()).collect();
            let fault = Fault::new(format!("the file has several clusters: {}", names.join(", ")));
            source.report_option("--kafka", fault.hint("set bootstrap in the file"));
        }
    }
}
