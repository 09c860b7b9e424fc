//! What a buffer is given.

use crate::kafka::producer::{AnsweredOn, Keep};
use crate::kafka::types::SinkId;
use crate::spool;

/// A sink as the buffer knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkTerms {
    /// Its name in the configuration, by which the log knows it.
    pub name: Box<str>,
    /// Where its rows are kept.
    pub keep: Keep,
    /// When its publishers are answered.
    pub answered_on: AnsweredOn,
}

impl SinkTerms {
    /// Of a sink that writes a dead-letter topic. The configuration has no sink without a name.
    pub(super) fn of_dead_letters() -> Self {
        Self { name: "".into(), keep: Keep::Memory, answered_on: AnsweredOn::Replicated }
    }
}

/// See the fields.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The log.
    pub log: spool::Settings,
    /// The sinks of each cluster, by [`crate::kafka::types::SinkId`]. Those that write dead-letter topics come last
    /// and are left out: dead letters stay in memory, and the rows they stand for in the log.
    pub clusters: Vec<Vec<SinkTerms>>,
}

impl Settings {
    /// Cluster and number of the sink of that name.
    pub(super) fn find(&self, name: &str) -> Option<(usize, SinkId)> {
        self.clusters.iter().enumerate().find_map(|(cluster, sinks)| {
            let place = sinks.iter().position(|sink| *sink.name == *name)?;
            Some((cluster, SinkId(u16::try_from(place).ok()?)))
        })
    }
}
