//! The configuration as the program uses it: plain data with every default filled in, checked as a whole. Its users need no further
//! checks.

mod bridge;
mod broker;
mod delivery;
mod kafka;
mod listener;
mod rule;
mod service;
mod sink;
mod source;

use std::path::PathBuf;

pub use super::keys::{
    Bridge, Broker, Cluster, Control, Dapr, Delivery, Embedded, Listener, Log, Mqtt, Retained, Rule, Service, Sink,
    Source, Spool,
};
use crate::problem::Problems;
pub use bridge::{BridgeIn, BridgeOut};
pub use broker::{BrokerLink, BrokerRoute, LinkFiles};
pub use delivery::{Append, ShareStrategy, WhenFull, Wide};
use forebay_runtime::seam::ListenerId;
use forebay_service::telemetry;
pub use kafka::{Sasl, Times};
pub use listener::Transport;
pub use rule::{Fed, MessageProperty, OnError, Republish};
pub use service::{ApiAccess, LogFormat, LogLevel};
pub use sink::{
    Acknowledge, Buffer, Compression, DeadLetters, DeadLettersFile, OfBroker, OnRefuse, Partitioner, ValueFormat,
};
pub use source::{Choice, Feed, Isolation, NoSubscriber, OffsetReset, OnBadBatch, OnBadRecord, Topics};

/// Bounds of the file for dead letters of sinks that configure none: 256 MiB in all.
const SHARED_DEAD_LETTERS_BYTES_MAX: u64 = 64 << 20;
const SHARED_DEAD_LETTERS_FILES: u32 = 4;

/// The operator's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The process.
    pub service: Service,
    /// The control plane.
    pub control: Control,
    /// Logging.
    pub log: Log,
    /// Export of metrics and traces; `None`: nothing is exported.
    pub telemetry: Option<telemetry::Settings>,
    /// Limits of the protocol.
    pub mqtt: Mqtt,
    /// Listeners; at least one, at most [`super::LISTENERS_MAX`].
    pub listeners: Vec<Listener>,
    /// Auths, each with its name: the clients that may connect, and the topics that they may use.
    pub auth: Vec<forebay_guard::auth::Settings>,
    /// Kafka clusters, in the order of the file; the embedded log, where there is one, is the last.
    pub clusters: Vec<Cluster>,
    /// Sinks, in the order of the file; at most [`super::SINKS_MAX`].
    pub sinks: Vec<Sink>,
    /// Sources, in the order of the file; at most [`super::SOURCES_MAX`].
    pub sources: Vec<Source>,
    /// Rules, in the order of the file; at most [`super::RULES_MAX`].
    pub rules: Vec<Rule>,
    /// Bridges, in the order of the file; at most [`super::BRIDGES_MAX`].
    pub bridges: Vec<Bridge>,
    /// Bindings as Dapr has them; `None`: there are none.
    pub dapr: Option<Dapr>,
    /// Topics of Kafka that messages of clients go through; `None`: messages go to subscribers at once. The sinks and the source of
    /// `[broker]` are in the lists of all sinks and sources.
    pub broker: Option<Broker>,
    /// The embedded log.
    pub embedded: Option<Embedded>,
    /// The disk buffer; `None`: there is none, and all sinks keep their rows in memory.
    pub spool: Option<Spool>,
    /// Messages to subscribers.
    pub delivery: Delivery,
    /// Retained messages.
    pub retained: Retained,
    /// Warnings for people about keys that are legal and probably not meant.
    pub warnings: Problems,
}

impl Config {
    /// Whether messages of a source may become records of Kafka again.
    #[must_use]
    pub fn is_fed_back(&self, source: &Source) -> bool {
        let has_rules = self.rules.iter().any(|rule| rule.enabled && !rule.is_removed);
        let is_message = source.has_mqtt_topic();
        is_message && (source.feeds(Feed::Sinks) || source.feeds(Feed::Rules) && has_rules)
            || self.rules_of(source).next().is_some()
    }

    /// The rules in force that name a source in FROM, with their places.
    pub fn rules_of(&self, source: &Source) -> impl Iterator<Item = (usize, &Rule)> {
        let in_force = |rule: &Rule| rule.enabled && !rule.is_removed;
        self.rules.iter().enumerate().filter(move |(_, rule)| in_force(rule) && rule.names(&source.name))
    }

    /// Whether there is anything that a source could read for.
    #[must_use]
    pub fn has_use_for(&self, source: &Source) -> bool {
        source.has_mqtt_topic() || self.rules_of(source).next().is_some()
    }

    /// A listener, by its place.
    #[must_use]
    pub fn listener(&self, id: ListenerId) -> Option<&Listener> {
        self.listeners.get(usize::from(id.0))
    }

    /// The folder of the disk buffer, if there is one: it contains one for each shard.
    #[must_use]
    pub fn spool_dir(&self) -> PathBuf {
        self.service.data_dir.join("spool")
    }

    /// Whether the topics of `[broker]` are on this cluster.
    #[must_use]
    pub fn is_of_broker(&self, cluster: usize) -> bool {
        self.broker.as_ref().is_some_and(|broker| broker.cluster == cluster)
    }

    /// Whether this process is one of several instances of a broker.
    #[must_use]
    pub fn has_instances(&self) -> bool {
        self.broker.as_ref().is_some_and(|broker| broker.link.is_some())
    }

    /// The log of kept sessions: that of each slot with `[broker]`, which is in Kafka, or the spool.
    #[must_use]
    pub fn kept_log(&self) -> Option<Spool> {
        self.broker.as_ref().map(|broker| broker.session_log(broker.slots().into())).or(self.spool)
    }

    /// The number of such logs of a shard, if it has its part of them.
    #[must_use]
    pub fn kept_logs_of_shard(&self) -> usize {
        self.broker.as_ref().map_or(1, |broker| usize::from(broker.slots()).div_ceil(self.service.shards.max(1)))
    }

    /// The file of [`Config::share_dead_letters_file`].
    #[must_use]
    pub fn shared_dead_letters_file(&self) -> DeadLettersFile {
        let path = self.service.data_dir.join("dead-letters.jsonl");
        DeadLettersFile { path, bytes_max: SHARED_DEAD_LETTERS_BYTES_MAX, files: SHARED_DEAD_LETTERS_FILES }
    }

    /// The dead-letter files of sinks and bridges.
    pub fn dead_letter_files(&self) -> impl Iterator<Item = &DeadLettersFile> {
        let of_sinks = self.sinks.iter().filter_map(|sink| sink.dead_letters.as_ref());
        let of_bridges = self.bridges.iter().filter_map(|bridge| bridge.dead_letters.as_ref());
        of_sinks.chain(of_bridges).filter_map(|dead| dead.file.as_ref())
    }

    /// Gives sinks that configure no dead letters, and have not switched them off, one common file below the data directory:
    /// records that Kafka refuses for good are kept, and MQTT 3.x publishers can be answered. The program does this when it starts;
    /// reading a configuration does not, since the file's thread belongs to the program.
    pub fn share_dead_letters_file(&mut self) {
        let file = self.shared_dead_letters_file();
        for sink in self.sinks.iter_mut().filter(|sink| sink.dead_letters.is_none() && !sink.no_dead_letters) {
            sink.dead_letters = Some(DeadLetters { topic: None, file: Some(file.clone()) });
        }
    }
}
